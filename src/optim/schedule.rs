//! Learning rate over time.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::{Horizon, OptimizerError, range, short, single};
use crate::words::counted;

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
    /// A linear rise over the `w` steps of the warm-up, `lr (step + 1) / w` or from `lr / start_divisor` on, then half a cosine
    /// that reaches `final_lr` as the run ends.
    WarmupCosine {
        /// Length of the warm-up.
        warmup_epochs: f64,
        /// The first step takes `lr / start_divisor`, and the one after the warm-up `lr`, as in PyTorch's `LinearLR`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        start_divisor: Option<f64>,
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
            Schedule::WarmupCosine { warmup_epochs, start_divisor, final_lr } => {
                let warmup = warmup_epochs * per_epoch;
                if step < warmup {
                    return match start_divisor.map(|divisor| lr / divisor) {
                        Some(start) => start + (lr - start) * step / warmup,
                        None => lr * (step + 1.0) / warmup.max(1.0),
                    };
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
        let divisor = |field, value| range(field, value, |v| v >= 1.0, "must be at least 1");
        match *self {
            Schedule::Constant {} => Ok(()),
            Schedule::Exponential { gamma } => range("schedule.gamma", gamma, |v| v > 0.0, "must be positive"),
            Schedule::WarmupCosine { warmup_epochs, start_divisor, final_lr } => {
                start_divisor.map_or(Ok(()), |value| divisor("schedule.start_divisor", value))?;
                range("schedule.warmup_epochs", warmup_epochs, |v| v >= 0.0, "must not be negative")?;
                range("schedule.final_lr", final_lr, |v| v >= 0.0, "must not be negative")
            }
            Schedule::OneCycle { rise, start_divisor, final_divisor } => {
                range("schedule.rise", rise, |v| v > 0.0 && v < 1.0, "must lie between 0 and 1")?;
                divisor("schedule.start_divisor", start_divisor)?;
                divisor("schedule.final_divisor", final_divisor)
            }
        }
    }

    /// Refuses a schedule that so many epochs have no room for.
    ///
    /// # Errors
    /// The key that is wrong, and what it must be.
    pub fn check_epochs(&self, lr: f64, epochs: u32) -> Result<(), OptimizerError> {
        let wrong = |field, value, rule| Err(OptimizerError { field, value: short(value), rule });
        match *self {
            Schedule::WarmupCosine { warmup_epochs, .. } if warmup_epochs > f64::from(epochs) => {
                let rule = format!("must not be longer than the run, train.epochs = {epochs}");
                wrong("schedule.warmup_epochs", warmup_epochs, rule)
            }
            Schedule::Exponential { gamma } => match single(self.rate(lr, epochs.saturating_sub(1), 1, epochs)) {
                // Rates that fall to nothing let the run end as it is.
                Err(_) if gamma > 1.0 => {
                    let rule = format!("raises lr = {} without bounds in train.epochs = {epochs}; lower it", short(lr));
                    wrong("schedule.gamma", gamma, rule)
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Refuses a schedule that a run of so many steps has no room for.
    ///
    /// # Errors
    /// The key that is wrong, and what it must be.
    pub fn check_steps(&self, horizon: Horizon) -> Result<(), OptimizerError> {
        let Schedule::OneCycle { rise, .. } = *self else { return Ok(()) };
        let total = f64::from(horizon.steps_per_epoch) * f64::from(horizon.epochs);
        // From the first step to the peak, and from there to the last.
        let (up, down) = (rise * total - 1.0, (1.0 - rise) * total);
        // 0.1 times 10 is 1 for people.
        let whole = 1.0 - 1e-9;
        if up >= whole && down >= whole {
            return Ok(());
        }
        let rule = format!(
            "leaves a run of {} no step to {}; at least {} are needed: raise train.epochs, lower train.batch, or choose \
             another schedule",
            counted(total as u64, "step"),
            if up < whole { "rise" } else { "fall" },
            ((2.0 / rise).max(1.0 / (1.0 - rise)) - 1e-9).ceil()
        );
        Err(OptimizerError { field: "schedule.rise", value: short(rise), rule })
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
        let schedule = Schedule::WarmupCosine { warmup_epochs: 2.0, start_divisor: None, final_lr: 0.1 };
        let rate = |step| schedule.rate(1.0, step, 10, 12);
        assert!((rate(0) - 0.05).abs() < 1e-12 && (rate(19) - 1.0).abs() < 1e-12);
        assert!((rate(70) - 0.55).abs() < 1e-12, "half of the fall lies half way down");
        assert!((rate(120) - 0.1).abs() < 1e-12);
    }

    /// 250 epochs of 196 steps, a warm-up of 10 epochs from 1/25 and 1/10: 49,000 steps, of them 1960 of warm-up.
    #[test]
    fn a_warmup_may_start_at_a_share_of_the_rate() {
        let text = |divisor| {
            format!("type = \"warmup-cosine\"\nwarmup_epochs = 10\nstart_divisor = {divisor}\nfinal_lr = 1e-9")
        };
        for (lr, divisor, expected) in [
            // 490 steps are a quarter of the warm-up: 1.2e-5 + 2.88e-4 / 4; the middle of the fall is at 1960 + 23520.
            (3e-4, 25, [1.2e-5, 8.4e-5, 3e-4 - 2.88e-4 / 1960.0, 3e-4, (3e-4 + 1e-9) / 2.0, 1e-9]),
            (0.015, 10, [1.5e-3, 4.875e-3, 0.015 - 0.0135 / 1960.0, 0.015, (0.015 + 1e-9) / 2.0, 1e-9]),
        ] {
            let schedule: Schedule = toml::from_str(&text(divisor)).unwrap();
            assert_eq!((schedule.check(), schedule.check_epochs(lr, 250)), (Ok(()), Ok(())));
            for (step, expected) in [0, 490, 1959, 1960, 25_480, 49_000].into_iter().zip(expected) {
                let rate = schedule.rate(lr, step, 196, 250);
                assert!((rate - expected).abs() < 1e-12 * lr, "step {step}: {rate}, not {expected}");
            }
            // The last step of the run, 1 / 47040 of half a turn before its end: 1 - cos of it is half its square.
            let left = (PI / 47_040.0).powi(2) / 4.0 * (lr - 1e-9);
            assert!((schedule.rate(lr, 48_999, 196, 250) - 1e-9 - left).abs() < 1e-6 * left);
        }
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
    #[test]
    fn schedules_that_a_run_has_no_room_for_are_refused() {
        let refused = |checked: Result<(), OptimizerError>, field: &str, word: &str| {
            let error = checked.unwrap_err();
            assert!(error.field == field && error.rule.contains(word), "{error}");
        };
        let warmup = Schedule::WarmupCosine { warmup_epochs: 3.0, start_divisor: None, final_lr: 0.0 };
        assert_eq!(warmup.check_epochs(0.1, 3), Ok(()));
        refused(warmup.check_epochs(0.1, 2), "schedule.warmup_epochs", "train.epochs = 2");
        let growing = Schedule::Exponential { gamma: 10.0 };
        assert_eq!(growing.check_epochs(0.1, 20), Ok(()));
        refused(growing.check_epochs(0.1, 22), "schedule.gamma", "without bounds");
        assert_eq!(Schedule::Exponential { gamma: 0.1 }.check_epochs(0.1, 400), Ok(()), "it ends as it is");
        let cycle = Schedule::OneCycle { rise: 0.3, start_divisor: 25.0, final_divisor: 1e4 };
        let steps = |steps_per_epoch| Horizon { steps_per_epoch, epochs: 1 };
        assert_eq!(cycle.check_steps(steps(7)), Ok(()));
        refused(cycle.check_steps(steps(6)), "schedule.rise", "6 steps no step to rise; at least 7");
        let steep = Schedule::OneCycle { rise: 0.9, start_divisor: 25.0, final_divisor: 1e4 };
        refused(steep.check_steps(steps(4)), "schedule.rise", "no step to fall; at least 10");
        for (field, schedule) in [
            ("schedule.gamma", "type = \"exponential\"\ngamma = 1e308"),
            ("schedule.gamma", "type = \"exponential\"\ngamma = 1e-50"),
            ("schedule.final_lr", "type = \"warmup-cosine\"\nwarmup_epochs = 1\nfinal_lr = 1e-320"),
            ("schedule.warmup_epochs", "type = \"warmup-cosine\"\nwarmup_epochs = 1e39"),
            ("schedule.start_divisor", "type = \"warmup-cosine\"\nwarmup_epochs = 1\nstart_divisor = 0.5"),
            ("schedule.rise", "type = \"one-cycle\"\nrise = 0.99999999"),
            ("schedule.start_divisor", "type = \"one-cycle\"\nstart_divisor = 0.5"),
            ("schedule.final_divisor", "type = \"one-cycle\"\nfinal_divisor = 1e30"),
        ] {
            refused(toml::from_str::<Schedule>(schedule).unwrap().check(), field, "");
        }
    }
}
