//! `peers` times this repository's training step and products beside those of other engines on one adapter.
//!
//! Every engine trains the same network from the same first values on the same resident batch, waits for the device
//! after every step, and takes turns with the others. Before anything is timed, the losses must fall, and those of the
//! peers must be the ones that this repository's backpropagation has.

mod adapter;
mod burn_engine;
mod burn_networks;
mod engine;
mod meganeura_engine;
mod ours;
mod product;
mod report;
mod timing;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use burn::tensor::Device;
use clap::Parser;
use ldfa_gpu::gpu::DeviceChoice;

use adapter::Adapter;
use burn_networks::{Plain, Recurrent, Transformer};
use engine::{EngineError, guard};
use ours::Bench;
use product::Product;
use report::{Group, Report};
use timing::Entry;
use workload::{COMPARED, Model, Workload};

/// Largest relative difference of these losses.
const LOSS_TOLERANCE: f64 = 1e-3;

/// Steps handed over at once in the row that does not wait after each.
const UNWAITED: usize = 8;

/// Times training steps and matrix products of several engines on one adapter, and prints their ratios
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Adapter: its position or a part of its name, as `ldfa-gpu devices` prints them, or best
    #[arg(long, default_value = "best")]
    device: DeviceChoice,
    /// Turns of every engine
    #[arg(long, default_value_t = 5, value_parser = positive)]
    rounds: usize,
    /// Timed steps of a turn (for products: waits, each for eight products); the transformer's, which are long, once
    #[arg(long, default_value_t = 5, value_parser = positive)]
    advances: usize,
    /// Rank of the feedback, in place of the one in the network's file
    #[arg(long)]
    rank: Option<u32>,
    /// Time only this (repeatable); all if left out
    #[arg(long, value_name = "WORK")]
    only: Vec<Work>,
    /// Leave a peer out, such as one that a driver does not survive (repeatable)
    #[arg(long, value_name = "PEER")]
    without: Vec<Peer>,
    /// Also write everything to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The engines that ours is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Peer {
    Burn,
    Meganeura,
}

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Work {
    /// Training steps of the perceptron
    Mlp,
    /// Of the convolutional network
    Cnn,
    /// Of the vision transformer
    Vit,
    /// Of the recurrent network
    Gru,
    /// Single matrix products
    Products,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a whole number of at least 1 is needed".into()),
        Ok(number) => Ok(number),
    }
}

impl Arguments {
    fn has(&self, peer: Peer) -> bool {
        !self.without.contains(&peer)
    }

    fn wants(&self, work: Work) -> bool {
        self.only.is_empty() || self.only.contains(&work)
    }
}

/// What ends the program.
#[derive(Debug, thiserror::Error)]
enum PeersError {
    /// Without this repository's own step there is nothing to compare with.
    #[error("ldfa-gpu: {0}")]
    Ours(#[from] EngineError),
    /// The JSON file cannot be written.
    #[error("cannot write {}: {source}; name another file with --json", .path.display())]
    Write {
        /// Where to.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), PeersError> {
    let context = ours::open(&arguments.device)?;
    let adapter = Adapter::of(&arguments.device, &context)?;
    let description = context.describe();
    drop(context);
    let bench = Bench::new(arguments.device.clone());
    let burn = guard(|| match arguments.has(Peer::Burn) {
        true => burn_engine::open(&adapter),
        false => Err(EngineError::Failed("left out by --without".into())),
    });
    let runtime = burn.as_ref().ok().map(|(_, runtime)| (*runtime).to_owned());
    let mut report = Report {
        adapter: description,
        versions: versions(),
        burn_runtime: runtime,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        groups: Vec::new(),
    };
    println!("{}\n", report.header());
    let burn = burn.map(|(device, _)| device);
    let networks = [(Work::Mlp, Model::Mlp), (Work::Cnn, Model::Cnn), (Work::Vit, Model::Vit), (Work::Gru, Model::Gru)];
    for (work, model) in networks {
        if arguments.wants(work) {
            report.groups.push(steps(arguments, &bench, &adapter, &burn, report.burn_runtime.as_deref(), model)?);
        }
    }
    if arguments.wants(Work::Products) {
        let (square, batch, large) = ((512, 512, 512), (128, 512, 784), (1024, 1024, 1024));
        // The largest once: burn takes longer to tune each layout than all the timing takes.
        let shapes = [(square, false), (square, true), (batch, false), (batch, true), (large, false)];
        for ((rows, cols, inner), transposed) in shapes {
            report.groups.push(products(arguments, &bench, &burn, Product { rows, cols, inner, transposed })?);
        }
    }
    println!("{}", report.table());
    for line in report.failures() {
        println!("{line}");
    }
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&report).map_err(|e| EngineError::Failed(e.to_string()))?;
        std::fs::write(path, text + "\n").map_err(|source| PeersError::Write { path: path.clone(), source })?;
    }
    Ok(())
}

