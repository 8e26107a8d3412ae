//! Losses with their derivative, targets, and the sums that make a metric.

use super::matrix::Matrix;

/// What a loss says of a batch; absent rows are zero throughout.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judged {
    /// dL/doutputs of the mean loss, rows x cols.
    pub(super) delta: Vec<f64>,
    /// One a row.
    pub(super) losses: Vec<f64>,
    /// One a row, 0 or 1.
    pub(super) correct: Vec<f64>,
}

/// Softmax cross-entropy of logits against labels with a smoothing, the first `active` rows present.
///
/// A label that is no class has probability 0, hence an infinite loss.
pub(super) fn softmax_cross_entropy(logits: Matrix<'_>, labels: &[u32], smoothing: f64, active: u32) -> Judged {
    judge(logits, labels, active, |logits, label| {
        let shared = smoothing / logits.len() as f64;
        let target = |col: usize| (1.0 - smoothing) * one_if(col == label) + shared;
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        // Minus the logarithm of a class's probability.
        let surprise = |logit: &f64| total.ln() + largest - logit;
        let mut loss = (1.0 - smoothing) * logits.get(label).map_or(f64::INFINITY, surprise);
        if smoothing > 0.0 {
            loss += shared * logits.iter().map(surprise).sum::<f64>();
        }
        let gradient = weights.iter().enumerate().map(|(col, weight)| weight / total - target(col));
        (loss, gradient.collect())
    })
}

/// Mean over rows and columns of the squared distance to one-hot labels, the first `active` rows present.
pub(super) fn mean_squared_error(outputs: Matrix<'_>, labels: &[u32], active: u32) -> Judged {
    judge(outputs, labels, active, |outputs, label| {
        let width = outputs.len() as f64;
        let errors: Vec<f64> = outputs.iter().enumerate().map(|(col, output)| output - one_if(col == label)).collect();
        let loss = errors.iter().map(|error| error * error).sum::<f64>() / width;
        (loss, errors.iter().map(|error| 2.0 * error / width).collect())
    })
}

/// Mean over rows and columns of the squared distance to `scale` times a label an output, the first `active` rows present; right
/// within the tolerance.
pub(super) fn squared_distance(outputs: Matrix<'_>, labels: &[u32], scale: f64, tolerance: f64, active: u32) -> Judged {
    let width = outputs.cols;
    rows_judged(outputs, active, |row, outputs| {
        let labels = &labels[row * width..][..width];
        let misses: Vec<f64> = outputs.iter().zip(labels).map(|(output, &l)| output - scale * f64::from(l)).collect();
        let loss = misses.iter().map(|miss| miss * miss).sum::<f64>() / width as f64;
        let correct = misses.iter().all(|miss| miss.abs() <= tolerance);
        (loss, correct, misses.iter().map(|miss| 2.0 * miss / width as f64).collect())
    })
}

/// The rows of a batch by a loss that maps (outputs, label) of one row to the loss and its gradient.
fn judge(
    outputs: Matrix<'_>,
    labels: &[u32],
    active: u32,
    loss_of: impl Fn(&[f64], usize) -> (f64, Vec<f64>),
) -> Judged {
    rows_judged(outputs, active, |row, outputs| {
        let label = labels[row] as usize;
        let (loss, gradient) = loss_of(outputs, label);
        (loss, first_maximum(outputs) == label, gradient)
    })
}

/// The rows of a batch by what maps the outputs of one row to its loss, whether it is correct, and the gradient.
fn rows_judged(outputs: Matrix<'_>, active: u32, of_row: impl Fn(usize, &[f64]) -> (f64, bool, Vec<f64>)) -> Judged {
    let mut judged = Judged { delta: Vec::new(), losses: Vec::new(), correct: Vec::new() };
    for row in 0..outputs.rows.min(active as usize) {
        let (loss, correct, gradient) = of_row(row, outputs.row(row));
        judged.losses.push(loss);
        judged.correct.push(one_if(correct));
        judged.delta.extend(gradient.into_iter().map(|g| g / f64::from(active)));
    }
    judged.losses.resize(outputs.rows, 0.0);
    judged.correct.resize(outputs.rows, 0.0);
    judged.delta.resize(outputs.data.len(), 0.0);
    judged
}

