//! Buffers by lifetime.

use super::{PlanError, Profile};
use crate::ops::{Kind, Phase, Recording, TensorInfo, View};

/// Where a tensor or a part of it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Index of the buffer.
    pub buffer: usize,
    /// First byte of the first replica.
    pub offset: u64,
    /// Bytes from the first element of the first replica to the last element of the last.
    pub span: u64,
    /// Elements from one replica to the next; 0 when all share one.
    pub replica_stride: u32,
}

impl Placement {
    /// Where a part of the tensor lies.
    pub(super) fn part(self, view: View) -> Placement {
        let size = view.dtype.size() as u64;
        let before_last = u64::from(view.shape.replicas.saturating_sub(1)) * u64::from(self.replica_stride);
        let span = (before_last + view.reach() as u64) * size;
        Placement { offset: self.offset + u64::from(view.offset()) * size, span, ..self }
    }
}

/// Gives every state tensor a buffer of its own, and every scratch tensor one that is free while it lives.
///
/// A buffer never holds two tensors of one operation: WebGPU forbids reading and writing a buffer in one dispatch. Phases
/// run one after the other, so they share the pool.
pub(super) fn place(
    recording: &Recording,
    profile: &Profile,
    share: bool,
) -> Result<(Vec<Option<Placement>>, Vec<u64>), PlanError> {
    let mut placements = vec![None; recording.tensors().len()];
    let mut buffers = Vec::new();
    for info in recording.tensors().iter().filter(|t| t.kind != Kind::Scratch) {
        check_size(info, profile)?;
        placements[info.tensor.index()] = Some(whole(info.tensor, buffers.len(), recording));
        buffers.push(info.tensor.bytes());
    }
    let mut pool: Vec<usize> = Vec::new();
    for phase in Phase::ALL {
        let mut free = pool.clone();
        for event in lifetimes(recording, phase) {
            match event {
                Event::Born(tensor) => {
                    check_size(recording.info(tensor), profile)?;
                    let slot = if share { take_best(&mut free, &buffers, tensor.bytes()) } else { None };
                    let slot = slot.unwrap_or_else(|| {
                        buffers.push(0);
                        pool.push(buffers.len() - 1);
                        buffers.len() - 1
                    });
                    buffers[slot] = buffers[slot].max(tensor.bytes());
                    placements[tensor.index()] = Some(whole(tensor, slot, recording));
                }
                Event::Dead(tensor) => {
                    free.extend(placements[tensor.index()].map(|p| p.buffer));
                }
            }
        }
    }
    Ok((placements, buffers))
}

fn whole(tensor: View, buffer: usize, recording: &Recording) -> Placement {
    let shared = tensor.shape.replicas == 1 && recording.replicas() > 1;
    let stride = if shared { 0 } else { tensor.shape.per_replica() as u32 };
    Placement { buffer, offset: 0, span: tensor.bytes(), replica_stride: stride }
}

fn check_size(info: &TensorInfo, profile: &Profile) -> Result<(), PlanError> {
    let (needed, limit) = (info.tensor.bytes(), profile.max_binding_bytes);
    if needed > limit {
        let (name, shape) = (info.name.clone(), info.tensor.shape.to_string());
        return Err(PlanError::TensorTooLarge { name, shape, needed, limit });
    }
    Ok(())
}

/// The smallest free buffer that holds so many bytes, else the largest one (it will grow).
fn take_best(free: &mut Vec<usize>, buffers: &[u64], bytes: u64) -> Option<usize> {
    let fits = (0..free.len()).filter(|&i| buffers[free[i]] >= bytes).min_by_key(|&i| buffers[free[i]]);
    let best = fits.or_else(|| (0..free.len()).max_by_key(|&i| buffers[free[i]]))?;
    Some(free.swap_remove(best))
}

enum Event {
    Born(View),
    Dead(View),
}

/// Births and deaths of a phase's scratch tensors in the order of its operations; kept tensors do not die.
fn lifetimes(recording: &Recording, phase: Phase) -> Vec<Event> {
    let entries = recording.entries(phase);
    let mut last = std::collections::HashMap::new();
    for (at, entry) in entries.iter().enumerate() {
        for operand in entry.op.operands() {
            last.insert(operand.tensor.index(), at);
        }
    }
    let kept: Vec<usize> = recording.kept(phase).iter().map(|t| t.index()).collect();
    let mut seen = std::collections::HashSet::new();
    let mut events = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        let tensors = entry.op.operands().into_iter().map(|o| recording.info(o.tensor));
        let mut touched: Vec<View> = Vec::new();
        for info in tensors.filter(|info| info.kind == Kind::Scratch) {
            if !touched.contains(&info.tensor) {
                touched.push(info.tensor);
            }
        }
        events.extend(touched.iter().filter(|t| seen.insert(t.index())).map(|&t| Event::Born(t)));
        let dead = touched.into_iter().filter(|t| last[&t.index()] == at && !kept.contains(&t.index()));
        events.extend(dead.map(Event::Dead));
    }
    events
}
