//! The steps that every engine takes: the same networks, the same first values, the same batches.

use ldfa_gpu::gpu::DeviceChoice;
use ldfa_gpu::model::{FeedSpec, Network, NetworkSpec, Targets, initialise, weighted};
use ldfa_gpu::plan::Options;
use ldfa_gpu::train::config::{Config, Draft};
use ldfa_gpu::train::machine::{Preparation, machine};
use ldfa_gpu::train::spec::network;
use ldfa_gpu::train::weights::{NamedTensor, read};

use crate::engine::EngineError;

/// Classes, the last width of all networks.
pub(crate) const CLASSES: usize = 10;

/// Seed of the first values.
pub(crate) const SEED: u32 = 0;

/// Losses of different engines are compared up to this step; after it, rounding has room to grow.
pub(crate) const COMPARED: usize = 5;

/// What is trained: a configuration of this package each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Model {
    /// 784-512-512-512-10.
    Mlp,
    /// 3 x 32 x 32 through convolutions of 3 x 3.
    Cnn,
    /// 3 x 32 x 32 in patches through two blocks of attention and MLP.
    Vit,
    /// 28 x 28 row by row through a GRU.
    Gru,
}

impl Model {
    /// Height, width, channels.
    pub(crate) fn image(self) -> [usize; 3] {
        match self {
            Model::Mlp | Model::Gru => [28, 28, 1],
            Model::Cnn | Model::Vit => [32, 32, 3],
        }
    }

    /// Whether a step takes seconds where a CPU computes: such steps are taken as few times as will do.
    pub(crate) fn is_long(self) -> bool {
        self == Model::Vit
    }

    /// Steps before the timing, and the part of the first loss that the last of them may leave.
    pub(crate) fn learning(self) -> (usize, f64) {
        match self {
            Model::Mlp | Model::Cnn => (20, 0.67),
            // What it learns has to come in through 28 steps first; of the rules the local one begins with a P and a Q at random.
            Model::Gru => (20, 0.95),
            Model::Vit => (COMPARED, 1.0),
        }
    }

    /// The configuration with a rule in place of its own, and a rank if one is given.
    pub(crate) fn config(self, rule: &str, rank: Option<u32>) -> Result<Config, EngineError> {
        let (origin, text) = match self {
            Model::Mlp => ("benches/peers/mlp.toml", include_str!("../mlp.toml")),
            Model::Cnn => ("benches/peers/cnn.toml", include_str!("../cnn.toml")),
            Model::Vit => ("benches/peers/vit.toml", include_str!("../vit.toml")),
            Model::Gru => ("benches/peers/gru.toml", include_str!("../gru.toml")),
        };
        let mut draft = Draft::parse(origin.into(), text).map_err(EngineError::of)?;
        if let Some(rank) = rank {
            draft.set("feedback.rank", &rank.to_string()).map_err(EngineError::of)?;
        }
        draft.set_rule(rule).map_err(EngineError::of)?;
        draft.finish().map_err(EngineError::of)
    }

    /// This crate's description of the network, whose batches the host writes.
    pub(crate) fn spec(self, config: &Config) -> NetworkSpec {
        let feed = FeedSpec::Host { image: self.image().map(|n| n as u32) };
        network(config, feed, Targets::Classes(CLASSES as u32), config.train.batch)
    }
}

/// A network, its first values and the batch.
pub(crate) struct Workload {
    /// What is trained.
    pub(crate) model: Model,
    /// The network by backpropagation, which is what the peers train.
    pub(crate) spec: NetworkSpec,
    /// First values of all parameters, as files have them.
    first: Vec<NamedTensor>,
    /// Inputs, batch x height x width x channels, uniform with zero mean and unit variance.
    pub(crate) inputs: Vec<f32>,
    /// Class of every sample.
    pub(crate) labels: Vec<u32>,
}

impl Workload {
    /// Takes this crate's own first values for all engines.
    pub(crate) fn new(model: Model) -> Result<Workload, EngineError> {
        let spec = model.spec(&model.config("backprop", None)?);
        let network = Network::new(&spec).map_err(EngineError::of)?;
        // The reference holds the values once, so that they can be read by the names and in the layout of files.
        let made = machine(&network.recording, &DeviceChoice::Reference, Options::default(), &Preparation::default());
        let mut executor = made.map_err(EngineError::of)?.executor;
        for (tensor, values) in initialise(&network, &spec.feedback, &[SEED]).map_err(EngineError::of)? {
            executor.write(tensor, &values).map_err(EngineError::of)?;
        }
        let first = read(&network.exchange, &mut executor, 0).map_err(EngineError::of)?;
        let count = spec.batch as usize * model.image().iter().product::<usize>();
        let inputs = uniform(1, count).into_iter().map(|v| v * 3f32.sqrt()).collect();
        let labels = (0..spec.batch).map(|sample| sample % CLASSES as u32).collect();
        Ok(Workload { model, spec, first, inputs, labels })
    }

    /// Names of the layers with a weight, from input to output.
    pub(crate) fn weighted(&self) -> Vec<String> {
        weighted(&self.spec.layers)
    }

