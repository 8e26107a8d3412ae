//! Adapters and the device: choice, limits, loss.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use super::cache::{AdapterKey, Cache};
use super::error::GpuError;
use super::shaders::{Ability, Pipelines};
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

    fn limits(self, offered: &wgpu::Limits) -> wgpu::Limits {
        match self {
            LimitPolicy::Adapter => offered.clone(),
            LimitPolicy::WebGpu => wgpu::Limits::defaults(),
        }
    }

    /// What kernels and the profiler use where the adapter has it.
    fn features(self) -> wgpu::Features {
        match self {
            LimitPolicy::Adapter => {
                features_of(Ability::Subgroups) | features_of(Ability::Matrices) | wgpu::Features::TIMESTAMP_QUERY
            }
            LimitPolicy::WebGpu => wgpu::Features::empty(),
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
    /// Sizes and types of its matrix units.
    pub matrices: Vec<wgpu::CooperativeMatrixProperties>,
}

impl AdapterSummary {
    /// What measurements on this adapter hold for, under the limits that [`LimitPolicy::from_env`] asks for.
    pub fn key(&self) -> AdapterKey {
        let policy = LimitPolicy::from_env();
        let (limits, features) = (policy.limits(&self.limits), policy.features() & self.features);
        AdapterKey::of(&self.info, &profile_of(&self.info, &limits, features, &self.matrices))
    }
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
        .map(|a| AdapterSummary {
            info: a.get_info(),
            limits: a.limits(),
            features: a.features(),
            matrices: a.cooperative_matrix_properties(),
        })
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
        Ability::Matrices => {
            features_of(Ability::Half)
                | features_of(Ability::Subgroups)
                | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
        }
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
    pub(super) pipelines: Arc<Pipelines>,
    info: wgpu::AdapterInfo,
    matrices: Vec<wgpu::CooperativeMatrixProperties>,
    faults: Arc<Mutex<Faults>>,
    /// Where compiled pipelines are kept, and the digest of what is there.
    kept: Option<(Cache, Arc<Mutex<Vec<u8>>>)>,
}

impl Context {
    /// Opens the chosen adapter with the limits asked for.
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
        let adapter = choose(enumerate(&instance()), choice)?;
        let info = adapter.get_info();
        let offered = adapter.limits();
        check_floor(&info.name, &offered, &wgpu::Limits::defaults())?;
        let limits = policy.limits(&offered);
        let cached = if cache.is_some() { wgpu::Features::PIPELINE_CACHE } else { wgpu::Features::empty() };
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
        let cache = cache.filter(|_| device.features().contains(wgpu::Features::PIPELINE_CACHE));
        let matrices = adapter.cooperative_matrix_properties();
        let key = AdapterKey::of(&info, &profile_of(&info, &device.limits(), device.features(), &matrices));
        let stored = cache.and_then(|cache| cache.load_pipelines(&key));
        let pipeline_cache = cache.map(|_| {
            let descriptor = wgpu::PipelineCacheDescriptor { label: None, data: stored.as_deref(), fallback: true };
            // SAFETY: the data must come from `get_data`. The cache returns what `keep_pipelines` has put there, byte for
            // byte by its checksum, and for the same adapter, driver and version of this program by its key; the driver
            // checks its own header besides.
            unsafe { device.create_pipeline_cache(&descriptor) }
        });
        let pipelines = Arc::new(Pipelines::new(&device, pipeline_cache));
        let kept = cache.map(|cache| (cache.clone(), Arc::new(Mutex::new(stored.unwrap_or_default()))));
        Ok(Context { device, queue, pipelines, info, matrices, faults, kept })
    }

    /// Keeps what the driver has compiled so far for later processes, if it gives that out and it is new.
    pub fn keep_pipelines(&self) {
        let (Some((cache, kept)), Some(pipelines)) = (&self.kept, &self.pipelines.cache) else { return };
        let (Some(data), Ok(mut kept)) = (pipelines.get_data(), kept.lock()) else { return };
        if *kept != data {
            cache.save_pipelines(&self.key(), &data);
            *kept = data;
        }
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
        let Ok(faults) = self.faults.lock() else { return Ok(()) };
        match (&faults.lost, &faults.uncaptured) {
            (Some(reason), _) => Err(GpuError::Lost(reason.clone())),
            (None, Some(message)) => Err(GpuError::Command(message.clone())),
            (None, None) => Ok(()),
        }
    }

    /// Forgets an error that the tuner has met and survived; a lost device stays lost.
    pub(super) fn forgive(&self) {
        if let Ok(mut faults) = self.faults.lock() {
            faults.uncaptured = None;
        }
    }

    /// Blocks until a submission (all of them if `None`) is done.
    pub(super) fn wait(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<(), GpuError> {
        let waited = self.device.poll(wgpu::PollType::Wait { submission_index: submission, timeout: None });
        self.check()?;
        waited.map(|_| ()).map_err(|e| GpuError::Command(e.to_string()))
    }
}

fn profile_of(
    info: &wgpu::AdapterInfo,
    limits: &wgpu::Limits,
    features: wgpu::Features,
    matrices: &[wgpu::CooperativeMatrixProperties],
) -> Profile {
    let passes_values = features.contains(features_of(Ability::Subgroups));
    let lanes_are_fixed = info.subgroup_min_size == info.subgroup_max_size;
    Profile {
        software: info.device_type == wgpu::DeviceType::Cpu,
        subgroup_lanes: (passes_values && lanes_are_fixed).then_some(info.subgroup_min_size),
        half: features.contains(features_of(Ability::Half)),
        matrix_side: matrix_side(matrices)
            .filter(|_| features.contains(features_of(Ability::Matrices)) && lanes_are_fixed),
        max_binding_bytes: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
        binding_alignment: limits.min_storage_buffer_offset_alignment,
    }
}

/// The largest square that its units multiply in 16 bits with sums in 32.
fn matrix_side(matrices: &[wgpu::CooperativeMatrixProperties]) -> Option<u32> {
    use wgpu::CooperativeScalarType::{F16, F32};
    let mixed = matrices.iter().filter(|m| m.ab_type == F16 && m.cr_type == F32);
    mixed.filter(|m| m.m_size == m.n_size && m.n_size == m.k_size).map(|m| m.m_size).max()
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
