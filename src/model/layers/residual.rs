//! Two chains of layers from one value, and their sum.
//!
//! The long way may be scaled by a learned factor for each channel (Touvron et al., "Going deeper with image transformers", 2021)
//! and dropped for whole samples (Huang et al., "Deep networks with stochastic depth", 2016).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::dropout::{is_zero, probability};
use super::layernorm::positive;
use super::{Chain, Describe, Input, Layer, LayerSpec};
use crate::model::graph::Extent;
use crate::model::parameter::{ParameterSpec, Start};
use crate::model::pass::{Pass, Placed};
use crate::ops::{Add, Dropout, Role, ScaleColumns, ScaleGradient, ShapeError, View};

/// What some layers make, plus what others make of the same input; the input itself where there are none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Residual {
    /// The long way.
    pub layers: Vec<LayerSpec>,
    /// The short one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shortcut: Vec<LayerSpec>,
    /// Probability of dropping all that the long way makes of a sample, in training.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub drop_path: f64,
    /// First value of a learned factor for each channel of the long way; none if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_scale: Option<f64>,
}

impl Describe for Residual {
    fn place(&self, inputs: &[Extent]) -> Result<(Arc<dyn Layer>, Extent), String> {
        if inputs[0] != inputs[1] {
            let text = |e: Extent| format!("{} x {} x {}", e.height, e.width, e.channels);
            let (main, shortcut) = (text(inputs[0]), text(inputs[1]));
            return Err(format!("layers make {main}, shortcut {shortcut}: they must be alike to be added"));
        }
        let drop = probability("residual with drop_path", self.drop_path)?;
        let scale = self.layer_scale.map(|scale| positive("residual with layer_scale", scale)).transpose()?;
        Ok((Arc::new(Sum { extent: inputs[0], drop, scale }), inputs[0]))
    }

    fn chains(&self) -> Vec<Chain<'_>> {
        vec![
            Chain { name: "main", key: "layers", layers: &self.layers },
            Chain { name: "shortcut", key: "shortcut", layers: &self.shortcut },
        ]
    }

    fn wants(&self) -> Option<Input> {
        let first = |layers: &[LayerSpec]| layers.iter().find_map(|layer| layer.describe().wants());
        match (first(&self.layers), first(&self.shortcut)) {
            (Some(Input::Pixels), _) | (_, Some(Input::Pixels)) => Some(Input::Pixels),
            (main, shortcut) => main.or(shortcut),
        }
    }
}

#[derive(Debug)]
struct Sum {
    /// Of both ways.
    extent: Extent,
    drop: f64,
    /// First value of the factors.
    scale: Option<f64>,
}

impl Sum {
    /// The long way, or the error on its way back along it: every sample dropped as a whole or divided by what is kept. The
    /// counter-based numbers give the same mask both times.
    fn dropped(&self, pass: &mut Pass<'_>, at: &Placed, x: View) -> Result<View, ShapeError> {
        if self.drop == 0.0 || !pass.is_training() {
            return Ok(x);
        }
        let (out, stream) = (pass.rec.scratch("kept", x.rows(), x.cols()), pass.stream(at));
        let together = self.extent.pixels() * self.extent.channels;
        pass.rec.push(Dropout { x, out, drop: self.drop, stream, together })?;
        Ok(out)
    }

    fn scaled(&self, pass: &mut Pass<'_>, at: &Placed, x: View) -> Result<View, ShapeError> {
        let Some(scale) = at.parameters.first() else { return Ok(x) };
        let out = pass.rec.scratch("scaled", x.rows(), x.cols());
        pass.rec.push(ScaleColumns { x, row: scale.value, out })?;
        Ok(out)
    }
}

impl Layer for Sum {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let row = |scale| ParameterSpec::row("scale", self.extent.channels, Start::Constant(scale));
        self.scale.map(row).into_iter().collect()
    }

    fn forward(&self, pass: &mut Pass<'_>, at: &Placed) -> Result<View, ShapeError> {
        let [main, shortcut] = [0, 1].map(|which| pass.values()[at.inputs[which]]);
        let scaled = self.scaled(pass, at, main)?;
        let kept = self.dropped(pass, at, scaled)?;
        let out = pass.make(at, "sum");
        pass.rec.push(Add { a: kept, b: shortcut, out })?;
        Ok(out)
    }

    fn backward(&self, pass: &mut Pass<'_>, at: &Placed, error: View) -> Result<Vec<View>, ShapeError> {
        let learned = at.parameters.first().filter(|_| pass.learns(at));
        if learned.is_none() && !at.passes_error {
            return Ok(Vec::new());
        }
        let kept = self.dropped(pass, at, error)?;
        if let Some(scale) = learned {
            pass.rec.role(Role::WeightGradient);
            let (x, out) = (pass.input(at), scale.learned().gradient);
            let accumulate = pass.rec.has_written(out);
            pass.rec.push(ScaleGradient { error: kept, x, out, accumulate })?;
        }
        if !at.passes_error {
            return Ok(Vec::new());
        }
        pass.rec.role(Role::Derivative);
        Ok(vec![self.scaled(pass, at, kept)?, error])
    }
}
