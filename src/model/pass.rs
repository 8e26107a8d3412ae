//! A batch on its way through the layers and back, as operations.

use std::collections::BTreeMap;
use std::ops::Range;

use super::graph::Extent;
use super::layers::Layer;
use super::parameter::{Parameter, Weight};
use super::spec::Precision;
use crate::feedback::{BackwardWeight, Observed, Seen};
use crate::ops::{Add, Half, Recording, Role, ShapeError, View};

/// A layer in its place, with its tensors.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    /// `layers.<index>`, `layers.<index>.main.<index>`, ...
    pub(super) name: String,
    /// Position among all layers.
    pub(super) index: usize,
    /// Values that it takes: 0 is the network's input, i + 1 what layer i makes.
    pub(super) inputs: Vec<usize>,
    /// What it makes of a sample.
    pub(super) extent: Extent,
    /// Whether it keeps its first values.
    pub(super) is_frozen: bool,
    /// Whether anything learns below one of its inputs.
    pub(super) passes_error: bool,
    /// Columns of what it makes to which a constant makes no difference: a bias is not learned there.
    pub(super) ignored_shift: Option<Range<u32>>,
    pub(super) parameters: Vec<Parameter>,
    pub(super) layer: std::sync::Arc<dyn Layer>,
}

impl Placed {
    pub(super) fn weights(&self) -> impl Iterator<Item = &Weight> {
        self.parameters.iter().filter_map(|parameter| parameter.weight.as_ref())
    }
}

/// What all passes of a network share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) precision: Precision,
    /// Samples of a training step.
    pub(super) batch: u32,
    /// Bound on every element of an error that is not sent exactly.
    pub(super) error_clamp: Option<f64>,
}

/// What batch norm has seen of a micro-batch, to be followed by its running statistics.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tracked {
    pub(super) moments: View,
    pub(super) running: View,
    pub(super) momentum: f64,
    pub(super) rows: u32,
}

/// An error that a weight with feedback has sent.
struct Sent {
    weight: Weight,
    source: View,
    /// Its projection, if the feedback is factored.
    y: Option<View>,
    /// What the weight was applied to.
    input: View,
}

/// One batch or micro-batch.
pub(super) struct Pass<'a> {
    pub(super) rec: &'a mut Recording,
    pub(super) layers: &'a [Placed],
    pub(super) settings: Settings,
    /// Samples.
    pub(super) samples: u32,
    /// Which micro-batch of a training step; none where nothing is learned from, so that layers behave as in a test.
    pub(super) micro_batch: Option<u32>,
    /// Whether gradients of parameters are written.
    pub(super) learns: bool,
    /// The input, then what every layer makes.
    values: Vec<View>,
    // What each layer keeps for its derivative beside its input and output.
    saved: Vec<Vec<View>>,
    // What has arrived at every value so far; values before the first that learns get nothing.
    errors: Vec<Option<View>>,
    // Of every layer with weights, for each of them the error of what it makes, and what it is applied to.
    deltas: BTreeMap<usize, Vec<[View; 2]>>,
    tracked: Vec<Tracked>,
    sent: Vec<Sent>,
}

