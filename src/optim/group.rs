//! Parameter groups: every tensor of a group in one row, so that one dispatch updates them all.

use super::OptimizerSpec;
use crate::ops::{Accumulate, Dtype, Optimize, Recording, Role, ShapeError, Tensor};

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

    /// Allocates values, gradients and moments, and a second row of gradients where a step takes its batch in `parts`.
    /// `None` for a group without members.
    pub fn finish(
        self,
        recording: &mut Recording,
        name: &str,
        index: u32,
        spec: &OptimizerSpec,
        parts: u32,
    ) -> Option<Group> {
        if self.members.is_empty() {
            return None;
        }
        let mut row = |what: &str| recording.state(format!("{name}.{what}"), 1, self.length as u32, Dtype::F32);
        let (values, gradients) = (row("values"), row("gradients"));
        let later = (parts > 1).then(|| row("later.gradients"));
        let mut moments = [None; 3];
        for (moment, what) in moments.iter_mut().zip(["moment1", "moment2", "moment3"]).take(spec.update().moments()) {
            *moment = Some(row(what));
        }
        let mut view = |suffix: &str, of: Tensor| -> Vec<Tensor> {
            let members = self.members.iter();
            members
                .map(|(name, rows, cols, offset)| recording.view(format!("{name}{suffix}"), of, *offset, *rows, *cols))
                .collect()
        };
        let members = view("", values).into_iter().zip(view(".gradient", gradients));
        let members = members.map(|(value, gradient)| Parameter { value, gradient }).collect();
        let later = later.map(|row| (row, view(".later.gradient", row)));
        Some(Group { index, spec: spec.clone(), values, gradients, later, moments, members })
    }
}

/// A group of parameters that one optimizer updates.
#[derive(Clone, Debug)]
pub struct Group {
    index: u32,
    spec: OptimizerSpec,
    values: Tensor,
    gradients: Tensor,
    // What parts of a batch but the first write: the row and the members' windows.
    later: Option<(Tensor, Vec<Tensor>)>,
    moments: [Option<Tensor>; 3],
    members: Vec<Parameter>,
}

impl Group {
    /// The member that [`GroupBuilder::add`] numbered so.
    pub fn member(&self, index: usize) -> Parameter {
        self.members[index]
    }

    /// Where a part of a batch after the first writes the gradient that the first part writes here.
    pub fn later(&self, gradient: Tensor) -> Option<Tensor> {
        let at = self.members.iter().position(|member| member.gradient == gradient)?;
        self.later.as_ref().map(|(_, windows)| windows[at])
    }

    /// Adds what a part of a batch after the first has written.
    ///
    /// # Errors
    /// Never for a group made by [`GroupBuilder::finish`].
    pub fn accumulate(&self, recording: &mut Recording) -> Result<(), ShapeError> {
        recording.role(Role::Update);
        let Some((later, _)) = self.later else { return Ok(()) };
        recording.push(Accumulate { x: later, out: self.gradients })
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
