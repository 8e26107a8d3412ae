//! Adapters and the device: choice, limits, loss.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use super::GpuError;
use super::shaders::Ability;
use crate::plan::{Clock, Profile};

/// Which adapter to run on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// Discrete, else integrated, else software.
    #[default]
    Best,
    /// The f64 CPU executor: needs no adapter.
    Reference,
    /// Position in the list that `devices` prints.
    Index(usize),
    /// Part of the adapter's name, in any case.
    Name(String),
}

impl FromStr for DeviceChoice {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "best" => DeviceChoice::Best,
            "reference" => DeviceChoice::Reference,
            _ => text.parse().map_or_else(|_| DeviceChoice::Name(text.to_owned()), DeviceChoice::Index),
        })
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Best => f.write_str("best"),
            DeviceChoice::Reference => f.write_str("reference"),
            DeviceChoice::Index(index) => write!(f, "{index}"),
            DeviceChoice::Name(name) => f.write_str(name),
        }
    }
}

/// Which limits to ask the adapter for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LimitPolicy {
    /// All that the adapter has.
    #[default]
    Adapter,
    /// No more than WebGPU guarantees everywhere; tests run under these too.
    WebGpu,
}

impl LimitPolicy {
    /// `LDFA_LIMITS=webgpu` clamps a whole process, as the test suite does in its second run.
    pub fn from_env() -> LimitPolicy {
        match std::env::var("LDFA_LIMITS") {
            Ok(value) if value.eq_ignore_ascii_case("webgpu") => LimitPolicy::WebGpu,
            _ => LimitPolicy::Adapter,
        }
    }
}

/// What `devices` shows of an adapter.
#[derive(Clone, Debug)]
pub struct AdapterSummary {
    /// Name, backend, driver, kind.
    pub info: wgpu::AdapterInfo,
    /// What it offers at most.
    pub limits: wgpu::Limits,
    /// Optional abilities.
    pub features: wgpu::Features,
}

/// GL is left out: its adapters cannot bind as much, and show every Vulkan device twice.
const BACKENDS: wgpu::Backends = wgpu::Backends::VULKAN.union(wgpu::Backends::METAL).union(wgpu::Backends::DX12);

fn instance() -> wgpu::Instance {
    let descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    wgpu::Instance::new(wgpu::InstanceDescriptor { backends: BACKENDS, ..descriptor })
}

fn enumerate(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    pollster::block_on(instance.enumerate_adapters(BACKENDS))
}

/// All adapters of this machine, in the order that `--device INDEX` counts.
pub fn adapters() -> Vec<AdapterSummary> {
    enumerate(&instance())
        .iter()
        .map(|a| AdapterSummary { info: a.get_info(), limits: a.limits(), features: a.features() })
        .collect()
}

/// Discrete > integrated > virtual > unknown > software.
fn preference(kind: wgpu::DeviceType) -> u32 {
    match kind {
        wgpu::DeviceType::DiscreteGpu => 4,
        wgpu::DeviceType::IntegratedGpu => 3,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 1,
        wgpu::DeviceType::Cpu => 0,
    }
}

/// The optional features that kernels use where the adapter has them.
fn features_of(ability: Ability) -> wgpu::Features {
    match ability {
        Ability::Core => wgpu::Features::empty(),
        Ability::Subgroups => wgpu::Features::SUBGROUP,
        Ability::Half => wgpu::Features::SHADER_F16,
    }
}

/// Errors that wgpu reports outside of any call: kept until the executor asks.
#[derive(Debug, Default)]
pub(super) struct Faults {
    lost: Option<String>,
    uncaptured: Option<String>,
}

/// An open device and its queue. Clones share both: several programs can run on one device.
#[derive(Clone, Debug)]
pub struct Context {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    info: wgpu::AdapterInfo,
    faults: Arc<Mutex<Faults>>,
}

