//! A configured network on an executor: data uploaded, parameters initialised, ready to step.

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};

use super::TrainError;
use super::checkpoint::{Checkpoint, CheckpointError, Origin, Values};
use super::config::Config;
use super::machine::{Machine, Preparation, machine};
use super::spec::{network_spec, with_largest_batch};
use super::weights::{self, NamedTensor};
use crate::analysis::{Alignment, Matrices, Products, Spectrum, alignment, spectrum};
use crate::data::Dataset;
use crate::feedback::{Init, Pathway, Rank};
use crate::gpu::DeviceChoice;
use crate::model::{Feed, Network, NetworkSpec, factorise, initialise};
use crate::ops::{Dtype, Kind, Phase, StepState, Tensor};
use crate::optim::{Horizon, OptimizerSpec, step_state};
use crate::plan::{Executor, Options, Plan, Tuned};

/// Loss, accuracy and count of the samples seen since the metrics were last cleared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metrics {
    /// Mean loss.
    pub loss: f64,
    /// Fraction of correct answers.
    pub accuracy: f64,
    /// Samples.
    pub samples: f64,
}

/// A network, its data and what runs it.
pub struct Session {
    /// The configuration in full.
    pub config: Config,
    /// Rank and seed of every replica.
    pub replicas: Vec<(Option<Rank>, u32)>,
    /// The recorded network.
    pub network: Network,
    /// Length of the run.
    pub horizon: Horizon,
    /// What the plan runs on.
    pub device: String,
    /// Whether that is a CPU.
    pub is_software: bool,
    /// What determines the run.
    pub origin: Origin,
    /// Whether the networks start from a file, and not from what the configuration says.
    pub has_given_weights: bool,
    /// Things that the user should know before the run.
    pub warnings: Vec<String>,
    /// Measured kernels that the plan uses; with the same ones a run repeats bit by bit.
    pub kernels: Tuned,
    plan: Plan,
    executor: Box<dyn Executor>,
    optimizers: [OptimizerSpec; 2],
    seeds: Vec<u32>,
    train_images: u32,
    test_images: u32,
    evaluation_batch: u32,
}

impl Session {
    /// Builds the network, uploads the data and initialises every replica; the kernels are the defaults, and no cache
    /// is used.
    ///
    /// # Errors
    /// If configuration, data or device do not allow it.
    pub fn new(config: Config, data: &Dataset, choice: &DeviceChoice, options: Options) -> Result<Session, TrainError> {
        Session::prepared(config, data, choice, options, &Preparation::default())
    }

    /// [`Session::new`] with a cache and kernels chosen otherwise.
    ///
    /// # Errors
    /// If configuration, data or device do not allow it.
    pub fn prepared(
        config: Config,
        data: &Dataset,
        choice: &DeviceChoice,
        options: Options,
        preparation: &Preparation,
    ) -> Result<Session, TrainError> {
        let config = config.resolved();
        let spec = network_spec(&config, data)?;
        let network = Network::new(&spec).map_err(|e| config.at(e.into()))?;
        let machine =
            machine(&network.recording, choice, options, preparation).map_err(|e| with_largest_batch(e, &spec))?;
        Session::assemble(config, data, &spec, network, machine)
    }

    /// Uploads the data to a machine and initialises every replica of its network, which was recorded from `spec`; the
    /// configuration is a [resolved](Config::resolved) one.
    ///
    /// # Errors
    /// If the device fails.
    pub(crate) fn assemble(
        config: Config,
        data: &Dataset,
        spec: &NetworkSpec,
        network: Network,
        machine: Machine,
    ) -> Result<Session, TrainError> {
        let Machine { plan, executor, is_software, kernels, warning } = machine;
        let mut warnings: Vec<String> = warning.into_iter().collect();
        warnings.extend(rank_warning(&network, spec.classes));
        let replicas = config.replicas();
        let mut session = Session {
            horizon: Horizon {
                steps_per_epoch: data.train.len() as u32 / config.train.batch,
                epochs: config.train.epochs,
            },
            origin: Origin {
                config: Some(config.hash("")?),
                data: Some(data.checksum.clone()),
                together: config.hash(&data.checksum)?,
            },
            has_given_weights: false,
            seeds: replicas.iter().map(|(_, seed)| *seed).collect(),
            device: executor.device(),
            optimizers: [spec.optimizer.clone(), spec.feedback_optimizer.clone()],
            train_images: data.train.len() as u32,
            test_images: data.test.len() as u32,
            evaluation_batch: spec.evaluation_batch,
            replicas,
            config,
            network,
            is_software,
            warnings,
            kernels,
            plan,
            executor,
        };
        session.upload(data)?;
        for (tensor, values) in initialise(&session.network, &session.config.feedback, &session.seeds)? {
            session.executor.write(tensor, &values)?;
        }
        tracing::debug!("data and first values uploaded");
        Ok(session)
    }

