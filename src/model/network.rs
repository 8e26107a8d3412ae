//! From a description to a recording: tensors first, then the operations of every phase.

use std::collections::BTreeMap;

use super::backward::Part;
use super::diagnosis::{Diagnosis, LayerError};
use super::exchange::{Exchange, exchange};
use super::feed::{Feed, FeedSpec};
use super::forward::Trace;
use super::graph::{Extent, Graph, Kind};
use super::pathways::{PathwayPlan, PlannedPathway, plan_pathways};
use super::spec::{LayerSpec, Loss, ModelError, Precision};
use super::{backward, forward};
use crate::feedback::{FeedbackSpec, PRule, Pathway, QRule, Rank};
use crate::ops::{
    Dtype, MAX_REPLICAS, MeanSquaredError, Phase, Recording, Role, ShapeError, SoftmaxCrossEntropy, Tally, Tensor,
    TrackMoments, Window,
};
use crate::optim::{Group, GroupBuilder, MOST_ELEMENTS, OptimizerSpec, Parameter};

/// Added to variances by batch norm.
pub(super) const BATCHNORM_EPSILON: f64 = 1e-5;

/// Weight of a batch in batch norm's running statistics.
const BATCHNORM_MOMENTUM: f64 = 0.1;

/// Everything that a network's operations depend on.
#[derive(Clone, Debug)]
pub struct NetworkSpec {
    /// From input to output.
    pub layers: Vec<LayerSpec>,
    /// What is minimised.
    pub loss: Loss,
    /// How errors travel back.
    pub feedback: FeedbackSpec,
    /// For weights, biases, scales and shifts.
    pub optimizer: OptimizerSpec,
    /// For learned P and Q.
    pub feedback_optimizer: OptimizerSpec,
    /// Of the factors of large products.
    pub precision: Precision,
    /// Samples of a training step.
    pub batch: u32,
    /// Accumulation steps: equal parts that a training step takes its batch in, one after the other; gradients, and the
    /// statistics of the Oja rule, add up. Batch norm normalises each part by its own statistics.
    pub accumulate: u32,
    /// Samples of an evaluation step.
    pub evaluation_batch: u32,
    /// Rank of every replica (`None` for rules without one); its length is the number of replicas.
    pub ranks: Vec<Option<Rank>>,
    /// Where batches come from.
    pub feed: FeedSpec,
    /// Classes of the data set, which the last layer must have as outputs.
    pub classes: u32,
}

impl NetworkSpec {
    /// Samples of a part of a training step.
    pub(super) fn rows(&self) -> u32 {
        self.batch / self.accumulate.max(1)
    }
}

/// A layer with a weight, dense or convolutional, and its way back.
#[derive(Clone, Debug)]
pub struct LinearLayer {
    /// `layers.<index>`.
    pub name: String,
    /// Position among all layers.
    pub index: usize,
    /// m x k; of a convolution m x (taps k).
    pub weight: Parameter,
    /// 1 x m.
    pub bias: Parameter,
    /// How a convolution moves over its input.
    pub window: Option<Window>,
    /// What stands in for the weight; `None` where no error passes.
    pub pathway: Option<Pathway>,
    /// Rank of every replica's pathway; empty unless it is factored.
    pub ranks: Vec<u32>,
    /// Layer whose error the pathway carries.
    pub source: usize,
}

/// A layer's tensors.
#[derive(Clone, Debug)]
pub(super) enum Tensors {
    Linear(LinearLayer),
    BatchNorm { scale: Parameter, shift: Parameter, running: Tensor },
    None,
}

/// A layer in its place, with its tensors.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Values that it takes: 0 is the network's input, i + 1 what layer i makes.
    pub(super) inputs: Vec<usize>,
    /// What it makes.
    pub(super) extent: Extent,
    /// Whether anything learns below each input.
    pub(super) passes_error: bool,
    pub(super) tensors: Tensors,
}

