//! Fusion: operations that follow a product without another reader in between move into its epilogue.

use super::Profile;
use super::select::{fits_together, fuses, fuses_hebbian};
use super::splits::{column_splits, correlation_splits, splits};
use crate::ops::{
    Activate, Add, AveragePoolBackward, Correlate, Entry, Epilogue, Fit, Gate, Gemm, Hebbian, LayerNormBackward,
    LayerNormGradients, MaxPoolBackward, Normalise, Op, Phase, Recording, Role, ScaleGradient, SumSplits, Transport,
    View,
};

/// Rewrites a phase.
pub(super) fn fuse(recording: &mut Recording, phase: Phase, profile: &Profile) {
    fuse_epilogues(recording, phase);
    fuse_sums(recording, phase);
    fuse_transports(recording, phase, profile);
    if fuses_hebbian(profile) {
        fuse_hebbian(recording, phase);
    }
    fuse_fits(recording, phase, profile);
    split_sums(recording, phase, profile);
}

/// How many operations of the phase read a tensor or a part of it, plus one if the host does.
fn readers(entries: &[Entry], kept: &[View], tensor: View) -> usize {
    let same = |other: View| other.index() == tensor.index();
    let by_ops = entries.iter().filter(|e| e.op.inputs().any(same)).count();
    by_ops + usize::from(kept.iter().any(|kept| same(*kept)))
}

/// An operation, then the sum, activation or gate that is its only reader: one kernel, and what lies between never reaches memory.
fn fuse_epilogues(recording: &mut Recording, phase: Phase) {
    let kept = recording.kept(phase).to_vec();
    let mut entries = recording.entries(phase).to_vec();
    let mut at = 0;
    while at < entries.len() {
        if let Some((reader, op)) = fused_after(&entries, &kept, at) {
            // What else the reader needs may be written between the two, so the operation moves down to its place.
            let first = entries.remove(at);
            entries[reader - 1] = Entry { op, ..first };
        } else {
            at += 1;
        }
    }
    recording.replace(phase, entries);
}

/// Where the only reader of what an operation writes stands, if both can be one, and that one.
fn fused_after(entries: &[Entry], kept: &[View], at: usize) -> Option<(usize, Op)> {
    let op = &entries[at].op;
    let written = match op {
        Op::Gemm(op) if op.epilogue.activation.is_none() && op.epilogue.gate.is_none() && !op.accumulate => op.out,
        Op::LayerNormBackward(LayerNormBackward { out, addend: None, .. }) => *out,
        Op::Normalise(op) if op.activation.is_none() => op.out,
        Op::MaxPoolBackward(MaxPoolBackward { out, gate: None, .. })
        | Op::AveragePoolBackward(AveragePoolBackward { out, gate: None, .. }) => *out,
        _ => return None,
    };
    if readers(entries, kept, written) != 1 {
        return None;
    }
    let reader = entries.iter().position(|e| e.op.inputs().any(|t| t == written))?;
    if entries[reader].section != entries[at].section {
        return None;
    }
    let fused = match &entries[reader].op {
        Op::Add(next) => with_addend(op, next, written)?,
        Op::Activate(next) => with_activation(op, next)?,
        Op::Gate(next) if next.x == written => with_gate(op, next)?,
        _ => return None,
    };
    Some((reader, fused))
}

/// What the sum adds to what the operation has written.
fn with_addend(op: &Op, next: &Add, written: View) -> Option<Op> {
    let addend = match [next.a == written, next.b == written] {
        [true, false] => next.b,
        [false, true] => next.a,
        _ => return None,
    };
    let out = next.out;
    Some(match op {
        Op::Gemm(op) if op.epilogue.addend.is_none() && op.epilogue.clamp.is_none() => {
            Gemm { out, epilogue: Epilogue { addend: Some((addend, 1.0)), ..op.epilogue }, ..*op }.into()
        }
        Op::LayerNormBackward(op) => LayerNormBackward { addend: Some(addend), out, ..*op }.into(),
        _ => return None,
    })
}

fn with_activation(op: &Op, next: &Activate) -> Option<Op> {
    let (activation, out) = (Some(next.f), next.out);
    Some(match op {
        Op::Gemm(op) => Gemm { out, epilogue: Epilogue { activation, ..op.epilogue }, ..*op }.into(),
        Op::Normalise(op) => Normalise { out, activation, ..*op }.into(),
        _ => return None,
    })
}

