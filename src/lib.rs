//! Low-dimensional feedback alignment on any GPU.
pub mod analysis;
pub mod bench;
pub mod cli;
pub mod data;
pub mod experiment;
pub mod feedback;
pub mod files;
pub mod gpu;
pub mod model;
pub mod ops;
pub mod optim;
mod parallel;
mod picture;
pub mod plan;
pub mod reference;
pub mod train;
mod words;
