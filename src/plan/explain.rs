//! A plan as text.

use std::fmt::Write;

use super::Plan;
use crate::ops::{Access, Phase};
use crate::words::counted;

/// One line an operation: layer, role, kernel variant, operands with shapes, FLOPs and bytes; sums last.
pub fn explain(plan: &Plan, phase: Phase) -> String {
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
                .map(|o| format!("{}={} {}", o.name, plan.info(o.tensor).name, o.tensor.shape))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let _ = writeln!(
            text,
            "{:<width$} {:<15} {:<22} {:<17} {:>10.3} {:>10.1}  {} -> {}{}",
            node.entry.layer,
            node.entry.role.name(),
            op.name(),
            node.variant.to_string(),
            cost.flops as f64 / 1e6,
            cost.bytes as f64 / 1e3,
            operands(false),
            operands(true),
            if op.details().is_empty() { String::new() } else { format!("  [{}]", op.details()) },
        );
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
