//! The CPU executor: one f64 function an operation, obvious rather than fast.
//!
//! It is the oracle against which every kernel of [`crate::ops`]' vocabulary is tested, and what trains on a machine
//! without an adapter. The files bear the names of those of `src/ops` and `shaders`.

mod attention;
mod autoaugment;
mod ceiling;
mod columns;
mod convolution;
mod correlate;
mod dispatch;
mod elementwise;
mod error;
mod fit;
mod gather;
mod gemm;
mod layernorm;
mod loss;
mod matrix;
mod normalise;
mod optimize;
mod pool;
mod recurrent;
mod rows;
mod storage;
#[cfg(test)]
mod tests;
mod transport;
mod transpose;

use std::future::ready;
use std::ops::Range;
use std::sync::Arc;

pub use error::ReferenceError;

use crate::ops::{Op, Phase, StepState, View};
use crate::plan::timing::{medians, seconds};
use crate::plan::{BoxFuture, Clock, ExecuteError, Executor, OpTimes, Plan};
use dispatch::Replica;
use storage::Storage;

/// Runs a plan in f64 on the CPU. Kernel variants and shared scratch memory mean nothing to it.
#[derive(Clone, Debug)]
pub struct Reference {
    plan: Arc<Plan>,
    storage: Storage,
}

impl Reference {
    /// A plan with all its tensors at zero.
    pub fn new(plan: impl Into<Arc<Plan>>) -> Reference {
        let plan = plan.into();
        Reference { storage: Storage::new(Arc::clone(&plan)), plan }
    }

    /// Overwrites any tensor of the plan: all replicas, row-major.
    ///
    /// # Errors
    /// If the tensor is not of this plan, the number of values is not its own, or it holds integers and a value is
    /// none.
    pub fn set(&mut self, tensor: View, values: &[f64]) -> Result<(), ReferenceError> {
        self.storage.set(tensor, values)
    }

    /// The value of any tensor of the plan, scratch included: all replicas, row-major.
    ///
    /// # Errors
    /// If the tensor is not of this plan.
    pub fn get(&self, tensor: View) -> Result<Vec<f64>, ReferenceError> {
        self.storage.get(tensor)
    }

    /// Computes one operation for all its replicas, from the tensors as they are.
    ///
    /// # Errors
    /// If shapes or element types do not meet, an operand is not of this plan, or the step does not cover the
    /// operation's replicas.
    pub fn execute(&mut self, op: &Op, step: &StepState) -> Result<(), ReferenceError> {
        op.check()?;
        for replica in 0..op.replicas() as usize {
            let outputs = Replica { storage: &self.storage, step, index: replica }.compute(op)?;
            for (tensor, values) in outputs {
                self.storage.put(tensor, replica, &values)?;
            }
        }
        Ok(())
    }
}

/// Nothing has to be waited for: the futures are ready as soon as they are made.
impl Executor for Reference {
    fn device(&self) -> String {
        "CPU reference (f64)".to_owned()
    }

    fn is_f64(&self) -> bool {
        true
    }

    /// Nothing is gained by long batches; short ones keep progress smooth.
    fn batch(&self, _phase: Phase) -> usize {
        16
    }

    fn write<'a>(&'a mut self, tensor: View, values: &'a [f64]) -> BoxFuture<'a, ()> {
        now(self.set(tensor, values))
    }

    fn write_bytes<'a>(&'a mut self, tensor: View, bytes: &'a [u8]) -> BoxFuture<'a, ()> {
        now(self.storage.fill(tensor, bytes))
    }

    fn read(&mut self, tensor: View) -> BoxFuture<'_, Vec<f64>> {
        now(self.get(tensor))
    }

    fn run<'a>(&'a mut self, phase: Phase, steps: &'a [StepState]) -> BoxFuture<'a, ()> {
        let plan = Arc::clone(&self.plan);
        let mut operations = steps.iter().flat_map(|step| plan.nodes(phase).iter().map(move |node| (node, step)));
        now(operations.try_for_each(|(node, step)| self.execute(&node.entry.op, step)))
    }

    fn run_section<'a>(&'a mut self, phase: Phase, operations: Range<usize>, step: &'a StepState) -> BoxFuture<'a, ()> {
        let plan = Arc::clone(&self.plan);
        now(plan.nodes(phase)[operations].iter().try_for_each(|node| self.execute(&node.entry.op, step)))
    }

    fn profile<'a>(&'a mut self, phase: Phase, step: &'a StepState, rounds: usize) -> BoxFuture<'a, OpTimes> {
        let plan = Arc::clone(&self.plan);
        let mut copy = self.clone();
        let mut operation = |op: &Op| seconds(|| copy.execute(op, step));
        let mut round = || plan.nodes(phase).iter().map(|node| operation(&node.entry.op)).collect();
        let all: Result<Vec<Vec<f64>>, _> = (0..rounds.max(1)).map(|_| round()).collect();
        now(all.map(|all| OpTimes { clock: Clock::Host, seconds: medians(&all) }))
    }
}

fn now<'a, T: 'a>(outcome: Result<T, ReferenceError>) -> BoxFuture<'a, T> {
    Box::pin(ready(outcome.map_err(ExecuteError::from)))
}
