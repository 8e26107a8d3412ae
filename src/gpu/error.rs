//! What can go wrong on a device.

use crate::plan::ExecuteError;

/// A failure of the adapter, the device or a shader; says what was needed, what there was, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// The system offers no adapter.
    #[error(
        "no GPU adapter was found; install a Vulkan, Metal or DX12 driver (a software one on Debian and Ubuntu: \
         apt-get install mesa-vulkan-drivers libvulkan1), or pass --device reference for the slow CPU executor"
    )]
    NoAdapter,
    /// No adapter answers to the name or index.
    #[error("no adapter matches --device {wanted:?}; there are: {available}")]
    NoSuchAdapter {
        /// What was asked for.
        wanted: String,
        /// Index and name of each.
        available: String,
    },
    /// The adapter would not open a device.
    #[error("{adapter} refused to open a device: {source}; update its driver or choose another with --device")]
    Open {
        /// Adapter name.
        adapter: String,
        /// Cause.
        source: wgpu::RequestDeviceError,
    },
    /// The adapter is below WebGPU's guaranteed limits.
    #[error("{adapter} offers {limit} = {offered}, and this engine needs {needed}; choose another with --device")]
    Limit {
        /// Adapter name.
        adapter: String,
        /// WebGPU's name of the limit.
        limit: &'static str,
        /// What there is.
        offered: u64,
        /// What is needed.
        needed: u64,
    },
    /// Memory for the program's tensors could not be had.
    #[error(
        "out of device memory: {what} needs {bytes} bytes of {total} bytes for the whole program; use fewer replicas \
         (--seeds, --rank; of a sweep --networks), a smaller batch or another --device"
    )]
    OutOfMemory {
        /// Which allocation failed.
        what: String,
        /// Its size.
        bytes: u64,
        /// All buffers together.
        total: u64,
    },
    /// The device went away.
    #[error(
        "the device was lost ({0}); resume from the last checkpoint with --resume, on another --device if it repeats"
    )]
    Lost(String),
    /// A shader or its pipeline was refused.
    #[error(
        "shader {shader}, entry point {entry}, was refused by the driver: {message}; please report it with the output of `ldfa-gpu devices`"
    )]
    Shader {
        /// File of `shaders/`.
        shader: String,
        /// Function in it.
        entry: String,
        /// The driver's or validator's words.
        message: String,
    },
    /// A tensor's name, shape or access does not fit the shader's binding: a bug in the lowering.
    #[error("shader {shader}, entry point {entry}: {message}")]
    Interface {
        /// File of `shaders/`.
        shader: &'static str,
        /// Function in it.
        entry: String,
        /// What does not fit.
        message: String,
    },
    /// The host handed over or asked for something that the plan does not hold.
    #[error("tensor {tensor}: {message}")]
    Transfer {
        /// View name.
        tensor: String,
        /// What is wrong.
        message: String,
    },
    /// A command was refused, or ran out of memory, after the program was built.
    #[error("the device refused a command: {0}")]
    Command(String),
}

impl From<GpuError> for ExecuteError {
    fn from(error: GpuError) -> Self {
        let boxed: Box<dyn std::error::Error + Send + Sync> = Box::new(error);
        boxed.into()
    }
}
