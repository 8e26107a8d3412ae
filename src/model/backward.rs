//! From the loss back to every parameter.

use std::collections::HashMap;

use super::forward::Trace;
use super::network::{BATCHNORM_EPSILON, DenseLayer, Layer};
use super::spec::Precision;
use crate::feedback::{FeedbackSpec, Squeezed, Statistics, learn, transport};
use crate::ops::{
    ColumnSum, Dropout, Gate, Gemm, Half, NormaliseBackward, NormaliseGradients, OneHot, Recording, Role, Saves,
    ShapeError, Tensor,
};

/// Records the backward pass from `delta`, the loss's derivative by the outputs; returns the error at every dense
/// layer's output, from input to output.
///
/// With `update` the gradients of all parameters are written, those of P and Q after the last error: a transport and
/// the gate that follows it stay neighbours, which is what the plan fuses.
pub(super) fn record(
    rec: &mut Recording,
    layers: &[Layer],
    trace: &Trace,
    delta: Tensor,
    labels: Tensor,
    feedback: &FeedbackSpec,
    precision: Precision,
    update: bool,
) -> Result<Vec<Tensor>, ShapeError> {
    let first = layers.iter().position(|l| matches!(l, Layer::Dense(_) | Layer::BatchNorm { .. })).unwrap_or(0);
    let mut deltas = HashMap::new();
    let mut squeezed = Vec::new();
    let mut error = delta;
    let half = precision.errors(delta.rows());
    for (index, layer) in layers.iter().enumerate().rev() {
        if index < first {
            break;
        }
        rec.layer(format!("layers.{index}"));
        let input = trace.inputs[index];
        match layer {
            Layer::Dense(dense) => {
                deltas.insert(index, error);
                if update {
                    weight_gradients(rec, dense, error, input, half)?;
                }
                if let Some(pathway) = &dense.pathway {
                    let source = deltas[&dense.source];
                    let clamp = feedback.error_clamp;
                    let (sent, left) = transport(rec, pathway, source, dense.weight.value, clamp, half)?;
                    error = sent;
                    squeezed.push((dense, left));
                }
            }
            Layer::BatchNorm { scale, shift, .. } => {
                let Some(moments) = trace.moments[index] else { continue };
                // The sums are also needed where nothing is updated, and then have a place of their own.
                let (grad_gamma, grad_beta) = if update {
                    (scale.gradient, shift.gradient)
                } else {
                    (rec.scratch("grad_gamma", 1, input.cols()), rec.scratch("grad_beta", 1, input.cols()))
                };
                rec.role(Role::Derivative);
                let epsilon = BATCHNORM_EPSILON;
                rec.push(NormaliseGradients { error, x: input, moments, grad_gamma, grad_beta, epsilon })?;
                if index == first {
                    break;
                }
                let out = rec.scratch("delta", input.rows(), input.cols());
                let gamma = scale.value;
                rec.push(NormaliseBackward { error, x: input, moments, gamma, grad_gamma, grad_beta, out, epsilon })?;
                error = out;
            }
            Layer::Activation(f) => {
                rec.role(Role::Derivative);
                let saved = match f.saves() {
                    Saves::Input => input,
                    Saves::Output => trace.output_of(index),
                };
                let out = rec.scratch("delta", input.rows(), input.cols());
                rec.push(Gate { x: error, saved, out, f: *f })?;
                error = out;
            }
            Layer::Dropout { drop, stream } if *drop > 0.0 => {
                rec.role(Role::Derivative);
                let out = rec.scratch("delta", input.rows(), input.cols());
                rec.push(Dropout { x: error, out, drop: *drop, stream: *stream })?;
                error = out;
            }
            Layer::Dropout { .. } => {}
        }
    }
    if update {
        for (dense, left) in squeezed {
            learn_pathway(rec, dense, left, trace, labels, feedback, layers.len() - 1)?;
        }
    }
    let mut ordered: Vec<_> = deltas.into_iter().collect();
    ordered.sort_unstable_by_key(|(index, _)| *index);
    Ok(ordered.into_iter().map(|(_, delta)| delta).collect())
}

fn weight_gradients(
    rec: &mut Recording,
    dense: &DenseLayer,
    delta: Tensor,
    input: Tensor,
    half: Option<Half>,
) -> Result<(), ShapeError> {
    rec.role(Role::WeightGradient);
    rec.push(Gemm { half, ..Gemm::tn(delta, input, dense.weight.gradient) })?;
    rec.push(ColumnSum { x: delta, out: dense.bias.gradient })
}

fn learn_pathway(
    rec: &mut Recording,
    dense: &DenseLayer,
    left: Squeezed,
    trace: &Trace,
    labels: Tensor,
    feedback: &FeedbackSpec,
    output: usize,
) -> Result<(), ShapeError> {
    let Some(pathway) = &dense.pathway else { return Ok(()) };
    rec.layer(dense.name.clone());
    let mut statistics = left.source;
    if dense.source == output && feedback.output_statistics == Statistics::Labels {
        rec.role(Role::Feedback);
        statistics = rec.scratch("one_hot", left.source.rows(), left.source.cols());
        rec.push(OneHot { labels, out: statistics })?;
    }
    learn(rec, pathway, left, statistics, trace.inputs[dense.index], dense.weight)
}
