//! Channels normalised position by position.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Describe, Layer};
use crate::model::graph::Extent;
use crate::model::parameter::{ParameterSpec, Start};
use crate::model::pass::{Pass, Placed};
use crate::ops::{self, LayerNormBackward, LayerNormGradients, Role, ShapeError, View};
use crate::optim::single;

/// Layer norm over the channels of a position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerNorm {
    /// Added to variances.
    #[serde(default = "usual_epsilon", skip_serializing_if = "is_usual")]
    pub eps: f64,
}

fn usual_epsilon() -> f64 {
    1e-5
}

fn is_usual(eps: &f64) -> bool {
    *eps == usual_epsilon()
}

/// A number above zero, called `name` in messages, that single precision holds.
pub(super) fn positive(name: &str, value: f64) -> Result<f64, String> {
    let judged =
        single(value).and_then(|seen| if seen > 0.0 { Ok(()) } else { Err("must be a positive number".into()) });
    judged.map(|()| value).map_err(|problem| format!("{name} = {value:e}: it {problem}"))
}

impl Describe for LayerNorm {
    fn place(&self, inputs: &[Extent]) -> Result<(Arc<dyn Layer>, Extent), String> {
        let epsilon = positive("layernorm with eps", self.eps)?;
        Ok((Arc::new(ByPosition { width: inputs[0].channels, epsilon }), inputs[0]))
    }
}

#[derive(Debug)]
struct ByPosition {
    width: u32,
    epsilon: f64,
}

impl Layer for ByPosition {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let learned = |name, value| ParameterSpec::row(name, self.width, Start::Constant(value));
        vec![learned("weight", 1.0), learned("bias", 0.0)]
    }

    fn forward(&self, pass: &mut Pass<'_>, at: &Placed) -> Result<View, ShapeError> {
        let [gamma, beta] = [0, 1].map(|which| at.parameters[which].value);
        let (x, out) = (pass.input(at), pass.make(at, "normal"));
        let moments = pass.rec.scratch("moments", x.rows(), 2);
        pass.rec.push(ops::LayerNorm { x, gamma, beta, out, moments, epsilon: self.epsilon })?;
        pass.save(moments);
        Ok(out)
    }

    fn backward(&self, pass: &mut Pass<'_>, at: &Placed, error: View) -> Result<Vec<View>, ShapeError> {
        let (x, moments) = (pass.input(at), pass.saved(at)[0]);
        let [scale, shift] = [0, 1].map(|which| at.parameters[which].learned());
        if pass.learns(at) {
            pass.rec.role(Role::WeightGradient);
            let (grad_gamma, grad_beta) = (scale.gradient, shift.gradient);
            let accumulate = pass.rec.has_written(grad_gamma);
            pass.rec.push(LayerNormGradients { error, x, moments, grad_gamma, grad_beta, accumulate })?;
        }
        if !at.passes_error {
            return Ok(Vec::new());
        }
        pass.rec.role(Role::Derivative);
        let out = pass.error(at);
        pass.rec.push(LayerNormBackward { error, x, moments, gamma: scale.value, addend: None, out })?;
        Ok(vec![out])
    }
}