    /// The plan that runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Images that the networks are tested on.
    pub fn test_images(&self) -> u32 {
        self.test_images
    }

    /// What runs it.
    pub fn executor(&mut self) -> &mut dyn Executor {
        self.executor.as_mut()
    }

    fn upload(&mut self, data: &Dataset) -> Result<(), TrainError> {
        let Feed::Data { train, test, .. } = &self.network.feed else { return Ok(()) };
        for (split, tensors) in [(&data.train, train), (&data.test, test)] {
            for shard in &tensors.shards {
                let (first, rows) = (shard.first as usize, shard.images.rows() as usize);
                let features = shard.images.cols() as usize;
                self.executor.write_bytes(shard.images, &split.images[first * features..(first + rows) * features])?;
                let classes: Vec<f64> = split.labels[first..first + rows].iter().map(|&c| f64::from(c)).collect();
                self.executor.write(shard.classes, &classes)?;
            }
        }
        let in_order: Vec<f64> = (0..self.test_images).map(f64::from).collect();
        Ok(self.executor.write(test.permutation, &in_order)?)
    }

    /// Uploads the order in which every replica sees the training set in an epoch, a function of seed and epoch.
    ///
    /// # Errors
    /// If the device fails.
    pub fn shuffle(&mut self, epoch: u32) -> Result<(), TrainError> {
        let Feed::Data { train, .. } = &self.network.feed else { return Ok(()) };
        let permutation = train.permutation;
        let orders: Vec<f64> =
            self.seeds.iter().flat_map(|&seed| shuffled(self.train_images, seed, epoch)).map(f64::from).collect();
        Ok(self.executor.write(permutation, &orders)?)
    }

    /// The state of a training step, counted from 0 over the whole run.
    pub fn step_state(&self, step: u32) -> StepState {
        let cursor = step % self.horizon.steps_per_epoch * self.config.train.batch;
        let optimizers = [&self.optimizers[0], &self.optimizers[1]];
        step_state(optimizers, self.horizon, &self.seeds, step, cursor, self.config.train.batch)
    }

    /// Runs training steps; the permutation of their epoch must be on the device.
    ///
    /// # Errors
    /// If the device fails.
    pub fn train(&mut self, steps: std::ops::Range<u32>) -> Result<(), TrainError> {
        let states: Vec<StepState> = steps.map(|step| self.step_state(step)).collect();
        Ok(self.executor.run(Phase::Train, &states)?)
    }

    /// Training steps worth handing over at once.
    pub fn batch(&self) -> u32 {
        self.executor.batch(Phase::Train) as u32
    }

    /// Clears the sums over training steps.
    ///
    /// # Errors
    /// If the device fails.
    pub fn clear_metrics(&mut self) -> Result<(), TrainError> {
        let metrics = self.network.train_metrics;
        Ok(self.executor.write(metrics, &vec![0.0; metrics.shape.elements()])?)
    }

    /// Means over the training steps since the metrics were cleared, one a replica.
    ///
    /// # Errors
    /// If the device fails.
    pub fn metrics(&mut self) -> Result<Vec<Metrics>, TrainError> {
        let sums = self.executor.read(self.network.train_metrics)?;
        Ok(means(&sums))
    }

    /// Replica and step of the first training loss that was not finite, if any.
    ///
    /// # Errors
    /// If the device fails.
    pub fn fault(&mut self) -> Result<Option<(usize, u32)>, TrainError> {
        let faults = self.executor.read(self.network.fault)?;
        let first = faults.iter().enumerate().filter(|(_, f)| **f > 0.0).min_by(|a, b| a.1.total_cmp(b.1));
        Ok(first.map(|(replica, step)| (replica, *step as u32 - 1)))
    }

