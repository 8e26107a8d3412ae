//! Networks to look into: what their layers make of inputs that the host writes, and which input a unit asks for.

use super::allocation::allocate;
use super::feed::{Feed, FeedSpec};
use super::graph::{Extent, Graph};
use super::layers::LayerSpec;
use super::network::NetworkSpec;
use super::parameter::{Exchange, Feedback};
use super::pass::{Pass, Placed};
use super::spec::{Loss, ModelError, Precision, Targets};
use crate::feedback::{FeedbackSpec, Pathway};
use crate::ops::{Dtype, Phase, Recording, Role, View};
use crate::optim::OptimizerSpec;

/// What a layer makes.
#[derive(Clone, Debug)]
pub struct Value {
    /// `layers.<index>`.
    pub name: String,
    /// Of a sample.
    pub extent: Extent,
    /// Position whose units stand for those of all positions.
    pub shown: u32,
    /// (rows pixels) x channels, readable after [`Phase::Evaluate`].
    pub tensor: View,
}

/// The way from a layer's output back to the input.
#[derive(Clone, Copy, Debug)]
pub struct Gradient {
    /// Weights of the outputs, which the host writes; shaped like the layer's value.
    pub of: View,
    /// Derivative of the weighted sum of the outputs by the input, sample by sample; shaped like [`Probe::x`].
    pub by_input: View,
}

/// One network as it is when it is tested (batch norm by its running statistics, no dropout), without a loss.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The operations, all of them in [`Phase::Evaluate`].
    pub recording: Recording,
    /// Samples at once.
    pub rows: u32,
    /// Of a sample.
    pub input: Extent,
    /// The input, which the host writes: (rows pixels) x channels.
    pub x: View,
    /// What can be read.
    pub values: Vec<Value>,
    /// The way back, of a probe that has one.
    pub gradient: Option<Gradient>,
    /// Parameters and statistics as files name them.
    pub exchange: Vec<Exchange>,
}

impl Probe {
    /// A probe that reads what the named layers make; `image` is height, width, channels of a sample.
    ///
    /// # Errors
    /// If layers contradict each other, or there is none of a name.
    pub fn of_values(layers: &[LayerSpec], image: [u32; 3], rows: u32, names: &[String]) -> Result<Probe, ModelError> {
        let parts = Parts::new(layers, image, rows)?;
        let chosen = names.iter().map(|name| parts.find(name)).collect::<Result<Vec<usize>, _>>()?;
        let last = chosen.iter().copied().max().unwrap_or(0);
        parts.finish(last, &chosen, false)
    }

    /// A probe that goes from the named layer's output back to the input by the exact derivative.
    ///
    /// # Errors
    /// As [`Probe::of_values`].
    pub fn of_gradient(layers: &[LayerSpec], image: [u32; 3], rows: u32, name: &str) -> Result<Probe, ModelError> {
        let parts = Parts::new(layers, image, rows)?;
        let chosen = parts.find(name)?;
        parts.finish(chosen, &[chosen], true)
    }
}

/// A network whose tensors exist.
struct Parts {
    spec: NetworkSpec,
    recording: Recording,
    input: Extent,
    layers: Vec<Placed>,
    exchange: Vec<Exchange>,
}

impl Parts {
    fn new(layers: &[LayerSpec], image: [u32; 3], rows: u32) -> Result<Parts, ModelError> {
        let spec = NetworkSpec {
            layers: layers.to_vec(),
            freeze: Vec::new(),
            loss: Loss::default(),
            label_smoothing: 0.0,
            feedback: FeedbackSpec::backprop(),
            optimizer: OptimizerSpec::sgd(0.0),
            feedback_optimizer: OptimizerSpec::sgd(0.0),
            precision: Precision::F32,
            batch: rows,
            accumulate: 1,
            evaluation_batch: rows,
            ranks: vec![None],
            feed: FeedSpec::Host { image },
            targets: Targets::Classes(0),
        };
        let graph = Graph::new(layers, image)?;
        if graph.nodes.is_empty() {
            return Err(ModelError::Network("model.layers: a network without layers has nothing to look into".into()));
        }
        let mut recording = Recording::new(1);
        let mut allocation = allocate(&spec, &graph, &mut recording)?;
        for layer in &mut allocation.layers {
            // In training, what is below all that learns gets no error.
            layer.passes_error = true;
            for weight in layer.parameters.iter_mut().filter_map(|parameter| parameter.weight.as_mut()) {
                let (pathway, ranks) = (Pathway::Exact, Vec::new());
                weight.feedback = Some(Feedback { pathway, ranks, source: weight.layer });
            }
        }
        let (layers, exchange) = (allocation.layers, allocation.exchange);
        Ok(Parts { spec, recording, input: graph.input, layers, exchange })
    }

    fn find(&self, name: &str) -> Result<usize, ModelError> {
        self.layers.iter().position(|layer| layer.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.layers.iter().map(|layer| layer.name.as_str()).collect();
            ModelError::Network(format!("{name} is not a layer of this network, which has {}", names.join(", ")))
        })
    }

    /// Records the layers up to the last one that matters.
    fn finish(mut self, last: usize, chosen: &[usize], back: bool) -> Result<Probe, ModelError> {
        let (rec, rows) = (&mut self.recording, self.spec.batch);
        let layers = &self.layers[..=last];
        let feed = Feed::allocate(rec, &self.spec.feed, [rows, 1], self.input);
        rec.begin(Phase::Evaluate);
        let (x, _) = feed.record(rec, Phase::Evaluate, rows, 0, self.input)?;
        let mut pass = Pass::new(rec, layers, self.spec.settings(), (x, rows), None);
        let output = pass.forward()?;
        let values: Vec<Value> = chosen
            .iter()
            .map(|&at| {
                let layer = &layers[at];
                let shown = layer.layer.shown_position(layer.extent);
                Value { name: layer.name.clone(), extent: layer.extent, shown, tensor: pass.values()[at + 1] }
            })
            .collect();
        let mut gradient = None;
        if back {
            pass.rec.layer("");
            pass.rec.role(Role::Transport);
            let of = pass.rec.state("probe.of", output.rows(), output.cols(), Dtype::F32);
            gradient = pass.backward(of)?.map(|by_input| Gradient { of, by_input });
        }
        values.iter().for_each(|value| rec.keep(value.tensor));
        gradient.iter().for_each(|gradient| rec.keep(gradient.by_input));
        Ok(Probe { exchange: self.exchange, recording: self.recording, rows, input: self.input, x, values, gradient })
    }
}
