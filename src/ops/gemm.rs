//! Matrix products.

use super::elementwise::Activation;
use super::{Convolution, Operand, Operation, Pass, View, read, require, sum};

/// What happens to a product's elements before they are stored, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Epilogue {
    /// `+ scale * addend`, elementwise.
    pub addend: Option<(View, f64)>,
    /// `+ bias`, one value a column.
    pub bias: Option<View>,
    /// Clamped to +-`clamp`.
    pub clamp: Option<f64>,
    /// The activation applied.
    pub activation: Option<Activation>,
    /// `. f'`, the derivative taken from what the activation [saves](Activation::saves).
    pub gate: Option<(Activation, View)>,
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
        let full = |t: View| t.rows() == rows && t.cols() == cols;
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

/// Factors rounded to 16 bits before they are multiplied, as matrix units want them; sums stay in single precision.
///
/// A mean over a batch makes errors too small for half precision, so each factor is multiplied by a power of two first,
/// which the product is divided by again: both are exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Half {
    /// Powers of two by which a and b are multiplied.
    pub lift: [i32; 2],
}

impl Half {
    /// What a (0) or b (1) is multiplied by.
    pub fn scale(&self, factor: usize) -> f64 {
        f64::from(self.lift[factor]).exp2()
    }
}

/// `out = epilogue(alpha * op(a) op(b))`, where op transposes if asked to.
///
/// After transposition a is rows x inner, b is inner x cols, out is rows x cols. An operand with one replica is shared
/// by all.
///
/// With `accumulate` the result is added to what out holds, at the very end.
///
/// With several `splits` (split-K) the inner dimension is cut into as many pieces of [`Gemm::depth`] (the last may be shorter),
/// and out, (splits rows) x cols, holds the product over each: more workgroups for a long sum of few outputs.
/// [`SumSplits`] adds them and applies the epilogue.
#[derive(Clone, Copy, Debug)]
pub struct Gemm {
    /// Left factor.
    pub a: View,
    /// Right factor.
    pub b: View,
    /// Product.
    pub out: View,
    /// Whether `a` is stored as inner x rows.
    pub transpose_a: bool,
    /// Whether `b` is stored as cols x inner.
    pub transpose_b: bool,
    /// Factor on the product.
    pub alpha: f64,
    /// What follows before the store.
    pub epilogue: Epilogue,
    /// Row sums of op(a), splits x rows: for a weight's gradient `delta^T h` the bias's, from the same tiles.
    pub sums: Option<View>,
    /// Pieces of the inner dimension, each with an output of its own.
    pub splits: u32,
    /// Whether out and sums are added to what they hold: gradients of another use of the same parameter.
    pub accumulate: bool,
    /// In half precision, if any.
    pub half: Option<Half>,
    /// One factor read through a window, if it is a product of a convolution.
    pub convolution: Option<Convolution>,
}

/// The inner dimension is cut at multiples of this: no tile of a kernel is deeper.
const DEPTH: u32 = 16;

impl Gemm {
    /// `out = a b`.
    pub fn nn(a: View, b: View, out: View) -> Gemm {
        let (epilogue, sums) = (Epilogue::default(), None);
        let (transpose_a, transpose_b, accumulate, half, convolution) = (false, false, false, None, None);
        Gemm {
            a,
            b,
            out,
            transpose_a,
            transpose_b,
            alpha: 1.0,
            epilogue,
            sums,
            splits: 1,
            accumulate,
            half,
            convolution,
        }
    }

    /// `out = a b^T`.
    pub fn nt(a: View, b: View, out: View) -> Gemm {
        Gemm { transpose_b: true, ..Gemm::nn(a, b, out) }
    }

    /// `out = a^T b`.
    pub fn tn(a: View, b: View, out: View) -> Gemm {
        Gemm { transpose_a: true, ..Gemm::nn(a, b, out) }
    }

    /// Rows, columns and inner length.
    fn extents(&self) -> [u32; 3] {
        if let Some(convolution) = self.convolution {
            return convolution.extents(self.a, self.b);
        }
        let (rows, inner) = turn(self.a, self.transpose_a);
        [rows, turn(self.b, self.transpose_b).1, inner]
    }

    /// Rows of the product.
    pub fn rows(&self) -> u32 {
        self.extents()[0]
    }

    /// Columns of the product.
    pub fn cols(&self) -> u32 {
        self.out.cols()
    }

    /// Length of the sums.
    pub fn inner(&self) -> u32 {
        self.extents()[2]
    }

    /// Length of a split of the sums, a multiple of 16 unless there is one split only.
    pub fn depth(&self) -> u32 {
        if self.splits == 1 { self.inner() } else { self.inner().div_ceil(self.splits).next_multiple_of(DEPTH) }
    }

