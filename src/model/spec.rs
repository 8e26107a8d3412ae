//! What a configuration says about a network.

use serde::{Deserialize, Serialize};

use crate::feedback::FeedbackError;
use crate::ops::ShapeError;
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
    /// Batch norm over the rows, epsilon 1e-5, momentum 0.1.
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
    /// Whether the layer learns.
    pub fn has_parameters(&self) -> bool {
        matches!(self, LayerSpec::Dense { .. } | LayerSpec::BatchNorm {})
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

/// A network that cannot be built.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ModelError {
    /// A layer is impossible where it stands.
    #[error("model.layers[{index}]: {problem}")]
    Layer {
        /// Position in the list, from 0.
        index: usize,
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
