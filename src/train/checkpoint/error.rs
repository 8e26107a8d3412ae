//! Why a file of weights or of a whole training cannot be used.

use std::path::PathBuf;

use super::FileError;
use super::meta::FORMAT;

/// A checkpoint or weight file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// No such file.
    #[error("{} does not exist; check the path, or start without --resume or --init", .0.display())]
    NotFound(PathBuf),
    /// The system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The end is missing.
    #[error("{} is cut short: it has {have} bytes of at least {need}; {RESTORE}", path.display())]
    CutShort {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        have: u64,
        /// The length that its header gives.
        need: u64,
    },
    /// Complete, but not what was written.
    #[error("{} is damaged: {what}; {RESTORE}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What gave it away.
        what: String,
    },
    /// A file of something else.
    #[error("{} is not a checkpoint of ldfa-gpu ({why}); name a file of a run's checkpoints folder", path.display())]
    NotACheckpoint {
        /// The file.
        path: PathBuf,
        /// What gave it away.
        why: String,
    },
    /// Written by a later version.
    #[error("{} has format {found} and this program reads up to {FORMAT}; use ldfa-gpu {program_version} or later", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The version that wrote it.
        program_version: String,
    },
    /// Of another experiment.
    #[error(
        "{} belongs to another {what} (hash {found}, and here it is {expected}); {remedy}, or start a new run with another --out",
        path.display()
    )]
    OtherOrigin {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// Hash in the file, abbreviated.
        found: String,
        /// Hash of what is in use, abbreviated.
        expected: String,
        /// What to do.
        remedy: String,
    },
    /// A weight file that is none.
    #[error("{} is not a safetensors file ({why}); save one with safetensors.torch.save_file", path.display())]
    NotWeights {
        /// The file.
        path: PathBuf,
        /// What gave it away.
        why: String,
    },
    /// A whole training instead of a network.
    #[error(
        "{} is a checkpoint of a training, not a weight file; make one of it with `ldfa-gpu export RUN -o FILE.safetensors`",
        .0.display()
    )]
    IsACheckpoint(PathBuf),
    /// A tensor that cannot be stored or used.
    #[error("{}, tensor {tensor}: {what}", path.display())]
    View {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong, and the remedy.
        what: String,
    },
}

/// What to do about a file that is no longer what was written.
const RESTORE: &str = "put an intact copy in its place";

impl CheckpointError {
    /// Whether the file is simply not there: a run that was stopped before its first checkpoint.
    pub fn is_not_found(&self) -> bool {
        matches!(self, CheckpointError::NotFound(_))
    }
}
