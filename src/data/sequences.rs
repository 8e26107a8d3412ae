//! What sets of sequences share: how long they may be, and the draws of those that are made.

use std::ops::RangeInclusive;

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};

use super::error::DataError;

/// The length that was asked for, or the default.
///
/// # Errors
/// If the set has no sequences of that length.
pub(super) fn checked_length(
    name: &str,
    wanted: Option<u32>,
    default: u32,
    lengths: RangeInclusive<u32>,
) -> Result<u32, DataError> {
    let length = wanted.unwrap_or(default);
    if lengths.contains(&length) { Ok(length) } else { Err(DataError::Length { name: name.into(), length, lengths }) }
}

/// Random numbers that are the same every time.
pub(super) struct Draws(ChaCha8Rng);

impl Draws {
    /// Those of a stream, independent of all others'.
    pub(super) fn of_stream(stream: u64) -> Draws {
        let mut generator = ChaCha8Rng::seed_from_u64(0);
        generator.set_stream(stream);
        Draws(generator)
    }

    /// Uniform in 0..`bound`, but for a bias of `bound` / 2^32.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.0.next_u32()) * u64::from(bound)) >> 32) as u32
    }
}
