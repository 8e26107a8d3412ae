//! Elements dropped at random in training.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Describe, Layer};
use crate::model::graph::Extent;
use crate::model::pass::{Pass, Placed};
use crate::ops::{self, ShapeError, View};
use crate::optim::{LESS_THAN_ONE, single};

/// Drops elements in training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// Probability of dropping.
    pub p: f64,
}

/// Whether nothing is dropped, which files do not say.
pub(super) fn is_zero(p: &f64) -> bool {
    *p == 0.0
}

/// A probability of dropping, called `name` in messages, that leaves something.
pub(super) fn probability(name: &str, p: f64) -> Result<f64, String> {
    match single(p).map(|seen| (0.0..1.0).contains(&seen)) {
        Ok(true) => Ok(p),
        Ok(false) => Err(format!("{name} = {p}: it must lie in [0, 1), {LESS_THAN_ONE}")),
        Err(problem) => Err(format!("{name} = {p:e}: it {problem}")),
    }
}

impl Describe for Dropout {
    fn place(&self, inputs: &[Extent]) -> Result<(Arc<dyn Layer>, Extent), String> {
        Ok((Arc::new(Drop(probability("dropout with p", self.p)?)), inputs[0]))
    }
}

#[derive(Debug)]
struct Drop(f64);

impl Drop {
    fn is_off(&self, pass: &Pass<'_>) -> bool {
        self.0 == 0.0 || !pass.is_training()
    }
}

impl Layer for Drop {
    fn forward(&self, pass: &mut Pass<'_>, at: &Placed) -> Result<View, ShapeError> {
        let x = pass.input(at);
        if self.is_off(pass) {
            return Ok(x);
        }
        let (out, stream) = (pass.make(at, "kept"), pass.stream(at));
        pass.rec.push(ops::Dropout { x, out, drop: self.0, stream, together: 1 })?;
        Ok(out)
    }

    fn backward(&self, pass: &mut Pass<'_>, at: &Placed, error: View) -> Result<Vec<View>, ShapeError> {
        if self.is_off(pass) {
            return Ok(vec![error]);
        }
        let (out, stream) = (pass.error(at), pass.stream(at));
        pass.rec.push(ops::Dropout { x: error, out, drop: self.0, stream, together: 1 })?;
        Ok(vec![out])
    }
}
