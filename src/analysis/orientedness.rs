//! How much a receptive field prefers one orientation of a bar to the others (after Lindsey et al., ICLR 2019).

use std::f64::consts::PI;

use faer::Mat;

/// Orientations over half a turn, widths, and positions across the field.
const ORIENTATIONS: usize = 50;
const WIDTHS: usize = 30;
const PHASES: usize = 30;

/// Of fields of height x width pixels, row-major: the standard deviation, over orientations, of the response to the best bar of
/// that orientation.
///
/// A response is the absolute sum of a field's product with a bar from which its mean is taken. The width is that of the bar with
/// the largest response of all; of each orientation the position with the largest response counts. Responses are shares of the
/// largest, so that neither the size nor the sign of a field matters: 0 for a field that is the same in all directions. `None` for
/// fields that answer no bar, or that are not finite.
pub fn orientedness(fields: &[Vec<f64>], height: usize, width: usize) -> Vec<Option<f64>> {
    let pixels = height * width;
    if fields.is_empty() || pixels == 0 || fields.iter().any(|field| field.len() != pixels) {
        return vec![None; fields.len()];
    }
    let columns = Mat::from_fn(pixels, fields.len(), |pixel, field| fields[field][pixel]);
    // Of the best position: field by field, orientation by orientation, width by width.
    let mut best = vec![[[0.0f64; WIDTHS]; ORIENTATIONS]; fields.len()];
    for orientation in 0..ORIENTATIONS {
        let responses = bars(orientation, height, width) * &columns;
        for (field, best) in best.iter_mut().enumerate() {
            for (bar, response) in responses.col(field).iter().enumerate() {
                let most = &mut best[orientation][bar / PHASES];
                // A response that is not a number stays.
                if response.is_nan() || response.abs() > *most {
                    *most = response.abs();
                }
            }
        }
    }
    // What a field without any contrast answers is rounding.
    let least = |field: &[f64]| 1e-12 * field.iter().map(|value| value.abs()).sum::<f64>();
    best.iter().zip(fields).map(|(best, field)| spread(best, least(field))).collect()
}

/// All bars of an orientation without their means, a row each: the positions of a width one after the other.
fn bars(orientation: usize, height: usize, width: usize) -> Mat<f64> {
    let angle = PI * orientation as f64 / ORIENTATIONS as f64;
    let (across, down) = (angle.cos(), angle.sin());
    let middle = |count: usize| (count as f64 - 1.0) / 2.0;
    let side = height.max(width) as f64;
    let bars = Mat::from_fn(WIDTHS * PHASES, height * width, |bar, pixel| {
        // From one pixel to half of the field, each a constant factor wider.
        let breadth = (side / 2.0).max(1.0).powf((bar / PHASES) as f64 / (WIDTHS - 1) as f64);
        let position = side * ((bar % PHASES) as f64 / (PHASES - 1) as f64 - 0.5);
        let (x, y) = ((pixel % width) as f64 - middle(width), (pixel / width) as f64 - middle(height));
        // What the bar covers of the pixel, as if the pixel's sides were along it.
        (breadth / 2.0 + 0.5 - (across * x + down * y - position).abs()).clamp(0.0, 1.0)
    });
    let means: Vec<f64> = bars.row_iter().map(|bar| bar.sum() / (height * width) as f64).collect();
    Mat::from_fn(bars.nrows(), bars.ncols(), |bar, pixel| bars[(bar, pixel)] - means[bar])
}

/// Of the responses at the best width, as shares of the largest, which must be more than `least`.
fn spread(best: &[[f64; WIDTHS]; ORIENTATIONS], least: f64) -> Option<f64> {
    let most = |width: usize| best.iter().map(|of| of[width]).fold(0.0, f64::max);
    let width = (0..WIDTHS).max_by(|a, b| most(*a).total_cmp(&most(*b)))?;
    let largest = most(width);
    if best.iter().flatten().any(|response| !response.is_finite()) || largest <= least {
        return None;
    }
    let shares = best.map(|of| of[width] / largest);
    let mean = shares.iter().sum::<f64>() / ORIENTATIONS as f64;
    Some((shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / ORIENTATIONS as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 17;

    /// A field by coordinates from the centre.
    fn field(of: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        let at = |i: usize| i as f64 - (SIDE as f64 - 1.0) / 2.0;
        (0..SIDE * SIDE).map(|pixel| of(at(pixel % SIDE), at(pixel / SIDE))).collect()
    }

    fn gabor(angle: f64, phase: f64) -> Vec<f64> {
        field(|x, y| {
            let along = x * angle.cos() + y * angle.sin();
            (-(x * x + y * y) / 18.0).exp() * (0.9 * along + phase).cos()
        })
    }

    fn round(x: f64, y: f64) -> f64 {
        let squares = x * x + y * y;
        (-squares / 4.0).exp() - 0.3 * (-squares / 16.0).exp()
    }

    fn one(field: Vec<f64>) -> Option<f64> {
        orientedness(&[field], SIDE, SIDE)[0]
    }

    #[test]
    fn round_fields_have_none_and_gratings_much() {
        let round = one(field(round)).unwrap();
        assert!(round < 0.02, "{round}");
        for angle in [0.0, 0.4, 1.3, 2.5] {
            for phase in [0.0, 0.8, 1.57] {
                let oriented = one(gabor(angle, phase)).unwrap();
                assert!(oriented > 0.15, "{angle} {phase}: {oriented}");
            }
        }
    }

    #[test]
    fn more_elongation_is_more_orientation() {
        let blob = |length: f64| one(field(|x, y| (-x * x / 4.0 - y * y / (4.0 * length * length)).exp())).unwrap();
        let found = [1.0, 1.5, 2.0, 4.0].map(blob);
        assert!(found.windows(2).all(|pair| pair[0] + 0.01 < pair[1]), "{found:?}");
    }

    #[test]
    fn size_sign_offset_and_a_quarter_turn_do_not_matter() {
        let (plain, turned) = (gabor(0.3, 0.5), gabor(0.3 + PI / 2.0, 0.5));
        let changed = plain.iter().map(|value| 4.0 - 7.0 * value).collect();
        let found = orientedness(&[plain, changed, turned], SIDE, SIDE);
        let [Some(plain), Some(changed), Some(turned)] = found[..] else { panic!("{found:?}") };
        assert!((plain - changed).abs() < 1e-9 && (plain - turned).abs() < 1e-3, "{found:?}");
    }

    #[test]
    fn nothing_has_no_orientation() {
        let mut broken = gabor(0.0, 0.0);
        broken[40] = f64::NAN;
        let found = orientedness(&[vec![0.0; SIDE * SIDE], broken, gabor(0.0, 0.0)], SIDE, SIDE);
        assert!(found[0].is_none() && found[1].is_none() && found[2].is_some(), "{found:?}");
        assert_eq!(orientedness(&[vec![1.0; 3]], SIDE, SIDE), [None]);
        assert_eq!(orientedness(&[vec![]], 0, 0), [None]);
        assert!(orientedness(&[], SIDE, SIDE).is_empty());
        assert_eq!(one(vec![3.1; SIDE * SIDE]), None);
        assert_eq!(orientedness(&[vec![1.0]], 1, 1), [None]);
    }
}
