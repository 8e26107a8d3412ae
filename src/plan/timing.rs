//! How long operations take: what an executor measures, and the table made of it.

use std::fmt::Write;

use web_time::Instant;

use super::Plan;
use crate::ops::{Cost, Phase, Role};
use crate::words::counted;

/// What a time was measured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Timestamps that the device writes: computation alone.
    Device,
    /// The host's clock, from handing over to the end of the wait: submission and wake-up are in it.
    Host,
}

impl Clock {
    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Clock::Device => "device timestamps",
            Clock::Host => "host clock",
        }
    }
}

/// Time of every operation of a phase.
#[derive(Clone, Debug, PartialEq)]
pub struct OpTimes {
    /// How it was measured.
    pub clock: Clock,
    /// Median seconds of each operation, in the plan's order.
    pub seconds: Vec<f64>,
}

/// The middle value, the mean of the two middle ones of an even number; NaN of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => f64::NAN,
        (count, middle) if count % 2 == 1 => sorted[middle],
        (_, middle) => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The median of every column, of rounds of as many values each.
pub(crate) fn medians(rounds: &[Vec<f64>]) -> Vec<f64> {
    let columns = rounds.first().map_or(0, Vec::len);
    (0..columns).map(|column| median(&rounds.iter().map(|round| round[column]).collect::<Vec<_>>())).collect()
}

/// Seconds that `work` takes by the host's clock.
pub(crate) fn seconds<E>(work: impl FnOnce() -> Result<(), E>) -> Result<f64, E> {
    let began = Instant::now();
    work()?;
    Ok(began.elapsed().as_secs_f64())
}

/// One line an operation: layer, role, kernel variant, median time, its share of the sum, rates from
/// [`crate::ops::Op::cost`]; then the sums by role, and of all.
pub fn time_table(plan: &Plan, phase: Phase, times: &OpTimes) -> String {
    let total: f64 = times.seconds.iter().sum();
    let numbers = |seconds: f64, cost: Cost| {
        format!(
            "{:>10.4} {:>6.1} {:>9.2} {:>8.2} {:>10.3} {:>10.1}",
            1e3 * seconds,
            100.0 * seconds / total,
            cost.flops as f64 / seconds / 1e9,
            cost.bytes as f64 / seconds / 1e9,
            cost.flops as f64 / 1e6,
            cost.bytes as f64 / 1e3,
        )
    };
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<10} {:<15} {:<22} {:<15} {:>10} {:>6} {:>9} {:>8} {:>10} {:>10}  details",
        "layer", "role", "op", "variant", "ms", "%", "GFLOP/s", "GB/s", "MFLOP", "kB"
    );
    let nodes = plan.nodes(phase);
    for (node, &seconds) in nodes.iter().zip(&times.seconds) {
        let (op, details) = (&node.entry.op, node.entry.op.details());
        let _ = writeln!(
            text,
            "{:<10} {:<15} {:<22} {:<15} {}{}{details}",
            node.entry.layer,
            node.entry.role.name(),
            op.name(),
            node.variant.to_string(),
            numbers(seconds, op.cost()),
            if details.is_empty() { "" } else { "  " },
        );
    }
    for role in Role::ALL {
        let of_role = || nodes.iter().zip(&times.seconds).filter(move |(node, _)| node.entry.role == role);
        if of_role().next().is_some() {
            let seconds = of_role().map(|(_, seconds)| seconds).sum();
            let _ = writeln!(
                text,
                "{:<10} {:<15} {:<31} {}",
                "sum",
                role.name(),
                counted(of_role().count(), "operation"),
                numbers(seconds, plan.cost(phase, Some(role)))
            );
        }
    }
    let all = counted(nodes.len(), "operation");
    let _ = writeln!(text, "{:<10} {:<15} {all:<31} {}", "sum", "all", numbers(total, plan.cost(phase, None)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), 3.0);
        assert_eq!(median(&[f64::INFINITY, 1.0, 2.0]), 2.0, "one outlier moves nothing");
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn medians_are_taken_column_by_column() {
        let rounds = [vec![1.0, 30.0], vec![3.0, 10.0], vec![2.0, 20.0]];
        assert_eq!(medians(&rounds), [2.0, 20.0]);
        assert_eq!(medians(&[]), [0.0; 0]);
    }
}
