//! `devices`.

use clap::Args;

use super::{CliError, say};
use crate::gpu::{Cache, GpuError, adapters, describe};

/// List adapters with backend, driver, limits and features.
#[derive(Args)]
pub(super) struct DevicesArgs {}

impl DevicesArgs {
    pub(super) fn run(self) -> Result<(), CliError> {
        let adapters = adapters();
        if adapters.is_empty() {
            return say(GpuError::NoAdapter);
        }
        for (index, adapter) in adapters.iter().enumerate() {
            let (info, limits) = (&adapter.info, &adapter.limits);
            say(format!("{index}: {}", describe(&adapter.info)))?;
            let kind = match info.device_type {
                wgpu::DeviceType::Cpu => "software: the CPU computes",
                wgpu::DeviceType::DiscreteGpu => "discrete GPU",
                wgpu::DeviceType::IntegratedGpu => "integrated GPU",
                wgpu::DeviceType::VirtualGpu => "virtual GPU",
                wgpu::DeviceType::Other => "other",
            };
            say(format!("   kind        {kind}"))?;
            say(format!(
                "   limits      binding {} MiB, buffer {} MiB, {} storage buffers a stage, {} bytes of workgroup memory, \
                 {} invocations a workgroup, {} workgroups a dimension",
                limits.max_storage_buffer_binding_size >> 20,
                limits.max_buffer_size >> 20,
                limits.max_storage_buffers_per_shader_stage,
                limits.max_compute_workgroup_storage_size,
                limits.max_compute_invocations_per_workgroup,
                limits.max_compute_workgroups_per_dimension,
            ))?;
            say(format!("   subgroups   {} to {} lanes", info.subgroup_min_size, info.subgroup_max_size))?;
            let wanted = [
                ("timestamps", wgpu::Features::TIMESTAMP_QUERY),
                ("subgroup operations", wgpu::Features::SUBGROUP),
                ("f16", wgpu::Features::SHADER_F16),
                ("cooperative matrices", wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX),
                ("pipeline cache", wgpu::Features::PIPELINE_CACHE),
            ];
            let has = |feature| if adapter.features.contains(feature) { "yes" } else { "no" };
            let list: Vec<String> = wanted.iter().map(|(name, f)| format!("{name} {}", has(*f))).collect();
            say(format!("   features    {}", list.join(", ")))?;
            let kernels = Cache::from_env().map(|cache| cache.kernels(&adapter.key()));
            let place = kernels.map_or("none: set LDFA_CACHE to a folder".to_owned(), |path| {
                format!("{}{}", path.display(), if path.exists() { "" } else { " (nothing measured yet)" })
            });
            say(format!("   kernels     {place}"))?;
        }
        say(
            "--device takes the index or a part of the name; without it: discrete, else integrated, else virtual, else software",
        )
    }
}
