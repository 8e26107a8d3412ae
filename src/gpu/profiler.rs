//! How long phases and their operations take on a device.
//!
//! Where the device writes timestamps, each timed sequence of dispatches is a compute pass of its own with one at either
//! end (which needs no more than `TIMESTAMP_QUERY`). Elsewhere it is submitted alone, and the host's clock runs until it is
//! done.

use std::collections::BTreeSet;
use std::iter::repeat_n;

use web_time::Instant;

use super::binding::Dispatch;
use super::error::GpuError;
use super::executor::Gpu;
use crate::ops::{Access, Kind, Phase, StepState};
use crate::plan::timing::medians;
use crate::plan::{Clock, Executor, OpTimes};

/// Sequences of dispatches timed by one set of queries, two each; a set holds 4096.
const SEQUENCES: usize = 1024;

/// An operation timed by the host's clock is repeated until it takes about so many seconds, so that submitting and
/// waiting hardly count ...
const LONG_ENOUGH: f64 = 2e-3;

/// ... but at most so many times.
const MOST_REPETITIONS: u32 = 64;

impl Gpu {
    /// Median seconds of every operation of a phase over `rounds` rounds (at least one).
    ///
    /// States are put aside before and restored afterwards: training goes on to the same bits. Scratch tensors are
    /// overwritten, as by any run of a phase.
    ///
    /// # Errors
    /// If memory for the copy does not suffice or the device fails.
    pub async fn profile(&mut self, phase: Phase, step: &StepState, rounds: usize) -> Result<OpTimes, GpuError> {
        let states = self.written_states(phase);
        let copies = self.put_aside(&states).await?;
        let timed = self.time_operations(phase, step, rounds.max(1)).await;
        self.restore(&states, &copies).await?;
        Ok(OpTimes { clock: self.context.clock(), seconds: timed? })
    }

    async fn time_operations(&self, phase: Phase, step: &StepState, rounds: usize) -> Result<Vec<f64>, GpuError> {
        self.write_steps(std::slice::from_ref(step));
        let each: Vec<&[Dispatch]> = self.phases[phase as usize].chunks(1).collect();
        if each.is_empty() {
            return Ok(Vec::new());
        }
        let mut all = Vec::with_capacity(rounds);
        match self.context.clock() {
            Clock::Device => {
                // The first run of a kernel pays for what its driver has put off.
                self.time_on_device(&each, 1).await?;
                for _ in 0..rounds {
                    all.push(self.time_on_device(&each, 1).await?);
                }
            }
            Clock::Host => {
                let mut repetitions = Vec::with_capacity(each.len());
                for one in &each {
                    let first = self.time_on_host(one, 1).await?;
                    repetitions.push(((LONG_ENOUGH / first) as u32).clamp(1, MOST_REPETITIONS));
                }
                for _ in 0..rounds {
                    let mut round = Vec::with_capacity(each.len());
                    for (one, &repetitions) in each.iter().zip(&repetitions) {
                        round.push(self.time_on_host(one, repetitions).await?);
                    }
                    all.push(round);
                }
            }
        }
        Ok(medians(&all))
    }

