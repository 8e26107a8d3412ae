//! Into how many dispatches the steps of a sequence are cut.

use super::profile::Profile;
use crate::ops::{Entry, Op, Phase, Recording, Recurrence, RecurrenceBackward, StateWeight, Steps};

/// Rounds of loops that one invocation goes through on a CPU at most. Mesa's software driver ends all loops of an invocation after
/// 65535 rounds altogether, without a word (seen with 22.3).
const MOST_ROUNDS: u32 = 60_000;

/// Replaces recurrences by pieces of them, where one dispatch cannot, or should not, take all steps.
pub(super) fn cut(recording: &mut Recording, phase: Phase, profile: &Profile) {
    let mut entries = Vec::new();
    for entry in recording.entries(phase).to_vec() {
        let pieces: Vec<Op> = match &entry.op {
            Op::Recurrence(op) => {
                op.steps.cut(forward(op, profile)).map(|steps| Recurrence { steps, ..*op }.into()).collect()
            }
            Op::RecurrenceBackward(op) => {
                let pieces = op.steps.cut(backward(op, profile)).rev();
                pieces.map(|steps| RecurrenceBackward { steps, ..*op }.into()).collect()
            }
            _ => {
                entries.push(entry);
                continue;
            }
        };
        entries.extend(pieces.into_iter().map(|op| Entry { op, ..entry.clone() }));
    }
    recording.replace(phase, entries);
}

/// Most steps of a dispatch forward.
fn forward(op: &Recurrence, profile: &Profile) -> u32 {
    let (width, gates) = (op.out.cols(), op.a.cols() / op.out.cols());
    let in_tiles = width.div_ceil(64) * width.div_ceil(8) * (2 * gates + 9);
    at_once(profile, op.steps, true, width, in_tiles.max(in_lanes(width, 16, width)))
}

/// Most steps of a dispatch back.
fn backward(op: &RecurrenceBackward, profile: &Profile) -> u32 {
    let (width, gates) = (op.error.cols(), op.gates.cols());
    let product = |inner: u32| (width.div_ceil(64) * inner.div_ceil(8) * 11).max(in_lanes(width, 32, inner));
    match op.through {
        StateWeight::Whole(_) => at_once(profile, op.steps, true, width, product(gates)),
        StateWeight::Factored { p, .. } => {
            let rank = p.cols();
            let projection = (rank.div_ceil(16) * gates.div_ceil(16) * 5).max(in_lanes(rank, 16, gates));
            at_once(profile, op.steps, false, width, projection + product(rank))
        }
    }
}

/// Rounds of loops of the kernels for lanes of a CPU, for tiles of so many columns: over a sum's terms, then over the samples and
/// their units.
fn in_lanes(cols: u32, tile: u32, inner: u32) -> u32 {
    let terms = if inner.is_multiple_of(4) { inner / 4 } else { inner };
    cols.div_ceil(tile) * (terms + 32 * (1 + tile / 8) + 1)
}

/// A CPU takes as many steps as its driver lets it. On a GPU one workgroup computes all units of its samples where all steps are one
/// dispatch, and a whole weight gives it so much to do that a dispatch a step, which spreads the units over the device, is faster
/// from two tiles on. The factors of low rank are small: their steps stay together.
fn at_once(profile: &Profile, steps: Steps, is_whole: bool, width: u32, rounds: u32) -> u32 {
    /// Units of a tile.
    const TILE: u32 = 64;
    match profile.software {
        true => (MOST_ROUNDS / (rounds + 1)).max(1),
        false if is_whole && width > TILE => 1,
        false => steps.length,
    }
}
