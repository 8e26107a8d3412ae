//! Feedback: how an error travels back through a weight, and how the pathway learns.

mod name;
mod pathway;
mod rank;
mod rules;
mod spec;

pub use name::{Route, RuleName, UnknownRule};
pub use pathway::{BackwardWeight, Observed, Pathway};
pub use rank::{LayerRank, Rank, UnknownRank};
pub use rules::{PRule, QRule, Seen};
pub use spec::{FeedbackError, FeedbackSpec, Init, Ranks, Rule, Source, Statistics};
pub(crate) use spec::{rank_key, wrong};
