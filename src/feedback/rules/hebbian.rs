//! grad q = y^T h: what the layer got, by what is left of the error that it sent.

use super::{Learning, Rule, Seen};
use crate::ops::{Gemm, Recording, ShapeError, View};

pub(super) struct Hebbian;

impl Rule for Hebbian {
    fn observe(
        &self,
        rec: &mut Recording,
        learning: &Learning,
        seen: &Seen,
        _so_far: Option<View>,
    ) -> Result<Option<View>, ShapeError> {
        let product = match seen.window {
            Some(window) => Gemm::correlate(seen.y, seen.input, learning.gradient, window),
            None => Gemm::tn(seen.y, seen.input, learning.gradient),
        };
        rec.push(Gemm { accumulate: rec.has_written(learning.gradient), ..product })?;
        Ok(None)
    }
}
