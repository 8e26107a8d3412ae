//! Attention among the positions of a sample.

use super::{Operand, Operation, View, read, require, update, write};

/// Who attends to whom, and what is dropped: common to the way forward and back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heads {
    /// Heads side by side in the columns.
    pub count: u32,
    /// Positions of a sample, below each other in the rows.
    pub length: u32,
    /// Whether a position attends to itself and earlier ones only.
    pub causal: bool,
    /// Probability of dropping a position's attention to another, 0 <= drop < 1.
    ///
    /// What is kept is divided by `1 - drop`. The mask is drawn from (seed, step, element, stream) as that of
    /// [`super::Dropout`], the elements being numbered by sample, head, query and key, the key fastest.
    pub drop: f64,
    /// Tells the layers of one network that drop apart.
    pub stream: u32,
}

impl Heads {
    /// Most columns of a head.
    pub const MAX_WIDTH: u32 = 128;

    /// Columns of a head in a matrix of `cols`.
    pub fn width(&self, cols: u32) -> u32 {
        cols / self.count.max(1)
    }

    /// Pairs of a query and a key that it sees, of all samples and heads.
    fn pairs(&self, rows: u32) -> u64 {
        let length = u64::from(self.length);
        let seen = if self.causal { length * (length + 1) / 2 } else { length * length };
        u64::from(rows / self.length.max(1)) * u64::from(self.count) * seen
    }

    fn check(&self, qkv: View, out: View, stats: View) -> Result<(), String> {
        require(self.count >= 1 && self.length >= 1, "there must be a head and a position")?;
        require(
            qkv.rows() == out.rows() && u64::from(qkv.cols()) == 3 * u64::from(out.cols()),
            "qkv must have queries, keys and values side by side, each of the columns of the result",
        )?;
        require(out.rows().is_multiple_of(self.length), "rows must be whole samples of the length")?;
        require(out.cols().is_multiple_of(self.count), "columns must be whole heads")?;
        let width = self.width(out.cols());
        if !(1..=Heads::MAX_WIDTH).contains(&width) {
            return Err(format!("a head has 1 to {} columns, not {width}", Heads::MAX_WIDTH));
        }
        require(
            stats.rows() == out.rows() && stats.cols() == self.count,
            "there must be one statistic a row and head",
        )?;
        require((0.0..1.0).contains(&self.drop), "the probability of dropping must lie in [0, 1)")
    }

    fn details(&self) -> String {
        let causal = if self.causal { " causal" } else { "" };
        let drop = if self.drop > 0.0 { format!(" p={}", self.drop) } else { String::new() };
        format!("{} heads, length {}{causal}{drop}", self.count, self.length)
    }
}

/// `out = softmax(q k^T / sqrt(d)) v` for every sample and head, d being the columns of a head.
///
/// With its mask m of 0 and `1 / (1 - drop)` the softmax p is multiplied by m before it meets v. Kernels never write p: they
/// go over the keys in blocks, and keep of every row and head what the way back needs to compute it again.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Queries, keys and values side by side, (samples length) x 3 C, each with the heads side by side.
    pub qkv: View,
    /// (samples length) x C, the heads side by side.
    pub out: View,
    /// `log(sum exp(q k^T / sqrt(d)))` over the keys, (samples length) x heads.
    pub stats: View,
    /// Who attends to whom.
    pub heads: Heads,
}

impl Operation for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![read("qkv", self.qkv), write("out", self.out), write("stats", self.stats)]
    }

    fn check(&self) -> Result<(), String> {
        self.heads.check(self.qkv, self.out, self.stats)
    }

    /// Two products, 4 d of a pair of query and key; five for its softmax (factor, largest, difference, exponential, sum), one
    /// to drop. Only pairs that are not masked count.
    fn flops(&self) -> u64 {
        let width = u64::from(self.heads.width(self.out.cols()));
        self.heads.pairs(self.out.rows()) * (4 * width + 5 + u64::from(self.heads.drop > 0.0))
    }

    fn details(&self) -> String {
        self.heads.details()
    }
}

