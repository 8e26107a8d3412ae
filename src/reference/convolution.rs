//! The factors of a convolution's products, written out.

use super::matrix::{Matrix, Turned};
use crate::ops::{Convolution, Pass, Window};

/// Both factors as matrices whose product is the convolution's.
pub(super) fn factors<'a>(convolution: &Convolution, a: Matrix<'a>, b: Matrix<'a>) -> [Turned<'a>; 2] {
    let window = &convolution.window;
    match convolution.pass {
        Pass::Forward => [patches(a, window), b.turned(false)],
        Pass::Input => [senders(a, window), by_tap(b, window.taps() as usize)],
        Pass::Weight => [a.turned(false), patches(b, window)],
    }
}

/// Calls `each` with every row of pixels, row of positions and tap that meet.
fn meetings(window: &Window, images: usize, mut each: impl FnMut(usize, usize, usize)) {
    let [height, width] = window.grid;
    let at = |image: usize, [y, x]: [u32; 2], of: [u32; 2]| {
        (image * of[0] as usize + y as usize) * of[1] as usize + x as usize
    };
    for image in 0..images {
        for position in (0..height).flat_map(|y| (0..width).map(move |x| [y, x])) {
            for tap in (0..window.kernel[0]).flat_map(|y| (0..window.kernel[1]).map(move |x| [y, x])) {
                if let Some(pixel) = window.pixel(position, tap) {
                    let tap = (tap[0] * window.kernel[1] + tap[1]) as usize;
                    each(at(image, pixel, window.image), at(image, position, window.grid), tap);
                }
            }
        }
    }
}

/// A row for every position: tap by tap, the channels of the pixel below.
fn patches<'a>(image: Matrix<'_>, window: &Window) -> Turned<'a> {
    let images = image.rows / window.pixels() as usize;
    written_out(image, images * window.positions() as usize, window, |put| {
        meetings(window, images, |pixel, position, tap| put(position, tap, pixel));
    })
}

/// A row for every pixel: tap by tap, the channels of the position that sees it there.
fn senders<'a>(error: Matrix<'_>, window: &Window) -> Turned<'a> {
    let images = error.rows / window.positions() as usize;
    written_out(error, images * window.pixels() as usize, window, |put| {
        meetings(window, images, |pixel, position, tap| put(pixel, tap, position));
    })
}

/// So many rows, tap by tap: zeros but where `fill` puts a row of `from` to a row and tap.
fn written_out<'a>(
    from: Matrix<'_>,
    rows: usize,
    window: &Window,
    fill: impl FnOnce(&mut dyn FnMut(usize, usize, usize)),
) -> Turned<'a> {
    let (channels, taps) = (from.cols, window.taps() as usize);
    let mut out = vec![0.0; rows * taps * channels];
    fill(&mut |row, tap, source| {
        out[(row * taps + tap) * channels..][..channels].copy_from_slice(from.row(source));
    });
    Turned::own(rows, taps * channels, out)
}

