//! Rules as a sweep names them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::feedback::{PRule, QRule, Rule, Source};
use crate::model::{LayerSpec, weighted};
use crate::train::config::{Config, ConfigError, Draft};

/// How errors travel back.
///
/// In files and options `backprop`, `feedback-alignment`, `direct-feedback-alignment`, or P's and Q's rule as `oja+hebbian`;
/// `normative`, `local` and `fixed` stand for `normative+normative`, `oja+hebbian` and `fixed+fixed`. With `direct:` before
/// P's and Q's, the error comes from the network's output; with `@layers.3` behind them, only that layer sends its error through P
/// and Q, all others send it exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SweepRule {
    /// A rule without a rank.
    Whole(Rule),
    /// P and Q.
    Factored {
        /// How P learns.
        p: PRule,
        /// How Q learns.
        q: QRule,
        /// Which errors pass through them.
        route: Route,
    },
}

/// Which errors pass through P and Q.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Every layer's own.
    Own,
    /// The output layer's, to every layer.
    Output,
    /// That of one layer, counted from 0 among all entries of the model.
    Only(usize),
}

/// A rule that there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no rule {0:?}: use backprop, feedback-alignment, direct-feedback-alignment, normative, local, fixed, or P's \
     and Q's rule as in oja+hebbian (P: fixed, normative, oja, kolen-pollack; Q: fixed, normative, hebbian), with direct: \
     before it for errors from the output, or with @layers.3 behind it for that layer's error only"
)]
pub struct UnknownRule(pub String);

const WHOLE: [Rule; 3] = [Rule::Backprop, Rule::FeedbackAlignment, Rule::DirectFeedbackAlignment];

const P_RULES: [(&str, PRule); 4] = [
    ("fixed", PRule::Fixed),
    ("normative", PRule::Normative),
    ("oja", PRule::Oja),
    ("kolen-pollack", PRule::KolenPollack),
];

const Q_RULES: [(&str, QRule); 3] =
    [("fixed", QRule::Fixed), ("normative", QRule::Normative), ("hebbian", QRule::Hebbian)];

/// Short names of common pairs.
const SHORT: [(&str, PRule, QRule); 3] = [
    ("normative", PRule::Normative, QRule::Normative),
    ("local", PRule::Oja, QRule::Hebbian),
    ("fixed", PRule::Fixed, QRule::Fixed),
];

fn name_of<T: PartialEq>(names: &[(&'static str, T)], rule: T) -> &'static str {
    names.iter().find(|(_, known)| *known == rule).map_or("", |(name, _)| name)
}

fn named<T: Copy>(names: &[(&str, T)], name: &str) -> Option<T> {
    names.iter().find(|(known, _)| *known == name).map(|(_, rule)| *rule)
}

impl FromStr for SweepRule {
    type Err = UnknownRule;

    fn from_str(text: &str) -> Result<SweepRule, UnknownRule> {
        let text = text.trim();
        if let Some(rule) = WHOLE.into_iter().find(|rule| rule.name() == text) {
            return Ok(SweepRule::Whole(rule));
        }
        let unknown = || UnknownRule(text.to_owned());
        let (route, pair) = match (text.strip_prefix("direct:"), text.split_once("@layers.")) {
            (None, None) => (Route::Own, text),
            (Some(pair), None) => (Route::Output, pair),
            (None, Some((pair, layer))) => (Route::Only(layer.parse().map_err(|_| unknown())?), pair),
            (Some(_), Some(_)) => return Err(unknown()),
        };
        let short = SHORT.iter().find(|(name, ..)| *name == pair).map(|&(_, p, q)| (p, q));
        let (p, q) = short
            .or_else(|| {
                let (p, q) = pair.split_once('+')?;
                Some((named(&P_RULES, p)?, named(&Q_RULES, q)?))
            })
            .ok_or_else(unknown)?;
        Ok(SweepRule::Factored { p, q, route })
    }
}

impl TryFrom<String> for SweepRule {
    type Error = UnknownRule;

    fn try_from(text: String) -> Result<SweepRule, UnknownRule> {
        text.parse()
    }
}

impl From<SweepRule> for String {
    fn from(rule: SweepRule) -> String {
        rule.to_string()
    }
}

impl fmt::Display for SweepRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            SweepRule::Whole(rule) => f.write_str(rule.name()),
            SweepRule::Factored { p, q, route } => {
                f.write_str(if route == Route::Output { "direct:" } else { "" })?;
                match SHORT.iter().find(|(_, of_p, of_q)| (*of_p, *of_q) == (p, q)) {
                    Some((name, ..)) => f.write_str(name)?,
                    None => write!(f, "{}+{}", name_of(&P_RULES, p), name_of(&Q_RULES, q))?,
                }
                if let Route::Only(layer) = route { write!(f, "@layers.{layer}") } else { Ok(()) }
            }
        }
    }
}

