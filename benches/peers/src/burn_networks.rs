//! The networks as modules of burn, with this repository's first values.

use std::f64::consts::SQRT_2;

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{GateController, Gru, GruConfig, LayerNorm, LayerNormConfig, Linear, PaddingConfig2d};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Device, Tensor, TensorData};

use crate::engine::EngineError;
use crate::workload::Workload;

/// A network from images, rows x channels x height x width, to logits, rows x classes.
pub(crate) trait Classifier: Module {
    /// Logits of a batch.
    fn forward(&self, images: Tensor<4>) -> Tensor<2>;
}

/// Makes burn's layers by the names of this repository's.
struct Maker<'a> {
    workload: &'a Workload,
    device: &'a Device,
}

impl Maker<'_> {
    fn parameter<const D: usize>(&self, name: &str) -> Result<Param<Tensor<D>>, EngineError> {
        let (shape, values) = self.workload.first(name)?;
        Ok(Param::from_data(TensorData::new(values, shape), self.device))
    }

    fn dense(&self, name: &str) -> Result<Linear, EngineError> {
        self.part(&format!("{name}.weight"), &format!("{name}.bias"), 0, 1)
    }

    /// One of `parts` maps of equal width whose outputs lie side by side in a weight and a bias.
    fn part(&self, weight: &str, bias: &str, at: usize, parts: usize) -> Result<Linear, EngineError> {
        let ([inputs, outputs], weight) = self.workload.first_by_input(weight)?;
        let (_, bias) = self.workload.first(bias)?;
        let width = outputs / parts;
        let own = |values: Vec<f32>| -> Vec<f32> {
            values.chunks(outputs).flat_map(|row| &row[at * width..(at + 1) * width]).copied().collect()
        };
        Ok(Linear {
            weight: Param::from_data(TensorData::new(own(weight), [inputs, width]), self.device),
            bias: Some(Param::from_data(TensorData::new(own(bias), [width]), self.device)),
        })
    }

    /// burn's default equations are PyTorch's and ours: the reset gate scales the state's product, not the state.
    fn gru(&self, name: &str) -> Result<Gru, EngineError> {
        let gate = |at: usize| -> Result<GateController, EngineError> {
            let part = |of: &str| self.part(&format!("{name}.weight_{of}"), &format!("{name}.bias_{of}"), at, 3);
            Ok(GateController { input_transform: part("ih")?, hidden_transform: part("hh")? })
        };
        let [reset_gate, update_gate, new_gate] = [gate(0)?, gate(1)?, gate(2)?];
        let [inputs, width] = new_gate.input_transform.weight.dims();
        let made = GruConfig::new(inputs, width, true).init(self.device);
        Ok(Gru { reset_gate, update_gate, new_gate, ..made })
    }

    fn convolution(&self, name: &str, stride: usize, padding: usize) -> Result<Conv2d, EngineError> {
        let weight = self.parameter::<4>(&format!("{name}.weight"))?;
        let [outputs, inputs, height, width] = weight.dims();
        let config = Conv2dConfig::new([inputs, outputs], [height, width]).with_stride([stride; 2]);
        let padding = PaddingConfig2d::Explicit(padding, padding, padding, padding);
        let mut made = config.with_padding(padding).init(self.device);
        made.weight = weight;
        made.bias = Some(self.parameter(&format!("{name}.bias"))?);
        Ok(made)
    }

    fn norm(&self, name: &str) -> Result<LayerNorm, EngineError> {
        let gamma = self.parameter::<1>(&format!("{name}.weight"))?;
        let [width] = gamma.dims();
        let mut made = LayerNormConfig::new(width).with_epsilon(EPSILON).init(self.device);
        made.gamma = gamma;
        made.beta = Some(self.parameter(&format!("{name}.bias"))?);
        Ok(made)
    }
}

/// Convolutions, if any, then dense layers; ReLU between all of them, a pool behind every second convolution.
#[derive(Module, Debug)]
pub(crate) struct Plain {
    convolutions: Vec<Conv2d>,
    pool: MaxPool2d,
    dense: Vec<Linear>,
}

impl Plain {
    /// With the workload's first values.
    pub(crate) fn new(workload: &Workload, device: &Device) -> Result<Plain, EngineError> {
        let maker = Maker { workload, device };
        let (mut convolutions, mut dense) = (Vec::new(), Vec::new());
        for name in workload.weighted() {
            let (shape, _) = workload.first(&format!("{name}.weight"))?;
            match shape.len() {
                4 => convolutions.push(maker.convolution(&name, 1, 1)?),
                _ => dense.push(maker.dense(&name)?),
            }
        }
        Ok(Plain { convolutions, pool: MaxPool2dConfig::new([2, 2]).init(), dense })
    }
}

impl Classifier for Plain {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let image = self.convolutions.iter().enumerate().fold(images, |h, (at, layer)| {
            let h = relu(layer.forward(h));
            if at % 2 == 1 { self.pool.forward(h) } else { h }
        });
        let last = self.dense.len() - 1;
        self.dense.iter().enumerate().fold(image.flatten(1, 3), |h, (at, layer)| {
            let a = layer.forward(h);
            if at == last { a } else { relu(a) }
        })
    }
}

// What vit.toml says beside names and shapes. The losses show whether it is the same.

