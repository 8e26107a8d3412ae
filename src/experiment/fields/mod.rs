//! Receptive fields: what a layer's units ask for, and whether that is oriented or a centre with a surround.
//!
//! A unit's field is the derivative of its output, at the centre of the image, by a blank input: the direction in which the input
//! would have to change for the output to rise. In the first layer this is the unit's weights.

mod picture;

use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use picture::{draw_distribution, draw_montage};

use super::networks::{Family, Instrument, Member, Population};
use super::sweep::order;
use super::{ExperimentError, LEAST_SEEDS, few_seeds, setting};
use crate::analysis::{Shape, Trend, corrected, orientedness, shape, trend};
use crate::feedback::Rank;
use crate::files::{self, write_atomically};
use crate::gpu::DeviceChoice;
use crate::model::Probe;
use crate::train::labels::ranked;
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
    /// Of its network, see [`Member`].
    pub test_accuracy: Option<f64>,
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
    /// Share of the test images that the network classifies correctly; none of untrained ones.
    #[serde(default)]
    pub test_accuracy: Option<f64>,
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
    /// Test accuracy, in percent: fields of networks that have learned little say little.
    pub accuracy: Mean,
    /// Orientedness of every network that has it.
    pub by_network: Vec<f64>,
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

impl Mean {
    fn with_digits(&self, digits: usize) -> String {
        match self.error {
            Some(error) => format!("{:.digits$} ± {error:.digits$}", self.mean),
            None if self.mean.is_finite() => format!("{:.digits$}", self.mean),
            None => "-".to_owned(),
        }
    }
}

impl std::fmt::Display for Mean {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.with_digits(4))
    }
}

impl FamilySummary {
    /// Name in tables and pictures.
    pub fn name(&self) -> String {
        ranked(&self.rule, self.rank)
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
            test_accuracy: field.test_accuracy,
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
    let shown = value.shown as usize;
    let mut fields = Vec::new();
    for first in (0..channels).step_by(AT_ONCE as usize) {
        // Each sample asks for one unit.
        let units = first..channels.min(first + AT_ONCE as usize);
        let mut of = vec![0.0; AT_ONCE as usize * pixels * channels];
        for (sample, unit) in units.clone().enumerate() {
            of[(sample * pixels + shown) * channels + unit] = 1.0;
        }
        let all = instrument.gradient(&of)?;
        let each = all.len() / AT_ONCE as usize;
        fields.extend(all.chunks(each.max(1)).zip(units).map(|(pixels, unit)| Field {
            rule: family.rule.clone(),
            rank: family.rank,
            seed: member.seed,
            test_accuracy: member.test_accuracy,
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
    let text = files::read(path, files::MOST)?;
    let mut reader = csv::Reader::from_reader(&text[..]);
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
            seeds.iter().map(mean).filter(|mean| mean.is_finite()).collect::<Vec<f64>>()
        };
        let by_network = over(|row| row.orientedness);
        let units = own.iter().filter(|row| row.orientedness.is_some()).count();
        FamilySummary {
            rule: rule.to_owned(),
            rank,
            networks: seeds.len(),
            units,
            silent: own.len() - units,
            orientedness: Mean::of(&by_network),
            index: Mean::of(&over(|row| row.center_surround_index)),
            accuracy: Mean::of(&over(|row| row.test_accuracy.map(|share| 100.0 * share))),
            by_network,
        }
    };
    families.into_iter().map(one).collect()
}

/// Every family as a line of a table; the first line names the columns.
pub fn table(families: &[FamilySummary]) -> Vec<Vec<String>> {
    let head =
        ["networks of", "networks", "test accuracy %", "units", "silent", "orientedness", "centre-surround index"];
    let line = |family: &FamilySummary| {
        let [networks, units, silent] = [family.networks, family.units, family.silent].map(|count| count.to_string());
        let [orientedness, index] = [family.orientedness, family.index].map(|mean| mean.to_string());
        let accuracy = family.accuracy.with_digits(2);
        vec![family.name(), networks, accuracy, units, silent, orientedness, index]
    };
    std::iter::once(head.map(str::to_owned).to_vec()).chain(families.iter().map(line)).collect()
}

/// What the table's numbers are.
pub const CAPTION: &str =
    "means over networks of each network's mean over its units, and the standard error over networks";

/// Most often that chance alone may make a trend, of all those that are looked for at once.
const LEVEL: f64 = 0.05;

/// For every rule with several ranks a sentence on whether orientedness falls as the rank does, over all its ranks and networks, with
/// what that rests on. Before them, what is missing.
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
    let series: Vec<Series<'_>> = rules.into_iter().filter_map(|rule| Series::of(rule, summaries)).collect();
    // All rules are asked the same question: the more of them, the likelier that chance answers for one.
    let tested: Vec<f64> = series.iter().filter_map(|series| Some(series.trend()?.p)).collect();
    let mut levels = corrected(&tested).into_iter();
    for series in &series {
        let answer = match series.trend().and_then(|trend| Some((trend, levels.next()?))) {
            Some((trend, level)) => in_words(&trend, level, tested.len()),
            None => format!("no verdict from {}", few_seeds(series.fewest())),
        };
        sentences.push(format!("{}: {answer}", series.in_words()));
    }
    sentences
}

fn in_words(trend: &Trend, level: f64, tested: usize) -> String {
    let what = if level > LEVEL {
        "no trend with the rank that chance would not make"
    } else if trend.direction > 0.0 {
        "it falls as the rank falls"
    } else {
        "it rises as the rank falls"
    };
    let level = match tested {
        1 => "the one rule tested".to_owned(),
        _ => format!("corrected for {tested} rules by Holm {}", share(level)),
    };
    format!("{what} (Jonckheere-Terpstra over all networks, exact, two-sided: p = {}, {level})", share(trend.p))
}

/// A chance to two digits.
fn share(p: f64) -> String {
    if p < 0.001 { format!("{p:.1e}") } else { format!("{p:.3}") }
}

/// The families of one rule, by rank.
struct Series<'a> {
    rule: &'a str,
    families: Vec<&'a FamilySummary>,
}

impl<'a> Series<'a> {
    /// None for fewer than two ranks that have the measure.
    fn of(rule: &'a str, summaries: &'a [FamilySummary]) -> Option<Series<'a>> {
        let is_own = |family: &&FamilySummary| family.rule == rule && family.rank.is_some();
        let mut families: Vec<&FamilySummary> = summaries.iter().filter(is_own).collect();
        families.retain(|family| !family.by_network.is_empty());
        families.sort_by_key(|family| order(family.rank));
        (families.len() > 1).then_some(Series { rule, families })
    }

