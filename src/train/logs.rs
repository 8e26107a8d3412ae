//! The logs of a run together: begun, and continued after a checkpoint.

use super::TrainError;
use super::config::Config;
use super::metrics::{AlignmentRow, DepthRow, LagRow, Log, LogError, MetricsRow, Row, SpectrumRow, Subject};
use super::run_dir::RunDir;
use crate::model::recurs;

use std::path::Path;

/// What is written at the end of every epoch.
pub(super) struct Logs {
    pub(super) metrics: Log<MetricsRow>,
    pub(super) alignments: Log<AlignmentRow>,
    pub(super) spectra: Log<SpectrumRow>,
    pub(super) depths: Log<DepthRow>,
    /// Of networks that have any.
    pub(super) lags: Option<Log<LagRow>>,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    /// Steps completed.
    pub(super) step: u32,
    /// Steps of the whole run.
    pub(super) last: u32,
    /// Steps of an epoch.
    pub(super) per_epoch: u32,
}

impl Logs {
    /// Begins them.
    pub(super) fn create(run: &RunDir, config: &Config) -> Result<Logs, TrainError> {
        let lags = recurs(&config.model.layers).then(|| Log::create(&run.lags(), &[])).transpose()?;
        Ok(Logs {
            metrics: Log::create(&run.metrics(), &[])?,
            alignments: Log::create(&run.alignment(), &[])?,
            spectra: Log::create(&run.spectrum(), &[])?,
            depths: Log::create(&run.depth(), &[])?,
            lags,
        })
    }

    /// Continues them, with the metrics so far, if they are this run's; else all stay as they are.
    pub(super) fn resume(run: &RunDir, config: &Config, course: Course) -> Result<(Logs, Vec<MetricsRow>), TrainError> {
        let metrics = so_far::<MetricsRow>(&run.metrics(), config, course)?;
        let alignments = so_far::<AlignmentRow>(&run.alignment(), config, course)?;
        let spectra = so_far::<SpectrumRow>(&run.spectrum(), config, course)?;
        let depths = so_far::<DepthRow>(&run.depth(), config, course)?;
        let lags = recurs(&config.model.layers).then(|| so_far::<LagRow>(&run.lags(), config, course)).transpose()?;
        let logs = Logs {
            metrics: Log::create(&run.metrics(), &metrics)?,
            alignments: Log::create(&run.alignment(), &alignments)?,
            spectra: Log::create(&run.spectrum(), &spectra)?,
            depths: Log::create(&run.depth(), &depths)?,
            lags: lags.map(|lags| Log::create(&run.lags(), &lags)).transpose()?,
        };
        Ok((logs, metrics))
    }
}

