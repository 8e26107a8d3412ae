//! The principal subspace of the error, from how its rows deviate from their mean.
//!
//! Its gradient is no sum over rows, but is made of statistics that are: those add up over micro-batches.

use super::{Learning, Rule, Seen};
use crate::ops::{self, Add, Correlate, Gemm, Recording, ShapeError, View};

pub(super) struct Oja;

impl Rule for Oja {
    fn observe(
        &self,
        rec: &mut Recording,
        learning: &Learning,
        seen: &Seen,
        so_far: Option<View>,
    ) -> Result<Option<View>, ShapeError> {
        let (p, x) = (learning.p, seen.statistics);
        let (width, rank) = (p.rows(), p.cols());
        let y = if x == seen.source {
            // The transport has made it already.
            seen.y
        } else {
            let y = rec.scratch("statistics_p", x.rows(), rank);
            rec.push(Gemm::nn(x, p, y))?;
            y
        };
        let statistics = rec.scratch("statistics", rank + 3, width + rank);
        rec.push(Correlate { x, y, statistics, origin: so_far, hebbian: None, splits: 1 })?;
        let Some(before) = so_far else { return Ok(Some(statistics)) };
        let sum = rec.scratch("statistics_so_far", rank + 3, width + rank);
        rec.push(Add { a: before, b: statistics, out: sum })?;
        Ok(Some(sum))
    }

    fn learn(&self, rec: &mut Recording, learning: &Learning, so_far: Option<(View, u32)>) -> Result<(), ShapeError> {
        let Some((statistics, rows)) = so_far else { return Ok(()) };
        rec.push(ops::Oja { statistics, p: learning.p, out: learning.gradient, rows })
    }
}
