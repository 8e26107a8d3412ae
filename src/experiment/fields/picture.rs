//! Receptive fields as pictures: themselves, and their measures.

use std::io::Write;
use std::path::Path;

use image::RgbImage;
use plotters::style::text_anchor::HPos;
use plotters::style::{Color, RGBColor};

use super::{FamilySummary, Field, FieldRow, Fields, Mean, summaries};
use crate::experiment::ExperimentError;
use crate::files::write_atomically;
use crate::picture::{Axis, Frame, INK, MARGIN, Panel, Sheet, Stroke, TEXT, WIDTH, encode, fit, paint, range_of};
use crate::train::labels::ranked;

/// Fields side by side, and the most of a network.
const COLUMNS: usize = 16;
const MOST: usize = 64;
const GAP: f64 = 5.0;

/// Draws the fields of every family's first network, the most oriented first, all in one scale.
///
/// # Errors
/// If the picture cannot be drawn or written.
pub fn draw_montage(path: &Path, title: &str, fields: &Fields) -> Result<(), ExperimentError> {
    write(path, montage(title, fields))
}

/// Draws both measures of every unit, family by family, with the mean over networks and its standard error.
///
/// # Errors
/// If the picture cannot be drawn or written.
pub fn draw_distribution(path: &Path, title: &str, rows: &[FieldRow]) -> Result<(), ExperimentError> {
    write(path, distribution(title, rows))
}

fn write(path: &Path, picture: Result<RgbImage, String>) -> Result<(), ExperimentError> {
    let png = picture.and_then(|picture| encode(&picture));
    let png = png.map_err(|message| ExperimentError::Draw { path: path.to_owned(), message })?;
    Ok(write_atomically(path, |file| file.write_all(&png))?)
}

/// The fields that are shown of one network, and how many there are.
struct Shown<'a> {
    name: String,
    fields: Vec<&'a Field>,
    of: usize,
}

/// Of every family the first seed.
fn shown(fields: &Fields) -> Vec<Shown<'_>> {
    let mut networks: Vec<(String, u32, Vec<&Field>)> = Vec::new();
    for field in &fields.fields {
        let family = ranked(&field.rule, field.rank);
        match networks.iter_mut().find(|(name, ..)| *name == family) {
            Some((_, seed, own)) if *seed == field.seed => own.push(field),
            Some(_) => {}
            None => networks.push((family, field.seed, vec![field])),
        }
    }
    networks.into_iter().map(|(name, seed, own)| Shown::new(format!("{name}, seed {seed}"), own)).collect()
}

