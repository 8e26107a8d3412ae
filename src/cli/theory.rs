//! `theory`.

use std::path::PathBuf;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

use super::{CliError, DeviceArg, say};
use crate::experiment::theory::{Feedback, Problem, Setting, Trajectory, draw_modes, write_csv};
use crate::files::create_folder;

/// Train the linear network of the theory, and show which modes it learns through feedback of low rank.
#[derive(Args)]
pub(super) struct TheoryArgs {
    /// Ranks of the error.
    #[arg(long, value_name = "R[,R...]", value_delimiter = ',', default_values_t = [2, 8, 64])]
    ranks: Vec<usize>,
    /// Full-batch steps.
    #[arg(long, value_name = "N", default_value_t = Setting::default().iterations)]
    iterations: u32,
    /// Of data, weights and fixed feedback.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u32,
    /// Folder for theory.csv and modes.png.
    #[arg(long, value_name = "FOLDER", default_value = "runs/theory")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceArg,
}

impl TheoryArgs {
    pub(super) fn run(self) -> Result<(), CliError> {
        let setting = Setting { iterations: self.iterations, seed: self.seed, ..Setting::default() };
        let problem = Problem::new(setting)?;
        let by_rank = self.ranks.iter().flat_map(|&rank| [Feedback::Learned { rank }, Feedback::Fixed { rank }]);
        let all = [Feedback::Exact].into_iter().chain(by_rank);
        let found = all.map(|feedback| problem.run(feedback, &self.device.device)).collect::<Result<Vec<_>, _>>()?;
        create_folder(&self.out)?;
        let path = self.out.join("theory.csv");
        write_csv(&path, &problem.modes, &found)?;
        let picture = self.out.join("modes.png");
        draw_modes(&picture, &found)?;
        say(table(&found))?;
        say(
            "overlap of a mode: 1 where it is learned; distance: the largest between the engine and the closed equations",
        )?;
        say(format!("modes over the iterations: {}, all of them in {}", picture.display(), path.display()))
    }
}

fn table(found: &[Trajectory]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "feedback",
        "rank",
        "modes 0-7",
        "modes 8-15",
        "beyond 16",
        "mode 0",
        "8",
        "12",
        "20",
        "distance",
    ]);
    for trajectory in found {
        let mean = |modes| format!("{:.2}", trajectory.mean(modes));
        table.add_row([
            trajectory.feedback.name().to_owned(),
            trajectory.feedback.rank().map_or("-".to_owned(), |rank| rank.to_string()),
            mean(0..8),
            mean(8..16),
            mean(17..usize::MAX),
            mean(0..1),
            mean(8..9),
            mean(12..13),
            mean(20..21),
            format!("{:.1e}", trajectory.distance()),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
