//! Which kernel computes an operation: a pure function of the operation and the adapter.

use std::fmt;
use std::str::FromStr;

use super::tuned::{ShapeClass, Tuned};
use crate::ops::{Correlate, Fit, Gemm, Op, Pass, Transport};

/// What the plan needs to know of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Whether the "GPU" is the CPU: lanes are SIMD lanes, shared memory is a detour through the cache.
    pub software: bool,
    /// Lanes of a subgroup, where kernels may pass values among them and every subgroup has as many.
    pub subgroup_lanes: Option<u32>,
    /// Whether shaders compute in 16 bits.
    pub half: bool,
    /// Side of the matrices that a subgroup multiplies as one, 16 bits in and 32 out, where the adapter has such units
    /// and every subgroup has as many lanes.
    pub matrix_side: Option<u32>,
    /// Most bytes in one binding or buffer.
    pub max_binding_bytes: u64,
    /// Multiple of bytes at which a binding may start.
    pub binding_alignment: u32,
}

impl Profile {
    /// The reference executor: no limits but memory. An allocation that fails ends the process without a word, so that
    /// tensors larger than anybody would wait for are refused.
    pub fn reference() -> Profile {
        Profile {
            software: true,
            subgroup_lanes: None,
            half: true,
            matrix_side: None,
            max_binding_bytes: 1 << 30,
            binding_alignment: 4,
        }
    }

    /// Whether subgroups are as wide as the kernels that pass values among eight lanes need.
    fn has_eight_lanes(&self) -> bool {
        self.subgroup_lanes == Some(8)
    }
}

/// A way to compute an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Variant {
    /// The operation has one kernel.
    Plain,
    /// Products: tiles in workgroup memory of 16 rows by 64 columns, for few rows.
    Tile16x64,
    /// The same of 64 by 16, for few columns.
    Tile64x16,
    /// The same of 32 by 32, for small products.
    Tile32x32,
    /// The same of 64 by 64.
    Tile64x64,
    /// The same of 128 by 64.
    Tile128x64,
    /// Products: [`Variant::Tile64x64`] without reading quads. Never selected; benches measure the others by it.
    Yardstick,
    /// Products: no workgroup memory, eight lanes along the columns, 16 rows by 64 columns in registers.
    Stream16x64,
    /// The same with lanes that load different rows and pass them round, for few rows.
    Broadcast16x64,
    /// The same of 32 by 32, for small products.
    Broadcast32x32,
    /// The same of 32 by 64.
    Broadcast32x64,
    /// The same of 64 by 32, for few columns.
    Broadcast64x32,
    /// The same of 64 by 16, for fewer.
    Broadcast64x16,
    /// Products of factors in 16 bits: [`Variant::Tile32x32`] with tiles in half precision.
    Half32x32,
    /// The same of 64 by 64.
    Half64x64,
    /// The same of 128 by 64.
    Half128x64,
    /// Products of factors in 16 bits by matrix units of 8 x 8, 64 rows by 32 columns.
    Matrix64x32,
    /// The same by units of 16 x 16, 128 rows by 64 columns.
    Matrix128x64,
    /// The bottleneck and its statistics: y in workgroup memory.
    Shared,
    /// The bottleneck and its statistics: y in registers, passed round among eight lanes.
    Broadcast,
}

impl Variant {
    /// All of them.
    pub const ALL: [Variant; 20] = [
        Variant::Plain,
        Variant::Tile16x64,
        Variant::Tile64x16,
        Variant::Tile32x32,
        Variant::Tile64x64,
        Variant::Tile128x64,
        Variant::Yardstick,
        Variant::Stream16x64,
        Variant::Broadcast16x64,
        Variant::Broadcast32x32,
        Variant::Broadcast32x64,
        Variant::Broadcast64x32,
        Variant::Broadcast64x16,
        Variant::Half32x32,
        Variant::Half64x64,
        Variant::Half128x64,
        Variant::Matrix64x32,
        Variant::Matrix128x64,
        Variant::Shared,
        Variant::Broadcast,
    ];

    /// Rows and columns of a product that one workgroup computes; `None` for what computes no products.
    pub fn tile(self) -> Option<(u32, u32)> {
        Some(match self {
            Variant::Plain | Variant::Shared | Variant::Broadcast => return None,
            Variant::Tile16x64 | Variant::Stream16x64 | Variant::Broadcast16x64 => (16, 64),
            Variant::Tile64x16 | Variant::Broadcast64x16 => (64, 16),
            Variant::Tile32x32 | Variant::Broadcast32x32 | Variant::Half32x32 => (32, 32),
            Variant::Tile64x64 | Variant::Yardstick | Variant::Half64x64 => (64, 64),
            Variant::Tile128x64 | Variant::Half128x64 | Variant::Matrix128x64 => (128, 64),
            Variant::Broadcast32x64 => (32, 64),
            Variant::Broadcast64x32 | Variant::Matrix64x32 => (64, 32),
        })
    }