    /// The error that a fault amounts to: the replica's weights are those before the step, so the step is repeated
    /// without its update and searched for the first non-finite value.
    ///
    /// # Errors
    /// If the device fails.
    pub fn explain_fault(&mut self, replica: usize, step: u32) -> Result<TrainError, TrainError> {
        let now = self.step_state(step);
        let train = &self.config.train;
        let rows = train.batch / train.accumulate;
        let mut place = None;
        for part in 0..train.accumulate {
            let cursor = now.cursor + part * rows;
            self.executor.run(Phase::Diagnose, &[StepState { cursor, active_rows: rows, ..now.clone() }])?;
            place = self.first_not_finite(replica)?;
            if place.is_some() {
                break;
            }
        }
        let place = place.unwrap_or_else(|| "in the loss itself".into());
        let epoch = step / self.horizon.steps_per_epoch + 1;
        Ok(TrainError::NotFinite { replica, seed: self.seeds[replica], step: step + 1, epoch, place })
    }

    /// Where the first value lies that is not finite, of one replica's weights and what diagnosing has left.
    fn first_not_finite(&mut self, replica: usize) -> Result<Option<String>, TrainError> {
        let weights = self.network.exchange.iter().map(|e| (format!("{} was", e.name), e.tensor));
        let outputs =
            self.network.diagnosis.activations.iter().map(|(name, t)| (format!("the output of {name} is"), *t));
        for (name, tensor) in weights.chain(outputs).collect::<Vec<_>>() {
            let values = self.executor.read(tensor)?;
            let size = tensor.shape.per_replica();
            if !values[replica * size..(replica + 1) * size].iter().all(|v| v.is_finite()) {
                return Ok(Some(format!("{name} the first value that is not finite")));
            }
        }
        Ok(None)
    }

    /// Loss and accuracy on the whole test set, one a replica.
    ///
    /// # Errors
    /// If the device fails.
    pub fn evaluate(&mut self) -> Result<Vec<Metrics>, TrainError> {
        let (metrics, fault) = (self.network.test_metrics, self.network.test_fault);
        self.executor.write(metrics, &vec![0.0; metrics.shape.elements()])?;
        self.executor.write(fault, &vec![0.0; fault.shape.elements()])?;
        let batch = self.evaluation_batch;
        let states: Vec<StepState> = (0..self.test_images.div_ceil(batch))
            .map(|index| StepState {
                cursor: index * batch,
                active_rows: batch.min(self.test_images - index * batch),
                ..self.step_state(0)
            })
            .collect();
        self.executor.run(Phase::Evaluate, &states)?;
        let sums = self.executor.read(metrics)?;
        Ok(means(&sums))
    }

    /// Sets P and Q of every factored layer to the truncated SVD of its weight.
    ///
    /// # Errors
    /// If the device fails or a weight is not finite.
    pub fn refactorise(&mut self) -> Result<(), TrainError> {
        for weight in self.network.weights.clone() {
            let Some(Pathway::Factored { p, q, .. }) = weight.pathway() else { continue };
            let value = weight.learned.value;
            let (m, k) = (value.rows() as usize, value.cols() as usize);
            let (mut all_p, mut all_q) = (Vec::new(), Vec::new());
            for (own, &rank) in self.executor.read(value)?.chunks(m * k).zip(weight.ranks()) {
                let (narrow_p, mut own_q) = factorise(own, m, k, rank as usize)?;
                all_p.extend(crate::model::pad_columns(&narrow_p, m, rank as usize, p.cols() as usize));
                own_q.resize(q.shape.per_replica(), 0.0);
                all_q.extend(own_q);
            }
            self.executor.write(p, &all_p)?;
            self.executor.write(q, &all_q)?;
        }
        Ok(())
    }

    /// What the batch that `step` takes shows, of every replica and layer.
    ///
    /// # Errors
    /// If the device fails.
    pub fn diagnosis(&mut self, step: u32) -> Result<Diagnosis, TrainError> {
        self.executor.run(Phase::Diagnose, &[self.step_state(step)])?;
        Ok(Diagnosis { alignments: self.alignments()?, spectra: self.spectra()? })
    }

    /// The errors at the layers' outputs.
    fn spectra(&mut self) -> Result<Vec<(usize, String, Spectrum)>, TrainError> {
        let mut found = Vec::new();
        let replicas = self.seeds.len();
        for (weight, error) in self.network.weights.iter().zip(&self.network.diagnosis.errors) {
            let products = self.executor.read(error.products)?;
            let sums = error.sums.map(|sums| self.executor.read(sums)).transpose()?;
            for replica in 0..replicas {
                let own = spectrum(&Products {
                    products: part(&products, replica, replicas),
                    sums: sums.as_ref().map(|sums| part(sums, replica, replicas)),
                    samples: error.delta.rows() as usize,
                });
                found.extend(own.map(|own| (replica, weight.name.clone(), own)));
            }
        }
        Ok(found)
    }

