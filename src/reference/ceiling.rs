//! The operations that measure an adapter's ceilings.

use crate::ops::Chain;

/// f applied `length` times to every element.
pub(super) fn chain(x: &[f64], length: u32) -> Vec<f64> {
    x.iter().map(|&first| (0..length).fold(first, |v, _| v * Chain::FACTOR + Chain::OFFSET)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_by_hand() {
        assert_eq!(chain(&[0.0, 1.0], 1), [1.0, 1.0 / 1024.0]);
        assert_eq!(chain(&[0.0], 2), [1.0 / 1024.0]);
        assert_eq!(chain(&[0.25], 0), [0.25]);
    }
}
