//! `report`.

use std::path::PathBuf;

use clap::Args;

use super::results::table;
use super::sweep::MeasureArgs;
use super::{CliError, say};
use crate::experiment::page::{Subjects, write_page};
use crate::experiment::runs::{FinishedRun, data_of};
use crate::experiment::sweep::Sweep;
use crate::train::TrainError;
use crate::train::curves::{Curve, draw_curves};
use crate::train::progress::warn;
use crate::train::spectra::{Spectra, draw_spectra};

/// Several finished runs in one table, one picture and one page; of a sweep, what its cells have found so far; other experiments on
/// the page.
#[derive(Args)]
pub(super) struct ReportArgs {
    /// Run directories, folders of sweeps, or what theory, fields and compare have written.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Picture to write.
    #[arg(short, long, value_name = "FILE.png")]
    output: Option<PathBuf>,
    /// Picture of the dimension of errors along training, of what P takes in, and of how errors change on their way back through
    /// time where layers recur.
    #[arg(long, value_name = "FILE.png")]
    spectra: Option<PathBuf>,
    /// Page to write, with all numbers and pictures in it.
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    #[command(flatten)]
    measure: MeasureArgs,
    /// Take runs together that were tested on other images: their accuracies do not compare.
    #[arg(long)]
    mix_data: bool,
    /// Title of picture and page.
    #[arg(long, default_value = "")]
    title: String,
}

impl ReportArgs {
    pub(super) fn run(self) -> Result<(), CliError> {
        let subjects = Subjects::of_folders(&self.runs);
        for folder in &subjects.sweeps {
            super::sweep::merge(&Sweep::of_folder(folder)?, folder, self.measure.measure())?;
        }
        let runs = FinishedRun::all(&subjects.runs, self.mix_data)?;
        self.runs_together(&runs)?;
        if let Some(path) = &self.html {
            write_page(path, &self.title, &runs, &subjects, self.measure.measure())?;
            say(format!("page written to {}", path.display()))?;
        } else if !subjects.others.is_empty() {
            say("what theory, fields and compare have written is shown on a page only: add --html FILE.html")?;
        }
        Ok(())
    }

    /// Table and pictures of the runs, if there are any.
    fn runs_together(&self, runs: &[FinishedRun]) -> Result<(), CliError> {
        if runs.is_empty() {
            return Ok(());
        }
        say(format!("data: {}", data_of(runs)))?;
        say(table(&runs.iter().map(|run| (run.label.as_str(), &run.summary)).collect::<Vec<_>>()))?;
        // Not shown here, but missed by whoever wants to see them.
        runs.iter().filter_map(|run| run.depths().err()).for_each(warn);
        if self.spectra.is_none() {
            let read = |run: &FinishedRun| run.alignments().and(run.spectra()).map(drop).and(run.lags().map(drop));
            runs.iter().filter_map(|run| read(run).err()).for_each(warn);
        }
        if let Some(output) = &self.output {
            let curves = runs.iter().map(|run| Ok(Curve::from_metrics(&run.label, &run.metrics()?)));
            let curves = curves.collect::<Result<Vec<_>, TrainError>>()?.concat();
            draw_curves(output, &self.title, &curves)?;
            say(format!("curves drawn to {}", output.display()))?;
        }
        if let Some(output) = &self.spectra {
            let spectra = runs
                .iter()
                .map(|run| Ok(Spectra::from_logs(&run.label, &run.spectra()?, &run.alignments()?, &run.lags()?)));
            let spectra = spectra.collect::<Result<Vec<_>, TrainError>>()?.concat();
            draw_spectra(output, &self.title, &spectra)?;
            say(format!("dimension of errors drawn to {}", output.display()))?;
        }
        Ok(())
    }
}
