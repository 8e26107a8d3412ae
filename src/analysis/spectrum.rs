//! How many dimensions an error has.

use faer::{Mat, MatRef, Side};

/// Largest eigenvalues that are kept.
const KEPT: usize = 32;

/// Of the covariance of an error, over the samples of a batch (times positions).
#[derive(Clone, Debug, PartialEq)]
pub struct Spectrum {
    /// Sum of all eigenvalues.
    pub variance: f64,
    /// Participation ratio: (sum of the eigenvalues)^2 / sum of their squares. As many as there are if all are equal, 1 if there is
    /// but one.
    pub effective_dimension: f64,
    /// The largest eigenvalues, in descending order, as shares of the variance.
    pub shares: Vec<f64>,
}

impl Spectrum {
    /// Of an error that is at hand: samples one after the other, each of so many columns. None as of [`spectrum`].
    pub fn of(error: &[f64], width: usize) -> Option<Spectrum> {
        let samples = error.len() / width;
        let all = MatRef::from_row_major_slice(error, samples, width);
        if samples < width {
            return spectrum(&Products { products: &flat(all * all.transpose()), sums: None, samples });
        }
        let sums: Vec<f64> = (0..width).map(|j| all.col(j).iter().sum()).collect();
        spectrum(&Products { products: &flat(all.transpose() * all), sums: Some(&sums), samples })
    }
}

/// Row by row.
fn flat(square: Mat<f64>) -> Vec<f64> {
    (0..square.nrows()).flat_map(|i| square.row(i).iter().copied().collect::<Vec<_>>()).collect()
}

/// Sums of products of an error's values, not centred: of every two of its columns over all samples, or of every two samples
/// over all columns. Both have the same eigenvalues but for zeros.
#[derive(Clone, Copy, Debug)]
pub struct Products<'a> {
    /// A square.
    pub products: &'a [f64],
    /// Sums of the columns over the samples, where the products are those of columns.
    pub sums: Option<&'a [f64]>,
    /// How many samples there were.
    pub samples: usize,
}

impl Products<'_> {
    fn size(&self) -> usize {
        self.sums.map_or(self.samples, <[f64]>::len)
    }

    /// What the products would be had the mean been taken from every column.
    fn centred(&self) -> Mat<f64> {
        let (size, samples) = (self.size(), self.samples as f64);
        let all = MatRef::from_row_major_slice(self.products, size, size);
        if let Some(sums) = self.sums {
            return Mat::from_fn(size, size, |i, j| all[(i, j)] - sums[i] * sums[j] / samples);
        }
        // Of every sample with the mean, and of the mean with itself.
        let means: Vec<f64> = (0..size).map(|i| (0..size).map(|j| all[(i, j)]).sum::<f64>() / samples).collect();
        let mean = means.iter().sum::<f64>() / samples;
        Mat::from_fn(size, size, |i, j| all[(i, j)] - means[i] - means[j] + mean)
    }
}

/// Share of the products that their rounding to 32 bits may leave where there is nothing.
const ROUNDING: f64 = 1e-5;

/// Of an error's covariance. None without variance (or with so little beside the mean that rounding hides it), or where a number
/// is not finite.
pub fn spectrum(error: &Products<'_>) -> Option<Spectrum> {
    let (size, samples) = (error.size(), error.samples as f64);
    let centred = error.centred();
    let trace: f64 = (0..size).map(|i| centred[(i, i)]).sum();
    let whole: f64 = (0..size).map(|i| error.products[i * size + i]).sum();
    if !(trace.is_finite() && trace > ROUNDING * whole) {
        return None;
    }
    let mut values = centred.self_adjoint_eigenvalues(Side::Lower).ok()?;
    values.iter_mut().for_each(|value| *value = (*value / samples).max(0.0));
    values.sort_by(|a, b| b.total_cmp(a));
    let (variance, squares) = (trace / samples, values.iter().map(|value| value * value).sum::<f64>());
    values.truncate(KEPT);
    let shares = values.into_iter().map(|value| value / variance).collect();
    Some(Spectrum { variance, effective_dimension: variance * variance / squares, shares })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of samples one after the other: by columns and by samples.
    fn both(error: &[f64], width: usize) -> [Option<Spectrum>; 2] {
        let samples = error.len() / width;
        let all = MatRef::from_row_major_slice(error, samples, width);
        let (columns, rows) = (flat(all.transpose() * all), flat(all * all.transpose()));
        let sums: Vec<f64> = (0..width).map(|j| all.col(j).iter().sum()).collect();
        [
            spectrum(&Products { products: &columns, sums: Some(&sums), samples }),
            spectrum(&Products { products: &rows, sums: None, samples }),
        ]
    }

    /// Variances 4 and 1 along two orthogonal directions of three; the mean must not count.
    #[test]
    fn by_hand() {
        let sample = |a: f64, b: f64| [7.0 + 0.6 * a, 0.8 * a, b - 2.0];
        let error: Vec<f64> = [sample(2.0, 1.0), sample(-2.0, 1.0), sample(2.0, -1.0), sample(-2.0, -1.0)].concat();
        for found in both(&error, 3) {
            let found = found.unwrap();
            assert!((found.variance - 5.0).abs() < 1e-12);
            assert!((found.effective_dimension - 25.0 / 17.0).abs() < 1e-12);
            let expected = [0.8, 0.2, 0.0];
            assert!(found.shares.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{:?}", found.shares);
        }
    }

    #[test]
    fn columns_and_samples_have_the_same_spectrum() {
        let value = |i: usize, j: usize| ((i * 31 + j * 17) % 23) as f64 - 11.0 + (i * j % 7) as f64;
        let wide: Vec<f64> = (0..5).flat_map(|i| (0..40).map(move |j| value(i, j))).collect();
        let [columns, samples] = both(&wide, 40).map(Option::unwrap);
        assert_eq!((columns.shares.len(), samples.shares.len()), (KEPT, 5));
        assert!(samples.shares[4] < 1e-9, "centred, one of them is zero");
        assert!((columns.effective_dimension - samples.effective_dimension).abs() < 1e-9);
        assert!((columns.variance - samples.variance).abs() < 1e-9 * samples.variance);
        assert!(columns.shares.iter().zip(&samples.shares).all(|(a, b)| (a - b).abs() < 1e-9));
        // Of an error at hand, the smaller of both.
        assert_eq!(Spectrum::of(&wide, 40).as_ref(), Some(&samples));
        let [columns, _] = both(&wide, 4);
        assert_eq!(Spectrum::of(&wide, 4), columns);
    }

    #[test]
    fn nothing_has_no_spectrum() {
        for error in [vec![2.0; 12], vec![0.0; 12], vec![1.0, f64::NAN, 2.0, 0.0, 3.0, 1.0]] {
            assert_eq!(both(&error, 3), [None, None], "{error:?}");
        }
        // What rounding leaves of products of equal samples is not taken for variance.
        assert_eq!(spectrum(&Products { products: &[12.000_001], sums: Some(&[6.0]), samples: 3 }), None);
    }
}
