//! Losses with their derivative, targets, and the sums that make a metric.

use super::{Operand, Operation, View, read, require, update, write};

/// A label, a loss and an answer a row of outputs: each a matrix of samples x positions.
fn one_a_row(outputs: View, each: &[View]) -> Result<(), String> {
    let rows = |t: &View| u64::from(t.rows()) * u64::from(t.cols());
    require(
        each.iter().all(|t| t.shape == each[0].shape && rows(t) == u64::from(outputs.rows())),
        "labels, losses and correct must be samples x positions, as many as the outputs have rows",
    )
}

/// The operands of every loss.
fn judging(outputs: View, labels: View, [delta, losses, correct]: [View; 3]) -> Vec<Operand> {
    vec![
        read("outputs", outputs),
        read("labels", labels),
        write("delta", delta),
        write("losses", losses),
        write("correct", correct),
    ]
}

/// Softmax cross-entropy of logits ((samples x positions) x classes) against labels (samples x positions), PyTorch's with
/// `label_smoothing`.
///
/// The target is (1 - s) one-hot + s / classes. `losses = -sum of target log softmax(logits)`, `correct` = 1 where the
/// largest logit (the first of equals) is the label's, `delta` = (softmax - target) / active rows. Active are the rows of the
/// step's first `active_rows` samples; the others count as absent: all zero.
#[derive(Clone, Copy, Debug)]
pub struct SoftmaxCrossEntropy {
    /// (samples x positions) x classes.
    pub logits: View,
    /// samples x positions.
    pub labels: View,
    /// s: the part of the target that all classes share, in [0, 1).
    pub smoothing: f64,
    /// dL/dlogits of the mean loss, shaped like the logits.
    pub delta: View,
    /// samples x positions.
    pub losses: View,
    /// samples x positions.
    pub correct: View,
}

impl Operation for SoftmaxCrossEntropy {
    fn name(&self) -> &'static str {
        "softmax-cross-entropy"
    }

    fn operands(&self) -> Vec<Operand> {
        judging(self.logits, self.labels, [self.delta, self.losses, self.correct])
    }

    fn check(&self) -> Result<(), String> {
        require(self.logits.shape == self.delta.shape, "logits and delta must have one shape")?;
        require((0.0..1.0).contains(&self.smoothing), "smoothing must lie in [0, 1)")?;
        one_a_row(self.logits, &[self.labels, self.losses, self.correct])
    }

    fn flops(&self) -> u64 {
        6 * self.logits.shape.per_replica() as u64
    }

    fn details(&self) -> String {
        if self.smoothing == 0.0 { String::new() } else { format!("smoothing {}", self.smoothing) }
    }
}

/// Mean squared error of outputs ((samples x positions) x m) against one-hot labels (samples x positions), as PyTorch's
/// `MSELoss`: the mean over rows and columns.
///
/// `losses` = mean over the columns of (output - target)^2, `delta` = 2 (output - target) / (active rows m);
/// `correct` and absent rows as in [`SoftmaxCrossEntropy`].
#[derive(Clone, Copy, Debug)]
pub struct MeanSquaredError {
    /// (samples x positions) x m.
    pub outputs: View,
    /// samples x positions.
    pub labels: View,
    /// dL/doutputs, shaped like the outputs.
    pub delta: View,
    /// samples x positions.
    pub losses: View,
    /// samples x positions.
    pub correct: View,
}

impl Operation for MeanSquaredError {
    fn name(&self) -> &'static str {
        "mean-squared-error"
    }

    fn operands(&self) -> Vec<Operand> {
        judging(self.outputs, self.labels, [self.delta, self.losses, self.correct])
    }

    fn check(&self) -> Result<(), String> {
        require(self.outputs.shape == self.delta.shape, "outputs and delta must have one shape")?;
        one_a_row(self.outputs, &[self.labels, self.losses, self.correct])
    }

    fn flops(&self) -> u64 {
        5 * self.outputs.shape.per_replica() as u64
    }
}

/// Mean squared error of outputs ((samples x positions) x m) against whole numbers (samples x (positions m)): the mean over
/// rows and columns of (output - scale label)^2.
///
/// `losses`, `delta` and absent rows as in [`MeanSquaredError`]; `correct` = 1 where no output of the row is farther than
/// `tolerance` from its number.
#[derive(Clone, Copy, Debug)]
pub struct SquaredDistance {
    /// (samples x positions) x m.
    pub outputs: View,
    /// samples x (positions m).
    pub labels: View,
    /// What a label is multiplied by.
    pub scale: f64,
    /// Of a correct output, in units of the outputs.
    pub tolerance: f64,
    /// dL/doutputs, shaped like the outputs.
    pub delta: View,
    /// samples x positions.
    pub losses: View,
    /// samples x positions.
    pub correct: View,
}

impl Operation for SquaredDistance {
    fn name(&self) -> &'static str {
        "squared-distance"
    }

    fn operands(&self) -> Vec<Operand> {
        judging(self.outputs, self.labels, [self.delta, self.losses, self.correct])
    }

    fn check(&self) -> Result<(), String> {
        require(self.outputs.shape == self.delta.shape, "outputs and delta must have one shape")?;
        require(
            self.labels.rows() == self.losses.rows() && self.labels.cols() == self.losses.cols() * self.outputs.cols(),
            "labels must be one an output: samples x (positions m)",
        )?;
        require(self.tolerance > 0.0, "the tolerance must be larger than 0")?;
        one_a_row(self.outputs, &[self.losses, self.correct])
    }

    fn flops(&self) -> u64 {
        6 * self.outputs.shape.per_replica() as u64
    }

    fn details(&self) -> String {
        format!("scale {} tolerance {}", self.scale, self.tolerance)
    }
}

/// `out[i, labels[i]] = 1`, 0 elsewhere and in absent rows.
#[derive(Clone, Copy, Debug)]
pub struct OneHot {
    /// samples x positions.
    pub labels: View,
    /// (samples x positions) x classes.
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
        one_a_row(self.out, &[self.labels])
    }

    fn flops(&self) -> u64 {
        0
    }
}

/// Adds a batch, or a micro-batch, to the running metrics: `metrics += (sum of losses, sum of correct, active rows)`, a row a
/// position of a sample; the samples of a micro-batch are all active.
///
/// The first step whose loss is not finite is remembered in `fault` as step + 1; from then on the replica's metrics
/// stay as they are.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    /// samples x positions.
    pub losses: View,
    /// samples x positions.
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
        require(self.losses.shape == self.correct.shape, "losses and correct must have one shape")?;
        require(self.metrics.shape.per_replica() == 3, "metrics must have three elements")?;
        require(self.fault.shape.per_replica() == 1, "fault must have one element")
    }

    fn flops(&self) -> u64 {
        2 * self.losses.shape.per_replica() as u64
    }
}
