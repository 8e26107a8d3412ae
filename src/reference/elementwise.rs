//! Operations on single elements: activations, their gates, dropout, sums.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use crate::ops::random::{pcg4d, unit};
use crate::ops::{Activation, Significant};

/// f(x).
pub(super) fn activation(f: Activation, x: f64) -> f64 {
    match f {
        // Not `max`, which would turn a NaN into 0 and hide it from the loss.
        Activation::Relu if x < 0.0 => 0.0,
        Activation::Relu => x,
        Activation::Gelu => x * normal_cdf(x),
        Activation::Tanh => x.tanh(),
    }
}

/// f', from what the activation saves: relu and tanh their output, gelu its input.
pub(super) fn derivative(f: Activation, saved: f64) -> f64 {
    match f {
        Activation::Relu if saved > 0.0 => 1.0,
        Activation::Relu => 0.0,
        Activation::Gelu => normal_cdf(saved) + saved * normal_density(saved),
        Activation::Tanh => 1.0 - saved * saved,
    }
}

fn normal_cdf(x: f64) -> f64 {
    0.5 * (1.0 + libm::erf(x * FRAC_1_SQRT_2))
}

fn normal_density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / (2.0 * PI).sqrt()
}

/// `x` within +-`bound`, NaN unchanged; unlike `f64::clamp` it accepts any bound.
pub(super) fn clamp(x: f64, bound: f64) -> f64 {
    if x > bound {
        bound
    } else if x < -bound {
        -bound
    } else {
        x
    }
}

/// `f(x)` of every element.
pub(super) fn activate(x: &[f64], f: Activation) -> Vec<f64> {
    x.iter().map(|&x| activation(f, x)).collect()
}

/// `x . f'`.
pub(super) fn gate(x: &[f64], saved: &[f64], f: Activation) -> Vec<f64> {
    x.iter().zip(saved).map(|(x, &saved)| x * derivative(f, saved)).collect()
}

/// `x . mask / (1 - drop)`, a draw for so many elements `together`; the key is (stream, step, seed).
pub(super) fn dropout(x: &[f64], drop: f64, together: u32, [stream, step, seed]: [u32; 3]) -> Vec<f64> {
    // The shader compares in f32; with the same rounded bound both draw the same mask.
    let bound = f64::from(drop as f32);
    let kept = |element: u32| unit(pcg4d([element / together, stream, step, seed])[0]) >= bound;
    x.iter().zip(0..).map(|(x, element)| if kept(element) { x / (1.0 - drop) } else { 0.0 }).collect()
}

