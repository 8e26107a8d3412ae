//! `eval` and what it shares with `export`: a finished or stopped run, opened for reading.

use std::path::{Path, PathBuf};

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

use super::{CliError, DataDirArg, DeviceArg, say};
use crate::train::opened::{Opened, Place, Which};
use crate::train::progress;
use crate::train::session::Session;

/// Which checkpoint of a run, and where it is opened.
#[derive(Args, Clone)]
pub(super) struct PlaceArgs {
    /// Each network at its own best epoch, not the last one (that chooses on the test set: say so).
    #[arg(long)]
    best: bool,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    data: DataDirArg,
}

impl PlaceArgs {
    pub(super) fn place(&self) -> Place {
        let which = if self.best { Which::Best } else { Which::Last };
        Place { which, device: self.device.device.clone(), search: self.data.search() }
    }
}

/// Loss and accuracy of a run's networks on the test set.
#[derive(Args)]
pub(super) struct EvalArgs {
    /// Run directory.
    run: PathBuf,
    #[command(flatten)]
    place: PlaceArgs,
}

/// A session that holds a run's checkpoint.
pub(super) fn open_run(path: &Path, place: &Place) -> Result<Session, CliError> {
    let mut run = Opened::new(path, place)?;
    run.restore()?;
    Ok(run.session)
}

impl EvalArgs {
    pub(super) fn run(self) -> Result<(), CliError> {
        let mut session = open_run(&self.run, &self.place.place())?;
        let metrics = session.evaluate()?;
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(["replica", "rank", "seed", "test loss", "test accuracy %"]);
        for column in table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for (replica, (metrics, (rank, seed))) in metrics.iter().zip(&session.replicas).enumerate() {
            table.add_row([
                replica.to_string(),
                rank.map_or("-".into(), |rank| rank.to_string()),
                seed.to_string(),
                progress::loss(metrics.loss),
                format!("{:.2}", 100.0 * metrics.accuracy),
            ]);
        }
        say(format!("{}\n{table}", session.device))
    }
}
