//! How alike networks represent the same images, layer by layer, or position by position: between rules and ranks, and between seeds
//! of one.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use image::RgbImage;
use plotters::style::RGBColor;
use plotters::style::text_anchor::HPos;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::networks::{Instrument, Member, Population};
use super::{ExperimentError, setting};
use crate::analysis::Representation;
use crate::feedback::Rank;
use crate::files::{self, write_atomically};
use crate::gpu::DeviceChoice;
use crate::model::{Extent, Probe};
use crate::picture::{Axis, Frame, INK, MARGIN, PAPER, Panel, Sheet, Stroke, TEXT, WIDTH, encode, fit, paint};
use crate::train::labels::ranked;
use crate::train::metrics::Spread;

/// Images at once.
const AT_ONCE: u32 = 64;

/// Most rows of a representation. Of a layer with images, positions count as inputs, as many of each image as come to this.
const ROWS: usize = 2048;

/// Most positions of a layer that are compared by themselves.
const POSITIONS: u32 = 16;

/// A line of `compare.csv`: two networks, whose order means nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Likeness {
    /// Where they are compared.
    pub layer: String,
    /// The position that is compared by itself, from 0, row by row; none of all positions together.
    #[serde(default)]
    pub position: Option<u32>,
    /// How the first was trained.
    pub rule_a: String,
    /// Its rank, where the rule has one.
    pub rank_a: Option<Rank>,
    /// Its seed.
    pub seed_a: u32,
    /// How the second was trained.
    pub rule_b: String,
    /// Its rank, where the rule has one.
    pub rank_b: Option<Rank>,
    /// Its seed.
    pub seed_b: u32,
    /// Linear centred kernel alignment; none where a layer gives all images the same.
    pub cka: Option<f64>,
    /// Singular vector canonical correlation.
    pub svcca: Option<f64>,
}

/// All pairs of networks of different seeds; of two families with one and the same seed, that pair.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Rules and ranks of the families.
    families: Vec<Key>,
    /// In the order of the layers, then of positions.
    places: Vec<Place>,
    /// Every pair in every place.
    rows: Vec<Likeness>,
}

/// A layer, or a position of one that is compared by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    layer: String,
    position: Option<u32>,
}

impl Place {
    /// In tables.
    fn name(&self) -> String {
        self.position.map_or(self.layer.clone(), |position| format!("{} at {position}", self.layer))
    }
}

/// What a family is known by.
type Key = (String, Option<Rank>);

impl Likeness {
    fn families(&self) -> [Key; 2] {
        [(self.rule_a.clone(), self.rank_a), (self.rule_b.clone(), self.rank_b)]
    }

    /// Whether it is of these two families, in any order.
    fn is_of(&self, [a, b]: [&Key; 2]) -> bool {
        let is = |key: &Key, rule: &str, rank| key.0 == rule && key.1 == rank;
        let both = |a, b| is(a, &self.rule_a, self.rank_a) && is(b, &self.rule_b, self.rank_b);
        both(a, b) || both(b, a)
    }
}

