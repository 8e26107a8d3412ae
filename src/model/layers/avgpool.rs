//! The mean of every window.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Describe, Input, Layer, maxpool};
use crate::model::graph::Extent;
use crate::model::pass::{Pass, Placed};
use crate::model::spec::Sides;
use crate::ops::{AveragePool, AveragePoolBackward, ShapeError, View, Window};

/// The mean of every window, padding counted as zeros.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AvgPool {
    /// Side of the window, or height and width.
    pub size: Sides,
    /// Pixels from one window to the next; as large as the window if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<Sides>,
    /// Zeros around the image.
    #[serde(default)]
    pub padding: Sides,
}

impl Describe for AvgPool {
    fn place(&self, inputs: &[Extent]) -> Result<(Arc<dyn Layer>, Extent), String> {
        let window = maxpool::window(inputs[0], self.size, self.stride, self.padding)?;
        Ok((Arc::new(Mean(window)), Extent::of(window.grid, inputs[0].channels)))
    }

    fn wants(&self) -> Option<Input> {
        Some(Input::Pixels)
    }
}

#[derive(Debug)]
pub(super) struct Mean(pub(super) Window);

impl Layer for Mean {
    fn forward(&self, pass: &mut Pass<'_>, at: &Placed) -> Result<View, ShapeError> {
        let (x, out) = (pass.input(at), pass.make(at, "mean"));
        pass.rec.push(AveragePool { x, out, window: self.0 })?;
        Ok(out)
    }

    fn backward(&self, pass: &mut Pass<'_>, at: &Placed, error: View) -> Result<Vec<View>, ShapeError> {
        let out = pass.error(at);
        pass.rec.push(AveragePoolBackward { error, out, window: self.0, gate: None })?;
        Ok(vec![out])
    }
}
