//! Receptive fields: what a layer's units ask for, and whether that is oriented or a centre with a surround.
//!
//! A unit's field is the derivative of its output, at the centre of the image, by a blank input: the direction in which the input
//! would have to change for the output to rise. In the first layer this is the unit's weights.

mod picture;

use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use picture::{draw_distribution, draw_montage};

use super::networks::{Family, Instrument, Member, Population, family_name};
use super::sweep::order;
use super::{ExperimentError, setting};
use crate::analysis::{Shape, orientedness, shape};
use crate::feedback::Rank;
use crate::files::write_atomically;
use crate::gpu::DeviceChoice;
use crate::model::Probe;
use crate::train::metrics::Spread;

/// Units whose fields are computed at once.
const AT_ONCE: u32 = 32;

/// Least share of a field's variance that either model must explain for their difference to mean anything.
const EXPLAINED: f64 = 1.0 / 3.0;

/// One unit of one network.
#[derive(Clone, Debug)]
pub struct Field {
    /// As its family's.
    pub rule: String,
    /// As its family's.
    pub rank: Option<Rank>,
    /// Of its network.
    pub seed: u32,
    /// Channel, or output of a dense layer.
    pub unit: u32,
    /// Height x width x channels, z-scored; empty for a unit that nothing reaches from the input.
    pub pixels: Vec<f64>,
    /// See [`orientedness`].
    pub orientedness: Option<f64>,
    /// How well both models of a field fit.
    pub shape: Option<Shape>,
}

/// The fields of one layer.
#[derive(Clone, Debug)]
pub struct Fields {
    /// `layers.<index>`.
    pub layer: String,
    /// Height, width, channels of a field: the part of the image that any unit sees.
    pub extent: [usize; 3],
    /// Of all networks.
    pub fields: Vec<Field>,
}

/// A line of `fields.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldRow {
    /// How the network was trained.
    pub rule: String,
    /// Rank, where the rule has one.
    pub rank: Option<Rank>,
    /// Of the network.
    pub seed: u32,
    /// Of the unit.
    pub layer: String,
    /// Channel, or output of a dense layer.
    pub unit: u32,
    /// Spread of the response over the orientations of a bar.
    pub orientedness: Option<f64>,
    /// Share of the field's variance that a difference of Gaussians explains.
    pub center_surround_r2: Option<f64>,
    /// Share that a Gabor function explains.
    pub gabor_r2: Option<f64>,
    /// (the former - the latter) / (the former + the latter), -1 to 1; none where both are below a third.
    pub center_surround_index: Option<f64>,
}

/// Networks that differ in their seeds only, in numbers. Means are over networks, of each network's mean over its units.
#[derive(Clone, Debug, PartialEq)]
pub struct FamilySummary {
    /// How they were trained.
    pub rule: String,
    /// Rank, where the rule has one.
    pub rank: Option<Rank>,
    /// How many.
    pub networks: usize,
    /// Units with a field, of all networks.
    pub units: usize,
    /// Units without.
    pub silent: usize,
    /// Orientedness.
    pub orientedness: Mean,
    /// Centre-surround index, of fields that a model explains.
    pub index: Mean,
}

/// A mean over networks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// Not a number where no network has the measure.
    pub mean: f64,
    /// Its standard error; none for fewer than two networks that have the measure.
    pub error: Option<f64>,
}

impl Mean {
    fn of(values: &[f64]) -> Mean {
        let Spread { mean, std } = Spread::of(values);
        Mean { mean, error: std.map(|std| std / (values.len() as f64).sqrt()) }
    }
}

impl std::fmt::Display for Mean {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.error {
            Some(error) => write!(f, "{:.4} ± {error:.4}", self.mean),
            None if self.mean.is_finite() => write!(f, "{:.4}", self.mean),
            None => f.write_str("-"),
        }
    }
}

impl FamilySummary {
    /// Name in tables and pictures.
    pub fn name(&self) -> String {
        family_name(&self.rule, self.rank)
    }
}

impl Fields {
    /// Computes and measures the fields of a layer's units, of all networks.
    ///
    /// # Errors
    /// If there is no such layer, none of its units sees anything, or the device fails.
    pub fn of_layer(population: &Population, layer: &str, device: &DeviceChoice) -> Result<Fields, ExperimentError> {
        let probe = Probe::of_gradient(&population.config.model.layers, population.image(), AT_ONCE, layer)?;
        let mut instrument = Instrument::new(probe, device)?;
        let mut raw = Vec::new();
        for family in &population.families {
            for member in &family.members {
                instrument.load(member)?;
                raw.extend(of_network(&mut instrument, family, member)?);
            }
        }
        let image = population.image().map(|side| side as usize);
        let Some(window) = seen(&raw, image) else {
            return Err(setting(format!("nothing of the input reaches any unit of {layer}: its fields are empty")));
        };
        let extent = [window.height(), window.width(), image[2]];
        for field in &mut raw {
            field.pixels = z_scored(&window.cut(&field.pixels, image));
        }
        measure(&mut raw, extent);
        Ok(Fields { layer: layer.to_owned(), extent, fields: raw })
    }

