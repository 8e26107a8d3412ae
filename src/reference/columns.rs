//! Reductions over the rows of a matrix.

use super::matrix::Matrix;

/// Sum over the rows.
pub(super) fn column_sum(x: Matrix<'_>) -> Vec<f64> {
    let mut sums = vec![0.0; x.cols];
    for row in 0..x.rows {
        for (sum, value) in sums.iter_mut().zip(x.row(row)) {
            *sum += value;
        }
    }
    sums
}

/// Sums over the rows of `error . x`, each over `depth` rows after the other.
pub(super) fn scale_gradient(error: Matrix<'_>, x: Matrix<'_>, depth: usize) -> Vec<f64> {
    let mut sums = vec![0.0; x.rows.div_ceil(depth.max(1)) * x.cols];
    for row in 0..x.rows {
        for col in 0..x.cols {
            sums[row / depth * x.cols + col] += error.at(row, col) * x.at(row, col);
        }
    }
    sums
}

/// Means, then biased variances, of the columns.
pub(super) fn moments(x: Matrix<'_>) -> Vec<f64> {
    let mean = |sum: f64| sum / x.rows as f64;
    let mut means: Vec<f64> = column_sum(x).into_iter().map(mean).collect();
    let squares = x.map(|col, value| (value - means[col]).powi(2));
    means.extend(column_sum(Matrix { data: &squares, ..x }).into_iter().map(mean));
    means
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::tests::{assert_close, noise};

    #[test]
    fn sums_run_down_the_columns() {
        assert_eq!(column_sum(Matrix::new(2, 3, &[1.0, 2.0, 3.0, 10.0, 20.0, 30.0])), [11.0, 22.0, 33.0]);
    }

    #[test]
    fn gradients_of_factors_by_hand() {
        let (error, x) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, -1.0, 10.0, 0.5, 2.0, 0.0]);
        let (error, x) = (Matrix::new(3, 2, &error), Matrix::new(3, 2, &x));
        assert_eq!(scale_gradient(error, x, 3), [41.0, 0.0]);
        assert_eq!(scale_gradient(error, x, 2), [31.0, 0.0, 10.0, 0.0]);
    }

    #[test]
    fn moments_by_hand() {
        let x = [1.0, 5.0, 2.0, 5.0, 6.0, 5.0];
        assert_eq!(moments(Matrix::new(3, 2, &x)), [3.0, 5.0, 14.0 / 3.0, 0.0]);
    }

    #[test]
    fn one_row_has_itself_as_mean_and_no_variance() {
        assert_eq!(moments(Matrix::new(1, 2, &[3.0, -4.0])), [3.0, -4.0, 0.0, 0.0]);
    }

    /// E[x^2] - E[x]^2 would lose every digit here.
    #[test]
    fn a_large_mean_costs_no_digits() {
        let small = noise(60, 1);
        let large: Vec<f64> = small.iter().map(|x| x + 1e8).collect();
        let (small, large) = (moments(Matrix::new(20, 3, &small)), moments(Matrix::new(20, 3, &large)));
        assert_close(&large[3..], &small[3..], 1e-7);
    }
}
