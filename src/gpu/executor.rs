//! Runs a plan on a device.
//!
//! Everything that a step needs is built before the first one: buffers, bind groups, one uniform block with the
//! parameters of all operations. A step is then a walk over a flat list of dispatches inside one compute pass; what
//! changes between steps is one slot of a uniform ring, bound at a dynamic offset.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::context::Context;
use super::error::GpuError;
use super::kernels::{Kernel, lower};
use super::shaders::{Pipeline, PipelineKey};
use crate::ops::{Access, Dtype, MAX_REPLICAS, Op, Operand, Phase, StepState, Tensor};
use crate::plan::{ExecuteError, Executor, OpTimes, Placement, Plan};

/// Steps that one submission can hold.
const RING: usize = 64;

/// Bytes of the step's uniform block in `common.wgsl`: header, two groups, replicas.
const STEP_BYTES: usize = 16 + 2 * 16 + MAX_REPLICAS * 32;

/// WebGPU's largest alignment of a uniform offset, so that no adapter needs another layout.
const UNIFORM_ALIGNMENT: usize = 256;

const SLOT: usize = STEP_BYTES.next_multiple_of(UNIFORM_ALIGNMENT);

/// Arithmetic worth one submission: long enough to hide the cost of submitting, short enough that Ctrl-C, progress
/// and operating systems with a watchdog do not wait.
const FLOPS_PER_SUBMISSION: u64 = 1 << 30;

/// Bytes handed to the queue at once, which bounds the staging memory of a large upload.
const UPLOAD_CHUNK: usize = 16 << 20;

pub(super) struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    tensors: wgpu::BindGroup,
    grid: [u32; 3],
    #[cfg(test)]
    writes: Vec<wgpu::Buffer>,
}

/// A plan on a device.
pub struct Gpu {
    pub(super) context: Context,
    pub(super) plan: Plan,
    pub(super) buffers: Vec<wgpu::Buffer>,
    ring: wgpu::Buffer,
    step: wgpu::BindGroup,
    pub(super) phases: [Vec<Dispatch>; 3],
    in_flight: Option<wgpu::SubmissionIndex>,
}

impl Gpu {
    /// Allocates the plan's buffers, all zero, and builds its pipelines and bind groups.
    ///
    /// # Errors
    /// If memory does not suffice or a shader is refused.
    pub fn new(context: Context, plan: Plan) -> Result<Gpu, GpuError> {
        let device = &context.device;
        let buffers = allocate(&context, &plan)?;
        let ring = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("step ring"),
            size: (RING * SLOT) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let step = bind_step(device, &context.pipelines.step, &ring);
        let profile = context.profile();
        let kernels: Vec<(Op, Kernel)> = Phase::ALL
            .iter()
            .flat_map(|&phase| plan.nodes(phase))
            .map(|node| (node.entry.op.clone(), lower(&node.entry.op, node.variant, &profile)))
            .collect();
        let keys = kernels.iter().map(|(_, kernel)| kernel.key.clone()).collect();
        let began = Instant::now();
        let pipelines = context.pipelines.build(device, keys)?;
        tracing::debug!(
            adapter = context.describe(),
            buffers = plan.buffers().len(),
            bytes = plan.buffers().iter().sum::<u64>(),
            operations = kernels.len(),
            pipelines = pipelines.len(),
            compiled_in = ?began.elapsed(),
            "program built"
        );
        let mut binder = Binder { context: &context, plan: &plan, buffers: &buffers, pipelines: &pipelines };
        let mut dispatches = binder.bind(&kernels)?.into_iter();
        let phases = Phase::ALL.map(|phase| dispatches.by_ref().take(plan.nodes(phase).len()).collect());
        context.check()?;
        Ok(Gpu { context, plan, buffers, ring, step, phases, in_flight: None })
    }

    /// The device that the plan runs on.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Encodes steps into the ring, for what is submitted next.
    pub(super) fn write_steps(&self, steps: &[StepState]) {
        let mut slots = vec![0u8; steps.len() * SLOT];
        for (step, slot) in steps.iter().zip(slots.chunks_exact_mut(SLOT)) {
            encode_step(step, slot);
        }
        self.context.queue.write_buffer(&self.ring, 0, &slots);
    }

