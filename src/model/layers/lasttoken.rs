//! The last position alone.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::token::Single;
use super::{Describe, Input, Layer};
use crate::model::graph::Extent;

/// The last position alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastToken {}

impl Describe for LastToken {
    fn place(&self, inputs: &[Extent]) -> Result<(Arc<dyn Layer>, Extent), String> {
        let layer = Single { position: inputs[0].pixels() - 1, positions: inputs[0].pixels() };
        Ok((Arc::new(layer), Extent::flat(inputs[0].channels)))
    }

    fn wants(&self) -> Option<Input> {
        Some(Input::Pixels)
    }
}
