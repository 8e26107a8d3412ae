//! Overlaps of the modes over the iterations, as a picture.

use std::io::Write;
use std::path::Path;

use image::RgbImage;
use plotters::style::Color;
use plotters::style::text_anchor::HPos;

use super::{Feedback, Trajectory, feedbacks};
use crate::experiment::ExperimentError;
use crate::files::write_atomically;
use crate::picture::{Axis, Frame, INK, Legend, MARGIN, Panel, Sheet, Stroke, WIDTH, encode, paint, range_of};
use crate::train::metrics::Spread;

/// Modes that are drawn.
const DRAWN: [usize; 7] = [0, 1, 2, 5, 8, 12, 20];

/// Draws overlaps over the iterations, a panel a feedback: the engine's in colour, with a band of one standard deviation over seeds,
/// the closed equations' dashed over them.
///
/// # Errors
/// If the picture cannot be drawn or written.
pub fn draw_modes(path: &Path, trajectories: &[Trajectory]) -> Result<(), ExperimentError> {
    let png = render(trajectories)
        .and_then(|picture| encode(&picture))
        .map_err(|message| ExperimentError::Draw { path: path.to_owned(), message })?;
    Ok(write_atomically(path, |file| file.write_all(&png))?)
}

fn render(trajectories: &[Trajectory]) -> Result<RgbImage, String> {
    const COLUMNS: usize = 4;
    /// Pixels from panel to panel, down, and what is above the first.
    const DOWN: f64 = 300.0;
    const ABOVE: f64 = 120.0;
    let across = (f64::from(WIDTH) - MARGIN) / COLUMNS as f64;
    let feedbacks = feedbacks(trajectories);
    let height = ABOVE + DOWN * feedbacks.len().div_ceil(COLUMNS) as f64;
    paint(height as u32, |sheet| {
        let title =
            "Overlap with the modes of the data (dashed: closed equations; bands: standard deviation over seeds)";
        sheet.text(title, (MARGIN, 34.0), 22.0, INK, HPos::Left)?;
        Legend::new(DRAWN.map(|mode| format!("mode {mode}"))).draw(sheet, 72.0)?;
        for (index, feedback) in feedbacks.into_iter().enumerate() {
            let (left, top) = (MARGIN + across * (index % COLUMNS) as f64, ABOVE + DOWN * (index / COLUMNS) as f64);
            let frame = Frame { left, right: left + across - 50.0, top: top + 20.0, bottom: top + DOWN - 70.0 };
            let own: Vec<&Trajectory> = trajectories.iter().filter(|t| t.feedback == feedback).collect();
            panel(sheet, frame, feedback, &own)?;
        }
        Ok(())
    })
}

/// A mode by iteration, over seeds.
fn course(own: &[&Trajectory], mode: usize, of: fn(&Trajectory) -> &[Vec<f64>]) -> Vec<(f64, Spread)> {
    let iterations = own.first().map_or(&[][..], |first| &first.iterations);
    let at = |(row, iteration): (usize, &u32)| {
        let values: Vec<f64> = own.iter().filter_map(|t| of(t).get(row)?.get(mode).copied()).collect();
        (f64::from(*iteration), Spread::of(&values))
    };
    iterations.iter().enumerate().map(at).filter(|(_, spread)| spread.mean.is_finite()).collect()
}

fn panel(sheet: &Sheet<'_>, frame: Frame, feedback: Feedback, own: &[&Trajectory]) -> Result<(), String> {
    let engine = DRAWN.map(|mode| course(own, mode, |t| &t.engine));
    let closed = DRAWN.map(|mode| course(own, mode, |t| &t.closed));
    let edges = |spread: &Spread| [-1.0, 1.0].map(|side| spread.mean + side * spread.std.unwrap_or(0.0));
    let all = engine.iter().chain(&closed).flatten().flat_map(|(_, spread)| edges(spread));
    let (low, high) = range_of(all).unwrap_or((0.0, 1.0));
    let last = own.first().and_then(|first| first.iterations.last()).copied().unwrap_or(1);
    let y = Axis::linear(low.min(0.0), high.max(1.05), 5);
    let panel = Panel { frame, x: Axis::linear(0.0, f64::from(last), 3), y };
    let rank = feedback.rank().map_or(String::new(), |rank| format!(", r = {rank}"));
    panel.draw_axes(sheet, &format!("{}{rank}", feedback.name()), "iteration")?;
    for (index, line) in engine.iter().enumerate() {
        let edge = |side: usize| line.iter().map(move |(i, spread)| (*i, edges(spread)[side]));
        let outline: Vec<_> = edge(0).chain(edge(1).rev()).map(|point| panel.at(point)).collect();
        sheet.polygon(&outline, Stroke::of_curve(index).color.mix(0.16))?;
    }
    for (index, line) in engine.iter().enumerate() {
        panel.draw_curve(sheet, line.iter().map(|(i, spread)| (*i, spread.mean)), Stroke::of_curve(index))?;
    }
    for line in closed {
        let points: Vec<_> = line.into_iter().map(|(i, spread)| panel.at((i, spread.mean))).collect();
        sheet.stroke(&points, Stroke { color: INK, dashed: true })?;
    }
    Ok(())
}
