//! The step that every engine takes: the same network, the same first values, the same batch.

use ldfa_gpu::feedback::{FeedbackSpec, Rank};
use ldfa_gpu::model::{FeedSpec, LayerSpec, Loss, Network, NetworkSpec, Precision, initialise};
use ldfa_gpu::optim::{Algorithm, OptimizerSpec};

use crate::engine::EngineError;

/// Widths from the input to the logits; ReLU between the layers, cross-entropy after the last.
pub(crate) const WIDTHS: [usize; 5] = [784, 512, 512, 512, 10];

/// Samples of a step.
pub(crate) const BATCH: usize = 128;

/// Classes, the last width.
pub(crate) const CLASSES: usize = WIDTHS[WIDTHS.len() - 1];

/// Adam's learning rate.
pub(crate) const RATE: f64 = 1e-3;

/// Adam's decay rates of the moments.
pub(crate) const BETAS: [f64; 2] = [0.9, 0.999];

/// Added to Adam's denominator.
pub(crate) const EPSILON: f64 = 1e-8;

/// Seed of the first values.
pub(crate) const SEED: u32 = 0;

/// One dense layer before the first step.
pub(crate) struct Layer {
    /// Width of its input.
    pub(crate) inputs: usize,
    /// Width of its output.
    pub(crate) outputs: usize,
    /// outputs x inputs, row-major.
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
}

/// First values and the batch.
pub(crate) struct Workload {
    /// Dense layers from input to output.
    pub(crate) layers: Vec<Layer>,
    /// Inputs, [`BATCH`] x `WIDTHS[0]`, uniform with zero mean and unit variance.
    pub(crate) inputs: Vec<f32>,
    /// Class of every sample.
    pub(crate) labels: Vec<u32>,
}

impl Workload {
    /// Takes this crate's own first values, U(+-1/sqrt(fan in)), for all engines.
    pub(crate) fn new() -> Result<Workload, EngineError> {
        let feedback = FeedbackSpec::backprop();
        let network = Network::new(&spec(feedback.clone(), None)).map_err(EngineError::of)?;
        let first = initialise(&network, &feedback, &[SEED]).map_err(EngineError::of)?;
        let of = |tensor| {
            let found = first.iter().find(|(t, _)| *t == tensor);
            let values = found.map(|(_, values)| values.iter().map(|&v| v as f32).collect());
            values.ok_or_else(|| EngineError::Failed("a layer has no first values".into()))
        };
        let layers = network
            .linear
            .iter()
            .map(|dense| {
                let (outputs, inputs) = (dense.weight.value.rows() as usize, dense.weight.value.cols() as usize);
                Ok(Layer { inputs, outputs, weight: of(dense.weight.value)?, bias: of(dense.bias.value)? })
            })
            .collect::<Result<_, EngineError>>()?;
        let inputs = uniform(1, BATCH * WIDTHS[0]).into_iter().map(|v| v * 3f32.sqrt()).collect();
        let labels = (0..BATCH).map(|sample| (sample % CLASSES) as u32).collect();
        Ok(Workload { layers, inputs, labels })
    }

    /// Labels as one-hot rows, [`BATCH`] x [`CLASSES`].
    pub(crate) fn one_hot(&self) -> Vec<f32> {
        let row = |&label: &u32| (0..CLASSES).map(move |class| if class == label as usize { 1.0 } else { 0.0 });
        self.labels.iter().flat_map(row).collect()
    }
}

/// This crate's description of the network.
pub(crate) fn spec(feedback: FeedbackSpec, rank: Option<Rank>) -> NetworkSpec {
    let mut layers = Vec::new();
    for &out in &WIDTHS[1..] {
        if !layers.is_empty() {
            layers.push(LayerSpec::Relu {});
        }
        layers.push(LayerSpec::Dense { out: out as u32 });
    }
    let adam = OptimizerSpec {
        algorithm: Algorithm::Adam,
        betas: Some(BETAS),
        eps: Some(EPSILON),
        ..OptimizerSpec::sgd(RATE)
    };
    NetworkSpec {
        layers,
        loss: Loss::CrossEntropy,
        feedback,
        optimizer: adam.clone(),
        feedback_optimizer: adam,
        precision: Precision::F32,
        batch: BATCH as u32,
        evaluation_batch: BATCH as u32,
        ranks: vec![rank],
        feed: FeedSpec::Host { image: [1, 1, WIDTHS[0] as u32] },
        classes: CLASSES as u32,
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
        let layer = Layer { inputs: 3, outputs: 2, weight, bias: vec![0.0; 2] };
        assert_eq!(layer.weight_by_input(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
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
