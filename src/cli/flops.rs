//! `flops`.

use clap::{ArgGroup, Args};
use comfy_table::Table;

use super::train::ConfigArgs;
use super::{CliError, DataDirArg, say, table};
use crate::bench::{self, BenchError};
use crate::feedback::{FeedbackSpec, Rank};
use crate::model::{LayerCost, Network, NetworkSpec, OtherCost, StepCost, break_even, step_cost};
use crate::train::config::Config;
use crate::train::spec::{Outline, network_of};
use crate::words::counted;

/// Print what a training step costs, layer by layer, beside the same step by backpropagation.
///
/// Every operation of the step is counted: behind the layers with weights stand attention, norms, activations, tokens, loss and
/// updates, each in a line, and they are in all sums. The counter in the code of the paper's authors leaves attention, norms and
/// GELU out, and so shows a larger saving.
#[derive(Args)]
#[command(group(ArgGroup::new("what").required(true).args(["preset"])))]
pub(super) struct FlopsArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    data: DataDirArg,
}

impl FlopsArgs {
    pub(super) fn run(self) -> Result<(), CliError> {
        let config = self.config.config()?.resolved();
        // Shapes are all that counts: known sets need not be there.
        let data = match bench::outline(&config) {
            Ok(data) => data,
            Err(BenchError::Data { .. }) => Outline::of(&config.dataset(&self.data.search())?),
            Err(BenchError::Train(error)) => return Err(config.at(error).into()),
            Err(error) => return Err(error.into()),
        };
        let spec = network_of(&config, &data)?;
        side_by_side(&config, &spec)?;
        match config.feedback.rank_list() {
            ranks if ranks.len() > 1 => by_rank(&spec, &ranks),
            _ => Ok(()),
        }
    }
}

/// Prints what one network's training step costs by layer, beside the same step by backpropagation.
pub(super) fn side_by_side(config: &Config, spec: &NetworkSpec) -> Result<(), CliError> {
    let mut spec = spec.clone();
    spec.ranks.truncate(1);
    let exact = NetworkSpec { feedback: FeedbackSpec::backprop(), ..spec.clone() };
    let network = |spec| Network::new(spec).map_err(|error| config.at(error.into()));
    let (own, exact) = (step_cost(&network(&spec)?), step_cost(&network(&exact)?));
    let break_even = break_even(&spec, &own.layers, &exact.layers)?;
    let (samples, label) = (counted(spec.batch, "sample"), config.rule());
    say(format!("MFLOP of a step of {samples}, one network; {label} beside backprop"))?;
    say(by_layer(&own, &exact, &break_even))?;
    say("transport of what has no weight: its derivative; sum: with data, loss and updates")?;
    say("break-even: the largest rank at which sending the error and learning P and Q costs less than the exact way")
}

/// Prints what a step costs at each rank.
fn by_rank(spec: &NetworkSpec, ranks: &[Rank]) -> Result<(), CliError> {
    let exact = NetworkSpec { feedback: FeedbackSpec::backprop(), ranks: vec![None], ..spec.clone() };
    let exact = step_cost(&Network::new(&exact)?);
    let header = ["rank", "transport", "P and Q", "all", "all / backprop", "backward / backprop"];
    let mut lines = vec![header.map(str::to_owned).to_vec()];
    for &rank in ranks {
        let own = step_cost(&Network::new(&NetworkSpec { ranks: vec![Some(rank)], ..spec.clone() })?);
        lines.push(vec![
            rank.to_string(),
            megas(sum(&own.layers, |l| l.transport)),
            megas(sum(&own.layers, |l| l.learning)),
            megas(own.total()),
            ratio(own.total(), exact.total()),
            ratio(own.backward(), exact.backward()),
        ]);
    }
    say("MFLOP of the whole step by rank; transport, P and Q of the layers with weights")?;
    say(table(lines))
}

fn megas(flops: u64) -> String {
    format!("{:.2}", flops as f64 / 1e6)
}

fn sum(layers: &[LayerCost], of: fn(&LayerCost) -> u64) -> u64 {
    layers.iter().map(of).sum()
}

fn ratio(own: u64, exact: u64) -> String {
    if exact == 0 { "-".into() } else { format!("{:.3}", own as f64 / exact as f64) }
}

fn by_layer(own: &StepCost, exact: &StepCost, break_even: &[Option<u32>]) -> Table {
    let header = [
        "layer",
        "weight",
        "rank",
        "forward",
        "weight gradient",
        "transport",
        "by backprop",
        "P and Q",
        "sum",
        "sum / backprop",
        "break-even",
    ];
    let optional = |number: Option<u32>| number.map_or("-".to_owned(), |n| n.to_string());
    let mut lines = vec![header.map(str::to_owned).to_vec()];
    for ((own, exact), break_even) in own.layers.iter().zip(&exact.layers).zip(break_even) {
        lines.push(vec![
            own.name.clone(),
            format!("{} x {}", own.weight[0], own.weight[1]),
            optional(own.rank),
            megas(own.forward),
            megas(own.weight_gradient),
            megas(own.transport),
            megas(exact.transport),
            megas(own.learning),
            megas(own.total()),
            ratio(own.total(), exact.total()),
            optional(*break_even),
        ]);
    }
    for other in &own.others {
        let same = exact.others.iter().find(|same| same.kind == other.kind);
        lines.push(vec![
            other.kind.name().to_owned(),
            String::new(),
            String::new(),
            megas(other.forward),
            megas(other.gradient),
            megas(other.derivative),
            megas(same.map_or(0, |same| same.derivative)),
            String::new(),
            megas(other.total()),
            ratio(other.total(), same.map_or(0, OtherCost::total)),
            String::new(),
        ]);
    }
    let all = |cost: &StepCost, layers: fn(&LayerCost) -> u64, others: fn(&OtherCost) -> u64| {
        megas(sum(&cost.layers, layers) + cost.others.iter().map(others).sum::<u64>())
    };
    lines.push(vec![
        "all".into(),
        String::new(),
        String::new(),
        all(own, |l| l.forward, |o| o.forward),
        all(own, |l| l.weight_gradient, |o| o.gradient),
        all(own, |l| l.transport, |o| o.derivative),
        all(exact, |l| l.transport, |o| o.derivative),
        megas(sum(&own.layers, |l| l.learning)),
        megas(own.total()),
        ratio(own.total(), exact.total()),
        String::new(),
    ]);
    table(lines)
}