impl Comparison {
    /// Compares what networks make of the first `images` of their test set; with `by_position`, layers with positions at each of
    /// these, or at 16 of them, evenly spaced from the first to the last.
    ///
    /// # Errors
    /// If there is no such layer, none with positions that are asked for, the images are too few, or the device fails.
    pub fn of_layers(
        population: &Population,
        layers: &[String],
        by_position: bool,
        images: usize,
        device: &DeviceChoice,
    ) -> Result<Comparison, ExperimentError> {
        let available = population.data.test.len();
        if images < 2 || images > available {
            return Err(setting(format!(
                "{images} images cannot be compared on: use --images with 2 to {available}, as many as the test set has"
            )));
        }
        let probe = Probe::of_values(&population.config.model.layers, population.image(), AT_ONCE, layers)?;
        let extents = probe.values.iter().map(|value| value.extent);
        let places: Vec<(usize, Option<u32>)> = extents
            .enumerate()
            .flat_map(|(value, extent)| positions_of(extent, by_position).into_iter().map(move |at| (value, at)))
            .collect();
        if by_position && places.iter().all(|(_, position)| position.is_none()) {
            return Err(setting(format!(
                "{} {} no positions to compare by: leave --by-position out, or name layers of a sequence or an image with --layers",
                layers.join(", "),
                if layers.len() == 1 { "has" } else { "have" }
            )));
        }
        let mut instrument = Instrument::new(probe, device)?;
        let mut networks = Vec::new();
        for (family, of) in population.families.iter().enumerate() {
            for member in &of.members {
                instrument.load(member)?;
                let inputs = inputs(population, member, images);
                networks.push((family, member.seed, values(&mut instrument, &places, &inputs, images)?));
            }
        }
        let pairs = pairs(&networks.iter().map(|(family, seed, _)| (*family, *seed)).collect::<Vec<_>>());
        let mut found = Comparison {
            families: population.families.iter().map(|family| (family.rule.clone(), family.rank)).collect(),
            places: Vec::new(),
            rows: Vec::new(),
        };
        for (at, &(value, position)) in places.iter().enumerate() {
            let value = &instrument.probe.values[value];
            let units = value.extent.channels as usize;
            let own: Vec<Option<Representation>> =
                networks.par_iter().map(|(.., values)| Representation::new(&values[at], units)).collect();
            let likeness = |&[a, b]: &[usize; 2]| {
                let [one, other] = [a, b].map(|network| own[network].as_ref());
                let both = one.zip(other);
                let [(of_a, seed_a), (of_b, seed_b)] =
                    [a, b].map(|network| (&population.families[networks[network].0], networks[network].1));
                Likeness {
                    layer: value.name.clone(),
                    position,
                    rule_a: of_a.rule.clone(),
                    rank_a: of_a.rank,
                    seed_a,
                    rule_b: of_b.rule.clone(),
                    rank_b: of_b.rank,
                    seed_b,
                    cka: both.map(|(a, b)| a.cka(b)),
                    svcca: both.and_then(|(a, b)| a.svcca(b)),
                }
            };
            found.places.push(Place { layer: value.name.clone(), position });
            found.rows.extend(pairs.par_iter().map(likeness).collect::<Vec<_>>());
        }
        Ok(found)
    }

    /// Mean over the pairs of two families' networks in a place; none if no pair has the measure.
    fn mean(&self, place: &Place, families: [usize; 2], of: Of) -> Option<f64> {
        let keys = families.map(|family| &self.families[family]);
        let is_of = |row: &&Likeness| row.layer == place.layer && row.position == place.position && row.is_of(keys);
        let values: Vec<f64> = self.rows.iter().filter(is_of).filter_map(of).collect();
        (!values.is_empty()).then(|| Spread::of(&values).mean)
    }

    /// The family that others are compared with in tables: backprop, else the first that has learned.
    fn beside(&self) -> usize {
        let is_exact = |rule: &str| rule.split([',', ' ']).next() == Some("backprop");
        let exact = self.families.iter().position(|(rule, _)| is_exact(rule));
        exact.unwrap_or(1.min(self.families.len().saturating_sub(1)))
    }

    /// Linear CKA of every family with backprop (else with the first family that has learned), a line a family and a column a layer;
    /// by position, which are many, a line a place and a column a family. The first line names the columns.
    pub fn table(&self) -> Vec<Vec<String>> {
        let families: Vec<String> = self.families.iter().map(|(rule, rank)| ranked(rule, *rank)).collect();
        let places: Vec<String> = self.places.iter().map(Place::name).collect();
        let of = |place: usize, family: usize| {
            let mean = self.mean(&self.places[place], [family, self.beside()], |row| row.cka);
            mean.map_or("-".to_owned(), |mean| format!("{mean:.3}"))
        };
        if self.is_by_position() {
            tabulated("networks of", &families, &places, |family, place| of(place, family))
        } else {
            tabulated("networks of", &places, &families, of)
        }
    }

    fn is_by_position(&self) -> bool {
        self.places.iter().any(|place| place.position.is_some())
    }

    /// What the table shows, in words.
    pub fn caption(&self) -> String {
        format!("linear CKA with {}, {}", self.name_beside(), self.pairs())
    }

    fn name_beside(&self) -> String {
        self.families.get(self.beside()).map_or(String::new(), |(rule, rank)| ranked(rule, *rank))
    }

