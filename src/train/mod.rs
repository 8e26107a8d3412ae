//! Training runs: configuration, the loop, and the files of a run directory.

pub mod checkpoint;
pub mod config;
pub mod curves;
pub mod labels;
pub mod machine;
pub mod metrics;
pub mod opened;
pub mod progress;
pub mod run_dir;
pub mod session;
pub mod spec;
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
         it in parts with --accumulate {parts}: {source}"
    )]
    TooLarge {
        /// What was asked for.
        batch: u32,
        /// What fits.
        largest: u32,
        /// The fewest equal parts of the batch that fit.
        parts: u32,
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
    /// Its picture.
    #[error(transparent)]
    Curves(#[from] curves::CurvesError),
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
    #[error(
        "{}: {source}; put an intact copy back, or remove it to go on with the default kernels, which round differently",
        .path.display()
    )]
    Kernels {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        source: crate::plan::TunedError,
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
    /// Metrics tell of checkpoints that are not there.
    #[error(
        "{} is missing, though metrics.csv goes up to step {step}; put a copy of it back, or start a new run with \
         another --out", path.display()
    )]
    LostCheckpoint {
        /// The checkpoint.
        path: std::path::PathBuf,
        /// Last step in the metrics.
        step: u32,
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