/// Training steps of all engines.
fn steps(
    arguments: &Arguments,
    bench: &Bench,
    adapter: &Adapter,
    burn: &Result<Device, EngineError>,
    runtime: Option<&str>,
    model: Model,
) -> Result<Group, PeersError> {
    let workload = Workload::new(model)?;
    let ours = |rule: &str, units: usize| -> Result<Entry, EngineError> {
        let config = model.config(rule, arguments.rank)?;
        let mut label = format!("ldfa-gpu, {rule}");
        if let Some(rank) = config.feedback.rank_list().first() {
            label += &format!(" r={rank}");
        }
        if units > 1 {
            label += &format!(", waits every {units} steps");
        }
        Ok(Entry::new(label, || ours::Training::new(bench, &workload, &config, units)))
    };
    let mut entries = vec![ours("backprop", 1)?, ours("local", 1)?, ours("normative", 1)?];
    // Beside a step of seconds, waiting is nothing.
    if !model.is_long() {
        entries.push(ours("backprop", UNWAITED)?);
    }
    let peers = entries.len();
    if arguments.has(Peer::Burn) {
        let label = format!("burn, backprop, {}", runtime.unwrap_or("wgpu"));
        let device = || burn.as_ref().map_err(EngineError::of);
        entries.push(match model {
            Model::Mlp | Model::Cnn => {
                Entry::new(label, || burn_engine::Training::new(device()?, &workload, Plain::new))
            }
            Model::Vit => Entry::new(label, || burn_engine::Training::new(device()?, &workload, Transformer::new)),
            Model::Gru => Entry::new(label, || burn_engine::Training::new(device()?, &workload, Recurrent::new)),
        });
    }
    // The other networks are compared with burn alone: meganeura has no recurrent cell, and its attention takes one
    // sequence, not a batch of them.
    if arguments.has(Peer::Meganeura) && model == Model::Mlp {
        for (label, tuned) in [("meganeura, backprop", false), ("meganeura, backprop, tuned", true)] {
            entries.push(Entry::new(label, || meganeura_engine::Training::new(adapter, &workload, tuned)));
        }
    }
    let (steps, share) = model.learning();
    let mut reference = Vec::new();
    for (at, entry) in entries.iter_mut().enumerate() {
        // A driver that crashes takes the program with it; this is the last line then.
        eprintln!("warming up: {}", entry.label);
        entry.warm_up(steps);
        let losses = entry.observed.clone();
        if reference.is_empty() {
            reference.clone_from(&losses);
        }
        entry.try_with(|_| {
            learns(&losses, share)?;
            if at >= peers { agrees(&losses, &reference) } else { Ok(()) }
        });
    }
    let advances = if model.is_long() { 1 } else { arguments.advances };
    timing::run(&mut entries, arguments.rounds, advances);
    finish(format!("{model:?} step, batch {}", workload.spec.batch), entries)
}