    /// What means are over.
    fn pairs(&self) -> &'static str {
        if self.rows.iter().any(|row| row.seed_a == row.seed_b) {
            "means over pairs of networks, of one seed, which begin alike, where there are no others"
        } else {
            "means over pairs of networks of different seeds"
        }
    }

    /// Reads `compare.csv`.
    ///
    /// # Errors
    /// If it is missing, damaged or empty.
    pub fn read(path: &Path) -> Result<Comparison, ExperimentError> {
        let damaged = |what: String| setting(format!("{}: {what}; `ldfa-gpu compare` writes it anew", path.display()));
        let text = files::read(path, files::MOST)?;
        let mut reader = csv::Reader::from_reader(&text[..]);
        let rows: Vec<Likeness> = reader.deserialize().collect::<Result<_, _>>().map_err(|e| damaged(e.to_string()))?;
        if rows.is_empty() {
            return Err(damaged("it holds no pair of networks".to_owned()));
        }
        let (mut families, mut places): (Vec<Key>, Vec<Place>) = (Vec::new(), Vec::new());
        for row in &rows {
            for family in row.families() {
                if !families.contains(&family) {
                    families.push(family);
                }
            }
            let place = Place { layer: row.layer.clone(), position: row.position };
            if !places.contains(&place) {
                places.push(place);
            }
        }
        Ok(Comparison { families, places, rows })
    }

    /// Writes `compare.csv`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ExperimentError> {
        Ok(write_atomically(path, |file| {
            let mut csv = csv::Writer::from_writer(file);
            for row in &self.rows {
                csv.serialize(row).map_err(std::io::Error::other)?;
            }
            csv.flush()
        })?)
    }
}

/// A measure of two networks.
type Of = fn(&Likeness) -> Option<f64>;

/// A line of heads, then lines that begin with their names.
fn tabulated(
    corner: &str,
    columns: &[String],
    lines: &[String],
    of: impl Fn(usize, usize) -> String,
) -> Vec<Vec<String>> {
    let head = [&[corner.to_owned()], columns].concat();
    let line = |(line, name): (usize, &String)| {
        std::iter::once(name.clone()).chain((0..columns.len()).map(|column| of(column, line))).collect()
    };
    std::iter::once(head).chain(lines.iter().enumerate().map(line)).collect()
}

/// Positions of a layer that are compared by themselves; one that is none where all are taken together.
fn positions_of(extent: Extent, by_position: bool) -> Vec<Option<u32>> {
    let pixels = extent.pixels();
    if !by_position || pixels == 1 {
        return vec![None];
    }
    let count = pixels.min(POSITIONS);
    (0..count).map(|at| Some(at * (pixels - 1) / (count - 1))).collect()
}

/// The first images of the test set as a network sees them, one after the other.
fn inputs(population: &Population, member: &Member, images: usize) -> Vec<f64> {
    let shape = population.data.shape;
    let bytes = &population.data.test.images[..images * shape.pixels()];
    member.inputs.encode(bytes, shape.channels as usize)
}

/// What one network makes of the images: of every place, a value of the probe with a position or without, rows x units.
fn values(
    instrument: &mut Instrument,
    places: &[(usize, Option<u32>)],
    inputs: &[f64],
    images: usize,
) -> Result<Vec<Vec<f64>>, ExperimentError> {
    let extents: Vec<Extent> = instrument.probe.values.iter().map(|value| value.extent).collect();
    let mut chosen: Vec<Vec<f64>> = vec![Vec::new(); places.len()];
    let features = inputs.len() / images;
    for (part, own) in inputs.chunks(AT_ONCE as usize * features).enumerate() {
        let mut batch = own.to_vec();
        // Images that are missing at the end are blank, and not looked at.
        batch.resize(AT_ONCE as usize * features, 0.0);
        let all = instrument.values(&batch)?;
        for (chosen, &(value, position)) in chosen.iter_mut().zip(places) {
            let (pixels, units) = (extents[value].pixels() as usize, extents[value].channels as usize);
            let mut take = |sample: usize, position: usize| {
                let first = (sample * pixels + position) * units;
                chosen.extend_from_slice(&all[value][first..first + units]);
            };
            for sample in 0..own.len() / features {
                match position {
                    Some(position) => take(sample, position as usize),
                    None => positions(part * AT_ONCE as usize + sample, pixels, images).for_each(|at| take(sample, at)),
                }
            }
        }
    }
    Ok(chosen)
}

/// Positions of an image that count: evenly spaced, elsewhere in every image, the same for every network.
fn positions(image: usize, pixels: usize, images: usize) -> impl Iterator<Item = usize> {
    let count = (ROWS / images).clamp(1, pixels);
    let start = (image as f64 * 0.618_034).fract();
    (0..count).map(move |at| ((at as f64 / count as f64 + start) * pixels as f64) as usize % pixels)
}

