//! An image as a sequence.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Describe, Input, Layer};
use crate::model::graph::Extent;
use crate::model::pass::{Pass, Placed};
use crate::ops::{ShapeError, View};

/// An image as a sequence of tokens. They lie in memory as the pixels do, so that nothing is computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequence {
    /// What a token is.
    pub of: Token,
}

/// What part of an image is a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Token {
    /// A row of pixels, from left to right, with its channels.
    Rows,
    /// A pixel, row by row.
    Pixels,
}

impl Describe for Sequence {
    fn place(&self, inputs: &[Extent]) -> Result<(Arc<dyn Layer>, Extent), String> {
        let Extent { height, width, channels } = inputs[0];
        let extent = match self.of {
            Token::Rows => Extent { height, width: 1, channels: width * channels },
            Token::Pixels => Extent { height: height * width, width: 1, channels },
        };
        Ok((Arc::new(InOrder), extent))
    }

    fn wants(&self) -> Option<Input> {
        Some(Input::Pixels)
    }
}

#[derive(Debug)]
struct InOrder;

impl Layer for InOrder {
    fn forward(&self, pass: &mut Pass<'_>, at: &Placed) -> Result<View, ShapeError> {
        Ok(pass.input(at).window(0, pass.samples * at.extent.pixels(), at.extent.channels))
    }

    fn backward(&self, pass: &mut Pass<'_>, at: &Placed, error: View) -> Result<Vec<View>, ShapeError> {
        let input = pass.input(at);
        Ok(vec![error.window(0, input.rows(), input.cols())])
    }
}
