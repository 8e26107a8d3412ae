//! `train`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{ArgGroup, Args};

use super::results::table;
use super::{CliError, DataDirArg, DeviceArg, KernelsArg};
use crate::feedback::{Rank, Ranks};
use crate::plan::Options;
use crate::train::config::{Config, Draft};
use crate::train::opened::preparation_of;
use crate::train::progress::{Progress, tell, warn};
use crate::train::run_dir::{RUNS, RunDir};
use crate::train::session::Session;
use crate::train::trainer::{Outcome, Trainer};

/// Exit code of a run that was interrupted and can be resumed.
pub(super) const STOPPED: u8 = 130;

pub(super) static STOP: AtomicBool = AtomicBool::new(false);

/// Train a network: a preset (digits, fashion-mnist, cifar10-mlp, lenet, vgg-small, ...) or a configuration file.
#[derive(Args)]
#[command(group(ArgGroup::new("run").required(true).args(["preset", "resume"])))]
pub(super) struct TrainArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Run directory to create; by default runs/<data>-<rule>.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Go on with a stopped run; its own configuration applies, but for --max-steps, and its own kernels, but for --no-tune.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["preset", "out", "init", "rule", "p", "q", "rank", "seeds", "epochs", "accumulate", "freeze", "set"])]
    resume: Option<PathBuf>,
    /// Start all replicas from these weights.
    #[arg(long, value_name = "FILE.safetensors")]
    init: Option<PathBuf>,
    /// Print at the end how long each operation of a training step takes; results do not change.
    #[arg(long)]
    profile: bool,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    kernels: KernelsArg,
    #[command(flatten)]
    data: DataDirArg,
}

/// A configuration and changes to it.
#[derive(Args)]
pub(super) struct ConfigArgs {
    /// Preset name or TOML file.
    #[arg(value_name = "PRESET|CONFIG.toml")]
    pub preset: Option<String>,
    /// backprop, feedback-alignment, direct-feedback-alignment, normative, local, fixed, or P's and Q's rule as in oja+hebbian, with
    /// direct: before it for errors from the output, or @layers.3 behind it for that layer's error only; or ldfa with --p and --q.
    #[arg(long)]
    rule: Option<String>,
    /// How P learns: fixed, normative, oja or kolen-pollack.
    #[arg(long, value_name = "RULE")]
    p: Option<String>,
    /// How Q learns: fixed, normative or hebbian.
    #[arg(long, value_name = "RULE")]
    q: Option<String>,
    /// Rank of the error, a number or a part of each layer's width, or several to be trained side by side: 4,10,n/8.
    #[arg(long, value_name = "R[,R...]", value_delimiter = ',')]
    rank: Vec<Rank>,
    /// Networks for every rank, differing in their seeds.
    #[arg(long, value_name = "N")]
    seeds: Option<u32>,
    /// Passes over the training set.
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Compute every batch in so many micro-batches, one after the other: less memory, the same step but for batch norm.
    #[arg(long, value_name = "N")]
    accumulate: Option<u32>,
    /// Layers that keep their random first values, such as layers.3, or blocks for all residual ones: what the rest learns on top of
    /// them tells a trained deep network from a good readout.
    #[arg(long, value_name = "LAYER[,LAYER...]", value_delimiter = ',')]
    freeze: Vec<String>,
    /// Stop after so many steps.
    #[arg(long, value_name = "N")]
    max_steps: Option<u32>,
    /// Any other setting, such as optimizer.lr=1e-3 (repeatable); an empty value leaves a known setting out.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

/// Key and value of a `--set`.
pub(super) fn setting(text: &str) -> Result<(&str, &str), CliError> {
    let Some((key, value)) = text.split_once('=') else {
        let message = format!("--set {text}: use --set section.key=value, such as --set optimizer.lr=1e-3");
        return Err(CliError::Message(message));
    };
    Ok((key.trim(), value.trim()))
}

/// The first Ctrl-C stops after the step; the second ends the process as usual, as does the first where the system does not let it
/// be caught.
pub(super) fn catch_interrupts() {
    let handler = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(STOPPED));
        }
    });
    if let Err(error) = handler {
        warn(format!(
            "cannot catch Ctrl-C ({error}): it ends the process without saving; what the last epoch has saved stays"
        ));
    }
}

