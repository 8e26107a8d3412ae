//! Normalisation of rows: layer norm.

use super::matrix::Matrix;

/// Mean and `1 / sqrt(variance + epsilon)` of a row.
fn moments_of(row: &[f64], epsilon: f64) -> [f64; 2] {
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / row.len() as f64;
    let centre = mean(&mut row.iter().copied());
    let variance = mean(&mut row.iter().map(|x| (x - centre).powi(2)));
    [centre, 1.0 / (variance + epsilon).sqrt()]
}

/// The result, and the moments of every row.
pub(super) fn layer_norm(x: Matrix<'_>, gamma: &[f64], beta: &[f64], epsilon: f64) -> (Vec<f64>, Vec<f64>) {
    let moments: Vec<f64> = (0..x.rows).flat_map(|row| moments_of(x.row(row), epsilon)).collect();
    let normal = normalised(x, Matrix::new(x.rows, 2, &moments));
    let out = Matrix { data: &normal, ..x }.map(|col, value| gamma[col] * value + beta[col]);
    (out, moments)
}

/// xhat.
fn normalised(x: Matrix<'_>, moments: Matrix<'_>) -> Vec<f64> {
    let of_row = |row| x.row(row).iter().map(move |value| (value - moments.at(row, 0)) * moments.at(row, 1));
    (0..x.rows).flat_map(of_row).collect()
}

/// Gradients of gamma and of beta, each over `depth` rows after the other.
pub(super) fn gradients(error: Matrix<'_>, x: Matrix<'_>, moments: Matrix<'_>, depth: usize) -> (Vec<f64>, Vec<f64>) {
    let normal = normalised(x, moments);
    let splits = x.rows.div_ceil(depth.max(1));
    let (mut gamma, mut beta) = (vec![0.0; splits * x.cols], vec![0.0; splits * x.cols]);
    for row in 0..x.rows {
        for col in 0..x.cols {
            let at = row / depth * x.cols + col;
            gamma[at] += error.at(row, col) * normal[row * x.cols + col];
            beta[at] += error.at(row, col);
        }
    }
    (gamma, beta)
}

/// `(g - mean(g) - xhat . mean(g . xhat)) / sqrt(variance + epsilon)`, `g = gamma . error`.
pub(super) fn backward(error: Matrix<'_>, x: Matrix<'_>, moments: Matrix<'_>, gamma: &[f64]) -> Vec<f64> {
    let (normal, scaled) = (normalised(x, moments), error.map(|col, value| gamma[col] * value));
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / x.cols as f64;
    let of_row = |row: usize| {
        let range = row * x.cols..(row + 1) * x.cols;
        let (g, normal) = (&scaled[range.clone()], &normal[range]);
        let centre = mean(&mut g.iter().copied());
        let slope = mean(&mut g.iter().zip(normal).map(|(g, x)| g * x));
        g.iter().zip(normal).map(|(g, x)| (g - centre - x * slope) * moments.at(row, 1)).collect::<Vec<_>>()
    };
    (0..x.rows).flat_map(of_row).collect()
}

#[cfg(test)]
mod tests {
    use super::super::columns;
    use super::*;
    use crate::reference::tests::{assert_close, differences, dot, noise};

    const EPSILON: f64 = 1e-5;

    #[test]
    fn layer_norm_by_hand() {
        let (out, moments) = layer_norm(Matrix::new(2, 2, &[3.0, 5.0, 4.0, 4.0]), &[4.0, 0.5], &[10.0, 1.0], 3.0);
        // Means 4 and 4, variances 1 and 0.
        assert_eq!(moments, [4.0, 0.5, 4.0, 1.0 / 3f64.sqrt()]);
        assert_eq!(out, [8.0, 1.25, 10.0, 1.0]);
    }

    #[test]
    fn the_gradients_are_derivatives() {
        let (rows, cols) = (5, 4);
        let (x, error) = (noise(rows * cols, 1), noise(rows * cols, 2));
        let (gamma, beta) = (noise(cols, 3), noise(cols, 4));
        let at = |data| Matrix::new(rows, cols, data);
        let loss = |x: &[f64], gamma: &[f64], beta: &[f64]| {
            dot(&error, &layer_norm(Matrix::new(rows, cols, x), gamma, beta, EPSILON).0)
        };
        let (_, moments) = layer_norm(at(&x), &gamma, &beta, EPSILON);
        let moments = Matrix::new(rows, 2, &moments);

        let (grad_gamma, grad_beta) = gradients(at(&error), at(&x), moments, rows);
        assert_close(
            &backward(at(&error), at(&x), moments, &gamma),
            &differences(&x, |x| loss(x, &gamma, &beta)),
            1e-8,
        );
        assert_close(&grad_gamma, &differences(&gamma, |gamma| loss(&x, gamma, &beta)), 1e-8);
        assert_close(&grad_beta, &differences(&beta, |beta| loss(&x, &gamma, beta)), 1e-8);

        // Splits of two rows, the last of one.
        let (splits, _) = gradients(at(&error), at(&x), moments, 2);
        assert_eq!(splits.len(), 3 * cols);
        assert_close(&columns::column_sum(Matrix::new(3, cols, &splits)), &grad_gamma, 1e-12);
    }

    /// The layer's output does not change when a constant is added to a row, so its errors sum to nothing.
    #[test]
    fn backward_errors_have_no_row_mean() {
        let (x, error, gamma) = (noise(40, 1), noise(40, 2), noise(8, 3));
        let (x, error) = (Matrix::new(5, 8, &x), Matrix::new(5, 8, &error));
        let (_, moments) = layer_norm(x, &gamma, &[0.0; 8], EPSILON);
        let out = backward(error, x, Matrix::new(5, 2, &moments), &gamma);
        assert_close(&out.chunks(8).map(|row| row.iter().sum()).collect::<Vec<_>>(), &[0.0; 5], 1e-12);
    }

    /// E[x^2] - E[x]^2 would lose every digit here.
    #[test]
    fn a_large_mean_costs_no_digits() {
        let small = noise(60, 1);
        let large: Vec<f64> = small.iter().map(|x| x + 1e8).collect();
        let (one, zero) = ([1.0; 20], [0.0; 20]);
        let normal = |x| layer_norm(Matrix::new(3, 20, x), &one, &zero, EPSILON).0;
        assert_close(&normal(&large), &normal(&small), 1e-6);
    }
}
