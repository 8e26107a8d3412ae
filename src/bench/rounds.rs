//! Contestants that take turns.

use super::BenchError;
use crate::plan::median;

/// Seconds of one contestant, one value a round.
#[derive(Clone, Debug)]
pub(super) struct Samples(Vec<f64>);

impl Samples {
    /// Median seconds.
    pub(super) fn median(&self) -> f64 {
        median(&self.0)
    }

    /// Seconds of the fastest round.
    pub(super) fn fastest(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Median over the rounds of own time over the other's: what slows a whole round down cancels.
    pub(super) fn over(&self, other: &Samples) -> f64 {
        let ratios: Vec<f64> = self.0.iter().zip(&other.0).map(|(own, other)| own / other).collect();
        median(&ratios)
    }

    /// Median distance from the median, relative to it.
    pub(super) fn spread(&self) -> f64 {
        let middle = self.median();
        let distances: Vec<f64> = self.0.iter().map(|own| (own - middle).abs()).collect();
        median(&distances) / middle
    }
}

/// Samples every contestant once a round, in order; a round before the first is not counted.
pub(super) fn interleave<T>(
    contestants: &mut [T],
    rounds: usize,
    mut sample: impl FnMut(&mut T) -> Result<f64, BenchError>,
) -> Result<Vec<Samples>, BenchError> {
    let mut all: Vec<Samples> = contestants.iter().map(|_| Samples(Vec::with_capacity(rounds))).collect();
    for round in 0..=rounds {
        for (contestant, samples) in contestants.iter_mut().zip(&mut all) {
            let seconds = sample(contestant)?;
            if round > 0 {
                samples.0.push(seconds);
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contestants_take_turns_and_the_first_round_does_not_count() {
        let mut order = Vec::new();
        let mut contestants = [1.0, 2.0, 4.0];
        let all = interleave(&mut contestants, 3, |own| {
            order.push(*own);
            Ok(*own * if order.len() <= 3 { 100.0 } else { 1.0 })
        })
        .unwrap();
        assert_eq!(order, [1.0, 2.0, 4.0].repeat(4));
        assert_eq!(all.iter().map(Samples::median).collect::<Vec<_>>(), [1.0, 2.0, 4.0]);
        assert_eq!((all[2].over(&all[1]), all[0].spread()), (2.0, 0.0));
    }

    #[test]
    fn ratios_are_taken_within_rounds() {
        // The second is twice as slow; the machine is three times slower in the last two rounds.
        let (first, second) = (Samples(vec![1.0, 1.0, 3.0, 3.0]), Samples(vec![2.0, 2.0, 6.0, 6.0]));
        assert_eq!((second.over(&first), first.over(&second), first.over(&first)), (2.0, 0.5, 1.0));
        assert_eq!((first.median(), first.spread(), first.fastest()), (2.0, 0.5, 1.0));
    }

    #[test]
    fn a_failure_ends_the_rounds() {
        let failing = interleave(&mut [0], 3, |_| Err(BenchError::Reference));
        assert!(matches!(failing, Err(BenchError::Reference)));
    }
}
