//! Parameter groups: every tensor of a group in one row, so that one dispatch updates them all.

use super::OptimizerSpec;
use crate::ops::{Dtype, Optimize, Recording, Role, ShapeError, Tensor};

/// Elements at which a member may start: 256 bytes, WebGPU's largest alignment of a binding.
const ALIGNMENT: u32 = 64;

/// Most elements of a group: 4 GiB, more than any adapter binds at once, and far from where 32-bit offsets end.
pub const MOST_ELEMENTS: u64 = 1 << 30;

/// A learned tensor and its gradient.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Current value.
    pub value: Tensor,
    /// Gradient of the mean loss, written anew in every step.
    pub gradient: Tensor,
}

/// Collects the members of a group, then lays them out.
#[derive(Clone, Debug, Default)]
pub struct GroupBuilder {
    members: Vec<(String, u32, u32, u32)>,
    length: u64,
}

impl GroupBuilder {
    /// Reserves a rows x cols member and says which one it will be.
    pub fn add(&mut self, name: impl Into<String>, rows: u32, cols: u32) -> usize {
        // An offset that does not fit belongs to a group that is over `MOST_ELEMENTS`, and never laid out.
        self.members.push((name.into(), rows, cols, self.length as u32));
        self.length += (u64::from(rows) * u64::from(cols)).next_multiple_of(ALIGNMENT.into());
        self.members.len() - 1
    }

    /// Elements of all members so far, padding included; at most [`MOST_ELEMENTS`] can be laid out.
    pub fn elements(&self) -> u64 {
        self.length
    }

    /// Allocates values, gradients and moments. `None` for a group without members.
    pub fn finish(self, recording: &mut Recording, name: &str, index: u32, spec: &OptimizerSpec) -> Option<Group> {
        if self.members.is_empty() {
            return None;
        }
        let mut row = |what: &str| recording.state(format!("{name}.{what}"), 1, self.length as u32, Dtype::F32);
        let (values, gradients) = (row("values"), row("gradients"));
        let mut moments = [None; 3];
        for (moment, what) in moments.iter_mut().zip(["moment1", "moment2", "moment3"]).take(spec.update().moments()) {
            *moment = Some(row(what));
        }
        let members = self
            .members
            .iter()
            .map(|(member, rows, cols, offset)| Parameter {
                value: recording.view(member.clone(), values, *offset, *rows, *cols),
                gradient: recording.view(format!("{member}.gradient"), gradients, *offset, *rows, *cols),
            })
            .collect();
        Some(Group { index, spec: spec.clone(), values, gradients, moments, members })
    }
}

/// A group of parameters that one optimizer updates.
#[derive(Clone, Debug)]
pub struct Group {
    index: u32,
    spec: OptimizerSpec,
    values: Tensor,
    gradients: Tensor,
    moments: [Option<Tensor>; 3],
    members: Vec<Parameter>,
}

impl Group {
    /// The member that [`GroupBuilder::add`] numbered so.
    pub fn member(&self, index: usize) -> Parameter {
        self.members[index]
    }

    /// Moment tensors, which a checkpoint must hold beside the values.
    pub fn moments(&self) -> impl Iterator<Item = Tensor> {
        self.moments.into_iter().flatten()
    }

    /// Writes the update of all members.
    ///
    /// # Errors
    /// Never for a group made by [`GroupBuilder::finish`].
    pub fn record(&self, recording: &mut Recording, fault: Tensor) -> Result<(), ShapeError> {
        recording.role(Role::Update);
        recording.push(Optimize {
            update: self.spec.update(),
            group: self.index,
            clamp: self.spec.clamp,
            values: self.values,
            gradients: self.gradients,
            moments: self.moments,
            fault,
        })
    }
}
