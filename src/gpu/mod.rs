//! The GPU executor: adapters, pipelines, buffers and the recording of a step into one compute pass.
//!
//! Knows operations and plans, but no models. Nothing blocks but what `blocking.rs` adds where threads may wait.

mod adapter;
mod binding;
#[cfg(not(target_arch = "wasm32"))]
mod blocking;
#[cfg(not(target_arch = "wasm32"))]
mod cache;
mod context;
mod error;
mod executor;
mod kernels;
mod key;
mod pipelines;
#[cfg_attr(target_arch = "wasm32", path = "browser.rs")]
#[cfg_attr(not(target_arch = "wasm32"), path = "native.rs")]
mod platform;
mod profiler;
pub mod shaders;
mod step;
mod submission;
mod transfer;
mod tuner;

pub use adapter::{AdapterSummary, DeviceChoice, LimitPolicy, describe, request_adapters};
#[cfg(not(target_arch = "wasm32"))]
pub use blocking::adapters;
#[cfg(not(target_arch = "wasm32"))]
pub use cache::Cache;
pub use context::Context;
pub use error::GpuError;
pub use executor::Gpu;
pub use key::AdapterKey;
pub use tuner::{MakeReference, Measured, budget, is_open, tune};
