//! What a configuration says about feedback.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{LayerRank, PRule, QRule, Rank};
use crate::optim::single;

/// Which matrix stands in for W^T.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// W^T itself.
    Backprop,
    /// A fixed random matrix of full rank.
    FeedbackAlignment,
    /// A fixed random matrix that takes the output layer's error.
    DirectFeedbackAlignment,
    /// Q P of low rank, each by its rule.
    #[default]
    Ldfa,
}

impl Rule {
    /// The name that configurations use.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Backprop => "backprop",
            Rule::FeedbackAlignment => "feedback-alignment",
            Rule::DirectFeedbackAlignment => "direct-feedback-alignment",
            Rule::Ldfa => "ldfa",
        }
    }
}

/// First values of P and Q.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// Truncated singular value decomposition of W^T, the root of each singular value on either side.
    Svd,
    /// P ~ U(+-1/sqrt r), Q ~ U(+-sqrt(3/k)).
    Uniform,
    /// Orthonormal rows of P, Gaussian Q, scaled so that the product has the norm of W.
    Orthonormal,
}

/// Where the error that a pathway carries is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// At the layer's own output.
    #[default]
    Layer,
    /// At the network's output, past all layers between.
    Output,
    /// At the output of another dense layer, `layers.<index>`.
    #[serde(untagged)]
    Named(String),
}

/// What the Oja rule of the output layer learns from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Statistics {
    /// The output error.
    #[default]
    Error,
    /// One-hot labels.
    Labels,
}

/// One rank, or several to be trained side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a rank such as 10 or \"n/8\", or several such as [4, 10]")]
pub enum Ranks {
    /// The same for all replicas.
    One(Rank),
    /// Each with every seed.
    Several(Vec<Rank>),
}

impl Ranks {
    /// As a list.
    pub fn list(&self) -> Vec<Rank> {
        match self {
            Ranks::One(rank) => vec![*rank],
            Ranks::Several(ranks) => ranks.clone(),
        }
    }
}

/// The `[feedback]` section.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedbackSpec {
    /// Which matrix stands in for W^T; ldfa if left out.
    #[serde(default)]
    pub rule: Rule,
    /// ldfa: how P learns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p: Option<PRule>,
    /// ldfa: how Q learns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q: Option<QRule>,
    /// ldfa: rank of the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<Ranks>,
    /// ldfa: by default svd for normative and kolen-pollack, else uniform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
    /// Where the error is taken.
    #[serde(default)]
    pub source: Source,
    /// Set P and Q to the truncated SVD of the current W every so many steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refactorise_every: Option<u32>,
    /// Oja at the output layer.
    #[serde(default)]
    pub output_statistics: Statistics,
    /// Bound on every element of a transported error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_clamp: Option<f64>,
    /// Rank of single layers, by `layers.<index>`, in place of `rank`; `3r` is three times that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ranks: BTreeMap<String, LayerRank>,
    /// Layers that keep the exact transport.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exact: Vec<String>,
}

/// Settings that contradict each other.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum FeedbackError {
    /// A key is missing or makes no sense beside the others.
    #[error("feedback.{key}: {problem}")]
    Key {
        /// Key within `[feedback]`.
        key: String,
        /// What is wrong and what would be right.
        problem: String,
    },
}

impl FeedbackError {
    /// The setting that is wrong, as a dotted key.
    pub fn key(&self) -> String {
        let FeedbackError::Key { key, .. } = self;
        format!("feedback.{key}")
    }
}

pub(crate) fn wrong(key: impl Into<String>, problem: impl Into<String>) -> FeedbackError {
    FeedbackError::Key { key: key.into(), problem: problem.into() }
}

/// The key of a single layer's rank.
pub(crate) fn rank_key(layer: &str) -> String {
    format!("ranks.{}", toml::Value::String(layer.to_owned()))
}

impl FeedbackSpec {
    /// Exact backpropagation.
    pub fn backprop() -> FeedbackSpec {
        FeedbackSpec { rule: Rule::Backprop, ..FeedbackSpec::default() }
    }

    /// P's rule; fixed if left out.
    pub fn p_rule(&self) -> PRule {
        self.p.unwrap_or(PRule::Fixed)
    }

    /// Q's rule; fixed if left out.
    pub fn q_rule(&self) -> QRule {
        self.q.unwrap_or(QRule::Fixed)
    }