impl Context {
    /// Opens the chosen adapter with the limits asked for.
    ///
    /// # Errors
    /// If there is no such adapter, it is below WebGPU's limits, or its driver refuses.
    pub fn open(choice: &DeviceChoice, policy: LimitPolicy) -> Result<Context, GpuError> {
        let adapter = choose(enumerate(&instance()), choice)?;
        let info = adapter.get_info();
        let offered = adapter.limits();
        let floor = wgpu::Limits::defaults();
        check_floor(&info.name, &offered, &floor)?;
        let optional = features_of(Ability::Subgroups) | features_of(Ability::Half) | wgpu::Features::TIMESTAMP_QUERY;
        let (limits, features) = match policy {
            LimitPolicy::Adapter => (offered, adapter.features() & optional),
            LimitPolicy::WebGpu => (floor, wgpu::Features::empty()),
        };
        let request = adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("ldfa-gpu"),
            required_limits: limits,
            required_features: features,
            memory_hints: wgpu::MemoryHints::Performance,
            ..Default::default()
        });
        let (device, queue) =
            pollster::block_on(request).map_err(|source| GpuError::Open { adapter: info.name.clone(), source })?;
        let faults = Arc::new(Mutex::new(Faults::default()));
        let (on_loss, on_error) = (Arc::clone(&faults), Arc::clone(&faults));
        device.set_device_lost_callback(move |reason, message| {
            if let (Ok(mut faults), false) = (on_loss.lock(), reason == wgpu::DeviceLostReason::Destroyed) {
                faults.lost.get_or_insert(message);
            }
        });
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            if let Ok(mut faults) = on_error.lock() {
                faults.uncaptured.get_or_insert(error.to_string());
            }
        }));
        Ok(Context { device, queue, info, faults })
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
        let limits = self.device.limits();
        Profile {
            software: self.is_software(),
            max_binding_bytes: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
            binding_alignment: limits.min_storage_buffer_offset_alignment,
            subgroup_lanes: (self.can(Ability::Subgroups)
                && self.info.subgroup_min_size == self.info.subgroup_max_size)
                .then_some(self.info.subgroup_min_size),
        }
    }

    /// Whether shaders may ask so much of the device.
    pub(super) fn can(&self, ability: Ability) -> bool {
        self.device.features().contains(features_of(ability))
    }

    /// The first error that arrived outside of a call, if any.
    pub(super) fn check(&self) -> Result<(), GpuError> {
        let Ok(faults) = self.faults.lock() else { return Ok(()) };
        match (&faults.lost, &faults.uncaptured) {
            (Some(reason), _) => Err(GpuError::Lost(reason.clone())),
            (None, Some(message)) => Err(GpuError::Command(message.clone())),
            (None, None) => Ok(()),
        }
    }

    /// Blocks until a submission (all of them if `None`) is done.
    pub(super) fn wait(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<(), GpuError> {
        let waited = self.device.poll(wgpu::PollType::Wait { submission_index: submission, timeout: None });
        self.check()?;
        waited.map(|_| ()).map_err(|e| GpuError::Command(e.to_string()))
    }
}

/// Name, backend and driver in one line.
pub fn describe(info: &wgpu::AdapterInfo) -> String {
    let driver = [info.driver.as_str(), info.driver_info.as_str()].join(" ");
    format!("{} ({:?}, {})", info.name, info.backend, driver.trim())
}

fn choose(mut adapters: Vec<wgpu::Adapter>, choice: &DeviceChoice) -> Result<wgpu::Adapter, GpuError> {
    if adapters.is_empty() {
        return Err(GpuError::NoAdapter);
    }
    let names: Vec<String> = adapters.iter().map(|a| a.get_info().name).collect();
    let found = match choice {
        DeviceChoice::Index(index) => (*index < adapters.len()).then_some(*index),
        DeviceChoice::Name(wanted) => {
            let wanted = wanted.to_lowercase();
            // Every name contains the empty one.
            names.iter().position(|name| !wanted.is_empty() && name.to_lowercase().contains(&wanted))
        }
        DeviceChoice::Best | DeviceChoice::Reference => {
            // The first of equals, as the system orders them.
            (0..adapters.len()).rev().max_by_key(|&i| preference(adapters[i].get_info().device_type))
        }
    };
    let index = found.ok_or_else(|| GpuError::NoSuchAdapter {
        wanted: choice.to_string(),
        available: names.iter().enumerate().map(|(i, n)| format!("{i}: {n}")).collect::<Vec<_>>().join(", "),
    })?;
    Ok(adapters.swap_remove(index))
}

/// The kernels rely on what WebGPU guarantees everywhere.
fn check_floor(adapter: &str, offered: &wgpu::Limits, floor: &wgpu::Limits) -> Result<(), GpuError> {
    let wide = |pick: fn(&wgpu::Limits) -> u64| (pick(offered), pick(floor));
    let rows: [(&'static str, (u64, u64)); 6] = [
        ("maxStorageBufferBindingSize", wide(|l| l.max_storage_buffer_binding_size)),
        ("maxBufferSize", wide(|l| l.max_buffer_size)),
        ("maxStorageBuffersPerShaderStage", wide(|l| l.max_storage_buffers_per_shader_stage.into())),
        ("maxComputeWorkgroupStorageSize", wide(|l| l.max_compute_workgroup_storage_size.into())),
        ("maxComputeInvocationsPerWorkgroup", wide(|l| l.max_compute_invocations_per_workgroup.into())),
        ("maxComputeWorkgroupsPerDimension", wide(|l| l.max_compute_workgroups_per_dimension.into())),
    ];
    for (limit, (offered, needed)) in rows {
        if offered < needed {
            return Err(GpuError::Limit { adapter: adapter.to_owned(), limit, offered, needed });
        }
    }
    Ok(())
}
