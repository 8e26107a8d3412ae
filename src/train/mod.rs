//! Training runs.

pub mod weights;