fn with_gate(op: &Op, next: &Gate) -> Option<Op> {
    let (gate, out) = (Some((next.f, next.saved)), next.out);
    Some(match op {
        Op::Gemm(op) => Gemm { out, epilogue: Epilogue { gate, ..op.epilogue }, ..*op }.into(),
        Op::MaxPoolBackward(op) => MaxPoolBackward { out, gate, ..*op }.into(),
        Op::AveragePoolBackward(op) => AveragePoolBackward { out, gate, ..*op }.into(),
        _ => return None,
    })
}

/// `delta^T h` and the column sums of delta: a weight's gradient and its bias's read delta once.
fn fuse_sums(recording: &mut Recording, phase: Phase) {
    let mut entries = recording.entries(phase).to_vec();
    let mut at = 0;
    while at < entries.len() {
        let summed = match &entries[at].op {
            Op::ColumnSum(op) => Some(*op),
            _ => None,
        };
        let product = summed.and_then(|sum| {
            // Neither factor changes before the product or after the sum: scratch tensors are written once.
            entries.iter_mut().find_map(|e| match &mut e.op {
                Op::Gemm(g) if g.transpose_a && g.a == sum.x && g.sums.is_none() && g.accumulate == sum.accumulate => {
                    Some((g, sum.out))
                }
                _ => None,
            })
        });
        match product {
            Some((gemm, out)) => {
                gemm.sums = Some(out);
                entries.remove(at);
            }
            None => at += 1,
        }
    }
    recording.replace(phase, entries);
}

/// Products whose few outputs leave most of a GPU idle: their sums are cut into splits, and those added by a second
/// operation in a fixed order.
fn split_sums(recording: &mut Recording, phase: Phase, profile: &Profile) {
    let mut entries = Vec::new();
    for entry in recording.entries(phase).to_vec() {
        let cut = |gemm: &Gemm| splits(gemm, recording.ranked(gemm), profile);
        match &entry.op {
            Op::Gemm(gemm) if cut(gemm) > 1 => {
                let ops = split(recording, gemm, cut(gemm));
                entries.extend(ops.into_iter().map(|op| Entry { op, ..entry.clone() }));
            }
            Op::Correlate(op) if correlation_splits(op, profile) > 1 => {
                let ops = split_correlation(recording, op, correlation_splits(op, profile));
                entries.extend(ops.into_iter().map(|op| Entry { op, ..entry.clone() }));
            }
            Op::LayerNormGradients(op) if column_splits(op.x, op.splits(), profile) > 1 => {
                let ops = split_layer_norm(recording, op, column_splits(op.x, op.splits(), profile));
                entries.extend(ops.into_iter().map(|op| Entry { op, ..entry.clone() }));
            }
            Op::ScaleGradient(op) if column_splits(op.x, op.splits(), profile) > 1 => {
                let ops = split_scale_gradient(recording, op, column_splits(op.x, op.splits(), profile));
                entries.extend(ops.into_iter().map(|op| Entry { op, ..entry.clone() }));
            }
            _ => entries.push(entry),
        }
    }
    recording.replace(phase, entries);
}

/// At most so many splits: none of them may be empty, and all begin where a kernel's tile does.
fn split(recording: &mut Recording, gemm: &Gemm, most: u32) -> Vec<Op> {
    let depth = Gemm { splits: most, ..*gemm }.depth();
    let splits = gemm.inner().div_ceil(depth);
    let name = recording.info(gemm.out).name.clone();
    let out = recording.scratch(format!("{name}.splits"), splits * gemm.rows(), gemm.cols());
    let sums = gemm.sums.map(|_| recording.scratch(format!("{name}.sums.splits"), splits, gemm.rows()));
    let Gemm { alpha, epilogue, accumulate, .. } = *gemm;
    let pieces = Gemm { out, sums, splits, alpha: 1.0, epilogue: Epilogue::default(), accumulate: false, ..*gemm };
    let added = SumSplits { a: out, out: gemm.out, alpha, epilogue, accumulate };
    let mut ops = vec![pieces.into(), added.into()];
    ops.extend(sums.zip(gemm.sums).map(|(splits, whole)| added_up(splits, whole, accumulate)));
    ops
}

