//! Training runs: configuration, the loop, and the files of a run directory.

pub mod checkpoint;
pub mod config;
#[cfg(feature = "cli")]
pub mod curves;
pub mod labels;
mod logs;
pub mod machine;
pub mod metrics;
pub mod observer;
pub mod opened;
#[cfg(feature = "cli")]
pub mod progress;
pub mod run_dir;
pub mod session;
pub mod spec;
#[cfg(feature = "cli")]
pub mod spectra;
pub mod summary;
pub mod trainer;
pub mod verify;
pub mod weights;

pub use crate::files;

/// Anything that ends a run early; every message says what, where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    /// The data set.
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
    /// The network.
    #[error(transparent)]
    Model(#[from] crate::model::ModelError),
    /// The plan does not fit the adapter.
    #[error(transparent)]
    Plan(#[from] crate::plan::PlanError),
    /// A batch that does not fit where a smaller one does.
    #[error(
        "train.batch = {batch} does not fit this device, {largest} samples at once are the most that do: lower it, or take \
         it in micro-batches with --accumulate {accumulate}: {source}"
    )]
    TooLarge {
        /// What was asked for.
        batch: u32,
        /// What fits.
        largest: u32,
        /// The fewest micro-batches, as large as each other, that fit.
        accumulate: u32,
        /// The tensor that is too large.
        source: Box<TrainError>,
    },
    /// The adapter or device.
    #[error(transparent)]
    Gpu(#[from] crate::gpu::GpuError),
    /// Running the plan.
    #[error(transparent)]
    Execute(#[from] crate::plan::ExecuteError),
    /// The run directory.
    #[error(transparent)]
    RunDir(#[from] run_dir::RunDirError),
    /// A file of it.
    #[error(transparent)]
    File(#[from] files::FileError),
    /// Its metrics.
    #[error(transparent)]
    Log(#[from] metrics::LogError),
    /// Its summary.
    #[error(transparent)]
    Summary(#[from] summary::SummaryError),
    /// What an observer leaves in it.
    #[error(transparent)]
    Observer(Box<dyn std::error::Error + Send + Sync>),
    /// A checkpoint or a file of weights.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::CheckpointError),
    /// Weights that do not fit.
    #[error("{}: {source}", .path.display())]
    Weights {
        /// The file.
        path: std::path::PathBuf,
        /// What does not fit.
        source: weights::WeightsError,
    },
    /// The record of a run's kernels cannot be used.
    #[error("{}: {source}; {}", .path.display(), without_kernels(.path))]
    Kernels {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        source: crate::plan::TunedError,
    },
    /// There is no record of a run's kernels.
    #[error("{} is missing; {}", .0.display(), without_kernels(.0))]
    NoKernels(std::path::PathBuf),
    /// A run would have to go back.
    #[error("train.max_steps = {most}: the run has taken {step} steps; give as many or more with --max-steps")]
    Past {
        /// Where it should stop.
        most: u32,
        /// Where it is.
        step: u32,
    },
    /// The data set is too small for the configuration.
    #[error("{0}")]
    Batch(String),
    /// A run that has not come to a checkpoint.
    #[error(
        "{} does not exist: the run has no checkpoint yet; go on with `ldfa-gpu train --resume {}`", path.display(),
        run.display()
    )]
    NoCheckpoint {
        /// The checkpoint.
        path: std::path::PathBuf,
        /// The run.
        run: std::path::PathBuf,
    },
    /// Other files tell of a checkpoint that is not there.
    #[error("{} is missing, though {evidence}; put a copy of it back, or start a new run with another --out", path.display())]
    LostCheckpoint {
        /// The checkpoint.
        path: std::path::PathBuf,
        /// What shows that there was one.
        evidence: String,
    },
    /// Networks that are not held at their best epochs.
    #[error(
        "{} does not hold the best epoch of every network: {what}; unless a training just writes it, the file was lost once or is \
         of an earlier version, and only training anew makes again what it lacks", path.display()
    )]
    NotBest {
        /// The checkpoint.
        path: std::path::PathBuf,
        /// Which network, and what it holds of it.
        what: String,
    },
    /// The loss left the finite numbers.
    #[error(
        "the loss of replica {replica} (seed {seed}) was not finite at step {step} (epoch {epoch}): {place}; checkpoints \
         of earlier epochs are kept; try a smaller learning rate (--set optimizer.lr=...) or errors clamped \
         (--set feedback.error_clamp=1.0)"
    )]
    NotFinite {
        /// Which network.
        replica: usize,
        /// Its seed.
        seed: u32,
        /// Step, counted from 1.
        step: u32,
        /// Epoch, counted from 1.
        epoch: u32,
        /// The first tensor that holds a non-finite value.
        place: String,
    },
}

/// What to do without the record of a run's kernels.
fn without_kernels(path: &std::path::Path) -> String {
    let run = path.parent().unwrap_or(path).display();
    format!(
        "put an intact copy back, or go on with the default kernels, which round differently: \
         ldfa-gpu train --resume {run} --no-tune"
    )
}
