//! Experiments: what the theory says, and what the engine does.

pub mod theory;
