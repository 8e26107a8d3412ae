//! `report`.

use std::path::PathBuf;

use clap::Args;

use super::{CliError, say};
use crate::experiment::page::{Subjects, write_page};
use crate::experiment::sweep::Sweep;
use crate::train::curves::{Curve, draw_curves};
use crate::train::metrics::{AlignmentRow, Log, MetricsRow, SpectrumRow};
use crate::train::run_dir::RunDir;
use crate::train::spectra::{Spectra, draw_spectra};
use crate::train::summary::{Summary, table};

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
    /// Picture of the dimension of errors along training, and of what P takes in.
    #[arg(long, value_name = "FILE.png")]
    spectra: Option<PathBuf>,
    /// Page to write, with all numbers and pictures in it.
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    /// Of sweeps: the test accuracy in percent to which computation is counted; by default 95 % of backprop's.
    #[arg(long, value_name = "PERCENT", value_parser = super::sweep::share)]
    target: Option<f64>,
    /// Title of picture and page.
    #[arg(long, default_value = "")]
    title: String,
}

impl ReportArgs {
    pub(super) fn run(self) -> Result<(), CliError> {
        let subjects = Subjects::of_folders(&self.runs);
        for folder in &subjects.sweeps {
            super::sweep::merge(&Sweep::of_folder(folder)?, folder, self.target)?;
        }
        self.runs_together(&subjects.runs)?;
        if let Some(path) = &self.html {
            write_page(path, &self.title, &subjects, self.target)?;
            say(format!("page written to {}", path.display()))?;
        } else if !subjects.others.is_empty() {
            say("what theory, fields and compare have written is shown on a page only: add --html FILE.html")?;
        }
        Ok(())
    }

    /// Table and pictures of the runs, if there are any.
    fn runs_together(&self, runs: &[PathBuf]) -> Result<(), CliError> {
        if runs.is_empty() {
            return Ok(());
        }
        let (mut summaries, mut curves, mut spectra) = (Vec::new(), Vec::new(), Vec::new());
        for path in runs {
            let run = RunDir::open(path)?;
            let summary = Summary::read(&run.summary())?;
            curves.extend(Curve::from_metrics(&summary.rule, &Log::<MetricsRow>::read(&run.metrics())?));
            if self.spectra.is_some() {
                let rows = Log::<SpectrumRow>::read(&run.spectrum())?;
                spectra.extend(Spectra::from_logs(&summary.rule, &rows, &Log::<AlignmentRow>::read(&run.alignment())?));
            }
            summaries.push(summary);
        }
        say(table(&summaries))?;
        if let Some(output) = &self.output {
            draw_curves(output, &self.title, &curves)?;
            say(format!("curves drawn to {}", output.display()))?;
        }
        if let Some(output) = &self.spectra {
            draw_spectra(output, &self.title, &spectra)?;
            say(format!("dimension of errors drawn to {}", output.display()))?;
        }
        Ok(())
    }
}
