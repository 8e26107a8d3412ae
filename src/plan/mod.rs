//! From a recording to something that can run: fused operations, a kernel for each, a place for every tensor.
//!
//! A plan is still plain data. Two executors take it: [`crate::gpu`] and the f64 twin in [`crate::reference`].

#[cfg(not(target_arch = "wasm32"))]
mod blocking;
mod executor;
mod explain;
mod fuse;
mod memory;
mod profile;
mod rounding;
mod select;
mod sequences;
mod splits;
pub(crate) mod timing;
mod tuned;
mod variant;

use std::ops::Range;
use std::sync::Arc;

#[cfg(not(target_arch = "wasm32"))]
pub use blocking::Blocking;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use blocking::drive;
pub use executor::{BoxFuture, Driver, ExecuteError, Executor};
pub use explain::explain;
pub use memory::Placement;
pub use profile::Profile;
pub use rounding::{allowance, relative_error};
pub(crate) use select::BROADCAST_MAX_RANK;
pub use select::{candidates, contenders, select};
pub use timing::{Clock, OpTimes, median, time_table};
pub use tuned::{ShapeClass, Tuned, TunedError};
pub use variant::{UnknownVariant, Variant};

use crate::ops::{Cost, Entry, Op, Phase, Recording, Role, Section, TensorInfo, View};

/// How a plan is made; the defaults are what training uses.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether neighbouring operations are fused.
    pub fuse: bool,
    /// Whether scratch tensors share memory; off, every value of a phase stays readable (`verify`, bisecting).
    pub share_memory: bool,
    /// Replaces the choice of [`select`] where the variant is a candidate (tests, benches).
    pub force: Option<Variant>,
}

impl Default for Options {
    fn default() -> Self {
        Options { fuse: true, share_memory: true, force: None }
    }
}

/// One operation of a plan and the kernel that computes it.
#[derive(Clone, Debug)]
pub struct Node {
    /// The operation with its role and layer.
    pub entry: Entry,
    /// The kernel.
    pub variant: Variant,
}

/// A program ready to run.
#[derive(Clone, Debug)]
pub struct Plan {
    tensors: Arc<[TensorInfo]>,
    named: Arc<[(String, View)]>,
    phases: [Vec<Node>; 3],
    placements: Vec<Option<Placement>>,
    buffers: Vec<u64>,
    replicas: u32,
}

/// Why a recording cannot be planned for an adapter.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PlanError {
    /// A tensor is larger than one binding may be.
    #[error(
        "tensor {name} ({shape}) needs {needed} bytes, and this device takes at most {limit} at once; use fewer \
         replicas (--seeds, --rank; of a sweep --networks), a smaller batch or a narrower network"
    )]
    TensorTooLarge {
        /// Its name.
        name: String,
        /// Its extent.
        shape: String,
        /// Bytes of all replicas.
        needed: u64,
        /// The smaller of the adapter's binding and buffer limits.
        limit: u64,
    },
    /// Products in half precision on an adapter without it.
    #[error("this device does not compute in 16 bits; use train.precision = \"f32\" (or leave it out)")]
    NoHalf,
}

impl Plan {
    /// Plans a recording for an adapter, with the default kernels.
    ///
    /// # Errors
    /// If a tensor does not fit a binding, or the adapter lacks a precision.
    pub fn new(recording: Recording, profile: &Profile, options: Options) -> Result<Plan, PlanError> {
        Plan::tuned(recording, profile, options, &Tuned::default())
    }

