//! Single matrix products, and a cheap proof that an engine computed one.

use std::fmt;

use crate::workload::uniform;

/// Products handed over before the host waits, so that waiting hardly counts.
pub(crate) const UNITS: usize = 8;

/// `a b`, or `a b^T` where `b` is stored as cols x inner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Product {
    /// Rows of a and of the product.
    pub(crate) rows: usize,
    /// Columns of the product.
    pub(crate) cols: usize,
    /// Length of the sums.
    pub(crate) inner: usize,
    /// Whether b is stored transposed.
    pub(crate) transposed: bool,
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layout = if self.transposed { "NT" } else { "NN" };
        write!(f, "{}x{}x{} {layout}", self.rows, self.cols, self.inner)
    }
}

impl Product {
    /// rows x inner.
    pub(crate) fn a(&self) -> Vec<f32> {
        uniform(2, self.rows * self.inner)
    }

    /// inner x cols, or cols x inner if transposed.
    pub(crate) fn b(&self) -> Vec<f32> {
        uniform(3, self.inner * self.cols)
    }

    /// `u^T out v` for fixed random u and v: equal for equal products, and off with certainty but for chance otherwise.
    pub(crate) fn project(&self, out: impl Iterator<Item = f64>) -> f64 {
        let (u, v) = self.probes();
        out.enumerate().map(|(at, value)| u[at / self.cols] * value * v[at % self.cols]).sum()
    }

    /// What [`Product::project`] must come to: `(u^T a)(b v)`, in f64.
    pub(crate) fn expected(&self) -> f64 {
        let (u, v) = self.probes();
        let (a, b) = (self.a(), self.b());
        let b_at =
            |i: usize, col: usize| if self.transposed { b[col * self.inner + i] } else { b[i * self.cols + col] };
        (0..self.inner)
            .map(|i| {
                let left: f64 = (0..self.rows).map(|row| u[row] * f64::from(a[row * self.inner + i])).sum();
                let right: f64 = (0..self.cols).map(|col| f64::from(b_at(i, col)) * v[col]).sum();
                left * right
            })
            .sum()
    }

    fn probes(&self) -> (Vec<f64>, Vec<f64>) {
        let draw = |stream, count| uniform(stream, count).into_iter().map(f64::from).collect();
        (draw(4, self.rows), draw(5, self.cols))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_product_has_the_expected_projection() {
        for transposed in [false, true] {
            let product = Product { rows: 5, cols: 7, inner: 3, transposed };
            let (a, b) = (product.a(), product.b());
            let b_at = |i: usize, col: usize| if transposed { b[col * 3 + i] } else { b[i * 7 + col] };
            let out: Vec<f64> = (0..35)
                .map(|at| (0..3).map(|i| f64::from(a[at / 7 * 3 + i]) * f64::from(b_at(i, at % 7))).sum())
                .collect();
            assert!((product.project(out.iter().copied()) - product.expected()).abs() < 1e-12);
            let other = out.iter().enumerate().map(|(at, v)| if at == 11 { v + 1.0 } else { *v });
            assert!((product.project(other) - product.expected()).abs() > 1e-3);
        }
    }
}
