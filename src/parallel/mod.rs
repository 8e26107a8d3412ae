//! Work on all cores where there are threads, one after the other where there are none.

#[cfg_attr(target_arch = "wasm32", path = "alone.rs")]
#[cfg_attr(not(target_arch = "wasm32"), path = "threads.rs")]
mod workers;

pub(crate) use workers::{map, rows};
