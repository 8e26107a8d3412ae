//! Losses with their derivative, targets, and the sums that make a metric.

use super::{Operand, Operation, View, read, require, update, write};

/// Per-row outputs that every loss has in common.
fn rows_agree(outputs: View, columns: &[View]) -> Result<(), String> {
    require(
        columns.iter().all(|t| t.rows() == outputs.rows() && t.cols() == 1),
        "labels, losses and correct must be one column of the outputs' rows",
    )
}

/// Softmax cross-entropy of logits (rows x classes) against labels (rows x 1), PyTorch's with `label_smoothing`.
///
/// The target is (1 - s) one-hot + s / classes. `losses = -sum of target log softmax(logits)`, `correct` = 1 where the
/// largest logit (the first of equals) is the label's, `delta` = (softmax - target) / active rows. Rows from `active_rows`
/// of the step on count as absent: all zero.
#[derive(Clone, Copy, Debug)]
pub struct SoftmaxCrossEntropy {
    /// rows x classes.
    pub logits: View,
    /// rows x 1.
    pub labels: View,
    /// s: the part of the target that all classes share, in [0, 1).
    pub smoothing: f64,
    /// dL/dlogits of the mean loss, rows x classes.
    pub delta: View,
    /// rows x 1.
    pub losses: View,
    /// rows x 1.
    pub correct: View,
}

impl Operation for SoftmaxCrossEntropy {
    fn name(&self) -> &'static str {
        "softmax-cross-entropy"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![
            read("outputs", self.logits),
            read("labels", self.labels),
            write("delta", self.delta),
            write("losses", self.losses),
            write("correct", self.correct),
        ]
    }

    fn check(&self) -> Result<(), String> {
        require(self.logits.shape == self.delta.shape, "logits and delta must have one shape")?;
        require((0.0..1.0).contains(&self.smoothing), "smoothing must lie in [0, 1)")?;
        rows_agree(self.logits, &[self.labels, self.losses, self.correct])
    }

    fn flops(&self) -> u64 {
        6 * self.logits.shape.per_replica() as u64
    }

    fn details(&self) -> String {
        if self.smoothing == 0.0 { String::new() } else { format!("smoothing {}", self.smoothing) }
    }
}

/// Mean squared error of outputs (rows x m) against one-hot labels (rows x 1), as PyTorch's `MSELoss`: the mean over
/// rows and columns.
///
/// `losses` = mean over the columns of (output - target)^2, `delta` = 2 (output - target) / (active rows m);
/// `correct` and absent rows as in [`SoftmaxCrossEntropy`].
#[derive(Clone, Copy, Debug)]
pub struct MeanSquaredError {
    /// rows x m.
    pub outputs: View,
    /// rows x 1.
    pub labels: View,
    /// dL/doutputs, rows x m.
    pub delta: View,
    /// rows x 1.
    pub losses: View,
    /// rows x 1.
    pub correct: View,
}

impl Operation for MeanSquaredError {
    fn name(&self) -> &'static str {
        "mean-squared-error"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![
            read("outputs", self.outputs),
            read("labels", self.labels),
            write("delta", self.delta),
            write("losses", self.losses),
            write("correct", self.correct),
        ]
    }

    fn check(&self) -> Result<(), String> {
        require(self.outputs.shape == self.delta.shape, "outputs and delta must have one shape")?;
        rows_agree(self.outputs, &[self.labels, self.losses, self.correct])
    }

    fn flops(&self) -> u64 {
        5 * self.outputs.shape.per_replica() as u64
    }
}

/// `out[i, labels[i]] = 1`, 0 elsewhere and in absent rows.
#[derive(Clone, Copy, Debug)]
pub struct OneHot {
    /// rows x 1.
    pub labels: View,
    /// rows x classes.
    pub out: View,
}

impl Operation for OneHot {
    fn name(&self) -> &'static str {
        "one-hot"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![read("labels", self.labels), write("out", self.out)]
    }

    fn check(&self) -> Result<(), String> {
        require(
            self.labels.cols() == 1 && self.labels.rows() == self.out.rows(),
            "labels must be one column of out's rows",
        )
    }

    fn flops(&self) -> u64 {
        0
    }
}

/// Adds a batch, or a micro-batch, to the running metrics: `metrics += (sum of losses, sum of correct, active rows)`; the
/// rows of a micro-batch are all active.
///
/// The first step whose loss is not finite is remembered in `fault` as step + 1; from then on the replica's metrics
/// stay as they are.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    /// rows x 1.
    pub losses: View,
    /// rows x 1.
    pub correct: View,
    /// 1 x 3.
    pub metrics: View,
    /// 1 x 1, u32.
    pub fault: View,
}

impl Operation for Tally {
    fn name(&self) -> &'static str {
        "tally"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![
            read("row_losses", self.losses),
            read("row_correct", self.correct),
            update("metrics", self.metrics),
            update("fault", self.fault),
        ]
    }

    fn check(&self) -> Result<(), String> {
        require(self.losses.shape == self.correct.shape && self.losses.cols() == 1, "losses and correct are columns")?;
        require(self.metrics.shape.per_replica() == 3, "metrics must have three elements")?;
        require(self.fault.shape.per_replica() == 1, "fault must have one element")
    }

    fn flops(&self) -> u64 {
        2 * self.losses.shape.per_replica() as u64
    }
}
