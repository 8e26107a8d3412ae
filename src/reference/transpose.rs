//! Another order of the same numbers.

use super::matrix::Matrix;

/// One rows x cols matrix after the other, each transposed.
pub(super) fn transpose_blocks(x: &[f64], rows: usize, cols: usize) -> Vec<f64> {
    x.chunks(rows * cols).flat_map(|block| Matrix::new(rows, cols, block).transposed()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::tests::noise;

    #[test]
    fn blocks_are_transposed_each_by_itself() {
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0];
        let turned = [1.0, 3.0, 5.0, 2.0, 4.0, 6.0, 10.0, 30.0, 50.0, 20.0, 40.0, 60.0];
        assert_eq!(transpose_blocks(&x, 3, 2), turned);
    }

    #[test]
    fn the_way_back_exchanges_rows_and_columns() {
        let x = noise(60, 1);
        assert_eq!(transpose_blocks(&transpose_blocks(&x, 5, 3), 3, 5), x);
    }
}
