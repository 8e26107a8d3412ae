//! Statistics of errors, and the Oja rule's gradient from them.

use super::matrix::Matrix;

/// [`crate::ops::Correlate`]'s statistics, once for every `depth` rows.
pub(super) fn statistics(x: Matrix<'_>, y: Matrix<'_>, origin: Option<Matrix<'_>>, depth: usize) -> Vec<f64> {
    let own: Vec<f64> = x.row(0).iter().chain(y.row(0)).copied().collect();
    let first = origin.map_or(&own[..], |origin| origin.row(y.cols + 2));
    let wide = x.cols + y.cols;
    let part = |begin: usize| {
        let mut sums = vec![0.0; (y.cols + 3) * wide];
        if begin == 0 && origin.is_none() {
            sums[(y.cols + 2) * wide..].copy_from_slice(&own);
        }
        for row in begin..(begin + depth).min(x.rows) {
            let both = x.row(row).iter().chain(y.row(row));
            let shifted: Vec<f64> = both.zip(first).map(|(value, first)| value - first).collect();
            for (col, &value) in shifted.iter().enumerate() {
                for (rank, &y) in shifted[x.cols..].iter().enumerate() {
                    sums[rank * wide + col] += y * value;
                }
                sums[y.cols * wide + col] += value;
                sums[(y.cols + 1) * wide + col] += value * value;
            }
        }
        sums
    };
    (0..x.rows).step_by(depth.max(1)).flat_map(part).collect()
}

/// Keeps the division finite where all errors of a column are equal; the value is the method's.
const EPSILON: f64 = 1e-8;

/// The Oja rule's gradient of p (m x r) from statistics over so many rows.
pub(super) fn oja(statistics: Matrix<'_>, p: Matrix<'_>, rows: usize) -> Vec<f64> {
    let (width, rank, count) = (p.rows, p.cols, rows as f64);
    let mean = |col: usize| statistics.at(rank, col) / count;
    let covariance = |j: usize, col: usize| statistics.at(j, col) / count - mean(col) * mean(width + j);
    let variance = |col: usize| statistics.at(rank + 1, col) / count - mean(col).powi(2);
    let largest = (0..width).map(variance).fold(0.0, f64::max);
    let deviation = if rows > 1 { (largest * count / (count - 1.0)).sqrt() } else { 0.0 };
    let scale = (deviation + EPSILON).powi(2);
    let element = |row: usize, j: usize| {
        let inside: f64 = (0..rank).map(|l| p.at(row, l) * covariance(l, width + j)).sum();
        (inside - covariance(j, row)) / scale
    };
    (0..width).flat_map(|row| (0..rank).map(move |j| element(row, j))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::gemm::product;
    use super::*;
    use crate::reference::tests::{assert_close, noise};

    /// The rule as the method states it, with D formed.
    fn by_definition(x: Matrix<'_>, p: Matrix<'_>) -> Vec<f64> {
        let rows = x.rows as f64;
        let mean: Vec<f64> = (0..x.cols).map(|c| (0..x.rows).map(|r| x.at(r, c)).sum::<f64>() / rows).collect();
        let centred = x.map(|col, value| value - mean[col]);
        let largest =
            (0..x.cols).map(|c| (0..x.rows).map(|r| centred[r * x.cols + c].powi(2)).sum::<f64>()).fold(0.0, f64::max);
        let deviation = if x.rows > 1 { (largest / (rows - 1.0)).sqrt() } else { 0.0 };
        let d: Vec<f64> = centred.iter().map(|v| v / (deviation + 1e-8)).collect();
        let d = Matrix::new(x.rows, x.cols, &d);
        let y = product(d, p);
        let y = Matrix::new(x.rows, p.cols, &y);
        let (d_t, y_t) = (d.transposed(), y.transposed());
        let along = product(Matrix::new(x.cols, x.rows, &d_t), y);
        let gram = product(Matrix::new(p.cols, x.rows, &y_t), y);
        let inside = product(p, Matrix::new(p.cols, p.cols, &gram));
        along.iter().zip(&inside).map(|(along, inside)| (inside - along) / rows).collect()
    }

    fn from_statistics(x: Matrix<'_>, p: Matrix<'_>) -> Vec<f64> {
        let y = product(x, p);
        let statistics = statistics(x, Matrix::new(x.rows, p.cols, &y), None, x.rows);
        oja(Matrix::new(p.cols + 3, x.cols + p.cols, &statistics), p, x.rows)
    }

    #[test]
    fn statistics_by_hand() {
        let (x, y) = ([10.0, 20.0, 11.0, 22.0, 13.0, 19.0], [1.0, 3.0, 0.0]);
        let all = statistics(Matrix::new(3, 2, &x), Matrix::new(3, 1, &y), None, 2);
        // Shifted: x' = 0 0, 1 2, 3 -1; y' = 0, 2, -1. The second part holds the last row.
        let first = [2.0, 4.0, 4.0, 1.0, 2.0, 2.0, 1.0, 4.0, 4.0, 10.0, 20.0, 1.0];
        let second = [-3.0, 1.0, 1.0, 3.0, -1.0, -1.0, 9.0, 1.0, 1.0, 0.0, 0.0, 0.0];
        assert_eq!(all, [first, second].concat());
    }

    #[test]
    fn statistics_of_accumulation_steps_add_up_to_those_of_all_rows() {
        let (x, y) = (noise(12 * 5, 1), noise(12 * 2, 2));
        let of = |rows: std::ops::Range<usize>, origin: Option<&[f64]>| {
            let (x, y) = (&x[rows.start * 5..rows.end * 5], &y[rows.start * 2..rows.end * 2]);
            let [x, y] = [(5, x), (2, y)].map(|(cols, values)| Matrix::new(rows.len(), cols, values));
            statistics(x, y, origin.map(|values| Matrix::new(5, 7, values)), rows.len())
        };
        let mut sum = of(0..3, None);
        for rows in [3..4, 4..12] {
            let next = of(rows, Some(&sum));
            sum.iter_mut().zip(next).for_each(|(sum, next)| *sum += next);
        }
        assert_close(&sum, &of(0..12, None), 1e-12);
    }

    #[test]
    fn equals_the_rule_with_d_formed() {
        let (x, p) = (noise(12 * 7, 1), noise(7 * 3, 2));
        let (x, p) = (Matrix::new(12, 7, &x), Matrix::new(7, 3, &p));
        assert_close(&from_statistics(x, p), &by_definition(x, p), 1e-11);
    }

    #[test]
    fn rows_without_deviation_teach_nothing() {
        let p = noise(4 * 2, 3);
        let p = Matrix::new(4, 2, &p);
        let same = [0.3, -7.0, 0.1, 1e6].repeat(5);
        for rows in [1, 5] {
            assert_eq!(from_statistics(Matrix::new(rows, 4, &same[..4 * rows]), p), [0.0; 8]);
        }
    }

    #[test]
    fn a_large_mean_costs_no_digits() {
        let (small, p) = (noise(20 * 4, 1), noise(4 * 2, 2));
        let large: Vec<f64> = small.iter().map(|x| x + 1e7).collect();
        let p = Matrix::new(4, 2, &p);
        let (small, large) = (Matrix::new(20, 4, &small), Matrix::new(20, 4, &large));
        assert_close(&from_statistics(large, p), &from_statistics(small, p), 1e-7);
    }
}
