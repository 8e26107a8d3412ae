//! Rules as a sweep names them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::feedback::{PRule, QRule, Rule};
use crate::train::config::{ConfigError, Draft};

/// How errors travel back.
///
/// In files and options `backprop`, `feedback-alignment`, `direct-feedback-alignment`, or P's and Q's rule as `oja+hebbian`;
/// `normative`, `local` and `fixed` stand for `normative+normative`, `oja+hebbian` and `fixed+fixed`. With `direct:` before
/// P's and Q's, the error comes from the network's output.
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
        /// Whether the error is the output layer's.
        direct: bool,
    },
}

/// A rule that there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no rule {0:?}: use backprop, feedback-alignment, direct-feedback-alignment, normative, local, fixed, or P's \
     and Q's rule as in oja+hebbian (P: fixed, normative, oja, kolen-pollack; Q: fixed, normative, hebbian), with direct: \
     before it for errors from the output"
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
        let (direct, pair) = text.strip_prefix("direct:").map_or((false, text), |rest| (true, rest));
        let short = SHORT.iter().find(|(name, ..)| *name == pair).map(|&(_, p, q)| (p, q));
        let (p, q) = short
            .or_else(|| {
                let (p, q) = pair.split_once('+')?;
                Some((named(&P_RULES, p)?, named(&Q_RULES, q)?))
            })
            .ok_or_else(|| UnknownRule(text.to_owned()))?;
        Ok(SweepRule::Factored { p, q, direct })
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
            SweepRule::Factored { p, q, direct } => {
                f.write_str(if direct { "direct:" } else { "" })?;
                match SHORT.iter().find(|(_, of_p, of_q)| (*of_p, *of_q) == (p, q)) {
                    Some((name, ..)) => f.write_str(name),
                    None => write!(f, "{}+{}", name_of(&P_RULES, p), name_of(&Q_RULES, q)),
                }
            }
        }
    }
}

impl SweepRule {
    /// Whether ranks mean anything to it.
    pub fn has_rank(self) -> bool {
        matches!(self, SweepRule::Factored { .. })
    }

    /// Its name where a file system must like it.
    pub(super) fn folder(self) -> String {
        self.to_string().replace([':', '+'], "-")
    }

    /// Makes it the configuration's rule; what else a configuration of the same kind says of feedback stays.
    pub(super) fn apply(self, draft: &mut Draft) -> Result<(), ConfigError> {
        match self {
            SweepRule::Whole(rule) => draft.set_rule(rule.name()),
            SweepRule::Factored { p, q, direct } => {
                draft.set_rule(Rule::Ldfa.name())?;
                draft.set("feedback.p", &format!("\"{}\"", name_of(&P_RULES, p)))?;
                draft.set("feedback.q", &format!("\"{}\"", name_of(&Q_RULES, q)))?;
                if direct { draft.set("feedback.source", "\"output\"") } else { Ok(()) }
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
        ];
        for name in all {
            assert_eq!(name.parse::<SweepRule>().unwrap().to_string(), name);
        }
        assert_eq!("oja+hebbian".parse::<SweepRule>().unwrap().to_string(), "local");
        assert_eq!("direct:oja+fixed".parse::<SweepRule>().unwrap().folder(), "direct-oja-fixed");
    }

    #[test]
    fn what_is_no_rule_is_answered_with_those_that_are() {
        for name in ["", "lokal", "oja", "hebbian+oja", "oja+hebbian+fixed", "direct:backprop", "direct:"] {
            let error = name.parse::<SweepRule>().unwrap_err().to_string();
            assert!(error.contains(&format!("{name:?}")) && error.contains("kolen-pollack"), "{error}");
        }
    }
}
