//! The loop over epochs and what it leaves in the run directory.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::TrainError;
use super::checkpoint::{Checkpoint, CheckpointError, CheckpointMeta};
use super::config::Config;
use super::files::{self, write_atomically};
use super::logs::{Course, Logs};
use super::metrics::{AlignmentRow, DepthRow, LagRow, Log, LogError, MetricsRow, SpectrumRow};
use super::observer::{EpochReport, Finished, Observer};
use super::run_dir::RunDir;
use super::session::Session;
use super::summary::{self, Summary};
use crate::feedback::PRule;
use crate::ops::{Phase, Role};
use crate::plan::{Tuned, time_table};

/// Longest time that a kill can cost; epochs end with a checkpoint anyway.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(120);

/// Growth of ||P P^T - I|| from one epoch to the next that counts as drifting, past the norm of I itself.
const DRIFT: f64 = 1.5;

/// Rounds of a profile.
const PROFILE_ROUNDS: usize = 9;

/// How a run ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// All steps are done.
    Finished(Box<Summary>),
    /// Asked to stop; a checkpoint of that step is saved.
    Stopped {
        /// Steps done.
        step: u32,
    },
}

/// A training in its run directory.
pub struct Trainer<'a> {
    session: Session,
    run: RunDir,
    stop: &'a AtomicBool,
    observer: Box<dyn Observer + 'a>,
    logs: Logs,
    /// The metrics so far.
    rows: Vec<MetricsRow>,
    /// Steps completed by each network as `best.safetensors` holds it; none without the file.
    held: Vec<u64>,
    step: u32,
    /// Time spent before this process took over.
    seconds_before: f64,
    started: Instant,
    saved: Instant,
    /// Whether this process has taken a step.
    began: bool,
    drift: Vec<(String, f64)>,
}