impl Layer {
    /// The layer as a part of a batch after the first sees it: gradients go where they are added to those so far, and what
    /// no sample changes is not learned again.
    fn later(&self, groups: &[Option<Group>; 2]) -> Layer {
        let place = |tensor: Tensor| groups.iter().flatten().find_map(|g| g.later(tensor)).unwrap_or(tensor);
        let parameter = |p: &Parameter| Parameter { gradient: place(p.gradient), ..*p };
        let tensors = match &self.tensors {
            Tensors::Linear(linear) => {
                let (weight, bias) = (parameter(&linear.weight), parameter(&linear.bias));
                let pathway = linear.pathway.map(|pathway| pathway.later(place));
                Tensors::Linear(LinearLayer { weight, bias, pathway, ..linear.clone() })
            }
            Tensors::BatchNorm { scale, shift, running } => {
                Tensors::BatchNorm { scale: parameter(scale), shift: parameter(shift), running: *running }
            }
            Tensors::None => Tensors::None,
        };
        Layer { tensors, ..self.clone() }
    }
}

/// A recorded network.
#[derive(Clone, Debug)]
pub struct Network {
    /// The operations.
    pub recording: Recording,
    /// What the host fills.
    pub feed: Feed,
    /// Layers with a weight, from input to output.
    pub linear: Vec<LinearLayer>,
    /// Sums of loss and correct answers, and samples, of training steps: 1 x 3.
    pub train_metrics: Tensor,
    /// The same of evaluation steps.
    pub test_metrics: Tensor,
    /// Step of the first non-finite training loss plus one: 1 x 1.
    pub fault: Tensor,
    /// The same of evaluation.
    pub test_fault: Tensor,
    /// Outputs of an evaluation step: rows x classes, readable after [`Phase::Evaluate`].
    pub outputs: Tensor,
    /// Errors and activations of a batch, readable after [`Phase::Diagnose`].
    pub diagnosis: Diagnosis,
    /// Parameters and statistics as files name them.
    pub exchange: Vec<Exchange>,
}

impl Network {
    /// Records a network.
    ///
    /// # Errors
    /// If layers, feedback or optimizers contradict each other.
    pub fn new(spec: &NetworkSpec) -> Result<Network, ModelError> {
        spec.feedback.check()?;
        for (section, optimizer) in [("optimizer", &spec.optimizer), ("feedback_optimizer", &spec.feedback_optimizer)] {
            optimizer.check().map_err(|source| ModelError::Optimizer { section, source })?;
        }
        let graph = Graph::new(&spec.layers, spec.feed.image())?;
        check_counts(spec)?;
        check_output(spec, &graph)?;
        let mut recording = Recording::new(spec.ranks.len() as u32);
        let feed = Feed::allocate(&mut recording, &spec.feed, spec.batch, graph.input);
        let (layers, groups) = allocate(spec, &graph, &mut recording)?;
        let mut state = |name: &str, cols, dtype| recording.state(name, 1, cols, dtype);
        let train =
            Meters { metrics: state("train.metrics", 3, Dtype::F32), fault: state("train.fault", 1, Dtype::U32) };
        let test = Meters { metrics: state("test.metrics", 3, Dtype::F32), fault: state("test.fault", 1, Dtype::U32) };
        let parts = Parts { spec, feed: &feed, input: graph.input, layers: &layers, groups: &groups };
        parts.record_training(&mut recording, train)?;
        let outputs = parts.record_evaluation(&mut recording, test)?;
        let diagnosis = parts.record_diagnosis(&mut recording)?;
        Ok(Network {
            train_metrics: train.metrics,
            test_metrics: test.metrics,
            fault: train.fault,
            test_fault: test.fault,
            outputs,
            exchange: exchange(&layers),
            linear: layers
                .into_iter()
                .filter_map(|layer| if let Tensors::Linear(linear) = layer.tensors { Some(linear) } else { None })
                .collect(),
            diagnosis,
            recording,
            feed,
        })
    }

    /// Parameters that one replica learns, feedback not counted.
    pub fn parameters(&self) -> u64 {
        let learned = |e: &&Exchange| !e.name.contains(".feedback.") && !e.name.contains(".running_");
        self.exchange.iter().filter(learned).map(|e| e.shape.iter().product::<usize>() as u64).sum()
    }

    /// Networks side by side.
    pub fn replicas(&self) -> usize {
        self.recording.replicas() as usize
    }
}

/// Where the sums of a phase go.
#[derive(Clone, Copy)]
struct Meters {
    metrics: Tensor,
    fault: Tensor,
}

/// A network whose tensors exist, and whose operations are to be recorded.
struct Parts<'a> {
    spec: &'a NetworkSpec,
    feed: &'a Feed,
    input: Extent,
    layers: &'a [Layer],
    groups: &'a [Option<Group>; 2],
}

