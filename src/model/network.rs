//! From a description to a recording: tensors first, then the operations of every phase.

use super::feed::{Feed, FeedSpec};
use super::forward::Trace;
use super::spec::{LayerSpec, Loss, ModelError, Precision};
use super::{backward, forward};
use crate::feedback::{FeedbackSpec, PRule, Pathway, QRule, Rule, Source};
use crate::ops::{
    Activation, Dtype, MeanSquaredError, Phase, Recording, Role, ShapeError, SoftmaxCrossEntropy, Tally, Tensor,
    TrackMoments,
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
    /// Samples of an evaluation step.
    pub evaluation_batch: u32,
    /// Rank of every replica (`None` for rules without one); its length is the number of replicas.
    pub ranks: Vec<Option<u32>>,
    /// Where batches come from.
    pub feed: FeedSpec,
    /// Classes of the data set, which the last layer must have as outputs.
    pub classes: u32,
}

/// A dense layer with its way back.
#[derive(Clone, Debug)]
pub struct DenseLayer {
    /// `layers.<index>`.
    pub name: String,
    /// Position in the list of layers.
    pub index: usize,
    /// m x k.
    pub weight: Parameter,
    /// 1 x m.
    pub bias: Parameter,
    /// What stands in for the weight; `None` where no error passes.
    pub pathway: Option<Pathway>,
    /// Rank of every replica's pathway; empty unless it is factored.
    pub ranks: Vec<u32>,
    /// Dense layer whose error the pathway carries.
    pub source: usize,
}

/// A layer with its tensors.
#[derive(Clone, Debug)]
pub(super) enum Layer {
    Dense(DenseLayer),
    BatchNorm { scale: Parameter, shift: Parameter, running: Tensor },
    Activation(Activation),
    Dropout { drop: f64, stream: u32 },
}

/// A part of a tensor under the name and shape that files use.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Such as `layers.2.feedback.p`.
    pub name: String,
    /// Where the values are.
    pub tensor: Tensor,
    /// First row that belongs to the name.
    pub row: u32,
    /// Shape in files.
    pub shape: Vec<usize>,
    /// Which side of a factored pathway it is: its rank axis is padded with zeros for replicas of smaller rank.
    pub rank_axis: Option<usize>,
}

