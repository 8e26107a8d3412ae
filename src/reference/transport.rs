//! The rank-r error bottleneck.

use super::gemm::{Epilogue, Transposes, gemm, product};
use super::matrix::Matrix;

/// `y = delta p` and `epilogue(y q)`.
pub(super) fn transport(
    delta: Matrix<'_>,
    p: Matrix<'_>,
    q: Matrix<'_>,
    epilogue: &Epilogue<'_>,
) -> (Vec<f64>, Vec<f64>) {
    let y = product(delta, p);
    let out = gemm(Matrix::new(delta.rows, p.cols, &y), q, Transposes::default(), 1.0, epilogue);
    (y, out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Activation;
    use crate::reference::tests::{assert_close, noise};

    #[test]
    fn rank_one_by_hand() {
        let (delta, p, q) = ([1.0, 2.0, 3.0, -4.0], [10.0, 1.0], [1.0, -2.0, 0.5]);
        let saved = [1.0, 1.0, 0.0, 1.0, 1.0, 1.0];
        let epilogue = Epilogue { clamp: Some(20.0), gate: Some((Activation::Relu, &saved)), ..Epilogue::default() };
        let (y, out) = transport(Matrix::new(2, 2, &delta), Matrix::new(2, 1, &p), Matrix::new(1, 3, &q), &epilogue);
        assert_eq!(y, [12.0, 26.0]);
        assert_eq!(out, [12.0, -20.0, 0.0, 20.0, -20.0, 13.0]);
    }

    /// delta (p q) = (delta p) q, whatever the rank.
    #[test]
    fn equals_the_product_with_the_full_feedback_matrix() {
        let (delta, p, q) = (noise(9 * 7, 1), noise(7 * 3, 2), noise(3 * 5, 3));
        let (delta, p, q) = (Matrix::new(9, 7, &delta), Matrix::new(7, 3, &p), Matrix::new(3, 5, &q));
        let feedback = product(p, q);
        let (_, out) = transport(delta, p, q, &Epilogue::default());
        assert_close(&out, &product(delta, Matrix::new(7, 5, &feedback)), 1e-13);
    }
}
