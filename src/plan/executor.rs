//! What runs a plan.

use super::OpTimes;
use crate::ops::{Phase, StepState, Tensor};

/// Why an executor could not do as asked. The GPU's causes are in `crate::gpu`.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ExecuteError(#[from] pub Box<dyn std::error::Error + Send + Sync>);

/// Runs the phases of one plan, and lets the host at its tensors in between.
///
/// Values cross as f64, in which both f32 and u32 are exact.
pub trait Executor {
    /// What computes, for reports.
    fn device(&self) -> String;

    /// Whether tensors hold f64 (the reference) or f32.
    fn is_f64(&self) -> bool;

    /// Overwrites a state tensor or view: all replicas, row-major.
    ///
    /// # Errors
    /// If the device fails.
    fn write(&mut self, tensor: Tensor, values: &[f64]) -> Result<(), ExecuteError>;

    /// Overwrites a tensor of bytes.
    ///
    /// # Errors
    /// If the device fails.
    fn write_bytes(&mut self, tensor: Tensor, bytes: &[u8]) -> Result<(), ExecuteError>;

    /// Reads a state tensor, a view, or a tensor kept by the phase that ran last: all replicas, row-major.
    ///
    /// # Errors
    /// If the device fails.
    fn read(&mut self, tensor: Tensor) -> Result<Vec<f64>, ExecuteError>;

    /// Runs a phase once for each state, in order. May return before the device is done.
    ///
    /// # Errors
    /// If the device fails.
    fn run(&mut self, phase: Phase, steps: &[StepState]) -> Result<(), ExecuteError>;

    /// Steps of a phase that are worth handing over in one [`Executor::run`].
    fn batch(&self, phase: Phase) -> usize;

    /// Median seconds of every operation of a phase over `rounds` rounds (at least one). States are afterwards as they
    /// were before; the permutation of the step's epoch must be on the device.
    ///
    /// # Errors
    /// If the device fails.
    fn profile(&mut self, phase: Phase, step: &StepState, rounds: usize) -> Result<OpTimes, ExecuteError>;
}
