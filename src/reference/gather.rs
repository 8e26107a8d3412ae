//! Batches from the data set.

use super::autoaugment::{Picture, autoaugment};
use super::error::ReferenceError;
use crate::ops::random::{AUGMENT_STREAM, pcg4d, unit};
use crate::ops::{Augment, Encoding, Gather, StepState};

/// The data set, or the shard of it that an operation reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    /// One image a row.
    pub(super) images: &'a [u8],
    /// A row of targets an image.
    pub(super) classes: &'a [u32],
    /// Which image of the whole set comes when.
    pub(super) permutation: &'a [u32],
}

/// A batch as it is filled.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// One sample a row.
    pub(super) images: Vec<f64>,
    /// A row of targets a sample.
    pub(super) labels: Vec<u32>,
}

/// Fills the rows of the batch whose image the shard holds, and the absent ones; the others stay as they are.
pub(super) fn gather(
    op: &Gather,
    source: Source<'_>,
    step: &StepState,
    seed: u32,
    batch: &mut Batch,
) -> Result<(), ReferenceError> {
    let [width, targets, samples] = [op.images.cols(), op.classes.cols(), op.labels.rows()].map(|n| n as usize);
    let encoded = op.encoding.extent(op.image).iter().product::<u32>() as usize;
    let present = samples.min(step.active_rows.saturating_sub(op.skip) as usize);
    let entries = source.entries(step.cursor + op.skip, present)?;
    for (row, &index) in entries.iter().enumerate() {
        let Some(index) = index.checked_sub(op.first).filter(|&i| i < op.images.rows()) else { continue };
        let index = index as usize;
        let image = Image { size: op.image, bytes: &source.images[index * width..][..width] };
        let place = op.skip + row as u32;
        let draw = Draw::new(&op.augment, op.image, [place, AUGMENT_STREAM, step.step, seed]);
        let out = &mut batch.images[row * encoded..][..encoded];
        batch.labels[row * targets..][..targets].copy_from_slice(&source.classes[index * targets..][..targets]);
        match (op.encoding, op.augment.autoaugment) {
            (Encoding::OneHot(_), _) => out.copy_from_slice(&op.encoding.encode(image.bytes, 1)),
            (Encoding::Scaled { scale, shift }, None) => image.render((scale, shift), &draw, out),
            (Encoding::Scaled { scale, shift }, Some(policy)) => {
                let changed = autoaugment(policy, image.picture(&draw), place, step.step, seed);
                let image = Image { bytes: changed.pixels.as_flattened(), ..image };
                image.render((scale, shift), &Draw { square: draw.square, ..STILL }, out);
            }
        }
    }
    batch.labels[present * targets..].fill(u32::MAX);
    batch.images[present * encoded..].fill(0.0);
    Ok(())
}

impl<'a> Source<'a> {
    /// The part of the permutation that a batch takes.
    fn entries(&self, cursor: u32, rows: usize) -> Result<&'a [u32], ReferenceError> {
        let first = cursor as usize;
        let length = self.permutation.len();
        let entries = self.permutation.get(first..first.saturating_add(rows));
        entries.ok_or(ReferenceError::PermutationEnds { cursor, rows, length })
    }
}

/// How one image is changed.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Draw {
    flipped: bool,
    /// Sine and cosine of the angle; `None` where images are not rotated.
    rotation: Option<(f64, f64)>,
    /// Down and right, of the crop in the padded image.
    shift: (i64, i64),
    /// First row and column of the square that is cut out, and its side; a side of zero where none is.
    square: (i64, i64, i64),
}

/// No change.
const STILL: Draw = Draw { flipped: false, rotation: None, shift: (0, 0), square: (0, 0, 0) };

