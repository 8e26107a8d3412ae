//! Finished runs side by side.

use std::path::{Path, PathBuf};

use super::{ExperimentError, setting};
use crate::model::recurs;
use crate::train::TrainError;
use crate::train::config::Config;
use crate::train::labels::labels;
use crate::train::metrics::{AlignmentRow, DepthRow, LagRow, Log, MetricsRow, SpectrumRow};
use crate::train::run_dir::RunDir;
use crate::train::summary::Summary;

/// A run that has ended, as its folder holds it.
#[derive(Debug)]
pub struct FinishedRun {
    /// What it is called beside the others.
    pub label: String,
    /// Where it lies.
    pub folder: PathBuf,
    /// What it was made with.
    pub config: Config,
    /// What has become of it.
    pub summary: Summary,
    files: RunDir,
}

impl FinishedRun {
    /// Opens runs to be shown together.
    ///
    /// # Errors
    /// If one is unfinished or damaged; unless they may `mix`, also if they are not all tested on the same images.
    pub fn all(folders: &[PathBuf], mix: bool) -> Result<Vec<FinishedRun>, ExperimentError> {
        let mut runs =
            folders.iter().map(|folder| FinishedRun::open(folder)).collect::<Result<Vec<_>, TrainError>>()?;
        if let Some((first, others)) = runs.split_first().filter(|_| !mix) {
            others.iter().try_for_each(|other| first.refuse_other_images(other))?;
        }
        let names = labels(&runs.iter().map(|run| (&run.config, run.folder.as_path())).collect::<Vec<_>>());
        runs.iter_mut().zip(names).for_each(|(run, name)| run.label = name);
        Ok(runs)
    }

    fn open(folder: &Path) -> Result<FinishedRun, TrainError> {
        let files = RunDir::open(folder)?;
        let (config, summary) = (Config::load(&files.config())?, Summary::read(&files.summary())?);
        summary.check(&files.summary(), &Log::<MetricsRow>::read(&files.metrics(), &config)?)?;
        Ok(FinishedRun { label: String::new(), folder: folder.to_owned(), config, summary, files })
    }

    /// Accuracies on other images, or on another number of classes, are no comparison.
    fn refuse_other_images(&self, other: &FinishedRun) -> Result<(), ExperimentError> {
        let (of, and) = (&self.config.data, &other.config.data);
        let counts = self.summary.test_images.zip(other.summary.test_images);
        if (&of.name, of.classes) == (&and.name, and.classes) && counts.is_none_or(|(of, and)| of == and) {
            return Ok(());
        }
        let [one, two] = [self, other].map(|run| (run.folder.display(), run.data()));
        Err(setting(format!(
            "{} was tested on {}, {} on {}: their accuracies do not compare; report them apart, or together all the same with \
             --mix-data",
            one.0, one.1, two.0, two.1
        )))
    }

    /// The data set, in words.
    pub fn data(&self) -> String {
        let data = &self.config.data;
        let classes = data.classes.map_or(String::new(), |classes| format!(", the first {classes} classes"));
        let images = self.summary.test_images.map_or(String::new(), |images| format!(", {images} test images"));
        format!("{}{classes}{images}", data.name)
    }

    /// Loss and accuracy by epoch.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn metrics(&self) -> Result<Vec<MetricsRow>, TrainError> {
        Ok(Log::read(&self.files.metrics(), &self.config)?)
    }

    /// How feedback and weights agree, by epoch.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn alignments(&self) -> Result<Vec<AlignmentRow>, TrainError> {
        Ok(Log::read(&self.files.alignment(), &self.config)?)
    }

    /// The dimension of errors by epoch.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn spectra(&self) -> Result<Vec<SpectrumRow>, TrainError> {
        Ok(Log::read(&self.files.spectrum(), &self.config)?)
    }

    /// What residual blocks add and how well errors agree, by epoch.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn depths(&self) -> Result<Vec<DepthRow>, TrainError> {
        Ok(Log::read(&self.files.depth(), &self.config)?)
    }

    /// How errors change on their way back through time, by epoch; nothing of networks that do not recur.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn lags(&self) -> Result<Vec<LagRow>, TrainError> {
        match recurs(&self.config.model.layers) {
            true => Ok(Log::read(&self.files.lags(), &self.config)?),
            false => Ok(Vec::new()),
        }
    }
}

/// The data sets of runs, each once, in words.
pub fn data_of(runs: &[FinishedRun]) -> String {
    let mut found: Vec<String> = Vec::new();
    for run in runs {
        if !found.contains(&run.data()) {
            found.push(run.data());
        }
    }
    found.join("; ")
}
