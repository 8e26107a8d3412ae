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

/// A batch, or the micro-batch that follows its first `skip` rows: row i is image `permutation[cursor + skip + i]`, its
/// bytes v turned into `v * scale[c] + shift[c]`.
///
/// images holds bytes (one image a row, channels last) and class labels those `first..first + images.rows()` of the
/// set; a set too large for one binding is gathered by one operation a shard, each writing only the rows that it holds.
/// Rows of the whole batch from the step's `active_rows` on are absent: zero image, label `u32::MAX`. What lies in memory is
/// the same whether out has a row an image or a row a pixel.
#[derive(Clone, Copy, Debug)]
pub struct Gather {
    /// u8, images x (height width channels), shared by all replicas.
    pub images: View,
    /// u32, images x 1, shared by all replicas.
    pub classes: View,
    /// u32, 1 x (images of the set): which image comes when.
    pub permutation: View,
    /// f32, rows x (height width channels), or (rows height width) x channels.
    pub out: View,
    /// u32, rows x 1.
    pub labels: View,
    /// Index in the set of the shard's first image.
    pub first: u32,
    /// Rows of the step's batch before the first one here.
    pub skip: u32,
    /// Height, width, channels (at most 4).
    pub image: [u32; 3],
    /// Per channel.
    pub scale: [f64; 4],
    /// Per channel.
    pub shift: [f64; 4],
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
        require(self.labels.cols() == 1, "labels must be one column")?;
        let (rows, pixels) = (u64::from(self.labels.rows()), u64::from(height * width));
        let out = (u64::from(self.out.rows()), self.out.cols());
        require(
            out == (rows, self.images.cols()) || out == (rows * pixels, channels),
            "out must have for every label a row of height x width x channels, or height x width rows of channels",
        )?;
        require(self.classes.rows() == self.images.rows(), "there must be one class an image")
    }

    fn flops(&self) -> u64 {
        let each = if self.augment.rotation > 0.0 { 12 } else { 2 };
        each * self.out.shape.per_replica() as u64
    }

    /// Bytes read and floats written of the images that the shard holds: its share of the batch, on average.
    fn bytes(&self) -> Option<u64> {
        let image = 5 * u64::from(self.images.cols()) + 3 * 4;
        let share = f64::from(self.images.rows()) / f64::from(self.permutation.cols().max(1));
        Some((share * (u64::from(self.labels.rows()) * image) as f64).round() as u64)
    }

    fn details(&self) -> String {
        let mut text = String::new();
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
