//! Matrix products.

use super::elementwise::{activation, clamp, derivative};
use super::matrix::Matrix;
use crate::ops::Activation;
use crate::parallel::rows;

/// [`crate::ops::Epilogue`] with one replica's operands in place of handles.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Epilogue<'a> {
    pub(super) addend: Option<(&'a [f64], f64)>,
    pub(super) bias: Option<&'a [f64]>,
    pub(super) clamp: Option<f64>,
    pub(super) activation: Option<Activation>,
    pub(super) gate: Option<(Activation, &'a [f64])>,
}

impl Epilogue<'_> {
    /// The element `at` of a matrix of `cols` columns as it is stored.
    fn apply(&self, mut value: f64, at: usize, cols: usize) -> f64 {
        if let Some((addend, scale)) = self.addend {
            value += scale * addend[at];
        }
        if let Some(bias) = self.bias {
            value += bias[at % cols];
        }
        if let Some(bound) = self.clamp {
            value = clamp(value, bound);
        }
        if let Some(f) = self.activation {
            value = activation(f, value);
        }
        if let Some((f, saved)) = self.gate {
            value *= derivative(f, saved[at]);
        }
        value
    }
}

/// Which factors are stored transposed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Transposes {
    pub(super) a: bool,
    pub(super) b: bool,
}

/// `epilogue(alpha * op(a) op(b))`.
pub(super) fn gemm(
    a: Matrix<'_>,
    b: Matrix<'_>,
    transposes: Transposes,
    alpha: f64,
    epilogue: &Epilogue<'_>,
) -> Vec<f64> {
    let (a, b) = (a.turned(transposes.a), b.turned(transposes.b));
    let (a, b) = (a.matrix(), b.matrix());
    let mut out = product(a, b);
    for (at, value) in out.iter_mut().enumerate() {
        *value = epilogue.apply(alpha * *value, at, b.cols);
    }
    out
}

/// The products over consecutive pieces of the inner dimension, each `depth` long but the last, one below the other.
pub(super) fn splits(a: Matrix<'_>, b: Matrix<'_>, transposes: Transposes, depth: usize) -> Vec<f64> {
    let (a, b) = (a.turned(transposes.a), b.turned(transposes.b));
    let (a, b) = (a.matrix(), b.matrix());
    let piece = |begin: usize| {
        let end = (begin + depth).min(a.cols);
        let (left, right) = (a.columns(begin..end), &b.data[begin * b.cols..end * b.cols]);
        product(Matrix::new(a.rows, end - begin, &left), Matrix::new(end - begin, b.cols, right))
    };
    (0..a.cols).step_by(depth.max(1)).flat_map(piece).collect()
}

/// `epilogue(alpha * sum)` over matrices of `rows` rows, one below the other, in their order.
pub(super) fn sum_splits(a: Matrix<'_>, rows: usize, alpha: f64, epilogue: &Epilogue<'_>) -> Vec<f64> {
    let mut out = vec![0.0; rows * a.cols];
    for part in a.data.chunks(out.len().max(1)) {
        out.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
    }
    for (at, value) in out.iter_mut().enumerate() {
        *value = epilogue.apply(alpha * *value, at, a.cols);
    }
    out
}

/// Values as they are left by rounding `scale` times each to 16 bits.
pub(super) fn rounded(values: &[f64], scale: f64) -> Vec<f64> {
    values.iter().map(|value| half::f16::from_f64(value * scale).to_f64() / scale).collect()
}

/// Row sums of op(a) over the same pieces, one row a piece.
pub(super) fn row_sums(a: Matrix<'_>, transposed: bool, depth: usize) -> Vec<f64> {
    let a = a.turned(transposed);
    let a = a.matrix();
    let piece = |begin: usize| {
        let end = (begin + depth).min(a.cols);
        (0..a.rows).map(move |row| a.row(row)[begin..end].iter().sum())
    };
    (0..a.cols).step_by(depth.max(1)).flat_map(piece).collect()
}

/// Multiply-adds below which a second thread costs more than it saves: some ten microseconds' worth.
const WORTH_A_THREAD: usize = 1 << 15;