/// Added to the variances of layer norms.
const EPSILON: f64 = 1e-6;

/// Side of a patch.
const PATCH: usize = 4;

/// Heads of an attention.
const HEADS: usize = 8;

/// Positions of the first attention and of the last norm among the layers.
const BLOCKS: std::ops::Range<usize> = 3..7;

/// The vision transformer of vit.toml.
#[derive(Module, Debug)]
pub(crate) struct Transformer {
    patches: Conv2d,
    class: Param<Tensor<1>>,
    positions: Param<Tensor<2>>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

/// Attention and MLP, each behind a norm and beside a shortcut.
#[derive(Module, Debug)]
struct Block {
    norms: [LayerNorm; 2],
    /// Queries, keys and values side by side.
    qkv: Linear,
    mix: Linear,
    wide: Linear,
    narrow: Linear,
}

impl Transformer {
    /// With the workload's first values.
    pub(crate) fn new(workload: &Workload, device: &Device) -> Result<Transformer, EngineError> {
        let maker = Maker { workload, device };
        let block = |at: usize| {
            // Two residual layers of four layers, the third without parameters.
            let name = |of: usize, layer: usize| format!("layers.{}.main.{layer}", at + of);
            Ok(Block {
                norms: [maker.norm(&name(0, 0))?, maker.norm(&name(1, 0))?],
                qkv: maker.dense(&name(0, 1))?,
                mix: maker.dense(&name(0, 3))?,
                wide: maker.dense(&name(1, 1))?,
                narrow: maker.dense(&name(1, 3))?,
            })
        };
        Ok(Transformer {
            patches: maker.convolution("layers.0", PATCH, 0)?,
            class: maker.parameter("layers.1.weight")?,
            positions: maker.parameter("layers.2.weight")?,
            blocks: BLOCKS.step_by(2).map(block).collect::<Result<_, EngineError>>()?,
            norm: maker.norm(&format!("layers.{}", BLOCKS.end))?,
            head: maker.dense(&format!("layers.{}", BLOCKS.end + 2))?,
        })
    }
}

impl Classifier for Transformer {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let patches = self.patches.forward(images).flatten::<3>(2, 3).swap_dims(1, 2);
        // The error of the patches is a view into that of all tokens, with the class token's between two samples. Where
        // burn 0.22.1 makes a product of a convolution's weight gradient, it takes such a view for dense and reads rows of
        // other samples. Times 1 the error is a tensor of its own, a copy that a right gradient would have to make itself.
        let patches = patches * 1.0;
        let [rows, _, width] = patches.dims();
        let class = self.class.val().reshape([1, 1, width]).expand([rows, 1, width]);
        let tokens = Tensor::cat(vec![class, patches], 1) + self.positions.val().unsqueeze::<3>();
        let tokens = self.blocks.iter().fold(tokens, |x, block| block.forward(x));
        let first = self.norm.forward(tokens).narrow(1, 0, 1).squeeze_dim::<2>(1);
        self.head.forward(first)
    }
}

impl Block {
    /// rows x positions x width.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let attended = attention(self.qkv.forward(self.norms[0].forward(x.clone())));
        let x = x + self.mix.forward(attended);
        let wide = self.wide.forward(self.norms[1].forward(x.clone()));
        x + self.narrow.forward(gelu(wide))
    }
}

/// x Phi(x). The derivative of burn's own `gelu` is that of the approximation by tanh, which is another network's.
fn gelu(x: Tensor<3>) -> Tensor<3> {
    let twice = (x.clone() / SQRT_2).erf().add_scalar(1.0);
    x * twice / 2.0
}

/// softmax(q k^T / sqrt(width of a head)) v in every head, by the operations of burn's `MultiHeadAttention`. That module
/// has three weights where ours has one, and burn's fused attention is taken apart into such operations where gradients
/// are asked for.
fn attention(qkv: Tensor<3>) -> Tensor<3> {
    let [rows, positions, width] = qkv.dims();
    let (width, of_head) = (width / 3, width / 3 / HEADS);
    let part = |which: usize| {
        let part = qkv.clone().narrow(2, which * width, width);
        part.reshape([rows, positions, HEADS, of_head]).swap_dims(1, 2)
    };
    let scores = part(0).matmul(part(1).swap_dims(2, 3)) / (of_head as f64).sqrt();
    softmax(scores, 3).matmul(part(2)).swap_dims(1, 2).reshape([rows, positions, width])
}

/// burn's own GRU along the rows of images, and a dense layer behind its last state.
#[derive(Module, Debug)]
pub(crate) struct Recurrent {
    cell: Gru,
    head: Linear,
}

impl Recurrent {
    /// With the workload's first values.
    pub(crate) fn new(workload: &Workload, device: &Device) -> Result<Recurrent, EngineError> {
        let maker = Maker { workload, device };
        Ok(Recurrent { cell: maker.gru("layers.1")?, head: maker.dense("layers.3")? })
    }
}

impl Classifier for Recurrent {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        // One channel.
        let states = self.cell.forward(images.squeeze_dim::<3>(1), None);
        let [_, steps, _] = states.dims();
        self.head.forward(states.narrow(1, steps - 1, 1).squeeze_dim::<2>(1))
    }
}
