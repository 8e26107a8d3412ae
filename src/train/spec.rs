//! From a configuration and its data to the description of a network.

use crate::words::counted;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use super::TrainError;
use super::config::{Config, ConfigError, DataSection, LimitOrder};
use crate::data::{self, Contents, Dataset, ImageShape, Numbers, SearchPath, Split};
use crate::model::{DataFeed, FeedSpec, Network, NetworkSpec, Targets, widest};
use crate::ops::{Augment, Encoding};
use crate::optim::Horizon;
use crate::plan::{Options, Plan, PlanError, Profile};

/// Images of an evaluation step, unless the test set is smaller. Large enough to fill a device.
const EVALUATION_BATCH: u32 = 500;

/// Numbers that an evaluation step has in its widest place, if the training batch has no more. What is trained beside a
/// network plays no part in it: sums over batches must not depend on neighbours.
const EVALUATION_NUMBERS: u32 = 1 << 23;

/// Most bytes of images in one tensor: half of the smallest binding that WebGPU guarantees.
const SHARD_BYTES: u64 = 64 << 20;

/// The images of a configuration, no more of them than it wants. What is [remarkable](Dataset::remark) about them is said on
/// standard error, once in a process.
///
/// # Errors
/// If the set cannot be read, or has fewer classes or images than it is limited to.
fn dataset(section: &DataSection, search: &SearchPath) -> Result<Dataset, TrainError> {
    let data = data::open_cut(&section.name, section.length, search)?;
    check_images_wanted(section, &data.name, data.is_of_images())?;
    let mut data = formed(data, section)?;
    if let Some(classes) = section.classes {
        let found = data.classes.len();
        if found < classes as usize {
            let rule = format!("{} has only {}", data.name, counted(found as u64, "class"));
            return Err(ConfigError::Range { key: "data.classes", value: classes.to_string(), rule }.into());
        }
        data = data.of_classes(classes as usize);
    }
    if let Some(limit) = section.limit {
        let images = data.train.len();
        if images < limit as usize {
            let rule = format!("{} has only {} to train on", data.name, counted(images as u64, data.sample()));
            return Err(ConfigError::Range { key: "data.limit", value: limit.to_string(), rule }.into());
        }
        data = match section.limit_order {
            LimitOrder::Stratified => data.limited(limit as usize),
            LimitOrder::First => data.first(limit as usize),
        };
    }
    if let Some(remark) = data.remark() {
        say_once(remark);
    }
    Ok(data)
}

/// Sequences are neither mirrored nor shrunk, and have no class each to be chosen by.
fn check_images_wanted(section: &DataSection, name: &str, is_of_images: bool) -> Result<(), ConfigError> {
    let set = |is_set: bool, value: &dyn ToString| is_set.then(|| value.to_string());
    let asked = [
        ("data.grey", set(section.grey, &section.grey)),
        ("data.shrink", set(section.shrink > 1, &section.shrink)),
        ("data.flip", set(section.flip, &section.flip)),
        ("data.rotation", set(section.rotation > 0.0, &section.rotation)),
        ("data.crop_padding", set(section.crop_padding > 0, &section.crop_padding)),
        ("data.autoaugment", section.autoaugment.map(|policy| policy.name().to_owned())),
        ("data.cutout", set(section.cutout > 0, &section.cutout)),
        ("data.classes", section.classes.map(|classes| classes.to_string())),
    ];
    let found = asked.into_iter().find_map(|(key, value)| Some((key, value?)));
    match found.filter(|_| !is_of_images) {
        Some((key, value)) => {
            let rule = format!("is for images of one class each, and {name} has sequences; leave it out");
            Err(ConfigError::Range { key, value, rule })
        }
        None => Ok(()),
    }
}

/// A sweep reads its data again for every cell, and has nothing new to say about them.
fn say_once(remark: String) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if !said.contains(&remark) {
        // Whoever has closed standard error does not want to hear it.
        let _ = writeln!(io::stderr(), "warning: {remark}");
        said.insert(remark);
    }
}

/// A set with images of the colours and the size that a configuration wants.
///
/// # Errors
/// If their sides cannot be shrunk so.
pub(crate) fn formed(mut data: Dataset, section: &DataSection) -> Result<Dataset, ConfigError> {
    if section.grey {
        data = data.grey();
    }
    if section.shrink > 1 {
        let (value, side) = (section.shrink, [data.shape.height, data.shape.width]);
        if side.iter().any(|side| !side.is_multiple_of(value)) {
            let rule = format!("must divide both sides of the images, {} and {}", side[0], side[1]);
            return Err(ConfigError::Range { key: "data.shrink", value: value.to_string(), rule });
        }
        data = data.shrunk(value);
    }
    Ok(data)
}

