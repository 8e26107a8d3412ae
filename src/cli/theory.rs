//! `theory`.

use std::path::PathBuf;

use clap::Args;

use super::{CliError, DeviceArg, say, table};
use crate::experiment::exhibit::prepare;
use crate::experiment::theory::{self, Feedback, Problem, Setting, draw_modes, endings, write_csv};

/// Train the linear network of the theory, and show which modes it learns through feedback of low rank.
#[derive(Args)]
pub(super) struct TheoryArgs {
    /// Ranks of the error.
    #[arg(long, value_name = "R[,R...]", value_delimiter = ',', default_values_t = [2, 8, 64])]
    ranks: Vec<usize>,
    /// Full-batch steps.
    #[arg(long, value_name = "N", default_value_t = Setting::default().iterations)]
    iterations: u32,
    /// First seed of data, weights and fixed feedback; the others follow.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u32,
    /// How often all is done, each time with another seed.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    seeds: u32,
    /// Folder for theory.csv and modes.png.
    #[arg(long, value_name = "FOLDER", default_value = "runs/theory")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceArg,
}

impl TheoryArgs {
    pub(super) fn run(self) -> Result<(), CliError> {
        if let Some((_, twice)) = self.ranks.iter().enumerate().find(|(at, rank)| self.ranks[..*at].contains(rank)) {
            return Err(CliError::Message(format!("--ranks: {twice} is listed twice")));
        }
        let last = self.seed.checked_add(self.seeds - 1);
        let last = last.ok_or_else(|| CliError::Message("--seed and --seeds: seeds must fit 32 bits".to_owned()))?;
        let mut found = Vec::new();
        for seed in self.seed..=last {
            let problem = Problem::new(Setting { iterations: self.iterations, seed, ..Setting::default() })?;
            let by_rank = self.ranks.iter().flat_map(|&rank| [Feedback::Learned { rank }, Feedback::Fixed { rank }]);
            for feedback in [Feedback::Exact].into_iter().chain(by_rank) {
                found.push(problem.run(feedback, &self.device.device)?);
            }
        }
        prepare(&self.out)?;
        let path = self.out.join("theory.csv");
        write_csv(&path, &found)?;
        let picture = self.out.join("modes.png");
        draw_modes(&picture, &found)?;
        say(table(theory::table(&endings(&found))))?;
        say(theory::CAPTION)?;
        say(format!("modes over the iterations: {}, all of them in {}", picture.display(), path.display()))
    }
}
