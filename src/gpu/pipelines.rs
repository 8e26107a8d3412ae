//! Pipelines: built once for a device, kept for later processes where the driver gives them out.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use web_time::Instant;

use super::error::GpuError;
use super::key::AdapterKey;
use super::shaders::{PipelineKey, Shader, all};
use crate::parallel;

/// A pipeline and the layout of its tensors.
#[derive(Clone, Debug)]
pub(super) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub tensors: wgpu::BindGroupLayout,
}

/// Where compiled pipelines are kept. What it returns must be what it was given for the same key, byte for byte: drivers
/// trust it.
pub(super) trait PipelineStore: Debug + Send + Sync {
    /// What [`PipelineStore::save_pipelines`] kept for this adapter, unless it is damaged.
    fn load_pipelines(&self, key: &AdapterKey) -> Option<Vec<u8>>;

    /// Keeps what a driver has compiled.
    fn save_pipelines(&self, key: &AdapterKey, data: &[u8]);
}

/// What a driver compiles, with what of it is stored.
#[derive(Debug)]
struct Kept {
    cache: wgpu::PipelineCache,
    store: Arc<dyn PipelineStore>,
    key: AdapterKey,
    stored: Mutex<Vec<u8>>,
}

/// The pipelines of one device: each is built once, however many programs use it.
#[derive(Debug)]
pub(super) struct Pipelines {
    /// Layout of the step's bind group, the same for all.
    pub step: wgpu::BindGroupLayout,
    kept: Option<Kept>,
    modules: Mutex<HashMap<&'static str, wgpu::ShaderModule>>,
    built: Mutex<HashMap<PipelineKey, Pipeline>>,
}

impl Pipelines {
    pub(super) fn new(device: &wgpu::Device, key: AdapterKey, store: Option<Arc<dyn PipelineStore>>) -> Pipelines {
        let step = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("step"),
            entries: &[wgpu::BindGroupLayoutEntry {
                binding: 0,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Uniform,
                    has_dynamic_offset: true,
                    min_binding_size: None,
                },
                count: None,
            }],
        });
        let store = store.filter(|_| device.features().contains(wgpu::Features::PIPELINE_CACHE));
        let kept = store.map(|store| {
            let data = store.load_pipelines(&key);
            let descriptor = wgpu::PipelineCacheDescriptor { label: None, data: data.as_deref(), fallback: true };
            // SAFETY: the data must come from `get_data`. The store returns what `keep` has put there, byte for byte by its
            // checksum, and for the same adapter, driver and version of this program by its key; the driver checks its own
            // header besides.
            let cache = unsafe { device.create_pipeline_cache(&descriptor) };
            Kept { cache, store, key, stored: Mutex::new(data.unwrap_or_default()) }
        });
        Pipelines { step, kept, modules: Mutex::default(), built: Mutex::default() }
    }

    /// Stores what the driver has compiled so far, if it gives that out and it is new.
    pub(super) fn keep(&self) {
        let Some(kept) = &self.kept else { return };
        let (Some(data), Ok(mut stored)) = (kept.cache.get_data(), kept.stored.lock()) else { return };
        if *stored != data {
            kept.store.save_pipelines(&kept.key, &data);
            *stored = data;
        }
    }

    /// Builds what is not there yet, in parallel where there are threads, and returns the pipelines of these keys.
    ///
    /// # Errors
    /// If the driver refuses one.
    pub(super) async fn build(
        &self,
        device: &wgpu::Device,
        mut keys: Vec<PipelineKey>,
    ) -> Result<HashMap<PipelineKey, Pipeline>, GpuError> {
        keys.sort();
        keys.dedup();
        let missing: Vec<PipelineKey> = {
            let built = self.built();
            keys.iter().filter(|key| !built.contains_key(key)).cloned().collect()
        };
        let modules = self.modules(device, &missing);
        let made = parallel::map(missing, |key| {
            let began = Instant::now();
            let made = pipeline(device, self, &modules[key.shader], &key);
            tracing::trace!(?key, took = ?began.elapsed(), "pipeline built");
            (key, made)
        });
        for (key, made) in made {
            let (pipeline, refusal) = made?;
            if let Some(error) = refusal.await {
                let (shader, entry) = (key.shader.to_owned(), key.entry.into_owned());
                return Err(GpuError::Shader { shader, entry, message: error.to_string() });
            }
            self.built().insert(key, pipeline);
        }
        let built = self.built();
        Ok(keys.into_iter().map(|key| (key.clone(), built[&key].clone())).collect())
    }

    /// Entries are complete when they are inserted, so that a panic elsewhere leaves nothing half-made.
    fn built(&self) -> MutexGuard<'_, HashMap<PipelineKey, Pipeline>> {
        self.built.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn modules(&self, device: &wgpu::Device, keys: &[PipelineKey]) -> HashMap<&'static str, wgpu::ShaderModule> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let missing: Vec<&Shader> = all()
            .iter()
            .filter(|s| keys.iter().any(|key| key.shader == s.name) && !modules.contains_key(s.name))
            .collect();
        modules.extend(parallel::map(missing, |shader| (shader.name, module(device, shader))));
        modules.clone()
    }
}

fn module(device: &wgpu::Device, shader: &Shader) -> wgpu::ShaderModule {
    let source = wgpu::ShaderSource::Wgsl(shader.source.into());
    let descriptor = wgpu::ShaderModuleDescriptor { label: Some(shader.name), source };
    // SAFETY: without run-time checks an index past a binding is undefined. Every kernel bounds its indices by
    // `Params`, which the lowering fills from shapes that `Op::check` has compared with each other, and every
    // binding spans its whole tensor. The only indices read from memory are permutations and class labels,
    // which the data room has checked against the set; loops are bounded by the same parameters.
    unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
}

/// A pipeline, and what will tell whether the driver refuses it.
fn pipeline(
    device: &wgpu::Device,
    all: &Pipelines,
    module: &wgpu::ShaderModule,
    key: &PipelineKey,
) -> Result<(Pipeline, impl Future<Output = Option<wgpu::Error>> + use<>), GpuError> {
    if let Some((unknown, _)) =
        key.constants.iter().find(|(name, _)| !key.shader().is_ok_and(|s| s.constants.contains(name)))
    {
        return Err(key.wrong(format!("there is no pipeline constant {unknown}")));
    }
    let params = (0, wgpu::BufferBindingType::Uniform);
    let storage = key
        .entry_point()?
        .bindings
        .iter()
        .map(|b| (b.index, wgpu::BufferBindingType::Storage { read_only: !b.writable }));
    let entries: Vec<_> = std::iter::once(params)
        .chain(storage)
        .map(|(binding, ty)| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        })
        .collect();
    let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let tensors = device
        .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(&key.entry), entries: &entries });
    let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(&key.entry),
        bind_group_layouts: &[Some(&all.step), Some(&tensors)],
        immediate_size: 0,
    });
    let constants: Vec<(&str, f64)> = key.constants.iter().map(|&(name, value)| (name, f64::from(value))).collect();
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(&key.entry),
        layout: Some(&layout),
        module,
        entry_point: Some(&key.entry),
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: &constants,
            // Every kernel writes its shared memory before it reads it.
            zero_initialize_workgroup_memory: false,
        },
        cache: all.kept.as_ref().map(|kept| &kept.cache),
    });
    Ok((Pipeline { pipeline, tensors }, scope.pop()))
}