impl Config {
    /// The images, no more of them than the configuration wants.
    ///
    /// # Errors
    /// If the set cannot be read, or has fewer classes or images than it is limited to.
    pub fn dataset(&self, search: &SearchPath) -> Result<Dataset, TrainError> {
        dataset(&self.data, search).map_err(|error| self.at(error))
    }
}

/// What a network needs to know of a data set.
pub(crate) struct Outline {
    pub(crate) name: String,
    pub(crate) shape: ImageShape,
    /// What the labels of a position are, and how many labels a sample has.
    pub(crate) targets: (Targets, u32),
    pub(crate) is_of_images: bool,
    /// What a sample is called.
    pub(crate) sample: &'static str,
    /// Images to train on.
    pub(crate) train: u32,
    /// Images to test on.
    pub(crate) test: u32,
    /// What makes bytes inputs, as [`encoding`] gives it.
    pub(crate) encoding: Encoding,
}

impl Outline {
    pub(crate) fn of(data: &Dataset) -> Outline {
        let images = |split: &Split| u32::try_from(split.len()).unwrap_or(u32::MAX);
        Outline {
            name: data.name.clone(),
            shape: data.shape,
            targets: (targets(data), data.train.targets),
            is_of_images: data.is_of_images(),
            sample: data.sample(),
            train: images(&data.train),
            test: images(&data.test),
            encoding: encoding(data),
        }
    }
}

/// The description of the network that a configuration and a data set make.
///
/// # Errors
/// If the set has fewer images than a batch, or more than the configuration limits it to: [`Config::dataset`] leaves them out; or
/// a schedule has no room in the run.
pub fn network_spec(config: &Config, data: &Dataset) -> Result<NetworkSpec, TrainError> {
    let outline = Outline::of(data);
    check_images(config, &outline).and_then(|()| Ok(check_length(config, outline.train)?)).map_err(|e| config.at(e))?;
    network_of(config, &outline)
}

/// The description of the network that a configuration makes of images which nobody has to have.
///
/// # Errors
/// As [`network_spec`], whatever the number of images and the length of the run.
pub(crate) fn network_of(config: &Config, data: &Outline) -> Result<NetworkSpec, TrainError> {
    described(config, data).map_err(|error| config.at(error))
}

/// A batch to train on, and something to test on.
fn check_images(config: &Config, data: &Outline) -> Result<(), TrainError> {
    let (train, test) = (data.train, data.test);
    if train < config.train.batch || test == 0 {
        return Err(TrainError::Batch(format!(
            "{} has {train} {}s to train on and {test} to test on; train.batch = {} needs at least as many to train on, \
             and one to test on; lower train.batch or take more of them",
            data.name, data.sample, config.train.batch
        )));
    }
    Ok(())
}

/// Steps are counted in 32 bits, and schedules by them.
fn check_length(config: &Config, images: u32) -> Result<(), ConfigError> {
    let Config { train, optimizer, .. } = config;
    let horizon = Horizon { steps_per_epoch: images / train.batch, epochs: train.epochs };
    if horizon.epochs.checked_mul(horizon.steps_per_epoch).is_none() {
        let rule = format!("with {} steps each these are more than {} steps", horizon.steps_per_epoch, u32::MAX);
        return Err(ConfigError::Range { key: "train.epochs", value: train.epochs.to_string(), rule });
    }
    for (section, own) in [("optimizer", Some(optimizer)), ("feedback_optimizer", config.feedback_optimizer.as_ref())] {
        let checked = own.map_or(Ok(()), |own| own.schedule.check_steps(horizon));
        checked.map_err(|source| ConfigError::Optimizer { section, source })?;
    }
    Ok(())
}

fn described(config: &Config, data: &Outline) -> Result<NetworkSpec, TrainError> {
    let (train, test) = (data.train, data.test);
    let section = &config.data;
    check_images_wanted(section, &data.name, data.is_of_images)?;
    if let Some(limit) = section.limit.filter(|&limit| limit < train) {
        let rule = format!(
            "the data set that was handed over has {} to train on, and must be limited first",
            counted(train, data.sample)
        );
        return Err(ConfigError::Range { key: "data.limit", value: limit.to_string(), rule }.into());
    }
    let side = data.shape.height.min(data.shape.width);
    if section.crop_padding >= side {
        let (value, rule) = (section.crop_padding.to_string(), format!("must be less than the images' side, {side}"));
        return Err(ConfigError::Range { key: "data.crop_padding", value, rule }.into());
    }
    let longer = data.shape.height.max(data.shape.width);
    if section.cutout > longer {
        let (value, rule) = (section.cutout.to_string(), format!("may be at most the images' longer side, {longer}"));
        return Err(ConfigError::Range { key: "data.cutout", value, rule }.into());
    }
    let image = [data.shape.height, data.shape.width, data.shape.channels];
    if let Some(policy) = section.autoaugment {
        let wrong = |rule| ConfigError::Range { key: "data.autoaugment", value: policy.name().to_owned(), rule };
        policy.check(image).map_err(wrong)?;
    }
    let augment = Augment {
        flip: section.flip,
        rotation: section.rotation,
        padding: section.crop_padding,
        autoaugment: section.autoaugment,
        cutout: section.cutout,
    };
    let encoding = data.encoding;
    let widest = widest(&config.model.layers, encoding.extent(image))?;
    let (targets, labels) = data.targets;
    let feed = DataFeed { image, encoding, targets: labels, train, test, augment, shard_bytes: SHARD_BYTES };
    let evaluation_batch = evaluation_batch(test.max(1), config.train.batch, widest);
    Ok(network(config, FeedSpec::Data(feed), targets, evaluation_batch))
}

