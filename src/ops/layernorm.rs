//! Normalisation of rows: layer norm.

use super::{Operand, Operation, View, read, require, sum, write};

fn row_of(row: View, x: View) -> bool {
    row.rows() == 1 && row.cols() == x.cols()
}

fn moments_of(moments: View, x: View) -> bool {
    moments.rows() == x.rows() && moments.cols() == 2
}

/// `out = gamma (x - mean) / sqrt(variance + epsilon) + beta`, with mean and biased variance of every row.
///
/// Two passes over a row, the second over the centred values, so that a large mean costs no digits. The moments are
/// kept, for the gradients of gamma and beta go down the columns, where no kernel has a row's sums.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm {
    /// Rows x cols.
    pub x: View,
    /// Scale, 1 x cols.
    pub gamma: View,
    /// Shift, 1 x cols.
    pub beta: View,
    /// Result, rows x cols.
    pub out: View,
    /// Of every row its mean and `1 / sqrt(variance + epsilon)`, rows x 2.
    pub moments: View,
    /// Added to the variance.
    pub epsilon: f64,
}

impl Operation for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![
            read("x", self.x),
            read("gamma", self.gamma),
            read("beta", self.beta),
            write("out", self.out),
            write("moments", self.moments),
        ]
    }

    fn check(&self) -> Result<(), String> {
        require(self.x.shape == self.out.shape, "x and out must have one shape")?;
        require(self.x.cols() > 0, "a row must have columns")?;
        require(row_of(self.gamma, self.x) && row_of(self.beta, self.x), "gamma and beta must be rows of x's columns")?;
        require(moments_of(self.moments, self.x), "moments must be two columns of x's rows")?;
        require(self.epsilon >= 0.0, "epsilon must not be negative")
    }

    /// Of an element: one for the mean, three for the variance, four to normalise, scale and shift.
    fn flops(&self) -> u64 {
        8 * self.x.shape.per_replica() as u64
    }
}

/// Gradients of layer norm's scale and shift: `grad_gamma = sum error . xhat`, `grad_beta = sum error` over the rows, with
/// `xhat = (x - mean) / sqrt(variance + epsilon)`.
///
/// With several rows of gradients the rows of x are cut into as many splits of [`LayerNormGradients::depth`] (the last may be
/// shorter), each with sums of its own, which a [`super::SumSplits`] adds in their order.
#[derive(Clone, Copy, Debug)]
pub struct LayerNormGradients {
    /// dL/dout, rows x cols.
    pub error: View,
    /// The layer's input.
    pub x: View,
    /// From [`LayerNorm`], rows x 2.
    pub moments: View,
    /// Splits x cols.
    pub grad_gamma: View,
    /// Splits x cols.
    pub grad_beta: View,
    /// Whether both are added to what they hold, of one split.
    pub accumulate: bool,
}

impl LayerNormGradients {
    /// Pieces of the rows.
    pub fn splits(&self) -> u32 {
        self.grad_gamma.rows()
    }

    /// Rows of a split.
    pub fn depth(&self) -> u32 {
        self.x.rows().div_ceil(self.splits().max(1))
    }
}

impl Operation for LayerNormGradients {
    fn name(&self) -> &'static str {
        "layer-norm-gradients"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![
            read("error", self.error),
            read("x", self.x),
            // A shader binds a tensor as written or as read under one name.
            read("row_moments", self.moments),
            sum("grad_gamma", self.grad_gamma, self.accumulate),
            sum("grad_beta", self.grad_beta, self.accumulate),
        ]
    }

    fn check(&self) -> Result<(), String> {
        require(self.x.shape == self.error.shape, "error and x must have one shape")?;
        require(moments_of(self.moments, self.x), "row_moments must be two columns of x's rows")?;
        require(
            self.grad_gamma.shape == self.grad_beta.shape && self.grad_gamma.cols() == self.x.cols(),
            "the gradients must be as many rows each of x's columns",
        )?;
        require(
            self.splits() >= 1 && self.depth() * (self.splits() - 1) < self.x.rows().max(1),
            "a split would be empty",
        )?;
        require(self.splits() == 1 || !self.accumulate, "the sum of the splits is added to, not each of them")
    }

    fn flops(&self) -> u64 {
        5 * self.x.shape.per_replica() as u64
    }

    fn details(&self) -> String {
        if self.splits() == 1 { String::new() } else { format!("{} splits", self.splits()) }
    }
}

/// Layer norm's exact derivative, with the means over the columns of a row:
/// `out = (g - mean(g) - xhat . mean(g . xhat)) / sqrt(variance + epsilon)`, `g = gamma . error`; plus the addend, if any.
#[derive(Clone, Copy, Debug)]
pub struct LayerNormBackward {
    /// dL/dout, rows x cols.
    pub error: View,
    /// The layer's input.
    pub x: View,
    /// From [`LayerNorm`], rows x 2.
    pub moments: View,
    /// Scale, 1 x cols.
    pub gamma: View,
    /// dL/dx by another way, rows x cols.
    pub addend: Option<View>,
    /// dL/dx, rows x cols.
    pub out: View,
}

impl Operation for LayerNormBackward {
    fn name(&self) -> &'static str {
        "layer-norm-backward"
    }

    fn operands(&self) -> Vec<Operand> {
        let mut all = vec![
            read("error", self.error),
            read("x", self.x),
            read("row_moments", self.moments),
            read("gamma", self.gamma),
        ];
        all.extend(self.addend.map(|t| read("addend", t)));
        all.push(write("out", self.out));
        all
    }

    fn check(&self) -> Result<(), String> {
        require(
            self.x.shape == self.error.shape && self.x.shape == self.out.shape,
            "error, x and out must have one shape",
        )?;
        require(self.addend.is_none_or(|t| t.shape == self.out.shape), "addend must have the shape of out")?;
        require(moments_of(self.moments, self.x), "row_moments must be two columns of x's rows")?;
        require(row_of(self.gamma, self.x), "gamma must be a row of x's columns")
    }

    /// Of an element: xhat two, g one, the sums three, the result four; once is what is computed twice.
    fn flops(&self) -> u64 {
        (10 + u64::from(self.addend.is_some())) * self.x.shape.per_replica() as u64
    }

    fn details(&self) -> String {
        if self.addend.is_some() { "+addend".into() } else { String::new() }
    }
}