    /// Every feedback pathway against its weight.
    fn alignments(&mut self) -> Result<Vec<(usize, String, Alignment)>, TrainError> {
        let mut found = Vec::new();
        for own in self.network.weights.clone() {
            let value = own.learned.value;
            let (p, q, random) = match own.pathway() {
                Some(Pathway::Factored { p, q, .. }) => (Some(p), Some(q), None),
                Some(Pathway::Random(random)) => (None, None, Some(random)),
                Some(Pathway::Exact) | None => continue,
            };
            // Direct feedback has another width than the weight: there is nothing to compare it with.
            if own.source() != own.layer && p.or(random).is_some_and(|t| t.rows() != value.rows()) {
                continue;
            }
            let at = self.network.weights.iter().position(|w| w.layer == own.source()).unwrap_or(0);
            let delta = self.network.diagnosis.errors[at].delta;
            let weight = self.executor.read(value)?;
            let errors = self.executor.read(delta)?;
            let mut read = |tensor: Option<Tensor>| tensor.map(|t| self.executor.read(t)).transpose();
            let (p_all, q_all, random_all) = (read(p)?, read(q)?, read(random)?);
            let width = delta.cols() as usize;
            for replica in 0..self.seeds.len() {
                let (own_p, feedback) = match (&p_all, &q_all, &random_all) {
                    (Some(p_all), Some(q_all), _) => {
                        let (p, q) = factors(&own, replica, p_all, q_all);
                        let product = product(&p, &q, own.ranks()[replica] as usize);
                        (Some(p), product)
                    }
                    (_, _, Some(random)) => (None, part(random, replica, self.seeds.len()).to_vec()),
                    _ => continue,
                };
                let matrices = Matrices {
                    weight: part(&weight, replica, self.seeds.len()),
                    feedback: &feedback,
                    p: own_p.as_deref(),
                    error: part(&errors, replica, self.seeds.len()),
                    width,
                };
                found.push((replica, own.name.clone(), alignment(&matrices)));
            }
        }
        Ok(found)
    }

    /// Tensors that a checkpoint holds: all states but the data and gradients, which every step writes anew.
    fn persistent(&self) -> Vec<(String, Tensor)> {
        let tensors = self.plan.tensors().iter().filter(|t| t.kind == Kind::State);
        tensors
            .filter(|t| !t.name.starts_with("data.") && !t.name.starts_with("test.") && !t.name.ends_with(".gradients"))
            .map(|t| (t.name.clone(), t.tensor))
            .collect()
    }

    /// Everything that resuming needs but for the meta data.
    ///
    /// # Errors
    /// If the device fails.
    pub fn save(&mut self) -> Result<Vec<(String, Vec<usize>, Values)>, TrainError> {
        let is_f64 = self.executor.is_f64();
        let mut tensors = Vec::new();
        for (name, tensor) in self.persistent() {
            let values = self.executor.read(tensor)?;
            let values = match tensor.dtype {
                Dtype::F32 if is_f64 => Values::F64(values),
                Dtype::F32 => Values::F32(values.into_iter().map(|v| v as f32).collect()),
                Dtype::U32 | Dtype::U8 => Values::U32(values.into_iter().map(|v| v as u32).collect()),
            };
            let shape = tensor.shape;
            tensors.push((name, vec![shape.replicas as usize, shape.rows as usize, shape.cols as usize], values));
        }
        Ok(tensors)
    }

    /// Takes over what [`Session::save`] gave.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape, or the device fails.
    pub fn restore(&mut self, checkpoint: &Checkpoint, path: &std::path::Path) -> Result<(), TrainError> {
        for (name, tensor) in self.persistent() {
            let found = checkpoint.tensors.iter().find(|(n, _, _)| *n == name);
            let values: Vec<f64> = match found {
                Some((_, _, Values::F32(v))) => v.iter().map(|&v| f64::from(v)).collect(),
                Some((_, _, Values::F64(v))) => v.clone(),
                Some((_, _, Values::U32(v))) => v.iter().map(|&v| f64::from(v)).collect(),
                None => Vec::new(),
            };
            if values.len() != tensor.shape.elements() {
                let what = format!("has {} elements, {} are needed", values.len(), tensor.shape.elements());
                return Err(CheckpointError::Tensor { path: path.to_owned(), tensor: name, what }.into());
            }
            self.executor.write(tensor, &values)?;
        }
        Ok(())
    }

