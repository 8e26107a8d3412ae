//! What an adapter can do at most: arithmetic that hardly touches memory, and memory without arithmetic. No network uses
//! these two; the benchmarks hold other kernels against them.

use super::{Operand, Operation, View, read, require, write};

fn quads(x: View, out: View) -> Result<(), String> {
    require(x.shape == out.shape, "x and out must have one shape")?;
    require(x.shape.per_replica().is_multiple_of(4), "the elements of a replica must be a multiple of four")
}

/// `out = f(f(... f(x)))`, f applied `length` times to every element: multiply-adds, each element independent of the
/// others, that move eight bytes whatever their number.
///
/// `f(v) = v * FACTOR + OFFSET` neither settles (a constant would spare a GPU power, and flatter it) nor leaves the
/// range of x.
#[derive(Clone, Copy, Debug)]
pub struct Chain {
    /// First values.
    pub x: View,
    /// Last values, of x's shape.
    pub out: View,
    /// Applications of f, a multiple of [`Chain::UNROLLED`].
    pub length: u32,
}

impl Chain {
    /// Slightly inside of -1, and exact in f32.
    pub const FACTOR: f64 = -1.0 + 1.0 / 1024.0;
    /// Moves the centre to about a half.
    pub const OFFSET: f64 = 1.0;
    /// Applications that the kernel writes out in one turn of its loop.
    pub const UNROLLED: u32 = 8;
}

impl Operation for Chain {
    fn name(&self) -> &'static str {
        "chain"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![read("x", self.x), write("out", self.out)]
    }

    fn check(&self) -> Result<(), String> {
        quads(self.x, self.out)?;
        require(self.length.is_multiple_of(Chain::UNROLLED), "length must be a multiple of eight")
    }

    fn flops(&self) -> u64 {
        2 * u64::from(self.length) * self.x.shape.per_replica() as u64
    }

    fn details(&self) -> String {
        format!("length {}", self.length)
    }
}

/// `out = x`.
#[derive(Clone, Copy, Debug)]
pub struct Duplicate {
    /// Source.
    pub x: View,
    /// Destination, of x's shape.
    pub out: View,
}

impl Operation for Duplicate {
    fn name(&self) -> &'static str {
        "copy"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![read("x", self.x), write("out", self.out)]
    }

    fn check(&self) -> Result<(), String> {
        quads(self.x, self.out)
    }

    fn flops(&self) -> u64 {
        0
    }
}