impl Draw {
    fn new(augment: &Augment, [height, width, _]: [u32; 3], key: [u32; 4]) -> Draw {
        let [flip, turn, crop, centre] = pcg4d(key);
        let padding = i64::from(augment.padding);
        let offset = |bits: u32| i64::from(bits) % (2 * padding + 1) - padding;
        let side = i64::from(augment.cutout);
        let before = |bits: u32, extent: u32| i64::from(bits % extent) - side / 2;
        let angle = augment.rotation.to_radians() * (2.0 * unit(turn) - 1.0);
        Draw {
            flipped: augment.flip && flip >> 31 == 1,
            rotation: (augment.rotation > 0.0).then(|| angle.sin_cos()),
            shift: (offset(crop), offset(crop >> 16)),
            square: match side {
                0 => (0, 0, 0),
                _ => (before(centre, height), before(centre >> 16, width), side),
            },
        }
    }

    fn is_cut(&self, (y, x): (i64, i64)) -> bool {
        let (top, left, side) = self.square;
        (top..top + side).contains(&y) && (left..left + side).contains(&x)
    }
}

/// Bytes of one image, channels last.
#[derive(Clone, Copy, Debug)]
struct Image<'a> {
    /// Height, width, channels.
    size: [u32; 3],
    bytes: &'a [u8],
}