    /// Hands steps over in one submission.
    pub(super) fn record(&self, phase: Phase, steps: &[StepState]) -> wgpu::SubmissionIndex {
        self.write_steps(steps);
        let mut encoder = self.context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            self.walk(&mut pass, &self.phases[phase as usize], 0..steps.len());
        }
        self.context.queue.submit([encoder.finish()])
    }

    /// All dispatches for one slot of the ring after the other.
    pub(super) fn walk(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        dispatches: &[Dispatch],
        slots: impl Iterator<Item = usize>,
    ) {
        let mut current = None;
        for slot in slots {
            pass.set_bind_group(0, &self.step, &[(slot * SLOT) as u32]);
            for dispatch in dispatches {
                if current != Some(&dispatch.pipeline) {
                    pass.set_pipeline(&dispatch.pipeline);
                    current = Some(&dispatch.pipeline);
                }
                pass.set_bind_group(1, &dispatch.tensors, &[]);
                let [x, y, z] = dispatch.grid;
                pass.dispatch_workgroups(x, y, z);
            }
        }
    }

    fn submit(&mut self, phase: Phase, steps: &[StepState]) -> Result<(), GpuError> {
        let submitted = self.record(phase, steps);
        // One submission computes while the next is recorded; more would only delay Ctrl-C and pile up memory.
        if let Some(previous) = self.in_flight.replace(submitted) {
            self.context.wait(Some(previous))?;
        }
        self.context.check()
    }

    /// Runs one operation of a phase so many times, waits, and returns how long that took.
    pub(super) fn repeat(&mut self, phase: Phase, at: usize, times: usize) -> Result<Duration, GpuError> {
        let began = Instant::now();
        let mut encoder = self.context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let dispatch = &self.phases[phase as usize][at];
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_bind_group(0, &self.step, &[0]);
            pass.set_pipeline(&dispatch.pipeline);
            pass.set_bind_group(1, &dispatch.tensors, &[]);
            let [x, y, z] = dispatch.grid;
            for _ in 0..times {
                pass.dispatch_workgroups(x, y, z);
            }
        }
        let submitted = self.context.queue.submit([encoder.finish()]);
        self.context.wait(Some(submitted))?;
        Ok(began.elapsed())
    }

    fn transfer_error(&self, tensor: Tensor, message: impl Into<String>) -> GpuError {
        GpuError::Transfer { tensor: self.plan.name(tensor).to_owned(), message: message.into() }
    }

    /// Buffer, and for every replica the first byte and the length of its part of the tensor.
    fn parts(&self, tensor: Tensor) -> Result<(&wgpu::Buffer, Vec<u64>, usize), GpuError> {
        let placement =
            self.plan.placement(tensor).ok_or_else(|| self.transfer_error(tensor, "fused away, it has no memory"))?;
        if !tensor.is_contiguous() {
            return Err(self.transfer_error(tensor, "its rows lie apart; read or write the whole tensor"));
        }
        let size = tensor.dtype.size();
        let stride = u64::from(placement.replica_stride) * size as u64;
        let starts = (0..u64::from(tensor.shape.replicas)).map(|r| placement.offset + r * stride).collect();
        Ok((&self.buffers[placement.buffer], starts, tensor.shape.per_replica() * size))
    }

    fn upload(&self, tensor: Tensor, bytes: &[u8]) -> Result<(), GpuError> {
        let (buffer, starts, length) = self.parts(tensor)?;
        if bytes.len() != starts.len() * length {
            let message = format!("{} bytes were handed over, {} are needed", bytes.len(), starts.len() * length);
            return Err(self.transfer_error(tensor, message));
        }
        for (start, part) in starts.into_iter().zip(bytes.chunks(length.max(1))) {
            for (at, chunk) in part.chunks(UPLOAD_CHUNK).enumerate() {
                // The queue takes whole words; only a tensor of bytes can end within one.
                let mut words = chunk.to_vec();
                words.resize(words.len().next_multiple_of(4), 0);
                self.context.queue.write_buffer(buffer, start + (at * UPLOAD_CHUNK) as u64, &words);
            }
            if part.len() > UPLOAD_CHUNK {
                self.context.queue.submit([]);
                self.context.wait(None)?;
            }
        }
        self.context.check()
    }

    fn download(&self, tensor: Tensor) -> Result<Vec<u8>, GpuError> {
        let (buffer, starts, length) = self.parts(tensor)?;
        let padded = length.next_multiple_of(4) as u64;
        let staging = self.context.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read back"),
            size: padded * starts.len() as u64,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = self.context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (replica, start) in starts.iter().enumerate() {
            encoder.copy_buffer_to_buffer(buffer, *start, &staging, replica as u64 * padded, padded);
        }
        self.context.queue.submit([encoder.finish()]);
        staging.map_async(wgpu::MapMode::Read, .., |_| {});
        self.context.wait(None)?;
        let view = staging.get_mapped_range(..).map_err(|e| self.transfer_error(tensor, e.to_string()))?;
        Ok(view.chunks(padded as usize).flat_map(|part| &part[..length]).copied().collect())
    }
}

