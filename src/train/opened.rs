//! A finished or stopped run, opened for reading.

use std::path::{Path, PathBuf};

use super::TrainError;
use super::checkpoint::{Checkpoint, CheckpointError};
use super::config::Config;
use super::machine::{Kernels, Preparation};
use super::metrics::{Log, MetricsRow};
use super::run_dir::RunDir;
use super::session::Session;
use super::summary;
use super::trainer::{recorded_kernels, refuse_to_forget};
use crate::data::{Dataset, SearchPath};
use crate::gpu::{Cache, DeviceChoice};
use crate::plan::Options;

/// Which checkpoint of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// After the last step.
    #[default]
    Last,
    /// Every network after its own best epoch.
    Best,
}

/// Where runs are opened, and what of them.
#[derive(Clone, Debug)]
pub struct Place {
    /// Which of their checkpoints.
    pub which: Which,
    /// Adapter.
    pub device: DeviceChoice,
    /// Folders of the data.
    pub search: SearchPath,
}

/// A run's networks and images.
pub struct Opened {
    /// The networks, with their first values until they are restored.
    pub session: Session,
    /// What they learn and are tested on.
    pub data: Dataset,
    which: Which,
    path: PathBuf,
    checkpoint: Checkpoint,
}

impl Opened {
    /// Opens a run, with the kernels that it began with.
    ///
    /// # Errors
    /// If there is no run, it has no checkpoint yet, or something of it is damaged or does not fit its configuration.
    pub fn new(folder: &Path, place: &Place) -> Result<Opened, TrainError> {
        let run = RunDir::open(folder)?;
        let config = Config::load(&run.config())?;
        let data = config.dataset(&place.search)?;
        let path = match place.which {
            Which::Last => run.last_checkpoint(),
            Which::Best => run.best_checkpoint(),
        };
        let rows: Vec<MetricsRow> = match place.which {
            Which::Last => Vec::new(),
            Which::Best => Log::read(&run.metrics(), &config)?,
        };
        let checkpoint = match (Checkpoint::load(&path), rows.last()) {
            (Err(CheckpointError::NotFound(path)), Some(row)) => {
                let evidence = format!("metrics.csv goes up to step {}", row.step);
                return Err(TrainError::LostCheckpoint { path, evidence });
            }
            (Err(CheckpointError::NotFound(path)), None) => {
                refuse_to_forget(&run, &config)?;
                return Err(TrainError::NoCheckpoint { path, run: folder.to_owned() });
            }
            (loaded, _) => loaded?,
        };
        let preparation = preparation_of(&run)?;
        let session = Session::prepared(config, &data, &place.device, Options::default(), &preparation)?;
        checkpoint.check_origin(&path, &session.origin, &session.config.data.name)?;
        check_best(&checkpoint, &path, &rows)?;
        Ok(Opened { session, data, which: place.which, path, checkpoint })
    }

    /// Steps that were taken and those of the whole run, where the last step was not taken yet. An earlier checkpoint that was asked
    /// for is none that the run stopped at.
    pub fn stopped_after(&self) -> Option<(u64, u64)> {
        let horizon = self.session.horizon;
        let (done, all) = (self.checkpoint.meta.step, u64::from(horizon.epochs) * u64::from(horizon.steps_per_epoch));
        (self.which == Which::Last && done < all).then_some((done, all))
    }

    /// Gives the networks the values that they have come to.
    ///
    /// # Errors
    /// If the checkpoint does not fit, or the device fails.
    pub fn restore(&mut self) -> Result<(), TrainError> {
        self.session.restore(&self.checkpoint, &self.path)
    }
}

/// Confirms that a checkpoint, loaded from `path`, holds the best epochs that the metrics tell of.
fn check_best(checkpoint: &Checkpoint, path: &Path, rows: &[MetricsRow]) -> Result<(), TrainError> {
    for row in summary::best(rows) {
        let (replica, best) = (row.replica, u64::from(row.step));
        let held = checkpoint.meta.steps.get(replica as usize).copied();
        if held != Some(best) {
            let held = held.map_or("nothing".to_owned(), |held| format!("step {held}"));
            let what = format!("it has {held} of network {replica}, which was best at step {best}");
            return Err(TrainError::NotBest { path: path.to_owned(), what });
        }
    }
    Ok(())
}

/// What a run that has begun goes on with.
///
/// # Errors
/// If the record of its kernels is damaged.
pub fn preparation_of(run: &RunDir) -> Result<Preparation, TrainError> {
    Ok(Preparation { kernels: Kernels::Chosen(recorded_kernels(run)?), cache: Cache::from_env() })
}
