//! max(x, 0).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::activation::Elementwise;
use super::{Describe, Layer};
use crate::model::graph::Extent;
use crate::ops::Activation;

/// max(x, 0).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relu {}

impl Describe for Relu {
    fn place(&self, inputs: &[Extent]) -> Result<(Arc<dyn Layer>, Extent), String> {
        Ok((Arc::new(Elementwise(Activation::Relu)), inputs[0]))
    }
}
