//! From layers in their places to layers with tensors.

use std::collections::HashMap;

use super::graph::Graph;
use super::network::NetworkSpec;
use super::parameter::{Exchange, Feedback, FileSpec, Parameter, ParameterSpec, Purpose, Start, Weight};
use super::pass::Placed;
use super::pathways::{PathwayPlan, PlannedPathway, plan_pathways};
use super::spec::ModelError;
use crate::feedback::{PRule, Pathway, QRule};
use crate::ops::{Dtype, Recording, View};
use crate::optim::{Group, GroupBuilder, Learned, MOST_ELEMENTS};

/// A network's layers with their tensors.
pub(super) struct Allocation {
    pub(super) layers: Vec<Placed>,
    /// Of weights, and of P and Q.
    pub(super) groups: [Option<Group>; 2],
    /// Everything that files hold.
    pub(super) exchange: Vec<Exchange>,
}

/// Gives every layer its tensors.
///
/// # Errors
/// If feedback and layers contradict each other, or there are too many elements.
pub(super) fn allocate(spec: &NetworkSpec, graph: &Graph, rec: &mut Recording) -> Result<Allocation, ModelError> {
    let plans = plan_pathways(spec, graph)?;
    check_deviations(spec, graph, &plans)?;
    let specs: Vec<Vec<ParameterSpec>> = graph.nodes.iter().map(|node| node.layer.parameters()).collect();
    let (mut weights, mut feedback) = (GroupBuilder::default(), GroupBuilder::default());
    let mut slots = HashMap::new();
    for (index, (node, specs)) in graph.nodes.iter().zip(&specs).enumerate() {
        let is_learned = |spec: &ParameterSpec| spec.purpose == Purpose::Learned && !node.is_frozen;
        for (which, spec) in specs.iter().enumerate().filter(|(_, spec)| is_learned(spec)) {
            let slot = weights.add(format!("{}.{}", node.name, spec.name), spec.rows, spec.cols);
            slots.insert((index, which), slot);
        }
    }
    let rules = (spec.feedback.p_rule(), spec.feedback.q_rule());
    let factors: Vec<[Option<usize>; 2]> = plans
        .iter()
        .map(|plan| {
            let PlannedPathway::Factored { ranks, .. } = &plan.kind else { return [None; 2] };
            let passage = specs[plan.node][plan.parameter].passage.map_or("feedback", |passage| passage.feedback);
            if graph.nodes[plan.node].is_frozen {
                return [None; 2];
            }
            let (rank, name) = (widest(ranks), format!("{}.{passage}", graph.nodes[plan.node].name));
            let p = (rules.0 != PRule::Fixed).then(|| feedback.add(format!("{name}.p"), plan.shape.0, rank));
            let q = (rules.1 != QRule::Fixed).then(|| feedback.add(format!("{name}.q"), rank, plan.shape.1));
            [p, q]
        })
        .collect();
    for (what, group) in [("weights and biases", &weights), ("P and Q", &feedback)] {
        if group.elements() > MOST_ELEMENTS {
            let problem = format!(
                "model.layers: {what} have {} elements, and at most {MOST_ELEMENTS} can be laid out; make the layers \
                 narrower",
                group.elements()
            );
            return Err(ModelError::Network(problem));
        }
    }
    let groups = [
        weights.finish(rec, "weights", 0, &spec.optimizer),
        feedback.finish(rec, "feedback", 1, &spec.feedback_optimizer),
    ];
    let member = |group: usize, slot: usize| groups[group].as_ref().map(|group: &Group| group.member(slot));
    let learns = graph.learns();
    let (mut layers, mut exchange) = (Vec::new(), Vec::new());
    for (index, (node, specs)) in graph.nodes.iter().zip(&specs).enumerate() {
        let mut parameters = Vec::new();
        for (which, spec) in specs.iter().enumerate() {
            let learned = slots.get(&(index, which)).and_then(|&slot| member(0, slot));
            let state = |rec: &mut Recording| {
                rec.state(format!("{}.{}", node.name, spec.name), spec.rows, spec.cols, Dtype::F32)
            };
            let value = learned.map_or_else(|| state(rec), |learned| learned.value);
            exchange.extend(spec.files.iter().map(|file| in_files(&node.name, spec.purpose, file, value)));
            let weight = spec.passage.map(|passage| {
                // What is frozen has no gradient, and no rule to read it.
                let learned = learned.unwrap_or(Learned { value, gradient: value });
                let at = plans.iter().position(|plan| (plan.node, plan.parameter) == (index, which));
                let feedback = at.map(|at| {
                    let learned = factors[at].map(|slot| slot.and_then(|slot| member(1, slot)));
                    stand_in(rec, &format!("{}.{}", node.name, passage.feedback), &plans[at], learned, rules)
                });
                let (name, feedback_name) = (passage.name(&node.name), format!("{}.{}", node.name, passage.feedback));
                Weight {
                    name,
                    layer: index,
                    parameter: which,
                    learned,
                    window: passage.window,
                    feedback_name,
                    feedback,
                }
            });
            parameters.push(Parameter { value, gradient: learned.map(|learned| learned.gradient), weight });
        }
        exchange.extend(parameters.iter().filter_map(|p| p.weight.as_ref()).flat_map(feedback_in_files));
        layers.push(Placed {
            name: node.name.clone(),
            index,
            inputs: node.inputs.clone(),
            extent: node.extent,
            is_frozen: node.is_frozen,
            passes_error: node.inputs.iter().any(|&value| learns[value]),
            ignored_shift: graph.ignored_shift(index + 1),
            parameters,
            layer: node.layer.clone(),
        });
    }
    Ok(Allocation { layers, groups, exchange })
}

