//! From the loss back to every parameter.

use std::collections::BTreeMap;

use super::forward::{Trace, dropout_stream};
use super::graph::Kind;
use super::network::{BATCHNORM_EPSILON, Layer, LinearLayer, NetworkSpec, Tensors};
use crate::feedback::{Accumulation, Squeezed, Statistics, Way, learn};
use crate::ops::{
    Add, AveragePoolBackward, ColumnSum, Dropout, Gate, Gemm, Half, MaxPoolBackward, NormaliseBackward,
    NormaliseGradients, OneHot, Recording, Role, Saves, ShapeError, Tensor, TransposeBlocks,
};

/// What a backward pass is of.
pub(super) struct Part<'a> {
    /// Which accumulation step of the training step.
    pub(super) index: u32,
    /// If gradients of parameters are written: what the Oja rule needs of the accumulation steps so far, by layer.
    pub(super) update: Option<&'a mut BTreeMap<usize, Tensor>>,
}

/// What a backward pass leaves.
pub(super) struct Errors {
    /// At the output of every layer with a weight, from input to output.
    pub(super) deltas: Vec<Tensor>,
    /// At the network's input; none where nothing passes an error there.
    pub(super) input: Option<Tensor>,
}

/// Records the backward pass from `delta`, the derivative by the last layer's output.
///
/// If asked for, the gradients of all parameters are written, those of P and Q after the last error: a transport and
/// the gate that follows it stay neighbours, which is what the plan fuses.
pub(super) fn record(
    rec: &mut Recording,
    layers: &[Layer],
    trace: &Trace,
    (delta, labels): (Tensor, Tensor),
    spec: &NetworkSpec,
    Part { index: part, update: so_far }: Part<'_>,
) -> Result<Errors, ShapeError> {
    let (feedback, update) = (&spec.feedback, so_far.is_some());
    let half = spec.precision.errors(spec.batch);
    // What has arrived at every value so far; values before the first that learns get nothing.
    let mut errors: Vec<Option<Tensor>> = vec![None; trace.values.len()];
    errors[layers.len()] = Some(delta);
    let mut deltas = BTreeMap::new();
    let mut squeezed = Vec::new();
    for (index, layer) in layers.iter().enumerate().rev() {
        let Some(error) = errors[index + 1] else { continue };
        rec.layer(layer.name.clone());
        let input = trace.values[layer.inputs[0]];
        let passes = layer.passes_error;
        if !passes && matches!(layer.tensors, Tensors::None) {
            continue;
        }
        let sent = match (&layer.kind, &layer.tensors) {
            (_, Tensors::Linear(linear)) => {
                deltas.insert(index, error);
                if update {
                    weight_gradients(rec, linear, error, input, half)?;
                    if !is_normalised(layers, index + 1) {
                        rec.push(ColumnSum { x: error, out: linear.bias.gradient })?;
                    }
                }
                match &linear.pathway {
                    Some(pathway) => {
                        let way = Way { pathway, weight: linear.weight, window: linear.window };
                        let (sent, left) = way.transport(rec, deltas[&linear.source], feedback.error_clamp, half)?;
                        squeezed.push((linear, left));
                        Some(sent)
                    }
                    None => None,
                }
            }
            (_, Tensors::BatchNorm { scale, shift, running }) => {
                let of_batch = trace.left[index];
                let moments = of_batch.unwrap_or(*running);
                // The sums are also needed where nothing is updated, and then have a place of their own. Running statistics do
                // not depend on the batch: what is subtracted for it are gradients that stay the zeros that they start as.
                let (grad_gamma, grad_beta) = if update || of_batch.is_none() {
                    (scale.gradient, shift.gradient)
                } else {
                    (rec.scratch("grad_gamma", 1, input.cols()), rec.scratch("grad_beta", 1, input.cols()))
                };
                rec.role(Role::Derivative);
                let epsilon = BATCHNORM_EPSILON;
                if of_batch.is_some() {
                    rec.push(NormaliseGradients { error, x: input, moments, grad_gamma, grad_beta, epsilon })?;
                }
                if passes {
                    let out = rec.scratch("delta", input.rows(), input.cols());
                    let gamma = scale.value;
                    rec.push(NormaliseBackward {
                        error,
                        x: input,
                        moments,
                        gamma,
                        grad_gamma,
                        grad_beta,
                        out,
                        epsilon,
                    })?;
                    Some(out)
                } else {
                    None
                }
            }
            (Kind::Add, _) => {
                arrive(rec, &mut errors[layer.inputs[1]], error)?;
                Some(error)
            }
            (kind, _) => Some(derivative(rec, kind, index, error, trace, layers, part)?),
        };
        if let Some(sent) = sent.filter(|_| passes) {
            arrive(rec, &mut errors[layer.inputs[0]], sent)?;
        }
    }
    if let Some(so_far) = so_far {
        let is_last = part + 1 == spec.accumulate;
        for (linear, left) in squeezed {
            let input = trace.values[layers[linear.index].inputs[0]];
            let labels = (labels, linear.source == layers.len() - 1);
            let rows = is_last.then(|| left.source.rows() * spec.accumulate);
            let accumulation = Accumulation { statistics: so_far.remove(&linear.index), rows };
            let sums = learn_pathway(rec, linear, left, input, labels, spec, accumulation)?;
            so_far.extend(sums.map(|sums| (linear.index, sums)));
        }
    }
    Ok(Errors { deltas: deltas.into_values().collect(), input: errors[0] })
}

