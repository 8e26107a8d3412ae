//! Executors for threads that may wait.

use std::future::Future;
use std::ops::{Deref, DerefMut, Range};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::{Driver, ExecuteError, Executor, OpTimes};
use crate::ops::{Phase, StepState, View};

/// An executor whose methods wait until they are done. It drives the device meanwhile.
pub struct Blocking<E: ?Sized = dyn Executor> {
    driver: Driver,
    executor: E,
}

impl<E: Executor> Blocking<E> {
    /// Waits for this executor from now on.
    pub fn new(executor: E) -> Blocking<E> {
        Blocking { driver: executor.driver(), executor }
    }
}

impl<E: Executor + ?Sized> Blocking<E> {
    /// The output of a future that the executor makes, once it is there.
    pub fn wait<'a, F: Future>(&'a mut self, work: impl FnOnce(&'a mut E) -> F) -> F::Output {
        drive(work(&mut self.executor), &self.driver)
    }

    /// [`Executor::write`].
    ///
    /// # Errors
    /// If the device fails.
    pub fn write(&mut self, tensor: View, values: &[f64]) -> Result<(), ExecuteError> {
        self.wait(|executor| executor.write(tensor, values))
    }

    /// [`Executor::write_bytes`].
    ///
    /// # Errors
    /// If the device fails.
    pub fn write_bytes(&mut self, tensor: View, bytes: &[u8]) -> Result<(), ExecuteError> {
        self.wait(|executor| executor.write_bytes(tensor, bytes))
    }

    /// [`Executor::read`].
    ///
    /// # Errors
    /// If the device fails.
    pub fn read(&mut self, tensor: View) -> Result<Vec<f64>, ExecuteError> {
        self.wait(|executor| executor.read(tensor))
    }

    /// [`Executor::run`]: the last steps may still be computed when it returns.
    ///
    /// # Errors
    /// If the device fails.
    pub fn run(&mut self, phase: Phase, steps: &[StepState]) -> Result<(), ExecuteError> {
        self.wait(|executor| executor.run(phase, steps))
    }

    /// [`Executor::run_section`].
    ///
    /// # Errors
    /// If the device fails.
    pub fn run_section(
        &mut self,
        phase: Phase,
        operations: Range<usize>,
        step: &StepState,
    ) -> Result<(), ExecuteError> {
        self.wait(|executor| executor.run_section(phase, operations, step))
    }

    /// [`Executor::profile`].
    ///
    /// # Errors
    /// If the device fails.
    pub fn profile(&mut self, phase: Phase, step: &StepState, rounds: usize) -> Result<OpTimes, ExecuteError> {
        self.wait(|executor| executor.profile(phase, step, rounds))
    }

    /// [`Executor::device`].
    pub fn device(&self) -> String {
        self.executor.device()
    }

    /// [`Executor::is_f64`].
    pub fn is_f64(&self) -> bool {
        self.executor.is_f64()
    }

    /// [`Executor::batch`].
    pub fn batch(&self, phase: Phase) -> usize {
        self.executor.batch(phase)
    }
}

/// What an executor has besides, such as its plan.
impl<E: ?Sized> Deref for Blocking<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.executor
    }
}

impl<E: ?Sized> DerefMut for Blocking<E> {
    fn deref_mut(&mut self) -> &mut E {
        &mut self.executor
    }
}

/// The output of a future, polled again each time that `driver` returns.
pub(crate) fn drive<F: Future>(future: F, driver: impl Fn()) -> F::Output {
    let mut future = pin!(future);
    // Nobody needs to be woken: the driver returns when there may be progress.
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => driver(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;

    use super::*;

    #[test]
    fn a_pending_future_is_driven_until_it_is_ready() {
        let progress = Cell::new(0);
        let future = poll_fn(|_| if progress.get() == 3 { Poll::Ready("done") } else { Poll::Pending });
        assert_eq!(drive(future, || progress.set(progress.get() + 1)), "done");
        assert_eq!(progress.get(), 3, "once more would have waited for nothing");
    }
}
