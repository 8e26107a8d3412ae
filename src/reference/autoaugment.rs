//! Learned policies of changes to an image of bytes, in whole numbers throughout.

use crate::ops::AutoAugment;
use crate::ops::random::{POLICY_STREAM, pcg4d};

/// What an operation does; the number is its magnitude, of ten from 0 to 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// Every column moves down by a share of its distance from the left edge, up to 0.3.
    ShearY(u32),
    /// To the right, by up to 150/331 of the width.
    TranslateX(u32),
    /// Down, by up to 150/331 of the height.
    TranslateY(u32),
    /// About the middle, against the clock; the policy knows one angle.
    Rotate,
    /// Away from black, by up to 0.9 of the distance to it.
    Brightness(u32),
    /// Away from the pixel's own grey.
    Color(u32),
    /// Away from the mean grey of the image.
    Contrast(u32),
    /// Away from the smoothed image.
    Sharpness(u32),
    /// Clears up to four of the lowest bits.
    Posterize(u32),
    /// Inverts what is not below a threshold, which falls from 255 to 0.
    Solarize(u32),
    /// Stretches every channel's values over the whole range.
    AutoContrast,
    /// Makes every channel's histogram as flat as a map of values can.
    Equalize,
    /// 255 - v.
    Invert,
}

use Change::{
    AutoContrast, Brightness, Color, Contrast, Equalize, Invert, Posterize, Rotate, Sharpness, ShearY, Solarize,
    TranslateX, TranslateY,
};

/// Pairs of operations, each with its probability in tenths.
const CIFAR10: [[(Change, u32); 2]; 25] = [
    [(Invert, 1), (Contrast(6), 2)],
    [(Rotate, 7), (TranslateX(9), 3)],
    [(Sharpness(1), 8), (Sharpness(3), 9)],
    [(ShearY(8), 5), (TranslateY(9), 7)],
    [(AutoContrast, 5), (Equalize, 9)],
    [(ShearY(7), 2), (Posterize(7), 3)],
    [(Color(3), 4), (Brightness(7), 6)],
    [(Sharpness(9), 3), (Brightness(9), 7)],
    [(Equalize, 6), (Equalize, 5)],
    [(Contrast(7), 6), (Sharpness(5), 6)],
    [(Color(7), 7), (TranslateX(8), 5)],
    [(Equalize, 3), (AutoContrast, 4)],
    [(TranslateY(3), 4), (Sharpness(6), 2)],
    [(Brightness(6), 9), (Color(8), 2)],
    [(Solarize(2), 5), (Invert, 0)],
    [(Equalize, 2), (AutoContrast, 6)],
    [(Equalize, 2), (Equalize, 6)],
    [(Color(9), 9), (Equalize, 6)],
    [(AutoContrast, 8), (Solarize(8), 2)],
    [(Brightness(3), 1), (Color(0), 7)],
    [(Solarize(5), 4), (AutoContrast, 9)],
    [(TranslateY(9), 9), (TranslateY(9), 7)],
    [(AutoContrast, 9), (Solarize(3), 8)],
    [(Equalize, 8), (Invert, 1)],
    [(TranslateY(9), 7), (AutoContrast, 9)],
];

/// Changes an image by a policy, as drawn for a row of the batch at a step of a replica.
pub(super) fn autoaugment(policy: AutoAugment, image: Picture, row: u32, step: u32, seed: u32) -> Picture {
    chosen(policy, row, step, seed).fold(image, |image, (change, negative)| image.changed(change, negative))
}

/// The operations that are applied, and whether each goes the other way.
fn chosen(policy: AutoAugment, row: u32, step: u32, seed: u32) -> impl Iterator<Item = (Change, bool)> {
    let pairs = match policy {
        AutoAugment::Cifar10 => CIFAR10,
    };
    let [which, first, second, signs] = pcg4d([row, POLICY_STREAM, step, seed]);
    let pair = pairs[which as usize % pairs.len()];
    let drawn = [(first, signs >> 31 == 1), (second, (signs >> 30) & 1 == 1)];
    let applied = pair.into_iter().zip(drawn).filter(|&((_, tenths), (bits, _))| is_applied(bits, tenths));
    applied.map(|((change, _), (_, negative))| (change, negative))
}

