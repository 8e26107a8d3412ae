//! Accuracy against rank.

use std::io::Write;
use std::path::Path;

use image::RgbImage;
use plotters::style::Color;
use plotters::style::text_anchor::HPos;

use super::results::order;
use super::{Group, Results, SweepRule};
use crate::experiment::ExperimentError;
use crate::feedback::Rank;
use crate::files::write_atomically;
use crate::picture::{
    Axis, Frame, INK, LEGEND_ROW, Legend, MARGIN, Panel, Sheet, Stroke, WIDTH, encode, fit, paint, range_of,
};

/// Draws test accuracy against rank, a curve a rule and a panel a number of classes, with bars of one standard error. Rules
/// without a rank are level lines.
///
/// # Errors
/// If the picture cannot be drawn or written.
pub fn draw_accuracies(path: &Path, title: &str, results: &Results) -> Result<(), ExperimentError> {
    let png =
        accuracies_png(title, results).map_err(|message| ExperimentError::Draw { path: path.to_owned(), message })?;
    Ok(write_atomically(path, |file| file.write_all(&png))?)
}

/// The same as the content of a PNG file.
pub(in crate::experiment) fn accuracies_png(title: &str, results: &Results) -> Result<Vec<u8>, String> {
    encode(&render(title, results)?)
}

fn render(title: &str, results: &Results) -> Result<RgbImage, String> {
    let (rules, groups) = (results.rules(), results.groups());
    by_classes(title, &rules, &results.classes(), |sheet, frame, classes| {
        let own: Vec<&Group> = groups.iter().filter(|group| group.classes == classes).collect();
        panel(sheet, frame, classes, &rules, &own)
    })
}

/// A legend of the rules above a panel a number of classes.
pub(super) fn by_classes(
    title: &str,
    rules: &[SweepRule],
    classes: &[Option<u32>],
    panel: impl Fn(&Sheet<'_>, Frame, Option<u32>) -> Result<(), String>,
) -> Result<RgbImage, String> {
    /// Panels side by side, and pixels of one down.
    const COLUMNS: usize = 2;
    const DOWN: f64 = 400.0;
    let legend = Legend::new(rules.iter().map(SweepRule::to_string));
    let above = 72.0 + LEGEND_ROW * legend.rows as f64;
    let columns = classes.len().clamp(1, COLUMNS);
    let height = above + DOWN * classes.len().div_ceil(columns) as f64;
    paint(height as u32, |sheet| {
        sheet.text(&fit(title, 22.0, f64::from(WIDTH) - 2.0 * MARGIN), (MARGIN, 34.0), 22.0, INK, HPos::Left)?;
        legend.draw(sheet, 72.0)?;
        let across = (f64::from(WIDTH) - MARGIN) / columns as f64;
        for (index, &classes) in classes.iter().enumerate() {
            let (left, top) = (MARGIN + across * (index % columns) as f64, above + DOWN * (index / columns) as f64);
            let frame = Frame { left, right: left + across - 50.0, top: top + 40.0, bottom: top + DOWN - 62.0 };
            panel(sheet, frame, classes)?;
        }
        Ok(())
    })
}

/// `, 5 classes`, where they are varied.
pub(super) fn of_classes(classes: Option<u32>) -> String {
    classes.map_or(String::new(), |classes| format!(", {classes} classes"))
}

fn panel(
    sheet: &Sheet<'_>,
    frame: Frame,
    classes: Option<u32>,
    rules: &[SweepRule],
    groups: &[&Group],
) -> Result<(), String> {
    let mut ranks: Vec<Rank> = groups.iter().filter_map(|group| group.rank).collect();
    ranks.sort_by_key(|rank| order(Some(*rank)));
    ranks.dedup();
    let edges = |group: &&Group| {
        let error = group.standard_error().unwrap_or(0.0);
        [100.0 * (group.accuracy.mean - error), 100.0 * (group.accuracy.mean + error)]
    };
    let (low, high) = range_of(groups.iter().flat_map(edges)).unwrap_or((0.0, 100.0));
    let room = (0.05 * (high - low)).max(1.0);
    let y = Axis::linear((low - room).max(0.0), (high + room).min(100.0).max(low + room), 6);
    let panel = Panel { frame, x: Axis::categories(ranks.iter().map(Rank::to_string)), y };
    let title = format!("test accuracy (%){}; bars: one standard error", of_classes(classes));
    panel.draw_axes(sheet, &title, "rank")?;
    for (index, rule) in rules.iter().enumerate() {
        let stroke = Stroke::of_curve(index);
        let mut own: Vec<&&Group> = groups.iter().filter(|group| group.rule == *rule).collect();
        own.retain(|group| group.accuracy.mean.is_finite());
        own.sort_by_key(|group| order(group.rank));
        if let Some(level) = own.iter().find(|group| group.rank.is_none()) {
            let (left, right) = (frame.left, frame.right);
            let across = |value: f64| panel.at((0.0, value)).1;
            let [low, high] = edges(level).map(across);
            sheet.polygon(&[(left, low), (right, low), (right, high), (left, high)], stroke.color.mix(0.16))?;
            let middle = across(100.0 * level.accuracy.mean);
            sheet.stroke(&[(left, middle), (right, middle)], stroke)?;
            continue;
        }
        let place = |group: &Group| ranks.iter().position(|rank| Some(*rank) == group.rank).unwrap_or(0) as f64;
        for group in &own {
            let [low, high] = edges(group);
            panel.draw_bar(sheet, place(group), [low, high], stroke)?;
        }
        let points = own.iter().map(|group| (place(group), 100.0 * group.accuracy.mean));
        panel.draw_curve(sheet, points, stroke)?;
    }
    Ok(())
}
