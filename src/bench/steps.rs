//! Whole training steps by preset and rule.

use std::fmt;

use serde::Serialize;

use super::rounds::{Samples, interleave};
use super::subject::{Subject, Way, dataset};
use super::{BenchError, Effort, open, realised};
use crate::gpu::{Context, DeviceChoice};
use crate::train::config::{Draft, presets};

/// One network and rule.
#[derive(Clone, Debug, Serialize)]
pub struct StepRow {
    /// Preset, or configuration file.
    pub preset: String,
    /// Images of a step.
    pub batch: u32,
    /// Feedback rule.
    pub rule: String,
    /// Median time of a step, milliseconds, host included.
    pub milliseconds: f64,
    /// Median distance from that, relative to it.
    pub spread: f64,
    /// Floating point operations of a step.
    pub flops: u64,
    /// Time over backprop's.
    pub time_over_backprop: f64,
    /// Operations over backprop's.
    pub flops_over_backprop: f64,
    /// Share of the operations saved that became time saved; none where less than a hundredth is saved.
    pub realised: Option<f64>,
}

/// All of them.
#[derive(Clone, Debug, Serialize)]
pub struct StepReport {
    /// What computed.
    pub device: String,
    /// Version of the program.
    pub version: &'static str,
    /// Rounds that the medians are of.
    pub rounds: usize,
    /// By preset; backprop first, and again as a control.
    pub rows: Vec<StepRow>,
}

/// Times training steps of presets (all if none are named) on made-up data, with the preset's batch or another.
///
/// # Errors
/// If a name is neither a preset nor a configuration, its data set's shape is not known, or the device fails.
pub fn steps(
    device: &DeviceChoice,
    names: &[String],
    batch: Option<u32>,
    effort: Effort,
) -> Result<StepReport, BenchError> {
    let all: Vec<String> = presets().map(str::to_owned).collect();
    let names = if names.is_empty() { &all } else { names };
    // A mistake in the last name must not wait for the first network.
    let drafts = names.iter().map(|name| draft(name, batch)).collect::<Result<Vec<_>, _>>()?;
    let context = open(device)?;
    let rounds = effort.pick(7, 2);
    let mut rows = Vec::new();
    for (name, draft) in names.iter().zip(drafts) {
        rows.extend(preset(&context, name, &draft, rounds, effort)?);
    }
    Ok(StepReport { device: context.describe(), version: env!("CARGO_PKG_VERSION"), rounds, rows })
}

fn draft(name: &str, batch: Option<u32>) -> Result<Draft, BenchError> {
    let mut draft = Draft::open(name)?;
    if let Some(batch) = batch {
        draft.set("train.batch", &batch.to_string())?;
    }
    dataset(&Way::Backprop.of(draft.clone())?)?;
    Ok(draft)
}

fn preset(
    context: &Context,
    name: &str,
    draft: &Draft,
    rounds: usize,
    effort: Effort,
) -> Result<Vec<StepRow>, BenchError> {
    // Backprop against itself tells how far apart equals read.
    let ways = [Way::Backprop, Way::Backprop, Way::Local, Way::Normative, Way::FeedbackAlignment];
    let configs = ways.iter().map(|way| way.of(draft.clone())).collect::<Result<Vec<_>, _>>()?;
    let (batch, data) = (configs[0].train.batch, dataset(&configs[0])?);
    let subjects = configs.into_iter().map(|config| Subject::steps(context, config, &data, effort));
    let mut subjects = subjects.collect::<Result<Vec<_>, _>>()?;
    let samples = interleave(&mut subjects, rounds, Subject::sample)?;
    let exact = subjects[0].flops() as f64;
    let row = |((at, subject), own): ((usize, &Subject), &Samples)| {
        let rule = if at == 1 { "backprop again" } else { ways[at].name() };
        let (time, flops) = (own.over(&samples[0]), subject.flops() as f64 / exact);
        StepRow {
            preset: name.to_owned(),
            batch,
            rule: rule.to_owned(),
            milliseconds: 1e3 * own.median(),
            spread: own.spread(),
            flops: subject.flops(),
            time_over_backprop: time,
            flops_over_backprop: flops,
            realised: realised(time, flops),
        }
    };
    Ok(subjects.iter().enumerate().zip(&samples).map(row).collect())
}

impl fmt::Display for StepReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, medians of {} rounds", self.device, self.rounds)?;
        writeln!(
            f,
            "{:<14} {:>6}  {:<20} {:>10} {:>8} {:>10} {:>10} {:>10} {:>10}",
            "preset", "batch", "rule", "ms a step", "spread %", "MFLOP", "time", "FLOPs", "realised %"
        )?;
        for row in &self.rows {
            writeln!(
                f,
                "{:<14} {:>6}  {:<20} {:>10.3} {:>8.1} {:>10.2} {:>10.3} {:>10.3} {:>10}",
                row.preset,
                row.batch,
                row.rule,
                row.milliseconds,
                100.0 * row.spread,
                row.flops as f64 / 1e6,
                row.time_over_backprop,
                row.flops_over_backprop,
                row.realised.map_or("-".to_owned(), |share| format!("{:.0}", 100.0 * share)),
            )?;
        }
        write!(f, "time and FLOPs over backprop's; realised: share of the FLOPs saved that became time saved")
    }
}