impl<'a> Trainer<'a> {
    /// A run from its beginning; writes the resolved configuration and the kernels in use.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn start(
        mut session: Session,
        run: RunDir,
        stop: &'a AtomicBool,
        observer: Box<dyn Observer + 'a>,
    ) -> Result<Trainer<'a>, TrainError> {
        write_kernels(&session, &run)?;
        if session.has_given_weights {
            // Nothing else tells how to begin again.
            checkpoint(&mut session, 0, 0.0)?.save(&run.last_checkpoint())?;
        }
        // With this file the folder is a run.
        write_config(&session, &run)?;
        let logs = Logs::create(&run, &session.config)?;
        Ok(Trainer::assemble(session, run, stop, observer, logs))
    }

    /// A run from its last checkpoint, or from its beginning if it was stopped before the first.
    ///
    /// # Errors
    /// If a file of the run is damaged, lost or of another run, or the directory cannot be written.
    pub fn resume(
        mut session: Session,
        run: RunDir,
        stop: &'a AtomicBool,
        observer: Box<dyn Observer + 'a>,
    ) -> Result<Trainer<'a>, TrainError> {
        let path = run.last_checkpoint();
        let Some(checkpoint) = load_if_there(&path)? else {
            refuse_to_forget(&run, &session.config)?;
            return Trainer::start(session, run, stop, observer);
        };
        checkpoint.check_origin(&path, &session.origin, &session.config.data.name)?;
        session.restore(&checkpoint, &path)?;
        let step = checkpoint.meta.step as u32;
        if let Some(most) = session.config.train.max_steps.filter(|&most| most < step) {
            return Err(TrainError::Past { most, step });
        }
        let course = Course { step, last: session.last_step(), per_epoch: session.horizon.steps_per_epoch };
        let best = load_if_there(&run.best_checkpoint())?;
        if let Some(best) = &best {
            best.check_origin(&run.best_checkpoint(), &session.origin, &session.config.data.name)?;
        }
        let (logs, rows) = Logs::resume(&run, &session.config, course)?;
        let mut trainer = Trainer::assemble(session, run, stop, observer, logs);
        trainer.observer.resumed_at(u64::from(step));
        trainer.step = step;
        trainer.seconds_before = checkpoint.meta.seconds;
        trainer.rows = rows;
        trainer.held = best.map_or(Vec::new(), |best| best.meta.steps);
        if step < course.last {
            trainer.go_past_the_end()?;
        }
        trainer.keep_best(&checkpoint)?;
        trainer.warn_of_lost_best();
        Ok(trainer)
    }

    fn assemble(
        session: Session,
        run: RunDir,
        stop: &'a AtomicBool,
        observer: Box<dyn Observer + 'a>,
        logs: Logs,
    ) -> Trainer<'a> {
        Trainer {
            session,
            observer,
            run,
            stop,
            logs,
            rows: Vec::new(),
            held: Vec::new(),
            step: 0,
            seconds_before: 0.0,
            started: Instant::now(),
            saved: Instant::now(),
            began: false,
            drift: Vec::new(),
        }
    }

    /// Writes the configuration down as it is now: where a run ends may change.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn record_config(&self) -> Result<(), TrainError> {
        write_config(&self.session, &self.run)
    }

    /// Writes down which kernels the run goes on with.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn record_kernels(&self) -> Result<(), TrainError> {
        write_kernels(&self.session, &self.run)
    }

    /// What was written at the run's end is void if it goes on: summary and curves, and the best of networks in an epoch that was cut
    /// short, which is completed now.
    fn go_past_the_end(&mut self) -> Result<(), TrainError> {
        let (best, before) = (self.run.best_checkpoint(), self.run.best_before_the_cut());
        let is_cut = !self.step.is_multiple_of(self.session.horizon.steps_per_epoch);
        if is_cut && self.held.contains(&u64::from(self.step)) {
            self.held = match load_if_there(&before)? {
                Some(earlier) => {
                    earlier.check_origin(&before, &self.session.origin, &self.session.config.data.name)?;
                    files::rename(&before, &best)?;
                    earlier.meta.steps
                }
                None => {
                    files::remove(&best)?;
                    Vec::new()
                }
            };
        }
        files::remove(&self.run.curves())?;
        Ok(files::remove(&self.run.summary())?)
    }

    /// Brings `best.safetensors` up to date with a checkpoint of now.
    fn keep_best(&mut self, now: &Checkpoint) -> Result<(), TrainError> {
        let step = u64::from(self.step);
        let is_held = |network: usize| self.held.get(network) == Some(&step);
        let best = summary::best(&self.rows);
        let better: Vec<usize> =
            best.iter().map(|row| row.replica as usize).filter(|&n| best[n].step == self.step && !is_held(n)).collect();
        if better.is_empty() {
            return Ok(());
        }
        let path = self.run.best_checkpoint();
        let is_cut = !self.step.is_multiple_of(self.session.horizon.steps_per_epoch);
        let is_part = better.len() < best.len();
        let before = if (is_part || is_cut) && !self.held.is_empty() { load_if_there(&path)? } else { None };
        if let Some(before) = before.as_ref().filter(|_| is_cut) {
            before.save(&self.run.best_before_the_cut())?;
        }
        match before.filter(|_| is_part) {
            Some(mut kept) => {
                kept.take(&better, now).map_err(|tensor| {
                    let what =
                        "has another shape than in last.safetensors; put an intact copy back, or remove the file";
                    CheckpointError::View { path: path.clone(), tensor, what: what.to_owned() }
                })?;
                kept.save(&path)?;
                self.held = kept.meta.steps;
            }
            None => {
                now.save(&path)?;
                self.held.clone_from(&now.meta.steps);
            }
        }
        Ok(())
    }

    /// The file may have been lost, or be of a version that kept the best epoch of the networks' mean.
    fn warn_of_lost_best(&mut self) {
        let lost = summary::best(&self.rows)
            .into_iter()
            .filter(|row| self.held.get(row.replica as usize) != Some(&u64::from(row.step)));
        let lost: Vec<String> = lost.map(|row| row.replica.to_string()).collect();
        if !lost.is_empty() {
            let path = self.run.best_checkpoint();
            self.session.warnings.push(format!(
                "{} does not hold the best epoch so far of network {}: put a copy of it back; else --best has to wait for better ones",
                path.display(),
                lost.join(", ")
            ));
        }
    }

    /// The run directory.
    pub fn path(&self) -> &Path {
        self.run.path()
    }

    /// Time of every operation of a training step, by layer and role, as text; training goes on unchanged afterwards.
    ///
    /// # Errors
    /// If the device fails.
    pub fn profile(&mut self) -> Result<String, TrainError> {
        let step = self.session.step_state(self.step.saturating_sub(1));
        let times = self.session.executor().profile(Phase::Train, &step, PROFILE_ROUNDS)?;
        let clock = times.clock.name();
        let table = time_table(self.session.plan(), Phase::Train, &times);
        Ok(format!("a training step on {}, {clock}, medians of {PROFILE_ROUNDS} rounds\n{table}", self.session.device))
    }

    /// Trains to the end, or until `stop` is set.
    ///
    /// # Errors
    /// If the device or a file fails, or a loss is not finite; the last good checkpoint stays.
    pub fn run(&mut self) -> Result<Outcome, TrainError> {
        for warning in self.session.warnings.clone() {
            self.observer.warn(&warning);
        }
        let last = self.session.last_step();
        let per_epoch = self.session.horizon.steps_per_epoch;
        while self.step < last {
            let epoch = self.step / per_epoch;
            self.session.shuffle(epoch)?;
            if self.step.is_multiple_of(per_epoch) {
                self.session.clear_metrics()?;
            }
            let (from, began) = (self.step, Instant::now());
            let end = last.min((epoch + 1) * per_epoch);
            if !self.train_until(end)? {
                self.check_fault()?;
                self.save()?;
                self.observer.stopped();
                return Ok(Outcome::Stopped { step: self.step });
            }
            // Reading waits for the device, so that the time is the computation's.
            self.check_fault()?;
            let rate = f64::from((self.step - from) * self.session.config.train.batch)
                * self.session.replicas.len() as f64
                / began.elapsed().as_secs_f64();
            self.close_epoch(rate)?;
        }
        if self.rows.last().is_none_or(|row| row.step != self.step) {
            // Stopped within an epoch, and now the run ends there.
            self.session.shuffle(self.step.saturating_sub(1) / per_epoch)?;
            self.close_epoch(0.0)?;
        }
        self.finish()
    }

    /// Steps up to `end`; false if asked to stop before.
    fn train_until(&mut self, end: u32) -> Result<bool, TrainError> {
        let every = self.session.config.feedback.refactorise_every;
        while self.step < end {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let boundary = every.map_or(end, |every| (self.step / every + 1) * every);
            let mut next = end.min(boundary).min(self.step + self.session.batch());
            // Who wants to see when the first step is done waits for it alone; how many steps go together enters no
            // result.
            let is_watched = !self.began && tracing::enabled!(tracing::Level::DEBUG);
            if is_watched {
                next = self.step + 1;
            }
            self.session.train(self.step..next)?;
            self.step = next;
            if is_watched {
                self.check_fault()?;
                tracing::debug!("first step done");
            }
            self.began = true;
            if every.is_some_and(|every| self.step.is_multiple_of(every)) {
                self.session.refactorise()?;
            }
            if self.observer.wants_update() {
                self.check_fault()?;
                let metrics = self.session.metrics()?;
                let networks = metrics.iter().zip(&self.session.replicas);
                let so_far: Vec<_> = networks.map(|(m, (rank, _))| (*rank, m.loss, m.accuracy)).collect();
                self.observer.update(u64::from(self.step), &so_far);
            }
            if self.saved.elapsed() > CHECKPOINT_INTERVAL {
                self.check_fault()?;
                self.save()?;
            }
        }
        Ok(true)
    }

    /// Ends the run if a loss was not finite, before anything of it is saved.
    fn check_fault(&mut self) -> Result<(), TrainError> {
        match self.session.fault()? {
            None => Ok(()),
            Some((replica, step)) => Err(self.session.explain_fault(replica, step)?),
        }
    }

    /// Metrics, alignment and a checkpoint at the end of an epoch (or of the run within one).
    fn close_epoch(&mut self, images_per_second: f64) -> Result<(), TrainError> {
        let train = self.session.metrics()?;
        let test = self.session.evaluate()?;
        let epoch = self.step.div_ceil(self.session.horizon.steps_per_epoch);
        let seconds = self.seconds();
        let rows: Vec<MetricsRow> = self
            .session
            .replicas
            .iter()
            .enumerate()
            .map(|(replica, &(rank, seed))| MetricsRow {
                epoch,
                step: self.step,
                replica: replica as u32,
                seed,
                rank,
                train_loss: train[replica].loss,
                train_accuracy: train[replica].accuracy,
                test_loss: test[replica].loss,
                test_accuracy: test[replica].accuracy,
                seconds,
            })
            .collect();
        self.logs.metrics.append(&rows)?;
        self.rows.extend(rows.iter().cloned());
        self.log_diagnosis(epoch)?;
        let now = self.save()?;
        self.keep_best(&now)?;
        let rate = self.session.step_state(self.step.saturating_sub(1)).replicas[0].rate[0];
        self.observer.epoch_done(&EpochReport::of(&rows, self.session.config.train.epochs, images_per_second, rate));
        Ok(())
    }

    fn log_diagnosis(&mut self, epoch: u32) -> Result<(), TrainError> {
        let found = self.session.diagnosis(self.step.saturating_sub(1))?;
        let rows: Vec<AlignmentRow> = found
            .alignments
            .into_iter()
            .map(|(replica, layer, alignment)| {
                let (rank, seed) = self.session.replicas[replica];
                AlignmentRow {
                    epoch,
                    step: self.step,
                    replica: replica as u32,
                    seed,
                    rank,
                    layer,
                    angle_degrees: alignment.angle_degrees,
                    norm_ratio: alignment.norm_ratio,
                    captured_energy: alignment.captured_energy,
                    orthonormality_error: alignment.orthonormality_error,
                }
            })
            .collect();
        self.logs.alignments.append(&rows)?;
        let spectra: Vec<SpectrumRow> = found
            .spectra
            .into_iter()
            .map(|(replica, layer, spectrum)| {
                let (rank, seed) = self.session.replicas[replica];
                let shares: Vec<String> = spectrum.shares.iter().map(|share| format!("{share:.3e}")).collect();
                SpectrumRow {
                    epoch,
                    step: self.step,
                    replica: replica as u32,
                    seed,
                    rank,
                    layer,
                    variance: spectrum.variance,
                    effective_dimension: spectrum.effective_dimension,
                    shares: shares.join(" "),
                }
            })
            .collect();
        self.logs.spectra.append(&spectra)?;
        let depths: Vec<DepthRow> = found
            .depths
            .into_iter()
            .map(|(replica, layer, depth)| {
                let (rank, seed) = self.session.replicas[replica];
                DepthRow {
                    epoch,
                    step: self.step,
                    replica: replica as u32,
                    seed,
                    rank,
                    layer,
                    growth: depth.growth,
                    long_share: depth.long_share,
                    error_rms: depth.error_rms,
                    gradient_cosine: depth.gradient_cosine,
                }
            })
            .collect();
        self.logs.depths.append(&depths)?;
        let lags: Vec<LagRow> = found
            .lags
            .into_iter()
            .map(|(replica, layer, lag)| {
                let (rank, seed) = self.session.replicas[replica];
                LagRow {
                    epoch,
                    step: self.step,
                    replica: replica as u32,
                    seed,
                    rank,
                    layer,
                    lag: lag.lag,
                    error_rms: lag.error_rms,
                    effective_dimension: lag.effective_dimension,
                }
            })
            .collect();
        self.logs.lags.as_mut().map_or(Ok(()), |log| log.append(&lags))?;
        self.warn_of_drift(&rows);
        Ok(())
    }

    /// The Oja rule keeps the rows of P orthonormal; if they move away from it, its learning rate is too high.
    fn warn_of_drift(&mut self, rows: &[AlignmentRow]) {
        if self.session.config.feedback.p_rule() != PRule::Oja {
            return;
        }
        for row in rows {
            let weight = self.session.network.weights.iter().find(|weight| weight.name == row.layer);
            let rank = weight.and_then(|weight| weight.ranks().get(row.replica as usize)).copied();
            let (Some(error), Some(rank)) = (row.orthonormality_error, rank.map(f64::from)) else { continue };
            let name = format!("replica {} {}", row.replica, row.layer);
            match self.drift.iter_mut().find(|(known, _)| *known == name) {
                Some((_, before)) => {
                    if error > DRIFT * *before && error > rank.sqrt() {
                        self.observer.warn(&format!(
                            "P of {name} drifts from orthonormal: |PP^T - I| went from {before:.2} to {error:.2}; lower \
                             feedback_optimizer.lr"
                        ));
                    }
                    *before = error;
                }
                None => self.drift.push((name, error)),
            }
        }
    }

    fn seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }

    fn save(&mut self) -> Result<Checkpoint, TrainError> {
        let seconds = self.seconds();
        let checkpoint = checkpoint(&mut self.session, self.step, seconds)?;
        checkpoint.save(&self.run.last_checkpoint())?;
        self.saved = Instant::now();
        Ok(checkpoint)
    }

    fn finish(&mut self) -> Result<Outcome, TrainError> {
        let seconds = self.seconds();
        let Trainer { session, run, rows, step, observer, .. } = self;
        observer.stopped();
        let plan = session.plan();
        let replicas = summary::replicas(rows);
        let flops = |role: Role| plan.cost(Phase::Train, Some(role)).flops / u64::from(plan.replicas());
        let summary = Summary {
            rule: session.config.rule().to_string(),
            preset: session.config.name.clone().unwrap_or_default(),
            adapter: session.device.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            config_hash: session.origin.together.clone(),
            steps: u64::from(*step),
            epochs: *step / session.horizon.steps_per_epoch,
            seconds,
            test_images: Some(session.test_images()),
            parameters: session.network.parameters(),
            flops_per_step: Role::ALL.into_iter().map(|role| (role.name().replace('-', "_"), flops(role))).collect(),
            by_rank: summary::by_rank(&replicas),
            replicas,
        };
        summary.write(&run.summary())?;
        let finished = Finished { run, config: &session.config, summary: &summary, rows };
        observer.finished(&finished).map_err(TrainError::Observer)?;
        Ok(Outcome::Finished(Box::new(summary)))
    }
}