    /// Workgroups that cover all outputs.
    fn workgroups(self, outputs: Outputs) -> u32 {
        let Outputs { rows, cols, copies } = outputs;
        copies * self.tile().map_or(1, |(high, wide)| rows.div_ceil(high) * cols.div_ceil(wide))
    }
}

/// What a product computes, as far as the choice of its kernel goes.
#[derive(Clone, Copy)]
struct Outputs {
    rows: u32,
    cols: u32,
    /// Matrices of so many rows and columns, side by side.
    copies: u32,
}

impl Outputs {
    fn of(gemm: &Gemm) -> Outputs {
        Outputs { rows: gemm.rows(), cols: gemm.cols(), copies: gemm.out.shape.replicas * gemm.parts }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Variant::Plain => "plain",
            Variant::Tile16x64 | Variant::Tile64x16 | Variant::Tile32x32 | Variant::Tile64x64 | Variant::Tile128x64 => {
                "tile"
            }
            Variant::Yardstick => "yardstick",
            Variant::Stream16x64 => "stream",
            Variant::Broadcast16x64
            | Variant::Broadcast32x32
            | Variant::Broadcast32x64
            | Variant::Broadcast64x32
            | Variant::Broadcast64x16
            | Variant::Broadcast => "broadcast",
            Variant::Half32x32 | Variant::Half64x64 | Variant::Half128x64 => "half",
            Variant::Matrix64x32 | Variant::Matrix128x64 => "matrix",
            Variant::Shared => "shared",
        };
        match self.tile() {
            Some((rows, cols)) if *self != Variant::Yardstick => f.pad(&format!("{name}-{rows}x{cols}")),
            _ => f.pad(name),
        }
    }
}

/// A name that no variant has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no kernel variant {0:?}")]
pub struct UnknownVariant(pub String);

impl FromStr for Variant {
    type Err = UnknownVariant;

    fn from_str(text: &str) -> Result<Variant, UnknownVariant> {
        let named = Variant::ALL.into_iter().find(|variant| variant.to_string() == text);
        named.ok_or_else(|| UnknownVariant(text.to_owned()))
    }
}

/// Workgroups that keep a GPU busy: its cores, some hundred, and a second one each to hide waiting.
const BUSY_GPU: u32 = 256;

/// Longest sum that one invocation adds up on a CPU. Mesa's software driver ends all loops of an invocation after 65535
/// rounds altogether, without a word (seen with 22.3); and in single precision so many terms lose digits.
const LONGEST_SUM: u32 = 1 << 14;

/// Threads of the CPU that a software adapter computes with are few; this many workgroups balance them.
const BUSY_CPU: u32 = 32;

/// Largest rank of the fused transport in registers.
pub(crate) const BROADCAST_MAX_RANK: u32 = 16;

/// The kernels of products for GPUs.
const TILES: [Variant; 5] =
    [Variant::Tile16x64, Variant::Tile64x16, Variant::Tile32x32, Variant::Tile64x64, Variant::Tile128x64];

/// Every kernel that can compute the operation on such an adapter; the tests run them all.
pub fn candidates(op: &Op, profile: &Profile) -> Vec<Variant> {
    let mut all = match op {
        Op::Gemm(gemm) if gemm.half.is_some() => return half_candidates(profile),
        Op::Gemm(gemm) if gemm.parts > 1 && goes_by_tap(gemm) => return TILES.to_vec(),
        Op::Gemm(_) => [&TILES[..], &[Variant::Yardstick, Variant::Stream16x64]].concat(),
        Op::Transport(_) | Op::Correlate(_) => vec![Variant::Shared],
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
            _ => {}
        }
    }
    all
}

/// Whether the kernels in registers go through a window tap by tap, from the first to the last: they know no parts then.
fn goes_by_tap(gemm: &Gemm) -> bool {
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
        Op::Gemm(op) if op.parts > 1 && goes_by_tap(op) => tile(Outputs::of(op)),
        Op::Gemm(op) if profile.software && profile.has_eight_lanes() => {
            broadcast(Outputs::of(op), op.convolution.is_some())
        }
        Op::Gemm(_) if profile.software => Variant::Stream16x64,
        Op::Gemm(op) => tile(Outputs::of(op)),
        Op::Transport(_) | Op::Correlate(_) => {
            let broadcast = profile.software && candidates(op, profile).contains(&Variant::Broadcast);
            if broadcast { Variant::Broadcast } else { Variant::Shared }
        }
        Op::Fit(_) => Variant::Broadcast,
        _ => Variant::Plain,
    }
}

