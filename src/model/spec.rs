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
