//! Normalisation of columns: batch norm and the scaled errors of the Oja rule.

use super::matrix::Matrix;

/// Mean and variance of every column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moments<'a> {
    mean: &'a [f64],
    variance: &'a [f64],
}

impl<'a> From<Matrix<'a>> for Moments<'a> {
    /// From a row of means and a row of variances.
    fn from(matrix: Matrix<'a>) -> Moments<'a> {
        Moments { mean: matrix.row(0), variance: matrix.row(1) }
    }
}

impl Moments<'_> {
    fn deviation(&self, col: usize, epsilon: f64) -> f64 {
        (self.variance[col] + epsilon).sqrt()
    }

    /// x of mean 0 and variance 1.
    fn normalised(&self, x: f64, col: usize, epsilon: f64) -> f64 {
        (x - self.mean[col]) / self.deviation(col, epsilon)
    }
}

/// `gamma xhat + beta`.
pub(super) fn normalise(x: Matrix<'_>, moments: Moments<'_>, gamma: &[f64], beta: &[f64], epsilon: f64) -> Vec<f64> {
    x.map(|col, value| gamma[col] * moments.normalised(value, col, epsilon) + beta[col])
}

/// Gradients of gamma and of beta.
pub(super) fn normalise_gradients(
    error: Matrix<'_>,
    x: Matrix<'_>,
    moments: Moments<'_>,
    epsilon: f64,
) -> (Vec<f64>, Vec<f64>) {
    let (mut gamma, mut beta) = (vec![0.0; x.cols], vec![0.0; x.cols]);
    for row in 0..x.rows {
        for col in 0..x.cols {
            gamma[col] += error.at(row, col) * moments.normalised(x.at(row, col), col, epsilon);
            beta[col] += error.at(row, col);
        }
    }
    (gamma, beta)
}

/// The scale of a batch norm layer and what [`normalise_gradients`] found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale<'a> {
    pub(super) gamma: &'a [f64],
    pub(super) grad_gamma: &'a [f64],
    pub(super) grad_beta: &'a [f64],
}

/// `gamma / deviation (error - grad_beta / rows - xhat . grad_gamma / rows)`.
pub(super) fn normalise_backward(
    error: Matrix<'_>,
    x: Matrix<'_>,
    moments: Moments<'_>,
    scale: Scale<'_>,
    epsilon: f64,
) -> Vec<f64> {
    let rows = x.rows as f64;
    let mut errors = error.data.iter();
    x.map(|col, value| {
        let error = errors.next().copied().unwrap_or_default();
        let along = moments.normalised(value, col, epsilon) * scale.grad_gamma[col] / rows;
        scale.gamma[col] / moments.deviation(col, epsilon) * (error - scale.grad_beta[col] / rows - along)
    })
}

/// Factor from the biased to the unbiased variance of so many rows.
fn unbiased(rows: usize) -> f64 {
    rows as f64 / (rows as f64 - 1.0)
}

/// The running moments after a batch of so many rows: means, then variances.
pub(super) fn track_moments(moments: Moments<'_>, running: Moments<'_>, momentum: f64, rows: usize) -> Vec<f64> {
    let toward = |(old, new): (&f64, f64)| old + momentum * (new - old);
    let means = running.mean.iter().zip(moments.mean.iter().copied()).map(toward);
    let variances = running.variance.iter().zip(moments.variance.iter().map(|v| v * unbiased(rows))).map(toward);
    means.chain(variances).collect()
}

#[cfg(test)]
mod tests {
    use super::super::columns;
    use super::*;
    use crate::reference::tests::{assert_close, differences, dot, noise};

    const EPSILON: f64 = 1e-5;

    fn batch_norm(x: &[f64], cols: usize, gamma: &[f64], beta: &[f64]) -> Vec<f64> {
        let x = Matrix::new(x.len() / cols, cols, x);
        let moments = columns::moments(x);
        normalise(x, Matrix::new(2, cols, &moments).into(), gamma, beta, EPSILON)
    }

    #[test]
    fn normalise_by_hand() {
        let (x, moments) = ([5.0, 1.0, 1.0, 1.0], [3.0, 0.0, 3.0, 0.0]);
        let out = normalise(Matrix::new(2, 2, &x), Matrix::new(2, 2, &moments).into(), &[4.0, 0.5], &[10.0, 1.0], 1.0);
        assert_eq!(out, [14.0, 1.5, 6.0, 1.5]);
    }

    #[test]
    fn the_gradients_are_derivatives_of_the_whole_layer() {
        let (rows, cols) = (6, 3);
        let (x, error) = (noise(rows * cols, 1), noise(rows * cols, 2));
        let (gamma, beta) = (noise(cols, 3), noise(cols, 4));
        let at = |data| Matrix::new(rows, cols, data);
        let moments = columns::moments(at(&x));
        let moments = Matrix::new(2, cols, &moments).into();

        let (grad_gamma, grad_beta) = normalise_gradients(at(&error), at(&x), moments, EPSILON);
        let scale = Scale { gamma: &gamma, grad_gamma: &grad_gamma, grad_beta: &grad_beta };
        let grad_x = normalise_backward(at(&error), at(&x), moments, scale, EPSILON);

        // With the loss sum(error . out), dL/dout is the error.
        let of_x = differences(&x, |x| dot(&error, &batch_norm(x, cols, &gamma, &beta)));
        let of_gamma = differences(&gamma, |gamma| dot(&error, &batch_norm(&x, cols, gamma, &beta)));
        let of_beta = differences(&beta, |beta| dot(&error, &batch_norm(&x, cols, &gamma, beta)));
        assert_close(&grad_x, &of_x, 1e-8);
        assert_close(&grad_gamma, &of_gamma, 1e-8);
        assert_close(&grad_beta, &of_beta, 1e-8);
    }

    /// The layer's output does not change when a constant is added to a column, so its errors sum to nothing.
    #[test]
    fn backward_errors_have_no_column_mean() {
        let (x, error, gamma) = (noise(40, 1), noise(40, 2), noise(4, 3));
        let (x, error) = (Matrix::new(10, 4, &x), Matrix::new(10, 4, &error));
        let moments = columns::moments(x);
        let moments = Matrix::new(2, 4, &moments).into();
        let (grad_gamma, grad_beta) = normalise_gradients(error, x, moments, EPSILON);
        let scale = Scale { gamma: &gamma, grad_gamma: &grad_gamma, grad_beta: &grad_beta };
        let out = normalise_backward(error, x, moments, scale, EPSILON);
        assert_close(&columns::column_sum(Matrix::new(10, 4, &out)), &[0.0; 4], 1e-12);
    }

    #[test]
    fn running_moments_move_towards_the_unbiased_ones() {
        let (batch, running) = ([2.0, 4.0], [1.0, 1.0]);
        let tracked = track_moments(Matrix::new(2, 1, &batch).into(), Matrix::new(2, 1, &running).into(), 0.1, 5);
        // 1 + 0.1 (2 - 1), 1 + 0.1 (4 * 5/4 - 1).
        assert_close(&tracked, &[1.1, 1.4], 1e-15);
    }
}
