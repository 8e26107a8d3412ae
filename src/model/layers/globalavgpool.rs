//! The mean over all positions.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::avgpool::Mean;
use super::{Describe, Input, Layer};
use crate::model::graph::Extent;
use crate::ops::Window;

/// The mean of every channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalAvgPool {}

impl Describe for GlobalAvgPool {
    fn place(&self, inputs: &[Extent]) -> Result<(Arc<dyn Layer>, Extent), String> {
        let input = inputs[0];
        let window = Window::new(input.sides(), input.sides(), [1, 1], [0, 0])?;
        Ok((Arc::new(Mean(window)), Extent::flat(input.channels)))
    }

    fn wants(&self) -> Option<Input> {
        Some(Input::Pixels)
    }
}
