//! Learning rate over time.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::{OptimizerError, range};

/// A factor on the learning rate, by step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// The learning rate stays as it is.
    Constant {},
    /// `lr gamma^epoch`, epochs counted from 0.
    Exponential {
        /// Factor an epoch.
        gamma: f64,
    },
    /// `lr (step + 1) / w` over the `w` steps of the warm-up, then half a cosine that reaches `final_lr` as the run ends.
    WarmupCosine {
        /// Length of the warm-up.
        warmup_epochs: f64,
        /// Learning rate at the end.
        #[serde(default)]
        final_lr: f64,
    },
    /// PyTorch's `OneCycleLR` with cosine annealing, `lr` its maximum; momentum is not cycled.
    OneCycle {
        /// Fraction of the run that the rise takes.
        #[serde(default = "default_rise")]
        rise: f64,
        /// The run starts at `lr / start_divisor`.
        #[serde(default = "default_start")]
        start_divisor: f64,
        /// The run ends at `lr / start_divisor / final_divisor`.
        #[serde(default = "default_final")]
        final_divisor: f64,
    },
}

fn default_rise() -> f64 {
    0.3
}

fn default_start() -> f64 {
    25.0
}

fn default_final() -> f64 {
    1e4
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule::Constant {}
    }
}

/// From `start` at 0 to `end` at 1 along half a cosine.
fn anneal(start: f64, end: f64, part: f64) -> f64 {
    end + (start - end) / 2.0 * (1.0 + (PI * part).cos())
}

impl Schedule {
    /// The learning rate at a step, of a run of `epochs` epochs of `steps_per_epoch` steps.
    pub fn rate(&self, lr: f64, step: u32, steps_per_epoch: u32, epochs: u32) -> f64 {
        let (step, per_epoch) = (f64::from(step), f64::from(steps_per_epoch.max(1)));
        let total = per_epoch * f64::from(epochs.max(1));
        match *self {
            Schedule::Constant {} => lr,
            Schedule::Exponential { gamma } => lr * gamma.powf((step / per_epoch).floor()),
            Schedule::WarmupCosine { warmup_epochs, final_lr } => {
                let warmup = warmup_epochs * per_epoch;
                if step < warmup {
                    return lr * (step + 1.0) / warmup.max(1.0);
                }
                anneal(lr, final_lr, ((step - warmup) / (total - warmup).max(1.0)).min(1.0))
            }
            Schedule::OneCycle { rise, start_divisor, final_divisor } => {
                let (start, end) = (lr / start_divisor, lr / start_divisor / final_divisor);
                let peak = rise * total - 1.0;
                if step <= peak {
                    return anneal(start, lr, step / peak.max(1.0));
                }
                anneal(lr, end, ((step - peak) / (total - 1.0 - peak).max(1.0)).min(1.0))
            }
        }
    }

    pub(super) fn check(&self) -> Result<(), OptimizerError> {
        match *self {
            Schedule::Constant {} => Ok(()),
            Schedule::Exponential { gamma } => range("schedule.gamma", gamma, gamma > 0.0, "must be positive"),
            Schedule::WarmupCosine { warmup_epochs, final_lr } => {
                range("schedule.warmup_epochs", warmup_epochs, warmup_epochs >= 0.0, "must not be negative")?;
                range("schedule.final_lr", final_lr, final_lr >= 0.0, "must not be negative")
            }
            Schedule::OneCycle { rise, start_divisor, final_divisor } => {
                range("schedule.rise", rise, rise > 0.0 && rise < 1.0, "must lie between 0 and 1")?;
                range("schedule.start_divisor", start_divisor, start_divisor > 0.0, "must be positive")?;
                range("schedule.final_divisor", final_divisor, final_divisor > 0.0, "must be positive")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_changes_only_between_epochs() {
        let schedule = Schedule::Exponential { gamma: 0.5 };
        let rates: Vec<f64> = [0, 9, 10, 19, 20].iter().map(|&s| schedule.rate(0.8, s, 10, 5)).collect();
        assert_eq!(rates, [0.8, 0.8, 0.4, 0.4, 0.2]);
    }

    #[test]
    fn warmup_rises_linearly_then_falls_to_the_final_rate() {
        let schedule = Schedule::WarmupCosine { warmup_epochs: 2.0, final_lr: 0.1 };
        let rate = |step| schedule.rate(1.0, step, 10, 12);
        assert!((rate(0) - 0.05).abs() < 1e-12 && (rate(19) - 1.0).abs() < 1e-12);
        assert!((rate(70) - 0.55).abs() < 1e-12, "half of the fall lies half way down");
        assert!((rate(120) - 0.1).abs() < 1e-12);
    }

    /// Values of `torch.optim.lr_scheduler.OneCycleLR(max_lr=1, total_steps=10)` by its published formula:
    /// peak at step 0.3 * 10 - 1 = 2, end at step 9.
    #[test]
    fn one_cycle_starts_peaks_and_ends_where_pytorch_does() {
        let schedule = Schedule::OneCycle { rise: 0.3, start_divisor: 25.0, final_divisor: 1e4 };
        let rate = |step| schedule.rate(1.0, step, 10, 1);
        assert!((rate(0) - 0.04).abs() < 1e-12);
        assert!((rate(1) - 0.52).abs() < 1e-12);
        assert!((rate(2) - 1.0).abs() < 1e-12);
        assert!((rate(9) - 4e-6).abs() < 1e-12);
    }
}