    /// Networks of the rank that has the fewest.
    fn fewest(&self) -> usize {
        self.families.iter().map(|family| family.by_network.len()).min().unwrap_or(0)
    }

    /// None where the networks are too few to say.
    fn trend(&self) -> Option<Trend> {
        let groups: Vec<Vec<f64>> = self.families.iter().map(|family| family.by_network.clone()).collect();
        trend(&groups).filter(|_| self.fewest() >= LEAST_SEEDS)
    }

    fn in_words(&self) -> String {
        let told = |family: &&FamilySummary| {
            let rank = family.rank.map_or(String::new(), |rank| format!("r={rank} "));
            let accuracy = match family.accuracy.mean {
                mean if mean.is_finite() => format!("test accuracy {mean:.2} %, "),
                _ => String::new(),
            };
            let n = family.by_network.len();
            format!("{rank}{:.4} ({accuracy}n = {n})", family.orientedness.mean)
        };
        let all: Vec<String> = self.families.iter().map(told).collect();
        format!("{}: orientedness {}", self.rule, all.join(", "))
    }
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
            test_accuracy: Some(0.76),
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

    /// Networks of a rule at each of some ranks.
    fn networks(rule: &str, by_rank: &[(u32, &[f64])]) -> Vec<FieldRow> {
        let of = |&(rank, values): &(u32, &[f64])| {
            let one = move |(seed, value): (u32, &f64)| row(rule, Some(rank), seed, Some(*value));
            (0..).zip(values).map(one).collect::<Vec<_>>()
        };
        by_rank.iter().flat_map(of).collect()
    }

    const LOW: [f64; 5] = [0.10, 0.11, 0.12, 0.13, 0.14];
    const HIGH: [f64; 5] = [0.20, 0.21, 0.22, 0.23, 0.24];

