//! The end of a run: `summary.json`.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

use super::files::{self, FileError, write_atomically};
use super::metrics::{MetricsRow, Spread};
use crate::feedback::Rank;

/// A run in one file. A number that is not finite is stored as `null`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The feedback rule, by its [name](crate::feedback::RuleName); runs of old have other names.
    pub rule: String,
    /// The preset, or the name of the configuration file.
    pub preset: String,
    /// The device that trained.
    pub adapter: String,
    /// Version of the program.
    pub version: String,
    /// SHA-256 of the resolved configuration, in hexadecimal.
    pub config_hash: String,
    /// Training steps completed.
    pub steps: u64,
    /// Epochs completed.
    pub epochs: u32,
    /// Time that all replicas together took, stops in between not counted.
    pub seconds: f64,
    /// Images that it was tested on; none in runs from before it was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_images: Option<u32>,
    /// Trainable forward parameters of one network.
    pub parameters: u64,
    /// Floating point operations of one training step of one network, by what they are for.
    pub flops_per_step: BTreeMap<String, u64>,
    /// Each network, by replica index.
    pub replicas: Vec<ReplicaSummary>,
    /// Means over the seeds, by rank.
    pub by_rank: Vec<RankSummary>,
}

/// What became of one network. Accuracies are shares, 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplicaSummary {
    /// Index among the networks trained side by side.
    pub replica: u32,
    /// Its seed.
    pub seed: u32,
    /// Rank of its feedback; none for rules without one.
    pub rank: Option<Rank>,
    /// Epoch that the last row belongs to; a run cut short by `max_steps` may have ended within it.
    pub last_epoch: u32,
    /// Mean training loss of the last epoch.
    #[serde(deserialize_with = "number_or_null")]
    pub last_train_loss: f64,
    /// Test loss after the last epoch.
    #[serde(deserialize_with = "number_or_null")]
    pub last_test_loss: f64,
    /// Test accuracy after the last epoch.
    #[serde(deserialize_with = "number_or_null")]
    pub last_test_accuracy: f64,
    /// Greatest test accuracy of any epoch. Chosen on the test set, so it flatters; report the last one.
    #[serde(deserialize_with = "number_or_null")]
    pub best_test_accuracy: f64,
    /// The first epoch that reached it.
    pub best_epoch: u32,
}

/// The networks of one rank, which differ in their seeds. Accuracies are shares, 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankSummary {
    /// Rank of the feedback; none for rules without one.
    pub rank: Option<Rank>,
    /// Number of seeds.
    pub n: u32,
    /// Mean test accuracy after the last epoch.
    #[serde(deserialize_with = "number_or_null")]
    pub mean_last: f64,
    /// Its sample standard deviation; none for one seed.
    pub std_last: Option<f64>,
    /// Mean over the seeds of the best test accuracy.
    #[serde(deserialize_with = "number_or_null")]
    pub mean_best: f64,
    /// Its sample standard deviation; none for one seed.
    pub std_best: Option<f64>,
}

/// JSON knows no NaN and no infinity.
fn number_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// A summary that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SummaryError {
    /// The system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is none yet.
    #[error("{} does not exist: the run has not ended; go on with `ldfa-gpu train --resume {}`", .0.display(), folder(.0))]
    Unfinished(PathBuf),
    /// Of other metrics.
    #[error(
        "{} does not tell what metrics.csv beside it does; put the run's own files back, or let `ldfa-gpu train --resume {}` \
         write it anew", .0.display(), folder(.0)
    )]
    Outdated(PathBuf),
    /// Not a summary.
    #[error("{}: {source}; `ldfa-gpu train --resume` on its run writes it anew", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The place and what is wrong there.
        source: serde_json::Error,
    },
}

fn folder(path: &Path) -> String {
    path.parent().unwrap_or(path).display().to_string()
}

impl Summary {
    /// Writes the summary as indented JSON.
    ///
    /// # Errors
    /// [`SummaryError::File`] when the disk refuses; what was there before is untouched.
    pub fn write(&self, path: &Path) -> Result<(), SummaryError> {
        Ok(write_atomically(path, |file| Ok(serde_json::to_writer_pretty(file, self)?))?)
    }

    /// Confirms that the summary, read from `path`, is of these rows of `metrics.csv`.
    ///
    /// # Errors
    /// [`SummaryError::Outdated`].
    pub fn check(&self, path: &Path, rows: &[MetricsRow]) -> Result<(), SummaryError> {
        let facts = |found: &[ReplicaSummary]| -> Vec<_> {
            let fact = |r: &ReplicaSummary| (r.replica, r.seed, r.rank, r.last_epoch, r.best_epoch);
            found.iter().map(fact).collect()
        };
        let step = rows.iter().map(|row| u64::from(row.step)).max().unwrap_or(0);
        if step == self.steps && facts(&self.replicas) == facts(&replicas(rows)) {
            return Ok(());
        }
        Err(SummaryError::Outdated(path.to_owned()))
    }

