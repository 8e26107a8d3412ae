//! `export`.

use std::path::PathBuf;

use clap::Args;

use super::eval::{PlaceArgs, open_run};
use super::{CliError, say};
use crate::train::checkpoint::write_weights;

/// Write a network's weights as plain safetensors, by PyTorch's names and layouts.
#[derive(Args)]
pub(super) struct ExportArgs {
    /// Run directory.
    run: PathBuf,
    /// File to write.
    #[arg(short, long, value_name = "FILE.safetensors")]
    output: PathBuf,
    /// Which of the networks trained side by side (see `eval`).
    #[arg(long, default_value_t = 0)]
    replica: usize,
    #[command(flatten)]
    place: PlaceArgs,
}

impl ExportArgs {
    pub(super) fn run(self) -> Result<(), CliError> {
        let mut session = open_run(&self.run, &self.place.place())?;
        let count = session.replicas.len();
        if self.replica >= count {
            let message = format!(
                "--replica {}: the last of {} is {}, counted from 0; see `ldfa-gpu eval`",
                self.replica,
                self.run.display(),
                count - 1
            );
            return Err(CliError::Message(message));
        }
        let weights: Vec<_> = session
            .weights(self.replica)?
            .into_iter()
            .map(|t| (t.name, t.shape, t.values.into_iter().map(|v| v as f32).collect()))
            .collect();
        write_weights(&self.output, &weights)?;
        let (rank, seed) = session.replicas[self.replica];
        let rank = rank.map_or(String::new(), |rank| format!(", rank {rank}"));
        say(format!(
            "{} tensors of replica {} (seed {seed}{rank}) written to {}",
            weights.len(),
            self.replica,
            self.output.display()
        ))
    }
}
