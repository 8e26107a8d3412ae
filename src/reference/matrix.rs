//! One replica's matrix, as the functions of this room see it.

use std::borrow::Cow;

/// A matrix, or its transpose with storage of its own.
#[derive(Clone, Debug)]
pub(super) struct Turned<'a> {
    rows: usize,
    cols: usize,
    data: Cow<'a, [f64]>,
}

impl Turned<'_> {
    /// A matrix with storage of its own.
    pub(super) fn own(rows: usize, cols: usize, data: Vec<f64>) -> Self {
        debug_assert_eq!(data.len(), rows * cols);
        Turned { rows, cols, data: data.into() }
    }

    pub(super) fn matrix(&self) -> Matrix<'_> {
        Matrix { rows: self.rows, cols: self.cols, data: &self.data }
    }
}

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

    /// The matrix as it is, or transposed.
    pub(super) fn turned(self, transposed: bool) -> Turned<'a> {
        if transposed {
            Turned { rows: self.cols, cols: self.rows, data: self.transposed().into() }
        } else {
            Turned { rows: self.rows, cols: self.cols, data: self.data.into() }
        }
    }

    /// Columns `range`, row-major.
    pub(super) fn columns(self, range: std::ops::Range<usize>) -> Vec<f64> {
        (0..self.rows).flat_map(|row| &self.row(row)[range.clone()]).copied().collect()
    }

    /// `f(column, element)` of every element, in order.
    pub(super) fn map(self, mut f: impl FnMut(usize, f64) -> f64) -> Vec<f64> {
        self.data.iter().enumerate().map(|(at, &x)| f(at % self.cols, x)).collect()
    }
}