impl<'a> Shown<'a> {
    fn new(name: String, mut own: Vec<&'a Field>) -> Shown<'a> {
        own.retain(|field| !field.pixels.is_empty());
        own.sort_by(|a, b| b.orientedness.unwrap_or(-1.0).total_cmp(&a.orientedness.unwrap_or(-1.0)));
        let of = own.len();
        // Of more than fit, evenly spaced ones.
        let count = of.min(MOST);
        Shown { name, fields: (0..count).map(|at| own[at * of / count]).collect(), of }
    }
}

fn montage(title: &str, fields: &Fields) -> Result<RgbImage, String> {
    const ABOVE: f64 = 74.0;
    const HEADING: f64 = 34.0;
    const BELOW: f64 = 92.0;
    let [height, width, channels] = fields.extent;
    let across = (f64::from(WIDTH) - 2.0 * MARGIN + GAP) / COLUMNS as f64;
    let down = (across - GAP) * height as f64 / width as f64 + GAP;
    let networks = shown(fields);
    let lines = |of: &Shown<'_>| of.fields.len().div_ceil(COLUMNS).max(1) as f64;
    let total = networks.iter().map(|of| HEADING + down * lines(of) + 10.0).sum::<f64>() + ABOVE + BELOW;
    // What most pixels stay within: a few that stand out would leave the others pale.
    let mut sizes: Vec<f64> =
        networks.iter().flat_map(|of| &of.fields).flat_map(|field| &field.pixels).map(|value| value.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    let limit = sizes.get(sizes.len() * 995 / 1000).copied().unwrap_or(1.0).max(1e-9);
    paint(total as u32, |sheet| {
        let room = f64::from(WIDTH) - 2.0 * MARGIN;
        sheet.text(&fit(title, 22.0, room), (MARGIN, 34.0), 22.0, INK, HPos::Left)?;
        let mut top = ABOVE;
        for network in &networks {
            let count = if network.of > network.fields.len() {
                format!(" ({} of {} fields)", network.fields.len(), network.of)
            } else {
                String::new()
            };
            let heading = fit(&format!("{}{count}", network.name), TEXT, room);
            sheet.text(&heading, (MARGIN, top + 0.4 * HEADING), TEXT, INK, HPos::Left)?;
            for (at, field) in network.fields.iter().enumerate() {
                let left = MARGIN + across * (at % COLUMNS) as f64;
                let top = top + HEADING + down * (at / COLUMNS) as f64;
                let frame = Frame { left, right: left + across - GAP, top, bottom: top + down - GAP };
                sheet.tiles(frame, [height, width], |row, column| {
                    let first = (row * width + column) * channels;
                    color(&field.pixels[first..first + channels], limit)
                })?;
            }
            top += HEADING + down * lines(network) + 10.0;
        }
        scale(sheet, top + 14.0, limit, channels)
    })
}

/// Blue below zero, white at zero, red above; of colours, each channel from dark to bright.
fn color(pixel: &[f64], limit: f64) -> RGBColor {
    const LOW: [f64; 3] = [0.0, 114.0, 178.0];
    const HIGH: [f64; 3] = [213.0, 94.0, 0.0];
    let shares = |value: f64| (value / limit).clamp(-1.0, 1.0);
    let [red, green, blue] = match *pixel {
        [red, green, blue] => [red, green, blue].map(|value| 127.5 + 127.5 * shares(value)),
        _ => {
            let share = shares(pixel.iter().sum::<f64>() / pixel.len().max(1) as f64);
            let end = if share < 0.0 { LOW } else { HIGH };
            end.map(|end| 255.0 + share.abs() * (end - 255.0))
        }
    };
    RGBColor(red as u8, green as u8, blue as u8)
}

fn scale(sheet: &Sheet<'_>, top: f64, limit: f64, channels: usize) -> Result<(), String> {
    const STEPS: usize = 120;
    let frame = Frame { left: MARGIN, right: MARGIN + 360.0, top, bottom: top + 16.0 };
    let value = |step: usize| limit * (2.0 * step as f64 / (STEPS - 1) as f64 - 1.0);
    sheet.tiles(frame, [1, STEPS], |_, step| color(&vec![value(step); channels], limit))?;
    let panel = Panel { frame, x: Axis::linear(-limit, limit, 6), y: Axis::linear(0.0, 1.0, 1) };
    panel.draw_scale(sheet, "z-score of the field")
}

fn distribution(title: &str, rows: &[FieldRow]) -> Result<RgbImage, String> {
    type Measure = (&'static str, fn(&FieldRow) -> Option<f64>, fn(&FamilySummary) -> Mean);
    const ABOVE: f64 = 64.0;
    const DOWN: f64 = 360.0;
    let families = summaries(rows);
    let measures: [Measure; 2] = [
        ("orientedness (0: the same in all directions)", |row| row.orientedness, |family| family.orientedness),
        (
            "centre-surround index (-1: Gabor, 1: centre and surround)",
            |row| row.center_surround_index,
            |family| family.index,
        ),
    ];
    paint((ABOVE + DOWN * measures.len() as f64) as u32, |sheet| {
        let room = f64::from(WIDTH) - 2.0 * MARGIN;
        sheet.text(&fit(title, 22.0, room), (MARGIN, 34.0), 22.0, INK, HPos::Left)?;
        for (at, (what, measure, mean)) in measures.iter().enumerate() {
            let top = ABOVE + DOWN * at as f64;
            let frame =
                Frame { left: MARGIN, right: f64::from(WIDTH) - 30.0, top: top + 40.0, bottom: top + DOWN - 62.0 };
            let each = (frame.right - frame.left) / families.len().max(1) as f64;
            let names = families.iter().map(|family| fit(&family.name(), TEXT, each - 12.0));
            let (low, high) = range_of(rows.iter().filter_map(measure)).unwrap_or((0.0, 1.0));
            let room = 0.05 * (high - low);
            let panel = Panel { frame, x: Axis::categories(names), y: Axis::linear(low - room, high + room, 5) };
            panel.draw_axes(
                sheet,
                &format!("{what}; a dot a unit, bars: mean and standard error over networks"),
                "",
            )?;
            for (at, family) in families.iter().enumerate() {
                let stroke = Stroke::of_curve(at);
                let own = rows.iter().filter(|row| row.rule == family.rule && row.rank == family.rank);
                for (index, value) in own.filter_map(measure).enumerate() {
                    // Side by side in a fixed disorder, so that equal ones do not hide each other.
                    let aside = 0.5 * ((index as f64 * 0.618_034).fract() - 0.5);
                    sheet.speck(panel.at((at as f64 + aside, value)), stroke.color.mix(0.35))?;
                }
                let Mean { mean, error } = mean(family);
                if mean.is_finite() {
                    let error = error.unwrap_or(0.0);
                    let ends = [mean - error, mean + error];
                    let ink = Stroke { color: INK, dashed: false };
                    panel.draw_bar(sheet, at as f64 + 0.36, ends, ink)?;
                    panel.draw_curve(sheet, [(at as f64 + 0.36, mean)].into_iter(), ink)?;
                }
            }
        }
        Ok(())
    })
}
