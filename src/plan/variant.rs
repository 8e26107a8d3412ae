//! Ways to compute an operation, and their names.

use std::fmt;
use std::str::FromStr;

use crate::ops::Gemm;

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
    pub(super) fn workgroups(self, outputs: Outputs) -> u32 {
        let Outputs { rows, cols, copies } = outputs;
        copies * self.tile().map_or(1, |(high, wide)| rows.div_ceil(high) * cols.div_ceil(wide))
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

/// What a product computes, as far as the choice of its kernel goes.
#[derive(Clone, Copy)]
pub(super) struct Outputs {
    pub rows: u32,
    pub cols: u32,
    /// Matrices of so many rows and columns, side by side.
    pub copies: u32,
}

impl Outputs {
    pub(super) fn of(gemm: &Gemm) -> Outputs {
        Outputs { rows: gemm.rows(), cols: gemm.cols(), copies: gemm.out.shape.replicas * gemm.splits }
    }
}
