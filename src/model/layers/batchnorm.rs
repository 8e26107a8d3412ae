//! Columns normalised over the rows of a batch.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Describe, Layer};
use crate::model::graph::Extent;
use crate::model::parameter::{FileSpec, ParameterSpec, Purpose, Start};
use crate::model::pass::{Pass, Placed};
use crate::ops::{Moments, Normalise, NormaliseBackward, NormaliseGradients, ShapeError, View};

/// Added to variances.
const EPSILON: f64 = 1e-5;

/// Weight of a batch in the running statistics.
const MOMENTUM: f64 = 0.1;

/// Batch norm over the rows (samples x pixels), epsilon 1e-5, momentum 0.1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNorm {}

impl Describe for BatchNorm {
    fn place(&self, inputs: &[Extent]) -> Result<(Arc<dyn Layer>, Extent), String> {
        Ok((Arc::new(ByBatch { width: inputs[0].channels }), inputs[0]))
    }
}

#[derive(Debug)]
struct ByBatch {
    width: u32,
}

impl Layer for ByBatch {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let statistic = |name, row, value| {
            let start = Start::Constant(value);
            FileSpec { name, row, shape: vec![self.width], taps: 1, start }
        };
        let running = ParameterSpec {
            name: "running",
            rows: 2,
            cols: self.width,
            purpose: Purpose::Statistic,
            files: vec![statistic("running_mean", 0, 0.0), statistic("running_var", 1, 1.0)],
            passage: None,
        };
        let learned = |name, value| ParameterSpec::row(name, self.width, Start::Constant(value));
        vec![learned("weight", 1.0), learned("bias", 0.0), running]
    }

    fn forward(&self, pass: &mut Pass<'_>, at: &Placed) -> Result<View, ShapeError> {
        let [gamma, beta, running] = [0, 1, 2].map(|which| at.parameters[which].value);
        let x = pass.input(at);
        let moments = if pass.is_training() {
            let moments = pass.rec.scratch("moments", 2, self.width);
            pass.rec.push(Moments { x, out: moments })?;
            pass.save(moments);
            pass.track(moments, running, MOMENTUM, x.rows());
            moments
        } else {
            running
        };
        let out = pass.make(at, "normal");
        pass.rec.push(Normalise { x, moments, gamma, beta, out, epsilon: EPSILON, activation: None })?;
        Ok(out)
    }

    fn backward(&self, pass: &mut Pass<'_>, at: &Placed, error: View) -> Result<Vec<View>, ShapeError> {
        let [scale, shift] = [0, 1].map(|which| at.parameters[which].learned());
        let (x, epsilon) = (pass.input(at), EPSILON);
        let of_batch = pass.saved(at).first().copied();
        let moments = of_batch.unwrap_or(at.parameters[2].value);
        let is_first = pass.learns(at) && !pass.rec.has_written(scale.gradient);
        // The derivative needs the sums over this batch alone. Running statistics do not depend on the batch: what is subtracted
        // for it are gradients that stay the zeros that they start as.
        let (grad_gamma, grad_beta) = if of_batch.is_none() || is_first {
            (scale.gradient, shift.gradient)
        } else {
            (pass.rec.scratch("grad_gamma", 1, self.width), pass.rec.scratch("grad_beta", 1, self.width))
        };
        if of_batch.is_some() {
            let is_later = pass.learns(at) && !is_first;
            let totals = is_later.then_some([scale.gradient, shift.gradient]);
            pass.rec.push(NormaliseGradients { error, x, moments, grad_gamma, grad_beta, totals, epsilon })?;
        }
        let mut passed = Vec::new();
        if at.passes_error {
            let (out, gamma) = (pass.error(at), scale.value);
            pass.rec.push(NormaliseBackward { error, x, moments, gamma, grad_gamma, grad_beta, out, epsilon })?;
            passed.push(out);
        }
        Ok(passed)
    }

    /// The mean over the batch is taken away.
    fn ignores_shift(&self) -> Option<Range<u32>> {
        Some(0..self.width)
    }

    fn least_rows(&self) -> u32 {
        2
    }
}
