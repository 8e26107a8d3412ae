//! Ranks of errors.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Rank of an error: a number, or a part of the width of the layer that sends it.
///
/// In files and options `10` or `n/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// The same in all layers.
    Of(u32),
    /// The layer's width over so much, rounded down, and at least 1.
    WidthOver(u32),
}

impl Rank {
    /// In a layer of so many outputs.
    pub fn at(self, width: u32) -> u32 {
        match self {
            Rank::Of(rank) => rank,
            Rank::WidthOver(divisor) => (width / divisor.max(1)).max(1),
        }
    }

    /// Whether it is a rank at all.
    pub fn is_positive(self) -> bool {
        self != Rank::Of(0) && self != Rank::WidthOver(0)
    }
}

impl From<u32> for Rank {
    fn from(rank: u32) -> Rank {
        Rank::Of(rank)
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rank::Of(rank) => write!(f, "{rank}"),
            Rank::WidthOver(divisor) => write!(f, "n/{divisor}"),
        }
    }
}

/// Neither a number nor a part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no rank: use a number such as 10, or a part of a layer's width such as n/8")]
pub struct UnknownRank(String);

impl FromStr for Rank {
    type Err = UnknownRank;

    fn from_str(text: &str) -> Result<Rank, UnknownRank> {
        let (part, digits) = match text.trim().strip_prefix("n/") {
            Some(divisor) => (true, divisor),
            None => (false, text.trim()),
        };
        let number: u32 = digits.parse().map_err(|_| UnknownRank(text.to_owned()))?;
        Ok(if part { Rank::WidthOver(number) } else { Rank::Of(number) })
    }
}

impl Serialize for Rank {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Rank::Of(rank) => serializer.serialize_u32(*rank),
            Rank::WidthOver(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Rank {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rank, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Rank;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rank, such as 10 or \"n/8\"")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Rank, E> {
                let number = u32::try_from(value).map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))?;
                Ok(Rank::Of(number))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Rank, E> {
                let number = u32::try_from(value).map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))?;
                Ok(Rank::Of(number))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Rank, E> {
                value.parse().map_err(|_| E::invalid_value(Unexpected::Str(value), &self))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_the_width() {
        let eighth: Rank = "n/8".parse().unwrap();
        assert_eq!((eighth.at(64), eighth.at(63), eighth.at(4)), (8, 7, 1));
        assert_eq!("12".parse::<Rank>().unwrap().at(4), 12, "clipped where it is used, not here");
    }

    #[test]
    fn both_forms_are_read_and_written() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Section {
            rank: Vec<Rank>,
        }
        let section = Section { rank: vec![Rank::Of(4), Rank::WidthOver(2)] };
        let text = toml::to_string(&section).unwrap();
        assert_eq!(text.trim(), "rank = [4, \"n/2\"]");
        assert_eq!(toml::from_str::<Section>(&text).unwrap(), section);
        for wrong in ["rank = [-1]", "rank = [\"n/\"]", "rank = [\"m/2\"]", "rank = [1.5]", "rank = [4294967296]"] {
            assert!(toml::from_str::<Section>(wrong).is_err(), "{wrong}");
        }
    }
}
