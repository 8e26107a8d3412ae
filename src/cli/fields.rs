//! `fields`.

use std::path::PathBuf;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

use super::eval::CheckpointArg;
use super::{CliError, DataDirArg, DeviceArg, say};
use crate::experiment::fields::{
    FamilySummary, Fields, draw_distribution, draw_montage, summaries, verdicts, write_rows,
};
use crate::experiment::networks::{Place, Population};
use crate::files::create_folder;

/// Receptive fields of a layer of several runs, as pictures, and how oriented or centre-surround they are, beside untrained networks.
#[derive(Args)]
pub(super) struct FieldsArgs {
    /// Run directories, or folders of sweeps, whose networks have the same layers.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Layer whose units' fields are taken.
    #[arg(long, value_name = "NAME", default_value = "layers.0")]
    layer: String,
    /// Folder for fields.csv, fields.png and distribution.png.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Title of both pictures.
    #[arg(long, default_value = "")]
    title: String,
    #[command(flatten)]
    checkpoint: CheckpointArg,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    data: DataDirArg,
}

impl FieldsArgs {
    pub(super) fn run(self) -> Result<(), CliError> {
        let (device, search) = (&self.device.device, &self.data.search());
        let population = Population::gather(&self.runs, Place { which: self.checkpoint.which(), device, search })?;
        let fields = Fields::of_layer(&population, &self.layer, device)?;
        create_folder(&self.out)?;
        let title =
            if self.title.is_empty() { format!("Receptive fields of {}", self.layer) } else { self.title.clone() };
        let [csv, montage, distribution] =
            ["fields.csv", "fields.png", "distribution.png"].map(|name| self.out.join(name));
        let rows = fields.rows();
        write_rows(&csv, &rows)?;
        draw_montage(&montage, &title, &fields)?;
        draw_distribution(&distribution, &title, &rows)?;
        let families = summaries(&rows);
        say(table(&families))?;
        say("means over networks of each network's mean over its units, and the standard error over networks")?;
        for verdict in verdicts(&families) {
            say(verdict)?;
        }
        say(format!(
            "fields in {}, every unit in {}, distributions in {}",
            montage.display(),
            csv.display(),
            distribution.display()
        ))
    }
}

fn table(families: &[FamilySummary]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["networks of", "networks", "units", "silent", "orientedness", "centre-surround index"]);
    for family in families {
        table.add_row([
            family.name(),
            family.networks.to_string(),
            family.units.to_string(),
            family.silent.to_string(),
            family.with_error(family.orientedness),
            family.with_error(family.index),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
