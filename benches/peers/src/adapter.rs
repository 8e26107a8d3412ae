//! The adapter that every engine has to use.

use ldfa_gpu::gpu::{Context, DeviceChoice, adapters, describe};

use crate::engine::EngineError;

/// An adapter as the engines name it.
pub(crate) struct Adapter {
    /// What wgpu says of it.
    pub(crate) info: wgpu::AdapterInfo,
    /// How many adapters of its kind and graphics API come before it.
    pub(crate) position_in_kind: usize,
}

impl Adapter {
    /// The adapter that `context` was opened on.
    pub(crate) fn of(choice: &DeviceChoice, context: &Context) -> Result<Adapter, EngineError> {
        let mut infos: Vec<_> = adapters().into_iter().map(|adapter| adapter.info).collect();
        let position = match choice {
            DeviceChoice::Index(index) => Some(*index).filter(|index| *index < infos.len()),
            // Adapters that look alike are alike for this purpose, so the first of them will do.
            _ => infos.iter().position(|info| describe(info) == context.describe()),
        };
        let Some(position) = position else {
            return Err(EngineError::Failed(format!("{} is no longer there; start again", context.describe())));
        };
        let info = infos.swap_remove(position);
        infos.truncate(position);
        let alike = infos.iter().filter(|other| other.device_type == info.device_type && other.backend == info.backend);
        Ok(Adapter { position_in_kind: alike.count(), info })
    }
}
