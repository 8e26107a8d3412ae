//! How long phases and their operations take on a device.
//!
//! Where the device writes timestamps, each timed part is a compute pass of its own with one at either end (which needs
//! no more than `TIMESTAMP_QUERY`). Elsewhere parts are submitted alone and the host's clock runs until they are done.

use std::collections::BTreeSet;
use std::iter::repeat_n;
use std::time::Instant;

use super::error::GpuError;
use super::executor::{Dispatch, Gpu};
use crate::ops::{Access, Kind, Phase, StepState};
use crate::plan::timing::{medians, seconds};
use crate::plan::{Clock, Executor, OpTimes};

/// Parts timed by one set of queries, two each; a set holds 4096.
const PARTS: usize = 1024;

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
    pub fn profile(&mut self, phase: Phase, step: &StepState, rounds: usize) -> Result<OpTimes, GpuError> {
        let states = self.written_states(phase);
        let copies = self.put_aside(&states)?;
        let timed = self.time_operations(phase, step, rounds);
        self.restore(&states, &copies)?;
        Ok(OpTimes { clock: self.context.clock(), seconds: timed? })
    }

    fn time_operations(&mut self, phase: Phase, step: &StepState, rounds: usize) -> Result<Vec<f64>, GpuError> {
        self.write_steps(std::slice::from_ref(step));
        let dispatches = &self.phases[phase as usize];
        let parts: Vec<&[Dispatch]> = dispatches.chunks(1).collect();
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        match self.context.clock() {
            Clock::Device => {
                // The first run of a kernel pays for what its driver has put off.
                self.time_on_device(&parts, 1)?;
                medians(rounds, || self.time_on_device(&parts, 1))
            }
            Clock::Host => {
                let once = parts.iter().map(|part| self.time_on_host(part, 1)).collect::<Result<Vec<_>, _>>()?;
                let repetitions = |first: f64| ((LONG_ENOUGH / first) as u32).clamp(1, MOST_REPETITIONS);
                let timed = || parts.iter().zip(&once).map(|(part, &once)| self.time_on_host(part, repetitions(once)));
                medians(rounds, || timed().collect())
            }
        }
    }

    /// Seconds that one run of the phase takes, from one submission of `repetitions` runs. States change as by any run.
    ///
    /// # Errors
    /// If the device fails.
    pub fn time(&mut self, phase: Phase, step: &StepState, repetitions: u32) -> Result<f64, GpuError> {
        self.write_steps(std::slice::from_ref(step));
        let dispatches: &[Dispatch] = &self.phases[phase as usize];
        match self.context.clock() {
            Clock::Device => Ok(self.time_on_device(&[dispatches], repetitions)?.into_iter().sum()),
            Clock::Host => self.time_on_host(dispatches, repetitions),
        }
    }

    /// Seconds that the host takes to record and submit steps of a phase, in the submissions that
    /// [`crate::plan::Executor::run`] makes of them. The device is idle before each, and waited for outside of the
    /// measure.
    ///
    /// # Errors
    /// If the device fails.
    pub fn time_recording(&mut self, phase: Phase, steps: &[StepState]) -> Result<f64, GpuError> {
        let mut total = 0.0;
        for steps in steps.chunks(self.batch(phase)) {
            self.context.wait(None)?;
            let began = Instant::now();
            self.record(phase, steps);
            total += began.elapsed().as_secs_f64();
            self.context.wait(None)?;
        }
        Ok(total)
    }

    fn time_on_host(&self, dispatches: &[Dispatch], repetitions: u32) -> Result<f64, GpuError> {
        self.context.wait(None)?;
        let took = seconds(|| {
            let mut encoder = self.context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            self.walk(&mut pass, dispatches, repeat_n(0, repetitions as usize));
            drop(pass);
            self.context.queue.submit([encoder.finish()]);
            self.context.wait(None)
        })?;
        Ok(took / f64::from(repetitions))
    }

    /// Seconds of one run of each part.
    fn time_on_device(&self, parts: &[&[Dispatch]], repetitions: u32) -> Result<Vec<f64>, GpuError> {
        let mut all = Vec::with_capacity(parts.len());
        for parts in parts.chunks(PARTS) {
            all.extend(self.time_some_on_device(parts, repetitions)?);
        }
        Ok(all)
    }

    fn time_some_on_device(&self, parts: &[&[Dispatch]], repetitions: u32) -> Result<Vec<f64>, GpuError> {
        let device = &self.context.device;
        let count = 2 * parts.len() as u32;
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
        for (index, part) in parts.iter().enumerate() {
            let first = 2 * index as u32;
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                    query_set: &queries,
                    beginning_of_pass_write_index: Some(first),
                    end_of_pass_write_index: Some(first + 1),
                }),
            });
            self.walk(&mut pass, part, repeat_n(0, repetitions as usize));
        }
        encoder.resolve_query_set(&queries, 0..count, &resolved, 0);
        encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, size);
        self.context.queue.submit([encoder.finish()]);
        staging.map_async(wgpu::MapMode::Read, .., |_| {});
        self.context.wait(None)?;
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

    fn put_aside(&self, states: &[usize]) -> Result<Vec<wgpu::Buffer>, GpuError> {
        let total = states.iter().map(|&state| self.buffers[state].size()).sum();
        let copies = states
            .iter()
            .map(|&state| {
                let bytes = self.buffers[state].size();
                let memory = self.context.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
                let copy = self.context.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some("state put aside"),
                    size: bytes,
                    usage: wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                });
                match pollster::block_on(memory.pop()) {
                    None => Ok(copy),
                    Some(_) => Err(GpuError::OutOfMemory { what: format!("a copy of buffer {state}"), bytes, total }),
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        self.copy(states.iter().zip(&copies).map(|(&state, copy)| (&self.buffers[state], copy)))?;
        Ok(copies)
    }

    fn restore(&self, states: &[usize], copies: &[wgpu::Buffer]) -> Result<(), GpuError> {
        self.copy(states.iter().zip(copies).map(|(&state, copy)| (copy, &self.buffers[state])))
    }

    fn copy<'a>(&self, pairs: impl Iterator<Item = (&'a wgpu::Buffer, &'a wgpu::Buffer)>) -> Result<(), GpuError> {
        let mut encoder = self.context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (from, to) in pairs {
            encoder.copy_buffer_to_buffer(from, 0, to, 0, from.size());
        }
        self.context.queue.submit([encoder.finish()]);
        self.context.wait(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Context, DeviceChoice, LimitPolicy};
    use crate::ops::{Dtype, Gemm, Recording, Tensor};
    use crate::plan::{Options, Plan};

    const STEP: StepState = StepState { step: 0, cursor: 0, active_rows: 1, groups: [ONE; 2], replicas: Vec::new() };
    const ONE: crate::ops::GroupStep = crate::ops::GroupStep { correction1: 1.0, correction2_root: 1.0 };

    /// `b = a a`, then `a = b b`: every run squares twice.
    fn squares(size: u32) -> (Gpu, Tensor) {
        let mut recording = Recording::new(1);
        let a = recording.state("a", size, size, Dtype::F32);
        recording.begin(Phase::Train);
        let b = recording.scratch("b", size, size);
        recording.push(Gemm::nn(a, a, b)).unwrap();
        recording.push(Gemm::nn(b, b, a)).unwrap();
        let context = Context::open(&DeviceChoice::Best, LimitPolicy::from_env()).expect("an adapter");
        let plan = Plan::new(recording, &context.profile(), Options::default()).unwrap();
        (Gpu::new(context, plan).unwrap(), a)
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
        let part: &[Dispatch] = &gpu.phases[Phase::Train as usize];
        let host = gpu.time_on_host(part, 4).and_then(|_| gpu.time_on_host(part, 4)).unwrap();
        assert!(host > 0.0);
        assert!(gpu.time(Phase::Train, &STEP, 1).unwrap() > 0.0);
        assert!(gpu.time_recording(Phase::Train, &[STEP]).unwrap() > 0.0);
        if gpu.context.has_timestamps() {
            let part: &[Dispatch] = &gpu.phases[Phase::Train as usize];
            let device = gpu.time_on_device(&[part], 4).unwrap()[0];
            assert!(device > host / 20.0 && device < 20.0 * host, "device {device}, host {host}");
        }
    }
}