/// The state of a training after `step` steps.
fn checkpoint(session: &mut Session, step: u32, seconds: f64) -> Result<Checkpoint, TrainError> {
    let step = u64::from(step);
    let meta = CheckpointMeta {
        program_version: env!("CARGO_PKG_VERSION").into(),
        origin: session.origin.clone(),
        step,
        steps: vec![step; session.replicas.len()],
        seconds,
    };
    Ok(Checkpoint { meta, tensors: session.save()? })
}

fn write_config(session: &Session, run: &RunDir) -> Result<(), TrainError> {
    let text = session.config.to_toml()?;
    Ok(write_atomically(&run.config(), |file| file.write_all(text.as_bytes()))?)
}

fn write_kernels(session: &Session, run: &RunDir) -> Result<(), TrainError> {
    let text = session.kernels.to_text(&session.device);
    Ok(write_atomically(&run.kernels(), |file| file.write_all(text.as_bytes()))?)
}

/// The measured kernels that a run began with: another choice would round differently.
///
/// # Errors
/// If the file is missing, cannot be read, is damaged, or is of another version of the program.
pub fn recorded_kernels(run: &RunDir) -> Result<Tuned, TrainError> {
    let path = run.kernels();
    match files::read(&path, files::MOST) {
        Ok(bytes) => match Tuned::from_text(&String::from_utf8_lossy(&bytes)) {
            Ok((_, tuned)) => Ok(tuned),
            Err(source) => Err(TrainError::Kernels { path, source }),
        },
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => Err(TrainError::NoKernels(path)),
        Err(error) => Err(error.into()),
    }
}

fn load_if_there(path: &Path) -> Result<Option<Checkpoint>, TrainError> {
    match Checkpoint::load(path) {
        Ok(checkpoint) => Ok(Some(checkpoint)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A run without its last checkpoint was stopped in its first epoch, or has lost it: to begin anew would then drop its metrics, and
/// to go on from the best one would mix networks of different epochs.
pub(super) fn refuse_to_forget(run: &RunDir, config: &Config) -> Result<(), TrainError> {
    let lost = |evidence| Err(TrainError::LostCheckpoint { path: run.last_checkpoint(), evidence });
    let rows = match Log::<MetricsRow>::read(&run.metrics(), config) {
        Err(LogError::Missing { .. }) => Vec::new(),
        read => read?,
    };
    match (rows.first(), rows.last()) {
        (Some(first), Some(last)) if first.step != last.step => {
            lost(format!("metrics.csv goes up to step {}", last.step))
        }
        _ if run.best_checkpoint().exists() => lost(
            "there is best.safetensors, which holds every network at its own best epoch: none to go on from".to_owned(),
        ),
        _ => Ok(()),
    }
}
