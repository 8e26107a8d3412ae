//! How far single precision may be from the f64 reference.

use crate::ops::{Op, Window};

/// Unit roundoff of f32.
const UNIT: f64 = 1.0 / (1u64 << 24) as f64;

/// What rounding both factors to 16 bits can amount to: WGSL lets a conversion round either way, so each may be off by
/// a whole unit of its last place where the reference rounds to the nearest.
const HALF: f64 = 2.0 / (1u64 << 10) as f64;

/// What rounding can amount to, relative to the norm of the result. Roundings of a sum of n terms wander: their spread
/// grows with the root of n. The rest of an operation (exponentials, roots, quotients, at WGSL's precision) adds a few.
pub fn allowance(op: &Op) -> f64 {
    let terms = match op {
        Op::Gemm(gemm) => gemm.inner(),
        Op::Transport(transport) => transport.delta.cols() + transport.p.cols(),
        Op::SumSplits(sum) => sum.splits(),
        Op::Correlate(correlate) => correlate.x.rows(),
        Op::Oja(oja) => oja.p.cols(),
        Op::ColumnSum(sum) => sum.x.rows(),
        Op::ScaleGradient(gradient) => gradient.depth(),
        Op::Moments(moments) => moments.x.rows(),
        Op::NormaliseGradients(gradients) => gradients.x.rows(),
        Op::LayerNorm(norm) => norm.x.cols(),
        Op::LayerNormBackward(norm) => norm.x.cols(),
        Op::LayerNormGradients(norm) => norm.depth(),
        // Scores, then what they weigh.
        Op::Attention(attention) => attention.heads.width(attention.out.cols()) + attention.heads.length,
        Op::AttentionQueries(queries) => queries.heads.width(queries.out.cols()) + queries.heads.length,
        Op::AttentionKeys(keys) => keys.heads.width(keys.error.cols()) + keys.heads.length,
        // A step's sums go on into the next one's.
        Op::Recurrence(op) => op.out.cols() * op.steps.length,
        Op::RecurrenceBackward(op) => op.gates.cols() * op.steps.length,
        Op::Tally(tally) => tally.losses.rows(),
        Op::AveragePool(pool) => pool.window.taps(),
        Op::MaxPoolBackward(pool) => windows_over_a_pixel(&pool.window),
        Op::AveragePoolBackward(pool) => windows_over_a_pixel(&pool.window),
        _ => 0,
    };
    // A rotated pixel is a difference of neighbours times its place, which is tens of pixels from the centre.
    let place = if matches!(op, Op::Gather(gather) if gather.augment.rotation > 0.0) { 64.0 } else { 0.0 };
    let half = if matches!(op, Op::Gemm(gemm) if gemm.half.is_some()) { HALF } else { 0.0 };
    half + UNIT * (16.0 + 2.0 * f64::from(terms).sqrt() + place)
}

/// At most.
fn windows_over_a_pixel(window: &Window) -> u32 {
    window.kernel[0].div_ceil(window.stride[0]) * window.kernel[1].div_ceil(window.stride[1])
}

/// The norm of the difference, relative to the norm of `magnitudes`; infinite if a value is not a number. The slices
/// are of one length.
pub fn relative_error(found: &[f64], expected: &[f64], magnitudes: &[f64]) -> f64 {
    let difference = found.iter().zip(expected).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    let scale = magnitudes.iter().map(|b| b * b).sum::<f64>().sqrt();
    let error = if scale > 0.0 { difference / scale } else { difference };
    if error.is_nan() { f64::INFINITY } else { error }
}

#[cfg(test)]
mod tests {
    use super::relative_error;

    #[test]
    fn the_comparison_notices_what_it_should() {
        let expected = [1.0, -2.0, 2.0];
        assert_eq!(relative_error(&expected, &expected, &expected), 0.0);
        assert!((relative_error(&[1.0, -2.0, 2.3], &expected, &expected) - 0.1).abs() < 1e-12);
        assert_eq!(relative_error(&[0.0; 3], &expected, &expected), 1.0);
        assert_eq!(relative_error(&[1.0, f64::NAN, 2.0], &expected, &expected), f64::INFINITY);
        assert_eq!(relative_error(&[0.5, 0.0], &[0.0, 0.0], &[0.0, 0.0]), 0.5, "absolute where nothing is expected");
    }
}
