//! The same for threads that may wait.

use std::sync::Arc;

use super::adapter::{AdapterSummary, DeviceChoice, LimitPolicy, request_adapters};
use super::cache::Cache;
use super::context::Context;
use super::error::GpuError;
use super::executor::Gpu;
use super::pipelines::PipelineStore;
use super::platform;
use crate::ops::{Phase, StepState};
use crate::plan::{Blocking, Plan, drive};

/// All adapters of this machine, in the order that `--device INDEX` counts.
pub fn adapters() -> Vec<AdapterSummary> {
    pollster::block_on(request_adapters())
}

impl Context {
    /// [`Context::request`], waiting for it.
    ///
    /// # Errors
    /// If there is no such adapter, it is below WebGPU's limits, or its driver refuses.
    pub fn open(choice: &DeviceChoice, policy: LimitPolicy) -> Result<Context, GpuError> {
        Context::open_with(choice, policy, None)
    }

    /// [`Context::open`], with what the driver compiled in earlier processes, where it can take that back.
    ///
    /// # Errors
    /// As [`Context::open`].
    pub fn open_with(choice: &DeviceChoice, policy: LimitPolicy, cache: Option<&Cache>) -> Result<Context, GpuError> {
        let store = cache.map(|cache| -> Arc<dyn PipelineStore> { Arc::new(cache.clone()) });
        pollster::block_on(Context::request_with(choice, policy, store))
    }

    /// The output of a future that waits for this device.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        drive(future, platform::driver(self))
    }
}

impl Gpu {
    /// [`Gpu::new`], waiting for it and for all that it does.
    ///
    /// # Errors
    /// If memory does not suffice or a shader is refused.
    pub fn blocking(context: Context, plan: Plan) -> Result<Blocking<Gpu>, GpuError> {
        let device = context.clone();
        Ok(Blocking::new(device.block_on(Gpu::new(context, plan))?))
    }
}

impl Blocking<Gpu> {
    /// [`Gpu::time`].
    ///
    /// # Errors
    /// If the device fails.
    pub fn time(&mut self, phase: Phase, step: &StepState, repetitions: u32) -> Result<f64, GpuError> {
        self.wait(|gpu| gpu.time(phase, step, repetitions))
    }

    /// [`Gpu::time_recording`].
    ///
    /// # Errors
    /// If the device fails.
    pub fn time_recording(&mut self, phase: Phase, steps: &[StepState]) -> Result<f64, GpuError> {
        self.wait(|gpu| gpu.time_recording(phase, steps))
    }
}
