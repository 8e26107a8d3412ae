//! A learned value for every position.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Describe, Input, Layer};
use crate::model::graph::Extent;
use crate::model::parameter::{ParameterSpec, Start};
use crate::model::pass::{Pass, Placed};
use crate::ops::{AddRow, ColumnSum, Role, ShapeError, View};

/// Adds a learned value to every channel of every position. It starts as a truncated normal of deviation 0.02.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {}

impl Describe for Position {
    fn place(&self, inputs: &[Extent]) -> Result<(Arc<dyn Layer>, Extent), String> {
        Ok((Arc::new(Learned { positions: inputs[0].pixels(), width: inputs[0].channels }), inputs[0]))
    }

    fn wants(&self) -> Option<Input> {
        Some(Input::Pixels)
    }
}

#[derive(Debug)]
struct Learned {
    positions: u32,
    width: u32,
}

impl Learned {
    /// A tensor of samples x (positions x width), a sample a row.
    fn by_sample(&self, tensor: View) -> View {
        tensor.window(0, tensor.rows() / self.positions, self.positions * self.width)
    }
}

impl Layer for Learned {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let shape = [self.positions, self.width];
        vec![ParameterSpec::learned("weight", shape.to_vec(), shape, Start::Normal(0.02))]
    }

    fn forward(&self, pass: &mut Pass<'_>, at: &Placed) -> Result<View, ShapeError> {
        let (x, out) = (pass.input(at), pass.make(at, "placed"));
        let row = self.by_sample(at.parameters[0].value);
        pass.rec.push(AddRow { x: self.by_sample(x), row, out: self.by_sample(out) })?;
        Ok(out)
    }

    fn backward(&self, pass: &mut Pass<'_>, at: &Placed, error: View) -> Result<Vec<View>, ShapeError> {
        if pass.learns(at) {
            pass.rec.role(Role::WeightGradient);
            let out = self.by_sample(at.parameters[0].learned().gradient);
            let accumulate = pass.rec.has_written(out);
            pass.rec.push(ColumnSum { x: self.by_sample(error), out, accumulate })?;
        }
        Ok(vec![error])
    }

    fn adds_inputs(&self) -> bool {
        true
    }
}
