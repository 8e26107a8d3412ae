//! One position of a sequence alone: what first and last token have in common.

use super::Layer;
use crate::model::pass::{Pass, Placed};
use crate::ops::{PlaceRows, ShapeError, View};

#[derive(Debug)]
pub(super) struct Single {
    pub(super) position: u32,
    pub(super) positions: u32,
}

impl Layer for Single {
    fn forward(&self, pass: &mut Pass<'_>, at: &Placed) -> Result<View, ShapeError> {
        let (x, out) = (pass.input(at).by_rows(self.positions), pass.make(at, "token"));
        pass.rec.push(PlaceRows { x: x.rows_from(self.position, 1), out, first: 0, fill: None })?;
        Ok(out)
    }

    fn backward(&self, pass: &mut Pass<'_>, at: &Placed, error: View) -> Result<Vec<View>, ShapeError> {
        let out = pass.error(at);
        pass.rec.push(PlaceRows { x: error.by_rows(1), out, first: self.position, fill: None })?;
        Ok(vec![out])
    }
}
