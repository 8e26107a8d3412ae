//! grad p = (grad W) q^T: P takes part in what changes the weight that it stands in for.

use super::{Learning, Rule};
use crate::ops::{Gemm, Recording, ShapeError, View};

pub(super) struct KolenPollack;

impl Rule for KolenPollack {
    fn reads_weight(&self) -> bool {
        true
    }

    fn learn(&self, rec: &mut Recording, learning: &Learning, _so_far: Option<(View, u32)>) -> Result<(), ShapeError> {
        rec.push(Gemm::nt(learning.weight.gradient, learning.q, learning.gradient))
    }
}
