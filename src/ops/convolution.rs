//! The products of a convolution: a factor is read through a window and never formed.

use super::{Gemm, View, Window, require};

/// Which of a convolution's three products.
///
/// An image has a row of channels for every pixel, an error a row for every position of the window, the weight one for
/// every output channel: tap by tap, the input channels. `patches` of an image has a row for every position: tap by tap,
/// the channels of the pixel below, zeros in the padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// `patches(a) b^T`: a is the image, b the weight, out (positions x outputs) what the layer computes.
    Forward,
    /// The transpose of that: a is the error, b the weight, out (pixels x inputs) what reaches the image.
    Input,
    /// `a^T patches(b)`: a is the error, b the image, out (outputs x (taps inputs)) the gradient of the weight.
    Weight,
}

/// How a product reads an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Convolution {
    /// From pixels to positions.
    pub window: Window,
    /// Which product.
    pub pass: Pass,
}

impl Convolution {
    /// Rows, columns and inner length of the product; all zero where rows are no whole images.
    pub(super) fn extents(&self, a: View, b: View) -> [u32; 3] {
        let Window { image, grid, .. } = self.window;
        let scaled = |rows: u32, from: [u32; 2], to: [u32; 2]| {
            let images = rows / (from[0] * from[1]).max(1);
            images.checked_mul(to[0] * to[1]).unwrap_or_default()
        };
        let taps = self.window.taps();
        match self.pass {
            Pass::Forward => [scaled(a.rows(), image, grid), b.rows(), b.cols()],
            Pass::Input => [scaled(a.rows(), grid, image), b.cols() / taps, taps.checked_mul(a.cols()).unwrap_or(0)],
            Pass::Weight => [a.cols(), taps.checked_mul(b.cols()).unwrap_or(0), a.rows()],
        }
    }

    pub(super) fn check(&self, gemm: &Gemm) -> Result<(), String> {
        self.window.check()?;
        let (a, b, taps) = (gemm.a, gemm.b, self.window.taps());
        let whole = |t: View, of: u32| t.rows().is_multiple_of(of);
        let turned = (gemm.transpose_a, gemm.transpose_b);
        match self.pass {
            Pass::Forward => {
                require(turned == (false, true), "the forward product transposes b only")?;
                require(whole(a, self.window.pixels()), "a must be whole images")?;
                require(taps.checked_mul(a.cols()) == Some(b.cols()), "a row of b must be taps x channels of a")
            }
            Pass::Input => {
                require(turned == (false, false), "the product for the input transposes nothing")?;
                require(whole(a, self.window.positions()), "a must be errors of whole images")?;
                require(b.rows() == a.cols(), "b must have a row for every channel of a")?;
                require(b.cols().is_multiple_of(taps), "a row of b must be taps x channels")
            }
            Pass::Weight => {
                require(turned == (true, false), "the product for the weight transposes a only")?;
                require(whole(a, self.window.positions()), "a must be errors of whole images")?;
                require(whole(b, self.window.pixels()), "b must be whole images")?;
                let images = (a.rows() / self.window.positions(), b.rows() / self.window.pixels());
                require(images.0 == images.1, "a and b must be of as many images")
            }
        }
    }

    /// Multiply-adds of one replica: what falls on taps, the padding included.
    pub(super) fn multiply_adds(&self, gemm: &Gemm) -> u64 {
        let [rows, cols, inner] = self.extents(gemm.a, gemm.b);
        match self.pass {
            Pass::Forward | Pass::Weight => u64::from(rows) * u64::from(cols) * u64::from(inner),
            // Of a pixel's taps only every stride-th lies on a position.
            Pass::Input => gemm.a.shape.per_replica() as u64 * u64::from(gemm.b.cols()),
        }
    }
}

impl Gemm {
    /// `out = patches(image) weight^T`: image (images pixels) x inputs, weight outputs x (taps inputs), out (images
    /// positions) x outputs.
    pub fn convolve(image: View, weight: View, out: View, window: Window) -> Gemm {
        Gemm { convolution: Some(Convolution { window, pass: Pass::Forward }), ..Gemm::nt(image, weight, out) }
    }

    /// The transposed convolution: what an error, (images positions) x outputs, sends to the image, (images pixels) x
    /// inputs.
    pub fn convolve_back(error: View, weight: View, out: View, window: Window) -> Gemm {
        Gemm { convolution: Some(Convolution { window, pass: Pass::Input }), ..Gemm::nn(error, weight, out) }
    }

    /// The gradient of a weight: `out = error^T patches(image)`, outputs x (taps inputs).
    pub fn correlate(error: View, image: View, out: View, window: Window) -> Gemm {
        Gemm { convolution: Some(Convolution { window, pass: Pass::Weight }), ..Gemm::tn(error, image, out) }
    }
}
