//! Where batches come from.

use super::graph::Extent;
use crate::ops::{Augment, Dtype, Encoding, Gather, Phase, Recording, Role, ShapeError, View};

/// A data set to be held on the device as bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct DataFeed {
    /// Height, width, channels of an image of bytes.
    pub image: [u32; 3],
    /// What bytes become.
    pub encoding: Encoding,
    /// Labels of an image.
    pub targets: u32,
    /// Images to train on.
    pub train: u32,
    /// Images to test on.
    pub test: u32,
    /// Random changes while training.
    pub augment: Augment,
    /// Most bytes of images in one tensor.
    pub shard_bytes: u64,
}

/// How a network is fed.
#[derive(Clone, Debug, PartialEq)]
pub enum FeedSpec {
    /// The host writes every batch: `x` and `labels`.
    Host {
        /// Height, width, channels; a row of features is an image of one pixel.
        image: [u32; 3],
    },
    /// A kernel gathers it from the data set.
    Data(DataFeed),
}

impl FeedSpec {
    /// Height, width, channels of a sample as the network sees it.
    pub fn image(&self) -> [u32; 3] {
        match self {
            FeedSpec::Host { image } => *image,
            FeedSpec::Data(data) => data.encoding.extent(data.image),
        }
    }
}

/// A part of a split that fits one binding.
#[derive(Clone, Copy, Debug)]
pub struct Shard {
    /// Index of its first image in the split.
    pub first: u32,
    /// u8, images x features.
    pub images: View,
    /// u32, images x targets.
    pub classes: View,
}

/// One split on the device.
#[derive(Clone, Debug)]
pub struct SplitTensors {
    /// Its images and labels.
    pub shards: Vec<Shard>,
    /// Which image comes when; the training split has one per replica.
    pub permutation: View,
}

/// Tensors that the host fills.
#[derive(Clone, Debug)]
pub enum Feed {
    /// Before every step.
    Host {
        /// rows x features, or (rows pixels) x channels where the first layer takes images; the same order in memory.
        x: View,
        /// samples x labels of a sample.
        labels: View,
    },
    /// Images once, permutations once an epoch.
    Data {
        /// Training split.
        train: SplitTensors,
        /// Test split, in its own order.
        test: SplitTensors,
        /// How bytes become inputs.
        spec: DataFeed,
    },
}

impl Feed {
    /// For batches of `rows` samples with so many labels each.
    pub(super) fn allocate(
        recording: &mut Recording,
        spec: &FeedSpec,
        [rows, targets]: [u32; 2],
        input: Extent,
    ) -> Feed {
        match spec {
            FeedSpec::Host { .. } => Feed::Host {
                x: recording.workspace("x", rows * input.pixels(), input.channels, Dtype::F32),
                labels: recording.workspace("labels", rows, targets, Dtype::U32),
            },
            FeedSpec::Data(data) => Feed::Data {
                train: split(recording, "train", data, data.train, true),
                test: split(recording, "test", data, data.test, false),
                spec: data.clone(),
            },
        }
    }

    /// Writes the operations that make a batch of `rows` samples, those after the first `skip` of the step's; returns
    /// inputs and labels. What the host writes is one batch.
    pub(super) fn record(
        &self,
        recording: &mut Recording,
        phase: Phase,
        rows: u32,
        skip: u32,
        input: Extent,
    ) -> Result<(View, View), ShapeError> {
        let (train, test, spec) = match self {
            Feed::Host { x, labels } => return Ok((*x, *labels)),
            Feed::Data { train, test, spec } => (train, test, spec),
        };
        let (split, augment) = match phase {
            Phase::Train | Phase::Diagnose => (train, spec.augment),
            Phase::Evaluate => (test, Augment::default()),
        };
        recording.role(Role::Data);
        let x = recording.scratch("x", rows * input.pixels(), input.channels);
        let labels = recording.scratch_of("labels", rows, spec.targets, Dtype::U32);
        for shard in &split.shards {
            recording.push(Gather {
                images: shard.images,
                classes: shard.classes,
                permutation: split.permutation,
                out: x,
                labels,
                first: shard.first,
                skip,
                image: spec.image,
                encoding: spec.encoding,
                augment,
            })?;
        }
        Ok((x, labels))
    }
}

fn split(recording: &mut Recording, name: &str, data: &DataFeed, images: u32, shuffled: bool) -> SplitTensors {
    let features: u32 = data.image.iter().product();
    // Of bytes, or of labels where those take more.
    let bytes = u64::from(features).max(4 * u64::from(data.targets)).max(1);
    let per_shard = u32::try_from(data.shard_bytes / bytes).unwrap_or(u32::MAX).max(1);
    let shards = (0..images.div_ceil(per_shard))
        .map(|index| {
            let first = index * per_shard;
            let rows = per_shard.min(images - first);
            Shard {
                first,
                images: recording.shared(format!("data.{name}.images.{index}"), rows, features, Dtype::U8),
                classes: recording.shared(format!("data.{name}.classes.{index}"), rows, data.targets, Dtype::U32),
            }
        })
        .collect();
    let permutation = format!("data.{name}.permutation");
    let permutation = if shuffled {
        recording.workspace(permutation, 1, images, Dtype::U32)
    } else {
        recording.shared(permutation, 1, images, Dtype::U32)
    };
    SplitTensors { shards, permutation }
}
