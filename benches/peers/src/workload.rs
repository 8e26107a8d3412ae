//! The steps that every engine takes: the same networks, the same first values, the same batches.

use ldfa_gpu::feedback::{FeedbackSpec, Rank};
use ldfa_gpu::model::{FeedSpec, LayerSpec, Loss, Network, NetworkSpec, Precision, Sides, Weight, initialise, layers};
use ldfa_gpu::optim::{Algorithm, OptimizerSpec};

use crate::engine::EngineError;

/// Widths of the perceptron from the input to the logits; ReLU between the layers, cross-entropy after the last.
pub(crate) const WIDTHS: [usize; 5] = [784, 512, 512, 512, 10];

/// Output channels of the convolutional network: ReLU after each, a pool after every second, a dense layer at the end.
pub(crate) const CHANNELS: [usize; 4] = [32, 32, 64, 64];

/// Classes, the last width of both.
pub(crate) const CLASSES: usize = 10;

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Model {
    /// 784-512-512-512-10.
    Mlp,
    /// 3 x 32 x 32 through convolutions of 3 x 3.
    Cnn,
}

impl Model {
    /// Samples of a step.
    pub(crate) fn batch(self) -> usize {
        match self {
            Model::Mlp => 128,
            Model::Cnn => 32,
        }
    }

    /// Height, width, channels.
    pub(crate) fn image(self) -> [usize; 3] {
        match self {
            Model::Mlp => [1, 1, WIDTHS[0]],
            Model::Cnn => [32, 32, 3],
        }
    }

    fn layers(self) -> Vec<LayerSpec> {
        let mut layers = Vec::new();
        match self {
            Model::Mlp => {
                for &out in &WIDTHS[1..] {
                    layers.extend([LayerSpec::Dense(layers::Dense::new(out as u32)), LayerSpec::Relu(layers::Relu {})]);
                }
                layers.pop();
            }
            Model::Cnn => {
                for (at, &out) in CHANNELS.iter().enumerate() {
                    let (kernel, stride, padding) = (Sides::One(3), Sides::One(1), Sides::One(1));
                    layers.extend([LayerSpec::Conv(layers::Conv { out: out as u32, kernel, stride, padding }), LayerSpec::Relu(layers::Relu {})]);
                    if at % 2 == 1 {
                        layers.push(LayerSpec::MaxPool(layers::MaxPool { size: Sides::One(2), stride: None, padding: Sides::One(0) }));
                    }
                }
                layers.extend([LayerSpec::Flatten(layers::Flatten {}), LayerSpec::Dense(layers::Dense::new(CLASSES as u32))]);
            }
        }
        layers
    }

    /// This crate's description of the network.
    pub(crate) fn spec(self, feedback: FeedbackSpec, rank: Option<Rank>) -> NetworkSpec {
        let adam = OptimizerSpec {
            algorithm: Algorithm::Adam,
            betas: Some(BETAS),
            eps: Some(EPSILON),
            ..OptimizerSpec::sgd(RATE)
        };
        NetworkSpec {
            layers: self.layers(),
            freeze: Vec::new(),
            loss: Loss::CrossEntropy,
            label_smoothing: 0.0,
            feedback,
            optimizer: adam.clone(),
            feedback_optimizer: adam,
            precision: Precision::F32,
            batch: self.batch() as u32,
            accumulate: 1,
            evaluation_batch: self.batch() as u32,
            ranks: vec![rank],
            feed: FeedSpec::Host { image: self.image().map(|n| n as u32) },
            classes: CLASSES as u32,
        }
    }
}

/// Adam's learning rate.
pub(crate) const RATE: f64 = 1e-3;

/// Adam's decay rates of the moments.
pub(crate) const BETAS: [f64; 2] = [0.9, 0.999];

/// Added to Adam's denominator.
pub(crate) const EPSILON: f64 = 1e-8;

/// Seed of the first values.
pub(crate) const SEED: u32 = 0;

/// One layer with a weight before the first step.
pub(crate) struct Layer {
    /// Width, or channels, of its input.
    pub(crate) inputs: usize,
    /// Width, or channels, of its output.
    pub(crate) outputs: usize,
    /// Height and width of a convolution's kernel.
    pub(crate) kernel: Option<[usize; 2]>,
    /// outputs x (taps inputs), row-major.
    weight: Vec<f32>,
    /// One value an output.
    pub(crate) bias: Vec<f32>,
}

impl Layer {
    /// The weight as inputs x outputs, row-major, which is how the peers store it.
    pub(crate) fn weight_by_input(&self) -> Vec<f32> {
        (0..self.inputs)
            .flat_map(|input| (0..self.outputs).map(move |output| self.weight[output * self.inputs + input]))
            .collect()
    }

