//! Parameter groups: every tensor of a group in one row, so that one dispatch updates them all.

use super::OptimizerSpec;
use crate::ops::{Dtype, Optimize, Recording, Role, ShapeError, Tensor};

/// Elements at which a member may start: 256 bytes, WebGPU's largest alignment of a binding.
const ALIGNMENT: u32 = 64;

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
    length: u32,
}

impl GroupBuilder {
    /// Reserves a rows x cols member and says which one it will be.
    pub fn add(&mut self, name: impl Into<String>, rows: u32, cols: u32) -> usize {
        self.members.push((name.into(), rows, cols, self.length));
        self.length += (rows * cols).next_multiple_of(ALIGNMENT);
        self.members.len() - 1
    }

    /// Allocates values, gradients and moments. `None` for a group without members.
    pub fn finish(self, recording: &mut Recording, name: &str, index: u32, spec: &OptimizerSpec) -> Option<Group> {
        if self.members.is_empty() {
            return None;
        }
        let mut row = |what: &str| recording.state(format!("{name}.{what}"), 1, self.length, Dtype::F32);
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
