//! The open device: limits, loss, what it is.

use std::sync::{Arc, Mutex};

use super::adapter::{DeviceChoice, LimitPolicy, check_floor, choose, describe, enumerate, profile_of};
use super::error::GpuError;
use super::key::AdapterKey;
use super::pipelines::{PipelineStore, Pipelines};
use crate::plan::{Clock, Profile};

/// Errors that wgpu reports outside of any call: kept until the executor asks. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Arc<Mutex<Found>>);

#[derive(Debug, Default)]
struct Found {
    lost: Option<String>,
    uncaptured: Option<String>,
}

impl Faults {
    /// The device went away.
    fn lost(&self, message: String) {
        if let Ok(mut found) = self.0.lock() {
            found.lost.get_or_insert(message);
        }
    }

    /// A command was refused.
    pub(super) fn refused(&self, message: String) {
        if let Ok(mut found) = self.0.lock() {
            found.uncaptured.get_or_insert(message);
        }
    }
}

/// An open device and its queue. Clones share both: several programs can run on one device.
#[derive(Clone, Debug)]
pub struct Context {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) pipelines: Arc<Pipelines>,
    pub(super) faults: Faults,
    /// What a future waits for at the moment.
    pub(super) awaited: Arc<Mutex<Option<wgpu::SubmissionIndex>>>,
    info: wgpu::AdapterInfo,
    matrices: Vec<wgpu::CooperativeMatrixProperties>,
}

impl Context {
    /// Opens the chosen adapter with the limits asked for.
    ///
    /// # Errors
    /// If there is no such adapter, it is below WebGPU's limits, or its driver refuses.
    pub async fn request(choice: &DeviceChoice, policy: LimitPolicy) -> Result<Context, GpuError> {
        Context::request_with(choice, policy, None).await
    }

    /// [`Context::request`], with what the driver compiled in earlier processes, where it can take that back.
    ///
    /// # Errors
    /// As [`Context::request`].
    pub(super) async fn request_with(
        choice: &DeviceChoice,
        policy: LimitPolicy,
        store: Option<Arc<dyn PipelineStore>>,
    ) -> Result<Context, GpuError> {
        let adapter = choose(enumerate().await, choice)?;
        let info = adapter.get_info();
        let offered = adapter.limits();
        check_floor(&info.name, &offered, &wgpu::Limits::defaults())?;
        let limits = policy.limits(&offered);
        let cached = if store.is_some() { wgpu::Features::PIPELINE_CACHE } else { wgpu::Features::empty() };
        let features = adapter.features() & (policy.features() | cached);
        let request = adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("ldfa-gpu"),
            required_limits: limits,
            required_features: features,
            experimental_features: if features.intersects(wgpu::Features::all_experimental_mask()) {
                // SAFETY: asks to be prepared for bugs in what wgpu calls experimental; of that only cooperative matrices
                // are used, by one shader, whose every shape the kernel tests compare with the reference.
                unsafe { wgpu::ExperimentalFeatures::enabled() }
            } else {
                wgpu::ExperimentalFeatures::disabled()
            },
            memory_hints: wgpu::MemoryHints::Performance,
            ..Default::default()
        });
        let (device, queue) = request.await.map_err(|source| GpuError::Open { adapter: info.name.clone(), source })?;
        let faults = Faults::default();
        let (on_loss, on_error) = (faults.clone(), faults.clone());
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                on_loss.lost(message);
            }
        });
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| on_error.refused(error.to_string())));
        let matrices = adapter.cooperative_matrix_properties();
        let key = AdapterKey::of(&info, &profile_of(&info, &device.limits(), device.features(), &matrices));
        let pipelines = Arc::new(Pipelines::new(&device, key, store));
        Ok(Context { device, queue, pipelines, faults, awaited: Arc::default(), info, matrices })
    }

    /// Keeps what the driver has compiled so far for later processes, if it gives that out and it is new.
    pub fn keep_pipelines(&self) {
        self.pipelines.keep();
    }

    /// What measurements on this adapter hold for.
    pub fn key(&self) -> AdapterKey {
        AdapterKey::of(&self.info, &self.profile())
    }

    /// Name, backend and driver in one line.
    pub fn describe(&self) -> String {
        describe(&self.info)
    }

    /// Name, backend, driver, kind.
    pub fn info(&self) -> &wgpu::AdapterInfo {
        &self.info
    }

    /// What times on this device are measured with.
    ///
    /// Software adapters have timestamps too, but what a query itself costs them is in the difference of two: on
    /// llvmpipe 40 microseconds, more than many operations take. The host's clock, on the same CPU, is the better one.
    pub fn clock(&self) -> Clock {
        if self.has_timestamps() && !self.is_software() { Clock::Device } else { Clock::Host }
    }

    /// Whether the device writes timestamps.
    pub(super) fn has_timestamps(&self) -> bool {
        self.device.features().contains(wgpu::Features::TIMESTAMP_QUERY)
    }

    /// Whether the adapter computes on the CPU.
    pub fn is_software(&self) -> bool {
        self.info.device_type == wgpu::DeviceType::Cpu
    }

    /// What the plan needs to know.
    pub fn profile(&self) -> Profile {
        profile_of(&self.info, &self.device.limits(), self.device.features(), &self.matrices)
    }

    /// The first error that arrived outside of a call, if any.
    pub(super) fn check(&self) -> Result<(), GpuError> {
        let Ok(faults) = self.faults.0.lock() else { return Ok(()) };
        match (&faults.lost, &faults.uncaptured) {
            (Some(reason), _) => Err(GpuError::Lost(reason.clone())),
            (None, Some(message)) => Err(GpuError::Command(message.clone())),
            (None, None) => Ok(()),
        }
    }

    /// Forgets an error that the tuner has met and survived; a lost device stays lost.
    pub(super) fn forgive(&self) {
        if let Ok(mut faults) = self.faults.0.lock() {
            faults.uncaptured = None;
        }
    }
}
