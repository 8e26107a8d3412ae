//! What is particular to browsers: they have one interface, and call back by themselves.

use super::context::Context;
use crate::plan::Driver;

pub(super) const BACKENDS: wgpu::Backends = wgpu::Backends::BROWSER_WEBGPU;

/// The event loop drives the device.
pub(super) fn driver(_: &Context) -> Driver {
    Box::new(|| ())
}
