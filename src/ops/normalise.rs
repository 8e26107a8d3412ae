//! Normalisation of columns: batch norm.

use super::elementwise::Activation;
use super::{Operand, Operation, View, read, require, update, write};

fn row_of(row: View, x: View) -> bool {
    row.rows() == 1 && row.cols() == x.cols()
}

fn moments_of(moments: View, x: View) -> bool {
    moments.rows() == 2 && moments.cols() == x.cols()
}

/// `out = f(gamma (x - mean) / sqrt(variance + epsilon) + beta)`, column by column.
#[derive(Clone, Copy, Debug)]
pub struct Normalise {
    /// Samples, rows x cols.
    pub x: View,
    /// Mean and variance, 2 x cols: of the batch in training, running ones in evaluation.
    pub moments: View,
    /// Scale, 1 x cols.
    pub gamma: View,
    /// Shift, 1 x cols.
    pub beta: View,
    /// Result, rows x cols.
    pub out: View,
    /// Added to the variance.
    pub epsilon: f64,
    /// f, the identity if there is none.
    pub activation: Option<Activation>,
}

impl Operation for Normalise {
    fn name(&self) -> &'static str {
        "normalise"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![
            read("x", self.x),
            read("moments", self.moments),
            read("gamma", self.gamma),
            read("beta", self.beta),
            write("out", self.out),
        ]
    }

    fn check(&self) -> Result<(), String> {
        require(self.x.shape == self.out.shape, "x and out must have one shape")?;
        require(moments_of(self.moments, self.x), "moments must be two rows of x's columns")?;
        require(row_of(self.gamma, self.x) && row_of(self.beta, self.x), "gamma and beta must be rows of x's columns")
    }

    fn flops(&self) -> u64 {
        (4 + u64::from(self.activation.is_some())) * self.x.shape.per_replica() as u64
    }

    fn details(&self) -> String {
        self.activation.map_or(String::new(), |f| f.to_string())
    }
}

/// Gradients of batch norm's scale and shift: `grad_gamma = sum error . xhat`, `grad_beta = sum error` over the rows,
/// with `xhat = (x - mean) / sqrt(variance + epsilon)`.
#[derive(Clone, Copy, Debug)]
pub struct NormaliseGradients {
    /// dL/dout, rows x cols.
    pub error: View,
    /// The layer's input.
    pub x: View,
    /// Its moments over the batch, 2 x cols.
    pub moments: View,
    /// 1 x cols.
    pub grad_gamma: View,
    /// 1 x cols.
    pub grad_beta: View,
    /// Gradients of gamma and beta that both are added to as well: those of a batch whose micro-batches so far they are of.
    pub totals: Option<[View; 2]>,
    /// Added to the variance.
    pub epsilon: f64,
}

impl Operation for NormaliseGradients {
    fn name(&self) -> &'static str {
        "normalise-gradients"
    }

    fn operands(&self) -> Vec<Operand> {
        let mut operands = vec![
            read("error", self.error),
            read("x", self.x),
            read("moments", self.moments),
            // One output of two rows would do, but gamma and beta are parameters of their own.
            write("grad_gamma", self.grad_gamma),
            write("grad_beta", self.grad_beta),
        ];
        if let Some([gamma, beta]) = self.totals {
            operands.extend([update("total_gamma", gamma), update("total_beta", beta)]);
        }
        operands
    }

    fn check(&self) -> Result<(), String> {
        require(self.x.shape == self.error.shape, "error and x must have one shape")?;
        require(moments_of(self.moments, self.x), "moments must be two rows of x's columns")?;
        require(
            row_of(self.grad_gamma, self.x) && row_of(self.grad_beta, self.x),
            "the gradients must be rows of x's columns",
        )?;
        require(self.totals.iter().flatten().all(|&t| row_of(t, self.x)), "the totals must be rows of x's columns")
    }

    fn flops(&self) -> u64 {
        5 * self.x.shape.per_replica() as u64
    }

    fn details(&self) -> String {
        if self.totals.is_some() { "+totals".to_owned() } else { String::new() }
    }
}

/// Batch norm's exact derivative:
/// `out = gamma / sqrt(variance + epsilon) (error - grad_beta / rows - xhat . grad_gamma / rows)`.
#[derive(Clone, Copy, Debug)]
pub struct NormaliseBackward {
    /// dL/dout, rows x cols.
    pub error: View,
    /// The layer's input.
    pub x: View,
    /// Its moments over the batch, 2 x cols.
    pub moments: View,
    /// Scale, 1 x cols.
    pub gamma: View,
    /// From [`NormaliseGradients`].
    pub grad_gamma: View,
    /// From [`NormaliseGradients`].
    pub grad_beta: View,
    /// dL/dx, rows x cols.
    pub out: View,
    /// Added to the variance.
    pub epsilon: f64,
}

impl Operation for NormaliseBackward {
    fn name(&self) -> &'static str {
        "normalise-backward"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![
            read("error", self.error),
            read("x", self.x),
            read("moments", self.moments),
            read("gamma", self.gamma),
            read("sum_gamma", self.grad_gamma),
            read("sum_beta", self.grad_beta),
            write("out", self.out),
        ]
    }

    fn check(&self) -> Result<(), String> {
        require(
            self.x.shape == self.error.shape && self.x.shape == self.out.shape,
            "error, x and out must have one shape",
        )?;
        require(moments_of(self.moments, self.x), "moments must be two rows of x's columns")?;
        require(
            [self.gamma, self.grad_gamma, self.grad_beta].iter().all(|&t| row_of(t, self.x)),
            "gamma and the gradients must be rows of x's columns",
        )
    }

    fn flops(&self) -> u64 {
        8 * self.x.shape.per_replica() as u64
    }
}

/// Running statistics: `running += momentum (batch - running)`, the batch's variance made unbiased.
///
/// Does nothing for a replica whose loss has been non-finite, like [`super::Optimize`].
#[derive(Clone, Copy, Debug)]
pub struct TrackMoments {
    /// Mean and biased variance of the batch, 2 x cols.
    pub moments: View,
    /// Running mean and variance, 2 x cols.
    pub running: View,
    /// Step of the replica's first non-finite loss plus one, 0 while there is none; 1 x 1.
    pub fault: View,
    /// Weight of the new batch.
    pub momentum: f64,
    /// Rows that the batch's moments were taken over.
    pub rows: u32,
}

impl Operation for TrackMoments {
    fn name(&self) -> &'static str {
        "track-moments"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![read("moments", self.moments), read("fault", self.fault), update("running", self.running)]
    }

    fn check(&self) -> Result<(), String> {
        require(self.moments.shape == self.running.shape, "moments and running must have one shape")?;
        require(self.moments.rows() == 2, "moments must be two rows")?;
        require(self.rows >= 2, "batch norm needs two rows for an unbiased variance")
    }

    fn flops(&self) -> u64 {
        4 * self.moments.shape.per_replica() as u64
    }
}
