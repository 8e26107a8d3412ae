//! Waiting for what a device was given to do.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use futures_channel::oneshot;

use super::context::Context;
use super::error::GpuError;

/// Commands in the hands of the device.
#[derive(Debug)]
pub(super) struct Submission {
    index: wgpu::SubmissionIndex,
    done: oneshot::Receiver<()>,
}

impl Context {
    /// Hands commands to the device.
    pub(super) fn submit(&self, commands: impl IntoIterator<Item = wgpu::CommandBuffer>) -> Submission {
        let index = self.queue.submit(commands);
        let (sender, done) = oneshot::channel();
        self.queue.on_submitted_work_done(move || {
            // Whoever does not wait has dropped the receiver.
            let _ = sender.send(());
        });
        Submission { index, done }
    }

    /// Ends when the device has done what it was given.
    ///
    /// # Errors
    /// If it failed, now or before.
    pub(super) async fn finish(&self, Submission { index, done }: Submission) -> Result<(), GpuError> {
        self.until(index, done).await
    }

    /// Ends when the device has done all that it was given.
    ///
    /// # Errors
    /// If it failed, now or before.
    pub(super) async fn idle(&self) -> Result<(), GpuError> {
        self.finish(self.submit([])).await
    }

    /// Lets the host read a buffer that a submission writes.
    ///
    /// # Errors
    /// If the device fails, or cannot show the buffer.
    pub(super) async fn map(&self, staging: &wgpu::Buffer, submission: Submission) -> Result<(), GpuError> {
        let (sender, mapped) = oneshot::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |outcome| {
            let _ = sender.send(outcome);
        });
        self.until(submission.index, mapped).await?.map_err(|error| GpuError::Command(error.to_string()))
    }

    /// What a callback says that comes with the end of a submission. A device that fails may forget its callbacks, so that
    /// its faults end the wait as well.
    async fn until<T>(&self, index: wgpu::SubmissionIndex, mut said: oneshot::Receiver<T>) -> Result<T, GpuError> {
        poll_fn(|cx| {
            let answer = Pin::new(&mut said)
                .poll(cx)
                .map(|answer| answer.map_err(|_| GpuError::Command("it was dropped before it was done".into())));
            if let Err(fault) = self.check() {
                return Poll::Ready(Err(fault));
            }
            if answer.is_pending()
                && let Ok(mut awaited) = self.awaited.lock()
            {
                *awaited = Some(index.clone());
            }
            answer
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context as TaskContext, Waker};

    use crate::gpu::{Context, DeviceChoice, Gpu, LimitPolicy};
    use crate::ops::{Dtype, Duplicate, Phase, Recording, StepState, View};
    use crate::plan::{BoxFuture, Executor, Options, Plan};

    use super::Poll;

    /// Copies `x` to `out`.
    fn copying(context: &Context, value: f64) -> (Gpu, View) {
        let mut recording = Recording::new(1);
        let (x, out) = (recording.state("x", 1, 64, Dtype::F32), recording.state("out", 1, 64, Dtype::F32));
        recording.begin(Phase::Train);
        recording.push(Duplicate { x, out }).unwrap();
        let plan = Plan::new(recording, &context.profile(), Options::default()).unwrap();
        let mut gpu = context.block_on(Gpu::new(context.clone(), plan)).unwrap();
        context.block_on(gpu.write(x, &[value; 64])).unwrap();
        (gpu, out)
    }

    fn is_ready<T>(future: &mut BoxFuture<'_, T>) -> Option<T> {
        match future.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Some(outcome.unwrap()),
            Poll::Pending => None,
        }
    }

    /// A thread that has other things to do polls, and asks the device whenever it likes.
    #[test]
    fn two_programs_wait_for_one_device_without_blocking() {
        let context = Context::open(&DeviceChoice::Best, LimitPolicy::from_env()).expect("the tests need an adapter");
        let ((mut first, a), (mut second, b)) = (copying(&context, 2.0), copying(&context, 3.0));
        let driver = first.driver();
        let step = StepState { step: 0, cursor: 0, active_rows: 1, groups: Default::default(), replicas: Vec::new() };
        let steps = vec![step; 200];
        let mut found = [None, None];
        let mut futures: [BoxFuture<'_, Vec<f64>>; 2] =
            [(&mut first, a), (&mut second, b)].map(|(gpu, out)| -> BoxFuture<'_, Vec<f64>> {
                let steps = &steps;
                Box::pin(async move {
                    gpu.run(Phase::Train, steps).await?;
                    gpu.read(out).await
                })
            });
        let mut asked = 0;
        while found.iter().any(Option::is_none) {
            for (future, found) in futures.iter_mut().zip(&mut found) {
                if found.is_none() {
                    *found = is_ready(future);
                    assert!(asked > 0 || found.is_none(), "what the device has done is known before it was asked");
                }
            }
            driver();
            asked += 1;
        }
        assert_eq!(found, [Some(vec![2.0; 64]), Some(vec![3.0; 64])]);
        assert!(asked < 100, "asked {asked} times: it does not sleep until something is done");
    }
}