    /// Seconds that one run of the phase takes, from one submission of `repetitions` runs. States change as by any run.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn time(&mut self, phase: Phase, step: &StepState, repetitions: u32) -> Result<f64, GpuError> {
        self.write_steps(std::slice::from_ref(step));
        let dispatches: &[Dispatch] = &self.phases[phase as usize];
        match self.context.clock() {
            Clock::Device => Ok(self.time_on_device(&[dispatches], repetitions).await?.into_iter().sum()),
            Clock::Host => self.time_on_host(dispatches, repetitions).await,
        }
    }

    /// Seconds that the host takes to record and submit steps of a phase, in the submissions that
    /// [`crate::plan::Executor::run`] makes of them. The device is idle before each, and waited for outside of the
    /// measure.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn time_recording(&mut self, phase: Phase, steps: &[StepState]) -> Result<f64, GpuError> {
        let mut total = 0.0;
        for steps in steps.chunks(self.batch(phase)) {
            self.context.idle().await?;
            let began = Instant::now();
            let submitted = self.record(phase, steps);
            total += began.elapsed().as_secs_f64();
            self.context.finish(submitted).await?;
        }
        Ok(total)
    }

    async fn time_on_host(&self, dispatches: &[Dispatch], repetitions: u32) -> Result<f64, GpuError> {
        self.context.idle().await?;
        let began = Instant::now();
        let submitted = self.submit_pass(|pass| self.walk(pass, dispatches, repeat_n(0, repetitions as usize)));
        self.context.finish(submitted).await?;
        Ok(began.elapsed().as_secs_f64() / f64::from(repetitions))
    }

    /// Seconds of one run of each sequence.
    async fn time_on_device(&self, sequences: &[&[Dispatch]], repetitions: u32) -> Result<Vec<f64>, GpuError> {
        let mut all = Vec::with_capacity(sequences.len());
        for some in sequences.chunks(SEQUENCES) {
            all.extend(self.time_some_on_device(some, repetitions).await?);
        }
        Ok(all)
    }

    async fn time_some_on_device(&self, sequences: &[&[Dispatch]], repetitions: u32) -> Result<Vec<f64>, GpuError> {
        let device = &self.context.device;
        let count = 2 * sequences.len() as u32;
        let queries = device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("timestamps"),
            ty: wgpu::QueryType::Timestamp,
            count,
        });
        let size = u64::from(count) * u64::from(wgpu::QUERY_SIZE);
        let buffer = |label, usage| {
            let descriptor = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
            device.create_buffer(&descriptor)
        };
        let resolved = buffer("timestamps", wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC);
        let staging = buffer("read timestamps", wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (index, sequence) in sequences.iter().enumerate() {
            let first = 2 * index as u32;
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                    query_set: &queries,
                    beginning_of_pass_write_index: Some(first),
                    end_of_pass_write_index: Some(first + 1),
                }),
            });
            self.walk(&mut pass, sequence, repeat_n(0, repetitions as usize));
        }
        encoder.resolve_query_set(&queries, 0..count, &resolved, 0);
        encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, size);
        let submitted = self.context.submit([encoder.finish()]);
        self.context.map(&staging, submitted).await?;
        let bytes = staging.get_mapped_range(..).map_err(|e| GpuError::Command(format!("timestamps: {e}")))?;
        let tick = 1e-9 * f64::from(self.context.queue.get_timestamp_period());
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
        let span = |pair: &[u8]| word(&pair[8..]).saturating_sub(word(&pair[..8]));
        Ok(bytes.chunks_exact(16).map(|pair| span(pair) as f64 * tick / f64::from(repetitions)).collect())
    }

    /// Buffers of the states that a phase changes.
    fn written_states(&self, phase: Phase) -> Vec<usize> {
        let nodes = self.plan.nodes(phase).iter();
        let written = nodes.flat_map(|node| node.entry.op.operands()).filter(|o| o.access != Access::Read);
        let states = written.filter(|o| self.plan.info(o.tensor).kind != Kind::Scratch);
        let buffers: BTreeSet<usize> =
            states.filter_map(|o| self.plan.placement(o.tensor)).map(|place| place.buffer).collect();
        buffers.into_iter().collect()
    }

    async fn put_aside(&self, states: &[usize]) -> Result<Vec<wgpu::Buffer>, GpuError> {
        let total = states.iter().map(|&state| self.buffers[state].size()).sum();
        let mut copies = Vec::with_capacity(states.len());
        for &state in states {
            let bytes = self.buffers[state].size();
            let memory = self.context.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
            copies.push(self.context.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("state put aside"),
                size: bytes,
                usage: wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            }));
            if memory.pop().await.is_some() {
                return Err(GpuError::OutOfMemory { what: format!("a copy of buffer {state}"), bytes, total });
            }
        }
        self.copy(states.iter().zip(&copies).map(|(&state, copy)| (&self.buffers[state], copy))).await?;
        Ok(copies)
    }

    async fn restore(&self, states: &[usize], copies: &[wgpu::Buffer]) -> Result<(), GpuError> {
        self.copy(states.iter().zip(copies).map(|(&state, copy)| (copy, &self.buffers[state]))).await
    }

    async fn copy<'a>(
        &self,
        pairs: impl Iterator<Item = (&'a wgpu::Buffer, &'a wgpu::Buffer)>,
    ) -> Result<(), GpuError> {
        let mut encoder = self.context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (from, to) in pairs {
            encoder.copy_buffer_to_buffer(from, 0, to, 0, from.size());
        }
        self.context.finish(self.context.submit([encoder.finish()])).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Context, DeviceChoice, LimitPolicy};
    use crate::ops::{Dtype, Gemm, Recording, View};
    use crate::plan::{Blocking, Options, Plan};

    const STEP: StepState = StepState { step: 0, cursor: 0, active_rows: 1, groups: [ONE; 2], replicas: Vec::new() };
    const ONE: crate::ops::GroupStep = crate::ops::GroupStep { correction1: 1.0, correction2_root: 1.0 };

    /// `b = a a`, then `a = b b`: every run squares twice.
    fn squares(size: u32) -> (Blocking<Gpu>, View) {
        let mut recording = Recording::new(1);
        let a = recording.state("a", size, size, Dtype::F32);
        recording.begin(Phase::Train);
        let b = recording.scratch("b", size, size);
        recording.push(Gemm::nn(a, a, b)).unwrap();
        recording.push(Gemm::nn(b, b, a)).unwrap();
        let context = Context::open(&DeviceChoice::Best, LimitPolicy::from_env()).expect("an adapter");
        let plan = Plan::new(recording, &context.profile(), Options::default()).unwrap();
        (Gpu::blocking(context, plan).unwrap(), a)
    }

    #[test]
    fn a_profile_leaves_states_as_they_were() {
        let (mut gpu, a) = squares(24);
        let values: Vec<f64> = (0..24 * 24).map(|i| f64::from(i % 7) / 8.0).collect();
        gpu.write(a, &values).unwrap();
        let times = gpu.profile(Phase::Train, &STEP, 3).unwrap();
        assert_eq!(gpu.read(a).unwrap(), values);
        assert!(times.seconds.len() == 2 && times.seconds.iter().all(|&s| s > 0.0), "{times:?}");
        gpu.run(Phase::Train, &[STEP]).unwrap();
        assert_ne!(gpu.read(a).unwrap(), values, "the phase does change the state");
        assert_eq!(gpu.profile(Phase::Evaluate, &STEP, 3).unwrap().seconds, [0.0; 0]);
    }

    /// Far apart they must not be: a large product drowns what either clock has of its own.
    #[test]
    fn both_clocks_tell_about_the_same_time() {
        let (mut gpu, _) = squares(384);
        gpu.write_steps(&[STEP]);
        let host =
            |gpu: &mut Blocking<Gpu>| gpu.wait(|gpu| gpu.time_on_host(&gpu.phases[Phase::Train as usize], 4)).unwrap();
        let (_, host) = (host(&mut gpu), host(&mut gpu));
        assert!(host > 0.0);
        assert!(gpu.time(Phase::Train, &STEP, 1).unwrap() > 0.0);
        assert!(gpu.time_recording(Phase::Train, &[STEP]).unwrap() > 0.0);
        if gpu.context.has_timestamps() {
            let once = async |gpu: &mut Gpu| gpu.time_on_device(&[&gpu.phases[Phase::Train as usize]], 4).await;
            let device = gpu.wait(once).unwrap()[0];
            assert!(device > host / 20.0 && device < 20.0 * host, "device {device}, host {host}");
        }
    }
}