/// With a probability of so many tenths; the upper 24 bits are compared, as everywhere.
fn is_applied(bits: u32, tenths: u32) -> bool {
    (bits >> 8) * 10 < tenths << 24
}

/// An image in colour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) height: u32,
    pub(super) width: u32,
    /// Red, green and blue, row by row.
    pub(super) pixels: Vec<[u8; 3]>,
}

impl Picture {
    fn changed(&self, change: Change, negative: bool) -> Picture {
        let share = |magnitude: u32| if negative { 10 - i64::from(magnitude) } else { 10 + i64::from(magnitude) };
        match change {
            ShearY(_) | TranslateX(_) | TranslateY(_) | Rotate => self.moved(self.source(change, negative)),
            Brightness(magnitude) => self.blended(share(magnitude), |_, _| [0; 3]),
            Color(magnitude) => self.blended(share(magnitude), |_, pixel| [grey(pixel); 3]),
            Contrast(magnitude) => {
                let mean = self.mean_grey();
                self.blended(share(magnitude), |_, _| [mean; 3])
            }
            Sharpness(magnitude) => self.blended(share(magnitude), |at, _| self.smoothed(at)),
            Posterize(magnitude) => {
                // Of the ten magnitudes 4/9 bits each, rounded.
                let cleared = (8 * magnitude + 9) / 18;
                self.mapped(|_, v| v >> cleared << cleared)
            }
            Solarize(magnitude) => {
                self.mapped(|_, v| if 9 * u32::from(v) < 255 * (9 - magnitude) { v } else { 255 - v })
            }
            AutoContrast => {
                let maps = [0, 1, 2].map(|channel| stretching(&self.histogram(channel)));
                self.mapped(|channel, v| maps[channel][usize::from(v)])
            }
            Equalize => {
                let maps = [0, 1, 2].map(|channel| equalising(&self.histogram(channel)));
                self.mapped(|channel, v| maps[channel][usize::from(v)])
            }
            Invert => self.mapped(|_, v| 255 - v),
        }
    }

    /// What [`AutoAugment::turn`] describes, of any change of place.
    fn source(&self, change: Change, negative: bool) -> [i64; 6] {
        /// One pixel, and the centre of the first.
        const ONE: i64 = 1 << 16;
        const HALF: i64 = ONE / 2;
        let sign = if negative { -1 } else { 1 };
        let distance = |extent: u32, magnitude: u32| sign * i64::from(50 * extent * magnitude / 993) * ONE;
        match change {
            // Thirtieths of a pixel for every column; of the first column's centre half of that. Both rounded.
            ShearY(magnitude) => {
                let rounded = |parts: i64| (2 * ONE * i64::from(magnitude) + parts) / (2 * parts);
                [ONE, 0, HALF, sign * rounded(30), ONE, HALF + sign * rounded(60)]
            }
            TranslateX(magnitude) => [ONE, 0, HALF - distance(self.width, magnitude), 0, ONE, HALF],
            TranslateY(magnitude) => [ONE, 0, HALF, 0, ONE, HALF - distance(self.height, magnitude)],
            Rotate => AutoAugment::turn([self.height, self.width, 3], negative).map(i64::from),
            _ => [ONE, 0, HALF, 0, ONE, HALF],
        }
    }

    /// Takes every pixel from where [`Picture::source`] says, black from outside.
    fn moved(&self, [a, b, c, d, e, f]: [i64; 6]) -> Picture {
        self.made(|(y, x), _| {
            let (from_x, from_y) = ((a * x + b * y + c) >> 16, (d * x + e * y + f) >> 16);
            self.pixel(from_y, from_x).unwrap_or([0; 3])
        })
    }

    /// `from + share / 10 (pixel - from)`, rounded down and kept between 0 and 255.
    fn blended(&self, share: i64, from: impl Fn((i64, i64), [u8; 3]) -> [u8; 3]) -> Picture {
        self.made(|at, pixel| {
            let from = from(at, pixel).map(i64::from);
            std::array::from_fn(|channel| {
                let tenths = 10 * from[channel] + share * (i64::from(pixel[channel]) - from[channel]);
                (tenths.clamp(0, 2550) / 10) as u8
            })
        })
    }

