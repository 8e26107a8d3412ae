//! From inputs to outputs.

use super::graph::Kind;
use super::network::{BATCHNORM_EPSILON, Layer, Tensors};
use super::spec::Precision;
use crate::ops::{
    Activate, Add, AveragePool, Dropout, Dtype, Epilogue, Gemm, MaxPool, Moments, Normalise, Recording, Role,
    ShapeError, Tensor, TransposeBlocks,
};

/// What the backward pass needs of the forward pass.
pub(super) struct Trace {
    /// The input, then what every layer makes.
    pub(super) values: Vec<Tensor>,
    /// What a layer leaves for its derivative: batch moments, or the winners of a pool.
    pub(super) left: Vec<Option<Tensor>>,
}

impl Trace {
    /// Output of the last layer.
    pub(super) fn output(&self) -> Tensor {
        self.values[self.values.len() - 1]
    }
}

/// Records all layers on x, the input of a batch of so many samples; `training` is which part of a step's batch it is.
pub(super) fn record(
    rec: &mut Recording,
    layers: &[Layer],
    x: Tensor,
    batch: u32,
    precision: Precision,
    training: Option<u32>,
) -> Result<Trace, ShapeError> {
    rec.role(Role::Forward);
    let mut trace = Trace { values: vec![x], left: Vec::new() };
    for (index, layer) in layers.iter().enumerate() {
        rec.layer(layer.name.clone());
        let h = trace.values[layer.inputs[0]];
        let (rows, channels) = (batch * layer.extent.pixels(), layer.extent.channels);
        let mut left = None;
        let value = match (&layer.kind, &layer.tensors) {
            (_, Tensors::Linear(linear)) => {
                let out = rec.scratch("a", rows, channels);
                let product = match linear.window {
                    Some(window) => Gemm::convolve(h, linear.weight.value, out, window),
                    None => Gemm::nt(h, linear.weight.value, out),
                };
                let epilogue = Epilogue { bias: Some(linear.bias.value), ..Epilogue::default() };
                rec.push(Gemm { epilogue, half: precision.values(), ..product })?;
                out
            }
            (_, Tensors::BatchNorm { scale, shift, running }) => {
                let moments = if training.is_some() {
                    let moments = rec.scratch("moments", 2, channels);
                    rec.push(Moments { x: h, out: moments })?;
                    left = Some(moments);
                    moments
                } else {
                    *running
                };
                let out = rec.scratch("normal", rows, channels);
                let (gamma, beta) = (scale.value, shift.value);
                rec.push(Normalise { x: h, moments, gamma, beta, out, epsilon: BATCHNORM_EPSILON, activation: None })?;
                out
            }
            (Kind::Activation(f), _) => {
                let out = rec.scratch("h", rows, channels);
                rec.push(Activate { x: h, out, f: *f })?;
                out
            }
            (Kind::Dropout(drop), _) if training.is_some() && *drop > 0.0 => {
                let out = rec.scratch("kept", rows, channels);
                let stream = dropout_stream(layers, index, training.unwrap_or(0));
                rec.push(Dropout { x: h, out, drop: *drop, stream })?;
                out
            }
            (Kind::MaxPool(window), _) => {
                let out = rec.scratch("largest", rows, channels);
                let winners = rec.scratch_of("winners", rows, channels, Dtype::U32);
                rec.push(MaxPool { x: h, out, winners, window: *window })?;
                left = Some(winners);
                out
            }
            (Kind::AveragePool(window), _) => {
                let out = rec.scratch("mean", rows, channels);
                rec.push(AveragePool { x: h, out, window: *window })?;
                out
            }
            (Kind::Flatten, _) => {
                let out = rec.scratch("flat", rows, channels);
                let (pixels, each) = (h.rows() / batch, h.cols());
                rec.push(TransposeBlocks { x: h, out, rows: pixels, cols: each })?;
                out
            }
            (Kind::Add, _) => {
                let out = rec.scratch("sum", rows, channels);
                rec.push(Add { a: h, b: trace.values[layer.inputs[1]], out })?;
                out
            }
            (Kind::Dropout(_) | Kind::Linear(_) | Kind::BatchNorm, _) => h,
        };
        trace.values.push(value);
        trace.left.push(left);
    }
    Ok(trace)
}

/// Random numbers of a layer's dropout in one part of a batch.
pub(super) fn dropout_stream(layers: &[Layer], index: usize, part: u32) -> u32 {
    part * layers.len() as u32 + index as u32
}