    /// Reads a summary back.
    ///
    /// # Errors
    /// [`SummaryError`] naming the line that is not as it should be.
    pub fn read(path: &Path) -> Result<Summary, SummaryError> {
        let bytes = match files::read(path, files::MOST) {
            Err(error) if error.source.kind() == ErrorKind::NotFound => {
                return Err(SummaryError::Unfinished(path.to_owned()));
            }
            read => read?,
        };
        serde_json::from_slice(&bytes).map_err(|source| SummaryError::Content { path: path.to_owned(), source })
    }
}

/// The row of every network's best epoch, by replica: the first that reached the greatest test accuracy.
pub fn best(rows: &[MetricsRow]) -> Vec<&MetricsRow> {
    let mut best: BTreeMap<u32, &MetricsRow> = BTreeMap::new();
    for row in rows {
        let before = best.entry(row.replica).or_insert(row);
        let is_better = row.test_accuracy.total_cmp(&before.test_accuracy);
        if is_better.then(before.epoch.cmp(&row.epoch)).is_gt() {
            *before = row;
        }
    }
    best.into_values().collect()
}

/// What became of each network, from the rows of `metrics.csv` in any order.
pub fn replicas(rows: &[MetricsRow]) -> Vec<ReplicaSummary> {
    let mut last: BTreeMap<u32, &MetricsRow> = BTreeMap::new();
    for row in rows {
        let before = last.entry(row.replica).or_insert(row);
        if row.epoch > before.epoch {
            *before = row;
        }
    }
    let of_replica = |(last, best): (&MetricsRow, &MetricsRow)| ReplicaSummary {
        replica: last.replica,
        seed: last.seed,
        rank: last.rank,
        last_epoch: last.epoch,
        last_train_loss: last.train_loss,
        last_test_loss: last.test_loss,
        last_test_accuracy: last.test_accuracy,
        best_test_accuracy: best.test_accuracy,
        best_epoch: best.epoch,
    };
    last.into_values().zip(best(rows)).map(of_replica).collect()
}

/// Mean and spread over the seeds of each rank, in ascending order.
pub fn by_rank(replicas: &[ReplicaSummary]) -> Vec<RankSummary> {
    let mut groups: BTreeMap<Option<Rank>, Vec<&ReplicaSummary>> = BTreeMap::new();
    for replica in replicas {
        groups.entry(replica.rank).or_default().push(replica);
    }
    let summary = |(rank, group): (Option<Rank>, Vec<&ReplicaSummary>)| {
        let spread = |measure: fn(&ReplicaSummary) -> f64| {
            Spread::of(&group.iter().map(|replica| measure(replica)).collect::<Vec<_>>())
        };
        let (last, best) = (spread(|replica| replica.last_test_accuracy), spread(|replica| replica.best_test_accuracy));
        let (mean_last, std_last, mean_best, std_best) = (last.mean, last.std, best.mean, best.std);
        RankSummary { rank, n: group.len() as u32, mean_last, std_last, mean_best, std_best }
    };
    groups.into_iter().map(summary).collect()
}

/// Heading of accuracies of the best epoch, so that nobody takes them for results.
pub const BEST: &str = "own best epoch, by the test set";

