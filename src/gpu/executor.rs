//! Runs a plan on a device.
//!
//! Everything that a step needs is built before the first one: buffers, bind groups, one uniform block with the
//! parameters of all operations. A step is then a walk over a flat list of dispatches inside one compute pass; what
//! changes between steps is one slot of a uniform ring, bound at a dynamic offset.
//!
//! Nothing here waits: who polls the futures lets the device go on ([`Executor::driver`]).

use std::ops::Range;
use std::time::Duration;

use web_time::Instant;

use super::binding::{Binder, Dispatch};
use super::context::Context;
use super::error::GpuError;
use super::kernels::{Kernel, lower};
use super::platform;
use super::step::{RING, StepRing};
use super::submission::Submission;
use crate::ops::{Dtype, Op, Phase, StepState, View};
use crate::plan::{BoxFuture, Driver, Executor, OpTimes, Plan};

/// Arithmetic worth one submission: long enough to hide the cost of submitting, short enough that Ctrl-C, progress
/// and operating systems with a watchdog do not wait.
const FLOPS_PER_SUBMISSION: u64 = 1 << 30;

/// A plan on a device.
pub struct Gpu {
    pub(super) context: Context,
    pub(super) plan: Plan,
    pub(super) buffers: Vec<wgpu::Buffer>,
    pub(super) phases: [Vec<Dispatch>; 3],
    ring: StepRing,
    in_flight: Option<Submission>,
}

impl Gpu {
    /// Allocates the plan's buffers, all zero, and builds its pipelines and bind groups.
    ///
    /// # Errors
    /// If memory does not suffice or a shader is refused.
    pub async fn new(context: Context, plan: Plan) -> Result<Gpu, GpuError> {
        let device = &context.device;
        let buffers = allocate(&context, &plan).await?;
        let ring = StepRing::new(device, &context.pipelines.step);
        let profile = context.profile();
        let kernels: Vec<(Op, Kernel)> = Phase::ALL
            .iter()
            .flat_map(|&phase| plan.nodes(phase))
            .map(|node| (node.entry.op.clone(), lower(&node.entry.op, node.variant, &profile)))
            .collect();
        let keys = kernels.iter().map(|(_, kernel)| kernel.key.clone()).collect();
        let began = Instant::now();
        let pipelines = context.pipelines.build(device, keys).await?;
        tracing::debug!(
            adapter = context.describe(),
            buffers = plan.buffers().len(),
            bytes = plan.buffers().iter().sum::<u64>(),
            operations = kernels.len(),
            pipelines = pipelines.len(),
            compiled_in = ?began.elapsed(),
            "program built"
        );
        let binder = Binder { context: &context, plan: &plan, buffers: &buffers, pipelines: &pipelines };
        let mut dispatches = binder.bind(&kernels).await?.into_iter();
        let phases = Phase::ALL.map(|phase| dispatches.by_ref().take(plan.nodes(phase).len()).collect());
        context.check()?;
        Ok(Gpu { context, plan, buffers, phases, ring, in_flight: None })
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
        self.ring.write(&self.context.queue, steps);
    }

    /// Hands steps over in one submission.
    pub(super) fn record(&self, phase: Phase, steps: &[StepState]) -> Submission {
        self.write_steps(steps);
        self.submit_pass(|pass| self.walk(pass, &self.phases[phase as usize], 0..steps.len()))
    }

