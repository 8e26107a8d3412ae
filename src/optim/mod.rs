//! Optimizers and schedules: what a configuration says, and the operations that it becomes.

mod group;
mod schedule;

pub use group::{Group, GroupBuilder, MOST_ELEMENTS, Parameter};
pub use schedule::Schedule;

use serde::{Deserialize, Serialize};

use crate::ops::{GroupStep, ReplicaStep, StepState, Update};

/// Optimizers by PyTorch's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Stochastic gradient descent, with momentum if set.
    Sgd,
    /// Adam, L2 decay in the gradient.
    Adam,
    /// Adam with decoupled decay.
    AdamW,
    /// RMSprop, not centred, without momentum.
    RmsProp,
}

/// One parameter group's optimizer as a configuration gives it; what is left out takes PyTorch's default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSpec {
    /// Which one.
    #[serde(rename = "type")]
    pub algorithm: Algorithm,
    /// Learning rate before the schedule.
    pub lr: f64,
    /// L2 decay (decoupled for adamw); 0 by default, 0.01 for adamw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// sgd: fraction of the last step kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// adam, adamw: decay rates of the moments, by default 0.9 and 0.999.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub betas: Option<[f64; 2]>,
    /// adam, adamw, rmsprop: added to the denominator, by default 1e-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eps: Option<f64>,
    /// rmsprop: decay rate of the second moment, by default 0.99.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// adam, adamw: use the largest second moment seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amsgrad: Option<bool>,
    /// Elementwise bound on every gradient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clamp: Option<f64>,
    /// How the learning rate changes; constant by default.
    #[serde(default)]
    pub schedule: Schedule,
}

/// A value that an optimizer cannot use.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
#[error("{field} = {value}: {rule}")]
pub struct OptimizerError {
    /// Key within the optimizer's section.
    pub field: &'static str,
    /// What it was set to.
    pub value: String,
    /// What it must be.
    pub rule: String,
}

impl OptimizerSpec {
    /// Plain SGD of that learning rate.
    pub fn sgd(lr: f64) -> OptimizerSpec {
        OptimizerSpec {
            algorithm: Algorithm::Sgd,
            lr,
            weight_decay: None,
            momentum: None,
            betas: None,
            eps: None,
            alpha: None,
            amsgrad: None,
            clamp: None,
            schedule: Schedule::Constant {},
        }
    }

    /// Weight decay with the default filled in.
    pub fn decay(&self) -> f64 {
        let default = if self.algorithm == Algorithm::AdamW { 0.01 } else { 0.0 };
        self.weight_decay.unwrap_or(default)
    }

    /// The update rule with PyTorch's defaults filled in.
    pub fn update(&self) -> Update {
        let betas = self.betas.unwrap_or([0.9, 0.999]);
        let epsilon = self.eps.unwrap_or(1e-8);
        match self.algorithm {
            Algorithm::Sgd => Update::Sgd { momentum: self.momentum.unwrap_or(0.0) },
            Algorithm::Adam | Algorithm::AdamW => Update::Adam {
                betas: (betas[0], betas[1]),
                epsilon,
                amsgrad: self.amsgrad.unwrap_or(false),
                decoupled: self.algorithm == Algorithm::AdamW,
            },
            Algorithm::RmsProp => Update::RmsProp { alpha: self.alpha.unwrap_or(0.99), epsilon },
        }
    }

    /// Bias corrections of the step that follows `step` earlier ones.
    pub fn corrections(&self, step: u32) -> GroupStep {
        match self.update() {
            Update::Adam { betas: (beta1, beta2), .. } => {
                let t = f64::from(step) + 1.0;
                GroupStep { correction1: 1.0 - beta1.powf(t), correction2_root: (1.0 - beta2.powf(t)).sqrt() }
            }
            _ => GroupStep::default(),
        }
    }

    /// Refuses numbers out of range and settings that the algorithm does not have.
    ///
    /// # Errors
    /// The first key that is wrong, and what it must be.
    pub fn check(&self) -> Result<(), OptimizerError> {
        let name = format!("{:?}", self.algorithm).to_lowercase();
        let adam = matches!(self.algorithm, Algorithm::Adam | Algorithm::AdamW);
        let belongs = [
            ("momentum", self.momentum.map(|v| v.to_string()), self.algorithm == Algorithm::Sgd),
            ("betas", self.betas.map(|v| format!("{v:?}")), adam),
            ("eps", self.eps.map(|v| v.to_string()), self.algorithm != Algorithm::Sgd),
            ("alpha", self.alpha.map(|v| v.to_string()), self.algorithm == Algorithm::RmsProp),
            ("amsgrad", self.amsgrad.map(|v| v.to_string()), adam),
        ];
        for (field, value, fits) in belongs {
            if let (Some(value), false) = (value, fits) {
                let rule = format!("{name} has no such setting; leave it out (with --set: nothing after the =)");
                return Err(OptimizerError { field, value, rule });
            }
        }
        let positive = |field, value: f64| range(field, value, value > 0.0, "must be a positive number");
        let fraction = |field, value: f64| range(field, value, (0.0..1.0).contains(&value), "must lie in [0, 1)");
        range("lr", self.lr, self.lr >= 0.0, "must be zero or a positive number")?;
        range("weight_decay", self.decay(), self.decay() >= 0.0, "must be zero or a positive number")?;
        fraction("momentum", self.momentum.unwrap_or(0.0))?;
        for beta in self.betas.unwrap_or([0.9, 0.999]) {
            fraction("betas", beta)?;
        }
        fraction("alpha", self.alpha.unwrap_or(0.99))?;
        positive("eps", self.eps.unwrap_or(1e-8))?;
        positive("clamp", self.clamp.unwrap_or(1.0))?;
        self.schedule.check()
    }
}

/// Length of a run, which schedules need to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizon {
    /// Steps of an epoch.
    pub steps_per_epoch: u32,
    /// Epochs of the whole run.
    pub epochs: u32,
}

/// The state of a step from the optimizers of weights and feedback and the replicas' seeds.
pub fn step_state(
    optimizers: [&OptimizerSpec; 2],
    horizon: Horizon,
    seeds: &[u32],
    step: u32,
    cursor: u32,
    active_rows: u32,
) -> StepState {
    let rate = optimizers.map(|o| o.schedule.rate(o.lr, step, horizon.steps_per_epoch, horizon.epochs));
    let decay = optimizers.map(OptimizerSpec::decay);
    StepState {
        step,
        cursor,
        active_rows,
        groups: optimizers.map(|o| o.corrections(step)),
        replicas: seeds.iter().map(|&seed| ReplicaStep { seed, rate, decay }).collect(),
    }
}

pub(crate) fn range(field: &'static str, value: f64, holds: bool, rule: &str) -> Result<(), OptimizerError> {
    if holds && value.is_finite() {
        Ok(())
    } else {
        Err(OptimizerError { field, value: value.to_string(), rule: rule.to_owned() })
    }
}
