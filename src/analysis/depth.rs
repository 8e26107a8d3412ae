//! Whether depth is used: what a residual block adds to the stream, and whether a layer's error says the same of every
//! sample.
//!
//! Of a direction there are several definitions. Errors themselves cannot be compared: other batches have other
//! samples. The gradient of the weight, error^T input summed over samples, can. Two epochs differ in their weights too,
//! so that a cosine between their gradients mixes noise with learning and depends on the learning rate. Here the
//! weights are the same: the batch is cut in two, and the cosine is that between the gradients of both halves. It is 1
//! where every sample asks for the same change, near 0 where what one half teaches says nothing of the other (then the
//! layer takes a random walk, however large its error is), and with independent samples of signal s and noise n, in
//! norms over a half, its expectation is about s^2 / (s^2 + n^2). Batch norm shares its statistics between the halves.

/// A layer of one network over a batch. What is not defined, or not measured of such a layer, is `None`, never a number
/// that looks like one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Depth {
    /// Of a residual block: root mean square of its output over that of its input; none for an input of zeros.
    pub growth: Option<f64>,
    /// Of a residual block: root mean square of what its long way makes over that of the sum; none for a sum of zeros.
    /// Above 1 where both ways cancel.
    pub long_share: Option<f64>,
    /// Of a layer with a weight: root mean square of the error at its output, over samples, positions and columns.
    pub error_rms: Option<f64>,
    /// Of a layer with a weight: cosine between its gradients from both halves of the batch, -1 to 1; none where a half
    /// has no gradient.
    pub gradient_cosine: Option<f64>,
}

impl Depth {
    /// Of a residual block: what it takes, what its long way makes, and the sum. Extents may differ.
    pub fn of_block(input: &[f64], long: &[f64], output: &[f64]) -> Depth {
        let ratio = |a: &[f64], b: &[f64]| (rms(b) > 0.0).then(|| rms(a) / rms(b)).filter(|ratio| ratio.is_finite());
        Depth { growth: ratio(output, input), long_share: ratio(long, output), ..Depth::default() }
    }

    /// Of a layer with a weight: the error at its output, and the weight's gradients from the whole batch and from its
    /// first half, if it can be halved.
    pub fn of_weight(error: &[f64], gradients: Option<[&[f64]; 2]>) -> Depth {
        let error_rms = Some(rms(error)).filter(|rms| rms.is_finite());
        Depth { error_rms, gradient_cosine: gradients.and_then(between_halves), ..Depth::default() }
    }
}

/// Share of a gradient that its rounding to 32 bits may leave where there is nothing.
const ROUNDING: f64 = 1e-5;

/// Cosine between the gradient of the first half and what the second has added to it.
fn between_halves([whole, first]: [&[f64]; 2]) -> Option<f64> {
    let second: Vec<f64> = whole.iter().zip(first).map(|(whole, first)| whole - first).collect();
    let is_something = rms(&second) > ROUNDING * rms(first) && rms(first) > ROUNDING * rms(&second);
    is_something.then(|| cosine(first, &second)).flatten()
}

/// Largest magnitude.
fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, value| value.abs().max(most))
}

/// Root mean square; 0 of nothing. Scaled, so that no square of a vanishing error is lost.
pub(super) fn rms(values: &[f64]) -> f64 {
    let scale = largest(values);
    if scale == 0.0 {
        // A NaN is no magnitude: it must not pass for a zero.
        return if values.iter().any(|value| value.is_nan()) { f64::NAN } else { 0.0 };
    }
    let squares: f64 = values.iter().map(|value| (value / scale).powi(2)).sum();
    scale * (squares / values.len() as f64).sqrt()
}

/// Of the angle between two vectors; none where one is zero, or a number is not finite.
fn cosine(a: &[f64], b: &[f64]) -> Option<f64> {
    let (scale_a, scale_b) = (largest(a), largest(b));
    if scale_a == 0.0 || scale_b == 0.0 {
        return None;
    }
    let (mut product, mut square_a, mut square_b) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b).map(|(a, b)| (a / scale_a, b / scale_b)) {
        product += a * b;
        square_a += a * a;
        square_b += b * b;
    }
    let cosine = product / (square_a * square_b).sqrt();
    cosine.is_finite().then(|| cosine.clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &[f64], b: &[f64]) -> Vec<f64> {
        a.iter().zip(b).map(|(a, b)| a + b).collect()
    }

    fn close(found: Option<f64>, expected: f64) -> bool {
        found.is_some_and(|found| (found - expected).abs() < 1e-12)
    }

    /// RMS 5 / sqrt 2 of the input, 1 of the long way, and 2 of the sum, which is over more numbers.
    #[test]
    fn a_block_by_hand() {
        let found = Depth::of_block(&[3.0, -4.0], &[1.0, -1.0, 1.0, 1.0], &[0.0, 4.0, 0.0, 0.0]);
        assert!(close(found.growth, 2.0 * 2f64.sqrt() / 5.0) && close(found.long_share, 0.5), "{found:?}");
        assert_eq!((found.error_rms, found.gradient_cosine), (None, None));
    }

    /// (3, 4) and (4, 3): 24 / 25. A length does not count, a sign does.
    #[test]
    fn a_weight_by_hand() {
        let of = |a: &[f64], b: &[f64]| Depth::of_weight(&[1.0, -1.0, 7.0, 7.0], Some([&sum(a, b), a]));
        let found = of(&[3.0, 4.0], &[4.0, 3.0]);
        assert!(close(found.error_rms, 5.0) && close(found.gradient_cosine, 24.0 / 25.0), "{found:?}");
        assert!(close(of(&[3.0, 4.0], &[-40.0, -30.0]).gradient_cosine, -24.0 / 25.0));
        assert!(close(of(&[3.0, 4.0], &[-8.0, 6.0]).gradient_cosine, 0.0));
        assert_eq!((found.growth, found.long_share), (None, None));
    }

    #[test]
    fn what_vanishes_keeps_its_size_and_its_direction() {
        let tiny = [3e-200, 4e-200];
        let found = Depth::of_weight(&tiny, Some([&sum(&tiny, &[4e-200, 3e-200]), &tiny]));
        assert!((found.error_rms.unwrap() / (5e-200 / 2f64.sqrt()) - 1.0).abs() < 1e-12, "{found:?}");
        assert!(close(found.gradient_cosine, 24.0 / 25.0), "{found:?}");
    }

    #[test]
    fn what_is_not_defined_is_no_number() {
        let (zero, one) = ([0.0; 2], [1.0; 2]);
        // The last is what rounding leaves of a second half without a gradient.
        for gradients in [[&one, &zero], [&one, &one], [&zero, &zero], [&[1.0, 1.000_000_1], &one]] {
            let found = Depth::of_weight(&zero, Some(gradients.map(|of| &of[..])));
            assert_eq!((found.error_rms, found.gradient_cosine), (Some(0.0), None));
        }
        assert_eq!(Depth::of_weight(&one, None), Depth { error_rms: Some(1.0), ..Depth::default() });
        assert_eq!(Depth::of_block(&zero, &one, &zero), Depth::default());
        for bad in [f64::NAN, f64::INFINITY] {
            for bad in [[bad, 1.0], [1.0, bad], [bad, bad]] {
                assert_eq!(Depth::of_weight(&bad, Some([&bad, &one])), Depth::default());
                assert_eq!(Depth::of_block(&bad, &one, &bad), Depth::default());
            }
        }
    }
}
