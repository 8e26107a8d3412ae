//! Which kernel computes an operation: a pure function of the operation and the adapter.

use std::fmt;
use std::str::FromStr;

use super::tuned::{ShapeClass, Tuned};
use crate::ops::Op;

/// What the plan needs to know of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Whether the "GPU" is the CPU: lanes are SIMD lanes, shared memory is a detour through the cache.
    pub software: bool,
    /// Most bytes in one binding or buffer.
    pub max_binding_bytes: u64,
    /// Multiple of bytes at which a binding may start.
    pub binding_alignment: u32,
    /// Workgroup memory in bytes.
    pub shared_bytes: u32,
}

impl Profile {
    /// The reference executor: no limits but memory. An allocation that fails ends the process without a word, so that
    /// tensors larger than anybody would wait for are refused.
    pub fn reference() -> Profile {
        Profile { software: true, max_binding_bytes: 1 << 30, binding_alignment: 4, shared_bytes: 16 << 10 }
    }
}

/// A way to compute an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Variant {
    /// The operation has one kernel.
    Plain,
    /// 64 x 64 outputs a workgroup from k-major tiles in shared memory, 4 x 4 an invocation.
    Tile,
    /// No shared memory: lanes along the columns, rows of the left factor read uniformly, 8 x 16 an invocation.
    Stream,
}

impl Variant {
    /// All variants.
    pub const ALL: [Variant; 3] = [Variant::Plain, Variant::Tile, Variant::Stream];

    /// Name in plans and files.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Plain => "plain",
            Variant::Tile => "tile",
            Variant::Stream => "stream",
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no variant has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no kernel variant {0:?}")]
pub struct UnknownVariant(pub String);

impl FromStr for Variant {
    type Err = UnknownVariant;

    fn from_str(text: &str) -> Result<Variant, UnknownVariant> {
        let named = Variant::ALL.into_iter().find(|variant| variant.name() == text);
        named.ok_or_else(|| UnknownVariant(text.to_owned()))
    }
}

/// Rows of delta that a workgroup of the fused transport keeps.
pub(crate) const TRANSPORT_ROWS: u32 = 16;

/// Largest rank of the fused kernel: its rows' y fill half of the shared memory that every adapter has (16 KiB), so
/// that two workgroups can share a core.
pub(crate) const TRANSPORT_MAX_RANK: u32 = 128;

/// Workgroup memory of [`Variant::Tile`]: two tiles of 16 rows of 17 vec4.
const TILE_BYTES: u32 = 2 * 16 * 17 * 16;

/// Whether a transport of this rank is worth one fused kernel.
///
/// On a GPU the fused kernel saves y's way through memory. On a software adapter, where shared memory is a detour and
/// lanes along the rank are few, two products were 2 to 4 times as fast (docs/measurements.md).
pub(super) fn fuses_transport(rank: u32, profile: &Profile) -> bool {
    !profile.software && rank <= TRANSPORT_MAX_RANK
}

/// Every kernel that can compute the operation on such an adapter; the tests run them all.
pub fn candidates(op: &Op, profile: &Profile) -> Vec<Variant> {
    match op {
        Op::Gemm(_) if profile.shared_bytes >= TILE_BYTES => vec![Variant::Tile, Variant::Stream],
        Op::Gemm(_) => vec![Variant::Stream],
        _ => vec![Variant::Plain],
    }
}

/// The kernel that training uses: the measured choice, if there is one that this adapter can run, else the default.
pub fn select(op: &Op, profile: &Profile, tuned: &Tuned) -> Variant {
    let all = candidates(op, profile);
    if let ([_, _, ..], false) = (all.as_slice(), tuned.is_empty()) {
        let choice = tuned.get(&ShapeClass::of(op)).filter(|variant| all.contains(variant));
        return choice.unwrap_or_else(|| default_variant(op, profile));
    }
    default_variant(op, profile)
}

/// The table of defaults.
fn default_variant(op: &Op, profile: &Profile) -> Variant {
    match op {
        Op::Gemm(_) if profile.software => Variant::Stream,
        Op::Gemm(_) => Variant::Tile,
        _ => Variant::Plain,
    }
}