/// What the loss leaves for the backward pass and the metrics.
struct Judged {
    delta: Tensor,
    losses: Tensor,
    correct: Tensor,
}

impl Parts<'_> {
    /// From a part of a batch to the loss; returns the forward pass, the loss and the labels.
    fn record_forward(
        &self,
        rec: &mut Recording,
        phase: Phase,
        part: u32,
    ) -> Result<(Trace, Judged, Tensor), ShapeError> {
        let rows = if phase == Phase::Evaluate { self.spec.evaluation_batch } else { self.spec.rows() };
        rec.layer("");
        let (x, labels) = self.feed.record(rec, phase, rows, part * rows, self.input)?;
        let training = (phase != Phase::Evaluate).then_some(part);
        let trace = forward::record(rec, self.layers, x, rows, self.spec.precision, training)?;
        let outputs = trace.output();
        rec.layer("");
        rec.role(Role::Loss);
        let delta = rec.scratch("delta", rows, outputs.cols());
        let losses = rec.scratch("losses", rows, 1);
        let correct = rec.scratch("correct", rows, 1);
        match self.spec.loss {
            Loss::CrossEntropy => {
                rec.push(SoftmaxCrossEntropy { logits: outputs, labels, delta, losses, correct })?;
            }
            Loss::MeanSquaredError => rec.push(MeanSquaredError { outputs, labels, delta, losses, correct })?,
        }
        Ok((trace, Judged { delta, losses, correct }, labels))
    }

    fn record_training(&self, rec: &mut Recording, meters: Meters) -> Result<(), ShapeError> {
        let Meters { metrics, fault } = meters;
        rec.begin(Phase::Train);
        let groups = || self.groups.iter().flatten();
        let mut tracked = Vec::new();
        let mut so_far = BTreeMap::new();
        for index in 0..self.spec.accumulate {
            let (trace, Judged { delta, losses, correct }, labels) = self.record_forward(rec, Phase::Train, index)?;
            rec.push(Tally { losses, correct, metrics, fault })?;
            let part = Part { index, update: Some(&mut so_far) };
            if index == 0 {
                backward::record(rec, self.layers, &trace, (delta, labels), self.spec, part)?;
            } else {
                let layers: Vec<Layer> = self.layers.iter().map(|layer| layer.later(self.groups)).collect();
                backward::record(rec, &layers, &trace, (delta, labels), self.spec, part)?;
            }
            rec.layer("");
            for group in groups().filter(|_| index > 0) {
                group.accumulate(rec)?;
            }
            for (layer, left) in self.layers.iter().zip(&trace.left) {
                if let (Tensors::BatchNorm { running, .. }, Some(moments)) = (&layer.tensors, *left) {
                    let (running, rows) = (*running, self.spec.rows() * layer.extent.pixels());
                    tracked.push(TrackMoments { moments, running, fault, momentum: BATCHNORM_MOMENTUM, rows });
                }
            }
        }
        // After the last part: a fault in any leaves all as it was before the step.
        for group in groups() {
            group.record(rec, fault)?;
        }
        for track in tracked {
            rec.push(track)?;
        }
        Ok(())
    }

    /// Returns the outputs, which stay readable.
    fn record_evaluation(&self, rec: &mut Recording, meters: Meters) -> Result<Tensor, ShapeError> {
        rec.begin(Phase::Evaluate);
        let (trace, Judged { losses, correct, .. }, _) = self.record_forward(rec, Phase::Evaluate, 0)?;
        rec.push(Tally { losses, correct, metrics: meters.metrics, fault: meters.fault })?;
        rec.keep(trace.output());
        Ok(trace.output())
    }

    /// Returns the errors of the layers with weights, with their products, and the outputs of all layers, which stay readable.
    fn record_diagnosis(&self, rec: &mut Recording) -> Result<Diagnosis, ShapeError> {
        rec.begin(Phase::Diagnose);
        let (trace, Judged { delta, .. }, labels) = self.record_forward(rec, Phase::Diagnose, 0)?;
        let part = Part { index: 0, update: None };
        let deltas = backward::record(rec, self.layers, &trace, (delta, labels), self.spec, part)?.deltas;
        let weighted = self.layers.iter().filter(|layer| matches!(layer.tensors, Tensors::Linear(_)));
        let errors: Vec<LayerError> = weighted
            .zip(deltas)
            .map(|(layer, delta)| LayerError::record(rec, &layer.name, delta))
            .collect::<Result<_, _>>()?;
        let names = self.layers.iter().map(|layer| layer.name.clone());
        let activations: Vec<_> = names.zip(trace.values[1..].iter().copied()).collect();
        for tensor in errors.iter().flat_map(LayerError::tensors).chain(activations.iter().map(|(_, tensor)| *tensor)) {
            rec.keep(tensor);
        }
        Ok(Diagnosis { errors, activations })
    }
}

