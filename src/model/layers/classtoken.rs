//! A learned token before the others.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Describe, Input, Layer};
use crate::model::graph::Extent;
use crate::model::parameter::{ParameterSpec, Start};
use crate::model::pass::{Pass, Placed};
use crate::ops::{ColumnSum, PlaceRows, Role, ShapeError, View};

/// Puts a learned token before all others, after which positions are a sequence and no image. It starts as a normal of
/// deviation 1e-6.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassToken {}

impl Describe for ClassToken {
    fn place(&self, inputs: &[Extent]) -> Result<(Arc<dyn Layer>, Extent), String> {
        let Extent { channels, .. } = inputs[0];
        let positions = inputs[0].pixels();
        Ok((Arc::new(Token { positions, width: channels }), Extent::of([positions + 1, 1], channels)))
    }

    fn wants(&self) -> Option<Input> {
        Some(Input::Pixels)
    }
}

#[derive(Debug)]
struct Token {
    positions: u32,
    width: u32,
}

impl Layer for Token {
    fn parameters(&self) -> Vec<ParameterSpec> {
        vec![ParameterSpec::row("weight", self.width, Start::Normal(1e-6))]
    }

    fn forward(&self, pass: &mut Pass<'_>, at: &Placed) -> Result<View, ShapeError> {
        let (x, out) = (pass.input(at), pass.make(at, "tokens"));
        let fill = Some(at.parameters[0].value);
        pass.rec.push(PlaceRows { x: x.by_rows(self.positions), out, first: 1, fill })?;
        Ok(out)
    }

    fn backward(&self, pass: &mut Pass<'_>, at: &Placed, error: View) -> Result<Vec<View>, ShapeError> {
        let samples = error.by_rows(self.positions + 1);
        if pass.learns(at) {
            pass.rec.role(Role::WeightGradient);
            let own = pass.rec.scratch("token_error", pass.samples, self.width);
            pass.rec.push(PlaceRows { x: samples.rows_from(0, 1), out: own, first: 0, fill: None })?;
            let out = at.parameters[0].learned().gradient;
            let accumulate = pass.rec.has_written(out);
            pass.rec.push(ColumnSum { x: own, out, accumulate })?;
        }
        if !at.passes_error {
            return Ok(Vec::new());
        }
        pass.rec.role(Role::Derivative);
        let out = pass.error(at);
        pass.rec.push(PlaceRows { x: samples.rows_from(1, self.positions), out, first: 0, fill: None })?;
        Ok(vec![out])
    }

    fn adds_inputs(&self) -> bool {
        true
    }
}
