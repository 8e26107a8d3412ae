//! Parameter groups: the tensors that one optimizer updates, in as few rows as bindings allow, a dispatch a row.

use super::OptimizerSpec;
use crate::ops::{Dtype, Optimize, Recording, Role, ShapeError, View};

/// Elements at which a member may start: 256 bytes, WebGPU's largest alignment of a binding.
const ALIGNMENT: u32 = 64;

/// Most bytes of a row of several members, all replicas together: the least binding that WebGPU guarantees.
const ROW_BYTES: u64 = 128 << 20;

/// Most elements of a group: 4 GiB in every replica, and far from where 32-bit offsets end.
pub const MOST_ELEMENTS: u64 = 1 << 30;

/// A tensor that an optimizer updates, and its gradient.
#[derive(Clone, Copy, Debug)]
pub struct Learned {
    /// Current value.
    pub value: View,
    /// Gradient of the mean loss: the first use of the step writes it, later ones add to it.
    pub gradient: View,
}

/// Collects the members of a group, then lays them out.
#[derive(Clone, Debug, Default)]
pub struct GroupBuilder {
    members: Vec<Member>,
}

#[derive(Clone, Debug)]
struct Member {
    name: String,
    rows: u32,
    cols: u32,
}

impl Member {
    /// Elements that it takes of a row.
    fn length(&self) -> u64 {
        (u64::from(self.rows) * u64::from(self.cols)).next_multiple_of(ALIGNMENT.into())
    }
}

impl GroupBuilder {
    /// Reserves a rows x cols member and says which one it will be.
    pub fn add(&mut self, name: impl Into<String>, rows: u32, cols: u32) -> usize {
        self.members.push(Member { name: name.into(), rows, cols });
        self.members.len() - 1
    }

    /// Elements of all members so far, padding included; at most [`MOST_ELEMENTS`] can be laid out.
    pub fn elements(&self) -> u64 {
        self.members.iter().map(Member::length).sum()
    }

    /// Allocates values, gradients and moments. `None` for a group without members.
    pub fn finish(self, recording: &mut Recording, name: &str, index: u32, spec: &OptimizerSpec) -> Option<Group> {
        if self.members.is_empty() {
            return None;
        }
        let shares = self.shares(recording.replicas());
        let (mut rows, mut members) = (Vec::new(), Vec::new());
        for share in &shares {
            // One of several rows is named after its first member.
            let name = if shares.len() == 1 { name.to_owned() } else { format!("{name}.{}", share[0].name) };
            let row = Row::allocate(recording, &name, share, spec);
            let mut offset = 0;
            for member in *share {
                let Member { name, rows, cols } = member;
                let mut window = |suffix: &str, of: View| {
                    let member = of.window(offset, *rows, *cols);
                    recording.name(member, format!("{name}{suffix}"));
                    member
                };
                members.push(Learned { value: window("", row.values), gradient: window(".gradient", row.gradients) });
                offset += member.length() as u32;
            }
            recording.reduce(row.gradients);
            rows.push(row);
        }
        Some(Group { index, spec: spec.clone(), rows, members })
    }

    /// The members of each row, in order. A member that is larger than a row should be has one to itself.
    fn shares(&self, replicas: u32) -> Vec<&[Member]> {
        let most = ROW_BYTES / (4 * u64::from(replicas.max(1)));
        let (mut shares, mut first, mut length) = (Vec::new(), 0, 0);
        for (at, member) in self.members.iter().enumerate() {
            if at > first && length + member.length() > most {
                shares.push(&self.members[first..at]);
                (first, length) = (at, 0);
            }
            length += member.length();
        }
        shares.push(&self.members[first..]);
        shares
    }
}

/// Members that lie side by side in the same tensors, 1 x n each.
#[derive(Clone, Copy, Debug)]
struct Row {
    values: View,
    gradients: View,
    moments: [Option<View>; 3],
}

impl Row {
    fn allocate(recording: &mut Recording, name: &str, members: &[Member], spec: &OptimizerSpec) -> Row {
        let length = members.iter().map(Member::length).sum::<u64>() as u32;
        let values = recording.state(format!("{name}.values"), 1, length, Dtype::F32);
        let gradients = recording.workspace(format!("{name}.gradients"), 1, length, Dtype::F32);
        let mut tensor = |what: &str| recording.state(format!("{name}.{what}"), 1, length, Dtype::F32);
        let names = ["moment1", "moment2", "moment3"];
        let moments = std::array::from_fn(|i| (i < spec.update().moments()).then(|| tensor(names[i])));
        Row { values, gradients, moments }
    }
}

/// A group of parameters that one optimizer updates.
#[derive(Clone, Debug)]
pub struct Group {
    index: u32,
    spec: OptimizerSpec,
    rows: Vec<Row>,
    members: Vec<Learned>,
}

impl Group {
    /// The member that [`GroupBuilder::add`] numbered so.
    pub fn member(&self, index: usize) -> Learned {
        self.members[index]
    }

    /// Writes the update of all members.
    ///
    /// # Errors
    /// Never for a group made by [`GroupBuilder::finish`].
    pub fn record(&self, recording: &mut Recording, fault: View) -> Result<(), ShapeError> {
        recording.role(Role::Update);
        for row in &self.rows {
            recording.push(Optimize {
                update: self.spec.update(),
                group: self.index,
                clamp: self.spec.clamp,
                values: row.values,
                gradients: row.gradients,
                moments: row.moments,
                fault,
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Phase;

    /// Shapes of the rows of values, and the offset of every member in its own.
    fn laid_out(replicas: u32, members: &[(u32, u32)]) -> (Vec<u32>, Vec<u32>) {
        let mut builder = GroupBuilder::default();
        for (index, (rows, cols)) in members.iter().enumerate() {
            assert_eq!(builder.add(format!("w{index}"), *rows, *cols), index);
        }
        let mut recording = Recording::new(replicas);
        let group = builder.finish(&mut recording, "weights", 0, &OptimizerSpec::sgd(1.0)).expect("it has members");
        recording.begin(Phase::Train);
        let fault = recording.state("fault", 1, 1, Dtype::U32);
        group.record(&mut recording, fault).expect("rows are laid out alike");
        assert_eq!(recording.entries(Phase::Train).len(), group.rows.len(), "one update a row");
        for (index, (rows, cols)) in members.iter().enumerate() {
            let Learned { value, gradient } = group.member(index);
            assert!([value, gradient].iter().all(|t| (t.rows(), t.cols()) == (*rows, *cols)));
        }
        let offset = |index: usize| group.member(index).value.offset();
        (group.rows.iter().map(|row| row.values.cols()).collect(), (0..members.len()).map(offset).collect())
    }

    #[test]
    fn members_share_rows_that_the_least_binding_holds() {
        assert_eq!(laid_out(1, &[(3, 50), (1, 3), (8, 8)]), (vec![192 + 64 + 64], vec![0, 192, 256]));
        let mebi = 1 << 20;
        // 32 Mi elements are 128 MiB: one member fills a row, what stands before and behind it has rows of its own.
        assert_eq!(laid_out(1, &[(1, 9), (1024, 32 * 1024), (1, 64)]), (vec![64, 32 * mebi, 64], vec![0, 0, 0]));
        // Replicas share the row's bytes.
        assert_eq!(laid_out(4, &[(2, mebi), (6, mebi), (1, 64)]), (vec![8 * mebi, 64], vec![0, 2 * mebi, 0]));
        // Larger than a row should be, alone.
        assert_eq!(laid_out(8, &[(5, mebi), (1, 64)]), (vec![5 * mebi, 64], vec![0, 0]));
    }
}