/// `a + b`.
pub(super) fn add(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// `x` if its norm says that it is more than rounding beside `scale`, else zeros.
pub(super) fn significant(x: &[f64], scale: &[f64]) -> Vec<f64> {
    let norm = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
    let kept = norm(x) > Significant::THRESHOLD * norm(scale);
    x.iter().map(|&x| if kept { x } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::tests::{assert_close, noise};

    #[test]
    fn relu_keeps_what_is_positive_and_nan() {
        assert_eq!(activate(&[-2.0, 0.0, 3.0], Activation::Relu), [0.0, 0.0, 3.0]);
        assert!(activation(Activation::Relu, f64::NAN).is_nan());
    }

    #[test]
    fn sums_go_element_by_element() {
        assert_eq!(add(&[1.0, -2.0, 0.5], &[10.0, 2.0, f64::INFINITY]), [11.0, 0.0, f64::INFINITY]);
    }

    #[test]
    fn a_difference_within_rounding_of_its_terms_is_zero() {
        assert_eq!(significant(&[1e-7, -3e-7], &[1.0, 2.0]), [0.0, 0.0]);
        assert_eq!(significant(&[1e-7, -3e-6], &[1.0, 2.0]), [1e-7, -3e-6], "kept or dropped as a whole");
    }

    #[test]
    fn relu_gates_by_its_output() {
        assert_eq!(gate(&[5.0, -6.0, 7.0], &[0.0, 2.0, -1.0], Activation::Relu), [0.0, -6.0, 0.0]);
    }

    /// Phi(1) = 0.841344746068542948585..., Phi(-2) = 0.022750131948179207200...
    #[test]
    fn gelu_is_x_times_the_normal_distribution() {
        let values = activate(&[1.0, -2.0, 0.0], Activation::Gelu);
        assert_close(&values, &[0.841_344_746_068_543, -2.0 * 0.022_750_131_948_179_21, 0.0], 1e-15);
    }

    #[test]
    fn gelu_gate_is_the_derivative_of_gelu() {
        let (x, h) = (noise(50, 1), 1e-5);
        let f = |x| activation(Activation::Gelu, x);
        let slopes: Vec<f64> = x.iter().map(|x| (f(x + h) - f(x - h)) / (2.0 * h)).collect();
        assert_close(&gate(&vec![1.0; x.len()], &x, Activation::Gelu), &slopes, 1e-9);
    }

    #[test]
    fn tanh_gate_is_the_derivative_of_tanh() {
        let (x, h) = (noise(50, 1), 1e-5);
        let slopes: Vec<f64> = x.iter().map(|x| ((x + h).tanh() - (x - h).tanh()) / (2.0 * h)).collect();
        let saved = activate(&x, Activation::Tanh);
        assert_close(&gate(&vec![1.0; x.len()], &saved, Activation::Tanh), &slopes, 1e-9);
    }

    #[test]
    fn gelu_is_the_identity_far_right_and_zero_far_left() {
        assert_eq!(activation(Activation::Gelu, 40.0), 40.0);
        assert_eq!(activation(Activation::Gelu, -40.0), 0.0);
        assert_eq!(derivative(Activation::Gelu, 40.0), 1.0);
        assert_eq!(derivative(Activation::Gelu, -40.0), 0.0);
    }

    #[test]
    fn clamp_bounds_both_sides_and_passes_nan() {
        assert_eq!([-3.0, -0.5, 3.0].map(|x| clamp(x, 1.0)), [-1.0, -0.5, 1.0]);
        assert!(clamp(f64::NAN, 1.0).is_nan());
    }

    #[test]
    fn dropout_drops_about_that_share_and_scales_the_rest() {
        let x = vec![1.0; 20_000];
        let out = dropout(&x, 0.4, 1, [3, 7, 11]);
        assert!(out.iter().all(|&v| v == 0.0 || v == 1.0 / 0.6));
        let dropped = out.iter().filter(|&&v| v == 0.0).count() as f64 / 20_000.0;
        // Five standard deviations of a share of 20000 draws.
        assert!((dropped - 0.4).abs() < 0.0174, "{dropped}");
    }

    #[test]
    fn dropout_masks_depend_on_every_word_of_the_key_and_on_nothing_else() {
        let mask = |x: f64, key| dropout(&[x; 64], 0.5, 1, key).iter().map(|&v| v != 0.0).collect::<Vec<_>>();
        let first = mask(1.0, [1, 2, 3]);
        assert_eq!(first, mask(-7.0, [1, 2, 3]));
        for other in [[0, 2, 3], [1, 0, 3], [1, 2, 0]] {
            assert_ne!(first, mask(1.0, other));
        }
    }

    /// A group takes the draw that its number has where every element has one.
    #[test]
    fn elements_are_dropped_together() {
        let alone = dropout(&[1.0; 20], 0.5, 1, [1, 2, 3]);
        let expected: Vec<f64> = alone.iter().flat_map(|&kept| [kept; 7]).collect();
        assert_eq!(dropout(&[1.0; 140], 0.5, 7, [1, 2, 3]), expected);
    }

    #[test]
    fn dropout_of_nothing_changes_nothing() {
        let x = noise(100, 2);
        assert_eq!(dropout(&x, 0.0, 1, [1, 2, 3]), x);
    }

    /// In f32 the bound is the very number drawn, so the element stays; in f64 it would lie above.
    #[test]
    fn dropout_compares_as_the_shader_does() {
        let drawn = (0..).map(|stream| (stream, unit(pcg4d([0, stream, 6, 7])[0])));
        let (stream, drawn) = drawn.take(100).find(|&(_, drawn)| drawn > 0.5).expect("a draw in the upper half");
        let drop = drawn + 1e-9;
        assert_eq!(f64::from(drop as f32), drawn);
        assert_eq!(dropout(&[1.0], drop, 1, [stream, 6, 7]), [1.0 / (1.0 - drop)]);
    }
}
