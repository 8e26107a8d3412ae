//! Which way back every weight gets, before its tensors exist.

use super::graph::Graph;
use super::network::NetworkSpec;
use super::parameter::{Destination, ParameterSpec, Passage};
use super::spec::ModelError;
use crate::feedback::{LayerRank, Rank, Rule, Source, rank_key, wrong};
use crate::words::suggest;

/// The way back through one weight.
pub(super) struct PathwayPlan {
    /// Of the weight.
    pub(super) name: String,
    /// Node that the weight belongs to.
    pub(super) node: usize,
    /// Which of the node's parameters it is.
    pub(super) parameter: usize,
    /// Node whose error is sent.
    pub(super) source: usize,
    /// Width of that error, and of a row of the weight.
    pub(super) shape: (u32, u32),
    pub(super) kind: PlannedPathway,
}

pub(super) enum PlannedPathway {
    Exact,
    Random,
    /// With the rank of every replica.
    Factored {
        ranks: Vec<u32>,
        /// More are of no use: channels of the error, and of what it is sent to.
        bound: u32,
    },
}

/// A weight that errors go back through.
struct Way {
    /// The layer's name, or what tells its weights apart behind it.
    name: String,
    node: usize,
    /// Which of the node's parameters it is.
    parameter: usize,
    passage: Passage,
    /// Of the weight.
    rows: u32,
    cols: u32,
}

/// Every weight that errors go back through.
fn ways(graph: &Graph) -> Vec<Way> {
    let of_node = |(node, own): (usize, &super::graph::Node)| {
        let name = own.name.clone();
        let way = move |(parameter, spec): (usize, ParameterSpec)| {
            let passage = spec.passage?;
            Some(Way { name: passage.name(&name), node, parameter, passage, rows: spec.rows, cols: spec.cols })
        };
        own.layer.parameters().into_iter().enumerate().filter_map(way).collect::<Vec<_>>()
    };
    graph.nodes.iter().enumerate().flat_map(of_node).collect()
}

/// Width of the error that the weights of a node send, or else of what it makes.
fn width_of_error(ways: &[Way], graph: &Graph, node: usize) -> u32 {
    ways.iter().find(|way| way.node == node).map_or(graph.nodes[node].extent.channels, |way| way.rows)
}

/// Decides the way back through every weight that an error passes.
pub(super) fn plan_pathways(spec: &NetworkSpec, graph: &Graph) -> Result<Vec<PathwayPlan>, ModelError> {
    let ways = ways(graph);
    let mut linear: Vec<usize> = ways.iter().map(|way| way.node).collect();
    linear.dedup();
    for name in &spec.feedback.exact {
        if !ways.iter().any(|way| is_called(graph, way.node, &way.name, name)) {
            return Err(wrong("exact", no_layer(name, "with a weight", &names(&ways))).into());
        }
    }
    let (learns, has_inputs) = (graph.learns(), graph.reached(|node| node.layer.adds_inputs()));
    let mut plans = Vec::new();
    for way in &ways {
        let (index, node, to) = (way.node, &graph.nodes[way.node], way.passage.to);
        let input = node.inputs[0];
        if !learns[input] && (to == Destination::Input || node.is_frozen) {
            continue;
        }
        let name = &way.name;
        // The first weight has no feedback, unless learned values were added to what it takes; it is passed only if something
        // below it learns. What sends to the state has always something to send to.
        let is_first = index == linear[0] && !has_inputs[input] && to == Destination::Input;
        let is_listed = spec.feedback.exact.iter().any(|listed| is_called(graph, index, name, listed));
        let exact = is_first || is_listed || spec.feedback.rule == Rule::Backprop;
        let source = if exact { index } else { source_of(spec, graph, &linear, index)? };
        if to == Destination::State && source != index {
            let problem = format!(
                "{name} takes the error of a step to the one before, and that of {} is no such error; use source = \"layer\", or \
                 list {name} in feedback.exact",
                graph.nodes[source].name
            );
            return Err(wrong("source", problem).into());
        }
        let sent = graph.nodes[source].extent;
        if sent.pixels() != node.extent.pixels() {
            let problem = format!(
                "the error of {} has {} rows a sample, and {name} sends {}; use source = \"layer\", or list {name} in \
                 feedback.exact",
                graph.nodes[source].name,
                sent.pixels(),
                node.extent.pixels()
            );
            return Err(wrong("source", problem).into());
        }
        let sent = width_of_error(&ways, graph, source);
        let taken = way.cols / way.passage.window.map_or(1, |window| window.taps());
        let kind = match (exact, spec.feedback.rule) {
            (true, _) | (_, Rule::Backprop) => PlannedPathway::Exact,
            (_, Rule::FeedbackAlignment | Rule::DirectFeedbackAlignment) => PlannedPathway::Random,
            (_, Rule::Ldfa) => {
                let own = spec.feedback.ranks.get(name).or_else(|| spec.feedback.ranks.get(&node.name)).copied();
                let bound = sent.min(taken);
                let rank = |of_all: Option<Rank>| {
                    let wanted = own.map_or(of_all.map(|rank| rank.at(sent)), |own| own.at(sent, of_all));
                    wanted.map_or(bound, |rank| rank.min(bound))
                };
                let ranks = spec.ranks.iter().map(|&of_all| rank(of_all)).collect();
                PlannedPathway::Factored { ranks, bound }
            }
        };
        let shape = (sent, way.cols);
        plans.push(PathwayPlan { name: way.name.clone(), node: index, parameter: way.parameter, source, shape, kind });
    }
    check_ranks(spec, graph, &plans)?;
    Ok(plans)
}

