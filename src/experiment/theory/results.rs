//! Overlaps of the modes as a file, and what they come to.

use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Feedback, Trajectory, feedbacks};
use crate::experiment::{ExperimentError, setting};
use crate::files::{self, FileError, write_atomically};
use crate::train::metrics::Spread;

/// A line of `theory.csv`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    feedback: String,
    rank: Option<usize>,
    seed: u32,
    iteration: u32,
    mode: usize,
    singular_value: f64,
    overlap: f64,
    closed_overlap: f64,
}

/// Writes every overlap as a row: feedback, rank, seed, iteration, mode, singular value, the engine's and the closed one.
///
/// # Errors
/// If the file cannot be written.
pub fn write_csv(path: &Path, trajectories: &[Trajectory]) -> Result<(), FileError> {
    // No more digits than the engine's f32 has.
    let short = |value: f64| (value * 1e6).round() / 1e6;
    write_atomically(path, |file| {
        let mut csv = csv::Writer::from_writer(file);
        for trajectory in trajectories {
            let rows = trajectory.iterations.iter().zip(trajectory.engine.iter().zip(&trajectory.closed));
            for (&iteration, (engine, closed)) in rows {
                for (mode, ((overlap, closed), value)) in engine.iter().zip(closed).zip(&trajectory.modes).enumerate() {
                    csv.serialize(Row {
                        feedback: trajectory.feedback.name().to_owned(),
                        rank: trajectory.feedback.rank(),
                        seed: trajectory.seed,
                        iteration,
                        mode,
                        singular_value: short(*value),
                        overlap: short(*overlap),
                        closed_overlap: short(*closed),
                    })
                    .map_err(std::io::Error::other)?;
                }
            }
        }
        csv.flush()
    })
}

/// What one kind of feedback has come to, over seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// Its name.
    pub feedback: String,
    /// Its rank, where it has one.
    pub rank: Option<usize>,
    /// How many.
    pub seeds: usize,
    /// Mean overlaps of the modes 0 to 7, 8 to 15, and from 17 on.
    pub overlaps: [Spread; 3],
    /// Largest difference between engine and closed equations, of any mode, time and seed.
    pub distance: f64,
}

/// Modes of [`Ending::overlaps`].
const BANDS: [Range<usize>; 3] = [0..8, 8..16, 17..usize::MAX];

/// Every ending as a line of a table; the first line names the columns.
pub fn table(endings: &[Ending]) -> Vec<Vec<String>> {
    let head = ["feedback", "rank", "seeds", "modes 0-7", "modes 8-15", "beyond 16", "distance"];
    let line = |ending: &Ending| {
        let rank = ending.rank.map_or("-".to_owned(), |rank| rank.to_string());
        let overlaps = ending.overlaps.map(overlap).to_vec();
        let distance = format!("{:.1e}", ending.distance);
        [vec![ending.feedback.clone(), rank, ending.seeds.to_string()], overlaps, vec![distance]].concat()
    };
    std::iter::once(head.map(str::to_owned).to_vec()).chain(endings.iter().map(line)).collect()
}

/// What the table's numbers are.
pub const CAPTION: &str =
    "overlap of a mode: 1 where it is learned; distance: the largest between the engine and the closed equations";

/// An overlap in words: its mean, and its standard deviation over several seeds.
fn overlap(spread: Spread) -> String {
    spread.std.map_or(format!("{:.3}", spread.mean), |std| format!("{:.3} ± {std:.3}", spread.mean))
}

/// Every kind of feedback once, in order.
pub fn endings(trajectories: &[Trajectory]) -> Vec<Ending> {
    let ending = |feedback: Feedback| {
        let own: Vec<&Trajectory> = trajectories.iter().filter(|t| t.feedback == feedback).collect();
        let distances = own.iter().map(|t| t.distance());
        Ending {
            feedback: feedback.name().to_owned(),
            rank: feedback.rank(),
            seeds: own.len(),
            overlaps: BANDS.map(|band| Spread::of(&own.iter().map(|t| t.mean(band.clone())).collect::<Vec<_>>())),
            distance: distances.fold(0.0, |most, d| if d > most || d.is_nan() { d } else { most }),
        }
    };
    feedbacks(trajectories).into_iter().map(ending).collect()
}

/// The trajectories of a `theory.csv`.
///
/// # Errors
/// If it is missing or damaged.
pub fn read_csv(path: &Path) -> Result<Vec<Trajectory>, ExperimentError> {
    let damaged = |what: String| setting(format!("{}: {what}; `ldfa-gpu theory` writes it anew", path.display()));
    let mut found: Vec<Trajectory> = Vec::new();
    let text = files::read(path, files::MOST)?;
    let mut reader = csv::Reader::from_reader(&text[..]);
    for row in reader.deserialize() {
        let row: Row = row.map_err(|e| damaged(e.to_string()))?;
        let feedback = match (row.feedback.as_str(), row.rank) {
            ("backprop", None) => Feedback::Exact,
            ("fixed", Some(rank)) => Feedback::Fixed { rank },
            ("learned", Some(rank)) => Feedback::Learned { rank },
            (name, _) => return Err(damaged(format!("there is no feedback {name:?} of that rank"))),
        };
        let is_new = found.last().is_none_or(|last| last.feedback != feedback || last.seed != row.seed);
        if is_new {
            let (iterations, engine, closed) = (Vec::new(), Vec::new(), Vec::new());
            found.push(Trajectory { feedback, seed: row.seed, modes: Vec::new(), iterations, engine, closed });
        }
        let Some(own) = found.last_mut() else { continue };
        if own.iterations.last() != Some(&row.iteration) {
            own.iterations.push(row.iteration);
            own.engine.push(Vec::new());
            own.closed.push(Vec::new());
        }
        if own.iterations.len() == 1 {
            own.modes.push(row.singular_value);
        }
        for (rows, value) in [(&mut own.engine, row.overlap), (&mut own.closed, row.closed_overlap)] {
            rows.last_mut().into_iter().for_each(|row| row.push(value));
        }
    }
    Ok(found)
}
