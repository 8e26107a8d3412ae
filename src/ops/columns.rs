//! Reductions over the rows of a matrix.

use super::{Operand, Operation, View, read, require, sum, write};

/// `out = sum over the rows of x`, rows x cols to 1 x cols: the gradient of a bias.
#[derive(Clone, Copy, Debug)]
pub struct ColumnSum {
    /// Summand.
    pub x: View,
    /// One row of sums.
    pub out: View,
    /// Whether they are added to what out holds.
    pub accumulate: bool,
}

impl Operation for ColumnSum {
    fn name(&self) -> &'static str {
        "column-sum"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![read("x", self.x), sum("out", self.out, self.accumulate)]
    }

    fn check(&self) -> Result<(), String> {
        require(self.out.rows() == 1 && self.out.cols() == self.x.cols(), "out must be one row of x's columns")
    }

    fn flops(&self) -> u64 {
        self.x.shape.per_replica() as u64
    }
}

/// `out = sum over the rows of error . x`, element by element: the gradient of what [`super::ScaleColumns`] multiplies by.
///
/// With several rows of sums the rows of x are cut into as many splits of [`ScaleGradient::depth`] (the last may be shorter), each
/// with sums of its own, which a [`super::SumSplits`] adds in their order.
#[derive(Clone, Copy, Debug)]
pub struct ScaleGradient {
    /// dL/dout, rows x cols.
    pub error: View,
    /// What was scaled, rows x cols.
    pub x: View,
    /// Splits x cols.
    pub out: View,
    /// Whether the sums are added to what out holds, of one split.
    pub accumulate: bool,
}

impl ScaleGradient {
    /// Pieces of the rows.
    pub fn splits(&self) -> u32 {
        self.out.rows()
    }

    /// Rows of a split.
    pub fn depth(&self) -> u32 {
        self.x.rows().div_ceil(self.splits().max(1))
    }
}

impl Operation for ScaleGradient {
    fn name(&self) -> &'static str {
        "scale-gradient"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![read("error", self.error), read("x", self.x), sum("out", self.out, self.accumulate)]
    }

    fn check(&self) -> Result<(), String> {
        require(self.x.shape == self.error.shape, "error and x must have one shape")?;
        require(self.out.cols() == self.x.cols(), "out must be rows of x's columns")?;
        require(
            self.splits() >= 1 && self.depth() * (self.splits() - 1) < self.x.rows().max(1),
            "a split would be empty",
        )?;
        require(self.splits() == 1 || !self.accumulate, "the sum of the splits is added to, not each of them")
    }

    fn flops(&self) -> u64 {
        2 * self.x.shape.per_replica() as u64
    }

    fn details(&self) -> String {
        if self.splits() == 1 { String::new() } else { format!("{} splits", self.splits()) }
    }
}

/// Mean and biased variance of every column: x is rows x cols, out 2 x cols (row 0 the mean, row 1 the variance).
///
/// Two passes, the second over the centred values, so that a large mean costs no digits.
#[derive(Clone, Copy, Debug)]
pub struct Moments {
    /// Samples, one a row.
    pub x: View,
    /// Mean, then variance.
    pub out: View,
}

impl Operation for Moments {
    fn name(&self) -> &'static str {
        "moments"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![read("x", self.x), write("out", self.out)]
    }

    fn check(&self) -> Result<(), String> {
        require(self.out.rows() == 2 && self.out.cols() == self.x.cols(), "out must be two rows of x's columns")
    }

    fn flops(&self) -> u64 {
        4 * self.x.shape.per_replica() as u64
    }
}
