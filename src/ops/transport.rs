//! The rank-r error bottleneck as one operation.

use super::{Epilogue, Operand, Operation, View, read, require, write};

/// `y = delta p; out = epilogue(y q)`: an error sent back through rank r in one pass over its rows.
///
/// delta is rows x m, p is m x r, y is rows x r, q is r x k, out is rows x k. The plan makes it from two products
/// where keeping y on chip pays.
#[derive(Clone, Copy, Debug)]
pub struct Transport {
    /// Error at the layer's output, or at the source layer for direct feedback.
    pub delta: View,
    /// Projection P^T, m x r.
    pub p: View,
    /// Q^T, r x k.
    pub q: View,
    /// The squeezed error, kept for the rules that learn from it.
    pub y: View,
    /// What reaches the layer's input.
    pub out: View,
    /// Addend as it is, clamp and gate.
    pub epilogue: Epilogue,
}

impl Transport {
    /// Largest rank: what 32 rows of y may take of the 16 KiB of workgroup memory that every adapter has, so that the
    /// tiles beside it fit. A larger bottleneck stays two products, whose time the rank then dominates.
    pub const MAX_RANK: u32 = 64;
}

impl Operation for Transport {
    fn name(&self) -> &'static str {
        "transport"
    }

    fn operands(&self) -> Vec<Operand> {
        [read("delta", self.delta), read("p", self.p), read("q", self.q)]
            .into_iter()
            .chain(self.epilogue.operands())
            .chain([write("y", self.y), write("out", self.out)])
            .collect()
    }

    fn check(&self) -> Result<(), String> {
        require(self.delta.cols() == self.p.rows(), "p must have as many rows as delta has columns")?;
        require(self.p.cols() == self.q.rows(), "p and q must have the same rank")?;
        require(self.p.cols() <= Transport::MAX_RANK, "a fused transport has at most 64 ranks")?;
        require(
            self.y.rows() == self.delta.rows() && self.y.cols() == self.p.cols(),
            "y must be rows of delta x rank",
        )?;
        require(
            self.out.rows() == self.delta.rows() && self.out.cols() == self.q.cols(),
            "out must be rows of delta x columns of q",
        )?;
        let scaled = self.epilogue.addend.is_some_and(|(_, scale)| scale != 1.0);
        require(self.epilogue.bias.is_none() && !scaled, "a transport takes no bias and scales no addend")?;
        self.epilogue.check(self.out.rows(), self.out.cols())
    }

    fn flops(&self) -> u64 {
        2 * u64::from(self.delta.rows())
            * u64::from(self.p.cols())
            * (u64::from(self.delta.cols()) + u64::from(self.out.cols()))
    }

    fn details(&self) -> String {
        format!("r={}{}", self.p.cols(), self.epilogue.details())
    }
}
