//! Interleaved rounds: what slows the machine for a while slows all engines.

use std::time::Instant;

use crate::engine::{Engine, EngineError, guard};

/// An engine and its times.
pub(crate) struct Entry {
    /// What the table calls it.
    pub(crate) label: String,
    /// The engine, or why there is none.
    pub(crate) state: Result<Box<dyn Engine>, EngineError>,
    /// What it computed while warming up, one number for every advance.
    pub(crate) observed: Vec<f64>,
    /// Milliseconds for one unit of work, one number for every timed advance.
    pub(crate) times: Vec<f64>,
}

impl Entry {
    /// Builds an engine; a failure is kept for the table.
    pub(crate) fn new<E: Engine + 'static>(
        label: impl Into<String>,
        build: impl FnOnce() -> Result<E, EngineError>,
    ) -> Entry {
        let state = guard(build).map(|engine| Box::new(engine) as Box<dyn Engine>);
        Entry { label: label.into(), state, observed: Vec::new(), times: Vec::new() }
    }

    /// Does something with the engine; one that fails is not tried again.
    pub(crate) fn try_with(&mut self, work: impl FnOnce(&mut dyn Engine) -> Result<(), EngineError>) {
        if let Ok(engine) = &mut self.state
            && let Err(error) = guard(|| work(engine.as_mut()))
        {
            self.state = Err(error);
        }
    }

    /// Advances without timing, and notes what was computed. Tuning, compilation and first allocations happen here.
    pub(crate) fn warm_up(&mut self, advances: usize) {
        let mut observed = Vec::new();
        self.try_with(|engine| {
            for _ in 0..advances {
                engine.advance()?;
                observed.push(engine.observe()?);
            }
            Ok(())
        });
        self.observed = observed;
    }

    /// One turn of a round.
    fn turn(&mut self, advances: usize) {
        let mut times = Vec::new();
        self.try_with(|engine| {
            // Not timed: it pays for the caches that the engine before has filled.
            engine.advance()?;
            for _ in 0..advances {
                let began = Instant::now();
                engine.advance()?;
                times.push(began.elapsed().as_secs_f64() * 1e3 / engine.units() as f64);
            }
            Ok(())
        });
        self.times.extend(times);
    }
}

/// Gives every engine a turn of `advances`, `rounds` times.
pub(crate) fn run(entries: &mut [Entry], rounds: usize, advances: usize) {
    for _ in 0..rounds {
        for entry in entries.iter_mut() {
            entry.turn(advances);
        }
    }
}

/// The value below which a share of the sorted times lies, interpolated; `None` without times.
pub(crate) fn quantile(times: &[f64], share: f64) -> Option<f64> {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = share * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(low + (high - low) * at.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[3.0], 0.25), Some(3.0));
        assert_eq!(quantile(&[4.0, 1.0, 3.0, 2.0], 0.5), Some(2.5));
        assert_eq!(quantile(&[5.0, 1.0, 3.0], 0.5), Some(3.0));
    }

    struct Fragile(usize);

    impl Engine for Fragile {
        fn advance(&mut self) -> Result<(), EngineError> {
            self.0 = self.0.checked_sub(1).expect("worn out");
            Ok(())
        }

        fn observe(&mut self) -> Result<f64, EngineError> {
            Ok(self.0 as f64)
        }
    }

    #[test]
    fn an_engine_that_panics_becomes_an_error_and_the_others_go_on() {
        let mut entries = [Entry::new("weak", || Ok(Fragile(3))), Entry::new("strong", || Ok(Fragile(100)))];
        entries.iter_mut().for_each(|entry| entry.warm_up(2));
        assert_eq!(entries[0].observed, [2.0, 1.0]);
        run(&mut entries, 2, 4);
        assert!(matches!(&entries[0].state, Err(EngineError::Panicked(text)) if text == "worn out"));
        assert_eq!(entries[1].times.len(), 8);
    }
}
