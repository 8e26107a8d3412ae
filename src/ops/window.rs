//! Windows that move over images.

use std::fmt;

/// How a kernel moves over an image: `grid` positions, at each `kernel` taps. Everything is height, width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Pixels of the image.
    pub image: [u32; 2],
    /// Positions of the kernel.
    pub grid: [u32; 2],
    /// Taps of the kernel.
    pub kernel: [u32; 2],
    /// Pixels from one position to the next.
    pub stride: [u32; 2],
    /// Pixels that the image is widened by, on either side.
    pub padding: [u32; 2],
}

fn by([height, width]: [u32; 2]) -> String {
    format!("{height} x {width}")
}

/// Whether the product is a number of rows.
fn is_countable([height, width]: [u32; 2]) -> bool {
    height.checked_mul(width).is_some()
}

impl Window {
    /// A kernel that takes every position which lies in the padded image as a whole.
    ///
    /// # Errors
    /// Says what is wrong: no pixel, tap or step, a kernel larger than the padded image, padding as large as the
    /// kernel (a position would see no pixel), more positions or taps than can be counted.
    pub fn new(image: [u32; 2], kernel: [u32; 2], stride: [u32; 2], padding: [u32; 2]) -> Result<Window, String> {
        for (what, extent) in [("an image", image), ("a kernel", kernel), ("a stride", stride)] {
            if extent.contains(&0) {
                return Err(format!("{what} of {} is empty", by(extent)));
            }
        }
        for (what, extent) in [("an image", image), ("a kernel", kernel)] {
            if !is_countable(extent) {
                return Err(format!("{what} of {} is too large", by(extent)));
            }
        }
        let mut grid = [0; 2];
        for axis in 0..2 {
            if padding[axis] >= kernel[axis] {
                return Err(format!("a padding of {} must be smaller than the kernel, {}", by(padding), by(kernel)));
            }
            let padded = u64::from(image[axis]) + 2 * u64::from(padding[axis]);
            let Some(room) = padded.checked_sub(u64::from(kernel[axis])) else {
                let (kernel, image, padding) = (by(kernel), by(image), by(padding));
                return Err(format!("a kernel of {kernel} is larger than an image of {image} with padding {padding}"));
            };
            let positions = room / u64::from(stride[axis]) + 1;
            grid[axis] = u32::try_from(positions).map_err(|_| format!("{positions} positions are too many"))?;
        }
        if !is_countable(grid) {
            return Err(format!("a grid of {} positions is too large", by(grid)));
        }
        Ok(Window { image, grid, kernel, stride, padding })
    }

    /// The rule that the window breaks, if any: the fields can be set one by one.
    pub(crate) fn check(&self) -> Result<(), String> {
        let made = Window::new(self.image, self.kernel, self.stride, self.padding)?;
        if made == *self {
            return Ok(());
        }
        Err(format!("the window has {} positions, not {}", by(made.grid), by(self.grid)))
    }

    /// Taps of a position.
    pub fn taps(&self) -> u32 {
        self.kernel[0] * self.kernel[1]
    }

    /// Positions over one image.
    pub fn positions(&self) -> u32 {
        self.grid[0] * self.grid[1]
    }

    /// Pixels of one image.
    pub fn pixels(&self) -> u32 {
        self.image[0] * self.image[1]
    }

    /// Whether every pixel lies below exactly one tap of one position.
    pub fn is_tiling(&self) -> bool {
        let tiles = |axis: usize| self.grid[axis] * self.kernel[axis] == self.image[axis];
        self.stride == self.kernel && self.padding == [0, 0] && tiles(0) && tiles(1)
    }

    /// The pixel below a tap of the kernel at a position; `None` in the padding.
    pub fn pixel(&self, position: [u32; 2], tap: [u32; 2]) -> Option<[u32; 2]> {
        let along = |axis: usize| {
            let padded = u64::from(position[axis]) * u64::from(self.stride[axis]) + u64::from(tap[axis]);
            let at = padded.checked_sub(u64::from(self.padding[axis]))?;
            u32::try_from(at).ok().filter(|&at| at < self.image[axis])
        };
        Some([along(0)?, along(1)?])
    }
}

