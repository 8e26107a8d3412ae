//! What kernels and training steps cost: measured side by side, as ratios of one run.
//!
//! Machines are noisy, and one is not another. So contestants take turns (A B C A B C), medians are compared, ratios are
//! taken within each round, and every table has a row or a number for a contestant against itself, which must read 1.

mod headline;
mod kernels;
mod rounds;
mod steps;
mod subject;
mod workload;

pub use headline::{Headline, PARTS, headline};
pub use kernels::{Form, KernelReport, KernelRow, KernelTime, convolution, kernels, product, transport};
pub use steps::{StepReport, StepRow, steps};
pub(crate) use subject::outline;
pub use workload::Workload;

use crate::gpu::{Context, DeviceChoice, LimitPolicy};
use crate::ops::ShapeError;
use crate::train::TrainError;

/// Share of the operations saved that became time saved, of ratios to backprop; none where less than a hundredth of them is saved,
/// which time cannot show.
fn realised(time: f64, flops: f64) -> Option<f64> {
    (flops <= 0.99).then(|| (1.0 - time) / (1.0 - flops))
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The reference has no kernels.
    #[error(
        "bench measures kernels on an adapter, and the reference has none; choose one with --device (see `ldfa-gpu devices`)"
    )]
    Reference,
    /// A configuration whose data have a shape that is not known without them.
    #[error("{data}: bench makes up its images, and knows the shape of {known} only")]
    Data {
        /// `data.name`.
        data: String,
        /// Those it knows.
        known: String,
    },
    /// A filter that leaves nothing to measure.
    #[error("--only {only}: no family of kernels has this in its name; there are {known}")]
    NoFamily {
        /// What was asked for.
        only: String,
        /// Those it could be.
        known: String,
    },
    /// An impossible window: a bug.
    #[error("internal: {0}")]
    Window(String),
    /// An operation was recorded with shapes that do not meet: a bug.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// Configuration, network, plan or device.
    #[error(transparent)]
    Train(#[from] TrainError),
}

macro_rules! from_train_error {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for BenchError {
            fn from(error: $error) -> BenchError {
                BenchError::Train(error.into())
            }
        })*
    };
}

from_train_error!(
    crate::data::DataError,
    crate::gpu::GpuError,
    crate::model::ModelError,
    crate::plan::ExecuteError,
    crate::plan::PlanError,
    crate::train::config::ConfigError,
);

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Enough for numbers to be compared.
    Full,
    /// Small sizes and few rounds: shows that everything runs; the numbers say nothing.
    Quick,
}

impl Effort {
    /// `full`, or `quick` where small sizes take its place.
    fn pick<T>(self, full: T, quick: T) -> T {
        match self {
            Effort::Full => full,
            Effort::Quick => quick,
        }
    }
}

fn open(device: &DeviceChoice) -> Result<Context, BenchError> {
    match device {
        DeviceChoice::Reference => Err(BenchError::Reference),
        device => Ok(Context::open(device, LimitPolicy::from_env())?),
    }
}