/// A step's state has room for so many replicas; a batch can be halved where the data set feeds it, not where the host writes it
/// whole.
fn check_counts(spec: &NetworkSpec) -> Result<(), ModelError> {
    let (batch, parts, replicas) = (spec.batch, spec.accumulate, spec.ranks.len());
    if !(1..=MAX_REPLICAS).contains(&replicas) {
        return Err(ModelError::Network(format!("{replicas} networks side by side, and 1 to {MAX_REPLICAS} can be")));
    }
    if parts == 0 || !batch.is_multiple_of(parts) {
        let problem = format!("train.accumulate = {parts} must divide train.batch = {batch}");
        return Err(ModelError::Network(problem));
    }
    if parts > 1 && matches!(spec.feed, FeedSpec::Host { .. }) {
        return Err(ModelError::Network("a batch that the host writes is taken in one part".into()));
    }
    Ok(())
}

/// The outputs go to the loss: a row of classes a sample.
fn check_output(spec: &NetworkSpec, graph: &Graph) -> Result<(), ModelError> {
    let Some(last) = graph.nodes.last().filter(|node| matches!(node.kind, Kind::Linear(None))) else {
        return Err(ModelError::Network(
            "model.layers: the last layer must be dense, its outputs go to the loss".into(),
        ));
    };
    if last.extent.channels != spec.classes {
        let (layer, found) = (format!("model.layers[{}]", spec.layers.len() - 1), last.extent.channels);
        let problem = format!("the last layer has {found} outputs, the data set has {} classes", spec.classes);
        return Err(ModelError::Layer { layer, problem });
    }
    let numbers = u64::from(spec.rows().max(spec.evaluation_batch)) * u64::from(graph.widest());
    if numbers > u64::from(u32::MAX) {
        let problem =
            format!("a batch has {numbers} numbers in its widest layer, too many to be counted; lower train.batch");
        return Err(ModelError::Network(problem));
    }
    for node in graph.nodes.iter().filter(|node| matches!(node.kind, Kind::BatchNorm)) {
        let rows = spec.rows().checked_mul(node.extent.pixels());
        if rows.is_some_and(|rows| rows < 2) {
            let problem = "batchnorm needs train.batch of at least 2, in every part of it".into();
            return Err(ModelError::Layer { layer: node.name.clone(), problem });
        }
    }
    Ok(())
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

/// Indices into the groups, before their tensors exist.
enum Reserved {
    Linear { weight: usize, bias: usize },
    BatchNorm { scale: usize, shift: usize },
    Other,
}

pub(super) fn allocate(
    spec: &NetworkSpec,
    graph: &Graph,
    recording: &mut Recording,
) -> Result<(Vec<Layer>, [Option<Group>; 2]), ModelError> {
    let plans = plan_pathways(spec, graph)?;
    check_deviations(spec, graph, &plans)?;
    let (mut weights, mut feedback) = (GroupBuilder::default(), GroupBuilder::default());
    let reserved: Vec<Reserved> = graph
        .nodes
        .iter()
        .map(|node| {
            let (name, channels) = (&node.name, node.extent.channels);
            match &node.kind {
                Kind::Linear(window) => {
                    let taps = window.map_or(1, |w| w.taps());
                    let inputs = taps * graph.extent(node.inputs[0]).channels;
                    Reserved::Linear {
                        weight: weights.add(format!("{name}.weight"), channels, inputs),
                        bias: weights.add(format!("{name}.bias"), 1, channels),
                    }
                }
                Kind::BatchNorm => Reserved::BatchNorm {
                    scale: weights.add(format!("{name}.weight"), 1, channels),
                    shift: weights.add(format!("{name}.bias"), 1, channels),
                },
                _ => Reserved::Other,
            }
        })
        .collect();
    let (p_rule, q_rule) = (spec.feedback.p_rule(), spec.feedback.q_rule());
    let slots: Vec<[Option<usize>; 2]> = plans
        .iter()
        .map(|plan| {
            let PlannedPathway::Factored { ranks, .. } = &plan.kind else { return [None; 2] };
            let (rank, name) = (widest(ranks), &graph.nodes[plan.node].name);
            let p = (p_rule != PRule::Fixed).then(|| feedback.add(format!("{name}.feedback.p"), plan.shape.0, rank));
            let q = (q_rule != QRule::Fixed).then(|| feedback.add(format!("{name}.feedback.q"), rank, plan.shape.1));
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
    let weights = weights.finish(recording, "weights", 0, &spec.optimizer, spec.accumulate);
    let feedback = feedback.finish(recording, "feedback", 1, &spec.feedback_optimizer, spec.accumulate);
    let member = |group: &Option<Group>, slot: usize| group.as_ref().map(|g| g.member(slot));
    let learns = graph.learns();
    let mut layers = Vec::new();
    for (index, (node, slot)) in graph.nodes.iter().zip(&reserved).enumerate() {
        let name = node.name.clone();
        let tensors = match slot {
            Reserved::Linear { weight, bias } => {
                let at = plans.iter().position(|p| p.node == index);
                let (Some(weight), Some(bias)) = (member(&weights, *weight), member(&weights, *bias)) else { continue };
                let pathway = at.map(|at| {
                    let learned = slots[at].map(|slot| slot.and_then(|slot| member(&feedback, slot)));
                    pathway(recording, &name, &plans[at], learned, p_rule, q_rule)
                });
                let ranks = match at.map(|at| &plans[at].kind) {
                    Some(PlannedPathway::Factored { ranks, .. }) => ranks.clone(),
                    _ => Vec::new(),
                };
                let source = at.map_or(index, |at| plans[at].source);
                let window = if let Kind::Linear(window) = node.kind { window } else { None };
                let name = name.clone();
                Tensors::Linear(LinearLayer { name, index, weight, bias, window, pathway, ranks, source })
            }
            Reserved::BatchNorm { scale, shift } => {
                let (Some(scale), Some(shift)) = (member(&weights, *scale), member(&weights, *shift)) else { continue };
                let running = recording.state(format!("{name}.running"), 2, node.extent.channels, Dtype::F32);
                Tensors::BatchNorm { scale, shift, running }
            }
            Reserved::Other => Tensors::None,
        };
        let passes_error = node.inputs.iter().any(|&value| learns[value]);
        let (kind, inputs, extent) = (node.kind.clone(), node.inputs.clone(), node.extent);
        layers.push(Layer { name, kind, inputs, extent, passes_error, tensors });
    }
    Ok((layers, [weights, feedback]))
}

fn widest(ranks: &[u32]) -> u32 {
    ranks.iter().copied().max().unwrap_or(1)
}

fn pathway(
    recording: &mut Recording,
    name: &str,
    plan: &PathwayPlan,
    [learned_p, learned_q]: [Option<Parameter>; 2],
    p_rule: PRule,
    q_rule: QRule,
) -> Pathway {
    let (m, k) = plan.shape;
    match &plan.kind {
        PlannedPathway::Exact => Pathway::Exact,
        PlannedPathway::Random => Pathway::Random(recording.state(format!("{name}.feedback.b"), m, k, Dtype::F32)),
        PlannedPathway::Factored { ranks, .. } => {
            let rank = widest(ranks);
            let mut fixed =
                |side: &str, rows, cols| recording.state(format!("{name}.feedback.{side}"), rows, cols, Dtype::F32);
            let p = learned_p.map_or_else(|| fixed("p", m, rank), |p| p.value);
            let q = learned_q.map_or_else(|| fixed("q", rank, k), |q| q.value);
            recording.mark_ranked(p, [false, true]);
            recording.mark_ranked(q, [true, false]);
            Pathway::Factored {
                p,
                q,
                learn_p: learned_p.map(|p| (p_rule, p.gradient)),
                learn_q: learned_q.map(|q| (q_rule, q.gradient)),
            }
        }
    }
}
