//! The image as one row.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Describe, Input, Layer};
use crate::model::graph::Extent;
use crate::model::pass::{Pass, Placed};
use crate::ops::{ShapeError, TransposeBlocks, View};

/// The image as one row, channel by channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flatten {}

impl Describe for Flatten {
    fn place(&self, inputs: &[Extent]) -> Result<(Arc<dyn Layer>, Extent), String> {
        Ok((Arc::new(ChannelByChannel(inputs[0])), Extent::flat(inputs[0].features())))
    }

    fn wants(&self) -> Option<Input> {
        Some(Input::Pixels)
    }
}

#[derive(Debug)]
struct ChannelByChannel(Extent);

impl Layer for ChannelByChannel {
    fn forward(&self, pass: &mut Pass<'_>, at: &Placed) -> Result<View, ShapeError> {
        let (x, out) = (pass.input(at), pass.make(at, "flat"));
        pass.rec.push(TransposeBlocks { x, out, rows: self.0.pixels(), cols: self.0.channels })?;
        Ok(out)
    }

    fn backward(&self, pass: &mut Pass<'_>, at: &Placed, error: View) -> Result<Vec<View>, ShapeError> {
        let out = pass.error(at);
        pass.rec.push(TransposeBlocks { x: error, out, rows: self.0.channels, cols: self.0.pixels() })?;
        Ok(vec![out])
    }
}
