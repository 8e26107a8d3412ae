//! What a configuration says about a network.

use serde::{Deserialize, Serialize};

use crate::feedback::FeedbackError;
use crate::ops::{Half, ShapeError};
use crate::optim::OptimizerError;

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
    pub(super) fn one() -> Sides {
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
    /// Mean squared error against one-hot labels, or against numbers.
    MeanSquaredError,
}

/// What the labels of a sample are; of one with several positions, those of each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Targets {
    /// A class, of so many.
    Classes(u32),
    /// Whole numbers, one an output.
    Numbers {
        /// How many.
        outputs: u32,
        /// An output should be this times its label.
        scale: f64,
        /// How far from that it counts as correct.
        tolerance: f64,
    },
}

impl Targets {
    /// Outputs of a position.
    pub fn outputs(self) -> u32 {
        match self {
            Targets::Classes(outputs) | Targets::Numbers { outputs, .. } => outputs,
        }
    }

    /// Labels of a position.
    pub fn labels(self) -> u32 {
        match self {
            Targets::Classes(_) => 1,
            Targets::Numbers { outputs, .. } => outputs,
        }
    }
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
    pub fn key(&self) -> String {
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