    #[test]
    fn verdicts_say_which_way_it_goes_over_all_ranks() {
        let of = |by_rank: &[(u32, &[f64])]| {
            let all = [vec![row("untrained", None, 0, Some(0.2))], networks("local", by_rank)].concat();
            let found = verdicts(&summaries(&all));
            assert_eq!(found.len(), 1, "{found:?}");
            found[0].clone()
        };
        let falls = of(&[(1, &LOW), (32, &HIGH)]);
        // Two of the 252 ways to deal ten networks to two ranks.
        for word in [
            "it falls as the rank falls",
            "p = 0.008",
            "r=1 0.1200 (test accuracy 76.00 %, n = 5)",
            "r=32",
            "the one rule tested",
        ] {
            assert!(falls.contains(word), "{word}: {falls}");
        }
        assert!(of(&[(1, &HIGH), (32, &LOW)]).contains("it rises as the rank falls"));
        assert!(of(&[(1, &LOW), (4, &HIGH), (32, &LOW)]).contains("no trend"), "the ends alone say nothing");
        let mixed = [0.1, 0.3, 0.2, 0.25, 0.15];
        assert!(of(&[(1, &mixed), (32, &mixed)]).contains("no trend"));
    }

    /// Two seeds of one rule whose ends lie more than two standard errors apart: what used to be called a fall.
    #[test]
    fn few_networks_give_no_verdict() {
        let two = networks("local", &[(2, &[0.10, 0.11]), (6, &[0.20, 0.21])]);
        let told = verdicts(&summaries(&two));
        assert!(told[0].contains("no verdict from n = 2 seeds, five are needed (--seeds 5)"), "{told:?}");
        assert!(!told[0].contains("falls") && told[0].contains("test accuracy 76.00 %"));
        let four = networks("local", &[(2, &LOW), (6, &HIGH[..4])]);
        assert!(verdicts(&summaries(&four))[0].contains("no verdict from n = 4 seeds"));
        // Nothing is said of ranks without any field, and each rule has one sentence wherever its families stand.
        let silent = [row("local", Some(1), 0, None), row("local", Some(2), 0, Some(0.2))];
        assert!(verdicts(&summaries(&silent)).is_empty());
        let apart = [two[0].clone(), row("backprop", None, 0, Some(0.1)), two[2].clone()];
        assert_eq!(verdicts(&summaries(&apart)).len(), 1);
        let small = FieldRow { center_surround_index: None, ..two[0].clone() };
        assert!(verdicts(&summaries(&[small]))[0].contains("less than 5 x 5"));
    }

    /// A chance of 0.032 says something of one rule, and nothing where four were asked.
    #[test]
    fn the_more_rules_are_asked_the_more_it_takes() {
        let near: [f64; 5] = [0.14, 0.135, 0.21, 0.22, 0.23];
        let one = networks("local", &[(1, &LOW), (32, &near)]);
        let told = verdicts(&summaries(&one));
        assert!(told[0].contains("it falls") && told[0].contains("p = 0.0"), "{told:?}");
        let others = ["fixed", "normative", "oja+fixed"].map(|rule| networks(rule, &[(1, &LOW), (32, &LOW)]));
        let told = verdicts(&summaries(&[vec![one], others.to_vec()].concat().concat()));
        assert_eq!(told.len(), 4);
        assert!(told[0].contains("no trend") && told[0].contains("corrected for 4 rules by Holm"), "{told:?}");
    }

    /// Files from before the accuracy stood in them are still shown.
    #[test]
    fn rows_of_old_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fields.csv");
        let head = "rule,rank,seed,layer,unit,orientedness,center_surround_r2,gabor_r2,center_surround_index";
        std::fs::write(&path, format!("{head}\nlocal,4,0,layers.0,3,0.25,0.5,0.5,0.0\n")).unwrap();
        let rows = read_rows(&path).unwrap();
        assert_eq!((rows[0].orientedness, rows[0].test_accuracy), (Some(0.25), None));
        assert_eq!(table(&summaries(&rows))[1][2], "-");
        write_rows(&path, &[row("local", Some(4), 0, Some(0.25))]).unwrap();
        assert_eq!(read_rows(&path).unwrap()[0].test_accuracy, Some(0.76));
    }

    #[test]
    fn the_window_is_what_any_field_sees() {
        let field = |pixels: Vec<f64>| Field {
            rule: String::new(),
            rank: None,
            seed: 0,
            test_accuracy: None,
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
