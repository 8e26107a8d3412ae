//! Parameter updates.

use super::{Operand, Operation, View, read, require, update};

/// An update rule as PyTorch defines it. Learning rate, decay and bias corrections come with the step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Update {
    /// `b = momentum b + g; w -= lr b`, g including the L2 decay. Without momentum there is no b.
    Sgd {
        /// Fraction of the previous step that is kept.
        momentum: f64,
    },
    /// Adam with L2 decay in the gradient; `decoupled` makes it AdamW (`w *= 1 - lr decay` first).
    Adam {
        /// Decay rates of the first and second moment.
        betas: (f64, f64),
        /// Added to the root of the second moment.
        epsilon: f64,
        /// Whether the second moment is the largest one seen.
        amsgrad: bool,
        /// Whether decay acts on the weights themselves.
        decoupled: bool,
    },
    /// `v = alpha v + (1 - alpha) g^2; w -= lr g / (sqrt v + epsilon)`.
    RmsProp {
        /// Decay rate of the second moment.
        alpha: f64,
        /// Added to the root of the second moment.
        epsilon: f64,
    },
}

impl Update {
    /// How many moment tensors the rule keeps beside each parameter (at most three).
    pub fn moments(self) -> usize {
        match self {
            Update::Sgd { momentum } => usize::from(momentum != 0.0),
            Update::Adam { amsgrad, .. } => 2 + usize::from(amsgrad),
            Update::RmsProp { .. } => 1,
        }
    }
}

/// One update of a whole parameter group, all its tensors in one row.
///
/// The gradient is clamped to +-`clamp` first, if set; then decay, then the rule. A replica whose `fault` is set (its
/// loss was not finite) is left untouched, so that the last good weights survive.
#[derive(Clone, Copy, Debug)]
pub struct Optimize {
    /// The rule.
    pub update: Update,
    /// Which of the step's learning rates and decays applies: 0 for weights, 1 for feedback.
    pub group: u32,
    /// Elementwise bound on the gradient.
    pub clamp: Option<f64>,
    /// Parameters, 1 x n.
    pub values: View,
    /// Their gradients, 1 x n.
    pub gradients: View,
    /// Moments, 1 x n each, as many as the rule [keeps](Update::moments).
    pub moments: [Option<View>; 3],
    /// See [`super::Tally`].
    pub fault: View,
}

impl Operation for Optimize {
    fn name(&self) -> &'static str {
        match self.update {
            Update::Sgd { .. } => "sgd",
            Update::Adam { decoupled: false, .. } => "adam",
            Update::Adam { decoupled: true, .. } => "adamw",
            Update::RmsProp { .. } => "rmsprop",
        }
    }

    fn operands(&self) -> Vec<Operand> {
        let names = ["moment1", "moment2", "moment3"];
        [read("gradients", self.gradients), read("fault", self.fault), update("values", self.values)]
            .into_iter()
            .chain(names.into_iter().zip(self.moments).filter_map(|(name, t)| Some(update(name, t?))))
            .collect()
    }

    fn check(&self) -> Result<(), String> {
        let kept: Vec<_> = self.moments.iter().flatten().collect();
        require(kept.len() == self.update.moments(), "the rule keeps another number of moments")?;
        require(
            self.gradients.shape == self.values.shape && kept.iter().all(|t| t.shape == self.values.shape),
            "values, gradients and moments must have one shape",
        )?;
        require(self.values.rows() == 1, "a parameter group is one row")
    }

    fn flops(&self) -> u64 {
        let each = match self.update {
            Update::Sgd { .. } => 6,
            Update::Adam { .. } => 14,
            Update::RmsProp { .. } => 9,
        };
        each * self.values.shape.per_replica() as u64
    }
}