/// `a b`. Rows of the product are independent, so threads do not change a bit of it.
pub(super) fn product(a: Matrix<'_>, b: Matrix<'_>) -> Vec<f64> {
    let mut out = vec![0.0; a.rows * b.cols];
    let rows_each = 1 + WORTH_A_THREAD / (a.cols * b.cols).max(1);
    rows(&mut out, b.cols, rows_each, |i, sums| {
        // Row by row of b rather than a dot product an element: every access is contiguous.
        for (k, &factor) in a.row(i).iter().enumerate() {
            for (sum, y) in sums.iter_mut().zip(b.row(k)) {
                *sum += factor * y;
            }
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::tests::{assert_close, noise};

    /// The definition, one dot product an element.
    fn dot_products(a: Matrix<'_>, b: Matrix<'_>) -> Vec<f64> {
        (0..a.rows).flat_map(|i| (0..b.cols).map(move |j| (0..a.cols).map(|k| a.at(i, k) * b.at(k, j)).sum())).collect()
    }

    #[test]
    fn product_by_hand() {
        let a = Matrix::new(2, 3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let b = Matrix::new(3, 1, &[1.0, -1.0, 2.0]);
        assert_eq!(product(a, b), [5.0, 11.0]);
    }

    #[test]
    fn every_transposition_gives_the_same_product() {
        for (rows, inner, cols) in [(1, 1, 1), (1, 5, 3), (7, 1, 2), (70, 33, 41)] {
            let (a, b) = (noise(rows * inner, 1), noise(inner * cols, 2));
            let (a, b) = (Matrix::new(rows, inner, &a), Matrix::new(inner, cols, &b));
            let (turned_a, turned_b) = (a.transposed(), b.transposed());
            let expected = dot_products(a, b);
            for transposes in [(false, false), (false, true), (true, false), (true, true)] {
                let left = if transposes.0 { Matrix::new(inner, rows, &turned_a) } else { a };
                let right = if transposes.1 { Matrix::new(cols, inner, &turned_b) } else { b };
                let transposes = Transposes { a: transposes.0, b: transposes.1 };
                assert_close(&gemm(left, right, transposes, 1.0, &Epilogue::default()), &expected, 1e-13);
            }
        }
    }

    /// 2 x 5 times 5 x 1 in pieces of two: columns 0 and 1, 2 and 3, 4.
    #[test]
    fn parts_by_hand() {
        let a = Matrix::new(2, 5, &[1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
        let b = Matrix::new(5, 1, &[1.0, -1.0, 2.0, 1.0, 3.0]);
        let all = splits(a, b, Transposes::default(), 2);
        assert_eq!(all, [-1.0, -10.0, 10.0, 100.0, 15.0, 150.0]);
        let bias = Epilogue { bias: Some(&[0.5]), ..Epilogue::default() };
        assert_eq!(sum_splits(Matrix::new(6, 1, &all), 2, 2.0, &bias), [48.5, 480.5]);
        assert_eq!(row_sums(a, false, 2), [3.0, 30.0, 7.0, 70.0, 5.0, 50.0]);
        assert_eq!(row_sums(a, true, 1), [1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
    }

    /// 11 bits of a mantissa; below 2^-24 nothing is left but what was lifted first; above 65504 infinity.
    #[test]
    fn rounding_to_16_bits_by_hand() {
        assert_eq!(rounded(&[1.0, 2049.0, -0.1, 70000.0], 1.0), [1.0, 2048.0, -0.0999755859375, f64::INFINITY]);
        assert_eq!(rounded(&[1e-8], 1.0), [0.0]);
        assert!((rounded(&[1e-8], 65536.0)[0] - 1e-8).abs() < 1e-8 / 2048.0);
    }

    #[test]
    fn an_empty_sum_is_zero() {
        let (a, b) = (Matrix::new(2, 0, &[]), Matrix::new(0, 3, &[]));
        assert_eq!(product(a, b), [0.0; 6]);
    }

    /// A zero on one side must not hide an infinity on the other.
    #[test]
    fn non_finite_factors_are_seen() {
        let (a, b) = (Matrix::new(1, 1, &[0.0]), Matrix::new(1, 1, &[f64::INFINITY]));
        assert!(product(a, b)[0].is_nan());
    }

    /// -2 * 3 = -6; + 0.5 * 20 = 4; + bias; clamp to 5; relu; gate.
    #[test]
    fn the_epilogue_runs_in_its_documented_order() {
        let (a, b) = (Matrix::new(1, 1, &[1.0]), Matrix::new(1, 4, &[3.0; 4]));
        let epilogue = Epilogue {
            addend: Some((&[20.0; 4], 0.5)),
            bias: Some(&[10.0, -10.0, 0.25, 0.25]),
            clamp: Some(5.0),
            activation: Some(Activation::Relu),
            gate: Some((Activation::Relu, &[1.0, 1.0, 1.0, 0.0])),
        };
        assert_eq!(gemm(a, b, Transposes::default(), -2.0, &epilogue), [5.0, 0.0, 4.25, 0.0]);
    }

    #[test]
    fn the_gelu_gate_multiplies_by_the_derivative_at_the_saved_input() {
        let (a, b, saved) = (noise(3, 1), noise(4, 2), noise(12, 3));
        let epilogue = Epilogue { gate: Some((Activation::Gelu, &saved)), ..Epilogue::default() };
        let (a, b) = (Matrix::new(3, 1, &a), Matrix::new(1, 4, &b));
        let ungated = dot_products(a, b);
        let expected: Vec<f64> =
            ungated.iter().zip(&saved).map(|(x, &saved)| x * derivative(Activation::Gelu, saved)).collect();
        assert_close(&gemm(a, b, Transposes::default(), 1.0, &epilogue), &expected, 1e-15);
    }
}
