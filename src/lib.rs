//! Low-dimensional feedback alignment on any GPU.
//!
//! The engine is `ops`, `optim`, `feedback`, `model`, `plan`, `reference` and `gpu`, for native systems and for browsers.
//! `data` and `train` need files. The default feature `cli` adds the experiments and the command line.
pub mod analysis;
#[cfg(feature = "cli")]
pub mod bench;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(not(target_arch = "wasm32"))]
pub mod data;
#[cfg(feature = "cli")]
pub mod experiment;
pub mod feedback;
#[cfg(not(target_arch = "wasm32"))]
pub mod files;
pub mod gpu;
pub mod model;
pub mod ops;
pub mod optim;
mod parallel;
#[cfg(feature = "cli")]
mod picture;
pub mod plan;
pub mod reference;
#[cfg(not(target_arch = "wasm32"))]
pub mod train;
mod words;