/// A share in percent, with its standard deviation over seeds if there is one.
pub fn percent(mean: f64, std: Option<f64>) -> String {
    match std {
        Some(std) => format!("{:.2} ± {:.2} %", 100.0 * mean, 100.0 * std),
        None => format!("{:.2} %", 100.0 * mean),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn row(replica: u32, rank: Option<u32>, epoch: u32, test_accuracy: f64) -> MetricsRow {
        MetricsRow {
            epoch,
            step: 10 * epoch,
            replica,
            seed: 100 + replica,
            rank: rank.map(Rank::Of),
            train_loss: 1.0 / f64::from(epoch),
            train_accuracy: 0.5,
            test_loss: 0.25,
            test_accuracy,
            seconds: 1.0,
        }
    }

    /// Two seeds at rank 4, two at rank 10; the rows shuffled.
    fn rows() -> Vec<MetricsRow> {
        vec![
            row(3, Some(10), 2, 0.75),
            row(0, Some(4), 1, 0.5),
            row(1, Some(4), 2, 0.75),
            row(1, Some(4), 1, 0.75),
            row(0, Some(4), 2, 0.25),
            row(2, Some(10), 1, 0.5),
            row(2, Some(10), 2, 1.0),
            row(3, Some(10), 1, 1.0),
        ]
    }

    fn summary() -> Summary {
        let replicas = replicas(&rows());
        Summary {
            rule: "normative".to_owned(),
            preset: "digits".to_owned(),
            adapter: "llvmpipe".to_owned(),
            version: "0.1.0".to_owned(),
            config_hash: "ab".to_owned(),
            steps: 20,
            epochs: 2,
            seconds: 12.34,
            test_images: Some(4),
            parameters: 42_000,
            flops_per_step: [("forward".to_owned(), 100), ("transport".to_owned(), 50)].into(),
            by_rank: by_rank(&replicas),
            replicas,
        }
    }

    #[test]
    fn last_and_best_of_each_replica() {
        let replicas = replicas(&rows());
        let facts: Vec<_> = replicas
            .iter()
            .map(|r| (r.replica, r.seed, r.last_test_accuracy, r.best_test_accuracy, r.best_epoch, r.last_train_loss))
            .collect();
        assert_eq!(
            facts,
            [
                (0, 100, 0.25, 0.5, 1, 0.5),
                (1, 101, 0.75, 0.75, 1, 0.5),
                (2, 102, 1.0, 1.0, 2, 0.5),
                (3, 103, 0.75, 1.0, 1, 0.5)
            ]
        );
    }

    #[test]
    fn a_summary_of_other_metrics_is_found() {
        let (summary, path) = (summary(), Path::new("run/summary.json"));
        summary.check(path, &rows()).unwrap();
        let error = summary.check(path, &rows()[1..]).unwrap_err().to_string();
        assert!(error.contains("summary.json does not tell") && error.contains("--resume run`"), "{error}");
        let mut other = rows();
        other[7].test_accuracy = 0.25;
        summary.check(path, &other).unwrap_err();
        let other: Vec<_> = rows().into_iter().map(|row| MetricsRow { step: row.step + 1, ..row }).collect();
        summary.check(path, &other).unwrap_err();
    }

    #[test]
    fn statistics_by_hand() {
        let groups = by_rank(&replicas(&rows()));
        assert_eq!(
            groups.iter().map(|group| (group.rank, group.n)).collect::<Vec<_>>(),
            [(Some(Rank::Of(4)), 2), (Some(Rank::Of(10)), 2)]
        );
        // Rank 4: last 0.25 and 0.75, so mean 0.5 and deviations 0.25 each: sqrt(2 * 0.0625 / 1).
        assert_eq!((groups[0].mean_last, groups[0].std_last), (0.5, Some(0.125f64.sqrt())));
        assert_eq!((groups[0].mean_best, groups[0].std_best), (0.625, Some(0.03125f64.sqrt())));
        // Rank 10: last 1 and 0.75; best 1 and 1.
        assert_eq!((groups[1].mean_last, groups[1].std_last), (0.875, Some(0.03125f64.sqrt())));
        assert_eq!((groups[1].mean_best, groups[1].std_best), (1.0, Some(0.0)));
        let single = by_rank(&replicas(&[row(0, None, 1, 0.5)]));
        assert_eq!((single[0].rank, single[0].n, single[0].std_last), (None, 1, None));
        assert!(by_rank(&[]).is_empty());
    }

    #[test]
    fn json_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("summary.json");
        let mut written = summary();
        written.write(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"flops_per_step\"") && text.contains("\"mean_last\": 0.5"), "{text}");
        assert_eq!(Summary::read(&path).unwrap(), written);
        written.replicas[0].last_train_loss = f64::NAN;
        written.by_rank[0].std_last = None;
        written.write(&path).unwrap();
        let read = Summary::read(&path).unwrap();
        assert!(read.replicas[0].last_train_loss.is_nan() && read.by_rank[0].std_last.is_none());
    }

    #[test]
    fn a_summary_from_before_test_images_were_noted_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("summary.json");
        let old = Summary { test_images: None, rule: "ldfa-oja-hebbian".to_owned(), ..summary() };
        old.write(&path).unwrap();
        assert!(!fs::read_to_string(&path).unwrap().contains("test_images"));
        assert_eq!(Summary::read(&path).unwrap(), old);
    }

    #[test]
    fn a_broken_file_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("summary.json");
        fs::write(&path, "{\n  \"rule\": 3\n}").unwrap();
        let error = Summary::read(&path).unwrap_err().to_string();
        assert!(error.contains("summary.json") && error.contains("line 2"), "{error}");
        assert!(matches!(Summary::read(folder.path()).unwrap_err(), SummaryError::File(_)));
    }
}