fn one_if(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

fn first_maximum(values: &[f64]) -> usize {
    (1..values.len()).fold(0, |best, at| if values[at] > values[best] { at } else { best })
}

/// `classes` columns, 1 in that of each label; nothing in rows from `active` on.
pub(super) fn one_hot(labels: &[u32], classes: usize, active: u32) -> Vec<f64> {
    let row = |(label, row): (&u32, u32)| {
        let class = (row < active).then_some(*label as usize);
        (0..classes).map(move |col| one_if(class == Some(col)))
    };
    labels.iter().zip(0..).flat_map(row).collect()
}

/// Metrics and fault of a replica.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tallied {
    /// Sums of losses, of correct rows, of rows.
    pub(super) metrics: [f64; 3],
    /// Step of the first non-finite loss plus one, else 0.
    pub(super) fault: u32,
}

/// Adds a batch of `active` rows at a step; a loss that is not finite sets the fault, after which nothing changes.
pub(super) fn tally(so_far: Tallied, losses: &[f64], correct: &[f64], active: u32, step: u32) -> Tallied {
    let loss: f64 = losses.iter().sum();
    let Tallied { metrics: [sum, hits, rows], fault } = so_far;
    if fault != 0 {
        so_far
    } else if loss.is_finite() {
        let hits = hits + correct.iter().sum::<f64>();
        Tallied { metrics: [sum + loss, hits, rows + f64::from(active.min(losses.len() as u32))], fault }
    } else {
        Tallied { fault: step.saturating_add(1), ..so_far }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::tests::{assert_close, differences, noise};

    type Loss = fn(Matrix<'_>, &[u32], u32) -> Judged;

    const LOSSES: [Loss; 3] = [
        |logits, labels, active| softmax_cross_entropy(logits, labels, 0.0, active),
        |logits, labels, active| softmax_cross_entropy(logits, labels, 0.3, active),
        mean_squared_error,
    ];

    #[test]
    fn equal_logits_cost_the_logarithm_of_the_classes() {
        let judged = softmax_cross_entropy(Matrix::new(1, 4, &[7.0; 4]), &[2], 0.0, 1);
        assert_close(&judged.losses, &[4f64.ln()], 1e-15);
        assert_close(&judged.delta, &[0.25, 0.25, -0.75, 0.25], 1e-15);
    }

    /// Probabilities 1/4 and 3/4; of a smoothing of 0.2 the target is 0.1 and 0.9.
    #[test]
    fn a_smoothed_target_by_hand() {
        let judged = softmax_cross_entropy(Matrix::new(1, 2, &[0.0, 3f64.ln()]), &[1], 0.2, 1);
        assert_close(&judged.losses, &[0.1 * 4f64.ln() + 0.9 * (4f64 / 3.0).ln()], 1e-15);
        assert_close(&judged.delta, &[0.15, -0.15], 1e-15);
        assert_eq!(judged.correct, [1.0]);
    }

    /// The smoothed loss is a mixture of the losses of all labels.
    #[test]
    fn smoothing_mixes_the_losses_of_all_classes() {
        let logits = noise(5, 3);
        let of = |label, smoothing| softmax_cross_entropy(Matrix::new(1, 5, &logits), &[label], smoothing, 1).losses[0];
        let mean = (0..5).map(|label| of(label, 0.0)).sum::<f64>() / 5.0;
        assert_close(&[of(3, 0.25)], &[0.75 * of(3, 0.0) + 0.25 * mean], 1e-14);
    }

    #[test]
    fn squared_error_by_hand() {
        let judged = mean_squared_error(Matrix::new(2, 2, &[1.0, 2.0, 0.5, 0.5]), &[1, 0], 2);
        assert_eq!(judged.losses, [1.0, 0.25]);
        assert_eq!(judged.delta, [0.5, 0.5, -0.25, 0.25]);
        assert_eq!(judged.correct, [1.0, 1.0]);
    }

    #[test]
    fn delta_is_the_derivative_of_the_mean_loss() {
        let (rows, cols, labels) = (5, 3, [0, 2, 1, 1, u32::MAX]);
        let outputs = noise(rows * cols, 1);
        for loss in LOSSES {
            let mean = |x: &[f64]| loss(Matrix::new(rows, cols, x), &labels, 4).losses.iter().sum::<f64>() / 4.0;
            let delta = loss(Matrix::new(rows, cols, &outputs), &labels, 4).delta;
            assert_close(&delta, &differences(&outputs, mean), 1e-9);
        }
    }

    /// Rows of two numbers of tenths: one right, one within the tolerance, one beyond it, one absent.
    #[test]
    fn distances_to_numbers_by_hand() {
        let outputs = [1.0, 2.0, 0.5, 0.25, 3.0, 0.0, f64::NAN, 1.0];
        let labels = [10, 20, 4, 2, 30, 5, 0, 0];
        let judged = squared_distance(Matrix::new(4, 2, &outputs), &labels, 0.1, 0.125, 3);
        assert_close(&judged.losses, &[0.0, (0.01 + 0.0025) / 2.0, 0.125, 0.0], 1e-15);
        assert_eq!(judged.correct, [1.0, 1.0, 0.0, 0.0]);
        assert_close(&judged.delta, &[0.0, 0.0, 0.1 / 3.0, 0.05 / 3.0, 0.0, -0.5 / 3.0, 0.0, 0.0], 1e-15);
        let mean = |x: &[f64]| {
            squared_distance(Matrix::new(3, 2, x), &labels[..6], 0.1, 0.125, 3).losses.iter().sum::<f64>() / 3.0
        };
        assert_close(&judged.delta[..6], &differences(&outputs[..6], mean), 1e-9);
    }

    #[test]
    fn absent_rows_count_for_nothing() {
        let outputs = [1.0, 2.0, f64::NAN, f64::INFINITY, 3.0, 1.0];
        for loss in LOSSES {
            let judged = loss(Matrix::new(3, 2, &outputs), &[0, u32::MAX, u32::MAX], 1);
            assert_eq!(judged.losses[1..], [0.0, 0.0]);
            assert_eq!(judged.correct[1..], [0.0, 0.0]);
            assert_eq!(judged.delta[2..], [0.0; 4]);
            assert!(judged.losses[0] > 0.0);
            let none = loss(Matrix::new(3, 2, &outputs), &[u32::MAX; 3], 0);
            assert_eq!(none, Judged { delta: vec![0.0; 6], losses: vec![0.0; 3], correct: vec![0.0; 3] });
        }
    }

    #[test]
    fn huge_logits_do_not_overflow() {
        let judged = softmax_cross_entropy(Matrix::new(1, 2, &[1e4, -1e4]), &[1], 0.0, 1);
        assert_eq!((judged.losses[0], judged.delta), (2e4, vec![1.0, -1.0]));
    }

    #[test]
    fn of_equal_outputs_the_first_is_the_answer() {
        for loss in LOSSES {
            let judged = loss(Matrix::new(2, 3, &[1.0, 4.0, 4.0, 1.0, 4.0, 4.0]), &[1, 2], 2);
            assert_eq!(judged.correct, [1.0, 0.0]);
        }
    }

    #[test]
    fn a_label_that_is_no_class_costs_infinitely_much() {
        for smoothing in [0.0, 0.1] {
            let judged = softmax_cross_entropy(Matrix::new(1, 2, &[0.0, 1.0]), &[2], smoothing, 1);
            assert_eq!(judged.losses, [f64::INFINITY]);
        }
    }

    #[test]
    fn one_hot_rows() {
        assert_eq!(one_hot(&[2, 0, 1], 3, 2), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(one_hot(&[u32::MAX], 2, 1), [0.0, 0.0]);
    }

    #[test]
    fn tally_adds_until_a_loss_is_not_finite() {
        let start = Tallied { metrics: [1.0, 2.0, 3.0], fault: 0 };
        let next = tally(start, &[0.5, 0.25, 0.0], &[1.0, 0.0, 0.0], 2, 9);
        assert_eq!(next, Tallied { metrics: [1.75, 3.0, 5.0], fault: 0 });
        for bad in [f64::NAN, f64::INFINITY] {
            let faulty = tally(next, &[0.5, bad], &[1.0, 1.0], 2, 10);
            assert_eq!(faulty, Tallied { fault: 11, ..next });
            assert_eq!(tally(faulty, &[1.0], &[1.0], 1, 11), faulty);
            assert_eq!(tally(faulty, &[bad], &[1.0], 1, 12), faulty);
        }
    }

    /// The fault of step 0 must differ from no fault.
    #[test]
    fn a_fault_at_the_first_step_is_not_zero() {
        let start = Tallied { metrics: [0.0; 3], fault: 0 };
        assert_eq!(tally(start, &[f64::NAN], &[0.0], 1, 0).fault, 1);
    }
}
