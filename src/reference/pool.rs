//! Pooling: what a window sees of each channel, in one number.

use super::matrix::Matrix;
use crate::ops::Window;

/// Every pair of a row of positions and a row of pixels that a tap connects, in the order of positions, then taps:
/// (position, pixel, tap).
fn connections(window: &Window, images: usize) -> impl Iterator<Item = (usize, usize, u32)> {
    let window = *window;
    let over = |[height, width]: [u32; 2]| (0..height).flat_map(move |y| (0..width).map(move |x| [y, x]));
    let index = |[y, x]: [u32; 2], [_, width]: [u32; 2]| (y * width + x) as usize;
    (0..images).flat_map(move |image| {
        over(window.grid).flat_map(move |position| {
            over(window.kernel).filter_map(move |tap| {
                let pixel = window.pixel(position, tap)?;
                let position = image * window.positions() as usize + index(position, window.grid);
                let pixel = image * window.pixels() as usize + index(pixel, window.image);
                Some((position, pixel, index(tap, window.kernel) as u32))
            })
        })
    })
}

/// Maximum of every window and the tap that it was found at.
pub(super) fn max(x: Matrix<'_>, window: &Window) -> (Vec<f64>, Vec<u32>) {
    let images = x.rows / window.pixels() as usize;
    let mut best = vec![None; images * window.positions() as usize * x.cols];
    for (position, pixel, tap) in connections(window, images) {
        for (best, &value) in best[position * x.cols..][..x.cols].iter_mut().zip(x.row(pixel)) {
            if best.is_none_or(|(so_far, _)| value > so_far || value.is_nan()) {
                *best = Some((value, tap));
            }
        }
    }
    // The padding is smaller than the kernel, so every window sees a pixel.
    best.into_iter().map(|best| best.unwrap_or((f64::NAN, u32::MAX))).unzip()
}

/// The errors of the windows that each pixel won.
pub(super) fn max_backward(error: Matrix<'_>, winners: &[u32], window: &Window) -> Vec<f64> {
    let (images, cols) = (error.rows / window.positions() as usize, error.cols);
    let mut out = vec![0.0; images * window.pixels() as usize * cols];
    for (position, pixel, tap) in connections(window, images) {
        for (col, &error) in error.row(position).iter().enumerate() {
            if winners[position * cols + col] == tap {
                out[pixel * cols + col] += error;
            }
        }
    }
    out
}

/// Mean of every window, the padding as zeros.
pub(super) fn average(x: Matrix<'_>, window: &Window) -> Vec<f64> {
    let images = x.rows / window.pixels() as usize;
    let mut sums = vec![0.0; images * window.positions() as usize * x.cols];
    for (position, pixel, _) in connections(window, images) {
        for (sum, &value) in sums[position * x.cols..][..x.cols].iter_mut().zip(x.row(pixel)) {
            *sum += value;
        }
    }
    sums.into_iter().map(|sum| sum / f64::from(window.taps())).collect()
}

