//! Tensors between host and device, as bytes.

use super::error::GpuError;
use super::executor::Gpu;
use crate::ops::View;

/// Bytes handed to the queue at once, which bounds the staging memory of a large upload.
const UPLOAD_CHUNK: usize = 16 << 20;

impl Gpu {
    pub(super) fn transfer_error(&self, tensor: View, message: impl Into<String>) -> GpuError {
        GpuError::Transfer { tensor: self.plan.name(tensor).to_owned(), message: message.into() }
    }

    /// Buffer, and for every replica the first byte and the length of its rows of the tensor.
    fn rows(&self, tensor: View) -> Result<(&wgpu::Buffer, Vec<u64>, usize), GpuError> {
        let placement =
            self.plan.placement(tensor).ok_or_else(|| self.transfer_error(tensor, "fused away, it has no memory"))?;
        if !tensor.is_contiguous() {
            return Err(self.transfer_error(tensor, "its rows lie apart; read or write the whole tensor"));
        }
        let size = tensor.dtype.size();
        let stride = u64::from(placement.replica_stride) * size as u64;
        let starts = (0..u64::from(tensor.shape.replicas)).map(|r| placement.offset + r * stride).collect();
        Ok((&self.buffers[placement.buffer], starts, tensor.shape.per_replica() * size))
    }

    pub(super) async fn upload(&self, tensor: View, bytes: &[u8]) -> Result<(), GpuError> {
        let (buffer, starts, length) = self.rows(tensor)?;
        if bytes.len() != starts.len() * length {
            let message = format!("{} bytes were handed over, {} are needed", bytes.len(), starts.len() * length);
            return Err(self.transfer_error(tensor, message));
        }
        for (start, rows) in starts.into_iter().zip(bytes.chunks(length.max(1))) {
            for (at, chunk) in rows.chunks(UPLOAD_CHUNK).enumerate() {
                // The queue takes whole words; only a tensor of bytes can end within one.
                let mut words = chunk.to_vec();
                words.resize(words.len().next_multiple_of(4), 0);
                self.context.queue.write_buffer(buffer, start + (at * UPLOAD_CHUNK) as u64, &words);
            }
            if rows.len() > UPLOAD_CHUNK {
                self.context.idle().await?;
            }
        }
        self.context.check()
    }

    pub(super) async fn download(&self, tensor: View) -> Result<Vec<u8>, GpuError> {
        let (buffer, starts, length) = self.rows(tensor)?;
        let padded = length.next_multiple_of(4) as u64;
        let staging = self.context.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read back"),
            size: padded * starts.len() as u64,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = self.context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (replica, start) in starts.iter().enumerate() {
            encoder.copy_buffer_to_buffer(buffer, *start, &staging, replica as u64 * padded, padded);
        }
        let copied = self.context.submit([encoder.finish()]);
        self.context.map(&staging, copied).await?;
        let view = staging.get_mapped_range(..).map_err(|e| self.transfer_error(tensor, e.to_string()))?;
        Ok(view.chunks(padded as usize).flat_map(|rows| &rows[..length]).copied().collect())
    }
}
