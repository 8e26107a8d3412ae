//! Words of messages: numbers of things, and names that were meant.

use std::fmt::Display;

/// `1 replica`, `3 replicas`.
pub(crate) fn counted<N: Display + PartialEq + From<u8>>(count: N, thing: &str) -> String {
    let ending = if count == N::from(1) {
        ""
    } else if thing.ends_with("ss") {
        "es"
    } else {
        "s"
    };
    format!("{count} {thing}{ending}")
}

/// `; did you mean X?` for the nearest of some names, if one is near. Of equally near ones it is that whose last letters, or digits,
/// differ least.
pub(crate) fn suggest<N: AsRef<str>>(wanted: &str, names: &[N]) -> String {
    let names = || names.iter().map(AsRef::as_ref);
    let apart =
        |name: &str| name.bytes().rev().zip(wanted.bytes().rev()).map(|(a, b)| u32::from(a.abs_diff(b))).sum::<u32>();
    let near = names().map(|name| (strsim::damerau_levenshtein(wanted, name), apart(name), name)).min();
    let near = near.filter(|(distance, ..)| *distance <= 3 && *distance < wanted.chars().count());
    let meant = near.map(|(.., name)| name);
    let meant = meant.or_else(|| names().find(|name| abbreviates(name, wanted) || abbreviates(wanted, name)));
    meant.map_or(String::new(), |name| format!("; did you mean {name}?"))
}

/// Whether the letters of `short` occur in `long` in their order, from the first one on: `lr` in `learning_rate`.
fn abbreviates(short: &str, long: &str) -> bool {
    let mut rest = long.chars();
    short.len() >= 2 && short.chars().next() == long.chars().next() && short.chars().all(|c| rest.any(|l| l == c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!(counted(1u32, "replica"), "1 replica");
        assert_eq!(counted(0usize, "replica"), "0 replicas");
        assert_eq!((counted(1u64, "class"), counted(2u64, "class")), ("1 class".into(), "2 classes".into()));
    }

    #[test]
    fn the_nearest_name_is_suggested() {
        let names = ["schedule", "lr", "layers.2", "layers.4"];
        assert_eq!(suggest("shedule", &names), "; did you mean schedule?");
        assert_eq!(suggest("learning_rate", &names), "; did you mean lr?");
        assert_eq!(suggest("layers.5", &names), "; did you mean layers.4?");
        assert_eq!(suggest("banana", &names), "");
        assert_eq!(suggest::<&str>("x", &[]), "");
    }
}
