//! h W^T + b at every position.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::linear::Linear;
use super::{Describe, Input, Layer};
use crate::model::graph::Extent;

/// h W^T + b, at every position by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dense {
    /// Width of its output.
    pub out: u32,
}

impl Describe for Dense {
    fn place(&self, inputs: &[Extent]) -> Result<(Arc<dyn Layer>, Extent), String> {
        let (input, outputs) = (inputs[0], self.out);
        if outputs == 0 {
            return Err("dense needs out of at least 1".into());
        }
        let inputs = input.channels;
        let layer = Linear { inputs, outputs, window: None, start: Linear::uniform(inputs, 1) };
        Ok((Arc::new(layer), Extent { channels: outputs, ..input }))
    }

    fn wants(&self) -> Option<Input> {
        Some(Input::Row)
    }

    fn outputs(&self) -> Option<u32> {
        Some(self.out)
    }
}
