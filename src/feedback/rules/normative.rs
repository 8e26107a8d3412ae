//! The gradients of |p q - W|^2 / 2 by p and q.
//!
//! E = p q - W is never formed: p (q q^T) - W q^T and (p^T p) q - p^T W cost 2 m k r + 2 r^2 (m + k) instead of 4 m k r each.

use super::{Learning, Rule};
use crate::ops::{Epilogue, Gemm, Recording, ShapeError, Significant, View};

/// grad p = E q^T.
pub(super) struct OfP;

/// grad q = p^T E.
pub(super) struct OfQ;

impl Rule for OfP {
    fn reads_weight(&self) -> bool {
        true
    }

    fn learn(&self, rec: &mut Recording, learning: &Learning, _so_far: Option<(View, u32)>) -> Result<(), ShapeError> {
        let (p, q, weight) = (learning.p, learning.q, learning.weight.value);
        let rank = q.rows();
        let gram = rec.scratch("q_gram", rank, rank);
        let target = rec.scratch("w_q", weight.rows(), rank);
        rec.push(Gemm::nt(q, q, gram))?;
        rec.push(Gemm::nt(weight, q, target))?;
        let epilogue = Epilogue { addend: Some((target, -1.0)), ..Epilogue::default() };
        let difference = rec.scratch("p_residual", p.rows(), rank);
        rec.push(Gemm { epilogue, ..Gemm::nn(p, gram, difference) })?;
        rec.push(Significant { x: difference, scale: target, out: learning.gradient })
    }
}

impl Rule for OfQ {
    fn reads_weight(&self) -> bool {
        true
    }

    fn learn(&self, rec: &mut Recording, learning: &Learning, _so_far: Option<(View, u32)>) -> Result<(), ShapeError> {
        let (p, q, weight) = (learning.p, learning.q, learning.weight.value);
        let rank = p.cols();
        let gram = rec.scratch("p_gram", rank, rank);
        let target = rec.scratch("p_w", rank, weight.cols());
        rec.push(Gemm::tn(p, p, gram))?;
        rec.push(Gemm::tn(p, weight, target))?;
        let epilogue = Epilogue { addend: Some((target, -1.0)), ..Epilogue::default() };
        let difference = rec.scratch("q_residual", rank, q.cols());
        rec.push(Gemm { epilogue, ..Gemm::nn(gram, q, difference) })?;
        rec.push(Significant { x: difference, scale: target, out: learning.gradient })
    }
}
