//! The GPU executor: adapters, pipelines, buffers and the recording of a step into one compute pass.
//!
//! Knows operations and plans, but no models.

mod cache;
mod context;
mod error;
mod executor;
mod kernels;
mod profiler;
pub mod shaders;
mod tuner;

pub use cache::{AdapterKey, Cache};
pub use context::{AdapterSummary, Context, DeviceChoice, LimitPolicy, adapters, describe};
pub use error::GpuError;
pub use executor::Gpu;
pub use tuner::{Measured, budget, is_open, tune};
