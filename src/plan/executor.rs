//! What runs a plan.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;

use super::OpTimes;
use crate::ops::{Phase, StepState, View};

/// Why an executor could not do as asked. The GPU's causes are in `crate::gpu`.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ExecuteError(#[from] pub Box<dyn std::error::Error + Send + Sync>);

/// What an executor will have done or read; it starts when it is first polled, and stays on its thread.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, ExecuteError>> + 'a>>;

/// What lets a device go on while one of its executor's futures is pending: each call waits until there may be progress.
/// In a browser the event loop does that, and the call nothing.
pub type Driver = Box<dyn Fn()>;

/// Runs the phases of one plan, and lets the host at its tensors in between.
///
/// Whatever may have to wait for a device returns a future, and no method waits itself. Where a thread may,
/// `plan::Blocking` has the same methods without futures. A future that is dropped before its end leaves the tensors in
/// a state that is not specified.
///
/// Values cross as f64, in which both f32 and u32 are exact.
pub trait Executor {
    /// What computes, for reports.
    fn device(&self) -> String;

    /// Whether tensors hold f64 (the reference) or f32.
    fn is_f64(&self) -> bool;

    /// Steps of a phase that are worth handing over in one [`Executor::run`].
    fn batch(&self, phase: Phase) -> usize;

    /// Overwrites a state tensor or view: all replicas, row-major.
    ///
    /// # Errors
    /// If the device fails.
    fn write<'a>(&'a mut self, tensor: View, values: &'a [f64]) -> BoxFuture<'a, ()>;

    /// Overwrites a tensor of bytes.
    ///
    /// # Errors
    /// If the device fails.
    fn write_bytes<'a>(&'a mut self, tensor: View, bytes: &'a [u8]) -> BoxFuture<'a, ()>;

    /// Reads a state tensor, a view, or a tensor kept by the phase that ran last: all replicas, row-major.
    ///
    /// # Errors
    /// If the device fails.
    fn read(&mut self, tensor: View) -> BoxFuture<'_, Vec<f64>>;

    /// Runs a phase once for each state, in order. May end before the device is done.
    ///
    /// # Errors
    /// If the device fails.
    fn run<'a>(&'a mut self, phase: Phase, steps: &'a [StepState]) -> BoxFuture<'a, ()>;

    /// Runs some operations of a phase for one state: a section of [`super::Plan::sections`], so that a scheduler can put something
    /// between two of them.
    ///
    /// # Errors
    /// If the device fails.
    fn run_section<'a>(&'a mut self, phase: Phase, operations: Range<usize>, step: &'a StepState) -> BoxFuture<'a, ()>;

    /// Median seconds of every operation of a phase over `rounds` rounds (at least one). States are afterwards as they
    /// were before; the permutation of the step's epoch must be on the device.
    ///
    /// # Errors
    /// If the device fails.
    fn profile<'a>(&'a mut self, phase: Phase, step: &'a StepState, rounds: usize) -> BoxFuture<'a, OpTimes>;

    /// What a thread calls as long as one of these futures is pending.
    fn driver(&self) -> Driver {
        Box::new(|| ())
    }
}