    /// Rounded, halves up.
    fn mean_grey(&self) -> u8 {
        let sum: usize = self.pixels.iter().map(|&pixel| usize::from(grey(pixel))).sum();
        ((2 * sum + self.pixels.len()) / (2 * self.pixels.len())) as u8
    }

    /// The mean of a pixel, counted five times, and its eight neighbours, rounded; at the edge the pixel itself.
    fn smoothed(&self, (y, x): (i64, i64)) -> [u8; 3] {
        let around = (-1..=1).flat_map(|down| (-1..=1).map(move |right| (down, right)));
        let pixels: Option<Vec<[u8; 3]>> = around.map(|(down, right)| self.pixel(y + down, x + right)).collect();
        let Some(pixels) = pixels else { return self.pixel(y, x).unwrap_or_default() };
        std::array::from_fn(|channel| {
            let sum: u32 = pixels.iter().map(|pixel| u32::from(pixel[channel])).sum();
            let sum = sum + 4 * u32::from(pixels[4][channel]);
            ((2 * sum + 13) / 26) as u8
        })
    }

    /// How often a channel has each value.
    fn histogram(&self, channel: usize) -> [usize; 256] {
        let mut counts = [0; 256];
        for pixel in &self.pixels {
            counts[usize::from(pixel[channel])] += 1;
        }
        counts
    }

    fn pixel(&self, y: i64, x: i64) -> Option<[u8; 3]> {
        let (height, width) = (i64::from(self.height), i64::from(self.width));
        let inside = (0..height).contains(&y) && (0..width).contains(&x);
        inside.then(|| self.pixels[(y * width + x) as usize])
    }

    /// Every value by a map of (channel, value).
    fn mapped(&self, map: impl Fn(usize, u8) -> u8) -> Picture {
        self.made(|_, pixel| std::array::from_fn(|channel| map(channel, pixel[channel])))
    }

    /// Every pixel by its place (y, x) and what it is.
    fn made(&self, pixel: impl Fn((i64, i64), [u8; 3]) -> [u8; 3]) -> Picture {
        let places = (0..self.height).flat_map(|y| (0..self.width).map(move |x| (i64::from(y), i64::from(x))));
        let pixels = places.zip(&self.pixels).map(|(at, &own)| pixel(at, own)).collect();
        Picture { pixels, ..*self }
    }
}

/// Luma in units of 2^-16, rounded.
fn grey([red, green, blue]: [u8; 3]) -> u8 {
    ((19595 * u32::from(red) + 38470 * u32::from(green) + 7471 * u32::from(blue) + 32768) >> 16) as u8
}

/// What stretches the values of a histogram from the least to 0 and from the largest to 255, rounded down.
fn stretching(histogram: &[usize; 256]) -> [u8; 256] {
    let present = |value: &usize| histogram[*value] > 0;
    let (least, largest) = ((0..256).find(present).unwrap_or(0), (0..256).rfind(present).unwrap_or(0));
    std::array::from_fn(|value| match largest - least {
        0 => value as u8,
        range => (255 * value.clamp(least, largest).saturating_sub(least) / range) as u8,
    })
}

