//! Parameter updates as PyTorch defines them.

use super::elementwise::clamp;
use crate::ops::{GroupStep, Update};

/// What an update takes besides the tensors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) update: Update,
    /// Elementwise bound on the gradient.
    pub(super) clamp: Option<f64>,
    pub(super) rate: f64,
    pub(super) decay: f64,
    pub(super) corrections: GroupStep,
}

/// Updates parameters in place, with as many moments as the rule keeps.
pub(super) fn optimize(settings: &Settings, values: &mut [f64], gradients: &[f64], moments: &mut [Vec<f64>]) {
    for (at, (value, &gradient)) in values.iter_mut().zip(gradients).enumerate() {
        let mut kept = [0.0; 3];
        for (kept, moment) in kept.iter_mut().zip(&*moments) {
            *kept = moment[at];
        }
        *value = settings.step(*value, gradient, &mut kept);
        for (kept, moment) in kept.iter().zip(&mut *moments) {
            moment[at] = *kept;
        }
    }
}

impl Settings {
    /// The new value of one parameter.
    fn step(&self, value: f64, gradient: f64, moments: &mut [f64; 3]) -> f64 {
        let gradient = self.clamp.map_or(gradient, |bound| clamp(gradient, bound));
        let regularised = gradient + self.decay * value;
        match self.update {
            Update::Sgd { momentum } => value - self.rate * sgd(regularised, momentum, moments),
            Update::Adam { betas, epsilon, amsgrad, decoupled } => {
                let (value, gradient) =
                    if decoupled { (value * (1.0 - self.rate * self.decay), gradient) } else { (value, regularised) };
                let (first, second) = adam(gradient, betas, amsgrad, moments);
                let deviation = second.sqrt() / self.corrections.correction2_root + epsilon;
                value - self.rate / self.corrections.correction1 * first / deviation
            }
            Update::RmsProp { alpha, epsilon } => {
                let [square, ..] = moments;
                *square = blend(alpha, *square, regularised * regularised);
                value - self.rate * regularised / (square.sqrt() + epsilon)
            }
        }
    }
}

/// The direction of descent.
fn sgd(gradient: f64, momentum: f64, [velocity, ..]: &mut [f64; 3]) -> f64 {
    *velocity = momentum * *velocity + gradient;
    *velocity
}

/// The first moment and the second one that counts, neither corrected for its bias.
fn adam(gradient: f64, betas: (f64, f64), amsgrad: bool, [first, second, largest]: &mut [f64; 3]) -> (f64, f64) {
    *first = blend(betas.0, *first, gradient);
    *second = blend(betas.1, *second, gradient * gradient);
    *largest = largest.max(*second);
    (*first, if amsgrad { *largest } else { *second })
}

