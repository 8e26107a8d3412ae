//! What a trained network shows: how well feedback stands in for the weights.

mod alignment;

pub use alignment::{Alignment, Matrices, alignment};