/// What stands in for a weight: its tensors, and what learns of them.
fn stand_in(
    rec: &mut Recording,
    name: &str,
    plan: &PathwayPlan,
    [learned_p, learned_q]: [Option<Learned>; 2],
    (p_rule, q_rule): (PRule, QRule),
) -> Feedback {
    let (m, k) = plan.shape;
    let (pathway, ranks) = match &plan.kind {
        PlannedPathway::Exact => (Pathway::Exact, Vec::new()),
        PlannedPathway::Random => (Pathway::Random(rec.state(format!("{name}.b"), m, k, Dtype::F32)), Vec::new()),
        PlannedPathway::Factored { ranks, .. } => {
            let rank = widest(ranks);
            let mut fixed = |side: &str, rows, cols| rec.state(format!("{name}.{side}"), rows, cols, Dtype::F32);
            let p = learned_p.map_or_else(|| fixed("p", m, rank), |p| p.value);
            let q = learned_q.map_or_else(|| fixed("q", rank, k), |q| q.value);
            rec.mark_ranked(p, [false, true]);
            rec.mark_ranked(q, [true, false]);
            let learn_p = learned_p.map(|p| (p_rule, p.gradient));
            let learn_q = learned_q.map(|q| (q_rule, q.gradient));
            (Pathway::Factored { p, q, learn_p, learn_q }, ranks.clone())
        }
    };
    Feedback { pathway, ranks, source: plan.source }
}

fn widest(ranks: &[u32]) -> u32 {
    ranks.iter().copied().max().unwrap_or(1)
}

/// A part of a layer's tensor, by PyTorch's name for it.
fn in_files(layer: &str, purpose: Purpose, file: &FileSpec, tensor: View) -> Exchange {
    Exchange {
        name: format!("{layer}.{}", file.name),
        tensor,
        row: file.row,
        shape: file.shape.iter().map(|&n| n as usize).collect(),
        ranks: None,
        taps: file.taps as usize,
        purpose,
        start: file.start,
    }
}

/// `feedback.p` and `.q` for P^T and Q^T, so that p @ q has the shape of the weight.
fn feedback_in_files(weight: &Weight) -> Vec<Exchange> {
    let kernel = weight.window.map(|window| window.kernel);
    let taps = kernel.map_or(1, |[height, width]| height * width);
    let k = weight.learned.value.cols();
    let part = |side: &str, tensor: View, shape: Vec<u32>, ranks, taps: u32| Exchange {
        name: format!("{}.{side}", weight.feedback_name),
        tensor,
        row: 0,
        shape: shape.iter().map(|&n| n as usize).collect(),
        ranks,
        taps: taps as usize,
        purpose: Purpose::Feedback,
        start: Start::Feedback,
    };
    // Of so many rows, each as the weight's.
    let like_weight = |rows: u32| match kernel {
        Some([height, width]) => vec![rows, k / taps, height, width],
        None => vec![rows, k],
    };
    match weight.pathway() {
        Some(Pathway::Factored { p, q, .. }) => {
            let mut shape = vec![p.rows(), p.cols()];
            shape.extend(kernel.map_or(Vec::new(), |_| vec![1, 1]));
            let ranks = |axis| Some((axis, weight.ranks().to_vec()));
            vec![part("p", p, shape, ranks(1), 1), part("q", q, like_weight(q.rows()), ranks(0), taps)]
        }
        Some(Pathway::Random(b)) => vec![part("b", b, like_weight(b.rows()), None, taps)],
        Some(Pathway::Exact) | None => Vec::new(),
    }
}

/// The Oja rule learns from how rows of errors deviate from their mean: one row does not, and decay would be all that is left
/// of the rule.
fn check_deviations(spec: &NetworkSpec, graph: &Graph, plans: &[PathwayPlan]) -> Result<(), ModelError> {
    if spec.feedback.p_rule() != PRule::Oja {
        return Ok(());
    }
    let has_one_row = |plan: &&PathwayPlan| {
        matches!(plan.kind, PlannedPathway::Factored { .. })
            && u64::from(spec.batch) * u64::from(graph.nodes[plan.source].extent.pixels()) < 2
    };
    match plans.iter().find(has_one_row) {
        None => Ok(()),
        Some(plan) => Err(ModelError::Layer {
            layer: graph.nodes[plan.node].name.clone(),
            problem:
                "p = \"oja\" learns from the differences between the rows of an error, and needs train.batch of at \
                      least 2"
                    .into(),
        }),
    }
}