/// The network of a configuration. What depends on the data stands beside it: where they come from, what the outputs are compared
/// with, and how many samples a step of evaluation takes.
pub fn network(config: &Config, feed: FeedSpec, targets: Targets, evaluation_batch: u32) -> NetworkSpec {
    NetworkSpec {
        layers: config.model.layers.clone(),
        freeze: config.model.freeze.clone(),
        loss: config.model.loss,
        label_smoothing: config.model.label_smoothing,
        feedback: config.feedback.clone(),
        optimizer: config.optimizer.clone(),
        feedback_optimizer: config.feedback_optimizer(),
        precision: config.train.precision,
        batch: config.train.batch,
        accumulate: config.train.accumulate,
        evaluation_batch,
        ranks: config.replicas().into_iter().map(|(rank, _)| rank).collect(),
        feed,
        targets,
    }
}

/// What the labels of a position are.
fn targets(data: &Dataset) -> Targets {
    let outputs = data.classes.len() as u32;
    match data.numbers {
        None => Targets::Classes(outputs),
        Some(Numbers { one, tolerance }) => {
            let (scale, tolerance) = (1.0 / f64::from(one), f64::from(tolerance) / f64::from(one));
            Targets::Numbers { outputs, scale, tolerance }
        }
    }
}

/// What makes bytes inputs. Tokens become one-hot; the values of a channel are standardised, so that in training they have mean 0
/// and standard deviation 1. A channel without any variation in training is no input: whatever it is in the test, 0 comes of it.
pub fn encoding(data: &Dataset) -> Encoding {
    if let Contents::Tokens(symbols) = data.contents {
        return Encoding::OneHot(symbols);
    }
    let statistics = data.channel_statistics();
    let (mut scale, mut shift) = ([0.0; 4], [0.0; 4]);
    for (channel, (mean, std)) in statistics.mean.iter().zip(&statistics.std).enumerate().take(4) {
        if *std > 0.0 {
            scale[channel] = 1.0 / std;
            shift[channel] = -mean * scale[channel];
        }
    }
    Encoding::Scaled { scale, shift }
}

/// Images of an evaluation step.
fn evaluation_batch(test: u32, batch: u32, widest: u32) -> u32 {
    test.min(EVALUATION_BATCH).min(batch.max(EVALUATION_NUMBERS / widest))
}

/// Where a tensor is too large for the device, the batch that would not be: found by halving, on plans alone.
pub(super) fn with_largest_batch(error: TrainError, spec: &NetworkSpec) -> TrainError {
    let TrainError::Plan(PlanError::TensorTooLarge { limit, .. }) = &error else { return error };
    let (FeedSpec::Data(data), Ok(widest)) = (&spec.feed, widest(&spec.layers, spec.feed.image())) else {
        return error;
    };
    let profile = Profile { max_binding_bytes: *limit, ..Profile::reference() };
    let fits = |batch: u32| {
        let evaluation_batch = evaluation_batch(data.test, batch, widest);
        let smaller = NetworkSpec { batch, accumulate: 1, evaluation_batch, ..spec.clone() };
        let planned = Network::new(&smaller).map(|n| Plan::new(n.recording, &profile, Options::default()));
        matches!(planned, Ok(Ok(_)))
    };
    let (mut fit, mut too_large) = (0, spec.batch);
    while too_large - fit > 1 {
        let middle = fit + (too_large - fit) / 2;
        if fits(middle) { fit = middle } else { too_large = middle }
    }
    match fit {
        0 => error,
        largest => {
            let batch = spec.batch;
            let accumulate = (1..=batch).find(|&n| batch.is_multiple_of(n) && batch / n <= largest).unwrap_or(batch);
            TrainError::TooLarge { largest, accumulate, batch, source: Box::new(error) }
        }
    }
}