fn added_up(a: View, out: View, accumulate: bool) -> Op {
    SumSplits { a, out, alpha: 1.0, epilogue: Epilogue::default(), accumulate }.into()
}

fn split_correlation(recording: &mut Recording, op: &Correlate, most: u32) -> Vec<Op> {
    let splits = op.x.rows().div_ceil(op.x.rows().div_ceil(most));
    let mut pieces = |of: View| {
        let name = format!("{}.splits", recording.info(of).name);
        recording.scratch(name, splits * of.rows(), of.cols())
    };
    let statistics = pieces(op.statistics);
    let hebbian = op.hebbian.map(|h| Hebbian { gradient: pieces(h.gradient), accumulate: false, ..h });
    let mut ops =
        vec![Correlate { statistics, hebbian, splits, ..*op }.into(), added_up(statistics, op.statistics, false)];
    ops.extend(
        hebbian.zip(op.hebbian).map(|(splits, whole)| added_up(splits.gradient, whole.gradient, whole.accumulate)),
    );
    ops
}

/// Room for at most so many rows of sums over the rows of x, of which none is empty.
fn column_parts(recording: &mut Recording, x: View, out: View, most: u32) -> View {
    let splits = x.rows().div_ceil(x.rows().div_ceil(most));
    let name = format!("{}.splits", recording.info(out).name);
    recording.scratch(name, splits, out.cols())
}

fn split_scale_gradient(recording: &mut Recording, op: &ScaleGradient, most: u32) -> Vec<Op> {
    let out = column_parts(recording, op.x, op.out, most);
    vec![ScaleGradient { out, accumulate: false, ..*op }.into(), added_up(out, op.out, op.accumulate)]
}

fn split_layer_norm(recording: &mut Recording, op: &LayerNormGradients, most: u32) -> Vec<Op> {
    let [grad_gamma, grad_beta] = [op.grad_gamma, op.grad_beta].map(|out| column_parts(recording, op.x, out, most));
    let first = LayerNormGradients { grad_gamma, grad_beta, accumulate: false, ..*op };
    let added = |splits, whole| added_up(splits, whole, op.accumulate);
    vec![first.into(), added(grad_gamma, op.grad_gamma), added(grad_beta, op.grad_beta)]
}

/// Small factors that follow their weight: gram matrix, difference and significance of both in one operation.
fn fuse_fits(recording: &mut Recording, phase: Phase, profile: &Profile) {
    let kept = recording.kept(phase).to_vec();
    let mut entries = recording.entries(phase).to_vec();
    let mut at = 0;
    while at < entries.len() {
        let Some((fit, made_by)) =
            fit_at(recording, &entries, &kept, at).filter(|(fit, _)| fits_together(fit, profile))
        else {
            at += 1;
            continue;
        };
        let other = entries[..at].iter().position(|e| match &e.op {
            Op::Fit(other) => (other.values, other.at) == (fit.values, fit.at),
            _ => false,
        });
        let before = other.and_then(|other| match &entries[other].op {
            Op::Fit(other) => Some(*other),
            _ => None,
        });
        let w_q = fit.w_q.or(before.and_then(|other| other.w_q));
        let p_w = fit.p_w.or(before.and_then(|other| other.p_w));
        entries[at].op = Fit { w_q, p_w, ..fit }.into();
        let mut gone: Vec<usize> = made_by.into_iter().chain(other).collect();
        gone.sort_unstable();
        for index in gone.iter().rev() {
            entries.remove(*index);
        }
        at = at + 1 - gone.len();
    }
    recording.replace(phase, entries);
}

