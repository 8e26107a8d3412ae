//! From a description to a recording: tensors first, then the operations of every phase.

use std::collections::BTreeMap;

use super::allocation::{Allocation, allocate};
use super::diagnosis::{Block, Diagnosis, LayerError};
use super::feed::{Feed, FeedSpec};
use super::graph::{Extent, Graph};
use super::layers::LayerSpec;
use super::parameter::{Exchange, Purpose, Weight};
use super::pass::{Pass, Placed, Settings, Tracked};
use super::spec::{Loss, ModelError, Precision, Targets};
use crate::feedback::{BackwardWeight, FeedbackSpec, Observed, Rank, Statistics, wrong as wrong_feedback};
use crate::ops::{
    Dtype, MAX_REPLICAS, MeanSquaredError, OneHot, Phase, Recording, Role, Section, ShapeError, SoftmaxCrossEntropy,
    SquaredDistance, Tally, TrackMoments, View,
};
use crate::optim::{Group, OptimizerSpec};
use crate::words::counted;

/// Everything that a network's operations depend on.
#[derive(Clone, Debug)]
pub struct NetworkSpec {
    /// From input to output.
    pub layers: Vec<LayerSpec>,
    /// Layers that keep their first values; "blocks" stands for all residual ones.
    pub freeze: Vec<String>,
    /// What is minimised.
    pub loss: Loss,
    /// Of cross-entropy in training; the loss of the test is not smoothed.
    pub label_smoothing: f64,
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
    /// Micro-batches that a training step takes its batch in, one after the other; gradients, and the statistics of the Oja rule,
    /// add up. Batch norm normalises each micro-batch by its own statistics.
    pub accumulate: u32,
    /// Samples of an evaluation step.
    pub evaluation_batch: u32,
    /// Rank of every replica (`None` for rules without one); its length is the number of replicas.
    pub ranks: Vec<Option<Rank>>,
    /// Where batches come from.
    pub feed: FeedSpec,
    /// What the outputs of the last layer are compared with.
    pub targets: Targets,
}

impl NetworkSpec {
    /// Samples of a micro-batch.
    pub(super) fn rows(&self) -> u32 {
        self.batch / self.accumulate.max(1)
    }

    pub(super) fn settings(&self) -> Settings {
        Settings { precision: self.precision, batch: self.batch, error_clamp: self.feedback.error_clamp }
    }
}

/// A recorded network.
#[derive(Clone, Debug)]
pub struct Network {
    /// The operations.
    pub recording: Recording,
    /// What the host fills.
    pub feed: Feed,
    /// Weights that errors go back through, from input to output.
    pub weights: Vec<Weight>,
    pub(super) layers: Vec<Placed>,
    /// Sums of loss and correct answers, and samples, of training steps: 1 x 3.
    pub train_metrics: View,
    /// The same of evaluation steps.
    pub test_metrics: View,
    /// Step of the first non-finite training loss plus one: 1 x 1.
    pub fault: View,
    /// The same of evaluation.
    pub test_fault: View,
    /// Outputs of an evaluation step: (samples x positions) x outputs, readable after [`Phase::Evaluate`].
    pub outputs: View,
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
        let mut graph = Graph::new(&spec.layers, spec.feed.image())?;
        graph.freeze(&spec.freeze)?;
        check_counts(spec)?;
        check_output(spec, &graph)?;
        let positions = graph.extent(graph.nodes.len()).pixels();
        let mut recording = Recording::new(spec.ranks.len() as u32);
        let labels = [spec.batch, positions * spec.targets.labels()];
        let feed = Feed::allocate(&mut recording, &spec.feed, labels, graph.input);
        let Allocation { layers, groups, exchange } = allocate(spec, &graph, &mut recording)?;
        let train = Meters {
            metrics: recording.state("train.metrics", 1, 3, Dtype::F32),
            fault: recording.state("train.fault", 1, 1, Dtype::U32),
        };
        let test = Meters {
            metrics: recording.workspace("test.metrics", 1, 3, Dtype::F32),
            fault: recording.workspace("test.fault", 1, 1, Dtype::U32),
        };
        let recorder = Recorder { spec, feed: &feed, input: graph.input, positions, layers: &layers, groups: &groups };
        recorder.record_training(&mut recording, train)?;
        let outputs = recorder.record_evaluation(&mut recording, test)?;
        let diagnosis = recorder.record_diagnosis(&mut recording)?;
        Ok(Network {
            train_metrics: train.metrics,
            test_metrics: test.metrics,
            fault: train.fault,
            test_fault: test.fault,
            outputs,
            exchange,
            weights: layers.iter().flat_map(Placed::weights).cloned().collect(),
            layers,
            diagnosis,
            recording,
            feed,
        })
    }

    /// Parameters that one replica learns, feedback not counted.
    pub fn parameters(&self) -> u64 {
        let learned = self.exchange.iter().filter(|e| e.purpose == Purpose::Learned);
        learned.map(|e| e.elements() as u64).sum()
    }

    /// Networks side by side.
    pub fn replicas(&self) -> usize {
        self.recording.replicas() as usize
    }
}