impl Image<'_> {
    /// The changed image as the network sees it.
    fn render(&self, (scale, shift): ([f64; 4], [f64; 4]), draw: &Draw, out: &mut [f64]) {
        let [height, width, channels] = self.size;
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (i64::from(y), i64::from(x))));
        let values = pixels.flat_map(|at| (0..channels as usize).map(move |channel| (at, channel)));
        for (out, (at, channel)) in out.iter_mut().zip(values) {
            let value = self.sample(at, channel, draw);
            *out = if draw.is_cut(at) { 0.0 } else { value * scale[channel] + shift[channel] };
        }
    }

    /// The bytes of the changed image, which is in colour and not rotated.
    fn picture(&self, draw: &Draw) -> Picture {
        let [height, width, _] = self.size;
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (i64::from(y), i64::from(x))));
        let pixels = places.map(|at| [0, 1, 2].map(|channel| self.sample(at, channel, draw) as u8)).collect();
        Picture { height, width, pixels }
    }

    /// A pixel of the changed image: the changes are undone from the last (the crop) to the first (the rotation).
    fn sample(&self, (y, x): (i64, i64), channel: usize, draw: &Draw) -> f64 {
        let (y, x) = (y + draw.shift.0, x + draw.shift.1);
        let x = if draw.flipped { i64::from(self.size[1]) - 1 - x } else { x };
        match draw.rotation {
            None => self.pixel(y, x, channel),
            Some(rotation) => self.rotated(y as f64, x as f64, channel, rotation),
        }
    }

    fn rotated(&self, y: f64, x: f64, channel: usize, (sin, cos): (f64, f64)) -> f64 {
        let middle = |extent: u32| (f64::from(extent) - 1.0) / 2.0;
        let (centre_y, centre_x) = (middle(self.size[0]), middle(self.size[1]));
        let (y, x) = (y - centre_y, x - centre_x);
        self.bilinear(centre_y + cos * y + sin * x, centre_x - sin * y + cos * x, channel)
    }

    fn bilinear(&self, y: f64, x: f64, channel: usize) -> f64 {
        let (top, left) = (y.floor(), x.floor());
        let (down, right) = (y - top, x - left);
        let (top, left) = (top as i64, left as i64);
        let along = |y| (1.0 - right) * self.pixel(y, left, channel) + right * self.pixel(y, left + 1, channel);
        (1.0 - down) * along(top) + down * along(top + 1)
    }

    /// Black outside.
    fn pixel(&self, y: i64, x: i64, channel: usize) -> f64 {
        let [height, width, channels] = self.size.map(i64::from);
        if (0..height).contains(&y) && (0..width).contains(&x) {
            f64::from(self.bytes[((y * width + x) * channels) as usize + channel])
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{AutoAugment, Dtype, Operation, Recording};
    use crate::reference::tests::{assert_close, noise};

    /// A shard of `images` images of the set, without change to the bytes.
    fn operation(images: u32, rows: u32, first: u32, image: [u32; 3], augment: Augment) -> Gather {
        let mut recording = Recording::new(1);
        let width = image.iter().product();
        Gather {
            images: recording.shared("images", images, width, Dtype::U8),
            classes: recording.shared("classes", images, 1, Dtype::U32),
            permutation: recording.shared("permutation", 1, 100, Dtype::U32),
            out: recording.scratch("x", rows, width),
            labels: recording.scratch_of("labels", rows, 1, Dtype::U32),
            first,
            skip: 0,
            image,
            encoding: Encoding::Scaled { scale: [1.0; 4], shift: [0.0; 4] },
            augment,
        }
    }

    fn step(step: u32, cursor: u32, active_rows: u32) -> StepState {
        StepState { step, cursor, active_rows, groups: Default::default(), replicas: Vec::new() }
    }

    fn stale(rows: usize, width: usize) -> Batch {
        Batch { images: vec![-7.0; rows * width], labels: vec![777; rows] }
    }

    fn render(size: [u32; 3], bytes: &[u8], draw: &Draw) -> Vec<f64> {
        let mut out = vec![f64::NAN; bytes.len()];
        Image { size, bytes }.render(([1.0; 4], [0.0; 4]), draw, &mut out);
        out
    }

    #[test]
    fn rows_follow_the_permutation_from_the_cursor_on() {
        let op = Gather {
            encoding: Encoding::Scaled { scale: [0.5, 2.0, 0.0, 0.0], shift: [1.0, -1.0, 0.0, 0.0] },
            ..operation(3, 3, 0, [1, 1, 2], Augment::default())
        };
        let source = Source { images: &[0, 1, 10, 11, 20, 21], classes: &[5, 6, 7], permutation: &[9, 2, 0, 1] };
        let mut batch = stale(3, 2);
        gather(&op, source, &step(0, 1, 2), 0, &mut batch).unwrap();
        assert_eq!(batch.labels, [7, 5, u32::MAX]);
        assert_eq!(batch.images, [11.0, 41.0, 1.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn shards_fill_a_batch_together() {
        let permutation = [4, 0, 3, 1, 2];
        let mut batch = stale(6, 1);
        for (first, images, classes) in [(0, &[0u8, 10][..], &[0, 1][..]), (2, &[20, 30, 40], &[2, 3, 4])] {
            let op = operation(classes.len() as u32, 6, first, [1, 1, 1], Augment::default());
            let before = batch.clone();
            gather(&op, Source { images, classes, permutation: &permutation }, &step(3, 0, 5), 1, &mut batch).unwrap();
            let held = |i: u32| (first..first + classes.len() as u32).contains(&i);
            for (row, _) in permutation.iter().enumerate().filter(|&(_, &i)| !held(i)) {
                assert_eq!((batch.labels[row], batch.images[row]), (before.labels[row], before.images[row]));
            }
        }
        assert_eq!(batch.labels, [4, 0, 3, 1, 2, u32::MAX]);
        assert_eq!(batch.images, [40.0, 0.0, 30.0, 10.0, 20.0, 0.0]);
    }

    #[test]
    fn a_batch_past_the_end_of_the_permutation_is_an_error() {
        let op = operation(1, 3, 0, [1, 1, 1], Augment::default());
        let source = Source { images: &[1], classes: &[1], permutation: &[0, 0, 0, 0] };
        for cursor in [2, u32::MAX] {
            let error = gather(&op, source, &step(0, cursor, 3), 0, &mut stale(3, 1)).unwrap_err();
            assert_eq!(error, ReferenceError::PermutationEnds { cursor, rows: 3, length: 4 });
        }
        assert!(gather(&op, source, &step(0, 2, 2), 0, &mut stale(3, 1)).is_ok());
    }

    #[test]
    fn flip_mirrors_left_to_right() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        let out = render([2, 3, 2], &bytes, &Draw { flipped: true, ..STILL });
        assert_eq!(out, [5.0, 6.0, 3.0, 4.0, 1.0, 2.0, 11.0, 12.0, 9.0, 10.0, 7.0, 8.0]);
    }

    #[test]
    fn crop_shifts_in_black() {
        let bytes = [1, 2, 3, 4, 5, 6];
        assert_eq!(render([2, 3, 1], &bytes, &Draw { shift: (1, 0), ..STILL }), [4.0, 5.0, 6.0, 0.0, 0.0, 0.0]);
        assert_eq!(render([2, 3, 1], &bytes, &Draw { shift: (0, -2), ..STILL }), [0.0, 0.0, 1.0, 0.0, 0.0, 4.0]);
        // A crop of the flipped image: 3 2 1 / 6 5 4, then one column to the right of it.
        let both = Draw { flipped: true, shift: (0, 1), ..STILL };
        assert_eq!(render([2, 3, 1], &bytes, &both), [2.0, 1.0, 0.0, 5.0, 4.0, 0.0]);
    }

    #[test]
    fn tokens_become_rows_with_a_one_and_have_a_label_each() {
        let mut recording = Recording::new(1);
        let op = Gather {
            classes: recording.shared("classes", 2, 3, Dtype::U32),
            out: recording.scratch("x", 9, 4),
            labels: recording.scratch_of("labels", 3, 3, Dtype::U32),
            encoding: Encoding::OneHot(4),
            ..operation(2, 3, 0, [3, 1, 1], Augment::default())
        };
        assert_eq!(op.check(), Ok(()));
        let source = Source { images: &[0, 3, 1, 2, 2, 0], classes: &[1, 2, 3, 4, 5, 6], permutation: &[1, 0, 1] };
        let mut batch = Batch { images: vec![-7.0; 36], labels: vec![777; 9] };
        gather(&op, source, &step(0, 0, 2), 0, &mut batch).unwrap();
        assert_eq!(batch.labels, [4, 5, 6, 1, 2, 3, u32::MAX, u32::MAX, u32::MAX]);
        let ones: Vec<usize> = (0..36).filter(|&at| batch.images[at] != 0.0).collect();
        assert_eq!(ones, [2, 4 + 2, 8, 12, 16 + 3, 20 + 1]);
        assert!(ones.iter().all(|&at| batch.images[at] == 1.0));
    }

    #[test]
    fn what_is_cut_out_is_zero_in_the_result() {
        let image = Image { size: [2, 3, 1], bytes: &[1, 2, 3, 4, 5, 6] };
        let cut = |top, left, side| {
            let mut out = [f64::NAN; 6];
            // The square stays where it is, whatever happens to the image below.
            image.render(([2.0; 4], [5.0; 4]), &Draw { flipped: true, square: (top, left, side), ..STILL }, &mut out);
            out
        };
        assert_eq!(cut(0, 0, 0), [11.0, 9.0, 7.0, 17.0, 15.0, 13.0]);
        assert_eq!(cut(1, 1, 1), [11.0, 9.0, 7.0, 17.0, 0.0, 13.0]);
        assert_eq!(cut(-1, 1, 2), [11.0, 0.0, 0.0, 17.0, 15.0, 13.0], "cut off at the upper edge");
        assert_eq!(cut(0, -1, 3), [0.0, 0.0, 7.0, 0.0, 0.0, 13.0], "and at the left one");
    }

    #[test]
    fn squares_lie_about_centres_from_the_whole_image() {
        for (cutout, before) in [(1, 0), (2, 1), (3, 1), (8, 4)] {
            let augment = Augment { cutout, ..Augment::default() };
            let draws = (0..2000).map(|row| Draw::new(&augment, [4, 3, 3], [row, AUGMENT_STREAM, 3, 4]).square);
            let centres = draws.map(|(top, left, side)| (top + before, left + before, side));
            let all: std::collections::BTreeSet<_> = centres.collect();
            let expected = (0..4).flat_map(|y| (0..3).map(move |x| (y, x, i64::from(cutout))));
            assert!(all.into_iter().eq(expected), "a cutout of {cutout}");
        }
    }

    /// One label, one image: a row for it or a row for each of its pixels.
    #[test]
    fn the_shape_of_out_changes_nothing() {
        let op = operation(2, 2, 0, [2, 2, 3], Augment { flip: true, ..Augment::default() });
        let by_pixel = Gather { out: Recording::new(1).scratch("x", 8, 3), ..op };
        assert_eq!((op.check(), by_pixel.check()), (Ok(()), Ok(())));
        let bytes: Vec<u8> = (0..24).collect();
        let source = Source { images: &bytes, classes: &[3, 4], permutation: &[1, 0] };
        let fill = |op: &Gather| {
            let mut batch = stale(2, 12);
            gather(op, source, &step(0, 0, 2), 1, &mut batch).unwrap();
            (batch.images, batch.labels)
        };
        assert_eq!(fill(&op), fill(&by_pixel));
    }

    /// Row 0 of the result, the column x: source (cy + x - cx, cx + cy), the right column from top to bottom.
    #[test]
    fn a_quarter_turn_maps_pixels_onto_pixels() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        let quarter = Draw { rotation: Some((1.0, 0.0)), ..STILL };
        assert_eq!(render([3, 3, 1], &bytes, &quarter), [3.0, 6.0, 9.0, 2.0, 5.0, 8.0, 1.0, 4.0, 7.0]);
    }

    #[test]
    fn rotation_by_nothing_is_the_identity() {
        let bytes: Vec<u8> = noise(48, 1).iter().map(|x| (x.abs() * 100.0) as u8).collect();
        let still = Draw { rotation: Some((0.0, 1.0)), ..STILL };
        assert_eq!(render([4, 4, 3], &bytes, &still), render([4, 4, 3], &bytes, &STILL));
    }

    #[test]
    fn bilinear_weighs_four_neighbours_and_black_outside() {
        let image = Image { size: [2, 2, 1], bytes: &[0, 40, 80, 200] };
        assert_close(&[image.bilinear(0.25, 0.5, 0)], &[0.75 * 20.0 + 0.25 * 140.0], 1e-13);
        assert_close(&[image.bilinear(1.5, 1.0, 0), image.bilinear(-0.25, 1.0, 0)], &[100.0, 30.0], 1e-13);
        assert_eq!(image.bilinear(-1.0, 5.0, 0), 0.0);
    }

    #[test]
    fn draws_stay_within_their_bounds_and_reach_them() {
        let augment = Augment { flip: true, rotation: 10.0, padding: 2, ..Augment::default() };
        let draws: Vec<Draw> =
            (0..2000).map(|row| Draw::new(&augment, [7, 5, 1], [row, AUGMENT_STREAM, 3, 4])).collect();
        let flipped = draws.iter().filter(|d| d.flipped).count();
        assert!((850..1150).contains(&flipped), "{flipped} of 2000 flipped");
        let angles = draws.iter().filter_map(|d| d.rotation.map(|(sin, _)| sin.asin().to_degrees()));
        let (low, high) = angles.fold((0f64, 0f64), |(low, high), a| (low.min(a), high.max(a)));
        assert!((-10.0..-9.5).contains(&low) && (9.5..10.0).contains(&high), "{low} to {high} degrees");
        for down in -2..=2 {
            for right in -2..=2 {
                assert!(draws.iter().any(|d| d.shift == (down, right)));
            }
        }
        assert!(draws.iter().all(|d| d.shift.0.abs() <= 2 && d.shift.1.abs() <= 2));
    }

    /// The first word flips, the second turns, the halves of the third shift down and right, and those of the fourth are
    /// the centre of the square.
    #[test]
    fn each_change_has_bits_of_its_own() {
        let augment = Augment { flip: true, rotation: 180.0, padding: 3, cutout: 4, ..Augment::default() };
        for row in 0..50 {
            let key = [row, AUGMENT_STREAM, 3, 4];
            let (words, draw) = (pcg4d(key), Draw::new(&augment, [9, 11, 3], key));
            let (sin, cos) = draw.rotation.unwrap();
            let half_turns = f64::from(words[1] >> 8) / f64::from(1 << 23) - 1.0;
            assert_eq!(draw.flipped, words[0] >= 0x8000_0000);
            assert_close(&[sin.atan2(cos)], &[half_turns * std::f64::consts::PI], 1e-12);
            let shift = (i64::from(words[2] % 7) - 3, i64::from((words[2] / 65_536) % 7) - 3);
            assert_eq!(draw.shift, shift);
            let square = (i64::from(words[3] % 9) - 2, i64::from((words[3] / 65_536) % 11) - 2, 4);
            assert_eq!(draw.square, square);
        }
    }

    #[test]
    fn nothing_is_drawn_where_nothing_is_asked_for() {
        assert!((0..100).all(|row| Draw::new(&Augment::default(), [3, 3, 1], [row, AUGMENT_STREAM, 0, 0]) == STILL));
    }

    #[test]
    fn the_draw_of_a_row_depends_on_row_step_and_seed() {
        let augment = Augment { flip: true, rotation: 10.0, padding: 4, cutout: 2, ..Augment::default() };
        let op = operation(1, 2, 0, [4, 4, 1], augment);
        let bytes: Vec<u8> = (1..=16).collect();
        let source = Source { images: &bytes, classes: &[3], permutation: &[0, 0] };
        let images = |at: u32, seed| {
            let mut batch = stale(2, 16);
            gather(&op, source, &step(at, 0, 2), seed, &mut batch).unwrap();
            batch.images
        };
        let first = images(0, 0);
        assert_ne!(first[..16], first[16..]);
        assert_ne!(first, images(1, 0));
        assert_ne!(first, images(0, 1));
        assert_eq!(first, images(0, 0));
    }

    /// Flipped and cropped bytes are what the policy changes; scale, shift and cutout come last.
    #[test]
    fn a_policy_changes_what_flip_and_crop_have_left() {
        let augment = Augment { flip: true, padding: 2, cutout: 3, ..Augment::default() };
        let learned = Augment { autoaugment: Some(AutoAugment::Cifar10), ..augment };
        let bytes: Vec<u8> = noise(3 * 63, 5).iter().map(|x| (100.0 + 50.0 * x) as u8).collect();
        let source = Source { images: &bytes, classes: &[3], permutation: &[0; 40] };
        let fill = |augment, scale, shift| {
            let encoding = Encoding::Scaled { scale, shift };
            let op = Gather { encoding, ..operation(1, 40, 0, [7, 9, 3], augment) };
            let mut batch = stale(40, 189);
            gather(&op, source, &step(2, 0, 40), 8, &mut batch).unwrap();
            batch.images
        };
        let uncut = fill(Augment { cutout: 0, ..augment }, [1.0; 4], [0.0; 4]);
        let (scale, shift) = ([0.5, 2.0, 3.0, 0.0], [1.0, -1.0, 0.25, 0.0]);
        let found = fill(learned, scale, shift);
        let mut changed = 0;
        for (row, (found, before)) in found.chunks(189).zip(uncut.chunks(189)).enumerate() {
            let draw = Draw::new(&augment, [7, 9, 3], [row as u32, AUGMENT_STREAM, 2, 8]);
            let pixels = before.chunks(3).map(|pixel| [pixel[0] as u8, pixel[1] as u8, pixel[2] as u8]).collect();
            let before = Picture { height: 7, width: 9, pixels };
            let after = autoaugment(AutoAugment::Cifar10, before.clone(), row as u32, 2, 8);
            changed += usize::from(before != after);
            let value = |(at, pixel): (i64, &[u8; 3])| {
                let cut = draw.is_cut((at / 9, at % 9));
                let standard = |c: usize| f64::from(pixel[c]) * scale[c] + shift[c];
                [0, 1, 2].map(|c| if cut { 0.0 } else { standard(c) })
            };
            let expected: Vec<f64> = (0..).zip(&after.pixels).flat_map(value).collect();
            assert_eq!(found, expected, "row {row}");
        }
        assert!((20..40).contains(&changed), "{changed} of 40 images were changed");
    }
}
