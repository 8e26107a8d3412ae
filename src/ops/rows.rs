//! Rows that come, go, and get a value of their own: tokens of a sequence.

use super::{Operand, Operation, View, read, require, write};

/// `out = x + row` in every row: learned positions, where a row is a whole sample.
#[derive(Clone, Copy, Debug)]
pub struct AddRow {
    /// Rows x cols.
    pub x: View,
    /// 1 x cols.
    pub row: View,
    /// Rows x cols.
    pub out: View,
}

impl Operation for AddRow {
    fn name(&self) -> &'static str {
        "add-row"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![read("x", self.x), read("row", self.row), write("out", self.out)]
    }

    fn check(&self) -> Result<(), String> {
        require(self.x.shape == self.out.shape, "x and out must have one shape")?;
        require(self.row.rows() == 1 && self.row.cols() == self.x.cols(), "row must be one row of x's columns")
    }

    fn flops(&self) -> u64 {
        self.out.shape.per_replica() as u64
    }
}

/// `out = x . row` in every row: a factor for each column, forward as for the error on its way back.
#[derive(Clone, Copy, Debug)]
pub struct ScaleColumns {
    /// Rows x cols.
    pub x: View,
    /// 1 x cols.
    pub row: View,
    /// Rows x cols.
    pub out: View,
}

impl Operation for ScaleColumns {
    fn name(&self) -> &'static str {
        "scale-columns"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![read("x", self.x), read("row", self.row), write("out", self.out)]
    }

    fn check(&self) -> Result<(), String> {
        require(self.x.shape == self.out.shape, "x and out must have one shape")?;
        require(self.row.rows() == 1 && self.row.cols() == self.x.cols(), "row must be one row of x's columns")
    }

    fn flops(&self) -> u64 {
        self.out.shape.per_replica() as u64
    }
}

/// Puts a few rows of every sample among those of a longer sequence, or alone into a shorter one: row `first + i` of a sample of out
/// is row i of the sample of x; all others are `fill`, or zeros.
///
/// A class token is put before the others so, the first token taken out, and the errors of both go back so.
#[derive(Clone, Copy, Debug)]
pub struct PlaceRows {
    /// A matrix of n x cols a sample, on the outer axis of the batch; their rows may lie apart.
    pub x: View,
    /// (samples length) x cols.
    pub out: View,
    /// Where the first row goes.
    pub first: u32,
    /// 1 x cols.
    pub fill: Option<View>,
}

impl PlaceRows {
    /// Rows of a sample of out.
    pub fn length(&self) -> u32 {
        self.out.rows() / self.x.shape.batch[0].max(1)
    }
}

impl Operation for PlaceRows {
    fn name(&self) -> &'static str {
        "place-rows"
    }

    fn operands(&self) -> Vec<Operand> {
        [read("x", self.x)]
            .into_iter()
            .chain(self.fill.map(|t| read("fill", t)))
            .chain([write("out", self.out)])
            .collect()
    }

    fn check(&self) -> Result<(), String> {
        let [samples, inner] = self.x.shape.batch;
        require(inner == 1 && self.x.cols() == self.out.cols(), "x must be a matrix a sample, of out's columns")?;
        require(samples * self.length() == self.out.rows(), "out must have as many samples as x")?;
        require(self.first.saturating_add(self.x.rows()) <= self.length(), "the rows of x must fit a sample of out")?;
        require(
            self.fill.is_none_or(|t| t.rows() == 1 && t.cols() == self.out.cols()),
            "fill must be one row of out's columns",
        )
    }

    fn flops(&self) -> u64 {
        0
    }

    fn details(&self) -> String {
        let fill = if self.fill.is_some() { ", others filled" } else { "" };
        format!("{} of {} rows from {}{fill}", self.x.rows(), self.length(), self.first)
    }
}

/// `out = 0`: a gradient of which it is known that nothing but rounding would be left.
#[derive(Clone, Copy, Debug)]
pub struct Clear {
    /// A row, or a part of one.
    pub out: View,
}

impl Operation for Clear {
    fn name(&self) -> &'static str {
        "clear"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![write("out", self.out)]
    }

    fn check(&self) -> Result<(), String> {
        require(self.out.is_contiguous(), "elements must lie side by side")
    }

    fn flops(&self) -> u64 {
        0
    }
}
