//! What a trained network shows: how well feedback stands in for the weights, and how many dimensions errors have.

mod alignment;
mod spectrum;

pub use alignment::{Alignment, Matrices, alignment};
pub use spectrum::{Spectrum, spectrum};