/// A moving average.
fn blend(keep: f64, old: f64, new: f64) -> f64 {
    keep * old + (1.0 - keep) * new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::tests::assert_close;

    const RATE: f64 = 0.1;
    const DECAY: f64 = 0.01;
    /// Gradients of one parameter at three steps: falling, so that amsgrad differs from adam.
    const GRADIENTS: [f64; 3] = [2.0, -0.5, 0.25];

    fn settings(update: Update) -> Settings {
        Settings { update, clamp: None, rate: RATE, decay: DECAY, corrections: GroupStep::default() }
    }

    /// The values of a parameter that starts at 1 over three steps.
    fn trajectory(update: Update) -> Vec<f64> {
        let (mut value, mut moments) = ([1.0], vec![vec![0.0]; update.moments()]);
        let betas = if let Update::Adam { betas, .. } = update { betas } else { (0.0, 0.0) };
        let step = |(t, gradient): (i32, f64)| {
            let corrections =
                GroupStep { correction1: 1.0 - betas.0.powi(t), correction2_root: (1.0 - betas.1.powi(t)).sqrt() };
            optimize(&Settings { corrections, ..settings(update) }, &mut value, &[gradient], &mut moments);
            value[0]
        };
        (1..).zip(GRADIENTS).map(step).collect()
    }

    #[test]
    fn sgd_steps_against_the_decayed_gradient() {
        // g = 2.01; w = 0.799; g = -0.49201, w = 0.848201; g = 0.25848201, w = 0.822352799.
        assert_close(&trajectory(Update::Sgd { momentum: 0.0 }), &[0.799, 0.848_201, 0.822_352_799], 1e-15);
    }

    #[test]
    fn sgd_with_momentum_follows_its_definition() {
        let (mut w, mut buffer, mut expected) = (1.0, None, Vec::new());
        for g in GRADIENTS {
            let g = g + DECAY * w;
            // PyTorch starts the buffer with the first gradient.
            let b = buffer.map_or(g, |b: f64| 0.9 * b + g);
            buffer = Some(b);
            w -= RATE * b;
            expected.push(w);
        }
        assert_close(&trajectory(Update::Sgd { momentum: 0.9 }), &expected, 1e-15);
    }

    /// Algorithm 1 of PyTorch's Adam and AdamW pages, with explicitly corrected moments.
    fn adam_by_the_book(betas: (f64, f64), epsilon: f64, amsgrad: bool, decoupled: bool) -> Vec<f64> {
        let (mut w, mut m, mut v, mut largest) = (1.0, 0.0, 0.0, 0f64);
        let mut values = Vec::new();
        for (t, mut g) in (1..).zip(GRADIENTS) {
            if decoupled {
                w -= RATE * DECAY * w;
            } else {
                g += DECAY * w;
            }
            m = betas.0 * m + (1.0 - betas.0) * g;
            v = betas.1 * v + (1.0 - betas.1) * g * g;
            largest = largest.max(v);
            let m_hat = m / (1.0 - betas.0.powi(t));
            let v_hat = if amsgrad { largest } else { v } / (1.0 - betas.1.powi(t));
            w -= RATE * m_hat / (v_hat.sqrt() + epsilon);
            values.push(w);
        }
        values
    }

    #[test]
    fn adam_and_adamw_follow_their_definition() {
        // A second moment that forgets quickly, so that the largest one is not the last.
        for betas in [(0.9, 0.999), (0.8, 0.3)] {
            for (amsgrad, decoupled) in [(false, false), (false, true), (true, false), (true, true)] {
                let update = Update::Adam { betas, epsilon: 1e-8, amsgrad, decoupled };
                let expected = adam_by_the_book(betas, 1e-8, amsgrad, decoupled);
                assert_close(&trajectory(update), &expected, 1e-14);
            }
        }
    }

    #[test]
    fn amsgrad_and_decoupling_make_a_difference() {
        let adam = |amsgrad, decoupled| Update::Adam { betas: (0.8, 0.3), epsilon: 1e-8, amsgrad, decoupled };
        let plain = trajectory(adam(false, false));
        assert!((plain[2] - trajectory(adam(true, false))[2]).abs() > 1e-3);
        assert!((plain[2] - trajectory(adam(false, true))[2]).abs() > 1e-4);
    }

    /// Whatever the gradient, Adam's first step has the length of the learning rate.
    #[test]
    fn adams_first_step_is_the_learning_rate() {
        let update = Update::Adam { betas: (0.9, 0.999), epsilon: 0.0, amsgrad: false, decoupled: false };
        let corrections = GroupStep { correction1: 1.0 - 0.9, correction2_root: (1.0f64 - 0.999).sqrt() };
        let settings = Settings { corrections, decay: 0.0, ..settings(update) };
        let (mut values, mut moments) = ([1.0, 1.0], vec![vec![0.0; 2]; 2]);
        optimize(&settings, &mut values, &[1e-3, -50.0], &mut moments);
        assert_close(&values, &[0.9, 1.1], 1e-14);
    }

    #[test]
    fn rmsprop_follows_its_definition() {
        let (mut w, mut v, mut expected) = (1.0, 0.0, Vec::new());
        for g in GRADIENTS {
            let g = g + DECAY * w;
            v = 0.99 * v + 0.01 * g * g;
            w -= RATE * g / (f64::sqrt(v) + 1e-8);
            expected.push(w);
        }
        assert_close(&trajectory(Update::RmsProp { alpha: 0.99, epsilon: 1e-8 }), &expected, 1e-14);
    }

    #[test]
    fn the_gradient_is_clamped_before_the_decay_is_added() {
        let settings = Settings { clamp: Some(0.5), ..settings(Update::Sgd { momentum: 0.0 }) };
        let mut values = [1.0, 1.0, 1.0];
        optimize(&settings, &mut values, &[7.0, -7.0, 0.25], &mut []);
        assert_close(&values, &[1.0 - 0.051, 1.0 + 0.049, 1.0 - 0.026], 1e-15);
    }

    #[test]
    fn a_parameter_without_gradient_or_decay_stays() {
        let update = Update::Adam { betas: (0.9, 0.999), epsilon: 1e-8, amsgrad: true, decoupled: true };
        let (mut values, mut moments) = ([3.0], vec![vec![0.0]; 3]);
        optimize(&Settings { decay: 0.0, ..settings(update) }, &mut values, &[0.0], &mut moments);
        assert_eq!((values[0], moments), (3.0, vec![vec![0.0]; 3]));
    }
}