impl ConfigArgs {
    /// The configuration with all changes.
    pub(super) fn config(&self) -> Result<Config, CliError> {
        let preset = self.preset.as_deref().unwrap_or_default();
        let mut draft = Draft::open(preset)?;
        if let Some(rule) = &self.rule {
            draft.by(format!("--rule {rule}"), |draft| draft.set_rule(rule))?;
        }
        let text = |value: &Option<String>| value.as_ref().map(|text| (text.clone(), format!("\"{text}\"")));
        let number = |value: Option<u32>| value.map(|number| (number.to_string(), number.to_string()));
        let ranks = match self.rank.as_slice() {
            [] => None,
            [rank] => Some(Ranks::One(*rank)),
            ranks => Some(Ranks::Several(ranks.to_vec())),
        };
        let ranks = ranks.map(|ranks| {
            let typed = ranks.list().iter().map(Rank::to_string).collect::<Vec<_>>().join(",");
            // The part of a document that serde writes is the value itself.
            (typed, toml::Value::try_from(ranks).map_or_else(|e| e.to_string(), |value| value.to_string()))
        });
        let changes = [
            ("--p", "feedback.p", text(&self.p)),
            ("--q", "feedback.q", text(&self.q)),
            ("--rank", "feedback.rank", ranks),
            ("--seeds", "train.seeds", number(self.seeds)),
            ("--epochs", "train.epochs", number(self.epochs)),
            ("--accumulate", "train.accumulate", number(self.accumulate)),
            ("--max-steps", "train.max_steps", number(self.max_steps)),
        ];
        let frozen = (!self.freeze.is_empty()).then(|| {
            let list = toml::Value::from(self.freeze.clone());
            (self.freeze.join(","), list.to_string())
        });
        for (option, key, value) in changes.into_iter().chain([("--freeze", "model.freeze", frozen)]) {
            if let Some((typed, value)) = value {
                draft.by(format!("{option} {typed}"), |draft| draft.set(key, &value))?;
            }
        }
        for setting in &self.set {
            let (key, value) = self::setting(setting)?;
            draft.by(format!("--set {setting}"), |draft| draft.set(key, value))?;
        }
        draft.name_after(preset);
        Ok(draft.finish()?)
    }
}

impl TrainArgs {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let mut trainer = match &self.resume {
            Some(path) => self.resume(path)?,
            None => self.start()?,
        };
        let path = trainer.path().to_owned();
        tell(format!("run directory {}", path.display()));
        catch_interrupts();
        match trainer.run()? {
            Outcome::Finished(summary) => {
                tell(table(&[(&summary.rule, &summary)]));
                tell(format!(
                    "test accuracy is the last epoch's; curves, metrics and weights are in {}",
                    path.display()
                ));
                if self.profile {
                    tell(trainer.profile()?.trim_end());
                }
                Ok(ExitCode::SUCCESS)
            }
            Outcome::Stopped { step } => {
                let path = path.display();
                tell(format!("stopped after step {step}; go on with: ldfa-gpu train --resume {path}"));
                Ok(ExitCode::from(STOPPED))
            }
        }
    }

    fn start(&self) -> Result<Trainer<'static>, CliError> {
        let config = self.config.config()?;
        let data = config.dataset(&self.data.search())?;
        let label = config.label();
        let preparation = self.kernels.preparation();
        let mut session = Session::prepared(config, &data, &self.device.device, Options::default(), &preparation)?;
        if let Some(path) = &self.init {
            session.load_weights(path)?;
        }
        let run = match &self.out {
            Some(path) => RunDir::create(path)?,
            None => RunDir::create_under(Path::new(RUNS), &label)?,
        };
        let progress = Box::new(Progress::of(&session));
        Ok(Trainer::start(session, run, &STOP, progress)?)
    }

    fn resume(&self, path: &Path) -> Result<Trainer<'static>, CliError> {
        let run = RunDir::resume(path)?;
        let mut draft = Draft::read(&run.config())?;
        if let Some(steps) = self.config.max_steps {
            draft.by(format!("--max-steps {steps}"), |draft| draft.set("train.max_steps", &steps.to_string()))?;
        }
        let config = draft.finish()?;
        let data = config.dataset(&self.data.search())?;
        let preparation = if self.kernels.no_tune { self.kernels.preparation() } else { preparation_of(&run)? };
        let session = Session::prepared(config, &data, &self.device.device, Options::default(), &preparation)?;
        let progress = Box::new(Progress::of(&session));
        let trainer = Trainer::resume(session, run, &STOP, progress)?;
        if self.config.max_steps.is_some() {
            trainer.record_config()?;
        }
        if self.kernels.no_tune {
            trainer.record_kernels()?;
        }
        Ok(trainer)
    }
}