/// Pairs of networks, each given by family and seed, that are compared.
fn pairs(networks: &[(usize, u32)]) -> Vec<[usize; 2]> {
    let mut pairs: BTreeMap<[usize; 2], [Vec<[usize; 2]>; 2]> = BTreeMap::new();
    for (a, &(family_a, seed_a)) in networks.iter().enumerate() {
        for (b, &(family_b, seed_b)) in networks.iter().enumerate().skip(a + 1) {
            let [others, same] = pairs.entry([family_a, family_b]).or_default();
            if seed_a == seed_b { same.push([a, b]) } else { others.push([a, b]) }
        }
    }
    // Networks of one seed begin alike: they are compared only where there is nothing else.
    pairs.into_values().flat_map(|[others, same]| if others.is_empty() { same } else { others }).collect()
}

/// Draws the mean likeness of every two families, a row of panels a layer: alignment, then correlation. A layer by position has
/// curves instead: every family's likeness with backprop (else with the first that has learned).
///
/// # Errors
/// If the picture cannot be drawn or written.
pub fn draw_likeness(path: &Path, title: &str, comparison: &Comparison) -> Result<(), ExperimentError> {
    let png = render(title, comparison).and_then(|picture| encode(&picture));
    let png = png.map_err(|message| ExperimentError::Draw { path: path.to_owned(), message })?;
    Ok(write_atomically(path, |file| file.write_all(&png))?)
}

fn render(title: &str, comparison: &Comparison) -> Result<RgbImage, String> {
    const ABOVE: f64 = 100.0;
    const HEADING: f64 = 64.0;
    const NAMES: f64 = 230.0;
    /// Of a name, and of a panel of curves with its axis.
    const LINE: f64 = 24.0;
    const PANEL: f64 = 200.0;
    const AXIS: f64 = 50.0;
    let measures: [(&str, Of); 2] = [("CKA", |row| row.cka), ("SVCCA", |row| row.svcca)];
    let families = comparison.families.len();
    let room = f64::from(WIDTH) - 2.0 * MARGIN;
    let across = (room - NAMES) / measures.len() as f64;
    let cell = ((across - 30.0) / families.max(1) as f64).min(64.0);
    // Places of one layer follow each other.
    let layers: Vec<&[Place]> = comparison.places.chunk_by(|a, b| a.layer == b.layer && b.position.is_some()).collect();
    let has_curves = |places: &[Place]| places[0].position.is_some();
    let high =
        |places: &[Place]| if has_curves(places) { PANEL.max(LINE * families as f64) } else { cell * families as f64 };
    let down = |places: &[Place]| HEADING + high(places) + 26.0 + if has_curves(places) { AXIS } else { 0.0 };
    let height = ABOVE + layers.iter().map(|places| down(places)).sum::<f64>();
    paint(height as u32, |sheet| {
        sheet.text(&fit(title, 22.0, room), (MARGIN, 34.0), 22.0, INK, HPos::Left)?;
        let mut note = comparison.pairs().to_owned();
        if layers.iter().any(|places| !has_curves(places)) {
            note += "; on the diagonal, of one rule and rank";
        }
        if comparison.is_by_position() {
            note = format!("{note}; by position, with {}", comparison.name_beside());
        }
        sheet.text(&fit(&note, TEXT, room), (MARGIN, 68.0), TEXT, INK, HPos::Left)?;
        let mut top = ABOVE + HEADING;
        for places in &layers {
            let pitch = if has_curves(places) { LINE } else { cell };
            for (index, (rule, rank)) in comparison.families.iter().enumerate() {
                let y = top + pitch * (index as f64 + 0.5);
                let (name, left) = if has_curves(places) {
                    sheet.stroke(&[(MARGIN, y), (MARGIN + 22.0, y)], Stroke::of_curve(index))?;
                    (ranked(rule, *rank), MARGIN + 34.0)
                } else {
                    (format!("{}  {}", index + 1, ranked(rule, *rank)), MARGIN)
                };
                let name = fit(&name, TEXT, MARGIN + NAMES - 16.0 - left);
                sheet.text(&name, (left, y), TEXT, INK, HPos::Left)?;
            }
            for (column, (what, measure)) in measures.iter().enumerate() {
                let left = MARGIN + NAMES + across * column as f64;
                let name = format!("{what}, {}", places[0].layer);
                if has_curves(places) {
                    let frame = Frame { left, right: left + across - 56.0, top, bottom: top + high(places) };
                    curves(sheet, frame, &name, comparison, places, *measure)?;
                } else {
                    sheet.text(&name, (left, top - 42.0), TEXT, INK, HPos::Left)?;
                    let side = cell * families as f64;
                    let frame = Frame { left, right: left + side, top, bottom: top + side };
                    matrix(sheet, frame, families, |a, b| comparison.mean(&places[0], [a, b], *measure))?;
                }
            }
            top += down(places);
        }
        Ok(())
    })
}

