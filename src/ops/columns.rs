//! Reductions over the rows of a matrix.

use super::{Operand, Operation, Tensor, read, require, sum, write};

/// `out = sum over the rows of x`, rows x cols to 1 x cols: the gradient of a bias.
#[derive(Clone, Copy, Debug)]
pub struct ColumnSum {
    /// Summand.
    pub x: Tensor,
    /// One row of sums.
    pub out: Tensor,
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

/// Mean and biased variance of every column: x is rows x cols, out 2 x cols (row 0 the mean, row 1 the variance).
///
/// Two passes, the second over the centred values, so that a large mean costs no digits.
#[derive(Clone, Copy, Debug)]
pub struct Moments {
    /// Samples, one a row.
    pub x: Tensor,
    /// Mean, then variance.
    pub out: Tensor,
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
