//! A configured network on an executor: data uploaded, parameters initialised, ready to step.

mod diagnosis;
mod order;
mod state;

pub use diagnosis::Diagnosis;

use super::TrainError;
use super::checkpoint::Origin;
use super::config::Config;
use super::machine::{Machine, Preparation, machine};
use super::spec::{network_spec, with_largest_batch};
use crate::data::Dataset;
use crate::feedback::Rank;
use crate::gpu::DeviceChoice;
use crate::model::{Feed, Network, NetworkSpec, Targets, initialise};
use crate::ops::{Phase, StepState};
use crate::optim::{Horizon, OptimizerSpec, step_state};
use crate::plan::{Blocking, Options, Plan, Tuned};
use order::shuffled;

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
    executor: Box<Blocking>,
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
        warnings.extend(rank_warning(&network, spec.targets));
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
    pub fn executor(&mut self) -> &mut Blocking {
        &mut self.executor
    }

    fn upload(&mut self, data: &Dataset) -> Result<(), TrainError> {
        let Feed::Data { train, test, .. } = &self.network.feed else { return Ok(()) };
        for (split, tensors) in [(&data.train, train), (&data.test, test)] {
            for shard in &tensors.shards {
                let (first, rows) = (shard.first as usize, shard.images.rows() as usize);
                let features = shard.images.cols() as usize;
                self.executor.write_bytes(shard.images, &split.images[first * features..(first + rows) * features])?;
                let targets = shard.classes.cols() as usize;
                let labels = &split.labels[first * targets..(first + rows) * targets];
                let labels: Vec<f64> = labels.iter().map(|&label| f64::from(label)).collect();
                self.executor.write(shard.classes, &labels)?;
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

    /// Steps of the whole run.
    pub fn last_step(&self) -> u32 {
        let all = self.horizon.steps_per_epoch.saturating_mul(self.horizon.epochs);
        self.config.train.max_steps.map_or(all, |most| most.min(all))
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
}

/// Fewer ranks than classes: some classes' errors must share a direction.
fn rank_warning(network: &Network, targets: Targets) -> Option<String> {
    let Targets::Classes(classes) = targets else { return None };
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