/// What maps each value to the number of smaller ones in steps of a 255th of all but the largest's; nothing where that step
/// would be less than one pixel.
fn equalising(histogram: &[usize; 256]) -> [u8; 256] {
    let largest = (0..256).rfind(|&value| histogram[value] > 0).unwrap_or(0);
    let step = histogram[..largest].iter().sum::<usize>() / 255;
    let mut smaller = 0;
    std::array::from_fn(|value| {
        let mapped = (step / 2 + smaller).checked_div(step).map_or(value, |mapped| mapped.min(255));
        smaller += histogram[value];
        mapped as u8
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn picture<const W: usize>(rows: &[[[u8; 3]; W]]) -> Picture {
        Picture { height: rows.len() as u32, width: W as u32, pixels: rows.as_flattened().to_vec() }
    }

    /// Of grey pixels.
    fn greys<const W: usize>(rows: &[[u8; W]]) -> Picture {
        let pixels = rows.as_flattened().iter().map(|&v| [v; 3]).collect();
        Picture { height: rows.len() as u32, width: W as u32, pixels }
    }

    const ORDINARY: bool = false;
    const OTHER: bool = true;

    /// 50 * 5 * 9 / 993 is 2 pixels, 50 * 3 * 9 / 993 one.
    #[test]
    fn translations_move_whole_pixels() {
        let image = greys(&[[1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [11, 12, 13, 14, 15]]);
        let right = greys(&[[0, 0, 1, 2, 3], [0, 0, 6, 7, 8], [0, 0, 11, 12, 13]]);
        let left = greys(&[[3, 4, 5, 0, 0], [8, 9, 10, 0, 0], [13, 14, 15, 0, 0]]);
        let down = greys(&[[0; 5], [1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]);
        let up = greys(&[[6, 7, 8, 9, 10], [11, 12, 13, 14, 15], [0; 5]]);
        assert_eq!(image.changed(TranslateX(9), ORDINARY), right);
        assert_eq!(image.changed(TranslateX(9), OTHER), left);
        assert_eq!(image.changed(TranslateY(9), ORDINARY), down);
        assert_eq!(image.changed(TranslateY(9), OTHER), up);
        assert_eq!(image.changed(TranslateX(0), OTHER), image);
    }

    /// The centres of the columns lie at 0.5, 1.5, 2.5, of which 4/15 are 0.13, 0.4, 0.67: the third is the first one that is
    /// moved by more than half a pixel.
    #[test]
    fn shearing_moves_columns_by_their_distance_from_the_left() {
        let image = greys(&[[1, 2, 3], [4, 5, 6], [7, 8, 9]]);
        assert_eq!(image.changed(ShearY(8), ORDINARY), greys(&[[1, 2, 6], [4, 5, 9], [7, 8, 0]]));
        assert_eq!(image.changed(ShearY(8), OTHER), greys(&[[1, 2, 0], [4, 5, 3], [7, 8, 6]]));
    }

    /// Five pixels from the middle a turn by 6 2/3 degrees moves by 0.58 pixels, four by 0.46.
    #[test]
    fn turning_moves_the_ends_of_a_cross() {
        let mut cross = [[0; 11]; 11];
        cross[5] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
        let mut turned = cross;
        (turned[5][0], turned[5][10]) = (0, 0);
        // Against the clock the left end goes down, the right one up.
        (turned[6][0], turned[4][10]) = (1, 11);
        assert_eq!(greys(&cross).changed(Rotate, ORDINARY), greys(&turned));
        cross.reverse();
        turned.reverse();
        assert_eq!(greys(&cross).changed(Rotate, OTHER), greys(&turned));
    }

    #[test]
    fn bytes_are_mapped_one_by_one() {
        let image = picture(&[[[0, 7, 8], [100, 198, 199], [254, 255, 169]]]);
        let of = |change, other| image.changed(change, other).pixels;
        assert_eq!(of(Invert, ORDINARY), [[255, 248, 247], [155, 57, 56], [1, 0, 86]]);
        // Three of eight bits are cleared; 255 (9 - 2) / 9 is 198.3.
        assert_eq!(of(Posterize(7), ORDINARY), [[0, 0, 8], [96, 192, 192], [248, 248, 168]]);
        assert_eq!(of(Solarize(2), ORDINARY), [[0, 7, 8], [100, 198, 56], [1, 0, 169]]);
        assert_eq!(image.changed(Solarize(0), ORDINARY).pixels[2], [254, 0, 169]);
        // 1.9 and 0.1 of each.
        assert_eq!(of(Brightness(9), ORDINARY), [[0, 13, 15], [190, 255, 255], [255, 255, 255]]);
        assert_eq!(of(Brightness(9), OTHER), [[0, 0, 0], [10, 19, 19], [25, 25, 16]]);
    }

    /// (19595 * 200 + 38470 * 100 + 7471 * 50) / 65536 = 124.2; 124 + 1.5 (v - 124), 124 + 0.5 (v - 124).
    #[test]
    fn colour_moves_away_from_the_pixel_s_grey() {
        let image = picture(&[[[200, 100, 50], [9, 9, 9]]]);
        assert_eq!(image.changed(Color(5), ORDINARY).pixels, [[238, 88, 13], [9; 3]]);
        assert_eq!(image.changed(Color(5), OTHER).pixels, [[162, 112, 87], [9; 3]]);
        assert_eq!(image.changed(Color(0), ORDINARY), image);
    }

    /// The mean of 10, 20 and 81 is 37.
    #[test]
    fn contrast_moves_away_from_the_mean_grey() {
        let image = greys(&[[10, 20, 81]]);
        assert_eq!(image.changed(Contrast(5), ORDINARY), greys(&[[0, 11, 103]]));
        assert_eq!(image.changed(Contrast(5), OTHER), greys(&[[23, 28, 59]]));
        assert_eq!(greys(&[[10, 11]]).mean_grey(), 11, "halves are rounded up");
    }

    /// (5 * 130 + 7) / 13 = 50.5, rounded 51: 51 + 1.9 * 79, 51 + 0.1 * 79. (130 + 9) / 13 = 10.7, rounded 11: 11 - 1.9 * 11,
    /// 11 - 0.1 * 11. What lies at the edge stays.
    #[test]
    fn sharpness_moves_away_from_the_smoothed_image() {
        let image = greys(&[[7, 0, 0, 0], [0, 130, 0, 0], [0, 0, 0, 9]]);
        assert_eq!(image.changed(Sharpness(9), ORDINARY), greys(&[[7, 0, 0, 0], [0, 201, 0, 0], [0, 0, 0, 9]]));
        assert_eq!(image.changed(Sharpness(9), OTHER), greys(&[[7, 0, 0, 0], [0, 58, 9, 0], [0, 0, 0, 9]]));
    }

    #[test]
    fn contrast_is_stretched_by_channel() {
        let image = picture(&[[[50, 7, 0], [100, 7, 255], [150, 7, 128]]]);
        let stretched = picture(&[[[0, 7, 0], [127, 7, 255], [255, 7, 128]]]);
        assert_eq!(image.changed(AutoContrast, ORDINARY), stretched);
    }

    /// In red 384 of 512 pixels are not the largest: steps of one, with 0, 128, 256 and 384 smaller ones. In green 256 are not, in
    /// blue 400.
    #[test]
    fn histograms_are_flattened_by_channel() {
        let of = |red: [u8; 4], green: [u8; 4]| {
            let pixels = (0..512).map(|i| [red[i / 128], green[i / 128], [3, 4][i / 400]]).collect();
            Picture { height: 32, width: 16, pixels }
        };
        let image = of([10, 20, 30, 40], [200, 200, 100, 100]);
        let mut flat = of([0, 128, 255, 255], [255, 255, 0, 0]);
        flat.pixels.iter_mut().enumerate().for_each(|(i, pixel)| pixel[2] = [0, 255][i / 400]);
        assert_eq!(image.changed(Equalize, ORDINARY), flat);
        // 254 smaller ones make no step.
        let few =
            Picture { height: 1, width: 256, pixels: (0..256).map(|i| [[7, 9][usize::from(i > 253)]; 3]).collect() };
        assert_eq!(few.changed(Equalize, ORDINARY), few);
        let steps: Vec<u8> = (0..1024).map(|i| [5, 6, 7][usize::from(i >= 300) + usize::from(i >= 1020)]).collect();
        let many = Picture { height: 32, width: 32, pixels: steps.iter().map(|&v| [v; 3]).collect() };
        // Steps of four: (2 + 300) / 4 and (2 + 1020) / 4.
        let expected = |v: u8| [[0; 3], [75; 3], [255; 3]][usize::from(v) - 5];
        assert_eq!(many.changed(Equalize, ORDINARY).pixels, steps.into_iter().map(expected).collect::<Vec<_>>());
    }

    /// Every operation of the policy on one image beside what Pillow made of it.
    ///
    /// The sheet holds the image and below it the results of torchvision 0.20.1 (its `transforms.AutoAugment` for CIFAR-10, its
    /// magnitudes and signs, nearest neighbours, black outside) on Pillow 13.0, in the order below.
    #[test]
    fn operations_agree_with_pillow() {
        let sheet = image::load_from_memory(include_bytes!("../../tests/golden/autoaugment.png")).unwrap().to_rgb8();
        let bytes = sheet.as_raw().as_chunks::<3>().0;
        let mut tiles = bytes.chunks(32 * 32).map(|tile| Picture { height: 32, width: 32, pixels: tile.to_vec() });
        let image = tiles.next().unwrap();
        let signed = |change: fn(u32) -> Change, magnitudes: &[u32]| -> Vec<(Change, bool)> {
            magnitudes.iter().flat_map(|&k| [(change(k), ORDINARY), (change(k), OTHER)]).collect()
        };
        let cases = [
            vec![(AutoContrast, ORDINARY)],
            signed(Brightness, &[3, 6, 7, 9]),
            signed(Color, &[0, 3, 7, 8, 9]),
            signed(Contrast, &[6, 7]),
            vec![(Equalize, ORDINARY), (Invert, ORDINARY), (Posterize(7), ORDINARY)],
            vec![(Rotate, ORDINARY), (Rotate, OTHER)],
            signed(Sharpness, &[1, 3, 5, 6, 9]),
            signed(ShearY, &[7, 8]),
            [2, 3, 5, 8].map(|k| (Solarize(k), ORDINARY)).to_vec(),
            signed(TranslateX, &[8, 9]),
            signed(TranslateY, &[3, 9]),
        ]
        .concat();
        for entry in CIFAR10.iter().flatten().filter(|(_, tenths)| *tenths > 0) {
            assert!(cases.iter().any(|(change, _)| *change == entry.0), "{entry:?} is not on the sheet");
        }
        // Floating point that falls just short of a whole number.
        let rounded = [
            (AutoContrast, ORDINARY),
            (Brightness(3), ORDINARY),
            (Brightness(6), OTHER),
            (Color(3), OTHER),
            (Color(8), OTHER),
            (Sharpness(3), OTHER),
        ];
        for case in &cases {
            let (found, pillow) = (image.changed(case.0, case.1), tiles.next().unwrap());
            assert!(found != image || case.0 == Color(0), "{case:?} changes something");
            if rounded.contains(case) {
                let pairs = found.pixels.as_flattened().iter().zip(pillow.pixels.as_flattened());
                assert!(pairs.clone().all(|(&found, &pillow)| found == pillow || found == pillow + 1), "{case:?}");
                let off = pairs.filter(|(found, pillow)| found != pillow).count();
                assert!(off < 1000, "{case:?}: {off} of 3072 are one above Pillow's");
            } else {
                assert_eq!(found, pillow, "{case:?}");
            }
        }
        assert_eq!((cases.len(), tiles.next()), (54, None));
    }

    /// Of many rows: how often each operation is applied, and how often the other way.
    #[test]
    fn operations_are_drawn_with_their_probabilities() {
        let rows = 100_000;
        let mut found: BTreeMap<String, [u32; 2]> = BTreeMap::new();
        for (change, other) in (0..rows).flat_map(|row| chosen(AutoAugment::Cifar10, row, 3, 4)) {
            found.entry(format!("{change:?}")).or_default()[usize::from(other)] += 1;
        }
        let mut expected: BTreeMap<String, f64> = BTreeMap::new();
        for (change, tenths) in CIFAR10.into_iter().flatten() {
            *expected.entry(format!("{change:?}")).or_default() += f64::from(rows * tenths) / 250.0;
        }
        assert!(found.keys().eq(expected.keys()));
        for (change, counts) in found {
            // Within five standard deviations.
            let half = expected[&change] / 2.0;
            assert!(
                counts.iter().all(|&n| (f64::from(n) - half).abs() < 5.0 * half.sqrt()),
                "{change}: {counts:?}, {half}"
            );
        }
    }

    #[test]
    fn a_probability_is_one_of_the_upper_24_bits() {
        assert!(!is_applied(0, 0) && is_applied(0, 1) && is_applied(u32::MAX, 10));
        // 0.3 * 2^24 is 5033164.8.
        assert!(is_applied((5_033_164 << 8) | 255, 3) && !is_applied(5_033_165 << 8, 3));
    }

    /// The first word chooses, the next two are the operations' probabilities, the upper bits of the last their signs.
    #[test]
    fn each_draw_has_bits_of_its_own() {
        for row in 0..200 {
            let words = pcg4d([row, POLICY_STREAM, 5, 6]);
            let pair = CIFAR10[words[0] as usize % 25];
            let signs = [words[3] >= 1 << 31, words[3] % (1 << 31) >= 1 << 30];
            let expected = (0..2).filter_map(|n| is_applied(words[n + 1], pair[n].1).then_some((pair[n].0, signs[n])));
            assert!(chosen(AutoAugment::Cifar10, row, 5, 6).eq(expected));
        }
    }
}
