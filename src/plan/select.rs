//! Which kernel computes an operation: a pure function of the operation and the adapter.

use super::profile::Profile;
use super::tuned::{ShapeClass, Tuned};
use super::variant::{Outputs, Variant};
use crate::ops::{Fit, Gemm, Op, Pass, Transport};

/// Workgroups that keep a GPU busy: its cores, some hundred, and a second one each to hide waiting.
pub(super) const BUSY_GPU: u32 = 256;

/// Threads of the CPU that a software adapter computes with are few; this many workgroups balance them.
pub(super) const BUSY_CPU: u32 = 32;

/// Largest rank of the fused transport in registers.
pub(crate) const BROADCAST_MAX_RANK: u32 = 16;

/// The kernels of products for GPUs.
const TILES: [Variant; 5] =
    [Variant::Tile16x64, Variant::Tile64x16, Variant::Tile32x32, Variant::Tile64x64, Variant::Tile128x64];

/// Every kernel that can compute the operation on such an adapter; the tests run them all.
pub fn candidates(op: &Op, profile: &Profile) -> Vec<Variant> {
    let mut all = match op {
        Op::Gemm(gemm) if gemm.half.is_some() => return half_candidates(profile),
        Op::Gemm(gemm) if gemm.splits > 1 && goes_by_tap(gemm) => return TILES.to_vec(),
        Op::Gemm(_) => [&TILES[..], &[Variant::Yardstick, Variant::Stream16x64]].concat(),
        Op::Transport(_) | Op::Correlate(_) => vec![Variant::Shared],
        op if attention_width(op).is_some() || recurs(op) => vec![Variant::Shared],
        Op::Fit(_) => Vec::new(),
        _ => vec![Variant::Plain],
    };
    if profile.has_eight_lanes() {
        match op {
            Op::Gemm(gemm) => {
                all.extend([
                    Variant::Broadcast16x64,
                    Variant::Broadcast32x32,
                    Variant::Broadcast32x64,
                    Variant::Broadcast64x32,
                ]);
                // What few convolutions have so few channels is not worth compiling a kernel for.
                all.extend(gemm.convolution.is_none().then_some(Variant::Broadcast64x16));
            }
            Op::Transport(op) if op.p.cols() <= BROADCAST_MAX_RANK => all.push(Variant::Broadcast),
            Op::Correlate(op) if op.hebbian.is_none() => all.push(Variant::Broadcast),
            Op::Fit(_) => all.push(Variant::Broadcast),
            op if attention_width(op).is_some_and(attends_in_registers) || recurs(op) => all.push(Variant::Broadcast),
            _ => {}
        }
    }
    all
}

/// Whether an operation goes through the steps of sequences.
fn recurs(op: &Op) -> bool {
    matches!(op, Op::Recurrence(_) | Op::RecurrenceBackward(_))
}

/// Columns of a head, of attention forward or back.
fn attention_width(op: &Op) -> Option<u32> {
    match op {
        Op::Attention(op) => Some(op.heads.width(op.out.cols())),
        Op::AttentionQueries(op) => Some(op.heads.width(op.error.cols())),
        Op::AttentionKeys(op) => Some(op.heads.width(op.error.cols())),
        _ => None,
    }
}

/// Whether there is a kernel for heads of such a width. Wide ones that are not whole quads are rare, and not worth one.
fn attends_in_registers(width: u32) -> bool {
    width.is_multiple_of(4) || width <= 32
}

/// Whether the kernels in registers go through a window tap by tap, from the first to the last: they split no sums then.
pub(super) fn goes_by_tap(gemm: &Gemm) -> bool {
    gemm.convolution.is_some_and(|c| c.pass != Pass::Weight)
}

/// Kernels of products in half precision: none where shaders cannot compute in 16 bits.
fn half_candidates(profile: &Profile) -> Vec<Variant> {
    if !profile.half {
        return Vec::new();
    }
    let tiles = [Variant::Half32x32, Variant::Half64x64, Variant::Half128x64];
    tiles.into_iter().chain(matrix(profile)).collect()
}

/// The kernel for the adapter's matrix units.
fn matrix(profile: &Profile) -> Option<Variant> {
    match profile.matrix_side? {
        8 => Some(Variant::Matrix64x32),
        16 => Some(Variant::Matrix128x64),
        _ => None,
    }
}