fn tile(outputs: Outputs) -> Variant {
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

fn broadcast(outputs: Outputs, has_window: bool) -> Variant {
    match (outputs.rows, outputs.cols) {
        (0..=16, _) => Variant::Broadcast16x64,
        (64.., 0..=16) if !has_window => Variant::Broadcast64x16,
        (64.., 0..=32) => Variant::Broadcast64x32,
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

/// Rank that a cut assumes. The rank of an operation is the largest of all networks trained side by side; a cut that looked
/// at it would round a network otherwise than the same network alone.
const ASSUMED_RANK: u32 = 16;

/// Into how many parts the rows of a correlation are cut. As with [`parts`], neither replicas nor ranks play a part in it.
pub(super) fn correlation_parts(op: &Correlate, profile: &Profile) -> u32 {
    /// Below this a part costs more to add than it saves.
    const SHORTEST: u32 = 128;
    if op.parts > 1 {
        return 1;
    }
    if profile.software {
        /// Errors that a pool has sent are sparse: shifted by the first row, most rows are the same, and equal terms
        /// round the same way each time.
        const LONGEST: u32 = 1 << 10;
        return op.x.rows().div_ceil(LONGEST).max(1);
    }
    let inputs = op.hebbian.map_or(0, |h| h.input.cols());
    let busy = (op.x.cols() + ASSUMED_RANK + inputs).div_ceil(64) * ASSUMED_RANK.div_ceil(16);
    (BUSY_GPU / busy.max(1)).min(op.x.rows() / SHORTEST).max(1)
}

/// Into how many parts the sums of a product are cut, so that tall thin products keep a GPU busy. Another cut rounds
/// otherwise: it must not depend on what is trained beside a network, so that it looks at one replica, and not at those of
/// rows, columns and inner length that are `ranked`.
pub(super) fn parts(gemm: &Gemm, ranked: [bool; 3], profile: &Profile) -> u32 {
    /// Below this a part costs more to add than it saves.
    const SHORTEST: u32 = 256;
    if gemm.parts > 1 {
        return 1;
    }
    let [rows, cols] = [(gemm.rows(), ranked[0]), (gemm.cols(), ranked[1])]
        .map(|(extent, is_rank)| if is_rank { ASSUMED_RANK } else { extent });
    let outputs = Outputs { rows, cols, copies: 1 };
    if profile.software {
        return parts_for_cpu(gemm, outputs, ranked);
    }
    // A sum over ranks is short.
    if ranked[2] {
        return 1;
    }
    let busy = tile(outputs).workgroups(outputs);
    (BUSY_GPU / busy.max(1)).min(gemm.inner() / SHORTEST).max(1)
}

fn parts_for_cpu(gemm: &Gemm, outputs: Outputs, ranked: [bool; 3]) -> u32 {
    /// Workgroups that keep the few threads busy.
    const BUSY: u32 = 8;
    /// Below this a part costs more to add than it saves.
    const SHORTEST: u32 = 4096;
    if goes_by_tap(gemm) {
        return 1;
    }
    // More than one invocation may add is cut in any case: that the driver gets it right comes first.
    let longest = gemm.inner().div_ceil(LONGEST_SUM).max(1);
    if ranked[2] {
        return longest;
    }
    let workgroups = broadcast(outputs, gemm.convolution.is_some()).workgroups(outputs);
    let idle = (BUSY / workgroups.max(1)).min(gemm.inner() / SHORTEST);
    let parts = idle.max(longest);
    if gemm.transpose_a { parts.max(parts_for_cache(gemm, outputs, ranked)) } else { parts }
}

/// A transposed factor and what it is multiplied by are read from their first row to their last by every tile: in parts that
/// stay in a core's cache until all tiles have read them, unless the parts would be larger than the factors.
fn parts_for_cache(gemm: &Gemm, outputs: Outputs, ranked: [bool; 3]) -> u32 {
    /// Floats of both factors, three quarters of what cores of servers have for themselves.
    const CACHE: u64 = 768 << 8;
    /// Below this the sums are stored and added too often.
    const SHORTEST: u64 = 512;
    let [rows, cols, inner] = [outputs.rows, outputs.cols, gemm.inner()].map(u64::from);
    let [a, b] = [(gemm.a.cols(), ranked[0]), (gemm.b.cols(), ranked[1])]
        .map(|(width, is_rank)| u64::from(if is_rank { ASSUMED_RANK } else { width }));
    let wanted = (inner * (a + b)).div_ceil(CACHE);
    let most = (inner / SHORTEST).min(inner * (a + b) / (rows * cols).max(1));
    if wanted <= most { wanted as u32 } else { 1 }
}
