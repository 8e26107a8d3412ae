//! How many dimensions an error has.

use faer::{Mat, MatRef, Side};

/// Most samples that a spectrum is taken of: its matrices are no larger.
const SAMPLES: usize = 512;

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

/// Of `error`, rows x width, row-major; of evenly spaced rows where there are more than 512. None without variance, or where
/// a number is not finite.
pub fn spectrum(error: &[f64], width: usize) -> Option<Spectrum> {
    let all = MatRef::from_row_major_slice(error, error.len() / width.max(1), width);
    let rows = all.nrows().min(SAMPLES);
    let chosen = Mat::from_fn(rows, width, |i, j| all[(i * all.nrows() / rows.max(1), j)]);
    let mean: Vec<f64> = (0..width).map(|j| (0..rows).map(|i| chosen[(i, j)]).sum::<f64>() / rows as f64).collect();
    let centred = Mat::from_fn(rows, width, |i, j| chosen[(i, j)] - mean[j]);
    // Both products have the same eigenvalues but for zeros.
    let product = if rows < width { &centred * centred.transpose() } else { centred.transpose() * &centred };
    let variance = (0..product.nrows()).map(|i| product[(i, i)]).sum::<f64>() / rows as f64;
    if !(variance > 0.0 && variance.is_finite()) {
        return None;
    }
    let mut values = product.self_adjoint_eigenvalues(Side::Lower).ok()?;
    values.iter_mut().for_each(|value| *value = (*value / rows as f64).max(0.0));
    values.sort_by(|a, b| b.total_cmp(a));
    let squares: f64 = values.iter().map(|value| value * value).sum();
    values.truncate(KEPT);
    let shares = values.into_iter().map(|value| value / variance).collect();
    Some(Spectrum { variance, effective_dimension: variance * variance / squares, shares })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Variances 4 and 1 along two orthogonal directions of three; the mean must not count.
    #[test]
    fn by_hand() {
        let sample = |a: f64, b: f64| [7.0 + 0.6 * a, 0.8 * a, b - 2.0];
        let error: Vec<f64> = [sample(2.0, 1.0), sample(-2.0, 1.0), sample(2.0, -1.0), sample(-2.0, -1.0)].concat();
        let found = spectrum(&error, 3).unwrap();
        assert!((found.variance - 5.0).abs() < 1e-12);
        assert!((found.effective_dimension - 25.0 / 17.0).abs() < 1e-12);
        let expected = [0.8, 0.2, 0.0];
        assert!(found.shares.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{:?}", found.shares);
    }

    /// The smaller of both products is decomposed.
    #[test]
    fn few_samples_of_many_columns_have_the_same_spectrum() {
        let value = |i: usize, j: usize| ((i * 31 + j * 17) % 23) as f64 - 11.0 + (i * j % 7) as f64;
        let wide: Vec<f64> = (0..5).flat_map(|i| (0..40).map(move |j| value(i, j))).collect();
        let found = spectrum(&wide, 40).unwrap();
        assert_eq!(found.shares.len(), 5, "centred, one of them is zero");
        assert!(found.shares[4] < 1e-9 && (found.shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        // Zero columns more make rows fewer than columns no longer, and change nothing.
        let tall: Vec<f64> = wide.chunks(40).flat_map(|row| row[..3].to_vec()).collect();
        let padded: Vec<f64> = tall.chunks(3).flat_map(|row| [row, &[0.0; 9]].concat()).collect();
        let (tall, padded) = (spectrum(&tall, 3).unwrap(), spectrum(&padded, 12).unwrap());
        assert!((tall.effective_dimension - padded.effective_dimension).abs() < 1e-9);
    }

    #[test]
    fn many_samples_are_thinned_and_nothing_has_no_spectrum() {
        let error: Vec<f64> = (0..4000).map(|i| f64::from(i % 2)).collect();
        let found = spectrum(&error, 1).unwrap();
        assert!(found.effective_dimension == 1.0 && found.shares == [1.0] && found.variance > 0.2);
        assert_eq!(spectrum(&[], 4), None);
        assert_eq!(spectrum(&[2.0; 12], 3), None, "all samples are the same");
        assert_eq!(spectrum(&[1.0, f64::NAN, 2.0, 0.0], 2), None);
    }
}