/// A recorded network.
#[derive(Clone, Debug)]
pub struct Network {
    /// The operations.
    pub recording: Recording,
    /// What the host fills.
    pub feed: Feed,
    /// Dense layers from input to output.
    pub dense: Vec<DenseLayer>,
    /// Weights, then feedback; absent if nothing in it learns.
    pub groups: [Option<Group>; 2],
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
    /// Error at each dense layer's output, readable after [`Phase::Diagnose`]; same order as `dense`.
    pub deltas: Vec<Tensor>,
    /// Every layer's output with its name, readable after [`Phase::Diagnose`].
    pub activations: Vec<(String, Tensor)>,
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
        let widths = widths(spec)?;
        let mut recording = Recording::new(spec.ranks.len() as u32);
        let feed = Feed::allocate(&mut recording, &spec.feed, spec.batch);
        let (layers, groups) = allocate(spec, &widths, &mut recording)?;
        let mut state = |name: &str, cols, dtype| recording.state(name, 1, cols, dtype);
        let train =
            Meters { metrics: state("train.metrics", 3, Dtype::F32), fault: state("train.fault", 1, Dtype::U32) };
        let test = Meters { metrics: state("test.metrics", 3, Dtype::F32), fault: state("test.fault", 1, Dtype::U32) };
        let parts = Parts { spec, feed: &feed, layers: &layers, groups: &groups };
        parts.record_training(&mut recording, train)?;
        let outputs = parts.record_evaluation(&mut recording, test)?;
        let Diagnosis { deltas, activations } = parts.record_diagnosis(&mut recording)?;
        Ok(Network {
            train_metrics: train.metrics,
            test_metrics: test.metrics,
            fault: train.fault,
            test_fault: test.fault,
            outputs,
            exchange: exchange(&layers),
            dense: layers.into_iter().filter_map(|l| if let Layer::Dense(d) = l { Some(d) } else { None }).collect(),
            deltas,
            activations,
            recording,
            feed,
            groups,
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
    layers: &'a [Layer],
    groups: &'a [Option<Group>; 2],
}

/// What the loss leaves for the backward pass and the metrics.
struct Judged {
    delta: Tensor,
    losses: Tensor,
    correct: Tensor,
}

/// What the host looks at after [`Phase::Diagnose`].
struct Diagnosis {
    deltas: Vec<Tensor>,
    activations: Vec<(String, Tensor)>,
}

impl Parts<'_> {
    /// From a batch to the loss; returns the forward pass, the loss and the labels.
    fn record_forward(&self, rec: &mut Recording, phase: Phase) -> Result<(Trace, Judged, Tensor), ShapeError> {
        let rows = if phase == Phase::Evaluate { self.spec.evaluation_batch } else { self.spec.batch };
        rec.begin(phase);
        let (x, labels) = self.feed.record(rec, phase, rows)?;
        let trace = forward::record(rec, self.layers, x, self.spec.precision, phase != Phase::Evaluate)?;
        let outputs = trace.output;
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
        let (trace, Judged { delta, losses, correct }, labels) = self.record_forward(rec, Phase::Train)?;
        let Meters { metrics, fault } = meters;
        rec.push(Tally { losses, correct, metrics, fault })?;
        let NetworkSpec { feedback, precision, .. } = self.spec;
        backward::record(rec, self.layers, &trace, delta, labels, feedback, *precision, true)?;
        rec.layer("");
        for group in self.groups.iter().flatten() {
            group.record(rec, fault)?;
        }
        for (layer, moments) in self.layers.iter().zip(&trace.moments) {
            if let (Layer::BatchNorm { running, .. }, Some(moments)) = (layer, *moments) {
                let (running, rows) = (*running, self.spec.batch);
                rec.push(TrackMoments { moments, running, fault, momentum: BATCHNORM_MOMENTUM, rows })?;
            }
        }
        Ok(())
    }

    /// Returns the outputs, which stay readable.
    fn record_evaluation(&self, rec: &mut Recording, meters: Meters) -> Result<Tensor, ShapeError> {
        let (trace, Judged { losses, correct, .. }, _) = self.record_forward(rec, Phase::Evaluate)?;
        rec.push(Tally { losses, correct, metrics: meters.metrics, fault: meters.fault })?;
        rec.keep(trace.output);
        Ok(trace.output)
    }

    /// Returns the errors of the dense layers and the outputs of all layers, which stay readable.
    fn record_diagnosis(&self, rec: &mut Recording) -> Result<Diagnosis, ShapeError> {
        let (trace, Judged { delta, .. }, labels) = self.record_forward(rec, Phase::Diagnose)?;
        let NetworkSpec { feedback, precision, .. } = self.spec;
        let deltas = backward::record(rec, self.layers, &trace, delta, labels, feedback, *precision, false)?;
        let activations: Vec<_> = (0..self.layers.len()).map(|i| (layer_name(i), trace.output_of(i))).collect();
        for &tensor in deltas.iter().chain(activations.iter().map(|(_, tensor)| tensor)) {
            rec.keep(tensor);
        }
        Ok(Diagnosis { deltas, activations })
    }
}

fn layer_error(index: usize, problem: impl Into<String>) -> ModelError {
    ModelError::Layer { index, problem: problem.into() }
}

/// Width of every layer's input, and of the last one's output.
fn widths(spec: &NetworkSpec) -> Result<Vec<u32>, ModelError> {
    let mut widths = vec![spec.feed.features()];
    for (index, layer) in spec.layers.iter().enumerate() {
        let width = widths[index];
        widths.push(match layer {
            LayerSpec::Dense { out: 0 } => return Err(layer_error(index, "dense needs out of at least 1")),
            LayerSpec::Dense { out } => *out,
            LayerSpec::Dropout { p } if !(0.0..1.0).contains(p) => {
                return Err(layer_error(index, format!("dropout with p = {p}: it must lie in [0, 1)")));
            }
            LayerSpec::BatchNorm {} if spec.batch < 2 => {
                return Err(layer_error(index, "batchnorm needs train.batch of at least 2"));
            }
            _ => width,
        });
    }
    let Some(LayerSpec::Dense { out }) = spec.layers.last() else {
        return Err(ModelError::Network(
            "model.layers: the last layer must be dense, its outputs go to the loss".into(),
        ));
    };
    if *out != spec.classes {
        let problem = format!("the last layer has {out} outputs, the data set has {} classes", spec.classes);
        return Err(layer_error(spec.layers.len() - 1, problem));
    }
    Ok(widths)
}

/// What a feedback matrix needs before the groups can be laid out.
struct Plan {
    index: usize,
    source: usize,
    /// Width of the source and of the layer's input.
    shape: (u32, u32),
    kind: PlannedPathway,
}

enum PlannedPathway {
    Exact,
    Random,
    Factored { ranks: Vec<u32> },
}

fn layer_name(index: usize) -> String {
    format!("layers.{index}")
}

/// Decides the way back through every dense layer that an error passes.
fn plan_pathways(spec: &NetworkSpec, widths: &[u32]) -> Result<Vec<Plan>, ModelError> {
    let dense: Vec<usize> =
        (0..spec.layers.len()).filter(|&i| matches!(spec.layers[i], LayerSpec::Dense { .. })).collect();
    let names: Vec<String> = dense.iter().map(|&i| layer_name(i)).collect();
    for name in spec.feedback.exact.iter().chain(spec.feedback.ranks.keys()) {
        if !names.contains(name) {
            let problem = format!("feedback: {name} is not a dense layer; those are {}", names.join(", "));
            return Err(ModelError::Network(problem));
        }
    }
    let first_learned = spec.layers.iter().position(LayerSpec::has_parameters).unwrap_or(0);
    let mut plans = Vec::new();
    for &index in dense.iter().filter(|&&i| i > first_learned) {
        let name = layer_name(index);
        // The first dense layer has no feedback; it is passed only if something below it learns.
        let exact = index == dense[0] || spec.feedback.exact.contains(&name) || spec.feedback.rule == Rule::Backprop;
        let source = if exact { index } else { source_of(spec, &dense, index)? };
        let shape = (widths[source + 1], widths[index]);
        let kind = match (exact, spec.feedback.rule) {
            (true, _) | (_, Rule::Backprop) => PlannedPathway::Exact,
            (_, Rule::FeedbackAlignment | Rule::DirectFeedbackAlignment) => PlannedPathway::Random,
            (_, Rule::Ldfa) => {
                let own = spec.feedback.ranks.get(&name).copied();
                let bound = shape.0.min(shape.1);
                let ranks = spec.ranks.iter().map(|rank| own.or(*rank).unwrap_or(bound).min(bound)).collect();
                PlannedPathway::Factored { ranks }
            }
        };
        plans.push(Plan { index, source, shape, kind });
    }
    check_ranks(spec, &plans)?;
    Ok(plans)
}

/// A rank that no layer can use is a mistake; one that some layers can is clipped at the others.
fn check_ranks(spec: &NetworkSpec, plans: &[Plan]) -> Result<(), ModelError> {
    let factored = |p: &&Plan| matches!(p.kind, PlannedPathway::Factored { .. });
    let Some(largest) = plans.iter().filter(factored).map(|p| p.shape.0.min(p.shape.1)).max() else { return Ok(()) };
    let own = |p: &&Plan| spec.feedback.ranks.contains_key(&layer_name(p.index));
    let several = spec.ranks.iter().any(|rank| *rank != spec.ranks[0]);
    if several && plans.iter().filter(factored).all(|p| own(&p)) {
        let problem = "feedback.rank lists several ranks, but feedback.ranks sets the rank of every layer: all networks \
                       would be alike; leave one of the two out";
        return Err(ModelError::Network(problem.into()));
    }
    let too_large = spec.ranks.iter().flatten().chain(spec.feedback.ranks.values()).find(|&&r| r > largest);
    match too_large {
        Some(rank) => Err(ModelError::Network(format!(
            "feedback.rank = {rank} is more than any layer can use; the largest useful rank here is {largest}"
        ))),
        None => Ok(()),
    }
}

fn source_of(spec: &NetworkSpec, dense: &[usize], index: usize) -> Result<usize, ModelError> {
    match spec.feedback.source() {
        Source::Layer => Ok(index),
        Source::Output => Ok(spec.layers.len() - 1),
        Source::Named(name) => {
            let named = dense.iter().copied().find(|&i| layer_name(i) == name);
            // A layer above the source has no error from it to take: it keeps its own.
            named.map(|source| source.max(index)).ok_or_else(|| {
                let names: Vec<String> = dense.iter().map(|&i| layer_name(i)).collect();
                ModelError::Network(format!(
                    "feedback.source = \"{name}\": use \"layer\", \"output\" or a dense layer: {}",
                    names.join(", ")
                ))
            })
        }
    }
}

/// Indices into the groups, before their tensors exist.
enum Reserved {
    Dense { weight: usize, bias: usize },
    BatchNorm { scale: usize, shift: usize },
    Other,
}

fn allocate(
    spec: &NetworkSpec,
    widths: &[u32],
    recording: &mut Recording,
) -> Result<(Vec<Layer>, [Option<Group>; 2]), ModelError> {
    let plans = plan_pathways(spec, widths)?;
    let (mut weights, mut feedback) = (GroupBuilder::default(), GroupBuilder::default());
    let reserved: Vec<Reserved> = (0..spec.layers.len())
        .map(|i| {
            let name = layer_name(i);
            match spec.layers[i] {
                LayerSpec::Dense { out } => Reserved::Dense {
                    weight: weights.add(format!("{name}.weight"), out, widths[i]),
                    bias: weights.add(format!("{name}.bias"), 1, out),
                },
                LayerSpec::BatchNorm {} => Reserved::BatchNorm {
                    scale: weights.add(format!("{name}.weight"), 1, widths[i]),
                    shift: weights.add(format!("{name}.bias"), 1, widths[i]),
                },
                _ => Reserved::Other,
            }
        })
        .collect();
    let (p_rule, q_rule) = (spec.feedback.p_rule(), spec.feedback.q_rule());
    let slots: Vec<[Option<usize>; 2]> = plans
        .iter()
        .map(|plan| {
            let PlannedPathway::Factored { ranks } = &plan.kind else { return [None; 2] };
            let (rank, name) = (widest(ranks), layer_name(plan.index));
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
    let weights = weights.finish(recording, "weights", 0, &spec.optimizer);
    let feedback = feedback.finish(recording, "feedback", 1, &spec.feedback_optimizer);
    let member = |group: &Option<Group>, slot: usize| group.as_ref().map(|g| g.member(slot));
    let mut layers = Vec::new();
    for (index, (layer, slot)) in spec.layers.iter().zip(&reserved).enumerate() {
        let name = layer_name(index);
        layers.push(match (layer, slot) {
            (LayerSpec::Dense { .. }, Reserved::Dense { weight, bias }) => {
                let at = plans.iter().position(|p| p.index == index);
                let (Some(weight), Some(bias)) = (member(&weights, *weight), member(&weights, *bias)) else { continue };
                let pathway = at.map(|at| {
                    let learned = slots[at].map(|slot| slot.and_then(|slot| member(&feedback, slot)));
                    pathway(recording, &plans[at], learned, p_rule, q_rule)
                });
                let ranks = match at.map(|at| &plans[at].kind) {
                    Some(PlannedPathway::Factored { ranks }) => ranks.clone(),
                    _ => Vec::new(),
                };
                let source = at.map_or(index, |at| plans[at].source);
                Layer::Dense(DenseLayer { name, index, weight, bias, pathway, ranks, source })
            }
            (LayerSpec::BatchNorm {}, Reserved::BatchNorm { scale, shift }) => {
                let (Some(scale), Some(shift)) = (member(&weights, *scale), member(&weights, *shift)) else { continue };
                let running = recording.state(format!("{name}.running"), 2, widths[index], Dtype::F32);
                Layer::BatchNorm { scale, shift, running }
            }
            (LayerSpec::Gelu {}, _) => Layer::Activation(Activation::Gelu),
            (LayerSpec::Dropout { p }, _) => Layer::Dropout { drop: *p, stream: index as u32 },
            _ => Layer::Activation(Activation::Relu),
        });
    }
    Ok((layers, [weights, feedback]))
}

fn widest(ranks: &[u32]) -> u32 {
    ranks.iter().copied().max().unwrap_or(1)
}

fn pathway(
    recording: &mut Recording,
    plan: &Plan,
    [learned_p, learned_q]: [Option<Parameter>; 2],
    p_rule: PRule,
    q_rule: QRule,
) -> Pathway {
    let (name, (m, k)) = (layer_name(plan.index), plan.shape);
    match &plan.kind {
        PlannedPathway::Exact => Pathway::Exact,
        PlannedPathway::Random => Pathway::Random(recording.state(format!("{name}.feedback.b"), m, k, Dtype::F32)),
        PlannedPathway::Factored { ranks } => {
            let rank = widest(ranks);
            let mut fixed =
                |side: &str, rows, cols| recording.state(format!("{name}.feedback.{side}"), rows, cols, Dtype::F32);
            Pathway::Factored {
                p: learned_p.map_or_else(|| fixed("p", m, rank), |p| p.value),
                q: learned_q.map_or_else(|| fixed("q", rank, k), |q| q.value),
                learn_p: learned_p.map(|p| (p_rule, p.gradient)),
                learn_q: learned_q.map(|q| (q_rule, q.gradient)),
            }
        }
    }
}

/// Names and shapes that files use: PyTorch's for parameters, `feedback.p` and `.q` for P^T and Q^T.
fn exchange(layers: &[Layer]) -> Vec<Exchange> {
    let mut list = Vec::new();
    let mut add = |name: String, tensor: Tensor, row: u32, shape: Vec<u32>, rank_axis| {
        let shape = shape.into_iter().map(|n| n as usize).collect();
        list.push(Exchange { name, tensor, row, shape, rank_axis });
    };
    for (index, layer) in layers.iter().enumerate() {
        let name = layer_name(index);
        match layer {
            Layer::Dense(dense) => {
                let (m, k) = (dense.weight.value.rows(), dense.weight.value.cols());
                add(format!("{name}.weight"), dense.weight.value, 0, vec![m, k], None);
                add(format!("{name}.bias"), dense.bias.value, 0, vec![m], None);
                match dense.pathway {
                    Some(Pathway::Factored { p, q, .. }) => {
                        add(format!("{name}.feedback.p"), p, 0, vec![p.rows(), p.cols()], Some(1));
                        add(format!("{name}.feedback.q"), q, 0, vec![q.rows(), q.cols()], Some(0));
                    }
                    Some(Pathway::Random(b)) => {
                        add(format!("{name}.feedback.b"), b, 0, vec![b.rows(), b.cols()], None);
                    }
                    Some(Pathway::Exact) | None => {}
                }
            }
            Layer::BatchNorm { scale, shift, running } => {
                let width = running.cols();
                add(format!("{name}.weight"), scale.value, 0, vec![width], None);
                add(format!("{name}.bias"), shift.value, 0, vec![width], None);
                add(format!("{name}.running_mean"), *running, 0, vec![width], None);
                add(format!("{name}.running_var"), *running, 1, vec![width], None);
            }
            Layer::Activation(_) | Layer::Dropout { .. } => {}
        }
    }
    list
}
