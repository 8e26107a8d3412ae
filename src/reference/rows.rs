//! Rows that come, go, and get a value of their own.

use super::matrix::Matrix;

/// `x + row` in every row.
pub(super) fn add_row(x: Matrix<'_>, row: &[f64]) -> Vec<f64> {
    x.map(|col, value| value + row[col])
}

/// `x . row` in every row.
pub(super) fn scale_columns(x: Matrix<'_>, row: &[f64]) -> Vec<f64> {
    x.map(|col, value| value * row[col])
}

/// Samples of `length` rows, in which those of x, `each` a sample, stand from row `first` on; all others are `fill`.
pub(super) fn place_rows(x: Matrix<'_>, each: usize, [first, length]: [usize; 2], fill: &[f64]) -> Vec<f64> {
    let sample = |rows: &[f64]| {
        let behind = length - first - each;
        [fill.repeat(first), rows.to_vec(), fill.repeat(behind)].concat()
    };
    x.data.chunks(each * x.cols).flat_map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_by_hand() {
        let x = Matrix::new(4, 2, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        assert_eq!(add_row(x, &[10.0, 20.0]), [11.0, 22.0, 13.0, 24.0, 15.0, 26.0, 17.0, 28.0]);
        assert_eq!(scale_columns(x, &[10.0, -1.0]), [10.0, -2.0, 30.0, -4.0, 50.0, -6.0, 70.0, -8.0]);
        let placed = place_rows(x, 2, [1, 3], &[9.0, -9.0]);
        assert_eq!(placed, [9.0, -9.0, 1.0, 2.0, 3.0, 4.0, 9.0, -9.0, 5.0, 6.0, 7.0, 8.0]);
        assert_eq!(place_rows(Matrix::new(2, 1, &[1.0, 2.0]), 1, [0, 2], &[0.0]), [1.0, 0.0, 2.0, 0.0]);
    }
}