/// Of every family with the one that others are compared with, position by position.
fn curves(
    sheet: &Sheet<'_>,
    frame: Frame,
    name: &str,
    comparison: &Comparison,
    places: &[Place],
    measure: Of,
) -> Result<(), String> {
    let x = Axis::counts(places.iter().filter_map(|place| place.position), 6);
    let panel = Panel { frame, x, y: Axis::linear(0.0, 1.0, 5) };
    panel.draw_axes(sheet, name, "position")?;
    for family in 0..comparison.families.len() {
        let point = |place: &Place| {
            let mean = comparison.mean(place, [family, comparison.beside()], measure)?;
            Some((f64::from(place.position?), mean))
        };
        panel.draw_curve(sheet, places.iter().filter_map(point), Stroke::of_curve(family))?;
    }
    Ok(())
}

/// Cells from white (0) to blue (1), with their numbers; grey where there is none.
fn matrix(
    sheet: &Sheet<'_>,
    frame: Frame,
    count: usize,
    of: impl Fn(usize, usize) -> Option<f64>,
) -> Result<(), String> {
    /// Least side of a cell that holds a number.
    const ROOM: f64 = 36.0;
    const FULL: [f64; 3] = [0.0, 114.0, 178.0];
    let color = |share: f64| {
        let [red, green, blue] = FULL.map(|full| (255.0 + share.clamp(0.0, 1.0) * (full - 255.0)) as u8);
        RGBColor(red, green, blue)
    };
    sheet.tiles(frame, [count, count], |row, column| match of(row, column) {
        Some(share) => color(share),
        None => RGBColor(226, 226, 226),
    })?;
    let cell = (frame.right - frame.left) / count.max(1) as f64;
    for column in 0..count {
        let x = frame.left + cell * (column as f64 + 0.5);
        sheet.text(&(column + 1).to_string(), (x, frame.top - 14.0), TEXT, INK, HPos::Center)?;
        for row in (0..count).filter(|_| cell >= ROOM) {
            let Some(share) = of(row, column) else { continue };
            let y = frame.top + cell * (row as f64 + 0.5);
            let ink = if share > 0.6 { PAPER } else { INK };
            sheet.text(&format!("{share:.2}"), (x, y), 15.0, ink, HPos::Center)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_one_seed_are_compared_only_where_there_is_nothing_else() {
        // Two seeds of family 0 and 1, one of family 2.
        let networks = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)];
        let found = pairs(&networks);
        assert_eq!(found, [[0, 1], [0, 3], [1, 2], [1, 4], [2, 3], [3, 4]]);
        assert_eq!(pairs(&[(0, 5), (1, 5)]), [[0, 1]]);
        assert!(pairs(&[(0, 5)]).is_empty());
    }

    #[test]
    fn positions_are_spread_and_within_the_image() {
        let of = |image| positions(image, 100, 512).collect::<Vec<_>>();
        assert_eq!(of(0), [0, 25, 50, 75]);
        assert_ne!(of(1), of(0));
        assert!((0..512).flat_map(of).all(|position| position < 100));
        assert_eq!(positions(3, 1, 2).collect::<Vec<_>>(), [0], "a row of features has one");
        assert_eq!(positions(0, 16, 5000).count(), 1);
    }

    #[test]
    fn single_positions_go_from_the_first_to_the_last() {
        let of = |height, width, by_position| {
            positions_of(Extent { height, width, channels: 3 }, by_position).into_iter().flatten().collect::<Vec<_>>()
        };
        assert_eq!(of(3, 1, true), [0, 1, 2]);
        assert_eq!(of(4, 4, true), (0..16).collect::<Vec<_>>());
        let long = of(784, 1, true);
        assert_eq!((long.len(), long[0], long[1], long[15]), (16, 0, 52, 783));
        assert!(of(1, 1, true).is_empty() && of(784, 1, false).is_empty(), "all together");
    }
}
