//! Rules by their names, which options, tables, curves and folders share.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{FeedbackSpec, PRule, QRule, Rule, Source};

/// How errors travel back, by name.
///
/// In options and tables `backprop`, `feedback-alignment`, `direct-feedback-alignment`, or P's and Q's rule as `oja+hebbian`;
/// `normative`, `local` and `fixed` stand for `normative+normative`, `oja+hebbian` and `fixed+fixed`. With `direct:` before
/// P's and Q's, the error comes from the network's output; with `@layers.3` behind them, only that layer sends its error through P
/// and Q, all others send it exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RuleName {
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

/// Short names of common pairs.
const SHORT: [(&str, PRule, QRule); 3] = [
    ("normative", PRule::Normative, QRule::Normative),
    ("local", PRule::Oja, QRule::Hebbian),
    ("fixed", PRule::Fixed, QRule::Fixed),
];

impl FromStr for RuleName {
    type Err = UnknownRule;

    fn from_str(text: &str) -> Result<RuleName, UnknownRule> {
        let text = text.trim();
        if let Some(rule) = WHOLE.into_iter().find(|rule| rule.name() == text) {
            return Ok(RuleName::Whole(rule));
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
                let p = PRule::ALL.iter().find(|rule| rule.name() == p)?;
                let q = QRule::ALL.iter().find(|rule| rule.name() == q)?;
                Some((*p, *q))
            })
            .ok_or_else(unknown)?;
        Ok(RuleName::Factored { p, q, route })
    }
}

impl TryFrom<String> for RuleName {
    type Error = UnknownRule;

    fn try_from(text: String) -> Result<RuleName, UnknownRule> {
        text.parse()
    }
}

impl From<RuleName> for String {
    fn from(rule: RuleName) -> String {
        rule.to_string()
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            RuleName::Whole(rule) => f.write_str(rule.name()),
            RuleName::Factored { p, q, route } => {
                f.write_str(if route == Route::Output { "direct:" } else { "" })?;
                match SHORT.iter().find(|(_, of_p, of_q)| (*of_p, *of_q) == (p, q)) {
                    Some((name, ..)) => f.write_str(name)?,
                    None => write!(f, "{}+{}", p.name(), q.name())?,
                }
                if let Route::Only(layer) = route { write!(f, "@layers.{layer}") } else { Ok(()) }
            }
        }
    }
}

impl RuleName {
    /// The names that are used most.
    pub fn common() -> impl Iterator<Item = &'static str> {
        WHOLE.into_iter().map(Rule::name).chain(SHORT.into_iter().map(|(name, ..)| name))
    }

    /// The rule of a network in which the layers `sending` send errors through weights, from input to output. What no name says is left out: ranks of
    /// single layers, exact ones but for `@`; and an error from a layer in between counts as one from the output.
    pub fn of(spec: &FeedbackSpec, sending: &[String]) -> RuleName {
        if spec.rule != Rule::Ldfa {
            return RuleName::Whole(spec.rule);
        }
        let route = match spec.source {
            Source::Layer => only_constrained(spec, sending).map_or(Route::Own, Route::Only),
            Source::Output | Source::Named(_) => Route::Output,
        };
        RuleName::Factored { p: spec.p_rule(), q: spec.q_rule(), route }
    }

    /// The same; none where the name leaves something out.
    pub fn exactly(spec: &FeedbackSpec, sending: &[String]) -> Option<RuleName> {
        let name = RuleName::of(spec, sending);
        let says_all = match name {
            RuleName::Factored { route: Route::Only(_), .. } => spec.ranks.is_empty(),
            _ => spec.ranks.is_empty() && spec.exact.is_empty() && !matches!(spec.source, Source::Named(_)),
        };
        says_all.then_some(name)
    }

    /// Whether ranks mean anything to it.
    pub fn has_rank(self) -> bool {
        matches!(self, RuleName::Factored { .. })
    }

    /// Which of a configuration's rules it is.
    pub fn rule(self) -> Rule {
        match self {
            RuleName::Whole(rule) => rule,
            RuleName::Factored { .. } => Rule::Ldfa,
        }
    }

    /// Its name where a file system must like it.
    pub fn folder(self) -> String {
        self.to_string().replace([':', '+', '@'], "-")
    }

    /// Of a rule that constrains a single layer of those that are `sending` errors, the others that are `weighted`, which keep the
    /// exact transport.
    ///
    /// # Errors
    /// In words, where that layer is none of them.
    pub fn exact_layers(self, weighted: &[String], sending: &[String]) -> Result<Vec<String>, String> {
        let RuleName::Factored { route: Route::Only(layer), .. } = self else { return Ok(Vec::new()) };
        let own = format!("layers.{layer}");
        if !sending.contains(&own) {
            let those = sending.join(", ");
            return Err(format!("{own} is not a layer that sends its error through a weight; those are {those}"));
        }
        Ok(weighted.iter().filter(|name| **name != own).cloned().collect())
    }
}

