//! A plan as text.

use std::fmt::Write;

use super::Plan;
use crate::ops::{Access, Phase};
use crate::words::counted;

/// One line an operation: layer, role, kernel variant, FLOPs and bytes, operands with shapes; sums last. On a screen of `columns`
/// the operands of what is longer follow on lines of their own.
pub fn explain(plan: &Plan, phase: Phase, columns: Option<usize>) -> String {
    let mut text = String::new();
    let width = plan.nodes(phase).iter().map(|node| node.entry.layer.len()).fold(10, usize::max);
    let _ = writeln!(
        text,
        "{:<width$} {:<15} {:<22} {:<17} {:>10} {:>10}  operands",
        "layer", "role", "op", "variant", "MFLOP", "kB"
    );
    for node in plan.nodes(phase) {
        let (op, cost) = (&node.entry.op, node.entry.op.cost());
        let operands = |write: bool| {
            op.operands()
                .iter()
                .filter(|o| (o.access != Access::Read) == write)
                .map(|o| format!("{}={} {}", o.name, plan.name(o.tensor), o.tensor.shape))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let details = if op.details().is_empty() { String::new() } else { format!("  [{}]", op.details()) };
        let operands = format!("{} -> {}{details}", operands(false), operands(true));
        let cost = format!(
            "{:<width$} {:<15} {:<22} {:<17} {:>10.3} {:>10.1}",
            node.entry.layer,
            node.entry.role.name(),
            op.name(),
            node.variant.to_string(),
            cost.flops as f64 / 1e6,
            cost.bytes as f64 / 1e3,
        );
        match columns {
            Some(columns) if cost.len() + 2 + operands.len() > columns => {
                let _ = writeln!(text, "{cost}");
                lines(&operands, columns.saturating_sub(INDENT)).for_each(|line| {
                    let _ = writeln!(text, "{:INDENT$}{line}", "");
                });
            }
            _ => {
                let _ = writeln!(text, "{cost}  {operands}");
            }
        }
    }
    let total = plan.cost(phase, None);
    let memory: u64 = plan.buffers().iter().sum();
    let _ = writeln!(
        text,
        "{}, {:.3} MFLOP, {:.1} kB moved; {}, {:.1} MB for the whole program",
        counted(plan.nodes(phase).len(), "operation"),
        total.flops as f64 / 1e6,
        total.bytes as f64 / 1e3,
        counted(plan.buffers().len(), "buffer"),
        memory as f64 / 1e6,
    );
    text
}

/// Of operands below their operation.
const INDENT: usize = 4;

/// A text in lines of at most so many bytes, broken behind commas; what has none is left whole.
fn lines(text: &str, most: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let ends = || rest.match_indices(", ").map(|(at, _)| at + 1).chain([rest.len()]);
        let end = ends().take_while(|&end| end <= most).last().or_else(|| ends().next()).unwrap_or(rest.len());
        let (line, after) = rest.split_at(end);
        rest = after.trim_start();
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn lines_break_behind_commas_and_lose_nothing() {
        let text = "a=x 3x4, b=layers.0.weight 5x4 -> out=h 3x5  [NT +bias]";
        assert_eq!(lines(text, 100).collect::<Vec<_>>(), [text]);
        assert_eq!(lines(text, 20).collect::<Vec<_>>(), ["a=x 3x4,", "b=layers.0.weight 5x4 -> out=h 3x5  [NT +bias]"]);
        assert_eq!(lines("a, b, c", 5).collect::<Vec<_>>(), ["a, b,", "c"]);
        assert_eq!(lines("", 5).count(), 0);
    }
}
