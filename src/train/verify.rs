//! One training step, operation by operation, against the f64 reference.

use super::TrainError;
use super::session::Session;
use crate::ops::{Access, Op, Phase, View};
use crate::plan::{ExecuteError, Plan, allowance, relative_error};
use crate::reference::{Reference, ReferenceError};

/// An output of one operation, compared.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The operation.
    pub op: &'static str,
    /// The kernel that computed it.
    pub variant: String,
    /// The output.
    pub tensor: String,
    /// ||found - expected|| / ||expected||; infinite if a value is not a number. Where terms cancel, relative to their
    /// magnitudes.
    pub error: f64,
    /// Largest error that rounding explains.
    pub allowed: f64,
}

impl Finding {
    /// Whether rounding explains the error.
    pub fn holds(&self) -> bool {
        self.error <= self.allowed
    }
}

/// Runs the step that follows the session's start and judges every operation on the device's own inputs.
///
/// The session's plan must not share memory between tensors.
///
/// # Errors
/// If the device fails.
pub fn verify(session: &mut Session) -> Result<Vec<Finding>, TrainError> {
    session.shuffle(0)?;
    let plan: Plan = session.plan().clone();
    let step = session.step_state(0);
    let mut reference = Reference::new(plan.clone());
    let tensors: Vec<View> = plan.tensors().iter().map(|t| t.tensor).collect();
    // States first: the step changes some of them in place.
    for &tensor in &tensors {
        if plan.placement(tensor).is_some() {
            let values = session.executor().read(tensor)?;
            reference.set(tensor, &values).map_err(failed)?;
        }
    }
    session.executor().run(Phase::Train, std::slice::from_ref(&step))?;
    let mut findings = Vec::new();
    let nodes = plan.nodes(Phase::Train);
    for (at, node) in nodes.iter().enumerate() {
        let op = &node.entry.op;
        reference.execute(op, &step).map_err(failed)?;
        // A batch from several shards is complete only after the last of them.
        let is_complete =
            |tensor: View| !nodes[at + 1..].iter().any(|later| later.entry.op.outputs().any(|t| t == tensor));
        for operand in op.operands().iter().filter(|o| o.access != Access::Read && is_complete(o.tensor)) {
            let expected = reference.get(operand.tensor).map_err(failed)?;
            let found = session.executor().read(operand.tensor)?;
            let magnitudes = magnitudes(op, operand.name, &expected, &reference).map_err(failed)?;
            findings.push(Finding {
                op: op.name(),
                variant: node.variant.to_string(),
                tensor: plan.name(operand.tensor).to_owned(),
                error: relative_error(&found, &expected, &magnitudes),
                allowed: allowance(op),
            });
            // What follows is judged on what the device computed.
            if found.iter().all(|v| v.is_finite()) {
                reference.set(operand.tensor, &found).map_err(failed)?;
            }
        }
    }
    Ok(findings)
}

fn failed(error: ReferenceError) -> TrainError {
    ExecuteError::from(error).into()
}

