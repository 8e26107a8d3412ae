//! The adding problem: the sum of the two marked numbers of a sequence.
//!
//! S. Hochreiter and J. Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997, section 5.4, with the marks as
//! Q. V. Le, N. Jaitly and G. E. Hinton (arXiv 1504.00941) set them: one in either half of the sequence.

use std::ops::RangeInclusive;

use super::error::DataError;
use super::sequences::{Draws, checked_length};
use super::{Dataset, ImageShape, Numbers, Split};

const NAME: &str = "adding";

const LENGTHS: RangeInclusive<u32> = 2..=2000;
const LENGTH: u32 = 20;

const TRAIN: usize = 50_000;
const TEST: usize = 5_000;

/// A byte of 255 is the number 1. A correct answer is off by at most 4 % of the largest sum, 510: the criterion of Hochreiter and
/// Schmidhuber.
const NUMBERS: Numbers = Numbers { one: 255, tolerance: 20 };

/// Sequences of `length` steps of two bytes: a number, and a mark of 255 at two of the steps.
pub(super) fn make(length: Option<u32>) -> Result<Dataset, DataError> {
    let length = checked_length(NAME, length, LENGTH, LENGTHS)?;
    let shape = ImageShape { height: length, width: 1, channels: 2 };
    let (train, test) = (sequences(length, TRAIN, 0), sequences(length, TEST, 1));
    Dataset::of_numbers(NAME, shape, vec!["sum".into()], NUMBERS, train, test)
}

fn sequences(length: u32, count: usize, stream: u64) -> Split {
    let mut draws = Draws::of_stream(stream);
    let mut split = Split::default();
    for _ in 0..count {
        let half = length / 2;
        let marks = [draws.below(half), half + draws.below(length - half)];
        let numbers: Vec<u8> = (0..length).map(|_| draws.below(256) as u8).collect();
        for (step, &number) in (0..).zip(&numbers) {
            split.images.extend([number, if marks.contains(&step) { 255 } else { 0 }]);
        }
        split.labels.push(marks.iter().map(|&mark| u32::from(numbers[mark as usize])).sum());
    }
    split
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_is_the_sum_of_the_marked_numbers() {
        for length in [2, 3, 20, 101] {
            let data = make(Some(length)).unwrap();
            assert_eq!((data.train.len(), data.test.len()), (TRAIN, TEST));
            for (sequence, &label) in data.test.images.chunks_exact(2 * length as usize).zip(&data.test.labels) {
                let marked = |steps: &[u8]| steps.chunks_exact(2).filter(|s| s[1] == 255).map(|s| s[0]).collect();
                let halves = sequence.split_at(2 * (length / 2) as usize);
                let [first, second]: [Vec<u8>; 2] = [marked(halves.0), marked(halves.1)];
                assert_eq!((first.len(), second.len()), (1, 1), "a mark in either half");
                assert_eq!(u32::from(first[0]) + u32::from(second[0]), label);
            }
            let mean = data.test.labels.iter().map(|&l| f64::from(l)).sum::<f64>() / TEST as f64;
            // Of two even numbers of 0 to 255; the mean of 5,000 deviates by 1.5.
            assert!((mean - 255.0).abs() < 7.0, "{mean}");
        }
    }

    #[test]
    fn a_set_is_the_same_every_time_and_its_splits_differ() {
        let data = make(None).unwrap();
        assert_eq!(data, make(Some(LENGTH)).unwrap());
        assert_ne!(data.train.images[..1000], data.test.images[..1000]);
    }

    #[test]
    fn lengths_without_room_for_two_marks_are_refused() {
        for length in [0, 1, 2001] {
            let error = make(Some(length)).unwrap_err().to_string();
            assert!(error.contains("2 to 2000"), "{error}");
        }
    }
}
