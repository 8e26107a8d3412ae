//! Matrix products.

use super::elementwise::Activation;
use super::{Operand, Operation, Tensor, read, require, write};

/// What happens to a product's elements before they are stored, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Epilogue {
    /// `+ scale * addend`, elementwise.
    pub addend: Option<(Tensor, f64)>,
    /// `+ bias`, one value a column.
    pub bias: Option<Tensor>,
    /// Clamped to +-`clamp`.
    pub clamp: Option<f64>,
    /// The activation applied.
    pub activation: Option<Activation>,
    /// `. f'`, the derivative taken from what the activation [saves](Activation::saves).
    pub gate: Option<(Activation, Tensor)>,
}

impl Epilogue {
    pub(super) fn operands(&self) -> impl Iterator<Item = Operand> {
        [
            self.addend.map(|(t, _)| read("addend", t)),
            self.bias.map(|t| read("bias", t)),
            self.gate.map(|(_, t)| read("saved", t)),
        ]
        .into_iter()
        .flatten()
    }

    pub(super) fn check(&self, rows: u32, cols: u32) -> Result<(), String> {
        let full = |t: Tensor| t.rows() == rows && t.cols() == cols;
        require(self.addend.is_none_or(|(t, _)| full(t)), "addend must have the shape of out")?;
        require(self.gate.is_none_or(|(_, t)| full(t)), "saved must have the shape of out")?;
        require(self.bias.is_none_or(|t| t.rows() == 1 && t.cols() == cols), "bias must be one row of out's columns")
    }

    pub(super) fn details(&self) -> String {
        let mut text = String::new();
        if let Some((_, scale)) = self.addend {
            text += &format!(" {scale:+}*addend");
        }
        if self.bias.is_some() {
            text += " +bias";
        }
        if let Some(clamp) = self.clamp {
            text += &format!(" clamp {clamp}");
        }
        if let Some(f) = self.activation {
            text += &format!(" {f}");
        }
        if let Some((f, _)) = self.gate {
            text += &format!(" gate {f}'");
        }
        text
    }
}

/// `out = epilogue(alpha * op(a) op(b))`, where op transposes if asked to.
///
/// After transposition a is rows x inner, b is inner x cols, out is rows x cols. An operand with one replica is shared
/// by all.
#[derive(Clone, Copy, Debug)]
pub struct Gemm {
    /// Left factor.
    pub a: Tensor,
    /// Right factor.
    pub b: Tensor,
    /// Product.
    pub out: Tensor,
    /// Whether `a` is stored as inner x rows.
    pub transpose_a: bool,
    /// Whether `b` is stored as cols x inner.
    pub transpose_b: bool,
    /// Factor on the product.
    pub alpha: f64,
    /// What follows before the store.
    pub epilogue: Epilogue,
}

impl Gemm {
    /// `out = a b`.
    pub fn nn(a: Tensor, b: Tensor, out: Tensor) -> Gemm {
        Gemm { a, b, out, transpose_a: false, transpose_b: false, alpha: 1.0, epilogue: Epilogue::default() }
    }

    /// `out = a b^T`.
    pub fn nt(a: Tensor, b: Tensor, out: Tensor) -> Gemm {
        Gemm { transpose_b: true, ..Gemm::nn(a, b, out) }
    }

    /// `out = a^T b`.
    pub fn tn(a: Tensor, b: Tensor, out: Tensor) -> Gemm {
        Gemm { transpose_a: true, ..Gemm::nn(a, b, out) }
    }

    /// Length of the sums.
    pub fn inner(&self) -> u32 {
        if self.transpose_a { self.a.rows() } else { self.a.cols() }
    }
}

impl Operation for Gemm {
    fn name(&self) -> &'static str {
        "gemm"
    }

    fn operands(&self) -> Vec<Operand> {
        [read("a", self.a), read("b", self.b)]
            .into_iter()
            .chain(self.epilogue.operands())
            .chain([write("out", self.out)])
            .collect()
    }

    fn check(&self) -> Result<(), String> {
        let turn = |t: Tensor, transposed: bool| if transposed { (t.cols(), t.rows()) } else { (t.rows(), t.cols()) };
        let (a, b) = (turn(self.a, self.transpose_a), turn(self.b, self.transpose_b));
        require(a.1 == b.0, "the inner dimensions of a and b differ")?;
        require(a.0 == self.out.rows() && b.1 == self.out.cols(), "out must be rows of a x columns of b")?;
        self.epilogue.check(self.out.rows(), self.out.cols())
    }

    fn flops(&self) -> u64 {
        2 * u64::from(self.out.rows()) * u64::from(self.out.cols()) * u64::from(self.inner())
    }

    fn details(&self) -> String {
        let letter = |t| if t { 'T' } else { 'N' };
        let alpha = if self.alpha == 1.0 { String::new() } else { format!(" *{}", self.alpha) };
        format!("{}{}{alpha}{}", letter(self.transpose_a), letter(self.transpose_b), self.epilogue.details())
    }
}