/// The size of what an output is made of. It is the output itself, but for operations that can cancel: means and sums of
/// errors behind a batch norm, and the normative gradient after a factorisation, are nothing but rounding.
fn magnitudes(op: &Op, operand: &str, expected: &[f64], reference: &Reference) -> Result<Vec<f64>, ReferenceError> {
    match op {
        Op::Gemm(gemm) if operand == "sums" && gemm.transpose_a && gemm.splits == 1 => {
            let a = reference.get(gemm.a)?;
            Ok(magnitude_sums(&a, gemm.a.shape.per_replica(), gemm.a.cols() as usize))
        }
        Op::SumSplits(sum) => {
            let a = reference.get(sum.a)?;
            Ok(magnitude_sums(&a, sum.a.shape.per_replica(), sum.out.shape.per_replica()))
        }
        Op::Oja(oja) => {
            let (statistics, p) = (reference.get(oja.statistics)?, reference.get(oja.p)?);
            let replicas =
                statistics.chunks(oja.statistics.shape.per_replica()).zip(p.chunks(oja.p.shape.per_replica()));
            let rank = oja.p.cols() as usize;
            Ok(replicas.flat_map(|(statistics, p)| oja_magnitudes(statistics, p, rank, f64::from(oja.rows))).collect())
        }
        Op::ColumnSum(sum) => {
            let x = reference.get(sum.x)?;
            Ok(magnitude_sums(&x, sum.x.shape.per_replica(), sum.x.cols() as usize))
        }
        Op::Moments(moments) => {
            let (x, cols) = (reference.get(moments.x)?, moments.x.cols() as usize);
            let sums = magnitude_sums(&x, moments.x.shape.per_replica(), cols);
            let means = sums.iter().map(|sum| sum / f64::from(moments.x.rows())).collect::<Vec<_>>();
            let variances = expected.chunks(2 * cols).map(|replica| &replica[cols..]);
            Ok(means.chunks(cols).zip(variances).flat_map(|(means, variances)| [means, variances].concat()).collect())
        }
        Op::Gemm(gemm) => match gemm.epilogue.addend {
            Some((addend, scale)) => {
                let addend = reference.get(addend)?;
                Ok(expected.iter().zip(addend).map(|(e, a)| e.abs() + (scale * a).abs()).collect())
            }
            None => Ok(expected.to_vec()),
        },
        _ => Ok(expected.to_vec()),
    }
}

/// What the terms of the Oja gradient of one replica add up to without cancellation: covariances are differences of
/// products, and where p has converged the gradient is one of covariances.
fn oja_magnitudes(statistics: &[f64], p: &[f64], rank: usize, rows: f64) -> Vec<f64> {
    let wide = statistics.len() / (rank + 3);
    let width = wide - rank;
    let mean = |col: usize| statistics[rank * wide + col] / rows;
    let covariance =
        |j: usize, col: usize| (statistics[j * wide + col] / rows).abs() + (mean(col) * mean(width + j)).abs();
    let variance = |col: usize| statistics[(rank + 1) * wide + col] / rows - mean(col).powi(2);
    let largest = (0..width).map(variance).fold(0.0, f64::max);
    let scale = if rows > 1.0 { largest * rows / (rows - 1.0) } else { 0.0 };
    let element = |row: usize, j: usize| {
        let inside: f64 = (0..rank).map(|l| p[row * rank + l].abs() * covariance(l, width + j)).sum();
        (inside + covariance(j, row)) / (scale.sqrt() + 1e-8).powi(2)
    };
    (0..width).flat_map(|row| (0..rank).map(move |j| (row, j))).map(|(row, j)| element(row, j)).collect()
}

/// What every element of a column sum would be without cancellation; x is replicas x rows x cols.
fn magnitude_sums(x: &[f64], per_replica: usize, cols: usize) -> Vec<f64> {
    let sum = |replica: &[f64], col: usize| replica.iter().skip(col).step_by(cols).map(|v| v.abs()).sum();
    x.chunks(per_replica).flat_map(|replica| (0..cols).map(move |col| sum(replica, col))).collect()
}

#[cfg(test)]
mod tests {
    use super::{magnitude_sums, oja_magnitudes};

    /// Two columns, rank one, two rows: x' = 0 and (2, 4), y' = 0 and 3.
    #[test]
    fn magnitudes_of_the_oja_rule_by_hand() {
        let statistics = [
            6.0, 12.0, 9.0, /* sums */ 2.0, 4.0, 3.0, /* squares */ 4.0, 16.0, 9.0, /* first */ 5.0,
            7.0, 1.0,
        ];
        // Variances 1 and 4, unbiased 8 at most. Covariances with y: 3 + 1.5 and 6 + 3; of y: 4.5 + 2.25.
        let found = oja_magnitudes(&statistics, &[-1.0, 0.0], 1, 2.0);
        let scale = (8.0f64.sqrt() + 1e-8).powi(2);
        assert_eq!(found, [(6.75 + 4.5) / scale, 9.0 / scale]);
    }

    #[test]
    fn magnitudes_add_up_by_replica_and_column() {
        let two_replicas = [1.0, -2.0, -3.0, 4.0, /* second */ 0.5, 0.0, -0.5, 7.0];
        assert_eq!(magnitude_sums(&two_replicas, 4, 2), [4.0, 6.0, 1.0, 7.0]);
    }
}
