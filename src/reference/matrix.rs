//! One replica's matrix, as the functions of this room see it.

/// A row-major matrix that lies somewhere else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix<'a> {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) data: &'a [f64],
}

impl<'a> Matrix<'a> {
    pub(super) fn new(rows: usize, cols: usize, data: &'a [f64]) -> Matrix<'a> {
        debug_assert_eq!(data.len(), rows * cols);
        Matrix { rows, cols, data }
    }

    pub(super) fn row(self, row: usize) -> &'a [f64] {
        &self.data[row * self.cols..][..self.cols]
    }

    pub(super) fn at(self, row: usize, col: usize) -> f64 {
        self.data[row * self.cols + col]
    }

    /// The elements of the transposed matrix, row-major.
    pub(super) fn transposed(self) -> Vec<f64> {
        (0..self.cols).flat_map(|col| (0..self.rows).map(move |row| self.at(row, col))).collect()
    }

    /// `f(column, element)` of every element, in order.
    pub(super) fn map(self, mut f: impl FnMut(usize, f64) -> f64) -> Vec<f64> {
        self.data.iter().enumerate().map(|(at, &x)| f(at % self.cols, x)).collect()
    }
}
