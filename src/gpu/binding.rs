//! From kernels to dispatches: parameters into one uniform buffer, operands into bind groups.

use std::collections::HashMap;

use super::context::Context;
use super::error::GpuError;
use super::kernels::Kernel;
use super::pipelines::Pipeline;
use super::shaders::PipelineKey;
use super::step::UNIFORM_ALIGNMENT;
use crate::ops::{Access, Dtype, Op, Operand};
use crate::plan::{Placement, Plan};

/// A kernel with its operands.
pub(super) struct Dispatch {
    pub pipeline: wgpu::ComputePipeline,
    pub tensors: wgpu::BindGroup,
    pub grid: [u32; 3],
    #[cfg(test)]
    writes: Vec<wgpu::Buffer>,
}

/// Turns kernels into dispatches: parameters into one uniform buffer, operands into bind groups.
pub(super) struct Binder<'a> {
    pub context: &'a Context,
    pub plan: &'a Plan,
    pub buffers: &'a [wgpu::Buffer],
    pub pipelines: &'a HashMap<PipelineKey, Pipeline>,
}

impl Binder<'_> {
    /// A dispatch for each operation.
    ///
    /// # Errors
    /// If operands do not fit their kernel.
    pub(super) async fn bind(&self, kernels: &[(Op, Kernel)]) -> Result<Vec<Dispatch>, GpuError> {
        let device = &self.context.device;
        let packed = kernels.iter().map(|(op, kernel)| self.params(op, kernel)).collect::<Result<Vec<_>, _>>()?;
        let slot = packed.iter().map(Vec::len).max().unwrap_or(4).next_multiple_of(UNIFORM_ALIGNMENT);
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let params = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("params"),
            size: (slot * packed.len()).max(slot) as u64,
            usage,
            mapped_at_creation: false,
        });
        let mut bytes = vec![0u8; slot * packed.len()];
        for (block, words) in bytes.chunks_exact_mut(slot).zip(&packed) {
            block[..words.len()].copy_from_slice(words);
        }
        self.context.queue.write_buffer(&params, 0, &bytes);
        let absent_input = self.stand_in("absent input");
        let mut dispatches = Vec::with_capacity(kernels.len());
        let mut refusals = Vec::with_capacity(kernels.len());
        for (index, (op, kernel)) in kernels.iter().enumerate() {
            let block = wgpu::BufferBinding {
                buffer: &params,
                offset: (index * slot) as u64,
                size: std::num::NonZeroU64::new(packed[index].len() as u64),
            };
            let (dispatch, refusal) = self.dispatch(op, kernel, block, &absent_input)?;
            dispatches.push(dispatch);
            refusals.push(refusal);
        }
        for ((_, kernel), refusal) in kernels.iter().zip(refusals) {
            if let Some(error) = refusal.await {
                return Err(kernel.key.wrong(error.to_string()));
            }
        }
        Ok(dispatches)
    }

    /// Bound in place of an optional operand that an operation does not have; its kernel never touches it.
    fn stand_in(&self, label: &str) -> wgpu::Buffer {
        self.context.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: UNIFORM_ALIGNMENT as u64,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        })
    }

    /// The `Params` block: what the lowering set, and from the operands' places `stride_<operand>` from replica to replica,
    /// `pitch_<operand>` from row to row, `outer_<operand>` and `inner_<operand>` along the batch, and the first element
    /// `at_<operand>`.
    fn params(&self, op: &Op, kernel: &Kernel) -> Result<Vec<u8>, GpuError> {
        let shader = kernel.key.shader()?;
        let operands = op.operands();
        let mut bytes = vec![0u8; shader.params.len() * 4];
        for &(name, offset) in shader.params {
            let set = kernel.params.iter().find(|(n, _)| *n == name).map(|(_, word)| word.bytes());
            // A member that only another entry point of the file uses stays zero.
            let value = set.or_else(|| self.placed(name, &operands).map(u32::to_le_bytes)).unwrap_or_default();
            bytes[offset as usize..offset as usize + 4].copy_from_slice(&value);
        }
        if let Some((name, _)) = kernel.params.iter().find(|(n, _)| !shader.params.iter().any(|(m, _)| m == n)) {
            return Err(kernel.key.wrong(format!("Params has no member {name}")));
        }
        bytes.resize(bytes.len().next_multiple_of(16), 0);
        Ok(bytes)
    }

    /// What a member of `Params` says of the place of an operand.
    fn placed(&self, member: &str, operands: &[Operand]) -> Option<u32> {
        let (what, name) = member.split_once('_')?;
        let view = operands.iter().find(|o| o.name == name)?.tensor;
        let strides = view.strides();
        match what {
            "stride" => self.plan.placement(view).map(|place| place.replica_stride),
            "pitch" => Some(strides.row),
            "outer" => Some(strides.batch[0]),
            "inner" => Some(strides.batch[1]),
            "at" => Some(view.offset()),
            _ => None,
        }
    }

    /// Where an operand is bound: from its first element on, or with all of its tensor where the kernel adds `at_<operand>`.
    fn binding_place(&self, kernel: &Kernel, operand: &Operand) -> Result<Option<Placement>, GpuError> {
        let params = kernel.key.shader()?.params;
        let has = |what: &str| params.iter().any(|(member, _)| member.strip_prefix(what) == Some(operand.name));
        if !operand.tensor.is_contiguous() && !has("pitch_") {
            return Err(kernel.key.wrong(format!("takes {} in rows side by side only", operand.name)));
        }
        let bound = if has("at_") { self.plan.info(operand.tensor).tensor } else { operand.tensor };
        Ok(self.plan.placement(bound))
    }

    /// A dispatch, and what will tell whether the device refuses its bind group.
    fn dispatch(
        &self,
        op: &Op,
        kernel: &Kernel,
        params: wgpu::BufferBinding<'_>,
        absent_input: &wgpu::Buffer,
    ) -> Result<(Dispatch, impl Future<Output = Option<wgpu::Error>> + use<>), GpuError> {
        let entry_point = kernel.key.entry_point()?;
        let operands = op.operands();
        let mut bound = Vec::new();
        for binding in entry_point.bindings {
            let operand = operands.iter().find(|o| o.name == binding.name);
            if operand.is_some_and(|o| packed(o.tensor.dtype) != binding.elements) {
                return Err(kernel.key.wrong(format!("{} has elements of another type on either side", binding.name)));
            }
            if operand.is_some_and(|o| (o.access != Access::Read) != binding.writable) {
                return Err(kernel.key.wrong(format!("{} is read-only on one side only", binding.name)));
            }
            let place = operand.map(|o| self.binding_place(kernel, o)).transpose()?.flatten();
            if place.is_some_and(|place| binding.quads && !place.replica_stride.is_multiple_of(4)) {
                return Err(kernel.key.wrong(format!("replicas of {} do not start at whole quads", binding.name)));
            }
            let buffer = match place {
                Some(place) => self.buffers[place.buffer].clone(),
                // A buffer that one dispatch may write and another uses is a barrier between the two, so that every absent
                // output has a stand-in of its own.
                None if binding.writable => self.stand_in("absent output"),
                None => absent_input.clone(),
            };
            bound.push((binding, place, buffer));
        }
        let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(params) }];
        entries.extend(bound.iter().map(|(binding, place, buffer)| {
            let (offset, size) = place
                .map_or((0, None), |place| (place.offset, std::num::NonZeroU64::new(place.span.next_multiple_of(4))));
            let resource = wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size });
            wgpu::BindGroupEntry { binding: binding.index, resource }
        }));
        if let Some(unbound) = operands.iter().find(|o| !entry_point.bindings.iter().any(|b| b.name == o.name)) {
            return Err(kernel.key.wrong(format!("there is no binding for operand {}", unbound.name)));
        }
        let pipeline = &self.pipelines[&kernel.key];
        let scope = self.context.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let tensors = self.context.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(op.name()),
            layout: &pipeline.tensors,
            entries: &entries,
        });
        let refusal = scope.pop();
        let limit = self.context.device.limits().max_compute_workgroups_per_dimension;
        let across = kernel.groups.clamp(1, limit);
        let grid = [across, kernel.groups.div_ceil(across).max(1), op.replicas()];
        let dispatch = Dispatch {
            pipeline: pipeline.pipeline.clone(),
            tensors,
            grid,
            #[cfg(test)]
            writes: bound.into_iter().filter(|(binding, ..)| binding.writable).map(|(.., buffer)| buffer).collect(),
        };
        Ok((dispatch, refusal))
    }
}