impl Executor for Gpu {
    fn device(&self) -> String {
        self.context.describe()
    }

    fn is_f64(&self) -> bool {
        false
    }

    fn write(&mut self, tensor: Tensor, values: &[f64]) -> Result<(), ExecuteError> {
        let bytes: Vec<u8> = match tensor.dtype {
            Dtype::F32 => values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect(),
            Dtype::U32 => values.iter().flat_map(|&v| (v as u32).to_le_bytes()).collect(),
            Dtype::U8 => return Err(self.transfer_error(tensor, "holds bytes; use write_bytes").into()),
        };
        Ok(self.upload(tensor, &bytes)?)
    }

    fn write_bytes(&mut self, tensor: Tensor, bytes: &[u8]) -> Result<(), ExecuteError> {
        if tensor.dtype != Dtype::U8 {
            return Err(self.transfer_error(tensor, "does not hold bytes").into());
        }
        Ok(self.upload(tensor, bytes)?)
    }

    fn read(&mut self, tensor: Tensor) -> Result<Vec<f64>, ExecuteError> {
        let bytes = self.download(tensor)?;
        let words = || bytes.chunks_exact(4).map(|w| [w[0], w[1], w[2], w[3]]);
        Ok(match tensor.dtype {
            Dtype::F32 => words().map(|w| f64::from(f32::from_le_bytes(w))).collect(),
            Dtype::U32 => words().map(|w| f64::from(u32::from_le_bytes(w))).collect(),
            Dtype::U8 => bytes.iter().map(|&b| f64::from(b)).collect(),
        })
    }

    fn run(&mut self, phase: Phase, steps: &[StepState]) -> Result<(), ExecuteError> {
        for chunk in steps.chunks(self.batch(phase)) {
            self.submit(phase, chunk)?;
        }
        Ok(())
    }

    fn batch(&self, phase: Phase) -> usize {
        let flops = self.plan.cost(phase, None).flops.max(1);
        ((FLOPS_PER_SUBMISSION / flops) as usize).clamp(1, RING)
    }

    fn profile(&mut self, phase: Phase, step: &StepState, rounds: usize) -> Result<OpTimes, ExecuteError> {
        Ok(Gpu::profile(self, phase, step, rounds)?)
    }
}

fn allocate(context: &Context, plan: &Plan) -> Result<Vec<wgpu::Buffer>, GpuError> {
    let total = plan.buffers().iter().sum();
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    plan.buffers()
        .iter()
        .enumerate()
        .map(|(index, &bytes)| {
            let what = format!("buffer {index}");
            let memory = context.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
            let buffer = context.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(&what),
                size: bytes.next_multiple_of(4).max(4),
                usage,
                mapped_at_creation: false,
            });
            match pollster::block_on(memory.pop()) {
                None => Ok(buffer),
                Some(_) => Err(GpuError::OutOfMemory { what, bytes, total }),
            }
        })
        .collect()
}

