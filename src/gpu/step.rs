//! What changes from step to step: one slot of a ring of uniform blocks, bound at a dynamic offset.

use crate::ops::{MAX_REPLICAS, StepState};

/// Steps that one submission can hold.
pub(super) const RING: usize = 64;

/// Bytes of the step's uniform block in `common.wgsl`: header, two groups, replicas.
const STEP_BYTES: usize = 16 + 2 * 16 + MAX_REPLICAS * 32;

/// WebGPU's largest alignment of a uniform offset, so that no adapter needs another layout.
pub(super) const UNIFORM_ALIGNMENT: usize = 256;

const SLOT: usize = STEP_BYTES.next_multiple_of(UNIFORM_ALIGNMENT);

/// The blocks of [`RING`] steps.
#[derive(Debug)]
pub(super) struct StepRing {
    buffer: wgpu::Buffer,
    bound: wgpu::BindGroup,
}

impl StepRing {
    pub(super) fn new(device: &wgpu::Device, layout: &wgpu::BindGroupLayout) -> StepRing {
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("step ring"),
            size: (RING * SLOT) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let size = std::num::NonZeroU64::new(STEP_BYTES as u64);
        let slot = wgpu::BufferBinding { buffer: &buffer, offset: 0, size };
        let bound = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("step"),
            layout,
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(slot) }],
        });
        StepRing { buffer, bound }
    }

    /// Encodes steps, at most [`RING`], for what is submitted next.
    pub(super) fn write(&self, queue: &wgpu::Queue, steps: &[StepState]) {
        let mut slots = vec![0u8; steps.len() * SLOT];
        for (step, slot) in steps.iter().zip(slots.chunks_exact_mut(SLOT)) {
            encode(step, slot);
        }
        queue.write_buffer(&self.buffer, 0, &slots);
    }

    /// Makes a slot the step of the dispatches that follow.
    pub(super) fn bind(&self, pass: &mut wgpu::ComputePass<'_>, slot: usize) {
        pass.set_bind_group(0, &self.bound, &[(slot * SLOT) as u32]);
    }
}

/// The layout of `Now` in `common.wgsl`.
fn encode(step: &StepState, slot: &mut [u8]) {
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
