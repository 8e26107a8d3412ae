//! Which way back every weight gets, before its tensors exist.

use super::graph::Graph;
use super::network::NetworkSpec;
use super::parameter::Passage;
use super::spec::ModelError;
use crate::feedback::{LayerRank, Rank, Rule, Source, rank_key, wrong};
use crate::words::suggest;

/// The way back through one weight.
pub(super) struct PathwayPlan {
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

/// Every weight that errors go back through: its node, which of the node's parameters it is, and how.
fn passages(graph: &Graph) -> Vec<(usize, usize, Passage)> {
    let of_node = |(index, node): (usize, &super::graph::Node)| {
        let parameters = node.layer.parameters().into_iter().enumerate();
        parameters.filter_map(move |(which, spec)| Some((index, which, spec.passage?))).collect::<Vec<_>>()
    };
    graph.nodes.iter().enumerate().flat_map(of_node).collect()
}

/// Decides the way back through every weight that an error passes.
pub(super) fn plan_pathways(spec: &NetworkSpec, graph: &Graph) -> Result<Vec<PathwayPlan>, ModelError> {
    let passages = passages(graph);
    let mut linear: Vec<usize> = passages.iter().map(|(node, ..)| *node).collect();
    linear.dedup();
    let names: Vec<&str> = linear.iter().map(|&i| graph.nodes[i].name.as_str()).collect();
    for name in &spec.feedback.exact {
        if !names.contains(&name.as_str()) {
            return Err(wrong("exact", no_layer(name, "with a weight", &names)).into());
        }
    }
    let (learns, has_inputs) = (graph.learns(), graph.reached(|node| node.layer.adds_inputs()));
    let mut plans = Vec::new();
    for &(index, parameter, passage) in &passages {
        let node = &graph.nodes[index];
        let input = node.inputs[0];
        if !learns[input] {
            continue;
        }
        let name = &node.name;
        // The first weight has no feedback, unless learned values were added to what it takes; it is passed only if something
        // below it learns.
        let is_first = index == linear[0] && !has_inputs[input];
        let exact = is_first || spec.feedback.exact.contains(name) || spec.feedback.rule == Rule::Backprop;
        let source = if exact { index } else { source_of(spec, graph, &linear, index)? };
        let (sent, taken) = (graph.nodes[source].extent, graph.extent(input));
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
        let taps = passage.window.map_or(1, |window| window.taps());
        let shape = (sent.channels, taps * taken.channels);
        let kind = match (exact, spec.feedback.rule) {
            (true, _) | (_, Rule::Backprop) => PlannedPathway::Exact,
            (_, Rule::FeedbackAlignment | Rule::DirectFeedbackAlignment) => PlannedPathway::Random,
            (_, Rule::Ldfa) => {
                let own = spec.feedback.ranks.get(name).copied();
                let bound = sent.channels.min(taken.channels);
                let rank = |of_all: Option<Rank>| {
                    let wanted =
                        own.map_or(of_all.map(|rank| rank.at(sent.channels)), |own| own.at(sent.channels, of_all));
                    wanted.map_or(bound, |rank| rank.min(bound))
                };
                let ranks = spec.ranks.iter().map(|&of_all| rank(of_all)).collect();
                PlannedPathway::Factored { ranks, bound }
            }
        };
        plans.push(PathwayPlan { node: index, parameter, source, shape, kind });
    }
    check_ranks(spec, graph, &plans)?;
    Ok(plans)
}

/// A layer's own rank that it cannot use is a mistake; so is one for all layers that none of them can, while one that some can is
/// clipped at the others.
fn check_ranks(spec: &NetworkSpec, graph: &Graph, plans: &[PathwayPlan]) -> Result<(), ModelError> {
    let bounds: Vec<(&str, u32, u32)> = plans
        .iter()
        .filter_map(|plan| match plan.kind {
            PlannedPathway::Factored { bound, .. } => Some((graph.nodes[plan.node].name.as_str(), plan.shape.0, bound)),
            PlannedPathway::Exact | PlannedPathway::Random => None,
        })
        .collect();
    for (layer, rank) in &spec.feedback.ranks {
        let Some((_, width, bound)) = bounds.iter().find(|(name, ..)| name == layer) else {
            let names: Vec<&str> = bounds.iter().map(|(name, ..)| *name).collect();
            return Err(wrong(rank_key(layer), no_layer(layer, "with feedback of low rank", &names)).into());
        };
        // A multiple is clipped as the rank is that it follows.
        if matches!(rank, LayerRank::Own(rank) if rank.at(*width) > *bound) {
            let problem = format!("rank {rank} is more than {layer} can use; the largest useful rank there is {bound}");
            return Err(wrong(rank_key(layer), problem).into());
        }
    }
    let is_own = |name: &str| matches!(spec.feedback.ranks.get(name), Some(LayerRank::Own(_)));
    let common = bounds.iter().filter(|(name, ..)| !is_own(name));
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