fn bind_step(device: &wgpu::Device, layout: &wgpu::BindGroupLayout, ring: &wgpu::Buffer) -> wgpu::BindGroup {
    let slot = wgpu::BufferBinding { buffer: ring, offset: 0, size: std::num::NonZeroU64::new(STEP_BYTES as u64) };
    device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some("step"),
        layout,
        entries: &[wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(slot) }],
    })
}

/// The layout of `Now` in `common.wgsl`.
fn encode_step(step: &StepState, slot: &mut [u8]) {
    let mut words: Vec<[u8; 4]> = Vec::with_capacity(STEP_BYTES / 4);
    words.extend([step.step, step.cursor, step.active_rows, 0].map(u32::to_le_bytes));
    for group in &step.groups {
        words.extend([group.correction1, group.correction2_root, 0.0, 0.0].map(|v| (v as f32).to_le_bytes()));
    }
    for replica in &step.replicas {
        let [rate, decay] = [replica.rate, replica.decay];
        words.extend([rate[0], rate[1], decay[0], decay[1]].map(|v| (v as f32).to_le_bytes()));
        words.extend([replica.seed, 0, 0, 0].map(u32::to_le_bytes));
    }
    for (word, bytes) in words.iter().zip(slot.chunks_exact_mut(4)) {
        bytes.copy_from_slice(word);
    }
}

/// Turns kernels into dispatches: parameters into one uniform buffer, operands into bind groups.
struct Binder<'a> {
    context: &'a Context,
    plan: &'a Plan,
    buffers: &'a [wgpu::Buffer],
    pipelines: &'a HashMap<PipelineKey, Pipeline>,
}

impl Binder<'_> {
    fn bind(&mut self, kernels: &[(Op, Kernel)]) -> Result<Vec<Dispatch>, GpuError> {
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
        kernels
            .iter()
            .enumerate()
            .map(|(index, (op, kernel))| {
                let block = wgpu::BufferBinding {
                    buffer: &params,
                    offset: (index * slot) as u64,
                    size: std::num::NonZeroU64::new(packed[index].len() as u64),
                };
                self.dispatch(op, kernel, block, &absent_input)
            })
            .collect()
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

    fn dispatch(
        &self,
        op: &Op,
        kernel: &Kernel,
        params: wgpu::BufferBinding<'_>,
        absent_input: &wgpu::Buffer,
    ) -> Result<Dispatch, GpuError> {
        let entry_point = kernel.key.entry_point()?;
        let operands = op.operands();
        let mut bound = Vec::new();
        for binding in entry_point.bindings {
            let operand = operands.iter().find(|o| o.name == binding.name);
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
        if let Some(error) = pollster::block_on(scope.pop()) {
            return Err(kernel.key.wrong(error.to_string()));
        }
        let limit = self.context.device.limits().max_compute_workgroups_per_dimension;
        let across = kernel.groups.clamp(1, limit);
        let grid = [across, kernel.groups.div_ceil(across).max(1), op.replicas()];
        Ok(Dispatch {
            pipeline: pipeline.pipeline.clone(),
            tensors,
            grid,
            #[cfg(test)]
            writes: bound.into_iter().filter(|(binding, ..)| binding.writable).map(|(.., buffer)| buffer).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{DeviceChoice, LimitPolicy};
    use crate::ops::{Correlate, Gemm, Recording};
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
            rec.push(Correlate { x: a, y, statistics, origin: None, hebbian: None, parts: 1 }).unwrap();
        }
        let context = Context::open(&DeviceChoice::Best, LimitPolicy::from_env()).expect("the tests need an adapter");
        let options = Options { fuse: false, share_memory: false, force: None };
        let plan = Plan::new(rec, &context.profile(), options).unwrap();
        let gpu = Gpu::new(context, plan).unwrap();
        let writes: Vec<&wgpu::Buffer> = gpu.phases[Phase::Train as usize].iter().flat_map(|d| &d.writes).collect();
        assert!(writes.len() > 9, "nothing stands in for an absent output");
        for (at, buffer) in writes.iter().enumerate() {
            assert!(!writes[..at].contains(buffer), "two dispatches write one buffer");
        }
    }
}
