//! The loop over epochs and what it leaves in the run directory.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::TrainError;
use super::checkpoint::{Best, Checkpoint, CheckpointMeta};
use super::curves::{Curve, draw_curves};
use super::metrics::{AlignmentRow, Log, MetricsRow, SpectrumRow};
use super::progress::{EpochReport, Progress};
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
    progress: Progress,
    metrics: Log<MetricsRow>,
    alignments: Log<AlignmentRow>,
    spectra: Log<SpectrumRow>,
    rows: Vec<MetricsRow>,
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
    pub fn start(session: Session, run: RunDir, stop: &'a AtomicBool) -> Result<Trainer<'a>, TrainError> {
        let text = session.config.to_toml()?;
        super::files::write_atomically(&run.config(), |file| std::io::Write::write_all(file, text.as_bytes()))?;
        let kernels = session.kernels.to_text(&session.device);
        super::files::write_atomically(&run.kernels(), |file| std::io::Write::write_all(file, kernels.as_bytes()))?;
        let metrics = Log::create(&run.metrics())?;
        let alignments = Log::create(&run.alignment())?;
        let spectra = Log::create(&run.spectrum())?;
        Ok(Trainer::assemble(session, run, stop, (metrics, alignments, spectra)))
    }

    /// A run from its last checkpoint, from its best one if that is gone, or from its beginning if it was stopped before
    /// the first.
    ///
    /// # Errors
    /// If the checkpoint is damaged, lost or belongs to another configuration, or the directory cannot be written.
    pub fn resume(mut session: Session, run: RunDir, stop: &'a AtomicBool) -> Result<Trainer<'a>, TrainError> {
        let (last, best) = (run.last_checkpoint(), run.best_checkpoint());
        let mut checkpoint = load_if_there(&last)?.map(|checkpoint| (last.clone(), checkpoint));
        if checkpoint.is_none() {
            checkpoint = load_if_there(&best)?.map(|checkpoint| (best.clone(), checkpoint));
            match &checkpoint {
                Some(_) => {
                    let warning = format!("{} is missing: going on from {}", last.display(), best.display());
                    session.warnings.push(warning);
                }
                None => refuse_to_forget(&run)?,
            }
        }
        if let Some((path, checkpoint)) = &checkpoint {
            checkpoint.check_config(path, &session.hash)?;
            session.restore(checkpoint, path)?;
        }
        let (step, seconds) = checkpoint.map_or((0, 0.0), |(_, c)| (c.meta.step as u32, c.meta.seconds));
        let metrics = Log::resume(&run.metrics(), step)?;
        let alignments = Log::resume(&run.alignment(), step)?;
        let rows = Log::<MetricsRow>::read(&run.metrics())?;
        let spectra = Log::resume(&run.spectrum(), step)?;
        let mut trainer = Trainer::assemble(session, run, stop, (metrics, alignments, spectra));
        trainer.progress = trainer.progress.resumed_at(u64::from(step));
        trainer.step = step;
        trainer.seconds_before = seconds;
        trainer.rows = rows;
        Ok(trainer)
    }

    fn assemble(
        session: Session,
        run: RunDir,
        stop: &'a AtomicBool,
        (metrics, alignments, spectra): (Log<MetricsRow>, Log<AlignmentRow>, Log<SpectrumRow>),
    ) -> Trainer<'a> {
        let train = &session.config.train;
        let images = u64::from(train.batch) * session.replicas.len() as u64;
        Trainer {
            progress: Progress::new(
                u64::from(last_step(&session)),
                u64::from(session.horizon.steps_per_epoch),
                images,
                train.epochs,
            ),
            session,
            run,
            stop,
            metrics,
            alignments,
            spectra,
            rows: Vec::new(),
            step: 0,
            seconds_before: 0.0,
            started: Instant::now(),
            saved: Instant::now(),
            began: false,
            drift: Vec::new(),
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
            self.progress.warn(&warning);
        }
        let last = last_step(&self.session);
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
                self.save(false)?;
                self.progress.finish();
                return Ok(Outcome::Stopped { step: self.step });
            }
            // Reading waits for the device, so that the time is the computation's.
            self.check_fault()?;
            let rate = f64::from((self.step - from) * self.session.config.train.batch)
                * self.session.replicas.len() as f64
                / began.elapsed().as_secs_f64();
            self.close_epoch(rate)?;
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
            if self.progress.wants_update() {
                self.check_fault()?;
                let metrics = self.session.metrics()?;
                let mean = |pick: fn(&super::session::Metrics) -> f64| {
                    metrics.iter().map(pick).sum::<f64>() / metrics.len() as f64
                };
                self.progress.update(u64::from(self.step), mean(|m| m.loss), mean(|m| m.accuracy));
            }
            if self.saved.elapsed() > CHECKPOINT_INTERVAL {
                self.check_fault()?;
                self.save(false)?;
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
        self.metrics.append(&rows)?;
        let is_best = mean_accuracy(&rows) > self.best_mean();
        self.rows.extend(rows.iter().cloned());
        self.log_diagnosis(epoch)?;
        self.save(is_best)?;
        let rate = self.session.step_state(self.step.saturating_sub(1)).replicas[0].rate[0];
        self.progress.epoch_done(&EpochReport::of(&rows, self.session.config.train.epochs, images_per_second, rate));
        Ok(())
    }

    /// The best mean test accuracy of an earlier epoch.
    fn best_mean(&self) -> f64 {
        let steps = self.rows.chunk_by(|a, b| a.step == b.step);
        steps.map(mean_accuracy).fold(f64::NEG_INFINITY, f64::max)
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
        self.alignments.append(&rows)?;
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
        self.spectra.append(&spectra)?;
        self.warn_of_drift(&rows);
        Ok(())
    }

    /// The Oja rule keeps the rows of P orthonormal; if they move away from it, its learning rate is too high.
    fn warn_of_drift(&mut self, rows: &[AlignmentRow]) {
        if self.session.config.feedback.p_rule() != PRule::Oja {
            return;
        }
        for row in rows {
            let layer = self.session.network.linear.iter().find(|layer| layer.name == row.layer);
            let rank = layer.and_then(|layer| layer.ranks.get(row.replica as usize)).copied();
            let (Some(error), Some(rank)) = (row.orthonormality_error, rank.map(f64::from)) else { continue };
            let name = format!("replica {} {}", row.replica, row.layer);
            match self.drift.iter_mut().find(|(known, _)| *known == name) {
                Some((_, before)) => {
                    if error > DRIFT * *before && error > rank.sqrt() {
                        self.progress.warn(&format!(
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

    fn save(&mut self, is_best: bool) -> Result<(), TrainError> {
        let replicas = summary::replicas(&self.rows);
        let best = replicas.iter().map(|r| Best { accuracy: r.best_test_accuracy, epoch: r.best_epoch }).collect();
        let checkpoint = Checkpoint {
            meta: CheckpointMeta {
                program_version: env!("CARGO_PKG_VERSION").into(),
                config_hash: self.session.hash.clone(),
                step: u64::from(self.step),
                epoch: self.step / self.session.horizon.steps_per_epoch,
                best,
                seconds: self.seconds(),
            },
            tensors: self.session.save()?,
        };
        if is_best {
            checkpoint.save(&self.run.best_checkpoint())?;
        }
        checkpoint.save(&self.run.last_checkpoint())?;
        self.saved = Instant::now();
        Ok(())
    }

    fn finish(&mut self) -> Result<Outcome, TrainError> {
        let seconds = self.seconds();
        let Trainer { session, run, rows, step, progress, .. } = self;
        progress.finish();
        let plan = session.plan();
        let replicas = summary::replicas(rows);
        let flops = |role: Role| plan.cost(Phase::Train, Some(role)).flops / u64::from(plan.replicas());
        let summary = Summary {
            rule: session.config.rule().to_string(),
            preset: session.config.name.clone().unwrap_or_default(),
            adapter: session.device.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            config_hash: session.hash.clone(),
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
        draw_curves(&run.curves(), &session.config.label(), &Curve::from_metrics(&summary.rule, rows))?;
        Ok(Outcome::Finished(Box::new(summary)))
    }
}

/// The measured kernels that a run began with: another choice would round differently. A run without the file began
/// with the defaults.
///
/// # Errors
/// If the file cannot be read, is damaged, or is of another version of the program.
pub fn recorded_kernels(run: &RunDir) -> Result<Tuned, TrainError> {
    let path = run.kernels();
    match std::fs::read(&path) {
        Ok(bytes) => match Tuned::from_text(&String::from_utf8_lossy(&bytes)) {
            Ok((_, tuned)) => Ok(tuned),
            Err(source) => Err(TrainError::Kernels { path, source }),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Tuned::default()),
        Err(error) => Err(super::files::FileError::at(&path, "read")(error).into()),
    }
}

fn load_if_there(path: &Path) -> Result<Option<Checkpoint>, TrainError> {
    match Checkpoint::load(path) {
        Ok(checkpoint) => Ok(Some(checkpoint)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A run without checkpoints was stopped in its first epoch, or has lost them: to begin anew would then drop its metrics.
fn refuse_to_forget(run: &RunDir) -> Result<(), TrainError> {
    if !run.metrics().exists() {
        return Ok(());
    }
    let rows = Log::<MetricsRow>::read(&run.metrics())?;
    match (rows.first(), rows.last()) {
        (Some(first), Some(last)) if first.step != last.step => {
            Err(TrainError::LostCheckpoint { path: run.last_checkpoint(), step: last.step })
        }
        _ => Ok(()),
    }
}

fn mean_accuracy(rows: &[MetricsRow]) -> f64 {
    rows.iter().map(|row| row.test_accuracy).sum::<f64>() / rows.len().max(1) as f64
}

/// Steps of the whole run.
fn last_step(session: &Session) -> u32 {
    let all = session.horizon.steps_per_epoch.saturating_mul(session.horizon.epochs);
    session.config.train.max_steps.map_or(all, |most| most.min(all))
}
