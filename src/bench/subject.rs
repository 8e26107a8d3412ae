//! Whole networks to be timed, with made-up data of the right shape.

use std::time::Instant;

use super::{BenchError, Effort};
use crate::data::{self, Dataset, ImageShape, SearchPath, Split};
use crate::gpu::Context;
use crate::model::Network;
use crate::ops::{Entry, Phase, Role};
use crate::plan::{Options, Plan, Tuned};
use crate::train::config::{Config, ConfigError, Draft};
use crate::train::machine::machine_on;
use crate::train::session::Session;
use crate::train::spec::{Outline, formed, network_spec};

/// How errors travel back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Backprop,
    Local,
    Normative,
    FeedbackAlignment,
}

impl Way {
    /// The rule's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Way::Backprop => "backprop",
            Way::Local => "local",
            Way::Normative => "normative",
            Way::FeedbackAlignment => "feedback-alignment",
        }
    }

    /// The configuration with this way in place of its own; one seed, so that it is one network.
    pub(super) fn of(self, mut draft: Draft) -> Result<Config, ConfigError> {
        draft.set_rule(self.name())?;
        draft.set("train.seeds", "1")?;
        draft.finish()
    }
}

/// Height, width, channels and classes of the sets known by name.
const SHAPES: [(&str, [u32; 3], usize); 5] = [
    ("digits", [8, 8, 1], 10),
    ("mnist", [28, 28, 1], 10),
    ("fashion-mnist", [28, 28, 1], 10),
    ("cifar10", [32, 32, 3], 10),
    ("cifar100", [32, 32, 3], 100),
];

/// Images that a step may draw from, in batches, and at least.
const BATCHES: usize = 4;
const LEAST_IMAGES: usize = 2048;

/// Most bytes of images that are made up.
const MOST_BYTES: usize = 4 << 30;

/// Noise in the shape of the configuration's data set, enough for some batches.
pub(crate) fn dataset(config: &Config) -> Result<Dataset, BenchError> {
    noise(config, (BATCHES * config.train.batch as usize).max(LEAST_IMAGES))
}

/// A data set of that shape, however large a batch is: where operations are only counted, nobody has to have its images.
pub(crate) fn outline(config: &Config) -> Result<Outline, BenchError> {
    Ok(Outline::of(&noise(config, LEAST_IMAGES)?))
}

fn noise(config: &Config, images: usize) -> Result<Dataset, BenchError> {
    let name = &config.data.name;
    if data::MADE.contains(&name.as_str()) {
        return Ok(config.dataset(&SearchPath::new(Vec::new()))?);
    }
    let Some((_, [height, width, channels], classes)) = SHAPES.iter().find(|(known, ..)| known == name) else {
        let known = SHAPES.map(|(known, ..)| known).join(", ");
        return Err(BenchError::Data { data: name.clone(), known });
    };
    let shape = ImageShape { height: *height, width: *width, channels: *channels };
    let split = |images: usize| Split {
        images: (0..images * shape.pixels()).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 24) as u8).collect(),
        labels: (0..images).map(|i| (i % classes) as _).collect(),
        ..Split::default()
    };
    if images.saturating_mul(shape.pixels()) > MOST_BYTES {
        let (value, rule) =
            (config.train.batch.to_string(), "needs more images than can be made up; lower it".to_owned());
        return Err(ConfigError::Range { key: "train.batch", value, rule }.into());
    }
    let train = split(images);
    let classes = (0..*classes).map(|class| class.to_string()).collect();
    let data = formed(Dataset::new(name, shape, classes, train, split(64))?, &config.data)?;
    let data = data.of_classes(config.data.classes.map_or(usize::MAX, |classes| classes as usize));
    Ok(match config.data.limit {
        Some(limit) => data.limited(limit as usize),
        None => data,
    })
}

/// Seconds of a sample of whole steps, in full and quick.
const SAMPLE_SECONDS: [f64; 2] = [0.2, 0.01];

/// What a subject repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeats {
    Steps,
    /// The backward part, which stands in the place of the evaluation.
    Backward,
}

/// A network whose steps, or whose backward parts, are timed.
pub(super) struct Subject {
    session: Session,
    repeats: Repeats,
    next: u32,
    count: u32,
}

