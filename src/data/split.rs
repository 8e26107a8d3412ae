//! Fixed, stratified choices of images: those for testing in a set that its authors did not divide, and a few to learn from.

use sha2::{Digest, Sha256};

/// A sample's place in the order of selection: the first eight bytes of the SHA-256 of what identifies it.
///
/// A hash rather than a generator: the order can never change with a library's version, and a sample keeps its place
/// when others are added.
pub(super) fn selection_key(identity: &[u8]) -> u64 {
    let digest = Sha256::digest(identity);
    digest.iter().take(8).fold(0, |key, &byte| key << 8 | u64::from(byte))
}

/// Marks `wanted` of the samples as test samples, from each class in proportion to its size.
///
/// `labels` are below `classes`; `keys` holds one [`selection_key`] for each label. Quotas are rounded by largest
/// remainder (ties to the lower class), so that they add up to `wanted` exactly; only where that would take the last
/// sample of a class from training are there fewer. Within a class the smallest keys are taken.
pub(super) fn stratified(labels: &[u32], keys: &[u64], classes: usize, wanted: usize) -> Vec<bool> {
    let mut members = vec![Vec::new(); classes];
    for (index, &label) in labels.iter().enumerate() {
        if let Some(class) = members.get_mut(label as usize) {
            class.push(index);
        }
    }

    let total = labels.len().max(1) as u128;
    let share = |class: &Vec<usize>| class.len() as u128 * wanted as u128;
    let mut quotas: Vec<usize> = members.iter().map(|class| (share(class) / total) as usize).collect();
    let mut by_remainder: Vec<usize> = (0..classes).collect();
    by_remainder.sort_by_key(|&class| (std::cmp::Reverse(share(&members[class]) % total), class));
    let mut missing = wanted.saturating_sub(quotas.iter().sum());
    for class in by_remainder {
        if missing > 0 && quotas[class] + 1 < members[class].len() {
            quotas[class] += 1;
            missing -= 1;
        }
    }

    let mut chosen = vec![false; labels.len()];
    for (class, quota) in members.iter_mut().zip(quotas) {
        class.sort_by_key(|&index| (keys[index], index));
        for &index in class.iter().take(quota) {
            chosen[index] = true;
        }
    }
    chosen
}

/// Marks `wanted` of the samples, or all where there are no more, from each class in proportion to its size; of each at
/// least one if there are as many wanted as classes.
///
/// The order of selection is fixed, so that fewer are always among more.
pub(super) fn representative(labels: &[u32], classes: usize, wanted: usize) -> Vec<bool> {
    let mut order: Vec<(u64, usize)> =
        (0..labels.len()).map(|index| (selection_key(&(index as u64).to_le_bytes()), index)).collect();
    order.sort_unstable();
    let mut sizes = vec![0; classes];
    labels.iter().for_each(|&label| sizes[label as usize] += 1);
    // A class's samples lie evenly between 0 and 1; the first ones of all classes go before any second one.
    let mut taken = vec![0; classes];
    let place = |(_, index): (u64, usize)| {
        let class = labels[index] as usize;
        let rank = taken[class];
        taken[class] += 1;
        (rank > 0, (f64::from(rank) + 0.5) / f64::from(sizes[class]), index)
    };
    let mut places: Vec<(bool, f64, usize)> = order.into_iter().map(place).collect();
    places.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
    let mut chosen = vec![false; labels.len()];
    places.into_iter().take(wanted).for_each(|(_, _, index)| chosen[index] = true);
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_few_are_exactly_as_many_as_wanted_in_proportion_and_among_more(
            labels in prop::collection::vec(prop_oneof![8 => 0u32..3, 1 => 3u32..5], 5..200),
            share in 0usize..=100,
        ) {
            let wanted = labels.len() * share / 100;
            let few = representative(&labels, 5, wanted);
            prop_assert_eq!(few.iter().filter(|&&taken| taken).count(), wanted);
            let more = representative(&labels, 5, wanted + 1);
            prop_assert!(few.iter().zip(&more).all(|(few, more)| more >= few));
            let sizes = |chosen: &[bool]| {
                let of = |class| labels.iter().zip(chosen).filter(|&(&l, &taken)| l == class && taken).count();
                (0..5).map(of).collect::<Vec<_>>()
            };
            let (all, taken) = (sizes(&vec![true; labels.len()]), sizes(&few));
            let classes = all.iter().filter(|&&size| size > 0).count();
            for (&size, &taken) in all.iter().zip(&taken) {
                prop_assert!(wanted < classes || size == 0 || taken > 0, "every class is there");
                let exact = size as f64 * wanted as f64 / labels.len() as f64;
                // What small classes have beyond their share, others lack.
                prop_assert!((taken as f64 - exact).abs() <= 1.0 + classes as f64, "{} of {}, {} wanted", taken, size, exact);
            }
        }

        #[test]
        fn quotas_are_proportional_exact_and_leave_training_samples(
            labels in prop::collection::vec(0u32..5, 1..200),
            fifth in 2usize..8,
        ) {
            let keys: Vec<u64> = (0..labels.len()).map(|i| selection_key(&i.to_le_bytes())).collect();
            let wanted = labels.len() / fifth;
            let test = stratified(&labels, &keys, 5, wanted);
            let mut short = false;
            for class in 0..5 {
                let size = labels.iter().filter(|&&l| l == class).count();
                let taken = labels.iter().zip(&test).filter(|&(&l, &t)| l == class && t).count();
                let exact = size as f64 * wanted as f64 / labels.len() as f64;
                prop_assert!((taken as f64 - exact).abs() <= 1.0);
                prop_assert!(size == 0 || taken < size);
                short |= size > 0 && taken + 1 == size;
            }
            let taken = test.iter().filter(|&&t| t).count();
            prop_assert!(taken == wanted || (short && taken < wanted));
        }
    }

    #[test]
    fn a_sample_keeps_its_place_when_others_come() {
        let key = |name: &str| selection_key(name.as_bytes());
        let few = stratified(&[0; 4], &["a", "b", "c", "d"].map(key), 1, 1);
        assert_eq!(few.iter().filter(|&&t| t).count(), 1);
        assert_eq!(selection_key(b"abc"), 0xba78_16bf_8f01_cfea);
    }
}
