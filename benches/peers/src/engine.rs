//! What every engine under comparison can do.

/// Why an engine could not be measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// The engine returned an error.
    #[error("{0}")]
    Failed(String),
    /// It panicked instead of returning an error.
    #[error("it panicked: {0}")]
    Panicked(String),
    /// It ran, and computed something else.
    #[error("{0}")]
    Wrong(String),
}

impl EngineError {
    /// An engine's own error, in its words.
    pub(crate) fn of(error: impl std::fmt::Display) -> EngineError {
        EngineError::Failed(error.to_string())
    }
}

/// Something that can be timed.
pub(crate) trait Engine {
    /// Units of work (training steps, products) of one [`Engine::advance`].
    fn units(&self) -> usize {
        1
    }

    /// Does the work and returns when the device has finished it.
    fn advance(&mut self) -> Result<(), EngineError>;

    /// One number that the last unit of work came to, so that engines can be compared: a training step's mean loss
    /// over the batch before the update, or a projection of a product.
    fn observe(&mut self) -> Result<f64, EngineError>;
}

/// Runs what may panic in a peer's code, so that the others are still measured.
pub(crate) fn guard<T>(work: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let text = payload
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "without a message".to_owned());
        Err(EngineError::Panicked(text))
    })
}
