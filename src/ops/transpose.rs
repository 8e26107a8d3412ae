//! Another order of the same numbers.

use super::{Operand, Operation, View, read, require, write};

/// `out = x^T`, block by block: x is a sequence of rows x cols matrices, out that of their transposes.
///
/// Only the order in memory counts, not where the tensors' own rows end. So images of (batch pixels) x channels become
/// the rows of a dense layer, batch x (channels pixels), with blocks of pixels x channels, and errors the way back with
/// blocks of channels x pixels. Channels come first in such a row, as when PyTorch flattens an image.
#[derive(Clone, Copy, Debug)]
pub struct TransposeBlocks {
    /// blocks x rows x cols elements.
    pub x: View,
    /// blocks x cols x rows elements.
    pub out: View,
    /// Rows of a block of x.
    pub rows: u32,
    /// Columns of a block of x.
    pub cols: u32,
}

impl TransposeBlocks {
    /// Matrices in one replica.
    pub fn blocks(&self) -> u32 {
        (self.out.shape.per_replica() / (self.rows as usize * self.cols as usize).max(1)) as u32
    }
}

impl Operation for TransposeBlocks {
    fn name(&self) -> &'static str {
        "transpose-blocks"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![read("x", self.x), write("out", self.out)]
    }

    fn check(&self) -> Result<(), String> {
        let (x, out) = (self.x.shape.per_replica(), self.out.shape.per_replica());
        require(x == out, "x and out must have as many elements")?;
        let block = self.rows as usize * self.cols as usize;
        require(block > 0 && out.is_multiple_of(block), "x must be whole blocks of rows x cols")
    }

    fn flops(&self) -> u64 {
        0
    }

    fn details(&self) -> String {
        format!("{} of {}x{}", self.blocks(), self.rows, self.cols)
    }
}