    /// The lines of `fields.csv`.
    pub fn rows(&self) -> Vec<FieldRow> {
        let row = |field: &Field| FieldRow {
            rule: field.rule.clone(),
            rank: field.rank,
            seed: field.seed,
            layer: self.layer.clone(),
            unit: field.unit,
            orientedness: field.orientedness,
            center_surround_r2: field.shape.map(|shape| shape.center_surround),
            gabor_r2: field.shape.map(|shape| shape.gabor),
            center_surround_index: field.shape.filter(is_explained).and_then(|shape| shape.index()),
        };
        self.fields.iter().map(row).collect()
    }
}

fn is_explained(shape: &Shape) -> bool {
    shape.center_surround.max(shape.gabor) >= EXPLAINED
}

/// Fields over the whole image, not scaled.
fn of_network(instrument: &mut Instrument, family: &Family, member: &Member) -> Result<Vec<Field>, ExperimentError> {
    let value = &instrument.probe.values[0];
    let (extent, pixels) = (value.extent, value.extent.pixels() as usize);
    let channels = extent.channels as usize;
    let center = (extent.height / 2 * extent.width + extent.width / 2) as usize;
    let mut fields = Vec::new();
    for first in (0..channels).step_by(AT_ONCE as usize) {
        // Each sample asks for one unit.
        let units = first..channels.min(first + AT_ONCE as usize);
        let mut of = vec![0.0; AT_ONCE as usize * pixels * channels];
        for (sample, unit) in units.clone().enumerate() {
            of[(sample * pixels + center) * channels + unit] = 1.0;
        }
        let all = instrument.gradient(&of)?;
        let each = all.len() / AT_ONCE as usize;
        fields.extend(all.chunks(each.max(1)).zip(units).map(|(pixels, unit)| Field {
            rule: family.rule.clone(),
            rank: family.rank,
            seed: member.seed,
            unit: unit as u32,
            pixels: pixels.to_vec(),
            orientedness: None,
            shape: None,
        }));
    }
    Ok(fields)
}

/// Rows and columns of an image.
struct Window {
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
}

impl Window {
    fn height(&self) -> usize {
        self.rows.len()
    }

    fn width(&self) -> usize {
        self.columns.len()
    }

    fn cut(&self, image: &[f64], [_, width, channels]: [usize; 3]) -> Vec<f64> {
        let row = |row: usize| {
            let first = (row * width + self.columns.start) * channels;
            &image[first..first + self.width() * channels]
        };
        self.rows.clone().flat_map(row).copied().collect()
    }
}

/// The least window that holds all that any field sees.
fn seen(fields: &[Field], [_, width, channels]: [usize; 3]) -> Option<Window> {
    let mut window: Option<Window> = None;
    for field in fields {
        let places = field.pixels.iter().enumerate().filter(|(_, value)| **value != 0.0);
        for (row, column) in places.map(|(at, _)| (at / channels / width, at / channels % width)) {
            let held = window.get_or_insert(Window { rows: row..row + 1, columns: column..column + 1 });
            held.rows = held.rows.start.min(row)..held.rows.end.max(row + 1);
            held.columns = held.columns.start.min(column)..held.columns.end.max(column + 1);
        }
    }
    window
}