    /// Whether P or Q learns from its difference to the weight that it stands in for.
    pub fn is_normative(&self) -> bool {
        self.p_rule() == PRule::Normative || self.q_rule() == QRule::Normative
    }

    /// Whether P or Q reads the weight that it stands in for, or its gradient.
    pub fn reads_weight(&self) -> bool {
        self.p_rule().rule().reads_weight() || self.q_rule().rule().reads_weight()
    }

    /// First values of P and Q.
    pub fn initialisation(&self) -> Init {
        self.init.unwrap_or(if self.reads_weight() { Init::Svd } else { Init::Uniform })
    }

    /// Where the error is taken, the rule's own choice included.
    pub fn source(&self) -> Source {
        match self.rule {
            Rule::DirectFeedbackAlignment => Source::Output,
            _ => self.source.clone(),
        }
    }

    /// The ranks to train side by side; empty for a rule without one.
    pub fn rank_list(&self) -> Vec<Rank> {
        match (self.rule, &self.rank) {
            (Rule::Ldfa, Some(ranks)) => ranks.list(),
            _ => Vec::new(),
        }
    }

    /// Checks everything that needs no network: missing keys and contradictions.
    ///
    /// # Errors
    /// The first key that is wrong.
    pub fn check(&self) -> Result<(), FeedbackError> {
        if let Some(clamp) = self.error_clamp {
            let positive = |seen| if seen > 0.0 { Ok(()) } else { Err("must be a positive number".to_owned()) };
            let judged = single(clamp).and_then(positive);
            judged.map_err(|problem| wrong("error_clamp", format!("{clamp:e} {problem}")))?;
        }
        if self.rule != Rule::Ldfa {
            return self.check_unfactored();
        }
        let Some(ranks) = &self.rank else {
            return Err(wrong("rank", "ldfa needs a rank, such as rank = 10 (--rank 10)"));
        };
        let ranks = ranks.list();
        if ranks.is_empty() || ranks.iter().any(|rank| !rank.is_positive()) {
            return Err(wrong("rank", "a rank must be at least 1; for exact errors use rule = \"backprop\""));
        }
        if let Some((layer, _)) = self.ranks.iter().find(|(_, rank)| !rank.is_positive()) {
            return Err(wrong(rank_key(layer), "a rank must be at least 1; for exact errors list the layer in exact"));
        }
        let mut unique = ranks.clone();
        unique.sort_unstable();
        unique.dedup();
        if unique.len() != ranks.len() {
            return Err(wrong("rank", "a rank is listed twice; use --seeds for repetitions"));
        }
        if self.p_rule() == PRule::KolenPollack && self.q_rule() != QRule::Hebbian {
            return Err(wrong("p", "kolen-pollack works only beside q = \"hebbian\""));
        }
        if self.source != Source::Layer && (self.reads_weight() || self.init == Some(Init::Svd)) {
            return Err(wrong(
                "source",
                "an error taken elsewhere has no weight to compare with: use fixed, oja or hebbian, and init = \
                 \"uniform\" or \"orthonormal\"",
            ));
        }
        if self.refactorise_every == Some(0) {
            return Err(wrong("refactorise_every", "must be at least 1; leave it out for never"));
        }
        if self.refactorise_every.is_some() && self.source != Source::Layer {
            return Err(wrong("refactorise_every", "needs source = \"layer\""));
        }
        if self.output_statistics == Statistics::Labels && self.p_rule() != PRule::Oja {
            return Err(wrong("output_statistics", "only p = \"oja\" learns from statistics"));
        }
        Ok(())
    }

    fn check_unfactored(&self) -> Result<(), FeedbackError> {
        let set = [
            ("p", self.p.is_some()),
            ("q", self.q.is_some()),
            ("rank", self.rank.is_some()),
            ("init", self.init.is_some()),
            ("refactorise_every", self.refactorise_every.is_some()),
            ("output_statistics", self.output_statistics != Statistics::Error),
            ("ranks", !self.ranks.is_empty()),
        ];
        if let Some((key, _)) = set.into_iter().find(|(_, is_set)| *is_set) {
            return Err(wrong(key, format!("has no meaning with rule = \"{}\"; it belongs to ldfa", self.rule.name())));
        }
        if self.rule == Rule::Backprop && self.source != Source::Layer {
            return Err(wrong("source", "backprop sends every layer's own error"));
        }
        Ok(())
    }
}