/// Kernel, then what is not as simple as can be: `3x3 stride 2x2 padding 1x1`.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [height, width] = self.kernel;
        write!(f, "{height}x{width}")?;
        for (what, [height, width], simple) in [("stride", self.stride, [1, 1]), ("padding", self.padding, [0, 0])] {
            if [height, width] != simple {
                write!(f, " {what} {height}x{width}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_is_what_fits_into_the_padded_image() {
        let grid = |image, kernel, stride, padding| Window::new(image, kernel, stride, padding).unwrap().grid;
        assert_eq!(grid([8, 8], [2, 2], [2, 2], [0, 0]), [4, 4]);
        assert_eq!(grid([5, 7], [2, 2], [2, 2], [0, 0]), [2, 3], "what is left over is left out");
        assert_eq!(grid([5, 7], [3, 3], [1, 1], [1, 1]), [5, 7]);
        assert_eq!(grid([32, 32], [3, 3], [2, 2], [1, 1]), [16, 16]);
        assert_eq!(grid([4, 6], [4, 6], [9, 9], [0, 0]), [1, 1]);
        assert_eq!(grid([1, 2], [3, 2], [1, 3], [2, 1]), [3, 1]);
    }

    #[test]
    fn counts_are_those_of_one_image() {
        let window = Window::new([5, 7], [2, 3], [1, 2], [1, 0]).unwrap();
        assert_eq!((window.grid, window.taps(), window.positions(), window.pixels()), ([6, 3], 6, 18, 35));
    }

    #[test]
    fn taps_outside_the_image_have_no_pixel() {
        let window = Window::new([3, 4], [3, 2], [2, 1], [1, 1]).unwrap();
        assert_eq!(window.grid, [2, 5]);
        assert_eq!(window.pixel([0, 0], [0, 0]), None);
        assert_eq!(window.pixel([0, 0], [1, 1]), Some([0, 0]));
        assert_eq!(window.pixel([0, 0], [1, 0]), None);
        assert_eq!(window.pixel([1, 4], [1, 0]), Some([2, 3]));
        assert_eq!(window.pixel([1, 4], [2, 0]), None, "below");
        assert_eq!(window.pixel([1, 4], [1, 1]), None, "to the right");
    }

    #[test]
    fn windows_that_neither_overlap_nor_leave_pixels_out_tile_the_image() {
        let tiles = |image, kernel, stride, padding| Window::new(image, kernel, stride, padding).unwrap().is_tiling();
        assert!(tiles([4, 6], [2, 3], [2, 3], [0, 0]));
        assert!(!tiles([5, 6], [2, 3], [2, 3], [0, 0]), "a row is left over");
        assert!(!tiles([4, 6], [2, 3], [1, 3], [0, 0]), "they overlap");
        assert!(!tiles([4, 4], [2, 2], [2, 2], [1, 1]), "they reach beyond the image");
        assert!(!tiles([5, 2], [1, 2], [2, 2], [0, 0]), "they leave rows out");
    }

    #[test]
    fn windows_are_printed_without_what_goes_without_saying() {
        let text = |stride, padding| Window::new([9, 9], [3, 2], stride, padding).unwrap().to_string();
        assert_eq!(text([1, 1], [0, 0]), "3x2");
        assert_eq!(text([2, 1], [1, 1]), "3x2 stride 2x1 padding 1x1");
    }

    #[test]
    fn impossible_windows_say_why() {
        let largest = u32::MAX;
        let cases = [
            ([[0, 4], [1, 1], [1, 1], [0, 0]], "an image of 0 x 4 is empty"),
            ([[4, 4], [2, 0], [1, 1], [0, 0]], "a kernel of 2 x 0 is empty"),
            ([[4, 4], [2, 2], [0, 1], [0, 0]], "a stride of 0 x 1 is empty"),
            ([[4, 4], [2, 2], [1, 1], [0, 2]], "a padding of 0 x 2 must be smaller than the kernel, 2 x 2"),
            ([[4, 2], [3, 5], [1, 1], [1, 1]], "a kernel of 3 x 5 is larger than an image of 4 x 2 with padding 1 x 1"),
            ([[largest, 2], [1, 1], [1, 1], [0, 0]], "an image of 4294967295 x 2 is too large"),
            ([[1, 1], [65_536, 65_536], [1, 1], [0, 0]], "a kernel of 65536 x 65536 is too large"),
            ([[largest, 1], [2, 1], [1, 1], [1, 0]], "4294967296 positions are too many"),
            ([[65_535, 65_535], [2, 2], [1, 1], [1, 1]], "a grid of 65536 x 65536 positions is too large"),
            ([[1, 1], [largest, 1], [1, 1], [largest, 0]], "must be smaller than the kernel"),
        ];
        for ([image, kernel, stride, padding], rule) in cases {
            let error = Window::new(image, kernel, stride, padding).unwrap_err();
            assert!(error.contains(rule), "{error} should say: {rule}");
        }
    }

    #[test]
    fn a_window_of_another_grid_is_seen() {
        let window = Window::new([4, 4], [2, 2], [2, 2], [0, 0]).unwrap();
        assert_eq!(window.check(), Ok(()));
        let wrong = Window { grid: [2, 3], ..window };
        assert_eq!(wrong.check().unwrap_err(), "the window has 2 x 2 positions, not 2 x 3");
        assert!(Window { stride: [0, 1], ..window }.check().is_err());
    }
}