/// The part of an attention's exact derivative that belongs to the queries, from probabilities p computed again:
/// `dq = s k / sqrt(d)` with `s = p . (m . (error v^T) - dots)`, `dots = sum error . out` over the columns of a head.
///
/// It writes the columns of the queries in the gradient of qkv; [`AttentionKeys`] writes those of keys and values.
#[derive(Clone, Copy, Debug)]
pub struct AttentionQueries {
    /// dL/dout, (samples length) x C.
    pub error: View,
    /// As in [`Attention`].
    pub qkv: View,
    /// What [`Attention`] has computed.
    pub out: View,
    /// From [`Attention`].
    pub stats: View,
    /// Rows by heads, kept for [`AttentionKeys`].
    pub dots: View,
    /// dL/dqkv, (samples length) x 3 C.
    pub gradient: View,
    /// Those of the attention.
    pub heads: Heads,
}

fn check_backward(heads: &Heads, error: View, [qkv, gradient]: [View; 2], stats: [View; 2]) -> Result<(), String> {
    heads.check(qkv, error, stats[0])?;
    require(qkv.shape == gradient.shape, "qkv and its gradient must have one shape")?;
    require(stats[0].shape == stats[1].shape, "there must be one dot a statistic")
}

impl Operation for AttentionQueries {
    fn name(&self) -> &'static str {
        "attention-queries"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![
            read("error", self.error),
            read("qkv", self.qkv),
            // A shader binds a tensor as written or as read under one name.
            read("attended", self.out),
            read("row_stats", self.stats),
            write("dots", self.dots),
            // The columns of keys and values are left as they are, for AttentionKeys to fill.
            write("gradient", self.gradient),
        ]
    }

    fn check(&self) -> Result<(), String> {
        require(self.error.shape == self.out.shape, "error and attended must have one shape")?;
        check_backward(&self.heads, self.error, [self.qkv, self.gradient], [self.stats, self.dots])
    }

    /// Three products, 6 d of a pair of query and key, one of which computes the scores again, and six for p and s.
    fn flops(&self) -> u64 {
        let width = u64::from(self.heads.width(self.out.cols()));
        let dots = 2 * self.out.shape.per_replica() as u64;
        self.heads.pairs(self.out.rows()) * (6 * width + 6 + u64::from(self.heads.drop > 0.0)) + dots
    }

    /// The columns of the queries alone are written.
    fn bytes(&self) -> Option<u64> {
        let read = [self.error, self.qkv, self.out, self.stats, self.dots, self.error];
        Some(read.iter().map(|t| 4 * t.shape.per_replica() as u64).sum())
    }

    fn details(&self) -> String {
        self.heads.details()
    }
}

/// The part of an attention's exact derivative that belongs to keys and values, with p, m, s and dots of
/// [`AttentionQueries`]: `dk = s^T q / sqrt(d)`, `dv = (m . p)^T error`.
#[derive(Clone, Copy, Debug)]
pub struct AttentionKeys {
    /// dL/dout, (samples length) x C.
    pub error: View,
    /// As in [`Attention`].
    pub qkv: View,
    /// From [`Attention`].
    pub stats: View,
    /// From [`AttentionQueries`].
    pub dots: View,
    /// dL/dqkv, (samples length) x 3 C.
    pub gradient: View,
    /// Those of the attention.
    pub heads: Heads,
}

impl Operation for AttentionKeys {
    fn name(&self) -> &'static str {
        "attention-keys"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![
            read("error", self.error),
            read("qkv", self.qkv),
            read("row_stats", self.stats),
            read("row_dots", self.dots),
            update("gradient", self.gradient),
        ]
    }

    fn check(&self) -> Result<(), String> {
        check_backward(&self.heads, self.error, [self.qkv, self.gradient], [self.stats, self.dots])
    }

    /// Two products, 4 d of a pair of query and key. As is usual, the scores count once on the way back, with
    /// [`AttentionQueries`], though kernels compute them and `error v^T` a second time here, which is cheaper than to pass
    /// them through memory.
    fn flops(&self) -> u64 {
        self.heads.pairs(self.error.rows()) * 4 * u64::from(self.heads.width(self.error.cols()))
    }

    /// The columns of keys and values alone are written.
    fn bytes(&self) -> Option<u64> {
        let moved = [self.error, self.qkv, self.stats, self.dots, self.error, self.error];
        Some(moved.iter().map(|t| 4 * t.shape.per_replica() as u64).sum())
    }

    fn details(&self) -> String {
        self.heads.details()
    }
}