/// The rows of a log that the rest of the run does not write again: what came after the checkpoint is repeated, and an epoch that
/// was cut short is completed, unless the run ends there.
fn so_far<R: Row>(path: &Path, config: &Config, course: Course) -> Result<Vec<R>, LogError> {
    let Course { step, last, per_epoch } = course;
    let mut rows = match Log::<R>::read(path, config) {
        // Killed before there was anything to write.
        Err(LogError::Missing { .. }) if step == 0 => Vec::new(),
        read => read?,
    };
    let foreign = |what: String| Err(LogError::Foreign { path: path.to_owned(), what });
    let unfit = |&Subject { epoch, step, .. }: &Subject<'_>| step.div_ceil(per_epoch) != epoch;
    if let Some(Subject { epoch, step, .. }) = rows.iter().map(Row::subject).find(unfit) {
        return foreign(format!("it has step {step} in epoch {epoch}, and an epoch has {per_epoch} steps"));
    }
    rows.retain(|row| {
        let at = row.subject().step;
        at <= step && (at.is_multiple_of(per_epoch) || at == step && step == last)
    });
    let epochs = rows.iter().map(|row| row.subject().epoch).max().unwrap_or(0);
    if R::IS_COMPLETE && epochs < step / per_epoch {
        return foreign(format!("it ends with epoch {epochs}, and the checkpoint was saved after step {step}"));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::config::Draft;
    use std::fs;
    use std::io::Write;

    fn config() -> Config {
        let mut draft = Draft::open("digits-rows").unwrap();
        draft.set_rule("backprop").unwrap();
        for (key, value) in [("train.seeds", "2"), ("train.epochs", "4")] {
            draft.set(key, value).unwrap();
        }
        draft.finish().unwrap()
    }

    fn row(step: u32, seed: u32) -> MetricsRow {
        MetricsRow {
            epoch: step.div_ceil(10),
            step,
            replica: seed,
            seed,
            rank: None,
            train_loss: 0.5,
            train_accuracy: 0.5,
            test_loss: 0.5,
            test_accuracy: 0.5,
            seconds: 1.0,
        }
    }

    /// A run whose metrics have rows after these steps.
    fn run(steps: &[u32]) -> (tempfile::TempDir, RunDir) {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(&folder.path().join("run")).unwrap();
        let mut logs = Logs::create(&run, &config()).unwrap();
        for &step in steps {
            logs.metrics.append(&[row(step, 0), row(step, 1)]).unwrap();
        }
        (folder, run)
    }

    fn course(step: u32, last: u32) -> Course {
        Course { step, last, per_epoch: 10 }
    }

    fn steps_in(run: &RunDir) -> Vec<u32> {
        let rows = Log::<MetricsRow>::read(&run.metrics(), &config()).unwrap();
        assert!(rows.chunks(2).all(|pair| pair[0].step == pair[1].step), "both networks");
        rows.iter().step_by(2).map(|row| row.step).collect()
    }

    #[test]
    fn what_the_checkpoint_has_not_seen_is_dropped() {
        let (_folder, run) = run(&[10, 20, 30]);
        // The kill came in the middle of the next line.
        fs::File::options().append(true).open(run.metrics()).unwrap().write_all(b"4,40,0,7,,0.2").unwrap();
        let (mut logs, rows) = Logs::resume(&run, &config(), course(25, 40)).unwrap();
        assert_eq!(rows, [row(10, 0), row(10, 1), row(20, 0), row(20, 1)]);
        assert_eq!(steps_in(&run), [10, 20]);
        logs.metrics.append(&[row(30, 0), row(30, 1)]).unwrap();
        assert_eq!(steps_in(&run), [10, 20, 30]);
    }

    #[test]
    fn an_epoch_cut_short_keeps_its_rows_only_where_the_run_ends() {
        let (_folder, run) = run(&[10, 15]);
        Logs::resume(&run, &config(), course(15, 15)).unwrap();
        assert_eq!(steps_in(&run), [10, 15]);
        Logs::resume(&run, &config(), course(15, 40)).unwrap();
        assert_eq!(steps_in(&run), [10]);
    }

    #[test]
    fn logs_that_do_not_reach_the_checkpoint_or_count_otherwise_are_refused_and_left() {
        let (_folder, run) = run(&[10, 20]);
        let before = fs::read(run.metrics()).unwrap();
        let error = Logs::resume(&run, &config(), course(31, 40)).err().unwrap().to_string();
        assert!(error.contains("ends with epoch 2, and the checkpoint was saved after step 31"), "{error}");
        let error = Logs::resume(&run, &config(), Course { per_epoch: 7, ..course(20, 28) }).err().unwrap().to_string();
        assert!(error.contains("it has step 10 in epoch 1, and an epoch has 7 steps"), "{error}");
        for (path, name) in [(run.lags(), "lags.csv"), (run.depth(), "depth.csv"), (run.spectrum(), "spectrum.csv")] {
            fs::remove_file(path).unwrap();
            let error = Logs::resume(&run, &config(), course(15, 40)).err().unwrap().to_string();
            assert!(error.contains(&format!("{name} is missing")), "{error}");
        }
        assert_eq!(fs::read(run.metrics()).unwrap(), before);
    }

    #[test]
    fn before_the_first_step_there_need_be_none() {
        let (_folder, run) = run(&[]);
        let all = [run.metrics(), run.alignment(), run.spectrum(), run.depth(), run.lags()];
        all.iter().for_each(|path| fs::remove_file(path).unwrap());
        Logs::resume(&run, &config(), course(0, 40)).unwrap();
        assert!(all.iter().all(|path| path.is_file()));
    }

    /// Nothing goes back through time there, and runs from before there was such a log go on.
    #[test]
    fn networks_that_do_not_recur_have_no_lags() {
        let (_folder, run) = run(&[10, 20]);
        fs::remove_file(run.lags()).unwrap();
        let mut config = config();
        config.model = Draft::open("digits").unwrap().finish().unwrap().model;
        let (logs, _) = Logs::resume(&run, &config, course(20, 40)).unwrap();
        assert!(logs.lags.is_none() && !run.lags().exists());
    }
}
