//! Feedback: how an error travels back through a weight, and how the pathway learns.

mod name;
mod pathway;
mod rank;
mod spec;

pub use name::{Route, RuleName, UnknownRule};
pub use pathway::{Accumulation, Pathway, Squeezed, Way, learn};
pub use rank::{Rank, UnknownRank};
pub use spec::{FeedbackError, FeedbackSpec, Init, PRule, QRule, Ranks, Rule, Source, Statistics};
pub(crate) use spec::{rank_key, wrong};
