//! Who watches a training, and what there is to see.

use std::error::Error;

use super::config::Config;
use super::metrics::{MetricsRow, Spread};
use super::run_dir::RunDir;
use super::summary::Summary;
use crate::feedback::Rank;

/// Is told how a training goes. Every method may do nothing, as those of `()` do.
pub trait Observer {
    /// The training goes on after `step` steps.
    fn resumed_at(&mut self, _step: u64) {}

    /// Something that the user should know.
    fn warn(&mut self, _text: &str) {}

    /// Whether to read loss and accuracy back and call [`update`](Observer::update); each time costs a readback from the
    /// device.
    fn wants_update(&self) -> bool {
        false
    }

    /// `step` steps are done; rank, mean loss and accuracy (0 to 1) of the epoch so far of every network.
    fn update(&mut self, _step: u64, _networks: &[(Option<Rank>, f64, f64)]) {}

    /// An epoch has ended.
    fn epoch_done(&mut self, _report: &EpochReport) {}

    /// The training stops or has ended.
    fn stopped(&mut self) {}

    /// The training has ended and its summary is in the run directory; what the observer leaves beside it is written now.
    ///
    /// # Errors
    /// If it cannot be.
    fn finished(&mut self, _finished: &Finished<'_>) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }
}

impl Observer for () {}

/// A training that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Finished<'a> {
    /// Its directory.
    pub run: &'a RunDir,
    /// Its configuration.
    pub config: &'a Config,
    /// What came of it.
    pub summary: &'a Summary,
    /// Its metrics.
    pub rows: &'a [MetricsRow],
}

/// The networks of a run at the end of an epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochReport {
    /// Epochs completed.
    pub epoch: u32,
    /// Epochs of the whole training.
    pub epochs: u32,
    /// By rank, over the seeds.
    pub ranks: Vec<RankReport>,
    /// Training images of all networks per second.
    pub images_per_second: f64,
    /// Learning rate of the weights, of the first network.
    pub learning_rate: f64,
}

/// The networks of one rank at the end of an epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct RankReport {
    /// Rank of the feedback; none for rules without one.
    pub rank: Option<Rank>,
    /// Mean training loss.
    pub train_loss: Spread,
    /// Training accuracy, 0 to 1.
    pub train_accuracy: Spread,
    /// Test loss.
    pub test_loss: Spread,
    /// Test accuracy, 0 to 1.
    pub test_accuracy: Spread,
}

impl EpochReport {
    /// Mean and spread over the rows of one epoch, one a network.
    pub fn of(rows: &[MetricsRow], epochs: u32, images_per_second: f64, learning_rate: f64) -> EpochReport {
        let ranks = rows.chunk_by(|a, b| a.rank == b.rank).map(|rows| {
            let spread = |measure: fn(&MetricsRow) -> f64| Spread::of(&rows.iter().map(measure).collect::<Vec<_>>());
            RankReport {
                rank: rows[0].rank,
                train_loss: spread(|row| row.train_loss),
                train_accuracy: spread(|row| row.train_accuracy),
                test_loss: spread(|row| row.test_loss),
                test_accuracy: spread(|row| row.test_accuracy),
            }
        });
        let epoch = rows.first().map_or(0, |row| row.epoch);
        EpochReport { epoch, epochs, ranks: ranks.collect(), images_per_second, learning_rate }
    }
}