    /// Whether every row of every operand and the inner dimension are whole quads, which kernels then move at once.
    pub fn is_quads(&self) -> bool {
        [self.a.cols(), self.b.cols(), self.out.cols(), self.inner()].iter().all(|n| n % 4 == 0)
    }
}

/// Rows and columns of a matrix or its transpose.
fn turn(t: View, transposed: bool) -> (u32, u32) {
    if transposed { (t.cols(), t.rows()) } else { (t.rows(), t.cols()) }
}

impl Operation for Gemm {
    fn name(&self) -> &'static str {
        "gemm"
    }

    fn operands(&self) -> Vec<Operand> {
        [read("a", self.a), read("b", self.b)]
            .into_iter()
            .chain(self.epilogue.operands())
            .chain([sum("out", self.out, self.accumulate)])
            .chain(self.sums.map(|t| sum("sums", t, self.accumulate)))
            .collect()
    }

    fn check(&self) -> Result<(), String> {
        match self.convolution {
            Some(convolution) => convolution.check(self)?,
            None => {
                let inner = turn(self.b, self.transpose_b).0;
                require(self.inner() == inner, "the inner dimensions of a and b differ")?;
            }
        }
        let [rows, cols, _] = self.extents();
        require(self.splits >= 1 && self.depth() * (self.splits - 1) < self.inner().max(1), "a split would be empty")?;
        require(
            rows.checked_mul(self.splits) == Some(self.out.rows()) && cols == self.out.cols(),
            "out must be rows of a x columns of b, once a split",
        )?;
        require(
            self.splits == 1 || (self.epilogue == Epilogue::default() && self.alpha == 1.0 && !self.accumulate),
            "factor, epilogue and what is added to apply to the sum of the splits",
        )?;
        require(
            self.sums.is_none_or(|t| t.rows() == self.splits && t.cols() == rows),
            "sums must be one row a split of a's rows",
        )?;
        let reads_a = self.convolution.is_some_and(|c| c.pass != Pass::Weight);
        require(self.sums.is_none() || !reads_a, "there are no sums of what a window reads")?;
        self.epilogue.check(self.out.rows(), self.out.cols())
    }

    fn flops(&self) -> u64 {
        let sums = if self.sums.is_some() { self.a.shape.per_replica() as u64 } else { 0 };
        let [rows, cols, inner] = self.extents().map(u64::from);
        2 * self.convolution.map_or(rows * cols * inner, |convolution| convolution.multiply_adds(self)) + sums
    }

    fn details(&self) -> String {
        let letter = |t| if t { 'T' } else { 'N' };
        let alpha = if self.alpha == 1.0 { String::new() } else { format!(" *{}", self.alpha) };
        let splits = if self.splits == 1 { String::new() } else { format!(" {} splits", self.splits) };
        let sums = if self.sums.is_some() { " +sums" } else { "" };
        let accumulate = if self.accumulate { " accumulated" } else { "" };
        let epilogue = self.epilogue.details();
        let convolution = self.convolution.map_or(String::new(), |c| format!(" {}", c.window));
        let half = if self.half.is_some() { " f16" } else { "" };
        format!(
            "{}{}{convolution}{half}{alpha}{splits}{epilogue}{sums}{accumulate}",
            letter(self.transpose_a),
            letter(self.transpose_b)
        )
    }
}

/// `out = epilogue(alpha * sum of the splits)`: what a [`Gemm`] in several splits leaves, added in their order.
#[derive(Clone, Copy, Debug)]
pub struct SumSplits {
    /// (splits rows) x cols.
    pub a: View,
    /// rows x cols.
    pub out: View,
    /// Factor on the sum.
    pub alpha: f64,
    /// What follows before the store.
    pub epilogue: Epilogue,
    /// Whether it is added to what out holds.
    pub accumulate: bool,
}

impl SumSplits {
    /// How many there are.
    pub fn splits(&self) -> u32 {
        self.a.rows() / self.out.rows().max(1)
    }
}

impl Operation for SumSplits {
    fn name(&self) -> &'static str {
        "sum-splits"
    }

    fn operands(&self) -> Vec<Operand> {
        [read("a", self.a)]
            .into_iter()
            .chain(self.epilogue.operands())
            .chain([sum("out", self.out, self.accumulate)])
            .collect()
    }

    fn check(&self) -> Result<(), String> {
        require(
            self.a.cols() == self.out.cols() && self.splits() >= 1 && self.a.rows().is_multiple_of(self.out.rows()),
            "a must hold whole matrices of out's shape",
        )?;
        self.epilogue.check(self.out.rows(), self.out.cols())
    }

    fn flops(&self) -> u64 {
        self.a.shape.per_replica() as u64
    }

    fn details(&self) -> String {
        let accumulate = if self.accumulate { " accumulated" } else { "" };
        format!("{} splits{}{accumulate}", self.splits(), self.epilogue.details())
    }
}
