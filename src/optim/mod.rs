//! Optimizers and schedules: what a configuration says, and the operations that it becomes.

mod group;
mod schedule;
mod single;

pub use group::{Group, GroupBuilder, Learned, MOST_ELEMENTS};
pub use schedule::Schedule;
pub(crate) use single::single;

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
        let positive = |field, value| range(field, value, |v| v > 0.0, "must be a positive number");
        let fraction = |field, value| {
            range(field, value, |v| (0.0..1.0).contains(&v), &format!("must lie in [0, 1), {LESS_THAN_ONE}"))
        };
        range("lr", self.lr, |v| v >= 0.0, "must be zero or a positive number")?;
        range("weight_decay", self.decay(), |v| v >= 0.0, "must be zero or a positive number")?;
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

/// What is said of a fraction that must be below 1: kernels take 0.99999999 for 1.
pub(crate) const LESS_THAN_ONE: &str = "in single precision too: at most 0.99999994";

/// Judges a number as kernels see it.
fn range(field: &'static str, value: f64, holds: impl FnOnce(f32) -> bool, rule: &str) -> Result<(), OptimizerError> {
    let judged = single(value).and_then(|seen| if holds(seen) { Ok(()) } else { Err(rule.to_owned()) });
    judged.map_err(|rule| OptimizerError { field, value: short(value), rule })
}

/// As a person would write it.
fn short(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e9).contains(&size) && value.is_finite() {
        format!("{value:e}")
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every number of an optimizer, by a function that sets it.
    #[test]
    fn numbers_are_judged_as_kernels_see_them() {
        let refused = |field: &str, value: f64| {
            let mut table: toml::Table = toml::from_str(match field {
                "momentum" => "type = \"sgd\"\nlr = 0.1",
                "alpha" => "type = \"rmsprop\"\nlr = 0.1",
                _ => "type = \"adamw\"\nlr = 0.1",
            })
            .unwrap();
            let number = toml::Value::Float(value);
            let number = if field == "betas" { toml::Value::Array(vec![0.9.into(), number]) } else { number };
            table.insert(field.to_owned(), number);
            let error = table.try_into::<OptimizerSpec>().unwrap().check().unwrap_err();
            assert_eq!(error.field, field);
            error.to_string()
        };
        for field in ["lr", "weight_decay", "momentum", "betas", "eps", "alpha", "clamp"] {
            assert!(refused(field, 1e-50).contains("1e-50: is zero in single precision"), "{field}");
            assert!(refused(field, 1e30).contains("1e30: has no finite square"), "{field}");
            assert!(refused(field, f64::NAN).contains("must be a finite number"), "{field}");
            assert!(refused(field, -1.0).contains("must "), "{field}");
        }
        for field in ["momentum", "betas", "alpha"] {
            assert!(refused(field, 0.99999999).contains("at most 0.99999994"), "{field}");
        }
        let error = OptimizerSpec { eps: Some(0.0), algorithm: Algorithm::Adam, ..OptimizerSpec::sgd(0.1) }.check();
        assert!(error.unwrap_err().rule.contains("positive"));
    }
}
