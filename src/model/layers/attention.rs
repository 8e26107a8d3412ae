//! Attention among the positions of a sample.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::dropout::{is_zero, probability};
use super::{Describe, Input, Layer};
use crate::model::graph::Extent;
use crate::model::pass::{Pass, Placed};
use crate::ops::{self, AttentionKeys, AttentionQueries, Heads, ShapeError, View};

/// softmax(q k^T / sqrt(width of a head)) v in every head. It takes q, k and v side by side, three times what it makes, and has no
/// weights of its own: a dense layer before it makes the three, one behind it mixes the heads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attention {
    /// Heads side by side.
    pub heads: u32,
    /// Probability of dropping a position's attention to another, in training.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropout: f64,
    /// Whether a position attends to itself and earlier ones only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub causal: bool,
}

impl Describe for Attention {
    fn place(&self, inputs: &[Extent]) -> Result<(Arc<dyn Layer>, Extent), String> {
        let (input, heads) = (inputs[0], self.heads);
        let columns = heads.checked_mul(3).filter(|columns| *columns > 0 && input.channels.is_multiple_of(*columns));
        let Some(columns) = columns else {
            return Err(format!(
                "attention takes queries, keys and values side by side, each of whole heads: {} channels are not three times \
                 {heads} heads",
                input.channels
            ));
        };
        let width = input.channels / columns;
        if width > Heads::MAX_WIDTH {
            return Err(format!("a head of {width} channels is too wide; at most {} are possible", Heads::MAX_WIDTH));
        }
        let drop = probability("attention with dropout", self.dropout)?;
        let layer = Attend { width: input.channels / 3, heads, positions: input.pixels(), causal: self.causal, drop };
        Ok((Arc::new(layer), Extent { channels: input.channels / 3, ..input }))
    }

    fn wants(&self) -> Option<Input> {
        Some(Input::Pixels)
    }
}

#[derive(Debug)]
struct Attend {
    width: u32,
    heads: u32,
    positions: u32,
    causal: bool,
    drop: f64,
}

impl Attend {
    fn heads(&self, pass: &Pass<'_>, at: &Placed) -> Heads {
        let drop = if pass.is_training() { self.drop } else { 0.0 };
        Heads { count: self.heads, length: self.positions, causal: self.causal, drop, stream: pass.stream(at) }
    }
}

impl Layer for Attend {
    fn forward(&self, pass: &mut Pass<'_>, at: &Placed) -> Result<View, ShapeError> {
        let (qkv, out, heads) = (pass.input(at), pass.make(at, "attended"), self.heads(pass, at));
        let stats = pass.rec.scratch("log_sums", qkv.rows(), self.heads);
        pass.rec.push(ops::Attention { qkv, out, stats, heads })?;
        pass.save(stats);
        Ok(out)
    }

    fn backward(&self, pass: &mut Pass<'_>, at: &Placed, error: View) -> Result<Vec<View>, ShapeError> {
        let (qkv, out, heads) = (pass.input(at), pass.output(at), self.heads(pass, at));
        let (stats, gradient) = (pass.saved(at)[0], pass.error(at));
        let dots = pass.rec.scratch("dots", qkv.rows(), self.heads);
        pass.rec.push(AttentionQueries { error, qkv, out, stats, dots, gradient, heads })?;
        pass.rec.push(AttentionKeys { error, qkv, stats, dots, gradient, heads })?;
        Ok(vec![gradient])
    }

    /// A constant in the keys adds the same to all scores of a query, which its softmax takes away.
    fn ignores_shift(&self) -> Option<Range<u32>> {
        Some(self.width..2 * self.width)
    }
}
