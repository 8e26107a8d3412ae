//! x Phi(x), the exact form.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::activation::Elementwise;
use super::{Describe, Layer};
use crate::model::graph::Extent;
use crate::ops::Activation;

/// x Phi(x), exact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gelu {}

impl Describe for Gelu {
    fn place(&self, inputs: &[Extent]) -> Result<(Arc<dyn Layer>, Extent), String> {
        Ok((Arc::new(Elementwise(Activation::Gelu)), inputs[0]))
    }
}
