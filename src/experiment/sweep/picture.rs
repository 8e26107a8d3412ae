//! Accuracy against rank.

use std::io::Write;
use std::path::Path;

use image::RgbImage;
use plotters::style::Color;
use plotters::style::text_anchor::HPos;

use super::results::order;
use super::{Group, Results, RuleName};
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
    rules: &[RuleName],
    classes: &[Option<u32>],
    panel: impl Fn(&Sheet<'_>, Frame, Option<u32>) -> Result<(), String>,
) -> Result<RgbImage, String> {
    /// Panels side by side, and pixels of one down.
    const COLUMNS: usize = 2;
    const DOWN: f64 = 400.0;
    let legend = Legend::new(rules.iter().map(RuleName::to_string));
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
    rules: &[RuleName],
    groups: &[&Group],
) -> Result<(), String> {
    let point = |group: &&Group| {
        let (mean, error) = (100.0 * group.accuracy.mean, 100.0 * group.standard_error().unwrap_or(0.0));
        Point { rule: group.rule, rank: group.rank, middle: mean, ends: [mean - error, mean + error] }
    };
    let points: Vec<Point> = groups.iter().map(point).collect();
    let (low, high) = Point::range(&points).unwrap_or((0.0, 100.0));
    let room = (0.05 * (high - low)).max(1.0);
    let y = Axis::linear((low - room).max(0.0), (high + room).min(100.0).max(low + room), 6);
    let title = format!("test accuracy (%){}; bars: one standard error", of_classes(classes));
    against_rank(sheet, frame, &title, y, rules, &points)
}

/// What a rule has at a rank, and the ends of its bar. A middle that is not finite only keeps its rank a place.
pub(super) struct Point {
    pub(super) rule: RuleName,
    pub(super) rank: Option<Rank>,
    pub(super) middle: f64,
    pub(super) ends: [f64; 2],
}

impl Point {
    /// Ends of the lowest and the highest bar that are to be seen.
    pub(super) fn range(points: &[Point]) -> Option<(f64, f64)> {
        range_of(points.iter().filter(|point| point.middle.is_finite()).flat_map(|point| point.ends))
    }
}

/// Draws a curve with bars for every rule, a level line with a band for those without a rank.
pub(super) fn against_rank(
    sheet: &Sheet<'_>,
    frame: Frame,
    title: &str,
    y: Axis,
    rules: &[RuleName],
    points: &[Point],
) -> Result<(), String> {
    let mut ranks: Vec<Rank> = points.iter().filter_map(|point| point.rank).collect();
    ranks.sort_by_key(|rank| order(Some(*rank)));
    ranks.dedup();
    let panel = Panel { frame, x: Axis::categories(ranks.iter().map(Rank::to_string)), y };
    panel.draw_axes(sheet, title, "rank")?;
    for (index, rule) in rules.iter().enumerate() {
        let stroke = Stroke::of_curve(index);
        let own = points.iter().filter(|point| point.rule == *rule && point.middle.is_finite());
        let (mut ranked, level): (Vec<&Point>, Vec<&Point>) = own.partition(|point| point.rank.is_some());
        for point in level {
            let [low, high, middle] =
                [point.ends[0], point.ends[1], point.middle].map(|value| panel.at((0.0, value)).1);
            let (left, right) = (frame.left, frame.right);
            sheet.polygon(&[(left, low), (right, low), (right, high), (left, high)], stroke.color.mix(0.16))?;
            sheet.stroke(&[(left, middle), (right, middle)], stroke)?;
        }
        ranked.sort_by_key(|point| order(point.rank));
        let place = |point: &Point| ranks.iter().position(|rank| Some(*rank) == point.rank).unwrap_or(0) as f64;
        for point in &ranked {
            panel.draw_bar(sheet, place(point), point.ends, stroke)?;
        }
        if !ranked.is_empty() {
            panel.draw_curve(sheet, ranked.iter().map(|point| (place(point), point.middle)), stroke)?;
        }
    }
    Ok(())
}
