//! Learned policies of changes to an image.

use serde::{Deserialize, Serialize};

use super::require;

/// Policies of Cubuk et al., "AutoAugment: Learning Augmentation Strategies from Data", CVPR 2019, as
/// `torchvision.transforms.AutoAugment` applies them to Pillow's images.
///
/// A policy has 25 sub-policies of two operations. Each image gets one of them, and each of the two operations is applied
/// with its own probability, as strongly as its magnitude says; where it has a direction or a sign, either with probability
/// 1/2. Everything is computed in whole numbers: bytes stay bytes, and all executors agree to the last bit. Brightness,
/// colour, contrast, sharpness and auto-contrast are the exact value rounded down; where that is a whole number, Pillow's
/// floating point may come out one lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AutoAugment {
    /// The one found on CIFAR-10.
    Cifar10,
}

impl AutoAugment {
    /// Most pixels of an image: the kernel holds two of them in the 16 KiB of workgroup memory, a word a pixel.
    pub const MOST_PIXELS: u32 = 2000;

    /// Whether images of such a height, width and number of channels can be changed so.
    ///
    /// # Errors
    /// What they must be.
    pub fn check(self, [height, width, channels]: [u32; 3]) -> Result<(), String> {
        require(channels == 3, &format!("autoaugment needs images of three channels, these have {channels}"))?;
        let most = AutoAugment::MOST_PIXELS;
        let holds = height.checked_mul(width).is_some_and(|pixels| pixels <= most);
        let rule = format!("autoaugment takes images of at most {most} pixels (44 x 44), these are {height} x {width}");
        require(holds, &rule)
    }

    /// Name in configurations and plans.
    pub fn name(self) -> &'static str {
        match self {
            AutoAugment::Cifar10 => "cifar10",
        }
    }

    /// Where a turned image's pixels come from: `[a, b, c, d, e, f]` in units of 2^-16, so that the pixel at (x, y) is the
    /// one that holds the point (a x + b y + c, d x + e y + f). The policy knows one angle, the third of ten from 0 to 30
    /// degrees, against the clock unless `clockwise`. The image turns about the point where its middle pixels meet.
    pub fn turn([height, width, _]: [u32; 3], clockwise: bool) -> [i32; 6] {
        // torchvision holds magnitudes in single precision.
        let angle = f64::from(20f32 / 3.0).to_radians();
        let (sin, cos) = if clockwise { (-angle).sin_cos() } else { angle.sin_cos() };
        let (x, y) = (f64::from(width) / 2.0, f64::from(height) / 2.0);
        // Of the centre of the pixel (0, 0).
        let (right, down) = (0.5 - x, 0.5 - y);
        let fixed = |value: f64| (value * 65536.0 + 0.5).floor() as i32;
        [cos, -sin, cos * right - sin * down + x, sin, cos, sin * right + cos * down + y].map(fixed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_that_do_not_fit_are_refused() {
        let check = |image| AutoAugment::Cifar10.check(image);
        for image in [[32, 32, 3], [44, 44, 3], [1, 2000, 3], [1, 1, 3]] {
            assert_eq!(check(image), Ok(()));
        }
        for (image, word) in [
            ([32, 32, 1], "three channels, these have 1"),
            ([32, 32, 4], "these have 4"),
            ([45, 45, 3], "at most 2000 pixels (44 x 44), these are 45 x 45"),
            ([65536, 65536, 3], "65536 x 65536"),
        ] {
            let rule = check(image).unwrap_err();
            assert!(rule.contains(word), "{rule}");
        }
    }

    /// cos and sin of 6 2/3 degrees are 0.993238 and 0.116093. Of 32 x 32 pixels the first one's centre lies 15.5 left of
    /// and above the middle: x = 16 - 15.5 (cos - sin) = 2.404246, y = 16 - 15.5 (cos + sin) = -1.194635.
    #[test]
    fn a_turn_is_about_the_middle() {
        let units = |values: [f64; 6]| values.map(|value| (value * 65536.0).round() as i32);
        let near = |found: [i32; 6], expected: [f64; 6]| {
            let expected = units(expected);
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1), "{found:?}, not {expected:?}");
        };
        let [sin, cos] = [0.116_093, 0.993_238];
        near(AutoAugment::turn([32, 32, 3], false), [cos, -sin, 2.404_246, sin, cos, -1.194_635]);
        near(AutoAugment::turn([32, 32, 3], true), [cos, sin, -1.194_635, -sin, cos, 2.404_246]);
        near(AutoAugment::turn([1, 1, 3], false), [cos, -sin, 0.5, sin, cos, 0.5]);
    }
}