    /// One replica's parameters by the names of files.
    ///
    /// # Errors
    /// If the device fails.
    pub fn weights(&mut self, replica: usize) -> Result<Vec<NamedTensor>, TrainError> {
        Ok(weights::read(&self.network.exchange, self.executor.as_mut(), replica)?)
    }

    /// Starts every replica from the tensors of a file; feedback that it lacks keeps its own start, or is factorised
    /// from the new weights where `init = "svd"`.
    ///
    /// # Errors
    /// If the file cannot be read or does not fit the network.
    pub fn load_weights(&mut self, path: &std::path::Path) -> Result<(), TrainError> {
        let tensors: Vec<NamedTensor> = super::checkpoint::read_weights(path)?
            .into_iter()
            .map(|(name, shape, values)| NamedTensor {
                name,
                shape,
                values: values.into_iter().map(f64::from).collect(),
            })
            .collect();
        weights::write(&self.network.exchange, self.executor.as_mut(), &tensors)
            .map_err(|source| TrainError::Weights { path: path.to_owned(), source })?;
        self.has_given_weights = true;
        // Factors of the weights that were replaced would be a start that nobody asked for.
        let has_feedback = tensors.iter().any(|t| t.name.contains(".feedback."));
        if !has_feedback && self.config.feedback.initialisation() == Init::Svd {
            self.refactorise()?;
        }
        Ok(())
    }
}

/// Measures after a step, each with its replica and layer.
#[derive(Clone, Debug, Default)]
pub struct Diagnosis {
    /// Feedback against weights; none for exact feedback.
    pub alignments: Vec<(usize, String, Alignment)>,
    /// Errors at the layers' outputs; none where there is no error.
    pub spectra: Vec<(usize, String, Spectrum)>,
}

/// Fewer ranks than classes: some classes' errors must share a direction.
fn rank_warning(network: &Network, classes: u32) -> Option<String> {
    let rank =
        network.weights.iter().flat_map(|weight| weight.ranks().iter().copied()).filter(|&r| r < classes).min()?;
    Some(format!("rank {rank} is below the {classes} classes: errors of some classes cannot be told apart"))
}

fn means(sums: &[f64]) -> Vec<Metrics> {
    sums.chunks(3)
        .map(|sums| {
            let count = sums[2].max(1.0);
            Metrics { loss: sums[0] / count, accuracy: sums[1] / count, samples: sums[2] }
        })
        .collect()
}

fn part(values: &[f64], replica: usize, replicas: usize) -> &[f64] {
    let size = values.len() / replicas;
    &values[replica * size..(replica + 1) * size]
}

/// p (m x rank) and q (rank x k) of one replica, without the padding of smaller ranks.
fn factors(weight: &crate::model::Weight, replica: usize, p: &[f64], q: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (ranks, replicas) = (weight.ranks(), weight.ranks().len());
    let (rank, widest) = (ranks[replica] as usize, ranks.iter().copied().max().unwrap_or(1) as usize);
    let k = weight.learned.value.cols() as usize;
    let narrow = part(p, replica, replicas).chunks(widest).flat_map(|row| &row[..rank]).copied().collect();
    (narrow, part(q, replica, replicas)[..rank * k].to_vec())
}

/// p q, m x k.
fn product(p: &[f64], q: &[f64], rank: usize) -> Vec<f64> {
    let k = q.len() / rank;
    p.chunks(rank)
        .flat_map(|row| {
            let mut sums = vec![0.0; k];
            for (factor, line) in row.iter().zip(q.chunks(k)) {
                sums.iter_mut().zip(line).for_each(|(sum, q)| *sum += factor * q);
            }
            sums
        })
        .collect()
}

/// 0..count in an order that depends on seed and epoch alone (Fisher and Yates).
fn shuffled(count: u32, seed: u32, epoch: u32) -> Vec<u32> {
    /// Keeps these generators apart from those of the initialisation.
    const STREAM: u64 = 1 << 40;
    let mut generator = ChaCha8Rng::seed_from_u64(u64::from(seed));
    generator.set_stream(STREAM | u64::from(epoch));
    let mut order: Vec<u32> = (0..count).collect();
    for last in (1..order.len()).rev() {
        let other = (u128::from(generator.next_u64()) * (last as u128 + 1)) >> 64;
        order.swap(last, other as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_and_seed_has_an_order_of_its_own() {
        let order = shuffled(1000, 3, 5);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
        assert_eq!(order, shuffled(1000, 3, 5));
        assert_ne!(order, shuffled(1000, 3, 6));
        assert_ne!(order, shuffled(1000, 4, 5));
    }
}
