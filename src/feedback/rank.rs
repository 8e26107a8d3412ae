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

/// Rank of a single layer: its own, or a multiple of that of all layers, so that it follows where ranks are swept.
///
/// In files a [`Rank`] or `3r`. Queries, keys and values of an attention come from one weight of three times the width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerRank {
    /// Its own.
    Own(Rank),
    /// So many times the rank of all layers.
    Times(u32),
}

impl LayerRank {
    /// In a layer of so many outputs; none where the layer has no bound of its own and all layers have none either.
    pub fn at(self, width: u32, of_all: Option<Rank>) -> Option<u32> {
        match self {
            LayerRank::Own(rank) => Some(rank.at(width)),
            LayerRank::Times(factor) => of_all.map(|rank| rank.at(width).saturating_mul(factor)),
        }
    }

    /// Whether it is a rank at all.
    pub fn is_positive(self) -> bool {
        match self {
            LayerRank::Own(rank) => rank.is_positive(),
            LayerRank::Times(factor) => factor > 0,
        }
    }
}

impl From<Rank> for LayerRank {
    fn from(rank: Rank) -> LayerRank {
        LayerRank::Own(rank)
    }
}

impl fmt::Display for LayerRank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayerRank::Own(rank) => rank.fmt(f),
            LayerRank::Times(factor) => write!(f, "{factor}r"),
        }
    }
}

impl Serialize for LayerRank {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            LayerRank::Own(rank) => rank.serialize(serializer),
            LayerRank::Times(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for LayerRank {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LayerRank, D::Error> {
        let value = toml::Value::deserialize(deserializer)?;
        let times = value.as_str().and_then(|text| text.trim().strip_suffix('r')).map(str::parse::<u32>);
        match times {
            Some(Ok(factor)) => Ok(LayerRank::Times(factor)),
            _ => Rank::deserialize(value).map(LayerRank::Own).map_err(|error: toml::de::Error| {
                Error::custom(format!(
                    "{}; or, of a single layer, a multiple of the rank such as \"3r\"",
                    error.message()
                ))
            }),
        }
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
    fn multiples_follow_the_rank_of_all() {
        let table: std::collections::BTreeMap<String, LayerRank> =
            toml::from_str("a = \"3r\"\nb = 7\nc = \"n/2\"").unwrap();
        let at = |name: &str, of_all| table[name].at(64, of_all);
        assert_eq!(
            (at("a", Some(Rank::Of(5))), at("b", Some(Rank::Of(5))), at("c", None)),
            (Some(15), Some(7), Some(32))
        );
        assert_eq!((at("a", None), at("a", Some(Rank::WidthOver(8)))), (None, Some(24)));
        assert_eq!(toml::to_string(&table).unwrap(), "a = \"3r\"\nb = 7\nc = \"n/2\"\n");
        assert!(!LayerRank::Times(0).is_positive());
        for wrong in ["a = \"r\"", "a = \"-3r\"", "a = \"3.5r\"", "a = true"] {
            assert!(toml::from_str::<std::collections::BTreeMap<String, LayerRank>>(wrong).is_err(), "{wrong}");
        }
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