/// How elements of a type lie in a shader's arrays.
fn packed(dtype: Dtype) -> Dtype {
    match dtype {
        Dtype::U8 => Dtype::U32,
        Dtype::F32 | Dtype::U32 => dtype,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{DeviceChoice, Gpu, LimitPolicy};
    use crate::ops::{Add, Correlate, Gemm, Phase, Recording};
    use crate::plan::Options;

    /// Products without sums and statistics without a Hebbian gradient have an output less than their kernels: what stands in
    /// for it must not make one wait for another.
    #[test]
    fn dispatches_share_no_buffer_that_they_write_but_those_of_their_operands() {
        let mut rec = Recording::new(1);
        let mut state = |rows, cols| rec.state(format!("{rows} x {cols}"), rows, cols, Dtype::F32);
        let (a, b, p) = (state(8, 12), state(12, 20), state(12, 3));
        for _ in 0..3 {
            let (out, y, statistics) = (rec.scratch("out", 8, 20), rec.scratch("y", 8, 3), rec.scratch("s", 6, 15));
            rec.push(Gemm::nn(a, b, out)).unwrap();
            rec.push(Gemm::nn(a, p, y)).unwrap();
            rec.push(Correlate { x: a, y, statistics, origin: None, hebbian: None, splits: 1 }).unwrap();
        }
        let context = Context::open(&DeviceChoice::Best, LimitPolicy::from_env()).expect("the tests need an adapter");
        let options = Options { fuse: false, share_memory: false, force: None };
        let plan = Plan::new(rec, &context.profile(), options).unwrap();
        let gpu = Gpu::blocking(context, plan).unwrap();
        let writes: Vec<&wgpu::Buffer> = gpu.phases[Phase::Train as usize].iter().flat_map(|d| &d.writes).collect();
        assert!(writes.len() > 9, "nothing stands in for an absent output");
        for (at, buffer) in writes.iter().enumerate() {
            assert!(!writes[..at].contains(buffer), "two dispatches write one buffer");
        }
    }

    /// A kernel would read words as floats, and say nothing.
    #[test]
    fn an_operand_of_another_element_type_is_refused() {
        let mut rec = Recording::new(1);
        let (a, b) = (rec.state("a", 4, 4, Dtype::F32), rec.state("b", 4, 4, Dtype::U32));
        let out = rec.scratch("out", 4, 4);
        rec.push(Add { a, b, out }).unwrap();
        let context = Context::open(&DeviceChoice::Best, LimitPolicy::from_env()).expect("the tests need an adapter");
        let plan = Plan::new(rec, &context.profile(), Options::default()).unwrap();
        let message = Gpu::blocking(context, plan).err().expect("b holds words").to_string();
        assert!(message.contains("b has elements of another type"), "{message}");
    }
}
