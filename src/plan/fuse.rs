//! Fusion: operations that follow a product without another reader in between move into its epilogue.

use super::Profile;
use super::select::fuses_transport;
use crate::ops::{Entry, Epilogue, Op, Phase, Recording, Role, Tensor, Transport};

/// Rewrites a phase.
pub(super) fn fuse(recording: &mut Recording, phase: Phase, profile: &Profile) {
    fuse_epilogues(recording, phase);
    fuse_transports(recording, phase, profile);
}

/// How many operations of the phase read a tensor, plus one if the host does.
fn readers(entries: &[Entry], kept: &[Tensor], tensor: Tensor) -> usize {
    let by_ops = entries.iter().filter(|e| e.op.inputs().any(|t| t == tensor)).count();
    by_ops + usize::from(kept.contains(&tensor))
}

/// Product, then activation or gate of its only reader: one kernel, and the product itself never reaches memory.
fn fuse_epilogues(recording: &mut Recording, phase: Phase) {
    let kept = recording.kept(phase).to_vec();
    let mut entries = recording.entries(phase).to_vec();
    let mut at = 0;
    while at < entries.len() {
        if let Some((reader, out, epilogue)) = epilogue_after(&entries, &kept, at) {
            if let Op::Gemm(gemm) = &mut entries[at].op {
                gemm.out = out;
                gemm.epilogue = epilogue;
            }
            // What else the reader needs may be written between the two, so the product moves down to its place.
            let fused = entries.remove(at);
            entries[reader - 1] = fused;
        } else {
            at += 1;
        }
    }
    recording.replace(phase, entries);
}

fn epilogue_after(entries: &[Entry], kept: &[Tensor], at: usize) -> Option<(usize, Tensor, Epilogue)> {
    let Op::Gemm(gemm) = &entries[at].op else { return None };
    if readers(entries, kept, gemm.out) != 1 || gemm.epilogue.activation.is_some() || gemm.epilogue.gate.is_some() {
        return None;
    }
    let reader = entries.iter().position(|e| e.op.inputs().any(|t| t == gemm.out))?;
    match &entries[reader].op {
        Op::Activate(next) => Some((reader, next.out, Epilogue { activation: Some(next.f), ..gemm.epilogue })),
        Op::Gate(next) if next.x == gemm.out => {
            Some((reader, next.out, Epilogue { gate: Some((next.f, next.saved)), ..gemm.epilogue }))
        }
        _ => None,
    }
}

/// `y = delta p` directly followed by `y q`: the fused bottleneck.
fn fuse_transports(recording: &mut Recording, phase: Phase, profile: &Profile) {
    let mut entries = recording.entries(phase).to_vec();
    let mut at = 0;
    while at + 1 < entries.len() {
        let transport = transport_at(&entries[at], &entries[at + 1]);
        if let Some(transport) = transport.filter(|t| fuses_transport(t.p.cols(), profile)) {
            entries[at].op = transport.into();
            entries.remove(at + 1);
        }
        at += 1;
    }
    recording.replace(phase, entries);
}

fn transport_at(project: &Entry, mix: &Entry) -> Option<Transport> {
    let (Op::Gemm(first), Op::Gemm(second)) = (&project.op, &mix.op) else { return None };
    let plain = |g: &crate::ops::Gemm| !g.transpose_a && !g.transpose_b && g.alpha == 1.0;
    let fits = project.role == Role::Transport
        && mix.role == Role::Transport
        && plain(first)
        && plain(second)
        && first.epilogue == Epilogue::default()
        && second.a == first.out
        && second.epilogue.bias.is_none()
        && second.epilogue.addend.is_none();
    fits.then_some(Transport {
        delta: first.a,
        p: first.b,
        q: second.b,
        y: first.out,
        out: second.out,
        epilogue: second.epilogue,
    })
}