/// Whether a name is that of a node's weight, or of the node and so of all of its weights.
fn is_called(graph: &Graph, node: usize, weight: &str, name: &str) -> bool {
    weight == name || graph.nodes[node].name == name
}

fn names(ways: &[Way]) -> Vec<&str> {
    ways.iter().map(|way| way.name.as_str()).collect()
}

/// A layer's own rank that it cannot use is a mistake; so is one for all layers that none of them can, while one that some can is
/// clipped at the others.
fn check_ranks(spec: &NetworkSpec, graph: &Graph, plans: &[PathwayPlan]) -> Result<(), ModelError> {
    let bounds: Vec<(&PathwayPlan, u32, u32)> = plans
        .iter()
        .filter_map(|plan| match plan.kind {
            PlannedPathway::Factored { bound, .. } => Some((plan, plan.shape.0, bound)),
            PlannedPathway::Exact | PlannedPathway::Random => None,
        })
        .collect();
    let is_meant = |plan: &PathwayPlan, name: &str| is_called(graph, plan.node, &plan.name, name);
    for (layer, rank) in &spec.feedback.ranks {
        // Of several weights of a layer, the one that can use most.
        let meant = bounds.iter().filter(|(plan, ..)| is_meant(plan, layer)).max_by_key(|(.., bound)| *bound);
        let Some((_, width, bound)) = meant else {
            let names: Vec<&str> = bounds.iter().map(|(plan, ..)| plan.name.as_str()).collect();
            return Err(wrong(rank_key(layer), no_layer(layer, "with feedback of low rank", &names)).into());
        };
        // A multiple is clipped as the rank is that it follows.
        if matches!(rank, LayerRank::Own(rank) if rank.at(*width) > *bound) {
            let problem = format!("rank {rank} is more than {layer} can use; the largest useful rank there is {bound}");
            return Err(wrong(rank_key(layer), problem).into());
        }
    }
    let is_own = |plan: &PathwayPlan| {
        let mut ranks = spec.feedback.ranks.iter();
        ranks.any(|(name, rank)| is_meant(plan, name) && matches!(rank, LayerRank::Own(_)))
    };
    let common = bounds.iter().filter(|(plan, ..)| !is_own(plan));
    let Some(largest) = common.map(|(_, _, bound)| *bound).max() else {
        if bounds.is_empty() || spec.ranks.iter().all(|rank| *rank == spec.ranks[0]) {
            return Ok(());
        }
        let problem = "several ranks are listed, but feedback.ranks sets the rank of every layer: all networks would be alike; leave \
                       one of the two out";
        return Err(wrong("rank", problem).into());
    };
    let too_large = |rank: &&Rank| matches!(rank, Rank::Of(rank) if *rank > largest);
    match spec.ranks.iter().flatten().find(too_large) {
        Some(rank) => {
            let problem =
                format!("rank {rank} is more than any layer can use; the largest useful rank here is {largest}");
            Err(wrong("rank", problem).into())
        }
        None => Ok(()),
    }
}

/// What is wrong with a name that none of some layers has.
fn no_layer(name: &str, what: &str, names: &[&str]) -> String {
    let those = if names.is_empty() { "there is none".to_owned() } else { format!("those are {}", names.join(", ")) };
    format!("{name} is not a layer {what}; {those}{}", suggest(name, names))
}

fn source_of(spec: &NetworkSpec, graph: &Graph, linear: &[usize], index: usize) -> Result<usize, ModelError> {
    match spec.feedback.source() {
        Source::Layer => Ok(index),
        Source::Output => Ok(graph.nodes.len() - 1),
        Source::Named(name) => {
            let named = linear.iter().copied().find(|&i| graph.nodes[i].name == name);
            // A layer above the source has no error from it to take: it keeps its own.
            named.map(|source| source.max(index)).ok_or_else(|| {
                let names: Vec<&str> = linear.iter().map(|&i| graph.nodes[i].name.as_str()).collect();
                let problem = no_layer(&name, "with a weight, \"layer\" or \"output\"", &names);
                wrong("source", problem).into()
            })
        }
    }
}
