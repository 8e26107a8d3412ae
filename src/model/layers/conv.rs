//! A kernel that moves over the image.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::linear::Linear;
use super::{Describe, Input, Layer};
use crate::model::graph::{Extent, MOST_FEATURES};
use crate::model::spec::Sides;
use crate::ops::Window;

/// A kernel that moves over the image, and a bias.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv {
    /// Channels of its output.
    pub out: u32,
    /// Side of the kernel, or height and width.
    pub kernel: Sides,
    /// Pixels from one position to the next.
    #[serde(default = "Sides::one")]
    pub stride: Sides,
    /// Zeros around the image.
    #[serde(default)]
    pub padding: Sides,
}

impl Describe for Conv {
    fn place(&self, inputs: &[Extent]) -> Result<(Arc<dyn Layer>, Extent), String> {
        let (input, outputs) = (inputs[0], self.out);
        if outputs == 0 {
            return Err("conv needs out of at least 1".into());
        }
        let window = Window::new(input.sides(), self.kernel.pair(), self.stride.pair(), self.padding.pair())?;
        let (inputs, taps) = (input.channels, window.taps());
        let row = u64::from(taps) * u64::from(inputs);
        if row > MOST_FEATURES {
            return Err(format!("a kernel of {row} weights an output is too large; make it smaller"));
        }
        let layer = Linear { inputs, outputs, window: Some(window), start: Linear::uniform(inputs, taps) };
        Ok((Arc::new(layer), Extent::of(window.grid, outputs)))
    }

    fn wants(&self) -> Option<Input> {
        Some(Input::Pixels)
    }

    fn outputs(&self) -> Option<u32> {
        Some(self.out)
    }
}
