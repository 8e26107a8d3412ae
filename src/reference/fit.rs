//! Gradients of factors that follow their weight.

use super::elementwise::significant;
use super::gemm::product;
use super::matrix::Matrix;

/// `p (q q^T) - w_q`, or zero where that is rounding.
pub(super) fn of_p(p: Matrix<'_>, q: Matrix<'_>, w_q: &[f64]) -> Vec<f64> {
    let q_t = q.transposed();
    let gram = product(q, Matrix::new(q.cols, q.rows, &q_t));
    difference(&product(p, Matrix::new(q.rows, q.rows, &gram)), w_q)
}

/// `(p^T p) q - p_w`, or zero where that is rounding.
pub(super) fn of_q(p: Matrix<'_>, q: Matrix<'_>, p_w: &[f64]) -> Vec<f64> {
    let p_t = p.transposed();
    let gram = product(Matrix::new(p.cols, p.rows, &p_t), p);
    difference(&product(Matrix::new(p.cols, p.cols, &gram), q), p_w)
}

fn difference(product: &[f64], target: &[f64]) -> Vec<f64> {
    let difference: Vec<f64> = product.iter().zip(target).map(|(product, target)| product - target).collect();
    significant(&difference, target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::tests::{assert_close, noise};

    /// Against differences of ||p q - W||^2 / 2 itself.
    #[test]
    fn are_the_derivatives_of_the_distance() {
        let (m, r, k) = (5, 2, 4);
        let (p, q, w) = (noise(m * r, 1), noise(r * k, 2), noise(m * k, 3));
        let distance = |p: &[f64], q: &[f64]| {
            let pq = product(Matrix::new(m, r, p), Matrix::new(r, k, q));
            pq.iter().zip(&w).map(|(pq, w)| (pq - w).powi(2)).sum::<f64>() / 2.0
        };
        let slope = |at: usize, of_p: bool| {
            let moved = |by: f64| {
                let (mut p, mut q) = (p.clone(), q.clone());
                if of_p {
                    p[at] += by
                } else {
                    q[at] += by
                }
                distance(&p, &q)
            };
            (moved(1e-5) - moved(-1e-5)) / 2e-5
        };
        let weight = Matrix::new(m, k, &w);
        let (p_t, q_t) = (Matrix::new(m, r, &p).transposed(), Matrix::new(r, k, &q).transposed());
        let w_q = product(weight, Matrix::new(k, r, &q_t));
        let p_w = product(Matrix::new(r, m, &p_t), weight);
        let (p, q) = (Matrix::new(m, r, &p), Matrix::new(r, k, &q));
        assert_close(&of_p(p, q, &w_q), &(0..m * r).map(|at| slope(at, true)).collect::<Vec<_>>(), 1e-8);
        assert_close(&of_q(p, q, &p_w), &(0..r * k).map(|at| slope(at, false)).collect::<Vec<_>>(), 1e-8);
    }
}