/// Roles of the backward pass: from the loss's derivative to all gradients.
const BACKWARD: [Role; 4] = [Role::Transport, Role::Derivative, Role::WeightGradient, Role::Feedback];

impl Subject {
    /// A network as `train` builds it.
    pub(super) fn steps(
        context: &Context,
        config: Config,
        data: &Dataset,
        effort: Effort,
    ) -> Result<Subject, BenchError> {
        Subject::new(context, config, data, Repeats::Steps, effort)
    }

    /// The backward part of a network's steps alone.
    ///
    /// Its operations, recorded a second time in the place of the evaluation phase, run over what one whole training
    /// step has left on the device: true activations and errors. That is the backward pass as it is within a step, from
    /// one submission as any other, on adapters with and without timestamps, where timestamps around parts of a step
    /// would cut it into several passes. Tensors do not share memory here, or the first backward pass would overwrite
    /// the activations that the second reads; the kernels are the same.
    pub(super) fn backward(
        context: &Context,
        config: Config,
        data: &Dataset,
        effort: Effort,
    ) -> Result<Subject, BenchError> {
        Subject::new(context, config, data, Repeats::Backward, effort)
    }

    fn new(
        context: &Context,
        config: Config,
        data: &Dataset,
        repeats: Repeats,
        effort: Effort,
    ) -> Result<Subject, BenchError> {
        let session = Subject::start(context, config, data, repeats)?;
        let mut subject = Subject { session, repeats, next: 1, count: 1 };
        let batch = subject.batch();
        let [full, quick] = SAMPLE_SECONDS;
        let count = ((effort.pick(full, quick) / subject.sample()?) as u32).clamp(1, 10_000);
        // Whole submissions, as training makes them.
        subject.count = if count > batch { count / batch * batch } else { count };
        Ok(subject)
    }

    /// A network that has done its first step.
    fn start(context: &Context, config: Config, data: &Dataset, repeats: Repeats) -> Result<Session, BenchError> {
        let config = config.resolved();
        let spec = network_spec(&config, data)?;
        let mut network = Network::new(&spec)?;
        let mut options = Options::default();
        if repeats == Repeats::Backward {
            let entries = network.recording.entries(Phase::Train).iter();
            let backward: Vec<Entry> = entries.filter(|e| BACKWARD.contains(&e.role)).cloned().collect();
            network.recording.replace(Phase::Evaluate, backward);
            options.share_memory = false;
        }
        let machine = machine_on(context.clone(), &network.recording, options, &Tuned::default())?;
        let mut session = Session::assemble(config, data, &spec, network, machine)?;
        session.shuffle(0)?;
        session.train(0..1)?;
        session.fault()?;
        Ok(session)
    }

    /// Builds a network and does its first step.
    pub(super) fn first_step(context: &Context, config: Config, data: &Dataset) -> Result<(), BenchError> {
        Subject::start(context, config, data, Repeats::Steps).map(|_| ())
    }

    fn phase(&self) -> Phase {
        match self.repeats {
            Repeats::Steps => Phase::Train,
            Repeats::Backward => Phase::Evaluate,
        }
    }

    fn batch(&mut self) -> u32 {
        let phase = self.phase();
        self.session.executor().batch(phase) as u32
    }

    /// Seconds of one step or backward part, the host's part in it included.
    pub(super) fn sample(&mut self) -> Result<f64, BenchError> {
        let steps = self.next..self.next + self.count;
        let states: Vec<_> = steps.clone().map(|step| self.session.step_state(step)).collect();
        let phase = self.phase();
        let began = Instant::now();
        self.session.executor().run(phase, &states)?;
        // Reading waits for the device.
        let fault = self.session.fault()?;
        let seconds = began.elapsed().as_secs_f64() / f64::from(self.count);
        self.next = steps.end;
        // After a fault nothing is updated any more, which would flatter every later sample.
        match fault {
            None => Ok(seconds),
            Some((replica, step)) => Err(self.session.explain_fault(replica, step)?.into()),
        }
    }

    /// The plan that runs.
    pub(super) fn plan(&self) -> &Plan {
        self.session.plan()
    }

    /// Floating point operations of one sample's unit: a step, or its backward part.
    pub(super) fn flops(&self) -> u64 {
        self.plan().cost(self.phase(), None).flops
    }
}