/// Whether only batch norms read a value. They take its mean away, so that no bias before them changes anything: its
/// gradient is zero, and stays the zero that it starts as. Summed up it would be rounding, of which Adam makes full steps.
fn is_normalised(layers: &[Layer], value: usize) -> bool {
    let mut readers = layers.iter().filter(|layer| layer.inputs.contains(&value)).peekable();
    readers.peek().is_some() && readers.all(|layer| matches!(layer.kind, Kind::BatchNorm))
}

/// Errors that reach a value by several ways add up.
fn arrive(rec: &mut Recording, at: &mut Option<Tensor>, error: Tensor) -> Result<(), ShapeError> {
    let Some(other) = *at else {
        *at = Some(error);
        return Ok(());
    };
    rec.role(Role::Derivative);
    let out = rec.scratch("delta", error.rows(), error.cols());
    rec.push(Add { a: other, b: error, out })?;
    *at = Some(out);
    Ok(())
}

/// The exact derivative of a layer without parameters.
fn derivative(
    rec: &mut Recording,
    kind: &Kind,
    index: usize,
    error: Tensor,
    trace: &Trace,
    layers: &[Layer],
    part: u32,
) -> Result<Tensor, ShapeError> {
    rec.role(Role::Derivative);
    let input = trace.values[layers[index].inputs[0]];
    let mut delta = || rec.scratch("delta", input.rows(), input.cols());
    match kind {
        Kind::Activation(f) => {
            let saved = match f.saves() {
                Saves::Input => input,
                Saves::Output => trace.values[index + 1],
            };
            let out = delta();
            rec.push(Gate { x: error, saved, out, f: *f })?;
            Ok(out)
        }
        Kind::Dropout(drop) if *drop > 0.0 => {
            let out = delta();
            rec.push(Dropout { x: error, out, drop: *drop, stream: dropout_stream(layers, index, part) })?;
            Ok(out)
        }
        Kind::MaxPool(window) => {
            let out = delta();
            if let Some(winners) = trace.left[index] {
                rec.push(MaxPoolBackward { error, winners, out, window: *window, gate: None })?;
            }
            Ok(out)
        }
        Kind::AveragePool(window) => {
            let out = delta();
            rec.push(AveragePoolBackward { error, out, window: *window, gate: None })?;
            Ok(out)
        }
        Kind::Flatten => {
            let out = delta();
            let (pixels, channels) = (input.rows() / error.rows(), input.cols());
            rec.push(TransposeBlocks { x: error, out, rows: channels, cols: pixels })?;
            Ok(out)
        }
        Kind::Dropout(_) | Kind::Add | Kind::Linear(_) | Kind::BatchNorm => Ok(error),
    }
}

fn weight_gradients(
    rec: &mut Recording,
    linear: &LinearLayer,
    delta: Tensor,
    input: Tensor,
    half: Option<Half>,
) -> Result<(), ShapeError> {
    rec.role(Role::WeightGradient);
    let product = match linear.window {
        Some(window) => Gemm::correlate(delta, input, linear.weight.gradient, window),
        None => Gemm::tn(delta, input, linear.weight.gradient),
    };
    rec.push(Gemm { half, ..product })
}

fn learn_pathway(
    rec: &mut Recording,
    linear: &LinearLayer,
    left: Squeezed,
    input: Tensor,
    (labels, is_output): (Tensor, bool),
    spec: &NetworkSpec,
    accumulation: Accumulation,
) -> Result<Option<Tensor>, ShapeError> {
    let Some(pathway) = &linear.pathway else { return Ok(None) };
    rec.layer(linear.name.clone());
    let mut statistics = left.source;
    if is_output && spec.feedback.output_statistics == Statistics::Labels {
        rec.role(Role::Feedback);
        statistics = rec.scratch("one_hot", left.source.rows(), left.source.cols());
        rec.push(OneHot { labels, out: statistics })?;
    }
    let way = Way { pathway, weight: linear.weight, window: linear.window };
    learn(rec, &way, left, statistics, input, accumulation)
}
