//! `fields`.

use std::path::PathBuf;

use clap::Args;

use super::eval::PlaceArgs;
use super::{CliError, say, table};
use crate::experiment::exhibit::prepare;
use crate::experiment::fields::{self, Fields, draw_distribution, draw_montage, summaries, verdicts, write_rows};
use crate::experiment::networks::Population;
use crate::model::weighted;

/// Receptive fields of a layer of several runs, as pictures, and how oriented or centre-surround they are, beside untrained networks.
#[derive(Args)]
pub(super) struct FieldsArgs {
    /// Run directories, or folders of sweeps, whose networks have the same layers.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Layer whose units' fields are taken, of an image in the middle, of a recurrent layer at the last step [default: the first with
    /// a weight].
    #[arg(long, value_name = "NAME")]
    layer: Option<String>,
    /// Folder for fields.csv, fields.png and distribution.png.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Title of both pictures.
    #[arg(long, default_value = "")]
    title: String,
    #[command(flatten)]
    place: PlaceArgs,
}

impl FieldsArgs {
    pub(super) fn run(self) -> Result<(), CliError> {
        let place = self.place.place();
        let population = Population::gather(&self.runs, &place)?;
        let first = || weighted(&population.config.model.layers).into_iter().next();
        let layer = self.layer.clone().or_else(first).unwrap_or_else(|| "layers.0".to_owned());
        let found = Fields::of_layer(&population, &layer, &place.device)?;
        prepare(&self.out)?;
        let title = if self.title.is_empty() { format!("Receptive fields of {layer}") } else { self.title.clone() };
        let [csv, montage, distribution] =
            ["fields.csv", "fields.png", "distribution.png"].map(|name| self.out.join(name));
        let rows = found.rows();
        write_rows(&csv, &rows)?;
        draw_montage(&montage, &title, &found)?;
        draw_distribution(&distribution, &title, &rows)?;
        let families = summaries(&rows);
        say(table(fields::table(&families)))?;
        say(fields::CAPTION)?;
        for sentence in verdicts(&families).iter().chain(&population.unfinished) {
            say(sentence)?;
        }
        say(format!(
            "fields in {}, every unit in {}, distributions in {}",
            montage.display(),
            csv.display(),
            distribution.display()
        ))
    }
}
