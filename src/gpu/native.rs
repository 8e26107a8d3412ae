//! What is particular to native systems: which interfaces there are, and that somebody has to ask a device how it goes.

use super::context::Context;
use crate::plan::Driver;

/// GL is left out: its adapters cannot bind as much, and show every Vulkan device twice.
pub(super) const BACKENDS: wgpu::Backends =
    wgpu::Backends::VULKAN.union(wgpu::Backends::METAL).union(wgpu::Backends::DX12);

/// Blocks until the submission is done that a future waits for: not until the last one is, which computes meanwhile.
pub(super) fn driver(context: &Context) -> Driver {
    let Context { device, awaited, faults, .. } = context.clone();
    Box::new(move || {
        let submission_index = awaited.lock().ok().and_then(|index| index.clone());
        if let Err(error) = device.poll(wgpu::PollType::Wait { submission_index, timeout: None }) {
            faults.refused(error.to_string());
        }
    })
}
