//! Adapters: which there are, which one is meant, and what it can do.

use std::fmt;
use std::str::FromStr;

use super::error::GpuError;
use super::key::AdapterKey;
use super::platform::BACKENDS;
use super::shaders::Ability;
use crate::plan::Profile;

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

    pub(super) fn limits(self, offered: &wgpu::Limits) -> wgpu::Limits {
        match self {
            LimitPolicy::Adapter => offered.clone(),
            LimitPolicy::WebGpu => wgpu::Limits::defaults(),
        }
    }

    /// What kernels and the profiler use where the adapter has it.
    pub(super) fn features(self) -> wgpu::Features {
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

/// All adapters of this machine, in the order that `--device INDEX` counts; in a browser the one that it prefers.
pub async fn request_adapters() -> Vec<AdapterSummary> {
    enumerate()
        .await
        .iter()
        .map(|a| AdapterSummary {
            info: a.get_info(),
            limits: a.limits(),
            features: a.features(),
            matrices: a.cooperative_matrix_properties(),
        })
        .collect()
}

pub(super) async fn enumerate() -> Vec<wgpu::Adapter> {
    let descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor { backends: BACKENDS, ..descriptor });
    instance.enumerate_adapters(BACKENDS).await
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
pub(super) fn features_of(ability: Ability) -> wgpu::Features {
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

pub(super) fn profile_of(
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

pub(super) fn choose(mut adapters: Vec<wgpu::Adapter>, choice: &DeviceChoice) -> Result<wgpu::Adapter, GpuError> {
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
pub(super) fn check_floor(adapter: &str, offered: &wgpu::Limits, floor: &wgpu::Limits) -> Result<(), GpuError> {
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