/// Mean 0, standard deviation 1; nothing of a field that is the same everywhere or not finite.
fn z_scored(pixels: &[f64]) -> Vec<f64> {
    let count = pixels.len() as f64;
    let mean = pixels.iter().sum::<f64>() / count;
    let std = (pixels.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
    if !(std > 0.0 && std.is_finite()) {
        return Vec::new();
    }
    pixels.iter().map(|value| (value - mean) / std).collect()
}

/// Of colours the mean over the channels is measured.
fn measure(fields: &mut [Field], [height, width, channels]: [usize; 3]) {
    let mean = |pixel: &[f64]| pixel.iter().sum::<f64>() / channels as f64;
    let mut loud: Vec<&mut Field> = fields.iter_mut().filter(|field| !field.pixels.is_empty()).collect();
    let grey: Vec<Vec<f64>> = loud.iter().map(|field| field.pixels.chunks(channels).map(mean).collect()).collect();
    let found = orientedness(&grey, height, width);
    loud.par_iter_mut().zip(&grey).zip(found).for_each(|((field, grey), orientedness)| {
        field.orientedness = orientedness;
        field.shape = shape(grey, width);
    });
}

/// Writes `fields.csv`.
///
/// # Errors
/// If it cannot be written.
pub fn write_rows(path: &Path, rows: &[FieldRow]) -> Result<(), ExperimentError> {
    Ok(write_atomically(path, |file| {
        let mut csv = csv::Writer::from_writer(file);
        for row in rows {
            csv.serialize(row).map_err(std::io::Error::other)?;
        }
        csv.flush()
    })?)
}

/// Reads `fields.csv`.
///
/// # Errors
/// If it is missing or damaged.
pub fn read_rows(path: &Path) -> Result<Vec<FieldRow>, ExperimentError> {
    let damaged = |e: csv::Error| setting(format!("{}: {e}; `ldfa-gpu fields` writes it anew", path.display()));
    let mut reader = csv::Reader::from_path(path).map_err(damaged)?;
    let rows: Vec<FieldRow> = reader.deserialize().collect::<Result<_, _>>().map_err(damaged)?;
    if rows.is_empty() {
        return Err(setting(format!("{} holds no unit; `ldfa-gpu fields` writes it anew", path.display())));
    }
    Ok(rows)
}

/// Every family in numbers, in the order of their rows.
pub fn summaries(rows: &[FieldRow]) -> Vec<FamilySummary> {
    let mut families: Vec<(&str, Option<Rank>)> = Vec::new();
    for row in rows {
        if !families.contains(&(&row.rule, row.rank)) {
            families.push((&row.rule, row.rank));
        }
    }
    let one = |(rule, rank): (&str, Option<Rank>)| {
        let own: Vec<&FieldRow> = rows.iter().filter(|row| row.rule == rule && row.rank == rank).collect();
        let mut seeds: Vec<u32> = own.iter().map(|row| row.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        let over = |of: fn(&FieldRow) -> Option<f64>| {
            let mean = |seed: &u32| {
                let values: Vec<f64> = own.iter().filter(|row| row.seed == *seed).filter_map(|row| of(row)).collect();
                Spread::of(&values).mean
            };
            // A network none of whose units has the measure has no mean.
            Mean::of(&seeds.iter().map(mean).filter(|mean| mean.is_finite()).collect::<Vec<_>>())
        };
        let units = own.iter().filter(|row| row.orientedness.is_some()).count();
        FamilySummary {
            rule: rule.to_owned(),
            rank,
            networks: seeds.len(),
            units,
            silent: own.len() - units,
            orientedness: over(|row| row.orientedness),
            index: over(|row| row.center_surround_index),
        }
    };
    families.into_iter().map(one).collect()
}

/// Every family as a line of a table; the first line names the columns.
pub fn table(families: &[FamilySummary]) -> Vec<Vec<String>> {
    let head = ["networks of", "networks", "units", "silent", "orientedness", "centre-surround index"];
    let line = |family: &FamilySummary| {
        let counts = [family.networks, family.units, family.silent].map(|count| count.to_string());
        let measures = [family.orientedness, family.index].map(|mean| mean.to_string());
        [vec![family.name()], counts.to_vec(), measures.to_vec()].concat()
    };
    std::iter::once(head.map(str::to_owned).to_vec()).chain(families.iter().map(line)).collect()
}

/// What the table's numbers are.
pub const CAPTION: &str =
    "means over networks of each network's mean over its units, and the standard error over networks";

/// For every rule with several ranks a sentence on whether orientedness falls as the rank does: by more than two standard errors of
/// the difference between the largest and the smallest. Before them, what is missing.
pub fn verdicts(summaries: &[FamilySummary]) -> Vec<String> {
    let mut sentences = Vec::new();
    if summaries.iter().all(|family| family.index.mean.is_nan()) {
        sentences.push(
            "no field has a centre-surround index: they have less than 5 x 5 pixels, or neither model explains a third"
                .to_owned(),
        );
    }
    let mut rules: Vec<&str> = Vec::new();
    for family in summaries {
        if !rules.contains(&family.rule.as_str()) {
            rules.push(&family.rule);
        }
    }
    sentences.extend(rules.into_iter().filter_map(|rule| verdict(rule, summaries)));
    sentences
}

fn verdict(rule: &str, summaries: &[FamilySummary]) -> Option<String> {
    let has_rank = |family: &&FamilySummary| family.rule == rule && family.rank.is_some();
    let mut own: Vec<&FamilySummary> = summaries.iter().filter(has_rank).collect();
    own.retain(|family| family.orientedness.mean.is_finite());
    own.sort_by_key(|family| order(family.rank));
    let [least, .., most] = own[..] else { return None };
    let (low, high) = (least.orientedness, most.orientedness);
    let outcome = match low.error.zip(high.error) {
        None => "which one network of either cannot tell from chance".to_owned(),
        Some((a, b)) => {
            let error = a.hypot(b);
            let what = if (high.mean - low.mean).abs() <= 2.0 * error {
                "no difference to speak of"
            } else if high.mean > low.mean {
                "it falls as the rank falls"
            } else {
                "it rises as the rank falls"
            };
            format!("{what} (standard error of the difference {error:.4})")
        }
    };
    let [at_least, at_most] = [least, most].map(|family| family.rank.map_or(String::new(), |rank| rank.to_string()));
    let (low, high) = (low.mean, high.mean);
    Some(format!("{rule}: orientedness {low:.4} at r = {at_least}, {high:.4} at r = {at_most}: {outcome}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(rule: &str, rank: Option<u32>, seed: u32, orientedness: Option<f64>) -> FieldRow {
        FieldRow {
            rule: rule.to_owned(),
            rank: rank.map(Rank::Of),
            seed,
            layer: "layers.0".to_owned(),
            unit: 0,
            orientedness,
            center_surround_r2: Some(0.5),
            gabor_r2: Some(0.5),
            center_surround_index: orientedness.map(|_| 0.0),
        }
    }

    #[test]
    fn networks_are_the_samples_not_units() {
        let rows = [
            row("a", Some(4), 0, Some(0.1)),
            row("a", Some(4), 0, Some(0.3)),
            row("a", Some(4), 0, None),
            row("a", Some(4), 1, Some(0.4)),
        ];
        let found = summaries(&rows);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].networks, found[0].units, found[0].silent), (2, 3, 1));
        let Mean { mean, error } = found[0].orientedness;
        assert!((mean - 0.3).abs() < 1e-12 && (error.unwrap() - 0.1).abs() < 1e-12);
        // A third network without any field changes no error.
        let with_silent = summaries(&[&rows[..], &[row("a", Some(4), 2, None)]].concat());
        assert_eq!((with_silent[0].networks, with_silent[0].orientedness), (3, found[0].orientedness));
    }

    #[test]
    fn verdicts_say_which_way_it_goes() {
        let of = |low: [f64; 2], high: [f64; 2]| {
            let rows = [(1, 0, low[0]), (1, 1, low[1]), (32, 0, high[0]), (32, 1, high[1])]
                .map(|(rank, seed, value)| row("local", Some(rank), seed, Some(value)));
            let mut all = vec![row("untrained", None, 0, Some(0.2))];
            all.extend(rows);
            let found = verdicts(&summaries(&all));
            assert_eq!(found.len(), 1, "{found:?}");
            found[0].clone()
        };
        assert!(of([0.10, 0.11], [0.20, 0.21]).contains("it falls as the rank falls"));
        assert!(of([0.20, 0.21], [0.10, 0.11]).contains("it rises as the rank falls"));
        assert!(of([0.1, 0.3], [0.2, 0.3]).contains("no difference"));
        let single = [row("local", Some(1), 0, Some(0.1)), row("local", Some(2), 0, Some(0.2))];
        assert!(verdicts(&summaries(&single))[0].contains("chance"));
        // Nothing is said of ranks without any field, and each rule has one sentence wherever its families stand.
        let silent = [row("local", Some(1), 0, None), row("local", Some(2), 0, Some(0.2))];
        assert!(verdicts(&summaries(&silent)).is_empty());
        let apart = [single[0].clone(), row("backprop", None, 0, Some(0.1)), single[1].clone()];
        assert_eq!(verdicts(&summaries(&apart)).len(), 1);
        let small = FieldRow { center_surround_index: None, ..single[0].clone() };
        assert!(verdicts(&summaries(&[small]))[0].contains("less than 5 x 5"));
    }

    #[test]
    fn the_window_is_what_any_field_sees() {
        let field = |pixels: Vec<f64>| Field {
            rule: String::new(),
            rank: None,
            seed: 0,
            unit: 0,
            pixels,
            orientedness: None,
            shape: None,
        };
        // 3 x 4 pixels of two channels.
        let mut one = vec![0.0; 24];
        one[(4 + 1) * 2 + 1] = 2.0;
        let mut other = vec![0.0; 24];
        other[(2 * 4 + 3) * 2] = -1.0;
        let window = seen(&[field(one.clone()), field(other)], [3, 4, 2]).unwrap();
        assert_eq!((window.rows.clone(), window.columns.clone()), (1..3, 1..4));
        assert_eq!(window.cut(&one, [3, 4, 2])[..4], [0.0, 2.0, 0.0, 0.0]);
        assert!(seen(&[field(vec![0.0; 24])], [3, 4, 2]).is_none());
        assert!(z_scored(&[2.0; 5]).is_empty() && z_scored(&[f64::NAN, 1.0]).is_empty());
        assert_eq!(z_scored(&[1.0, 3.0]), [-1.0, 1.0]);
    }
}