/// Each pixel's share of the errors of the windows that see it.
pub(super) fn average_backward(error: Matrix<'_>, window: &Window) -> Vec<f64> {
    let (images, cols) = (error.rows / window.positions() as usize, error.cols);
    let mut sums = vec![0.0; images * window.pixels() as usize * cols];
    for (position, pixel, _) in connections(window, images) {
        for (sum, &error) in sums[pixel * cols..][..cols].iter_mut().zip(error.row(position)) {
            *sum += error;
        }
    }
    sums.into_iter().map(|sum| sum / f64::from(window.taps())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::tests::{assert_close, differences, dot, noise};

    const NAN: f64 = f64::NAN;

    fn window(image: [u32; 2], kernel: [u32; 2], stride: [u32; 2], padding: [u32; 2]) -> Window {
        Window::new(image, kernel, stride, padding).unwrap()
    }

    #[test]
    fn maxima_by_hand() {
        // Two channels of a 2 x 3 image.
        let x = [1.0, -1.0, 5.0, -2.0, 2.0, -3.0, 4.0, -9.0, 3.0, -8.0, 6.0, -7.0];
        let pool = window([2, 3], [2, 2], [1, 1], [0, 0]);
        let (values, winners) = max(Matrix::new(6, 2, &x), &pool);
        assert_eq!(values, [5.0, -1.0, 6.0, -2.0]);
        assert_eq!(winners, [1, 0, 3, 0]);
        let error = [10.0, 20.0, 30.0, 40.0];
        let back = max_backward(Matrix::new(2, 2, &error), &winners, &pool);
        assert_eq!(back, [0.0, 20.0, 10.0, 40.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 30.0, 0.0]);
    }

    #[test]
    fn of_equal_values_the_first_wins_and_the_padding_never_does() {
        let pool = window([2, 2], [3, 3], [1, 1], [1, 1]);
        let lowest = [f64::NEG_INFINITY; 4];
        for x in [[-2.0; 4], [0.0, -0.0, 0.0, 0.0], lowest] {
            let (values, winners) = max(Matrix::new(4, 1, &x), &pool);
            assert_eq!(values, [x[0]; 4]);
            // The first pixel lies below the middle tap, the one left of it, above it, above left of it.
            assert_eq!(winners, [4, 3, 1, 0]);
        }
    }

    /// `val > max || isnan(val)`: nothing is greater than a NaN, but the next one is taken.
    #[test]
    fn a_nan_wins_and_of_several_the_last() {
        let pool = window([1, 4], [1, 4], [1, 1], [0, 0]);
        for (x, winner) in [([1.0, NAN, 9.0, 2.0], 1), ([NAN, 7.0, NAN, 8.0], 2), ([NAN, f64::INFINITY, 0.0, 0.0], 0)] {
            let (values, winners) = max(Matrix::new(4, 1, &x), &pool);
            assert!(values[0].is_nan());
            assert_eq!(winners, [winner]);
        }
    }

    #[test]
    fn a_pixel_that_wins_several_windows_gets_all_their_errors() {
        let pool = window([1, 3], [1, 2], [1, 1], [0, 1]);
        let (values, winners) = max(Matrix::new(3, 1, &[1.0, 5.0, 2.0]), &pool);
        assert_eq!((values, winners.clone()), (vec![1.0, 5.0, 5.0, 2.0], vec![1, 1, 0, 0]));
        let error = [1.0, 10.0, 100.0, 1000.0];
        assert_eq!(max_backward(Matrix::new(4, 1, &error), &winners, &pool), [1.0, 110.0, 1000.0]);
    }

    #[test]
    fn means_count_the_padding() {
        let pool = window([2, 2], [2, 2], [1, 1], [1, 1]);
        let x = [4.0, 8.0, 12.0, 16.0];
        assert_eq!(average(Matrix::new(4, 1, &x), &pool), [1.0, 3.0, 2.0, 4.0, 10.0, 6.0, 3.0, 7.0, 4.0]);
        let error = [4.0, 8.0, 12.0, 16.0, 20.0, 24.0, 28.0, 32.0, 36.0];
        assert_eq!(average_backward(Matrix::new(9, 1, &error), &pool), [12.0, 16.0, 24.0, 28.0]);
    }

    #[test]
    fn images_and_channels_are_pooled_each_by_itself() {
        let pool = window([2, 1], [2, 1], [1, 1], [0, 0]);
        let x = [1.0, 10.0, 3.0, 30.0, 5.0, 50.0, 9.0, 90.0];
        assert_eq!(average(Matrix::new(4, 2, &x), &pool), [2.0, 20.0, 7.0, 70.0]);
        let error = [2.0, 4.0, 6.0, 8.0];
        assert_eq!(average_backward(Matrix::new(2, 2, &error), &pool), [1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]);
    }

    #[test]
    fn pixels_between_the_windows_get_nothing() {
        let pool = window([1, 4], [1, 1], [1, 3], [0, 0]);
        assert_eq!(average_backward(Matrix::new(2, 1, &[1.0, 2.0]), &pool), [1.0, 0.0, 0.0, 2.0]);
    }

    #[test]
    fn the_way_back_is_the_derivative() {
        let pool = window([4, 5], [3, 2], [2, 1], [1, 1]);
        let (x, error) = (noise(2 * 20 * 3, 1), noise(2 * 12 * 3, 2));
        let of_error = Matrix::new(24, 3, &error);
        let slopes = differences(&x, |x| dot(&average(Matrix::new(40, 3, x), &pool), &error));
        assert_close(&average_backward(of_error, &pool), &slopes, 1e-8);
        let (_, winners) = max(Matrix::new(40, 3, &x), &pool);
        let slopes = differences(&x, |x| dot(&max(Matrix::new(40, 3, x), &pool).0, &error));
        assert_close(&max_backward(of_error, &winners, &pool), &slopes, 1e-8);
    }
}
