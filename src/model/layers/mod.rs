//! Layers: a file each with all that is known of it, and a line here.
//!
//! A file holds what a configuration says of the layer (`Describe`) and, once it has its place in a network, its tensors and its
//! operations (`Layer`). Values between layers are matrices of (samples x positions) x channels.

mod activation;
mod attention;
mod avgpool;
mod batchnorm;
mod classtoken;
mod conv;
mod dense;
mod dropout;
mod firsttoken;
mod flatten;
mod gelu;
mod globalavgpool;
mod lasttoken;
mod layernorm;
mod linear;
mod maxpool;
mod position;
mod recurrent;
mod relu;
mod residual;
mod sequence;
mod tanh;
mod token;

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::graph::Extent;
use super::parameter::ParameterSpec;
use super::pass::{Pass, Placed};
use crate::ops::{ShapeError, View};

/// What a configuration says of a layer.
pub(super) trait Describe {
    /// The layer behind what it takes, and what it makes; else what is wrong.
    fn place(&self, inputs: &[Extent]) -> Result<(Arc<dyn Layer>, Extent), String>;

    /// Chains of layers that stand between a value and this layer, which takes what each of them makes; none of a layer that takes
    /// the value itself.
    fn chains(&self) -> Vec<Chain<'_>> {
        Vec::new()
    }

    /// What it needs the network's input to be; none if it does not mind.
    fn wants(&self) -> Option<Input> {
        None
    }

    /// Outputs of a layer with a weight that errors go back through.
    fn outputs(&self) -> Option<u32> {
        None
    }

    /// Whether it sends errors to a state of its own, a step before.
    fn has_state(&self) -> bool {
        false
    }
}

/// Layers within a layer.
pub(super) struct Chain<'a> {
    /// In the names of its layers, behind that of the outer one.
    pub(super) name: &'static str,
    /// In configurations.
    pub(super) key: &'static str,
    pub(super) layers: &'a [LayerSpec],
}

/// How a network's first layer takes its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// An image as one row of features.
    Row,
    /// Pixels by channels.
    Pixels,
}

/// A layer in a network.
pub(super) trait Layer: Debug + Send + Sync {
    /// Tensors that it needs.
    fn parameters(&self) -> Vec<ParameterSpec> {
        Vec::new()
    }

    /// Writes the operations that make its output; returns that.
    fn forward(&self, pass: &mut Pass<'_>, at: &Placed) -> Result<View, ShapeError>;

    /// Writes the gradients of its parameters, and from the error at its output those at its inputs, in their order. It may
    /// leave those out that no layer below asks for ([`Placed::passes_error`]).
    fn backward(&self, pass: &mut Pass<'_>, at: &Placed, error: View) -> Result<Vec<View>, ShapeError>;

    /// Whether it is a nonlinearity.
    fn is_activation(&self) -> bool {
        false
    }

    /// Columns of what it takes to which a constant makes no difference. A bias before it is not learned there: its gradient is
    /// zero, and what rounding leaves of it is what Adam makes full steps of.
    fn ignores_shift(&self) -> Option<Range<u32>> {
        None
    }

    /// Rows of a micro-batch that it needs at least.
    fn least_rows(&self) -> u32 {
        1
    }

    /// Whether its outputs may be what the loss judges.
    fn gives_outputs(&self) -> bool {
        false
    }

    /// Columns of the widest tensor that it makes, of which `made` go on.
    fn widest(&self, made: u32) -> u32 {
        made
    }

    /// The position whose units stand for those of all positions where one looks at single units: the one in the middle, or the
    /// last of those that see only what lies before them.
    fn shown_position(&self, extent: Extent) -> u32 {
        extent.height / 2 * extent.width + extent.width / 2
    }

    /// Steps of a sample that it takes one after the other, each from what the one before has left; 1 unless it recurs.
    fn steps(&self) -> u32 {
        1
    }

    /// Whether it adds learned values of its own to what it takes, so that a first weight behind it has something to send
    /// its error to.
    fn adds_inputs(&self) -> bool {
        false
    }
}

macro_rules! layers {
    ($($(#[$attribute:meta])* $file:ident :: $layer:ident,)*) => {
        $(pub use $file::$layer;)*

        /// One layer, by the names of the configuration files.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "type", rename_all = "kebab-case")]
        pub enum LayerSpec {
            $(#[doc = concat!("See [`", stringify!($layer), "`].")] $(#[$attribute])* $layer($layer),)*
        }

        $(impl From<$layer> for LayerSpec {
            fn from(layer: $layer) -> LayerSpec {
                LayerSpec::$layer(layer)
            }
        })*

        impl LayerSpec {
            pub(super) fn describe(&self) -> &dyn Describe {
                match self {
                    $(LayerSpec::$layer(layer) => layer,)*
                }
            }
        }
    };
}

layers! {
    dense::Dense,
    conv::Conv,
    #[serde(rename = "maxpool")]
    maxpool::MaxPool,
    #[serde(rename = "avgpool")]
    avgpool::AvgPool,
    #[serde(rename = "globalavgpool")]
    globalavgpool::GlobalAvgPool,
    flatten::Flatten,
    residual::Residual,
    #[serde(rename = "batchnorm")]
    batchnorm::BatchNorm,
    relu::Relu,
    gelu::Gelu,
    dropout::Dropout,
    #[serde(rename = "layernorm")]
    layernorm::LayerNorm,
    position::Position,
    classtoken::ClassToken,
    firsttoken::FirstToken,
    lasttoken::LastToken,
    attention::Attention,
    tanh::Tanh,
    sequence::Sequence,
    recurrent::Recurrent,
}

pub use dense::FirstValues;
pub use sequence::Token;

impl LayerSpec {
    /// Outputs of a layer with a weight.
    pub fn outputs(&self) -> Option<u32> {
        self.describe().outputs()
    }
}

/// Names of all layers with a weight.
pub fn weighted(layers: &[LayerSpec]) -> Vec<String> {
    with_weights(layers).into_iter().map(|(name, _)| name).collect()
}

/// Names of the layers that send an error through a weight: all but the first one with a weight, which has nothing to send it to
/// unless it is its own state.
pub fn sending(layers: &[LayerSpec]) -> Vec<String> {
    let sends =
        |(at, (name, layer)): (usize, (String, &LayerSpec))| (at > 0 || layer.describe().has_state()).then_some(name);
    with_weights(layers).into_iter().enumerate().filter_map(sends).collect()
}

/// Whether any layer sends errors back through time.
pub fn recurs(layers: &[LayerSpec]) -> bool {
    with_weights(layers).iter().any(|(_, layer)| layer.describe().has_state())
}

fn with_weights(layers: &[LayerSpec]) -> Vec<(String, &LayerSpec)> {
    fn add<'a>(layers: &'a [LayerSpec], name: &str, found: &mut Vec<(String, &'a LayerSpec)>) {
        for (index, layer) in layers.iter().enumerate() {
            let name = format!("{name}.{index}");
            for chain in layer.describe().chains() {
                add(chain.layers, &format!("{name}.{}", chain.name), found);
            }
            if layer.outputs().is_some() {
                found.push((name, layer));
            }
        }
    }
    let mut found = Vec::new();
    add(layers, "layers", &mut found);
    found
}
