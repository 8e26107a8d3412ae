//! `sweep`.

use crate::words::counted;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use clap::Args;

use super::train::{STOP, STOPPED, catch_interrupts};
use super::{CliError, DataDirArg, DeviceArg, KernelsArg, say};
use crate::experiment::sweep::{
    Measure, Results, Setup, Sweep, draw_accuracies, draw_compute, least_computation, open, reaches, table,
    write_reaches,
};
use crate::feedback::{Rank, RuleName};
use crate::train::machine::profile_of;
use crate::train::progress::tell;

/// Train rules x ranks x seeds (x classes), and show accuracy against rank; the same command goes on with a stopped sweep.
#[derive(Args)]
pub(super) struct SweepArgs {
    /// Preset name or TOML file, which may say in a [sweep] section what the options below say.
    #[arg(value_name = "PRESET|CONFIG.toml")]
    config: String,
    /// backprop, feedback-alignment, direct-feedback-alignment, normative, local, fixed, or P's and Q's rule as in
    /// oja+hebbian, with direct: before it for errors from the output, or @layers.3 behind it for that layer's error only.
    #[arg(long, value_name = "RULE[,RULE...]", value_delimiter = ',')]
    rules: Vec<RuleName>,
    /// Ranks of the rules that have one.
    #[arg(long, value_name = "R[,R...]", value_delimiter = ',')]
    ranks: Vec<Rank>,
    /// Networks of each rule and rank.
    #[arg(long, value_name = "N")]
    seeds: Option<u32>,
    /// Learn only the first so many classes, each number in turn.
    #[arg(long, value_name = "N[,N...]", value_delimiter = ',')]
    classes: Vec<u32>,
    /// Passes over the training set.
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Any other setting, such as optimizer.lr=1e-3 (repeatable).
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Most networks trained side by side in one cell.
    #[arg(long, value_name = "N")]
    networks: Option<u32>,
    /// Train only every N-th cell from the K-th on, as one of N processes; `report` on the folder puts them together.
    #[arg(long, value_name = "K/N")]
    cell: Option<Share>,
    #[command(flatten)]
    measure: MeasureArgs,
    /// Folder of the sweep.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    kernels: KernelsArg,
    #[command(flatten)]
    data: DataDirArg,
}

/// What a sweep's networks are judged by.
#[derive(Args, Clone, Copy)]
pub(super) struct MeasureArgs {
    /// Of sweeps: the test accuracy in percent to which computation is counted; by default 95 % of backprop's.
    #[arg(long, value_name = "PERCENT", value_parser = share)]
    target: Option<f64>,
    /// Of sweeps: how many points of test accuracy a rule may be below backprop to count as well.
    #[arg(long, value_name = "POINTS", value_parser = share, default_value = "1")]
    margin: f64,
}

impl MeasureArgs {
    pub(super) fn measure(self) -> Measure {
        Measure { target: self.target, margin: self.margin }
    }
}

/// A percentage as a share, 0 to 1.
fn share(percent: &str) -> Result<f64, String> {
    let number = percent.parse::<f64>().ok().filter(|number| (0.0..=100.0).contains(number));
    number.map(|number| number / 100.0).ok_or_else(|| "use a number from 0 to 100".to_owned())
}

/// The K-th of N.
#[derive(Clone, Copy, Debug)]
struct Share {
    number: usize,
    of: usize,
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Share, String> {
        let parts = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Share { number, of }),
            _ => Err("use K/N with K from 1 to N, such as 2/8".to_owned()),
        }
    }
}

impl SweepArgs {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let (mut draft, mut axes) = open(&self.config)?;
        draft.name_after(&self.config);
        for (option, key, value) in [("--seeds", "train.seeds", self.seeds), ("--epochs", "train.epochs", self.epochs)]
        {
            if let Some(value) = value {
                draft.by(format!("{option} {value}"), |draft| draft.set(key, &value.to_string()))?;
            }
        }
        for setting in &self.set {
            let (key, value) = super::train::setting(setting)?;
            draft.by(format!("--set {setting}"), |draft| draft.set(key, value))?;
        }
        if !self.rules.is_empty() {
            axes.rules.clone_from(&self.rules);
        }
        if !self.ranks.is_empty() {
            axes.ranks.clone_from(&self.ranks);
        }
        if !self.classes.is_empty() {
            axes.classes.clone_from(&self.classes);
        }
        axes.networks = self.networks.or(axes.networks);
        let sweep = Sweep::new(&draft, &axes)?;
        for line in sweep.kept() {
            tell(line);
        }
        let search = self.data.search();
        let costs = sweep.check(&search, &profile_of(&self.device.device)?)?;
        sweep.prepare(&self.out, &costs)?;
        catch_interrupts();
        let preparation = self.kernels.preparation();
        let setup = Setup { device: &self.device.device, search: &search, preparation, stop: &STOP };
        let share = self.cell.unwrap_or(Share { number: 1, of: 1 });
        let own = sweep.cells.iter().enumerate().skip(share.number - 1).step_by(share.of);
        if own.len() == 0 {
            say(format!("nothing to do: the sweep has only {}", counted(sweep.cells.len() as u32, "cell")))?;
            return Ok(ExitCode::SUCCESS);
        }
        for (index, cell) in own {
            tell(format!("cell {} of {}: {}", index + 1, sweep.cells.len(), cell.name));
            if !sweep.train(cell, &self.out, &setup)? {
                tell("stopped; the same command goes on");
                return Ok(ExitCode::from(STOPPED));
            }
        }
        merge(&sweep, &self.out, self.measure.measure())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Puts what there is together: table, results.csv, accuracy.png; compute.csv and compute.png if a target is known.
pub(super) fn merge(sweep: &Sweep, folder: &Path, measure: Measure) -> Result<(), CliError> {
    let results = Results::read(sweep, folder)?;
    if results.rows.is_empty() {
        let message = format!("no cell of the sweep in {} has ended; the `sweep` command goes on", folder.display());
        return Err(CliError::Message(message));
    }
    let (csv, png) = (folder.join("results.csv"), folder.join("accuracy.png"));
    results.write(&csv)?;
    let name = sweep.data();
    draw_accuracies(&png, &format!("{name}: accuracy against the rank of the error"), &results)?;
    say(format!("data: {name}"))?;
    say(super::table(table(&results)))?;
    for sentence in results.verdicts(measure.margin) {
        say(sentence)?;
    }
    if let Some(target) = measure.target_of(&results) {
        let found = reaches(&results, target);
        let (csv, png) = (folder.join("compute.csv"), folder.join("compute.png"));
        write_reaches(&csv, target, &found)?;
        let title = format!("{name}: computation to {:.1} % test accuracy", 100.0 * target);
        draw_compute(&png, &title, &results, &found)?;
        for sentence in least_computation(target, &found) {
            say(sentence)?;
        }
        say(format!("computation against rank in {} and {}", csv.display(), png.display()))?;
    }
    if !results.missing.is_empty() {
        let cells = counted(sweep.cells.len() as u32, "cell");
        say(format!("not ended: {} of {cells}", results.missing.len()))?;
    }
    say(format!("every network in {}, accuracy against rank in {}", csv.display(), png.display()))
}
