//! What a trained network shows: how well feedback stands in for the weights, how many dimensions errors have, how they change on
//! their way back through time, whether depth is used, what a receptive field prefers, how alike two networks represent the same
//! inputs; and what a few networks allow to say.

mod alignment;
mod center_surround;
mod depth;
mod inference;
mod lags;
mod orientedness;
mod similarity;
mod spectrum;

pub use alignment::{Alignment, Matrices, alignment};
pub use center_surround::{Shape, shape};
pub use depth::Depth;
pub use inference::{Trend, corrected, trend, upper_bound};
pub use lags::Lag;
pub use orientedness::orientedness;
pub use similarity::Representation;
pub use spectrum::{Products, Spectrum, spectrum};
