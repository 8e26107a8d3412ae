//! Low-dimensional feedback alignment on any GPU.
pub mod gpu;
pub mod ops;
pub mod plan;
pub mod data;
pub mod feedback;
pub mod model;
pub mod optim;
pub mod train;