/// Where the sums of a phase go.
#[derive(Clone, Copy)]
struct Meters {
    metrics: View,
    fault: View,
}

/// A network whose tensors exist, and whose operations are to be recorded.
struct Recorder<'a> {
    spec: &'a NetworkSpec,
    feed: &'a Feed,
    input: Extent,
    /// Rows of outputs that a sample has.
    positions: u32,
    layers: &'a [Placed],
    groups: &'a [Option<Group>; 2],
}

/// What the loss leaves for the backward pass and the metrics.
struct Judged {
    delta: View,
    losses: View,
    correct: View,
    labels: View,
}

impl Recorder<'_> {
    /// From a batch to the loss; `micro_batch` is which of a training step's it is.
    fn record_forward<'r>(
        &'r self,
        rec: &'r mut Recording,
        phase: Phase,
        micro_batch: u32,
    ) -> Result<(Pass<'r>, Judged), ShapeError> {
        let rows = if phase == Phase::Evaluate { self.spec.evaluation_batch } else { self.spec.rows() };
        rec.layer("");
        let (x, labels) = self.feed.record(rec, phase, rows, micro_batch * rows, self.input)?;
        let training = (phase != Phase::Evaluate).then_some(micro_batch);
        let mut pass = Pass::new(rec, self.layers, self.spec.settings(), (x, rows), training);
        let outputs = pass.forward()?;
        let rec = &mut *pass.rec;
        rec.layer("");
        rec.role(Role::Loss);
        let delta = rec.scratch("delta", outputs.rows(), outputs.cols());
        let losses = rec.scratch("losses", rows, self.positions);
        let correct = rec.scratch("correct", rows, self.positions);
        match (self.spec.loss, self.spec.targets) {
            (Loss::CrossEntropy, _) => {
                let smoothing = if phase == Phase::Evaluate { 0.0 } else { self.spec.label_smoothing };
                rec.push(SoftmaxCrossEntropy { logits: outputs, labels, smoothing, delta, losses, correct })?;
            }
            (Loss::MeanSquaredError, Targets::Classes(_)) => {
                rec.push(MeanSquaredError { outputs, labels, delta, losses, correct })?;
            }
            (Loss::MeanSquaredError, Targets::Numbers { scale, tolerance, .. }) => {
                rec.push(SquaredDistance { outputs, labels, scale, tolerance, delta, losses, correct })?;
            }
        }
        Ok((pass, Judged { delta, losses, correct, labels }))
    }

    /// Forward and backward once a micro-batch, which leaves sums over samples; then what is done once a step.
    fn record_training(&self, rec: &mut Recording, meters: Meters) -> Result<(), ShapeError> {
        let Meters { metrics, fault } = meters;
        rec.begin(Phase::Train);
        let (mut tracked, mut observed) = (Vec::new(), BTreeMap::new());
        for micro_batch in 0..self.spec.accumulate {
            rec.section(Section::Forward);
            let (mut pass, judged) = self.record_forward(rec, Phase::Train, micro_batch)?;
            pass.rec.push(Tally { losses: judged.losses, correct: judged.correct, metrics, fault })?;
            pass.rec.section(Section::Backward);
            pass.learns = true;
            pass.backward(judged.delta)?;
            pass.observe(&mut observed, |rec, weight, source| self.statistics(rec, weight, source, judged.labels))?;
            tracked.extend(pass.tracked());
        }
        observed.values().flat_map(|observed: &Observed| observed.sums()).for_each(|sums| rec.reduce(sums));
        rec.section(Section::Update);
        self.learn_feedback(rec, &observed)?;
        rec.layer("");
        // A fault in any micro-batch leaves all as it was before the step.
        for group in self.groups.iter().flatten() {
            group.record(rec, fault)?;
        }
        for Tracked { moments, running, momentum, rows } in tracked {
            rec.push(TrackMoments { moments, running, fault, momentum, rows })?;
        }
        Ok(())
    }

    /// What the Oja rule of a weight learns from: the error that it sent, or at the output layer the labels if they are asked for.
    fn statistics(&self, rec: &mut Recording, weight: &Weight, source: View, labels: View) -> Result<View, ShapeError> {
        let is_output = weight.source() == self.layers.len() - 1;
        if !is_output || self.spec.feedback.output_statistics != Statistics::Labels {
            return Ok(source);
        }
        let out = rec.scratch("one_hot", source.rows(), source.cols());
        rec.push(OneHot { labels, out })?;
        Ok(out)
    }

    /// The gradients of P and Q that are made once a step, from the output layer down as errors go.
    fn learn_feedback(&self, rec: &mut Recording, observed: &BTreeMap<String, Observed>) -> Result<(), ShapeError> {
        for weight in self.layers.iter().rev().flat_map(Placed::weights) {
            let Some(feedback) = &weight.feedback else { continue };
            rec.layer(weight.name.clone());
            let way = BackwardWeight { pathway: &feedback.pathway, weight: weight.learned, window: weight.window };
            way.learn(rec, observed.get(&weight.feedback_name).copied().unwrap_or_default())?;
        }
        Ok(())
    }

    /// Returns the outputs, which stay readable.
    fn record_evaluation(&self, rec: &mut Recording, meters: Meters) -> Result<View, ShapeError> {
        rec.begin(Phase::Evaluate);
        let (pass, Judged { losses, correct, .. }) = self.record_forward(rec, Phase::Evaluate, 0)?;
        pass.rec.push(Tally { losses, correct, metrics: meters.metrics, fault: meters.fault })?;
        let outputs = pass.values()[self.layers.len()];
        pass.rec.keep(outputs);
        Ok(outputs)
    }

    /// Returns the errors of the layers with weights, with what is made of them, and the outputs of all layers, which stay readable.
    fn record_diagnosis(&self, rec: &mut Recording) -> Result<Diagnosis, ShapeError> {
        rec.begin(Phase::Diagnose);
        let (mut pass, Judged { delta, .. }) = self.record_forward(rec, Phase::Diagnose, 0)?;
        pass.backward(delta)?;
        let names = self.layers.iter().map(|layer| layer.name.clone());
        let activations = names.zip(pass.values()[1..].iter().copied()).collect();
        let blocks = Block::all(self.layers, pass.values());
        let errors = pass.errors().into_iter().map(|(weight, error)| LayerError::record(&mut pass, weight, error));
        let diagnosis = Diagnosis { errors: errors.collect::<Result<_, _>>()?, blocks, activations };
        diagnosis.tensors().for_each(|tensor| rec.keep(tensor));
        Ok(diagnosis)
    }
}

