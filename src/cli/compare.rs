//! `compare`.

use std::path::PathBuf;

use clap::Args;

use super::eval::PlaceArgs;
use super::{CliError, say, table};
use crate::experiment::compare::{Comparison, draw_likeness};
use crate::experiment::exhibit::prepare;
use crate::experiment::networks::Population;
use crate::model::activations;

/// Images that are looked at where no number is asked for.
const DEFAULT_IMAGES: usize = 512;

/// How alike the networks of several runs represent the same test images: linear CKA and SVCCA, layer by layer.
#[derive(Args)]
pub(super) struct CompareArgs {
    /// Run directories, or folders of sweeps, whose networks have the same layers.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Layers to compare; by default all activations and the output.
    #[arg(long, value_name = "NAME[,NAME...]", value_delimiter = ',')]
    layers: Vec<String>,
    /// Compare layers with positions (steps of a sequence, pixels of an image row by row) at each of them by itself; at 16, evenly
    /// spaced from the first to the last, where there are more.
    #[arg(long)]
    by_position: bool,
    /// Images of the test set, the first so many; by default 512, or all where there are fewer.
    #[arg(long, value_name = "N")]
    images: Option<usize>,
    /// Folder for compare.csv and compare.png.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Title of the picture.
    #[arg(long, default_value = "")]
    title: String,
    #[command(flatten)]
    place: PlaceArgs,
}

impl CompareArgs {
    pub(super) fn run(self) -> Result<(), CliError> {
        let place = self.place.place();
        let population = Population::gather(&self.runs, &place)?;
        let layers = if self.layers.is_empty() {
            activations(&population.config.model.layers, population.image())?
        } else {
            self.layers.clone()
        };
        let images = self.images.unwrap_or(DEFAULT_IMAGES.min(population.data.test.len()));
        let comparison = Comparison::of_layers(&population, &layers, self.by_position, images, &place.device)?;
        prepare(&self.out)?;
        let [csv, picture] = ["compare.csv", "compare.png"].map(|name| self.out.join(name));
        comparison.write(&csv)?;
        let title = if self.title.is_empty() {
            format!("Representations of {images} test images of {}", population.data.name)
        } else {
            self.title.clone()
        };
        draw_likeness(&picture, &title, &comparison)?;
        say(table(comparison.table()))?;
        say(comparison.caption())?;
        say(population.accuracies())?;
        for unfinished in &population.unfinished {
            say(unfinished)?;
        }
        say(format!("every pair in {}, means in {}", csv.display(), picture.display()))
    }
}
