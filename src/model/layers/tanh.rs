//! tanh(x).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::activation::Elementwise;
use super::{Describe, Layer};
use crate::model::graph::Extent;
use crate::ops::Activation;

/// tanh(x).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tanh {}

impl Describe for Tanh {
    fn place(&self, inputs: &[Extent]) -> Result<(Arc<dyn Layer>, Extent), String> {
        Ok((Arc::new(Elementwise(Activation::Tanh)), inputs[0]))
    }
}
