//! `flops`.

use clap::{ArgGroup, Args};
use comfy_table::Table;

use super::train::ConfigArgs;
use super::{CliError, DataDirArg, say, table};
use crate::bench::{self, BenchError};
use crate::feedback::{FeedbackSpec, Rank};
use crate::model::{LayerCost, Network, NetworkSpec, break_even, layer_costs};
use crate::train::config::Config;
use crate::train::spec::{Outline, network_of};
use crate::words::counted;

/// Print what a training step costs, layer by layer, beside the same step by backpropagation.
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
    let (own, exact) = (layer_costs(&network(&spec)?), layer_costs(&network(&exact)?));
    let break_even = break_even(&spec, &own, &exact)?;
    let (samples, label) = (counted(spec.batch, "sample"), config.rule());
    say(format!("MFLOP of a step of {samples}, one network; {label} beside backprop"))?;
    say(by_layer(&own, &exact, &break_even))?;
    say("break-even: the largest rank at which sending the error and learning P and Q costs less than the exact way")
}

/// Prints what all layers with weights cost together at each rank.
fn by_rank(spec: &NetworkSpec, ranks: &[Rank]) -> Result<(), CliError> {
    let exact = NetworkSpec { feedback: FeedbackSpec::backprop(), ranks: vec![None], ..spec.clone() };
    let exact = layer_costs(&Network::new(&exact)?);
    let header = ["rank", "transport", "P and Q", "all", "all / backprop", "backward / backprop"];
    let mut lines = vec![header.map(str::to_owned).to_vec()];
    for &rank in ranks {
        let own = layer_costs(&Network::new(&NetworkSpec { ranks: vec![Some(rank)], ..spec.clone() })?);
        let over = |of: fn(&LayerCost) -> u64| format!("{:.3}", sum(&own, of) as f64 / sum(&exact, of) as f64);
        lines.push(vec![
            rank.to_string(),
            megas(sum(&own, |l| l.transport)),
            megas(sum(&own, |l| l.learning)),
            megas(sum(&own, LayerCost::total)),
            over(LayerCost::total),
            over(|l| l.total() - l.forward),
        ]);
    }
    say("MFLOP of all these layers by rank")?;
    say(table(lines))
}

fn megas(flops: u64) -> String {
    format!("{:.2}", flops as f64 / 1e6)
}

fn sum(layers: &[LayerCost], of: fn(&LayerCost) -> u64) -> u64 {
    layers.iter().map(of).sum()
}

fn by_layer(own: &[LayerCost], exact: &[LayerCost], break_even: &[Option<u32>]) -> Table {
    let header = [
        "layer",
        "weight",
        "rank",
        "forward",
        "weight gradient",
        "transport",
        "by backprop",
        "P and Q",
        "sum / backprop",
        "break-even",
    ];
    let optional = |number: Option<u32>| number.map_or("-".to_owned(), |n| n.to_string());
    let ratio =
        |own: u64, exact: u64| if exact == 0 { "-".into() } else { format!("{:.3}", own as f64 / exact as f64) };
    let mut lines = vec![header.map(str::to_owned).to_vec()];
    for ((own, exact), break_even) in own.iter().zip(exact).zip(break_even) {
        lines.push(vec![
            own.name.clone(),
            format!("{} x {}", own.weight[0], own.weight[1]),
            optional(own.rank),
            megas(own.forward),
            megas(own.weight_gradient),
            megas(own.transport),
            megas(exact.transport),
            megas(own.learning),
            ratio(own.total(), exact.total()),
            optional(*break_even),
        ]);
    }
    lines.push(vec![
        "all".into(),
        String::new(),
        String::new(),
        megas(sum(own, |l| l.forward)),
        megas(sum(own, |l| l.weight_gradient)),
        megas(sum(own, |l| l.transport)),
        megas(sum(exact, |l| l.transport)),
        megas(sum(own, |l| l.learning)),
        ratio(sum(own, LayerCost::total), sum(exact, LayerCost::total)),
        String::new(),
    ]);
    table(lines)
}