    /// The weight of a convolution as outputs x inputs x height x width.
    pub(crate) fn weight_by_channel(&self) -> Vec<f32> {
        let taps = self.kernel.map_or(1, |[height, width]| height * width);
        let at = |output: usize, input: usize, tap: usize| self.weight[(output * taps + tap) * self.inputs + input];
        (0..self.outputs)
            .flat_map(|output| (0..self.inputs).flat_map(move |input| (0..taps).map(move |tap| at(output, input, tap))))
            .collect()
    }
}

/// First values and the batch.
pub(crate) struct Workload {
    /// What is trained.
    pub(crate) model: Model,
    /// Layers with weights from input to output.
    pub(crate) layers: Vec<Layer>,
    /// Inputs, batch x height x width x channels, uniform with zero mean and unit variance.
    pub(crate) inputs: Vec<f32>,
    /// Class of every sample.
    pub(crate) labels: Vec<u32>,
}

impl Workload {
    /// Takes this crate's own first values, U(+-1/sqrt(fan in)), for all engines.
    pub(crate) fn new(model: Model) -> Result<Workload, EngineError> {
        let feedback = FeedbackSpec::backprop();
        let network = Network::new(&model.spec(feedback.clone(), None)).map_err(EngineError::of)?;
        let first = initialise(&network, &feedback, &[SEED]).map_err(EngineError::of)?;
        let of = |tensor| {
            let found = first.iter().find(|(t, _)| *t == tensor);
            let values = found.map(|(_, values)| values.iter().map(|&v| v as f32).collect());
            values.ok_or_else(|| EngineError::Failed("a layer has no first values".into()))
        };
        let layers = network
            .weights
            .iter()
            .map(|weight: &Weight| {
                let value = weight.learned.value;
                let (outputs, row) = (value.rows() as usize, value.cols() as usize);
                let kernel = weight.window.map(|w| w.kernel.map(|side| side as usize));
                let name = format!("{}.bias", weight.name);
                let bias = network.exchange.iter().find(|e| e.name == name).map(|e| e.tensor);
                let bias = bias.ok_or_else(|| EngineError::Failed(format!("there is no {name}")))?;
                let inputs = row / kernel.map_or(1, |[height, width]| height * width);
                Ok(Layer { inputs, outputs, kernel, weight: of(value)?, bias: of(bias)? })
            })
            .collect::<Result<_, EngineError>>()?;
        let count = model.batch() * model.image().iter().product::<usize>();
        let inputs = uniform(1, count).into_iter().map(|v| v * 3f32.sqrt()).collect();
        let labels = (0..model.batch()).map(|sample| (sample % CLASSES) as u32).collect();
        Ok(Workload { model, layers, inputs, labels })
    }

    /// Inputs as batch x channels x height x width.
    pub(crate) fn inputs_by_channel(&self) -> Vec<f32> {
        let [height, width, channels] = self.model.image();
        let pixels = height * width;
        let at =
            |sample: usize, channel: usize, pixel: usize| self.inputs[(sample * pixels + pixel) * channels + channel];
        (0..self.model.batch())
            .flat_map(|sample| {
                (0..channels).flat_map(move |channel| (0..pixels).map(move |pixel| at(sample, channel, pixel)))
            })
            .collect()
    }

    /// Labels as one-hot rows, batch x [`CLASSES`].
    pub(crate) fn one_hot(&self) -> Vec<f32> {
        let row = |&label: &u32| (0..CLASSES).map(move |class| if class == label as usize { 1.0 } else { 0.0 });
        self.labels.iter().flat_map(row).collect()
    }
}

/// Numbers in [-1, 1) that are the same on every machine (SplitMix64).
pub(crate) fn uniform(stream: u64, count: usize) -> Vec<f32> {
    let mut state = stream.wrapping_mul(0xD1B5_4A32_D192_ED03);
    (0..count)
        .map(|_| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^= z >> 31;
            // 24 bits, all of which an f32 holds.
            (z >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transposed_weight_keeps_its_elements() {
        let weight = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let layer = Layer { inputs: 3, outputs: 2, kernel: None, weight: weight.clone(), bias: vec![0.0; 2] };
        assert_eq!(layer.weight_by_input(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        // One output, two taps of three inputs.
        let layer = Layer { inputs: 3, outputs: 1, kernel: Some([1, 2]), weight, bias: vec![0.0] };
        assert_eq!(layer.weight_by_channel(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }

    #[test]
    fn drawn_numbers_have_the_moments_of_a_uniform_distribution() {
        let drawn = uniform(1, 100_000);
        let mean = drawn.iter().map(|&v| f64::from(v)).sum::<f64>() / 1e5;
        let square = drawn.iter().map(|&v| f64::from(v * v)).sum::<f64>() / 1e5;
        assert!(drawn.iter().all(|v| (-1.0..1.0).contains(v)));
        assert!(mean.abs() < 0.01 && (square - 1.0 / 3.0).abs() < 0.01, "mean {mean}, mean square {square}");
    }
}
