//! h W^T + b at every position.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::linear::Linear;
use super::{Describe, Input, Layer};
use crate::model::graph::Extent;
use crate::model::parameter::Start;

/// h W^T + b, at every position by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dense {
    /// Width of its output.
    pub out: u32,
    /// First values of weight and bias.
    #[serde(default, skip_serializing_if = "FirstValues::is_default")]
    pub init: FirstValues,
}

/// First values of a dense layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirstValues {
    /// Weight and bias U(+-1/sqrt(fan in)), PyTorch's default.
    #[default]
    Uniform,
    /// Weight a truncated normal of deviation 0.02, bias zero, as in vision transformers.
    TruncatedNormal,
}

impl FirstValues {
    fn is_default(&self) -> bool {
        *self == FirstValues::default()
    }
}

impl Dense {
    /// Of so many outputs, with PyTorch's first values.
    pub fn new(out: u32) -> Dense {
        Dense { out, init: FirstValues::default() }
    }
}

impl Describe for Dense {
    fn place(&self, inputs: &[Extent]) -> Result<(Arc<dyn Layer>, Extent), String> {
        let (input, outputs) = (inputs[0], self.out);
        if outputs == 0 {
            return Err("dense needs out of at least 1".into());
        }
        let inputs = input.channels;
        let start = match self.init {
            FirstValues::Uniform => Linear::uniform(inputs, 1),
            FirstValues::TruncatedNormal => [Start::Normal(0.02), Start::Constant(0.0)],
        };
        let layer = Linear { inputs, outputs, window: None, start };
        Ok((Arc::new(layer), Extent { channels: outputs, ..input }))
    }

    fn wants(&self) -> Option<Input> {
        Some(Input::Row)
    }

    fn outputs(&self) -> Option<u32> {
        Some(self.out)
    }
}