/// One product on this repository's engine and on burn's.
fn products(
    arguments: &Arguments,
    bench: &Bench,
    burn: &Result<Device, EngineError>,
    product: Product,
) -> Result<Group, PeersError> {
    let mut entries = vec![Entry::new("ldfa-gpu", || ours::Multiplication::new(bench, product))];
    if arguments.has(Peer::Burn) {
        entries.push(Entry::new("burn", || {
            let device = burn.as_ref().map_err(EngineError::of)?;
            Ok(burn_engine::Multiplication::new(device, product))
        }));
    }
    eprintln!("warming up: product {product}");
    let expected = product.expected();
    // The projection's standard deviation, all of a, b, u and v being uniform in [-1, 1).
    let scale = ((product.rows * product.cols * product.inner) as f64).sqrt() / 9.0;
    for entry in &mut entries {
        entry.warm_up(2);
        let found = entry.observed.last().copied().unwrap_or(f64::NAN);
        entry.try_with(|_| {
            if (found - expected).abs() <= 1e-4 * scale {
                return Ok(());
            }
            Err(EngineError::Wrong(format!("its product projects to {found}, and {expected} is right")))
        });
    }
    timing::run(&mut entries, arguments.rounds, arguments.advances);
    finish(format!("product {product}"), entries)
}

/// A peer that fails is a row that says so; without the first row there is no ratio.
fn finish(work: String, mut entries: Vec<Entry>) -> Result<Group, PeersError> {
    let group = Group::new(work, &entries);
    match entries.swap_remove(0).state {
        Ok(_) => Ok(group),
        Err(error) => Err(error.into()),
    }
}

/// Refuses an engine that while it warms up does not bring its loss below that share of the first.
fn learns(losses: &[f64], share: f64) -> Result<(), EngineError> {
    match (losses.first(), losses.last()) {
        (Some(first), Some(last)) if *last < share * first => Ok(()),
        _ => Err(EngineError::Wrong(format!(
            "it does not learn: of the losses before the timing, the last must be below {share} of the first; they are \
             {losses:.4?}"
        ))),
    }
}

/// Refuses an engine that computes another step than backpropagation.
fn agrees(losses: &[f64], reference: &[f64]) -> Result<(), EngineError> {
    let off = losses.iter().zip(reference).take(COMPARED).map(|(own, other)| (own - other).abs() / other.abs());
    match off.fold(0.0, f64::max) {
        off if off <= LOSS_TOLERANCE => Ok(()),
        off => Err(EngineError::Wrong(format!(
            "it trains differently: within {COMPARED} steps its loss is off by {off:.1e} of ldfa-gpu's; {losses:.4?} \
             against {reference:.4?}"
        ))),
    }
}

/// Versions from this package's lock file, which the build has kept to.
fn versions() -> Vec<(&'static str, String)> {
    let lock = include_str!("../Cargo.lock");
    let version = |name: &str| {
        let at = lock.find(&format!("name = \"{name}\"\n"))?;
        lock[at..].lines().nth(1)?.strip_prefix("version = \"")?.strip_suffix('"').map(str::to_owned)
    };
    let names = ["ldfa-gpu", "wgpu", "naga", "burn", "cubecl", "meganeura", "blade-graphics"];
    names.iter().filter_map(|&name| Some((name, version(name)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_found_in_the_lock_file() {
        let found = versions();
        assert_eq!(found.len(), 7);
        assert!(found.iter().all(|(_, version)| version.split('.').count() == 3), "{found:?}");
    }

    #[test]
    fn losses_that_stay_or_differ_are_refused() {
        assert!(learns(&[2.3, 1.5], 0.67).is_ok() && learns(&[2.3, 1.6], 1.0).is_ok());
        for losses in [&[2.3, 1.6][..], &[], &[2.3, f64::NAN]] {
            assert!(learns(losses, 0.67).is_err(), "{losses:?}");
        }
        assert!(agrees(&[2.0, 1.0005], &[2.0, 1.0]).is_ok());
        assert!(agrees(&[2.0, 1.1], &[2.0, 1.0]).is_err());
    }
}