/// A step's state has room for so many replicas; a batch can be halved where the data set feeds it, not where the host writes it
/// whole.
fn check_counts(spec: &NetworkSpec) -> Result<(), ModelError> {
    let (batch, micro_batches, replicas) = (spec.batch, spec.accumulate, spec.ranks.len());
    if !(1..=MAX_REPLICAS).contains(&replicas) {
        return Err(ModelError::Network(format!("{replicas} networks side by side, and 1 to {MAX_REPLICAS} can be")));
    }
    if micro_batches == 0 || !batch.is_multiple_of(micro_batches) {
        let problem = format!("train.accumulate = {micro_batches} must divide train.batch = {batch}");
        return Err(ModelError::Network(problem));
    }
    if micro_batches > 1 && matches!(spec.feed, FeedSpec::Host { .. }) {
        return Err(ModelError::Network("a batch that the host writes is taken as one micro-batch".into()));
    }
    Ok(())
}

/// The outputs go to the loss: a row of them a target.
fn check_output(spec: &NetworkSpec, graph: &Graph) -> Result<(), ModelError> {
    let Some(last) = graph.nodes.last().filter(|node| node.layer.gives_outputs()) else {
        return Err(ModelError::Network(
            "model.layers: the last layer must be dense, its outputs go to the loss".into(),
        ));
    };
    let wrong = |problem| {
        let layer = format!("model.layers[{}]", spec.layers.len() - 1);
        Err(ModelError::Layer { layer, problem })
    };
    if let FeedSpec::Data(data) = &spec.feed {
        let [height, width] = last.extent.sides();
        match data.targets / spec.targets.labels() {
            wanted if wanted == last.extent.pixels() => {}
            1 => {
                return wrong(format!(
                    "the last layer gives a row of outputs at each of {height} x {width} positions, and the loss takes \
                     one a sample; put a flatten, globalavgpool or first-token before it"
                ));
            }
            wanted => {
                return wrong(format!(
                    "the last layer gives a row of outputs at each of {height} x {width} positions, and the data set \
                     has a target at each of {wanted}; leave out what joins positions, such as last-token"
                ));
            }
        }
    }
    let (found, wanted) = (last.extent.channels, spec.targets.outputs());
    if found != wanted {
        let what = match spec.targets {
            Targets::Classes(_) => counted(wanted, "class"),
            Targets::Numbers { .. } => counted(wanted, "number"),
        };
        let (found, last) = (counted(found, "output"), spec.layers.len() - 1);
        return wrong(format!(
            "the last layer has {found}, the data set has {what}; --set model.layers.{last}.out={wanted}"
        ));
    }
    if let Targets::Numbers { .. } = spec.targets {
        if spec.loss == Loss::CrossEntropy {
            let problem = "model.loss: cross-entropy needs classes, and the targets are numbers; set it to \
                           \"mean-squared-error\"";
            return Err(ModelError::Network(problem.into()));
        }
        if spec.feedback.output_statistics == Statistics::Labels {
            let problem = "labels are one-hot classes, and the targets are numbers; leave it out";
            return Err(wrong_feedback("output_statistics", problem.to_owned()).into());
        }
    }
    let numbers = u64::from(spec.rows().max(spec.evaluation_batch)) * u64::from(graph.widest());
    if numbers > u64::from(u32::MAX) {
        let problem =
            format!("a batch has {numbers} numbers in its widest layer, too many to be counted; lower train.batch");
        return Err(ModelError::Network(problem));
    }
    for node in &graph.nodes {
        let rows = spec.rows().checked_mul(node.extent.pixels());
        if rows.is_some_and(|rows| rows < node.layer.least_rows()) {
            let problem = "batchnorm needs train.batch of at least 2, in every micro-batch of it".into();
            return Err(ModelError::Layer { layer: node.name.clone(), problem });
        }
    }
    Ok(())
}
