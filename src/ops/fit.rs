//! Factors that follow their weight, p q = W, where both are small.

use super::{Operand, Operation, View, read, require, update};

/// Gradients of ||p q - W||^2 / 2 with respect to p, q or both, from W q^T and p^T W.
///
/// `p (q q^T) - W q^T` (m x r) and `(p^T p) q - p^T W` (r x k), each as [`super::Significant`] leaves it. p, q and their
/// gradients lie in rows of parameter groups that are laid out alike.
#[derive(Clone, Copy, Debug)]
pub struct Fit {
    /// The row that holds p and q.
    pub values: View,
    /// The row that holds their gradients, at the same places.
    pub gradients: View,
    /// First elements of p (m x r) and q (r x k) in the rows.
    pub at: [u32; 2],
    /// m, r and k.
    pub extents: [u32; 3],
    /// W q^T, m x r, if p learns.
    pub w_q: Option<View>,
    /// p^T W, r x k, if q learns.
    pub p_w: Option<View>,
}

impl Fit {
    /// Most columns of p.
    pub const MAX_RANK: u32 = 16;

    /// Factors that learn.
    pub fn factors(&self) -> u32 {
        u32::from(self.w_q.is_some()) + u32::from(self.p_w.is_some())
    }
}

impl Operation for Fit {
    fn name(&self) -> &'static str {
        "fit"
    }

    fn operands(&self) -> Vec<Operand> {
        let mut all = vec![read("values", self.values), update("gradients", self.gradients)];
        all.extend(self.w_q.map(|tensor| read("w_q", tensor)));
        all.extend(self.p_w.map(|tensor| read("p_w", tensor)));
        all
    }

    fn check(&self) -> Result<(), String> {
        let [outputs, rank, inputs] = self.extents;
        let whole = |t: View, rows: u32, cols: u32| t.rows() == rows && t.cols() == cols;
        require(self.factors() > 0, "one of the factors must learn")?;
        require((1..=Fit::MAX_RANK).contains(&rank), "the rank must lie between 1 and the largest that is fused")?;
        require(self.values.shape == self.gradients.shape && self.values.rows() == 1, "rows must be laid out alike")?;
        let fits = |at: u32, length: u32| at.checked_add(length).is_some_and(|end| end <= self.values.cols());
        require(
            fits(self.at[0], outputs * rank) && fits(self.at[1], rank * inputs),
            "both factors must lie within the row",
        )?;
        require(self.w_q.is_none_or(|t| whole(t, outputs, rank)), "w_q must be m x r")?;
        require(self.p_w.is_none_or(|t| whole(t, rank, inputs)), "p_w must be r x k")
    }

    fn flops(&self) -> u64 {
        let [outputs, rank, inputs] = self.extents.map(u64::from);
        // The other factor's gram matrix, its product with the own one, and whether anything is left.
        let products = 2 * rank * rank * (outputs + inputs);
        let of = |target: Option<View>, length: u64| target.map_or(0, |_| products + 5 * rank * length);
        of(self.w_q, outputs) + of(self.p_w, inputs)
    }

    fn bytes(&self) -> Option<u64> {
        let [outputs, rank, inputs] = self.extents.map(u64::from);
        let (p, q) = (outputs * rank, rank * inputs);
        // Both factors are read; of those that learn, the target is read and the gradient written.
        Some(4 * (p + q + self.w_q.map_or(0, |_| 2 * p) + self.p_w.map_or(0, |_| 2 * q)))
    }

    fn details(&self) -> String {
        let [outputs, rank, inputs] = self.extents;
        let names = [("p", self.w_q), ("q", self.p_w)];
        let learning: Vec<&str> = names.into_iter().filter(|(_, target)| target.is_some()).map(|(n, _)| n).collect();
        format!("{} of {outputs}x{rank}x{inputs}", learning.join("+"))
    }
}
