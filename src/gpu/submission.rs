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