    /// Hands one compute pass over.
    pub(super) fn submit_pass(&self, record: impl FnOnce(&mut wgpu::ComputePass<'_>)) -> Submission {
        let mut encoder = self.context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        record(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()));
        self.context.submit([encoder.finish()])
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
            self.ring.bind(pass, slot);
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

    async fn run_steps(&mut self, phase: Phase, steps: &[StepState]) -> Result<(), GpuError> {
        for chunk in steps.chunks(self.batch(phase)) {
            let submitted = self.record(phase, chunk);
            // One submission computes while the next is recorded; more would only delay Ctrl-C and pile up memory.
            if let Some(previous) = self.in_flight.replace(submitted) {
                self.context.finish(previous).await?;
            }
            self.context.check()?;
        }
        Ok(())
    }

    /// Hands the operations of one section over.
    async fn run_operations(
        &mut self,
        phase: Phase,
        operations: Range<usize>,
        step: &StepState,
    ) -> Result<(), GpuError> {
        self.write_steps(std::slice::from_ref(step));
        let dispatches = &self.phases[phase as usize][operations];
        let submitted = self.submit_pass(|pass| self.walk(pass, dispatches, 0..1));
        if let Some(previous) = self.in_flight.replace(submitted) {
            self.context.finish(previous).await?;
        }
        self.context.check()
    }

    /// Runs one operation of a phase so many times, waits, and returns how long that took.
    pub(super) async fn repeat(&mut self, phase: Phase, at: usize, times: usize) -> Result<Duration, GpuError> {
        let began = Instant::now();
        let submitted = self.submit_pass(|pass| {
            let dispatch = &self.phases[phase as usize][at];
            self.ring.bind(pass, 0);
            pass.set_pipeline(&dispatch.pipeline);
            pass.set_bind_group(1, &dispatch.tensors, &[]);
            let [x, y, z] = dispatch.grid;
            for _ in 0..times {
                pass.dispatch_workgroups(x, y, z);
            }
        });
        self.context.finish(submitted).await?;
        Ok(began.elapsed())
    }
}

impl Executor for Gpu {
    fn device(&self) -> String {
        self.context.describe()
    }

    fn is_f64(&self) -> bool {
        false
    }

    fn batch(&self, phase: Phase) -> usize {
        let flops = self.plan.cost(phase, None).flops.max(1);
        ((FLOPS_PER_SUBMISSION / flops) as usize).clamp(1, RING)
    }

    fn write<'a>(&'a mut self, tensor: View, values: &'a [f64]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let bytes: Vec<u8> = match tensor.dtype {
                Dtype::F32 => values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect(),
                Dtype::U32 => values.iter().flat_map(|&v| (v as u32).to_le_bytes()).collect(),
                Dtype::U8 => return Err(self.transfer_error(tensor, "holds bytes; use write_bytes").into()),
            };
            Ok(self.upload(tensor, &bytes).await?)
        })
    }

    fn write_bytes<'a>(&'a mut self, tensor: View, bytes: &'a [u8]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if tensor.dtype != Dtype::U8 {
                return Err(self.transfer_error(tensor, "does not hold bytes").into());
            }
            Ok(self.upload(tensor, bytes).await?)
        })
    }

    fn read(&mut self, tensor: View) -> BoxFuture<'_, Vec<f64>> {
        Box::pin(async move {
            let bytes = self.download(tensor).await?;
            let words = || bytes.chunks_exact(4).map(|w| [w[0], w[1], w[2], w[3]]);
            Ok(match tensor.dtype {
                Dtype::F32 => words().map(|w| f64::from(f32::from_le_bytes(w))).collect(),
                Dtype::U32 => words().map(|w| f64::from(u32::from_le_bytes(w))).collect(),
                Dtype::U8 => bytes.iter().map(|&b| f64::from(b)).collect(),
            })
        })
    }

    fn run<'a>(&'a mut self, phase: Phase, steps: &'a [StepState]) -> BoxFuture<'a, ()> {
        Box::pin(async move { Ok(self.run_steps(phase, steps).await?) })
    }

    fn run_section<'a>(&'a mut self, phase: Phase, operations: Range<usize>, step: &'a StepState) -> BoxFuture<'a, ()> {
        Box::pin(async move { Ok(self.run_operations(phase, operations, step).await?) })
    }

    fn profile<'a>(&'a mut self, phase: Phase, step: &'a StepState, rounds: usize) -> BoxFuture<'a, OpTimes> {
        Box::pin(async move { Ok(Gpu::profile(self, phase, step, rounds).await?) })
    }

    fn driver(&self) -> Driver {
        platform::driver(&self.context)
    }
}

async fn allocate(context: &Context, plan: &Plan) -> Result<Vec<wgpu::Buffer>, GpuError> {
    let total = plan.buffers().iter().sum();
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let mut buffers = Vec::with_capacity(plan.buffers().len());
    for (index, &bytes) in plan.buffers().iter().enumerate() {
        let what = format!("buffer {index}");
        let memory = context.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        buffers.push(context.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(&what),
            size: bytes.next_multiple_of(4).max(4),
            usage,
            mapped_at_creation: false,
        }));
        if memory.pop().await.is_some() {
            return Err(GpuError::OutOfMemory { what, bytes, total });
        }
    }
    Ok(buffers)
}
