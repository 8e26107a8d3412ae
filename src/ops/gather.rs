//! Batches from the data set on the device.

use super::{Access, AutoAugment, Dtype, Operand, Operation, View, read, require};

/// Random changes to an image before it is learned from; drawn from (seed, step, row).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Augment {
    /// Mirror left to right with probability 1/2.
    pub flip: bool,
    /// Rotate by an angle drawn uniformly from +-`rotation` degrees, bilinear, black outside.
    pub rotation: f64,
    /// Pad by this many black pixels and crop at a random place: a shift by at most that much.
    pub padding: u32,
    /// Change the image of bytes that flip and crop have left by a learned policy. Rotated images have no whole bytes.
    pub autoaugment: Option<AutoAugment>,
    /// Side of a square whose centre is drawn uniformly from the image, cut off at its edges; inside, the result is zero.
    pub cutout: u32,
}

/// What bytes of a sample become.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Encoding {
    /// A byte v of channel c becomes `v * scale[c] + shift[c]`.
    Scaled {
        /// Per channel.
        scale: [f64; 4],
        /// Per channel.
        shift: [f64; 4],
    },
    /// A byte becomes a row of so many numbers, 1 at its place and 0 elsewhere.
    OneHot(u32),
}

impl Encoding {
    /// Height, width and channels of what an image of bytes becomes.
    pub fn extent(&self, [height, width, channels]: [u32; 3]) -> [u32; 3] {
        match self {
            Encoding::Scaled { .. } => [height, width, channels],
            Encoding::OneHot(values) => [height, width, channels * values],
        }
    }

    /// What the bytes of samples become, channels last.
    pub fn encode(&self, bytes: &[u8], channels: usize) -> Vec<f64> {
        match *self {
            Encoding::Scaled { scale, shift } => {
                let scaled = |(at, &byte): (usize, &u8)| f64::from(byte) * scale[at % channels] + shift[at % channels];
                bytes.iter().enumerate().map(scaled).collect()
            }
            Encoding::OneHot(values) => {
                let row = |&byte: &u8| (0..values).map(move |value| if u32::from(byte) == value { 1.0 } else { 0.0 });
                bytes.iter().flat_map(row).collect()
            }
        }
    }
}

/// A batch, or the micro-batch that follows its first `skip` samples: sample i is image `permutation[cursor + skip + i]`, its
/// bytes encoded.
///
/// images holds bytes (one image a row, channels last) and classes the labels of those `first..first + images.rows()` of the
/// set; a set too large for one binding is gathered by one operation a shard, each writing only the samples that it holds.
/// Samples of the whole batch from the step's `active_rows` on are absent: all zero, labels `u32::MAX`. What lies in memory is
/// the same whether out has a row an image or a row a pixel.
#[derive(Clone, Copy, Debug)]
pub struct Gather {
    /// u8, images x (height width channels), shared by all replicas.
    pub images: View,
    /// u32, images x targets, shared by all replicas.
    pub classes: View,
    /// u32, 1 x (images of the set): which image comes when.
    pub permutation: View,
    /// f32, samples x (height width channels), or (samples height width) x channels; channels as encoded.
    pub out: View,
    /// u32, samples x targets.
    pub labels: View,
    /// Index in the set of the shard's first image.
    pub first: u32,
    /// Samples of the step's batch before the first one here.
    pub skip: u32,
    /// Height, width, channels (at most 4) of an image of bytes.
    pub image: [u32; 3],
    /// What bytes become.
    pub encoding: Encoding,
    /// Random changes, none in evaluation.
    pub augment: Augment,
}

impl Operation for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn operands(&self) -> Vec<Operand> {
        let filled = if self.first == 0 { Access::Write } else { Access::Update };
        vec![
            read("images", self.images),
            read("classes", self.classes),
            read("permutation", self.permutation),
            Operand { name: "out", tensor: self.out, access: filled },
            Operand { name: "labels", tensor: self.labels, access: filled },
        ]
    }

    fn check(&self) -> Result<(), String> {
        let [height, width, channels] = self.image;
        require((1..=4).contains(&channels), "images have one to four channels")?;
        require(self.images.cols() == height * width * channels, "a row of images must be height x width x channels")?;
        require(self.images.dtype == Dtype::U8, "images must be bytes")?;
        if let Some(policy) = self.augment.autoaugment {
            policy.check(self.image)?;
            require(self.augment.rotation == 0.0, "autoaugment takes bytes, which rotated images no longer are")?;
        }
        if matches!(self.encoding, Encoding::OneHot(_)) {
            require(self.augment == Augment::default(), "what is one-hot cannot be changed at random")?;
        }
        let (rows, pixels) = (u64::from(self.labels.rows()), u64::from(height * width));
        let out = (u64::from(self.out.rows()), self.out.cols());
        let [.., channels] = self.encoding.extent(self.image);
        require(
            out == (rows, height * width * channels) || out == (rows * pixels, channels),
            "out must have for every sample a row of height x width x channels, or height x width rows of channels",
        )?;
        require(self.labels.cols() == self.classes.cols(), "labels must have as many columns as classes")?;
        require(self.classes.rows() == self.images.rows(), "there must be a row of classes an image")
    }

    fn flops(&self) -> u64 {
        let each = match self.encoding {
            Encoding::OneHot(_) => 0,
            Encoding::Scaled { .. } if self.augment.rotation > 0.0 => 12,
            Encoding::Scaled { .. } => 2,
        };
        each * self.out.shape.per_replica() as u64
    }

    /// Bytes read and floats written of the images that the shard holds: its share of the batch, on average.
    fn bytes(&self) -> Option<u64> {
        let samples = u64::from(self.labels.rows()).max(1);
        let written = 4 * self.out.shape.per_replica() as u64 / samples;
        let image = u64::from(self.images.cols()) + written + 4 + 2 * 4 * u64::from(self.labels.cols());
        let share = f64::from(self.images.rows()) / f64::from(self.permutation.cols().max(1));
        Some((share * (samples * image) as f64).round() as u64)
    }

    fn details(&self) -> String {
        let mut text = String::new();
        if matches!(self.encoding, Encoding::OneHot(_)) {
            text += " one-hot";
        }
        if self.augment.flip {
            text += " flip";
        }
        if self.augment.rotation > 0.0 {
            text += &format!(" rotate {}", self.augment.rotation);
        }
        if self.augment.padding > 0 {
            text += &format!(" crop {}", self.augment.padding);
        }
        if let Some(policy) = self.augment.autoaugment {
            text += &format!(" autoaugment {}", policy.name());
        }
        if self.augment.cutout > 0 {
            text += &format!(" cutout {}", self.augment.cutout);
        }
        text.trim_start().to_owned()
    }
}
