//! Two chains of layers from one value, and their sum.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Chain, Describe, Input, Layer, LayerSpec};
use crate::model::graph::Extent;
use crate::model::pass::{Pass, Placed};
use crate::ops::{Add, ShapeError, Tensor};

/// What some layers make, plus what others make of the same input; the input itself where there are none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Residual {
    /// The long way.
    pub layers: Vec<LayerSpec>,
    /// The short one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shortcut: Vec<LayerSpec>,
}

impl Describe for Residual {
    fn place(&self, inputs: &[Extent]) -> Result<(Arc<dyn Layer>, Extent), String> {
        if inputs[0] != inputs[1] {
            let text = |e: Extent| format!("{} x {} x {}", e.height, e.width, e.channels);
            let (main, shortcut) = (text(inputs[0]), text(inputs[1]));
            return Err(format!("layers make {main}, shortcut {shortcut}: they must be alike to be added"));
        }
        Ok((Arc::new(Sum), inputs[0]))
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
struct Sum;

impl Layer for Sum {
    fn forward(&self, pass: &mut Pass<'_>, at: &Placed) -> Result<Tensor, ShapeError> {
        let [a, b] = [0, 1].map(|which| pass.values()[at.inputs[which]]);
        let out = pass.make(at, "sum");
        pass.rec.push(Add { a, b, out })?;
        Ok(out)
    }

    fn backward(&self, _pass: &mut Pass<'_>, _at: &Placed, error: Tensor) -> Result<Vec<Tensor>, ShapeError> {
        Ok(vec![error, error])
    }
}
