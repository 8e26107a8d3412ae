//! What a network owns: its tensors, how they start, and how files name them.

use crate::feedback::Pathway;
use crate::ops::{View, Window};
use crate::optim::Learned;

/// What a tensor is to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Learned by the gradient of the loss.
    Learned,
    /// What batch norm has seen.
    Statistic,
    /// What stands in for a weight.
    Feedback,
}

/// First values of a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    /// The same number everywhere.
    Constant(f64),
    /// U(+-bound).
    Uniform(f64),
    /// Normal of mean zero and this deviation, drawn again beyond +-2 as PyTorch's `trunc_normal_` does.
    Normal(f64),
    /// Those of the feedback's initialisation.
    Feedback,
}

/// A part of a tensor under the name and shape that files use.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Such as `layers.2.feedback.p`.
    pub name: String,
    /// Where the values are.
    pub tensor: View,
    /// First row that belongs to the name.
    pub row: u32,
    /// Shape in files.
    pub shape: Vec<usize>,
    /// Of a side of a factored pathway: the axis that is padded with zeros for replicas of smaller rank, and every replica's
    /// rank.
    pub ranks: Option<(usize, Vec<u32>)>,
    /// Taps of a kernel. Files have them behind the channels of a row, tensors before.
    pub taps: usize,
    /// What the values are to the network.
    pub purpose: Purpose,
    /// How they start.
    pub start: Start,
}

impl Exchange {
    /// Elements of one replica.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// What a layer asks for: a tensor before it exists.
#[derive(Clone, Debug)]
pub(super) struct ParameterSpec {
    /// Behind the layer's name.
    pub(super) name: &'static str,
    pub(super) rows: u32,
    pub(super) cols: u32,
    pub(super) purpose: Purpose,
    /// What files hold of it.
    pub(super) files: Vec<FileSpec>,
    /// Whether errors go back through it.
    pub(super) passage: Option<Passage>,
}

#[derive(Clone, Debug)]
pub(super) struct FileSpec {
    pub(super) name: &'static str,
    pub(super) row: u32,
    pub(super) shape: Vec<u32>,
    pub(super) taps: u32,
    pub(super) start: Start,
}

/// How errors go back through a weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passage {
    /// What tells it from other weights of the layer in names; empty for the only one.
    pub(super) part: &'static str,
    /// What files call the feedback behind the layer's name.
    pub(super) feedback: &'static str,
    /// How a convolution moves over its input.
    pub(super) window: Option<Window>,
    /// Where the errors go.
    pub(super) to: Destination,
}

/// What a weight sends errors to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// The layer's input.
    Input,
    /// The layer's own state of the step before.
    State,
}

impl Passage {
    /// The name of the weight in a layer of that name.
    pub(super) fn name(&self, layer: &str) -> String {
        if self.part.is_empty() { layer.to_owned() } else { format!("{layer}.{}", self.part) }
    }
}

impl ParameterSpec {
    /// A learned matrix or row under one name.
    pub(super) fn learned(name: &'static str, shape: Vec<u32>, [rows, cols]: [u32; 2], start: Start) -> ParameterSpec {
        let files = vec![FileSpec { name, row: 0, shape, taps: 1, start }];
        ParameterSpec { name, rows, cols, purpose: Purpose::Learned, files, passage: None }
    }

    /// A learned row.
    pub(super) fn row(name: &'static str, cols: u32, start: Start) -> ParameterSpec {
        ParameterSpec::learned(name, vec![cols], [1, cols], start)
    }
}

/// A tensor of a layer. Any number of places may use it: the first writes its gradient, later ones add to it.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Current value.
    pub value: View,
    /// Gradient of the mean loss; none of what is not learned.
    pub gradient: Option<View>,
    /// Of a weight that errors go back through.
    pub weight: Option<Weight>,
}

impl Parameter {
    /// Value and gradient of what is learned.
    pub(super) fn learned(&self) -> Learned {
        // What is not learned has no gradient; layers ask only for those that they declared so.
        Learned { value: self.value, gradient: self.gradient.unwrap_or(self.value) }
    }
}

/// A weight that errors go back through, and what stands in for it on that way.
#[derive(Clone, Debug)]
pub struct Weight {
    /// `layers.<index>`; of a recurrent layer `layers.<index>.ih` or `.hh`.
    pub name: String,
    /// Position of its layer among all layers.
    pub layer: usize,
    /// Which of the layer's parameters it is.
    pub parameter: usize,
    /// m x k; of a convolution m x (taps k).
    pub learned: Learned,
    /// How a convolution moves over its input.
    pub window: Option<Window>,
    /// What files call the feedback, the layer's name before it.
    pub(super) feedback_name: String,
    /// `None` where no error passes.
    pub feedback: Option<Feedback>,
}

impl Weight {
    /// What errors go through.
    pub fn pathway(&self) -> Option<Pathway> {
        self.feedback.as_ref().map(|feedback| feedback.pathway)
    }

    /// Rank of every replica's pathway; empty unless it is factored.
    pub fn ranks(&self) -> &[u32] {
        self.feedback.as_ref().map_or(&[], |feedback| &feedback.ranks)
    }

    /// Layer whose error is sent back: its own, but for direct feedback.
    pub fn source(&self) -> usize {
        self.feedback.as_ref().map_or(self.layer, |feedback| feedback.source)
    }
}

/// What stands in for a weight.
#[derive(Clone, Debug)]
pub struct Feedback {
    /// What errors go through.
    pub pathway: Pathway,
    /// Rank of every replica; empty unless it is factored.
    pub ranks: Vec<u32>,
    /// Layer whose error it carries.
    pub source: usize,
}
