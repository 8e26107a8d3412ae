//! What a configuration says about a network.

use serde::{Deserialize, Serialize};

use crate::feedback::FeedbackError;
use crate::ops::{Half, ShapeError};
use crate::optim::OptimizerError;

/// One layer, by the names of the configuration files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LayerSpec {
    /// h W^T + b.
    Dense {
        /// Width of its output.
        out: u32,
    },
    /// A kernel that moves over the image, and a bias.
    Conv {
        /// Channels of its output.
        out: u32,
        /// Side of the kernel, or height and width.
        kernel: Sides,
        /// Pixels from one position to the next.
        #[serde(default = "Sides::one")]
        stride: Sides,
        /// Zeros around the image.
        #[serde(default)]
        padding: Sides,
    },
    /// The largest of every window.
    #[serde(rename = "maxpool")]
    MaxPool {
        /// Side of the window, or height and width.
        size: Sides,
        /// Pixels from one window to the next; as large as the window if left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stride: Option<Sides>,
        /// Pixels around the image that never win.
        #[serde(default)]
        padding: Sides,
    },
    /// The mean of every window, padding counted as zeros.
    #[serde(rename = "avgpool")]
    AvgPool {
        /// Side of the window, or height and width.
        size: Sides,
        /// Pixels from one window to the next; as large as the window if left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stride: Option<Sides>,
        /// Zeros around the image.
        #[serde(default)]
        padding: Sides,
    },
    /// The mean of every channel.
    #[serde(rename = "globalavgpool")]
    GlobalAvgPool {},
    /// The image as one row, channel by channel.
    Flatten {},
    /// What some layers make, plus what others make of the same input; the input itself where there are none.
    Residual {
        /// The long way.
        layers: Vec<LayerSpec>,
        /// The short one.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        shortcut: Vec<LayerSpec>,
    },
    /// Batch norm over the rows (samples x pixels), epsilon 1e-5, momentum 0.1.
    #[serde(rename = "batchnorm")]
    BatchNorm {},
    /// max(x, 0).
    Relu {},
    /// x Phi(x), exact.
    Gelu {},
    /// Drops elements in training.
    Dropout {
        /// Probability of dropping.
        p: f64,
    },
}

impl LayerSpec {
    /// Outputs of a layer with a weight.
    pub fn outputs(&self) -> Option<u32> {
        match self {
            LayerSpec::Dense { out } | LayerSpec::Conv { out, .. } => Some(*out),
            _ => None,
        }
    }
}

/// Names of all layers with a weight.
pub fn weighted(layers: &[LayerSpec]) -> Vec<String> {
    fn add(layers: &[LayerSpec], name: &str, names: &mut Vec<String>) {
        for (index, layer) in layers.iter().enumerate() {
            let name = format!("{name}.{index}");
            match layer {
                LayerSpec::Residual { layers, shortcut } => {
                    add(layers, &format!("{name}.main"), names);
                    add(shortcut, &format!("{name}.shortcut"), names);
                }
                _ if layer.outputs().is_some() => names.push(name),
                _ => {}
            }
        }
    }
    let mut names = Vec::new();
    add(layers, "layers", &mut names);
    names
}

/// Height and width, or one number for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a whole number such as 3, or two such as [3, 5], up to 4294967295")]
pub enum Sides {
    /// A square.
    One(u32),
    /// Height, width.
    Two([u32; 2]),
}

impl Default for Sides {
    fn default() -> Sides {
        Sides::One(0)
    }
}

impl Sides {
    fn one() -> Sides {
        Sides::One(1)
    }

    /// Height and width.
    pub fn pair(self) -> [u32; 2] {
        match self {
            Sides::One(side) => [side; 2],
            Sides::Two(sides) => sides,
        }
    }
}

/// What is minimised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// Softmax cross-entropy.
    #[default]
    CrossEntropy,
    /// Mean squared error against one-hot labels.
    MeanSquaredError,
}

/// What factors of the large products are rounded to: forward, exact transport and weight gradients. Sums, parameters,
/// optimizers and everything that P and Q are involved in stay in single precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Nothing: single precision.
    #[default]
    F32,
    /// Half precision, for matrix units where the adapter has them.
    F16,
}

impl Precision {
    /// For products of values whose size is that of activations and weights.
    pub(super) fn values(self) -> Option<Half> {
        (self == Precision::F16).then(Half::default)
    }

    /// For products whose first factor is an error of the mean over so many samples.
    pub(super) fn errors(self, batch: u32) -> Option<Half> {
        let lift = i32::try_from(batch.next_power_of_two().ilog2()).unwrap_or_default();
        (self == Precision::F16).then_some(Half { lift: [lift, 0] })
    }
}

/// A network that cannot be built.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ModelError {
    /// A layer is impossible where it stands.
    #[error("{layer}: {problem}")]
    Layer {
        /// `model.layers[<index>]`, counted from 0, and within.
        layer: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The network as a whole is impossible.
    #[error("{0}")]
    Network(String),
    /// Feedback settings contradict each other.
    #[error(transparent)]
    Feedback(#[from] FeedbackError),
    /// An optimizer setting is out of range.
    #[error("{section}.{source}")]
    Optimizer {
        /// Section of the configuration.
        section: &'static str,
        /// What is wrong.
        source: OptimizerError,
    },
    /// An operation was recorded with shapes that do not meet.
    #[error("internal: {0}")]
    Shape(#[from] ShapeError),
}

impl ModelError {
    /// The setting that is wrong, as a dotted key; empty where it is none in particular. What is wrong with a network as a whole
    /// begins with its key.
    pub(crate) fn key(&self) -> String {
        match self {
            ModelError::Layer { .. } => "model.layers".to_owned(),
            ModelError::Feedback(error) => error.key(),
            ModelError::Optimizer { section, source } => format!("{section}.{}", source.field),
            ModelError::Network(problem) => {
                let first = problem.split([':', ' ']).next().unwrap_or_default();
                if first.contains('.') { first.to_owned() } else { String::new() }
            }
            ModelError::Shape(_) => String::new(),
        }
    }
}