impl SweepRule {
    /// What a configuration does; none where no name of a rule says it.
    pub(in crate::experiment) fn of(config: &Config) -> Option<SweepRule> {
        let (feedback, layers) = (&config.feedback, &config.model.layers);
        if feedback.rule != Rule::Ldfa {
            return feedback.exact.is_empty().then_some(SweepRule::Whole(feedback.rule));
        }
        // The first weight sends its error to no other.
        let constrained = weighted(layers).into_iter().skip(1).filter(|name| !feedback.exact.contains(name));
        let route = match (&feedback.source, &constrained.collect::<Vec<_>>()[..]) {
            _ if !feedback.ranks.is_empty() => return None,
            (Source::Layer, _) if feedback.exact.is_empty() => Route::Own,
            (Source::Output, _) if feedback.exact.is_empty() => Route::Output,
            (Source::Layer, [name]) => Route::Only(name.strip_prefix("layers.")?.parse().ok()?),
            _ => return None,
        };
        Some(SweepRule::Factored { p: feedback.p_rule(), q: feedback.q_rule(), route })
    }

    /// The same, or what it would be without ranks of single layers and without exact ones, which presets fix: the rule of whose
    /// sweep this is a cell.
    pub(in crate::experiment) fn nearest(config: &Config) -> Option<SweepRule> {
        SweepRule::of(config).or_else(|| {
            let mut plain = config.clone();
            plain.feedback.ranks.clear();
            plain.feedback.exact.clear();
            SweepRule::of(&plain)
        })
    }

    /// Whether ranks mean anything to it.
    pub fn has_rank(self) -> bool {
        matches!(self, SweepRule::Factored { .. })
    }

    /// Its name where a file system must like it.
    pub(super) fn folder(self) -> String {
        self.to_string().replace([':', '+', '@'], "-")
    }

    /// The layer that alone sends its error through P and Q.
    pub(super) fn only(self) -> Option<usize> {
        if let SweepRule::Factored { route: Route::Only(layer), .. } = self { Some(layer) } else { None }
    }

    /// Of a network's layers, the most that a rank is of use for: outputs of the only layer whose error passes.
    pub(super) fn widest(self, layers: &[LayerSpec]) -> Option<u32> {
        match self {
            SweepRule::Factored { route: Route::Only(layer), .. } => layers.get(layer)?.outputs(),
            SweepRule::Factored { route: Route::Output, .. } => layers.last()?.outputs(),
            _ => None,
        }
    }

    /// Makes it the configuration's rule; what else a configuration of the same kind says of feedback stays.
    pub(super) fn apply(self, draft: &mut Draft) -> Result<(), ConfigError> {
        match self {
            SweepRule::Whole(rule) => draft.set_rule(rule.name()),
            SweepRule::Factored { p, q, route } => {
                draft.set_rule(Rule::Ldfa.name())?;
                draft.set("feedback.p", &format!("\"{}\"", name_of(&P_RULES, p)))?;
                draft.set("feedback.q", &format!("\"{}\"", name_of(&Q_RULES, q)))?;
                if route == Route::Output { draft.set("feedback.source", "\"output\"") } else { Ok(()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        let all = [
            "backprop",
            "feedback-alignment",
            "direct-feedback-alignment",
            "normative",
            "local",
            "fixed",
            "direct:local",
            "oja+fixed",
            "kolen-pollack+hebbian",
            "direct:fixed+hebbian",
            "local@layers.3",
            "oja+fixed@layers.12",
        ];
        for name in all {
            assert_eq!(name.parse::<SweepRule>().unwrap().to_string(), name);
        }
        assert_eq!("oja+hebbian".parse::<SweepRule>().unwrap().to_string(), "local");
        assert_eq!("direct:oja+fixed".parse::<SweepRule>().unwrap().folder(), "direct-oja-fixed");
    }

    /// The large retina's ranks of single layers and its exact output are no part of a rule's name.
    #[test]
    fn presets_are_named_by_their_rule() {
        let mut draft = Draft::open("retina-cifar10").unwrap();
        for name in ["local", "fixed", "backprop"] {
            name.parse::<SweepRule>().unwrap().apply(&mut draft).unwrap();
            let config = draft.clone().finish().unwrap();
            assert_eq!(SweepRule::nearest(&config).unwrap().to_string(), name);
            assert_eq!(SweepRule::of(&config).is_some(), name == "backprop");
        }
    }

    #[test]
    fn what_is_no_rule_is_answered_with_those_that_are() {
        let wrong = ["", "lokal", "oja", "hebbian+oja", "oja+hebbian+fixed", "direct:backprop", "direct:"];
        let misplaced = ["backprop@layers.3", "local@3", "local@layers.", "local@layers.x", "direct:local@layers.3"];
        for name in [&wrong[..], &misplaced].concat() {
            let error = name.parse::<SweepRule>().unwrap_err().to_string();
            assert!(error.contains(&format!("{name:?}")) && error.contains("kolen-pollack"), "{error}");
        }
    }
}
