//! The order in which a network sees its images.

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};

/// 0..count in an order that depends on seed and epoch alone (Fisher and Yates).
pub(super) fn shuffled(count: u32, seed: u32, epoch: u32) -> Vec<u32> {
    /// Keeps these generators apart from those of the initialisation.
    const STREAM: u64 = 1 << 40;
    let mut generator = ChaCha8Rng::seed_from_u64(u64::from(seed));
    generator.set_stream(STREAM | u64::from(epoch));
    let mut order: Vec<u32> = (0..count).collect();
    for last in (1..order.len()).rev() {
        let other = (u128::from(generator.next_u64()) * (last as u128 + 1)) >> 64;
        order.swap(last, other as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_and_seed_has_an_order_of_its_own() {
        let order = shuffled(1000, 3, 5);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
        assert_eq!(order, shuffled(1000, 3, 5));
        assert_ne!(order, shuffled(1000, 3, 6));
        assert_ne!(order, shuffled(1000, 4, 5));
    }
}
