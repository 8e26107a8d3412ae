//! What the host looks at beside a training: a phase of its own that changes nothing.

use super::parameter::Weight;
use super::pass::{Pass, Placed};
use crate::ops::{ColumnSum, Gemm, Role, ShapeError, View, Window};

/// Tensors that are readable after [`crate::ops::Phase::Diagnose`].
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// Error of what each weight makes, from input to output. A weight that no error reaches, because all up to it is frozen, has
    /// none.
    pub errors: Vec<LayerError>,
    /// Residual blocks, from input to output; one within another comes first.
    pub blocks: Vec<Block>,
    /// Every layer's output with its name.
    pub activations: Vec<(String, View)>,
}

impl Diagnosis {
    /// The error that a weight's feedback carries, if one reaches it: of what the weight makes, or of the layer it is taken from.
    pub fn error_of(&self, weight: &Weight) -> Option<&LayerError> {
        let source = weight.source();
        let is_meant = |error: &&LayerError| {
            if source == weight.layer { error.name == weight.name } else { error.layer == source }
        };
        self.errors.iter().find(is_meant)
    }

    /// All tensors.
    pub(super) fn tensors(&self) -> impl Iterator<Item = View> {
        let errors = self.errors.iter().flat_map(LayerError::tensors);
        let blocks = self.blocks.iter().flat_map(|block| [block.input, block.long, block.output]);
        errors.chain(blocks).chain(self.activations.iter().map(|(_, tensor)| *tensor))
    }
}

/// The error of what a weight makes over a batch.
#[derive(Clone, Debug)]
pub struct LayerError {
    /// Name of the weight.
    pub name: String,
    /// Position of its layer among all layers.
    pub layer: usize,
    /// Samples (times positions) x width: derivative of the batch's mean loss, or what the rule sends in its place.
    pub delta: View,
    /// Steps of a sample, a row each in their order, of a layer that goes back through them; 1 of others.
    pub steps: u32,
    /// The smaller of `delta^T delta` and `delta delta^T`: they have the same eigenvalues but for zeros.
    pub products: View,
    /// Sums of the columns, 1 x width, where the products are those of columns.
    pub sums: Option<View>,
    /// The weight's gradient from all samples and from the first half of them alone, shaped like the weight; none of a
    /// single sample. They are formed on the device, where they cost what a step's own gradient does. The other half's
    /// is their difference: the device would not read a second half where it begins.
    pub gradients: Option<[View; 2]>,
}

impl LayerError {
    /// Records what is made of the error of what a weight makes from its input.
    pub(super) fn record(
        pass: &mut Pass<'_>,
        weight: &Weight,
        [delta, input]: [View; 2],
    ) -> Result<LayerError, ShapeError> {
        let (samples, steps) = (pass.samples, pass.layers[weight.layer].layer.steps());
        let rec = &mut *pass.rec;
        rec.layer(&weight.name);
        rec.role(Role::Diagnosis);
        let (rows, width) = (delta.rows(), delta.cols());
        let (products, sums) = if rows < width {
            let products = rec.scratch("products", rows, rows);
            rec.push(Gemm::nt(delta, delta, products))?;
            (products, None)
        } else {
            let (products, sums) = (rec.scratch("products", width, width), rec.scratch("sums", 1, width));
            rec.push(Gemm::tn(delta, delta, products))?;
            rec.push(ColumnSum { x: delta, out: sums, accumulate: false })?;
            (products, Some(sums))
        };
        let gradients = match samples {
            2.. => {
                let shape = weight.learned.value;
                let mut of = |name: &str, count: u32| {
                    let gradient = rec.scratch(name, shape.rows(), shape.cols());
                    let first = |all: View| all.rows_from(0, count * (all.rows() / samples));
                    rec.push(gradient_of(first(delta), first(input), gradient, weight.window))?;
                    Ok(gradient)
                };
                Some([of("gradient", samples)?, of("first_half", samples / 2)?])
            }
            _ => None,
        };
        Ok(LayerError { name: weight.name.clone(), layer: weight.layer, delta, steps, products, sums, gradients })
    }

    /// All tensors.
    fn tensors(&self) -> impl Iterator<Item = View> {
        [self.delta, self.products].into_iter().chain(self.sums).chain(self.gradients.into_iter().flatten())
    }
}

/// error^T input, of a convolution with what its window sees.
fn gradient_of(error: View, input: View, out: View, window: Option<Window>) -> Gemm {
    match window {
        Some(window) => Gemm::correlate(error, input, out, window),
        None => Gemm::tn(error, input, out),
    }
}

/// A residual block over a batch; every tensor is samples (times positions) x channels.
#[derive(Clone, Debug)]
pub struct Block {
    /// Name of the layer.
    pub name: String,
    /// Its position among all layers.
    pub layer: usize,
    /// What it takes.
    pub input: View,
    /// What its long way makes.
    pub long: View,
    /// The sum of both ways.
    pub output: View,
}

impl Block {
    /// All of a network; `values` are its input, then what every layer has made.
    pub(super) fn all(layers: &[Placed], values: &[View]) -> Vec<Block> {
        let block = |at: &Placed| Block {
            name: at.name.clone(),
            layer: at.index,
            input: values[source(layers, at)],
            long: values[at.inputs[0]],
            output: values[at.index + 1],
        };
        layers.iter().filter(|at| is_block(at)).map(block).collect()
    }
}

/// Only blocks have two chains of layers.
fn is_block(at: &Placed) -> bool {
    at.inputs.len() == 2
}

/// The value that a layer takes; that of a block is what the first layer of its long way takes, or what it adds where
/// the long way is empty.
fn source(layers: &[Placed], at: &Placed) -> usize {
    let first = format!("{}.main.0", at.name);
    match layers.iter().find(|layer| is_block(at) && layer.name == first) {
        Some(layer) => source(layers, layer),
        None => at.inputs[0],
    }
}