    /// Shape and first values of a parameter, such as `layers.0.weight`.
    pub(crate) fn first(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), EngineError> {
        let Some(found) = self.first.iter().find(|tensor| tensor.name == name) else {
            let known: Vec<&str> = self.first.iter().map(|tensor| tensor.name.as_str()).collect();
            return Err(EngineError::Wrong(format!(
                "it asks for {name}, which the network of {:?} does not have; there are {}",
                self.model,
                known.join(", ")
            )));
        };
        Ok((found.shape.clone(), found.values.iter().map(|&v| v as f32).collect()))
    }

    /// Those of the weight of a dense layer as inputs x outputs, which is how the peers store it.
    pub(crate) fn first_by_input(&self, name: &str) -> Result<([usize; 2], Vec<f32>), EngineError> {
        match self.first(name)? {
            (shape, values) if shape.len() == 2 => Ok(([shape[1], shape[0]], transpose(&values, [shape[0], shape[1]]))),
            (shape, _) => Err(EngineError::Wrong(format!("it takes {name} for a matrix, and its shape is {shape:?}"))),
        }
    }

    /// Inputs as batch x channels x height x width.
    pub(crate) fn inputs_by_channel(&self) -> Vec<f32> {
        let [height, width, channels] = self.model.image();
        let images = self.inputs.chunks(height * width * channels);
        images.flat_map(|image| transpose(image, [height * width, channels])).collect()
    }

    /// Labels as one-hot rows, batch x [`CLASSES`].
    pub(crate) fn one_hot(&self) -> Vec<f32> {
        let row = |&label: &u32| (0..CLASSES).map(move |class| if class == label as usize { 1.0 } else { 0.0 });
        self.labels.iter().flat_map(row).collect()
    }
}

/// A row-major matrix with its sides exchanged.
fn transpose(values: &[f32], [rows, cols]: [usize; 2]) -> Vec<f32> {
    (0..cols).flat_map(|col| (0..rows).map(move |row| values[row * cols + col])).collect()
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
    use ldfa_gpu::model::LayerSpec;

    use super::*;

    #[test]
    fn a_transposed_matrix_keeps_its_elements() {
        assert_eq!(transpose(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3]), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }

    #[test]
    fn first_values_have_the_layout_of_files() {
        let workload = Workload::new(Model::Cnn).unwrap();
        let (shape, values) = workload.first("layers.2.weight").unwrap();
        assert_eq!((shape, values.len()), (vec![32, 32, 3, 3], 32 * 32 * 9));
        let (shape, values) = workload.first("layers.11.weight").unwrap();
        let (turned, by_input) = workload.first_by_input("layers.11.weight").unwrap();
        assert_eq!((shape, turned), (vec![10, 4096], [4096, 10]));
        assert_eq!(by_input[10 * 7 + 3], values[4096 * 3 + 7]);
        for wrong in
            [workload.first("layers.1.weight").map(|_| ()), workload.first_by_input("layers.0.weight").map(|_| ())]
        {
            assert!(wrong.is_err());
        }
    }

    /// Widths, heads, ranks and optimizers are the preset's; blocks are fewer, and nothing is drawn while training.
    #[test]
    fn the_transformer_is_the_preset_with_two_blocks_and_without_chance() {
        let plain = |layers: &[LayerSpec]| {
            let mut layers = layers.to_vec();
            layers.retain(|layer| !matches!(layer, LayerSpec::Dropout(_)));
            for layer in &mut layers {
                let LayerSpec::Residual(residual) = layer else { continue };
                residual.drop_path = 0.0;
                for layer in &mut residual.layers {
                    if let LayerSpec::Attention(attention) = layer {
                        attention.dropout = 0.0;
                    }
                }
            }
            layers
        };
        let own = Model::Vit.config("normative", None).unwrap();
        let preset = Draft::open("vit-cifar10").unwrap().finish().unwrap();
        let (layers, all) = (plain(&own.model.layers), plain(&preset.model.layers));
        assert_eq!(layers, own.model.layers);
        assert_eq!((&layers[..7], &layers[7..]), (&all[..7], &all[19..]));
        assert_eq!(own.feedback.rank, preset.feedback.rank);
        assert!(own.feedback.ranks.iter().all(|(name, rank)| preset.feedback.ranks.get(name) == Some(rank)));
        assert_eq!((own.optimizer.lr, own.optimizer.decay()), (preset.optimizer.lr, preset.optimizer.decay()));
        assert_eq!(own.feedback_optimizer().lr, preset.feedback_optimizer().lr);
    }

    /// All but the width of the state and the epochs is the preset's.
    #[test]
    fn the_recurrent_network_is_the_preset_with_a_wider_state() {
        let own = Model::Gru.config("normative", None).unwrap();
        let mut preset = Draft::open("mnist-rows").unwrap().finish().unwrap();
        let LayerSpec::Recurrent(recurrent) = &mut preset.model.layers[1] else { panic!("{:?}", preset.model.layers) };
        recurrent.out = 256;
        assert_eq!(own.model.layers, preset.model.layers);
        assert_eq!((own.feedback.rank, own.train.batch), (preset.feedback.rank, preset.train.batch));
        assert_eq!((own.optimizer.lr, own.optimizer.clamp), (preset.optimizer.lr, preset.optimizer.clamp));
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
