//! Nonlinearities on single elements.

use super::Layer;
use crate::model::pass::{Pass, Placed};
use crate::ops::{Activate, Activation, Gate, Saves, ShapeError, View};

#[derive(Debug)]
pub(super) struct Elementwise(pub(super) Activation);

impl Layer for Elementwise {
    fn forward(&self, pass: &mut Pass<'_>, at: &Placed) -> Result<View, ShapeError> {
        let (x, out) = (pass.input(at), pass.make(at, "h"));
        pass.rec.push(Activate { x, out, f: self.0 })?;
        Ok(out)
    }

    fn backward(&self, pass: &mut Pass<'_>, at: &Placed, error: View) -> Result<Vec<View>, ShapeError> {
        let saved = match self.0.saves() {
            Saves::Input => pass.input(at),
            Saves::Output => pass.output(at),
        };
        let out = pass.error(at);
        pass.rec.push(Gate { x: error, saved, out, f: self.0 })?;
        Ok(vec![out])
    }

    fn is_activation(&self) -> bool {
        true
    }
}
