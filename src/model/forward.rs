//! From inputs to outputs.

use super::network::{BATCHNORM_EPSILON, Layer};
use super::spec::Precision;
use crate::ops::{Activate, Dropout, Epilogue, Gemm, Moments, Normalise, Recording, Role, ShapeError, Tensor};

/// What the backward pass needs of the forward pass, by layer.
pub(super) struct Trace {
    /// Input of every layer.
    pub(super) inputs: Vec<Tensor>,
    /// Output of the last layer.
    pub(super) output: Tensor,
    /// Batch moments of the batch norm layers.
    pub(super) moments: Vec<Option<Tensor>>,
}

impl Trace {
    /// Output of a layer.
    pub(super) fn output_of(&self, index: usize) -> Tensor {
        self.inputs.get(index + 1).copied().unwrap_or(self.output)
    }
}

/// Records all layers on a batch x.
pub(super) fn record(
    rec: &mut Recording,
    layers: &[Layer],
    x: Tensor,
    precision: Precision,
    training: bool,
) -> Result<Trace, ShapeError> {
    rec.role(Role::Forward);
    let rows = x.rows();
    let mut trace = Trace { inputs: Vec::new(), output: x, moments: Vec::new() };
    for (index, layer) in layers.iter().enumerate() {
        rec.layer(format!("layers.{index}"));
        let h = trace.output;
        trace.inputs.push(h);
        trace.moments.push(None);
        trace.output = match layer {
            Layer::Dense(dense) => {
                let out = rec.scratch("a", rows, dense.weight.value.rows());
                let epilogue = Epilogue { bias: Some(dense.bias.value), ..Epilogue::default() };
                rec.push(Gemm { epilogue, half: precision.values(), ..Gemm::nt(h, dense.weight.value, out) })?;
                out
            }
            Layer::BatchNorm { scale, shift, running } => {
                let moments = if training {
                    let moments = rec.scratch("moments", 2, h.cols());
                    rec.push(Moments { x: h, out: moments })?;
                    trace.moments[index] = Some(moments);
                    moments
                } else {
                    *running
                };
                let out = rec.scratch("normal", rows, h.cols());
                let (gamma, beta) = (scale.value, shift.value);
                rec.push(Normalise { x: h, moments, gamma, beta, out, epsilon: BATCHNORM_EPSILON })?;
                out
            }
            Layer::Activation(f) => {
                let out = rec.scratch("h", rows, h.cols());
                rec.push(Activate { x: h, out, f: *f })?;
                out
            }
            Layer::Dropout { drop, stream } if training && *drop > 0.0 => {
                let out = rec.scratch("kept", rows, h.cols());
                rec.push(Dropout { x: h, out, drop: *drop, stream: *stream })?;
                out
            }
            Layer::Dropout { .. } => h,
        };
    }
    Ok(trace)
}
