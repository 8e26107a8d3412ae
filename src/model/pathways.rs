//! Which way back every weight gets, before its tensors exist.

use super::graph::{Graph, Kind};
use super::network::NetworkSpec;
use super::spec::ModelError;
use crate::feedback::{Rank, Rule, Source};

/// The way back through one weight.
pub(super) struct PathwayPlan {
    /// Node that the weight belongs to.
    pub(super) node: usize,
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

/// Decides the way back through every weight that an error passes.
pub(super) fn plan_pathways(spec: &NetworkSpec, graph: &Graph) -> Result<Vec<PathwayPlan>, ModelError> {
    let linear: Vec<usize> =
        (0..graph.nodes.len()).filter(|&i| matches!(graph.nodes[i].kind, Kind::Linear(_))).collect();
    let names: Vec<&str> = linear.iter().map(|&i| graph.nodes[i].name.as_str()).collect();
    for name in spec.feedback.exact.iter().chain(spec.feedback.ranks.keys()) {
        if !names.contains(&name.as_str()) {
            let problem = format!("feedback: {name} is not a layer with a weight; those are {}", names.join(", "));
            return Err(ModelError::Network(problem));
        }
    }
    let learns = graph.learns();
    let mut plans = Vec::new();
    for &index in &linear {
        let node = &graph.nodes[index];
        let input = node.inputs[0];
        if !learns[input] {
            continue;
        }
        let name = &node.name;
        // The first weight has no feedback; it is passed only if something below it learns.
        let exact = index == linear[0] || spec.feedback.exact.contains(name) || spec.feedback.rule == Rule::Backprop;
        let source = if exact { index } else { source_of(spec, graph, &linear, index)? };
        let (sent, taken) = (graph.nodes[source].extent, graph.extent(input));
        if sent.pixels() != node.extent.pixels() {
            return Err(ModelError::Network(format!(
                "feedback.source: the error of {} has {} rows a sample, and {name} sends {}; use source = \"layer\", or \
                 list {name} in feedback.exact",
                graph.nodes[source].name,
                sent.pixels(),
                node.extent.pixels()
            )));
        }
        let taps = if let Kind::Linear(Some(window)) = &node.kind { window.taps() } else { 1 };
        let shape = (sent.channels, taps * taken.channels);
        let kind = match (exact, spec.feedback.rule) {
            (true, _) | (_, Rule::Backprop) => PlannedPathway::Exact,
            (_, Rule::FeedbackAlignment | Rule::DirectFeedbackAlignment) => PlannedPathway::Random,
            (_, Rule::Ldfa) => {
                let own = spec.feedback.ranks.get(name).copied();
                let bound = sent.channels.min(taken.channels);
                let rank = |rank: Option<Rank>| rank.map_or(bound, |rank| rank.at(sent.channels).min(bound));
                let ranks = spec.ranks.iter().map(|&of_all| rank(own.or(of_all))).collect();
                PlannedPathway::Factored { ranks, bound }
            }
        };
        plans.push(PathwayPlan { node: index, source, shape, kind });
    }
    check_ranks(spec, graph, &plans)?;
    Ok(plans)
}

/// A rank that no layer can use is a mistake; one that some layers can is clipped at the others.
fn check_ranks(spec: &NetworkSpec, graph: &Graph, plans: &[PathwayPlan]) -> Result<(), ModelError> {
    let bounds: Vec<(usize, u32)> = plans
        .iter()
        .filter_map(|plan| match plan.kind {
            PlannedPathway::Factored { bound, .. } => Some((plan.node, bound)),
            PlannedPathway::Exact | PlannedPathway::Random => None,
        })
        .collect();
    let Some(largest) = bounds.iter().map(|(_, bound)| *bound).max() else { return Ok(()) };
    let several = spec.ranks.iter().any(|rank| *rank != spec.ranks[0]);
    if several && bounds.iter().all(|(node, _)| spec.feedback.ranks.contains_key(&graph.nodes[*node].name)) {
        let problem = "feedback.rank lists several ranks, but feedback.ranks sets the rank of every layer: all networks \
                       would be alike; leave one of the two out";
        return Err(ModelError::Network(problem.into()));
    }
    let too_large = |rank: &&Rank| matches!(rank, Rank::Of(rank) if *rank > largest);
    let too_large = spec.ranks.iter().flatten().chain(spec.feedback.ranks.values()).find(too_large);
    match too_large {
        Some(rank) => Err(ModelError::Network(format!(
            "feedback.rank = {rank} is more than any layer can use; the largest useful rank here is {largest}"
        ))),
        None => Ok(()),
    }
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
                ModelError::Network(format!(
                    "feedback.source = \"{name}\": use \"layer\", \"output\" or a layer with a weight: {}",
                    names.join(", ")
                ))
            })
        }
    }
}
