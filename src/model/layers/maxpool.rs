//! The largest of every window.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Describe, Input, Layer};
use crate::model::graph::Extent;
use crate::model::pass::{Pass, Placed};
use crate::model::spec::Sides;
use crate::ops::{self, Dtype, MaxPoolBackward, ShapeError, View, Window};

/// The largest of every window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxPool {
    /// Side of the window, or height and width.
    pub size: Sides,
    /// Pixels from one window to the next; as large as the window if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<Sides>,
    /// Pixels around the image that never win.
    #[serde(default)]
    pub padding: Sides,
}

/// How the window of a pool moves.
pub(super) fn window(input: Extent, size: Sides, stride: Option<Sides>, padding: Sides) -> Result<Window, String> {
    let (size, padding) = (size.pair(), padding.pair());
    if (0..2).any(|axis| padding[axis] > size[axis] / 2) {
        return Err("the padding of a pool may be at most half of its size".to_owned());
    }
    Window::new(input.sides(), size, stride.map_or(size, Sides::pair), padding)
}

impl Describe for MaxPool {
    fn place(&self, inputs: &[Extent]) -> Result<(Arc<dyn Layer>, Extent), String> {
        let window = window(inputs[0], self.size, self.stride, self.padding)?;
        Ok((Arc::new(Max(window)), Extent::of(window.grid, inputs[0].channels)))
    }

    fn wants(&self) -> Option<Input> {
        Some(Input::Pixels)
    }
}

#[derive(Debug)]
struct Max(Window);

impl Layer for Max {
    fn forward(&self, pass: &mut Pass<'_>, at: &Placed) -> Result<View, ShapeError> {
        let (x, out) = (pass.input(at), pass.make(at, "largest"));
        let winners = pass.rec.scratch_of("winners", out.rows(), out.cols(), Dtype::U32);
        pass.rec.push(ops::MaxPool { x, out, winners, window: self.0 })?;
        pass.save(winners);
        Ok(out)
    }

    fn backward(&self, pass: &mut Pass<'_>, at: &Placed, error: View) -> Result<Vec<View>, ShapeError> {
        let (out, winners) = (pass.error(at), pass.saved(at)[0]);
        pass.rec.push(MaxPoolBackward { error, winners, out, window: self.0, gate: None })?;
        Ok(vec![out])
    }
}
