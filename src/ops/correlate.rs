//! What the local rules learn from: products of the squeezed error with the error itself and with the layer's input.

use super::{Operand, Operation, View, read, require, sum, write};

/// Everything that [`Oja`] needs of a batch, and with `hebbian` also the gradient of q, from one pass over the rows.
///
/// With x' = x - first row of x and y' likewise, `statistics` is, once a split of the rows, (r + 3) x (m + r):
/// row j < r holds the sums over the rows of `y'_j [x' | y']`, row r those of `[x' | y']`, row r + 1 those of its squares,
/// row r + 2 the first row of `[x | y]`. A covariance is the same for shifted samples, and those are as small as their
/// deviation: a large mean costs no digits, and where all rows are equal everything is exactly zero.
///
/// Statistics add up where all are shifted alike. So those of a later accumulation step take the shift from the `origin`,
/// the sum of the statistics before, and have zeros in row r + 2; and so do all splits but the first.
#[derive(Clone, Copy, Debug)]
pub struct Correlate {
    /// Samples, rows x m: the error, or the labels in its place.
    pub x: View,
    /// x p, rows x r.
    pub y: View,
    /// (splits (r + 3)) x (m + r).
    pub statistics: View,
    /// (r + 3) x (m + r): statistics of the step's rows so far.
    pub origin: Option<View>,
    /// The gradient of q from the same tiles of y.
    pub hebbian: Option<Hebbian>,
    /// Pieces of the rows, each with outputs of its own; see [`super::Gemm::splits`].
    pub splits: u32,
}

/// `gradient = y^T input`, once a split of the rows.
#[derive(Clone, Copy, Debug)]
pub struct Hebbian {
    /// The layer's input h, rows x k.
    pub input: View,
    /// (splits r) x k.
    pub gradient: View,
    /// Whether it is added to what `gradient` holds, of one split.
    pub accumulate: bool,
}

impl Correlate {
    /// Rows of a split.
    pub fn depth(&self) -> u32 {
        self.x.rows().div_ceil(self.splits)
    }
}

impl Operation for Correlate {
    fn name(&self) -> &'static str {
        "correlate"
    }

    fn operands(&self) -> Vec<Operand> {
        let mut all = vec![read("x", self.x), read("y", self.y), write("statistics", self.statistics)];
        all.extend(self.origin.map(|t| read("origin", t)));
        if let Some(Hebbian { input, gradient, accumulate }) = self.hebbian {
            all.extend([read("input", input), sum("gradient", gradient, accumulate)]);
        }
        all
    }

    fn check(&self) -> Result<(), String> {
        let (rows, rank) = (self.x.rows(), self.y.cols());
        require(self.y.rows() == rows, "x and y must have as many rows")?;
        require(self.splits >= 1 && self.depth() * (self.splits - 1) < rows, "a split would be empty")?;
        let fits = |t: View, splits| t.rows() == splits * (rank + 3) && t.cols() == self.x.cols() + rank;
        require(
            fits(self.statistics, self.splits),
            "statistics must be (rank + 3) x (columns of x + rank), once a split",
        )?;
        require(
            self.origin.is_none_or(|t| fits(t, 1)),
            "origin must be statistics of one split, (rank + 3) x (columns of x + rank)",
        )?;
        require(
            self.hebbian.is_none_or(|h| {
                h.input.rows() == rows && h.gradient.rows() == self.splits * rank && h.gradient.cols() == h.input.cols()
            }),
            "input must have x's rows, its gradient be rank x its columns, once a split",
        )?;
        let accumulates = self.hebbian.is_some_and(|h| h.accumulate);
        require(self.splits == 1 || !accumulates, "the sum of the splits is added to, not each of them")
    }

    fn flops(&self) -> u64 {
        let (rows, rank) = (u64::from(self.x.rows()), u64::from(self.y.cols()));
        let input = self.hebbian.map_or(0, |h| u64::from(h.input.cols()));
        let correlated = u64::from(self.x.cols()) + rank;
        2 * rows * rank * (correlated + input) + 3 * rows * correlated
    }

    fn details(&self) -> String {
        let hebbian = if self.hebbian.is_some() { " +hebbian" } else { "" };
        let splits = if self.splits == 1 { String::new() } else { format!(" {} splits", self.splits) };
        let origin = if self.origin.is_some() { " shifted as before" } else { "" };
        format!("r={}{splits}{origin}{hebbian}", self.y.cols())
    }
}

/// The Oja rule's gradient: `out = -(D^T Y - p Y^T Y) / rows` with D = (x - mean) / (s + 1e-8), Y = D p, s the largest
/// unbiased standard deviation of a column of x (0 for a single row).
///
/// y = x p makes Y = (y - mean) / (s + 1e-8): the products come from [`Correlate`], and D is never formed.
#[derive(Clone, Copy, Debug)]
pub struct Oja {
    /// Of all rows, (r + 3) x (m + r).
    pub statistics: View,
    /// m x r.
    pub p: View,
    /// m x r.
    pub out: View,
    /// Rows that the statistics were taken over.
    pub rows: u32,
}

impl Operation for Oja {
    fn name(&self) -> &'static str {
        "oja"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![read("correlated", self.statistics), read("p", self.p), write("out", self.out)]
    }

    fn check(&self) -> Result<(), String> {
        let (width, rank) = (self.p.rows(), self.p.cols());
        require(self.out.shape == self.p.shape, "p and out must have one shape")?;
        require(self.rows >= 1, "statistics must be of at least one row")?;
        require(
            self.statistics.rows() == rank + 3 && self.statistics.cols() == width + rank,
            "statistics must be (rank + 3) x (rows of p + rank)",
        )
    }

    fn flops(&self) -> u64 {
        let (width, rank) = (u64::from(self.p.rows()), u64::from(self.p.cols()));
        2 * rank * rank * width + 5 * rank * width
    }
}