/// What `Significant` at this place ends, and where the operations stand that it replaces besides: the product with the
/// gram matrix and the gram matrix.
fn fit_at(recording: &Recording, entries: &[Entry], kept: &[View], at: usize) -> Option<(Fit, [usize; 2])> {
    let Op::Significant(last) = &entries[at].op else { return None };
    let made = |tensor: View| -> Option<(usize, &Gemm)> {
        let index = entries[..at].iter().position(|e| e.op.outputs().any(|t| t == tensor))?;
        match &entries[index].op {
            Op::Gemm(gemm) if readers(entries, kept, tensor) == 1 && is_plain(gemm) => Some((index, gemm)),
            _ => None,
        }
    };
    let (difference, product) = made(last.x)?;
    let nothing_else = Epilogue { addend: Some((last.scale, -1.0)), ..Epilogue::default() };
    if product.transpose_a || product.transpose_b || product.epilogue != nothing_else {
        return None;
    }
    let bare = |gemm: &Gemm, transposes: [bool; 2]| {
        gemm.a == gemm.b && gemm.epilogue == Epilogue::default() && [gemm.transpose_a, gemm.transpose_b] == transposes
    };
    let window = |view: View| (recording.info(view).tensor, view.offset());
    // p (q q^T) - w_q, or (p^T p) q - p_w.
    let of_p = made(product.b).filter(|(_, gram)| bare(gram, [false, true]));
    let of_q = made(product.a).filter(|(_, gram)| bare(gram, [true, false]));
    let (gram, p, q, w_q, p_w) = match (of_p, of_q) {
        (Some((index, gram)), _) => (index, product.a, gram.a, Some(last.scale), None),
        (_, Some((index, gram))) => (index, gram.a, product.b, None, Some(last.scale)),
        _ => return None,
    };
    let ((values, at_p), (same, at_q)) = (window(p), window(q));
    let (gradients, at_gradient) = window(last.out);
    let alike = values == same && at_gradient == if w_q.is_some() { at_p } else { at_q };
    let extents = [p.rows(), p.cols(), q.cols()];
    let fit = Fit { values, gradients, at: [at_p, at_q], extents, w_q, p_w };
    (alike && values.shape == gradients.shape).then_some((fit, [difference, gram]))
}

/// Whether a product is one, with nothing but its epilogue added.
fn is_plain(gemm: &Gemm) -> bool {
    let whole = gemm.sums.is_none() && gemm.splits == 1 && gemm.alpha == 1.0 && !gemm.accumulate;
    whole && gemm.half.is_none() && gemm.convolution.is_none()
}

/// Statistics of (delta, y) and `y^T h`: one pass over y, one dispatch.
fn fuse_hebbian(recording: &mut Recording, phase: Phase) {
    let mut entries = recording.entries(phase).to_vec();
    let mut at = 0;
    while at < entries.len() {
        let gradient = match &entries[at].op {
            Op::Gemm(g) if entries[at].role == Role::Feedback && g.transpose_a && !g.transpose_b => Some(*g),
            _ => None,
        };
        let plain = |g: &Gemm| g.epilogue == Epilogue::default() && is_plain(&Gemm { accumulate: false, ..*g });
        let correlate = gradient.filter(plain).and_then(|g| {
            entries.iter_mut().find_map(|e| match &mut e.op {
                Op::Correlate(c) if c.y == g.a && c.hebbian.is_none() => {
                    Some((c, Hebbian { input: g.b, gradient: g.out, accumulate: g.accumulate }))
                }
                _ => None,
            })
        });
        match correlate {
            Some((correlate, hebbian)) => {
                correlate.hebbian = Some(hebbian);
                entries.remove(at);
            }
            None => at += 1,
        }
    }
    recording.replace(phase, entries);
}

/// `y = delta p` directly followed by `y q`: the fused bottleneck.
fn fuse_transports(recording: &mut Recording, phase: Phase, profile: &Profile) {
    let mut entries = recording.entries(phase).to_vec();
    let mut at = 0;
    while at + 1 < entries.len() {
        let transport = transport_at(&entries[at], &entries[at + 1]);
        if let Some(transport) = transport.filter(|t| fuses(t, profile)) {
            entries[at].op = transport.into();
            entries.remove(at + 1);
        }
        at += 1;
    }
    recording.replace(phase, entries);
}

fn transport_at(project: &Entry, mix: &Entry) -> Option<Transport> {
    let (Op::Gemm(first), Op::Gemm(second)) = (&project.op, &mix.op) else { return None };
    let plain = |g: &Gemm| is_plain(g) && !g.transpose_a && !g.transpose_b;
    let fits = project.role == Role::Transport
        && mix.role == Role::Transport
        && plain(first)
        && plain(second)
        && first.epilogue == Epilogue::default()
        && second.a == first.out
        && second.epilogue.bias.is_none()
        && second.epilogue.addend.is_none_or(|(_, scale)| scale == 1.0);
    fits.then_some(Transport {
        delta: first.a,
        p: first.b,
        q: second.b,
        y: first.out,
        out: second.out,
        epilogue: second.epilogue,
    })
}
