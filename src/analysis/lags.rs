//! How an error changes on its way back through the steps of a sequence.

use super::Spectrum;
use super::depth::rms;

/// Most steps of a sequence that are looked at.
const MOST: u32 = 32;

/// The error of one step of a sequence, over the samples of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lag {
    /// Steps before the last one: 0 is the last.
    pub lag: u32,
    /// Root mean square over samples and columns; none where a number is not finite.
    pub error_rms: Option<f64>,
    /// Participation ratio as of a [`Spectrum`], about the mean over the samples; none where they have no variance.
    pub effective_dimension: Option<f64>,
}

impl Lag {
    /// Of an error of (samples x `steps`) x `width`, the rows of a sample one after the other: from the last step back to the first,
    /// all of up to 32, else 20 to 30 of them.
    pub fn all(error: &[f64], width: usize, steps: u32) -> Vec<Lag> {
        let of = |lag: u32| {
            let step = (steps - 1 - lag) as usize;
            let rows: Vec<f64> =
                error.chunks(width).skip(step).step_by(steps as usize).flat_map(|row| row.iter().copied()).collect();
            Lag {
                lag,
                error_rms: Some(rms(&rows)).filter(|rms| rms.is_finite()),
                effective_dimension: Spectrum::of(&rows, width).map(|spectrum| spectrum.effective_dimension),
            }
        };
        lags(steps).into_iter().map(of).collect()
    }
}

/// The lags of a sequence that are looked at, from 0 to the first step's. With a last step that is counted as 1, they grow
/// geometrically: an error changes most in its first steps back.
fn lags(steps: u32) -> Vec<u32> {
    if steps <= MOST {
        return (0..steps).collect();
    }
    let at = |index: u32| f64::from(steps).powf(f64::from(index) / f64::from(MOST - 1)).round() as u32 - 1;
    let mut lags: Vec<u32> = (0..MOST).map(at).collect();
    lags.dedup();
    lags
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two samples of three steps. The last step: (3, 4) and (-3, -4); one back: equal rows; the first: nothing.
    #[test]
    fn by_hand() {
        let error = [0.0, 0.0, 1.0, -1.0, 3.0, 4.0, 0.0, 0.0, 1.0, -1.0, -3.0, -4.0];
        let found = Lag::all(&error, 2, 3);
        assert_eq!(found.iter().map(|lag| lag.lag).collect::<Vec<_>>(), [0, 1, 2]);
        let expected = [12.5f64.sqrt(), 1.0, 0.0];
        assert!(found.iter().zip(expected).all(|(lag, rms)| (lag.error_rms.unwrap() - rms).abs() < 1e-12), "{found:?}");
        assert!((found[0].effective_dimension.unwrap() - 1.0).abs() < 1e-12, "along one direction");
        assert_eq!((found[1].effective_dimension, found[2].effective_dimension), (None, None));
    }

    #[test]
    fn what_vanishes_keeps_its_size_and_what_is_not_finite_has_none() {
        let tiny = Lag::all(&[1e-40, 0.0, 0.0, 1e-40, -1e-40, -1e-40], 2, 1);
        assert!((tiny[0].error_rms.unwrap() / 1e-40 - (4.0f64 / 6.0).sqrt()).abs() < 1e-12);
        assert!(tiny[0].effective_dimension.unwrap() > 1.2);
        assert_eq!(Lag::all(&[f64::NAN, 1.0], 1, 1), [Lag { lag: 0, error_rms: None, effective_dimension: None }]);
    }

    #[test]
    fn long_sequences_are_looked_at_from_end_to_end() {
        assert_eq!(lags(1), [0]);
        assert_eq!(lags(8), [0, 1, 2, 3, 4, 5, 6, 7]);
        for steps in [32, 33, 100, 784, u32::MAX] {
            let found = lags(steps);
            assert_eq!((found[0], found.last()), (0, Some(&(steps - 1))));
            assert!(found.windows(2).all(|pair| pair[0] < pair[1]) && found.len() <= MOST as usize, "{found:?}");
            assert!(found.len() > 15, "{found:?}");
        }
    }
}