/// The candidates among which measuring decides, the default first. A GPU's kernels are slow on a CPU; and where every
/// kernel takes a CPU a second to compile, trying more than one beside the default costs more than it brings.
pub fn contenders(op: &Op, profile: &Profile) -> Vec<Variant> {
    let default = default_variant(op, profile);
    let in_half = half_candidates(profile);
    let others: &[Variant] = match op {
        // Measuring makes up the operands, and knows no images.
        Op::Gemm(gemm) if gemm.convolution.is_some() => &[],
        Op::Gemm(gemm) if gemm.half.is_some() && profile.software => &[],
        Op::Gemm(gemm) if gemm.half.is_some() => &in_half,
        Op::Gemm(_) if profile.software && profile.has_eight_lanes() => {
            if default == Variant::Broadcast32x32 {
                &[Variant::Broadcast32x64]
            } else {
                &[Variant::Broadcast32x32]
            }
        }
        Op::Gemm(_) if !profile.software => &TILES,
        _ => &[],
    };
    [default].into_iter().chain(others.iter().copied().filter(|v| *v != default)).collect()
}

/// The kernel that training uses: the measured choice, if there is one that this adapter can run, else the default.
pub fn select(op: &Op, profile: &Profile, tuned: &Tuned) -> Variant {
    let measured = if tuned.is_empty() { None } else { tuned.get(&ShapeClass::of(op)) };
    measured.filter(|v| candidates(op, profile).contains(v)).unwrap_or_else(|| default_variant(op, profile))
}

/// The table of defaults.
fn default_variant(op: &Op, profile: &Profile) -> Variant {
    match op {
        // Matrix units are used where measuring has chosen them, which compares with the reference first: adapters differ
        // in what they offer, and nobody has seen them all.
        Op::Gemm(op) if op.half.is_some() => {
            largest(Outputs::of(op), [Variant::Half128x64, Variant::Half64x64]).unwrap_or(Variant::Half32x32)
        }
        Op::Gemm(op) if op.splits > 1 && goes_by_tap(op) => tile(Outputs::of(op)),
        Op::Gemm(op) if profile.software && profile.has_eight_lanes() => {
            broadcast(Outputs::of(op), op.convolution.is_some())
        }
        Op::Gemm(_) if profile.software => Variant::Stream16x64,
        Op::Gemm(op) => tile(Outputs::of(op)),
        op if attention_width(op).is_some() || recurs(op) || matches!(op, Op::Transport(_) | Op::Correlate(_)) => {
            let broadcast = profile.software && candidates(op, profile).contains(&Variant::Broadcast);
            if broadcast { Variant::Broadcast } else { Variant::Shared }
        }
        Op::Fit(_) => Variant::Broadcast,
        _ => Variant::Plain,
    }
}

pub(super) fn tile(outputs: Outputs) -> Variant {
    match (outputs.rows, outputs.cols) {
        (0..=16, _) => Variant::Tile16x64,
        (_, 0..=16) => Variant::Tile64x16,
        _ => largest(outputs, [Variant::Tile128x64, Variant::Tile64x64]).unwrap_or(Variant::Tile32x32),
    }
}

/// The first of these tiles, the largest first, that leaves no core idle: a large one reads each factor less often.
fn largest(outputs: Outputs, tiles: [Variant; 2]) -> Option<Variant> {
    tiles.into_iter().find(|v| v.workgroups(outputs) >= BUSY_GPU)
}

pub(super) fn broadcast(outputs: Outputs, has_window: bool) -> Variant {
    match (outputs.rows, outputs.cols) {
        (0..=16, _) => Variant::Broadcast16x64,
        (64.., 0..=16) if !has_window => Variant::Broadcast64x16,
        // 64 columns would be half idle, of the first tile or of the second.
        (64.., 0..=32 | 65..=96) => Variant::Broadcast64x32,
        _ if Variant::Broadcast32x64.workgroups(outputs) >= BUSY_CPU => Variant::Broadcast32x64,
        _ => Variant::Broadcast32x32,
    }
}

/// Whether a fused kernel for this transport exists and pays.
pub(super) fn fuses(op: &Transport, profile: &Profile) -> bool {
    if op.p.cols() > Transport::MAX_RANK {
        return false;
    }
    // On a software adapter shared memory is a detour: there only the kernel without it is worth it.
    let wanted = if profile.software { Variant::Broadcast } else { Variant::Shared };
    candidates(&(*op).into(), profile).contains(&wanted)
}

/// Whether what learns of both factors is worth one operation: one workgroup a factor, without tiles, is slower than products
/// where there is much to compute.
pub(super) fn fits_together(op: &Fit, profile: &Profile) -> bool {
    /// Rows of p and columns of q: half a million multiply-adds a factor at the largest rank. Of smaller ranks more would pay, but
    /// not for the same network beside one of a larger rank, and it would round otherwise there.
    const LONGEST: u32 = 1 << 11;
    let [outputs, rank, inputs] = op.extents;
    profile.software && profile.has_eight_lanes() && rank <= Fit::MAX_RANK && outputs.saturating_add(inputs) <= LONGEST
}

/// Whether the gradient of q comes from the same tiles of y as the statistics of the error: worth it where a dispatch
/// is dear and arithmetic cheap.
pub(super) fn fuses_hebbian(profile: &Profile) -> bool {
    !profile.software
}