/// From outputs x (taps inputs) to (taps outputs) x inputs.
fn by_tap<'a>(weight: Matrix<'_>, taps: usize) -> Turned<'a> {
    let inputs = weight.cols / taps;
    let row = |tap: usize, output: usize| &weight.row(output)[tap * inputs..][..inputs];
    let rows = (0..taps).flat_map(|tap| (0..weight.rows).flat_map(move |output| row(tap, output)));
    Turned::own(taps * weight.rows, inputs, rows.copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::gemm::product;
    use crate::reference::tests::{assert_close, noise};

    /// 2 x 3 pixels of one channel, a kernel of 2 x 2, padded by one column only: positions 1 x 4.
    #[test]
    fn patches_by_hand() {
        let window = Window::new([2, 3], [2, 2], [1, 1], [0, 1]).unwrap();
        let found = patches(Matrix::new(6, 1, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), &window);
        let expected =
            [[0.0, 1.0, 0.0, 4.0], [1.0, 2.0, 4.0, 5.0], [2.0, 3.0, 5.0, 6.0], [3.0, 0.0, 6.0, 0.0]].concat();
        assert_eq!(found.matrix().data, expected);
    }

    #[test]
    fn weights_by_tap() {
        // Two outputs, two taps, one input.
        let found = by_tap(Matrix::new(2, 2, &[1.0, 2.0, 3.0, 4.0]), 2);
        assert_eq!(found.matrix().data, [1.0, 3.0, 2.0, 4.0]);
    }

    /// Convolution, five loops deep.
    fn convolve(image: Matrix<'_>, weight: Matrix<'_>, window: &Window) -> Vec<f64> {
        let (pixels, inputs) = (window.pixels() as usize, image.cols);
        let mut out = Vec::new();
        for of in 0..image.rows / pixels {
            for (y, x) in (0..window.grid[0]).flat_map(|y| (0..window.grid[1]).map(move |x| (y, x))) {
                for output in 0..weight.rows {
                    let mut sum = 0.0;
                    for (ky, kx) in (0..window.kernel[0]).flat_map(|y| (0..window.kernel[1]).map(move |x| (y, x))) {
                        let along = |at: u32, tap: u32, axis: usize| {
                            i64::from(at * window.stride[axis] + tap) - i64::from(window.padding[axis])
                        };
                        let (row, col) = (along(y, ky, 0), along(x, kx, 1));
                        let inside = |at: i64, axis: usize| (0..i64::from(window.image[axis])).contains(&at);
                        if inside(row, 0) && inside(col, 1) {
                            let pixel = of * pixels + (row * i64::from(window.image[1]) + col) as usize;
                            let tap = (ky * window.kernel[1] + kx) as usize;
                            sum += (0..inputs)
                                .map(|c| image.at(pixel, c) * weight.at(output, tap * inputs + c))
                                .sum::<f64>();
                        }
                    }
                    out.push(sum);
                }
            }
        }
        out
    }

    /// Forward against the loops; the other two by what makes them its transposes: <conv(x, w), e> = <x, back(e, w)> =
    /// <w, correlate(e, x)>, for every e.
    #[test]
    fn the_three_products_belong_together() {
        for (image, kernel, stride, padding) in [
            ([4, 5], [3, 3], [1, 1], [1, 1]),
            ([5, 7], [3, 2], [2, 1], [1, 0]),
            ([6, 6], [1, 1], [2, 2], [0, 0]),
            ([7, 3], [5, 3], [3, 2], [2, 2]),
        ] {
            let window = Window::new(image, kernel, stride, padding).unwrap();
            let (images, inputs, outputs, taps) = (2, 3, 4, window.taps() as usize);
            let (pixels, positions) = (window.pixels() as usize, window.positions() as usize);
            let (x, w, e) = (
                noise(images * pixels * inputs, 1),
                noise(outputs * taps * inputs, 2),
                noise(images * positions * outputs, 3),
            );
            let x = Matrix::new(images * pixels, inputs, &x);
            let w = Matrix::new(outputs, taps * inputs, &w);
            let e = Matrix::new(images * positions, outputs, &e);
            let convolution = |pass| Convolution { window, pass };
            let [patches, weight] = factors(&convolution(Pass::Forward), x, w);
            let turned = weight.matrix().turned(true);
            let out = product(patches.matrix(), turned.matrix());
            assert_close(&out, &convolve(x, w, &window), 1e-13);
            let [senders, weight] = factors(&convolution(Pass::Input), e, w);
            let back = product(senders.matrix(), weight.matrix());
            let [error, patches] = factors(&convolution(Pass::Weight), e, x);
            let turned = error.matrix().turned(true);
            let gradient = product(turned.matrix(), patches.matrix());
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let expected = dot(&out, e.data);
            assert_close(&[dot(x.data, &back), dot(w.data, &gradient)], &[expected; 2], 1e-12);
        }
    }
}
