//! Experiments: what the theory says, and what the engine does.

pub mod compare;
pub mod exhibit;
pub mod fields;
pub mod networks;
pub mod page;
mod published;
pub mod runs;
pub mod sweep;
pub mod theory;

/// An experiment that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    /// The engine, while it was made ready.
    #[error(transparent)]
    Train(#[from] crate::train::TrainError),
    /// A recording or a decomposition.
    #[error(transparent)]
    Model(#[from] crate::model::ModelError),
    /// What runs it.
    #[error(transparent)]
    Execute(#[from] crate::plan::ExecuteError),
    /// The system refused a file.
    #[error(transparent)]
    File(#[from] crate::files::FileError),
    /// Sizes or ranks that make no sense.
    #[error("{0}")]
    Setting(String),
    /// The drawing library refused.
    #[error("cannot draw {}: {message}", path.display())]
    Draw {
        /// The file.
        path: std::path::PathBuf,
        /// The library's words.
        message: String,
    },
}

/// Fewest networks of a kind that a verdict is given from.
pub const LEAST_SEEDS: usize = 5;

/// So many seeds are fewer than that.
fn few_seeds(n: usize) -> String {
    let seeds = if n == 1 { "seed" } else { "seeds" };
    format!("n = {n} {seeds}, five are needed (--seeds {LEAST_SEEDS})")
}

fn setting(message: impl Into<String>) -> ExperimentError {
    ExperimentError::Setting(message.into())
}
