//! The shaders as the build script found them, and the pipelines made from them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rayon::prelude::*;

use super::error::GpuError;

/// A storage binding of an entry point.
#[derive(Debug)]
pub struct Binding {
    /// Global variable, and operand, of that name.
    pub name: &'static str,
    /// `@binding` in group 1.
    pub index: u32,
    /// Whether the shader declares it `read_write`.
    pub writable: bool,
    /// Whether it is read and written four neighbours at once: every replica must start at a multiple of four.
    pub quads: bool,
}

/// A compute entry point with the storage it can reach.
#[derive(Debug)]
pub struct EntryPoint {
    /// Function name.
    pub name: &'static str,
    /// Its tensors.
    pub bindings: &'static [Binding],
}

/// What a device must be able to do beyond WebGPU's core for a shader to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// Nothing.
    Core,
    /// Pass values from lane to lane.
    Subgroups,
    /// Compute in 16 bits.
    Half,
    /// Multiply matrices of 16 bits a subgroup at a time.
    Matrices,
}

/// One file of `shaders/`.
#[derive(Debug)]
pub struct Shader {
    /// File name without extension.
    pub name: &'static str,
    /// WGSL, with what it includes and repeats written out.
    pub source: &'static str,
    /// What it asks of the device.
    pub ability: Ability,
    /// Names of its pipeline constants.
    pub constants: &'static [&'static str],
    /// Members of its `Params` block with their byte offsets.
    pub params: &'static [(&'static str, u32)],
    /// Its kernels.
    pub entry_points: &'static [EntryPoint],
}

include!(concat!(env!("OUT_DIR"), "/shaders.rs"));

/// All shaders.
pub fn all() -> &'static [Shader] {
    SHADERS
}

/// What tells one pipeline from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PipelineKey {
    /// File of `shaders/`.
    pub shader: &'static str,
    /// Function in it.
    pub entry: Cow<'static, str>,
    /// Pipeline constants that differ from their defaults; whole numbers.
    pub constants: Vec<(&'static str, u32)>,
}

impl PipelineKey {
    pub(super) fn shader(&self) -> Result<&'static Shader, GpuError> {
        SHADERS.iter().find(|s| s.name == self.shader).ok_or_else(|| self.wrong("there is no such shader"))
    }

    pub(super) fn entry_point(&self) -> Result<&'static EntryPoint, GpuError> {
        let entries = self.shader()?.entry_points;
        entries.iter().find(|e| e.name == self.entry).ok_or_else(|| self.wrong("there is no such entry point"))
    }

    pub(super) fn wrong(&self, message: impl Into<String>) -> GpuError {
        GpuError::Interface { shader: self.shader, entry: self.entry.clone().into_owned(), message: message.into() }
    }
}

/// A pipeline and the layout of its tensors.
#[derive(Clone, Debug)]
pub(super) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub tensors: wgpu::BindGroupLayout,
}

/// The pipelines of one device: each is built once, however many programs use it.
#[derive(Debug)]
pub(super) struct Pipelines {
    /// Layout of the step's bind group, the same for all.
    pub step: wgpu::BindGroupLayout,
    /// What the driver compiles is kept here, where it can hand that out.
    pub cache: Option<wgpu::PipelineCache>,
    modules: Mutex<HashMap<&'static str, wgpu::ShaderModule>>,
    built: Mutex<HashMap<PipelineKey, Pipeline>>,
}

impl Pipelines {
    pub(super) fn new(device: &wgpu::Device, cache: Option<wgpu::PipelineCache>) -> Pipelines {
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
        Pipelines { step, cache, modules: Mutex::default(), built: Mutex::default() }
    }

    /// Builds what is not there yet, in parallel, and returns the pipelines of these keys.
    ///
    /// # Errors
    /// If the driver refuses one.
    pub(super) fn build(
        &self,
        device: &wgpu::Device,
        mut keys: Vec<PipelineKey>,
    ) -> Result<HashMap<PipelineKey, Pipeline>, GpuError> {
        keys.sort();
        keys.dedup();
        // Entries are complete when they are inserted, so that a panic elsewhere leaves nothing half-made.
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        let missing: Vec<PipelineKey> = keys.iter().filter(|key| !built.contains_key(key)).cloned().collect();
        let modules = self.modules(device, &missing);
        let made: Result<Vec<_>, GpuError> = missing
            .into_par_iter()
            .map(|key| {
                let began = Instant::now();
                let pipeline = pipeline(device, self, &modules[key.shader], &key)?;
                tracing::trace!(?key, took = ?began.elapsed(), "pipeline built");
                Ok((key, pipeline))
            })
            .collect();
        built.extend(made?);
        Ok(keys.into_iter().map(|key| (key.clone(), built[&key].clone())).collect())
    }

    fn modules(&self, device: &wgpu::Device, keys: &[PipelineKey]) -> HashMap<&'static str, wgpu::ShaderModule> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let missing: Vec<&Shader> = SHADERS
            .iter()
            .filter(|s| keys.iter().any(|key| key.shader == s.name) && !modules.contains_key(s.name))
            .collect();
        let made: Vec<_> = missing.into_par_iter().map(|shader| (shader.name, module(device, shader))).collect();
        modules.extend(made);
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

fn pipeline(
    device: &wgpu::Device,
    all: &Pipelines,
    module: &wgpu::ShaderModule,
    key: &PipelineKey,
) -> Result<Pipeline, GpuError> {
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
        cache: all.cache.as_ref(),
    });
    match pollster::block_on(scope.pop()) {
        None => Ok(Pipeline { pipeline, tensors }),
        Some(error) => Err(GpuError::Shader {
            shader: key.shader.to_owned(),
            entry: key.entry.clone().into_owned(),
            message: error.to_string(),
        }),
    }
}
