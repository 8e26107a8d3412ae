//! How alike two layers represent the same inputs, whatever their units are called.

use faer::{Mat, MatRef, Side};

/// Share of a representation's variance that SVCCA keeps.
const KEPT_VARIANCE: f64 = 0.99;

/// What one layer makes of some inputs, centred.
#[derive(Clone, Debug)]
pub struct Representation {
    /// inputs x units, columns of mean zero.
    values: Mat<f64>,
    /// Norm of the units' covariance, times the inputs.
    norm: f64,
    /// inputs x kept: orthonormal coordinates of the directions with the most variance.
    directions: Mat<f64>,
}

impl Representation {
    /// Of `values`, inputs x units, row-major. None if the inputs are all represented alike, or a number is not finite.
    pub fn new(values: &[f64], units: usize) -> Option<Representation> {
        let inputs = values.len().checked_div(units)?;
        if inputs * units != values.len() || inputs == 0 || values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let values = MatRef::from_row_major_slice(values, inputs, units);
        let means: Vec<f64> = values.col_iter().map(|unit| unit.sum() / inputs as f64).collect();
        let values = Mat::from_fn(inputs, units, |input, unit| values[(input, unit)] - means[unit]);
        // The smaller of both products has the same eigenvalues but for zeros.
        let wide = units > inputs;
        let product = if wide { &values * values.transpose() } else { values.transpose() * &values };
        let norm = product.norm_l2();
        // What is left of units that never change is rounding.
        let least = 1e-24 * inputs as f64 * means.iter().map(|mean| mean * mean).sum::<f64>();
        if !(norm > least && norm.is_finite()) {
            return None;
        }
        let decomposed = product.self_adjoint_eigen(Side::Lower).ok()?;
        let size = product.nrows();
        // In ascending order; a sum of squares has none below zero but by rounding.
        let squares: Vec<f64> = (0..size).rev().map(|at| decomposed.S()[at].max(0.0)).collect();
        let all: f64 = squares.iter().sum();
        let mut sum = 0.0;
        let kept = squares.iter().take_while(|square| {
            let below = sum < KEPT_VARIANCE * all;
            sum += **square;
            below
        });
        let kept = kept.count();
        let vectors = Mat::from_fn(size, kept, |row, at| decomposed.U()[(row, size - 1 - at)]);
        let directions = if wide {
            vectors
        } else {
            let scaled = Mat::from_fn(size, kept, |row, at| vectors[(row, at)] / squares[at].sqrt());
            &values * scaled
        };
        Some(Representation { values, norm, directions })
    }

    /// Inputs that are represented.
    pub fn inputs(&self) -> usize {
        self.values.nrows()
    }

    /// Linear centred kernel alignment (Kornblith et al., 2019), 0 to 1: the squared norm of the covariance between both layers'
    /// units over the norms of their own covariances. Rotations and a common scale of the units do not matter. Both are of the same
    /// inputs.
    pub fn cka(&self, other: &Representation) -> f64 {
        let between = (self.values.transpose() * &other.values).squared_norm_l2();
        between / (self.norm * other.norm)
    }

    /// Singular vector canonical correlation (Raghu et al., 2017), 0 to 1: the mean canonical correlation between the directions that
    /// hold 99 % of either layer's variance. Any invertible linear map of those does not matter. Both are of the same inputs.
    pub fn svcca(&self, other: &Representation) -> Option<f64> {
        let correlations = (self.directions.transpose() * &other.directions).singular_values().ok()?;
        let sum: f64 = correlations.iter().map(|correlation| correlation.clamp(0.0, 1.0)).sum();
        Some(sum / correlations.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUTS: usize = 60;

    fn noise(seed: usize, units: usize) -> Mat<f64> {
        let value = |i: usize, j: usize| {
            // splitmix64
            let mut mixed = ((seed * 1000 + i) * 1000 + j) as u64;
            mixed = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64 - 0.5
        };
        Mat::from_fn(INPUTS, units, value)
    }

    fn of(values: &Mat<f64>) -> Representation {
        let rows: Vec<f64> = values.row_iter().flat_map(|row| row.iter().copied().collect::<Vec<_>>()).collect();
        Representation::new(&rows, values.ncols()).unwrap()
    }

    #[test]
    fn a_rotated_scaled_and_shifted_copy_is_the_same() {
        let values = noise(1, 6);
        let rotation = noise(2, 6).qr().compute_thin_Q().transpose() * noise(3, 6);
        let rotation = rotation.qr().compute_thin_Q();
        let copy = Mat::from_fn(INPUTS, 6, |i, j| 3.0 * (&values * &rotation)[(i, j)] + j as f64);
        assert!((of(&values).cka(&of(&copy)) - 1.0).abs() < 1e-9);
        assert!((of(&values).svcca(&of(&copy)).unwrap() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn stretching_an_axis_changes_cka_only() {
        let values = noise(1, 3);
        let stretched = Mat::from_fn(INPUTS, 3, |i, j| values[(i, j)] * [1.0, 1.0, 5.0][j]);
        let (plain, stretched) = (of(&values), of(&stretched));
        assert!(plain.cka(&stretched) < 0.9, "{}", plain.cka(&stretched));
        assert!((plain.svcca(&stretched).unwrap() - 1.0).abs() < 1e-9);
    }

    /// By hand: the first unit is shared, the second is not.
    #[test]
    fn half_of_it_shared() {
        let wave = |period: f64| (0..INPUTS).map(move |i| (std::f64::consts::TAU * i as f64 / period).cos());
        let [a, b, c] = [60.0, 30.0, 20.0].map(|period| wave(period).collect::<Vec<_>>());
        let pair = |other: &[f64]| Mat::from_fn(INPUTS, 2, |i, j| [a[i], other[i]][j]);
        let (first, second) = (of(&pair(&b)), of(&pair(&c)));
        // Orthogonal units of equal norm n: |X^T Y|^2 = n^4, |X^T X| = |Y^T Y| = sqrt(2) n^2.
        assert!((first.cka(&second) - 0.5).abs() < 1e-9, "{}", first.cka(&second));
        assert!((first.svcca(&second).unwrap() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn both_are_symmetric_and_low_without_relation() {
        let (one, other) = (of(&noise(1, 4)), of(&noise(9, 7)));
        assert!((one.cka(&other) - other.cka(&one)).abs() < 1e-12);
        assert!(one.cka(&other) < 0.3 && one.svcca(&other).unwrap() < 0.6);
    }

    #[test]
    fn more_units_than_inputs() {
        let wide = noise(4, 90);
        let copy = Mat::from_fn(INPUTS, 90, |i, j| -2.0 * wide[(i, 89 - j)]);
        assert!((of(&wide).cka(&of(&copy)) - 1.0).abs() < 1e-9);
        assert!((of(&wide).svcca(&of(&copy)).unwrap() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn nothing_is_no_representation() {
        assert!(Representation::new(&[], 3).is_none());
        assert!(Representation::new(&[1.0; 12], 3).is_none());
        assert!(Representation::new(&[0.1; 180], 3).is_none(), "means are off by rounding");
        assert!(Representation::new(&[1.0; 4], 0).is_none());
        assert!(Representation::new(&[1.0, 2.0, f64::NAN, 0.0], 2).is_none());
        assert!(Representation::new(&[1.0, 2.0, 3.0], 2).is_none());
    }
}