/// The one layer whose error is not sent exactly, where `exact` leaves but one.
fn only_constrained(spec: &FeedbackSpec, sending: &[String]) -> Option<usize> {
    let constrained: Vec<&String> = sending.iter().filter(|name| !spec.exact.contains(name)).collect();
    match constrained[..] {
        [only] if !spec.exact.is_empty() => only.strip_prefix("layers.")?.parse().ok(),
        _ => None,
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
            assert_eq!(name.parse::<RuleName>().unwrap().to_string(), name);
        }
        assert_eq!("oja+hebbian".parse::<RuleName>().unwrap().to_string(), "local");
        assert_eq!("direct:oja+fixed".parse::<RuleName>().unwrap().folder(), "direct-oja-fixed");
    }

    fn layers(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_configuration_has_one_name_and_says_whether_it_says_all() {
        let three = layers(&["layers.2", "layers.4", "layers.6"]);
        let spec = FeedbackSpec { p: Some(PRule::Oja), q: Some(QRule::Hebbian), ..FeedbackSpec::default() };
        let told = |spec: &FeedbackSpec| {
            (RuleName::of(spec, &three).to_string(), RuleName::exactly(spec, &three).map(|name| name.to_string()))
        };
        let is = |name: &str| (name.to_owned(), Some(name.to_owned()));
        let short_of = |name: &str| (name.to_owned(), None);
        assert_eq!(told(&FeedbackSpec::backprop()), is("backprop"));
        assert_eq!(told(&spec), is("local"));
        assert_eq!(told(&FeedbackSpec { source: Source::Output, ..spec.clone() }), is("direct:local"));
        let between = FeedbackSpec { source: Source::Named("layers.4".into()), ..spec.clone() };
        assert_eq!(told(&between), short_of("direct:local"));
        let pinned = [("layers.2".to_owned(), crate::feedback::Rank::Of(4).into())].into();
        assert_eq!(told(&FeedbackSpec { ranks: pinned, ..spec.clone() }), short_of("local"));
        assert_eq!(told(&FeedbackSpec { exact: layers(&["layers.6"]), ..spec.clone() }), short_of("local"));
        let rest = "local@layers.4".parse::<RuleName>().unwrap().exact_layers(&three, &three).unwrap();
        assert_eq!(told(&FeedbackSpec { exact: rest, ..spec.clone() }), is("local@layers.4"));
        // Of two layers only one sends its error on, whatever is exact.
        assert_eq!(RuleName::of(&spec, &three[..1]).to_string(), "local");
    }

    #[test]
    fn names_are_those_of_files() {
        for rule in PRule::ALL {
            assert_eq!(serde_json::to_value(rule).unwrap(), rule.name());
        }
        for rule in QRule::ALL {
            assert_eq!(serde_json::to_value(rule).unwrap(), rule.name());
        }
        assert!(RuleName::common().all(|name| name.parse::<RuleName>().is_ok()));
    }

    #[test]
    fn what_is_no_rule_is_answered_with_those_that_are() {
        let wrong = ["", "lokal", "oja", "hebbian+oja", "oja+hebbian+fixed", "direct:backprop", "direct:"];
        let misplaced = ["backprop@layers.3", "local@3", "local@layers.", "local@layers.x", "direct:local@layers.3"];
        for name in [&wrong[..], &misplaced].concat() {
            let error = name.parse::<RuleName>().unwrap_err().to_string();
            assert!(error.contains(&format!("{name:?}")) && error.contains("kolen-pollack"), "{error}");
        }
    }
}