    /// Plans a recording for an adapter, with measured kernels where there are any.
    ///
    /// # Errors
    /// If a tensor does not fit a binding, or the adapter lacks a precision.
    pub fn tuned(
        mut recording: Recording,
        profile: &Profile,
        options: Options,
        tuned: &Tuned,
    ) -> Result<Plan, PlanError> {
        if options.fuse {
            for phase in Phase::ALL {
                fuse::fuse(&mut recording, phase, profile);
            }
        }
        for phase in Phase::ALL {
            sequences::cut(&mut recording, phase, profile);
        }
        let is_half = |entry: &Entry| matches!(&entry.op, Op::Gemm(gemm) if gemm.half.is_some());
        if !profile.half && Phase::ALL.into_iter().any(|phase| recording.entries(phase).iter().any(is_half)) {
            return Err(PlanError::NoHalf);
        }
        let phases = Phase::ALL.map(|phase| {
            recording
                .entries(phase)
                .iter()
                .map(|entry| {
                    let forced = options.force.filter(|v| candidates(&entry.op, profile).contains(v));
                    Node { entry: entry.clone(), variant: forced.unwrap_or_else(|| select(&entry.op, profile, tuned)) }
                })
                .collect()
        });
        let (placements, buffers) = memory::place(&recording, profile, options.share_memory)?;
        Ok(Plan {
            tensors: recording.tensors().into(),
            named: recording.named().into(),
            phases,
            placements,
            buffers,
            replicas: recording.replicas(),
        })
    }

    /// Networks side by side.
    pub fn replicas(&self) -> u32 {
        self.replicas
    }

    /// The operations of a phase, in order.
    pub fn nodes(&self, phase: Phase) -> &[Node] {
        &self.phases[phase as usize]
    }

    /// The sections of a phase in order, each with the operations that it covers. One device has nothing to reduce: the
    /// section between a training step's last backward pass and its update is empty.
    pub fn sections(&self, phase: Phase) -> Vec<(Section, Range<usize>)> {
        let mut sections: Vec<(Section, Range<usize>)> = Vec::new();
        for (at, node) in self.nodes(phase).iter().enumerate() {
            let section = node.entry.section;
            if section == Section::Update && sections.last().is_some_and(|(last, _)| *last == Section::Backward) {
                sections.push((Section::Reduce, at..at));
            }
            match sections.last_mut() {
                Some((last, range)) if *last == section => range.end = at + 1,
                _ => sections.push((section, at..at + 1)),
            }
        }
        sections
    }

    /// The choices among these that the plan's operations fall under.
    pub fn uses(&self, tuned: &Tuned) -> Tuned {
        let mut used = Tuned::default();
        for node in self.phases.iter().flatten() {
            let class = ShapeClass::of(&node.entry.op);
            if let Some(variant) = tuned.get(&class) {
                used.insert(class, variant);
            }
        }
        used
    }

    /// Gives one operation another kernel (which must be among its candidates).
    pub(crate) fn set_variant(&mut self, phase: Phase, at: usize, variant: Variant) {
        self.phases[phase as usize][at].variant = variant;
    }

    /// The tensor table.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// What the table knows of a view's tensor.
    pub fn info(&self, view: View) -> &TensorInfo {
        &self.tensors[view.index()]
    }

    /// What reports call a view: its own name if it has one, else its tensor's.
    pub fn name(&self, view: View) -> &str {
        let own = self.named.iter().find(|(_, named)| *named == view);
        own.map_or(&self.info(view).name, |(name, _)| name)
    }

    /// Where a view lies; `None` for a scratch tensor that fusion made unnecessary.
    pub fn placement(&self, view: View) -> Option<Placement> {
        self.placements[view.index()].map(|tensor| tensor.part(view))
    }

    /// Sizes of the buffers to allocate, in bytes.
    pub fn buffers(&self) -> &[u64] {
        &self.buffers
    }

    /// Arithmetic and traffic of a phase, summed over the operations of a role (all if `None`).
    pub fn cost(&self, phase: Phase, role: Option<Role>) -> Cost {
        let mut total = Cost::default();
        for node in self.nodes(phase).iter().filter(|n| role.is_none_or(|r| r == n.entry.role)) {
            total += node.entry.op.cost();
        }
        total
    }
}