impl<'a> Pass<'a> {
    /// A pass of so many samples from `x`, the network's input.
    pub(super) fn new(
        rec: &'a mut Recording,
        layers: &'a [Placed],
        settings: Settings,
        (x, samples): (View, u32),
        micro_batch: Option<u32>,
    ) -> Pass<'a> {
        Pass {
            rec,
            layers,
            settings,
            samples,
            micro_batch,
            learns: false,
            values: vec![x],
            saved: Vec::new(),
            errors: Vec::new(),
            deltas: BTreeMap::new(),
            tracked: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// What a layer takes.
    pub(super) fn input(&self, at: &Placed) -> View {
        self.values[at.inputs[0]]
    }

    /// What a layer has made.
    pub(super) fn output(&self, at: &Placed) -> View {
        self.values[at.index + 1]
    }

    /// The input, then what every layer has made.
    pub(super) fn values(&self) -> &[View] {
        &self.values
    }

    /// What a layer has [kept](Pass::save).
    pub(super) fn saved(&self, at: &Placed) -> &[View] {
        &self.saved[at.index]
    }

    /// Keeps a tensor for the layer's derivative, behind those that it has kept.
    pub(super) fn save(&mut self, tensor: View) {
        if let Some(saved) = self.saved.last_mut() {
            saved.push(tensor);
        }
    }

    /// Notes statistics for the update.
    pub(super) fn track(&mut self, moments: View, running: View, momentum: f64, rows: u32) {
        self.tracked.push(Tracked { moments, running, momentum, rows });
    }

    /// What layers have noted for the update.
    pub(super) fn tracked(&self) -> impl Iterator<Item = Tracked> {
        self.tracked.iter().copied()
    }

    /// Room for what a layer makes.
    pub(super) fn make(&mut self, at: &Placed, name: &str) -> View {
        self.rec.scratch(name, self.samples * at.extent.pixels(), at.extent.channels)
    }

    /// Room for the error that a layer passes to what it takes.
    pub(super) fn error(&mut self, at: &Placed) -> View {
        let input = self.input(at);
        self.rec.scratch("delta", input.rows(), input.cols())
    }

    /// Whether a layer's gradients are written.
    pub(super) fn learns(&self, at: &Placed) -> bool {
        self.learns && !at.is_frozen
    }

    /// Whether the layers behave as in training.
    pub(super) fn is_training(&self) -> bool {
        self.micro_batch.is_some()
    }

    /// Random numbers of a layer in this micro-batch.
    pub(super) fn stream(&self, at: &Placed) -> u32 {
        self.micro_batch.unwrap_or(0) * self.layers.len() as u32 + at.index as u32
    }

    /// Precision of products with errors.
    pub(super) fn half_of_errors(&self) -> Option<Half> {
        self.settings.precision.errors(self.settings.batch)
    }

    /// Records all layers; returns what the last one makes.
    pub(super) fn forward(&mut self) -> Result<View, ShapeError> {
        self.rec.role(Role::Forward);
        let layers = self.layers;
        for at in layers {
            self.rec.layer(at.name.clone());
            self.saved.push(Vec::new());
            let made = at.layer.forward(self, at)?;
            self.values.push(made);
        }
        Ok(self.values[self.layers.len()])
    }

    /// Records the way back from `delta`, the derivative by the last layer's output; returns the error at the network's input,
    /// none where nothing passes one there.
    pub(super) fn backward(&mut self, delta: View) -> Result<Option<View>, ShapeError> {
        self.errors = vec![None; self.values.len()];
        self.errors[self.layers.len()] = Some(delta);
        let layers = self.layers;
        for at in layers.iter().rev() {
            let Some(error) = self.errors[at.index + 1] else { continue };
            if !at.passes_error && at.parameters.is_empty() {
                continue;
            }
            self.rec.layer(at.name.clone());
            self.rec.role(Role::Derivative);
            if at.weights().next().is_some() {
                self.note_errors(at, vec![[error, self.input(at)]]);
            }
            let passed = at.layer.backward(self, at, error)?;
            if at.passes_error {
                for (&value, error) in at.inputs.iter().zip(passed) {
                    self.arrive(value, error)?;
                }
            }
        }
        Ok(self.errors[0])
    }

    /// Errors that reach a value by several ways add up.
    fn arrive(&mut self, value: usize, error: View) -> Result<(), ShapeError> {
        let Some(other) = self.errors[value] else {
            self.errors[value] = Some(error);
            return Ok(());
        };
        self.rec.role(Role::Derivative);
        let out = self.rec.scratch("delta", error.rows(), error.cols());
        self.rec.push(Add { a: other, b: error, out })?;
        self.errors[value] = Some(out);
        Ok(())
    }

    /// Sends the error at the output of a weight, or at another's where feedback is direct, back through what stands in for it.
    pub(super) fn send(&mut self, weight: &Weight) -> Result<Option<View>, ShapeError> {
        let Some(feedback) = &weight.feedback else { return Ok(None) };
        let way = BackwardWeight { pathway: &feedback.pathway, weight: weight.learned, window: weight.window };
        let [source, _] = self.deltas[&feedback.source][0];
        let half = self.half_of_errors();
        let (sent, y) = way.transport(self.rec, source, self.settings.error_clamp, half)?;
        let input = self.input(&self.layers[weight.layer]);
        self.note_sent(weight, source, y, input);
        Ok(Some(sent))
    }

    /// Notes an error that a layer has sent by itself: what the rules of the weight's feedback learn from.
    pub(super) fn note_sent(&mut self, weight: &Weight, source: View, y: Option<View>, input: View) {
        self.sent.push(Sent { weight: weight.clone(), source, y, input });
    }

    /// Says for each of a layer's weights what the error of what it makes is, where that is not the error at the layer's output, and
    /// what it is applied to.
    pub(super) fn note_errors(&mut self, at: &Placed, errors: Vec<[View; 2]>) {
        self.deltas.insert(at.index, errors);
    }

    /// Of the weights that an error reaches, from input to output, the error of what they make, and what they are applied to.
    pub(super) fn errors(&self) -> Vec<(&'a Weight, [View; 2])> {
        let layers = self.layers;
        let of_layer = |(&layer, errors): (&usize, &Vec<[View; 2]>)| {
            layers[layer].weights().zip(errors.clone()).collect::<Vec<_>>()
        };
        self.deltas.iter().flat_map(of_layer).collect()
    }

    /// Shows the rules of P and Q what the backward pass has sent. It stands behind the last error: a transport and the gate that
    /// follows it stay neighbours, which is what the plan fuses.
    ///
    /// `statistics` makes what the Oja rule of a layer learns from out of the error that it sent.
    pub(super) fn observe(
        &mut self,
        observed: &mut BTreeMap<String, Observed>,
        mut statistics: impl FnMut(&mut Recording, &Weight, View) -> Result<View, ShapeError>,
    ) -> Result<(), ShapeError> {
        for Sent { weight, source, y, input } in std::mem::take(&mut self.sent) {
            let (Some(feedback), Some(y)) = (&weight.feedback, y) else { continue };
            self.rec.layer(weight.name.clone());
            self.rec.role(Role::Feedback);
            let window = weight.window;
            let seen = Seen { source, y, statistics: statistics(self.rec, &weight, source)?, input, window };
            let way = BackwardWeight { pathway: &feedback.pathway, weight: weight.learned, window };
            let so_far = observed.get(&weight.feedback_name).copied().unwrap_or_default();
            observed.insert(weight.feedback_name.clone(), way.observe(self.rec, &seen, so_far)?);
        }
        Ok(())
    }
}
