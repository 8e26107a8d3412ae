//! Learning curves as a picture: test accuracy and training loss against the epoch.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Once;

use image::{ExtendedColorType, ImageEncoder, Rgb, RgbImage, codecs::png::PngEncoder, imageops};
use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::files::{FileError, write_atomically};
use super::metrics::{MetricsRow, Spread};
use super::summary::percent;
use crate::feedback::Rank;

/// Pixels across.
const WIDTH: u32 = 1200;
/// Pixels down to the bottom, below a legend of one row.
const HEIGHT: u32 = 480;
/// Drawn this many times larger and averaged: plotters' thick lines have hard edges.
const OVERSAMPLE: u32 = 3;
/// Space at the left and right, in pixels.
const MARGIN: f64 = 64.0;
/// Height of a row of the legend, in pixels.
const LEGEND_ROW: f64 = 26.0;
/// Length of the line before a legend's text, and the space after the text, in pixels.
const SWATCH: f64 = 34.0;
const LEGEND_GAP: f64 = 30.0;
/// Size of a panel's title and of the legend, in pixels, and of the numbers at the axes.
const TEXT: f64 = 17.0;
const SMALL_TEXT: f64 = 15.0;
/// The font's name in plotters' table.
const FONT: &str = "ubuntu";

/// Okabe and Ito's colours, which all common kinds of colour vision tell apart; yellow, too pale for a line, left out.
const PALETTE: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(60, 60, 60),
];
const INK: RGBColor = RGBColor(34, 34, 34);
const FAINT_INK: RGBColor = RGBColor(80, 80, 80);
const GRID: RGBColor = RGBColor(226, 226, 226);

/// One rule at one rank, over all its seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Name in the legend.
    pub label: String,
    /// By ascending epoch.
    pub points: Vec<CurvePoint>,
}

/// One epoch of a curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurvePoint {
    /// Epochs completed.
    pub epoch: u32,
    /// Mean test accuracy over the seeds, 0 to 1.
    pub mean: f64,
    /// Its sample standard deviation; none for one seed.
    pub std: Option<f64>,
    /// Mean training loss over the seeds.
    pub train_loss_mean: f64,
}

/// A picture that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CurvesError {
    /// The system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The drawing library refused.
    #[error("cannot draw {}: {message}; the numbers are in metrics.csv beside it", path.display())]
    Draw {
        /// The file.
        path: PathBuf,
        /// The library's words.
        message: String,
    },
}

impl Curve {
    /// The curves of one run, one for each rank in its `metrics.csv`, named by `label` and the rank.
    pub fn from_metrics(label: &str, rows: &[MetricsRow]) -> Vec<Curve> {
        let mut ranks: BTreeMap<Option<Rank>, BTreeMap<u32, Vec<&MetricsRow>>> = BTreeMap::new();
        for row in rows {
            ranks.entry(row.rank).or_default().entry(row.epoch).or_default().push(row);
        }
        let name = |rank: Option<Rank>| rank.map_or(label.to_owned(), |rank| format!("{label}, r = {rank}"));
        let curve = |(rank, epochs): (_, BTreeMap<u32, Vec<&MetricsRow>>)| Curve {
            label: name(rank),
            points: epochs.into_iter().map(|(epoch, rows)| CurvePoint::of(epoch, &rows)).collect(),
        };
        ranks.into_iter().map(curve).collect()
    }

    /// Name and last accuracy, which the picture alone shows too coarsely.
    fn legend(&self) -> String {
        match self.points.last() {
            Some(last) => format!("{}   {}", self.label, percent(last.mean, last.std)),
            None => self.label.clone(),
        }
    }
}

impl CurvePoint {
    fn of(epoch: u32, rows: &[&MetricsRow]) -> CurvePoint {
        let spread =
            |measure: fn(&MetricsRow) -> f64| Spread::of(&rows.iter().map(|row| measure(row)).collect::<Vec<_>>());
        let Spread { mean, std } = spread(|row| row.test_accuracy);
        CurvePoint { epoch, mean, std, train_loss_mean: spread(|row| row.train_loss).mean }
    }
}

/// Draws `curves` to a PNG file: at the left test accuracy, with a band of one standard deviation over the seeds, at the
/// right training loss, on a logarithmic scale if it spans more than a decade. Values that are not finite are left out.
///
/// # Errors
/// [`CurvesError`] when the file cannot be written; what was there before is untouched.
pub fn draw_curves(path: &Path, title: &str, curves: &[Curve]) -> Result<(), CurvesError> {
    let png = render(title, curves)
        .and_then(|picture| encode(&picture))
        .map_err(|message| CurvesError::Draw { path: path.to_owned(), message })?;
    Ok(write_atomically(path, |file| file.write_all(&png))?)
}

fn encode(picture: &RgbImage) -> Result<Vec<u8>, String> {
    let mut png = Vec::new();
    PngEncoder::new(&mut png)
        .write_image(picture.as_raw(), picture.width(), picture.height(), ExtendedColorType::Rgb8)
        .map_err(in_words)?;
    Ok(png)
}

fn render(title: &str, curves: &[Curve]) -> Result<RgbImage, String> {
    register_font();
    let legend = Legend::new(curves);
    let height = HEIGHT + (legend.rows as f64 * LEGEND_ROW) as u32;
    let mut large = RgbImage::from_pixel(WIDTH * OVERSAMPLE, height * OVERSAMPLE, Rgb([255; 3]));
    let size = large.dimensions();
    {
        let sheet = Sheet { area: BitMapBackend::with_buffer(&mut large, size).into_drawing_area() };
        sheet.text(&fit(title, 22.0, f64::from(WIDTH) - 2.0 * MARGIN), (MARGIN, 34.0), 22.0, INK, HPos::Left)?;
        legend.draw(&sheet, 72.0)?;
        let (top, bottom) = (72.0 + LEGEND_ROW * legend.rows as f64 + 34.0, f64::from(height) - 62.0);
        let middle = f64::from(WIDTH) / 2.0;
        let left = Frame { left: MARGIN, right: middle - 30.0, top, bottom };
        let right = Frame { left: middle + MARGIN - 4.0, right: f64::from(WIDTH) - 30.0, top, bottom };
        accuracy_panel(&sheet, left, curves)?;
        loss_panel(&sheet, right, curves)?;
        sheet.area.present().map_err(in_words)?;
    }
    Ok(imageops::thumbnail(&large, WIDTH, height))
}

fn in_words(error: impl Display) -> String {
    error.to_string()
}

/// Adds the embedded font to plotters' table, so that no font of the system is needed.
fn register_font() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // A font that is refused shows as an error of every text that is drawn.
        let _ = plotters::style::register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
}

fn accuracy_panel(sheet: &Sheet<'_>, frame: Frame, curves: &[Curve]) -> Result<(), String> {
    let edges = |point: &CurvePoint| {
        let std = point.std.filter(|std| std.is_finite()).unwrap_or(0.0);
        [100.0 * (point.mean - std), 100.0 * (point.mean + std)]
    };
    let shown = |point: &&CurvePoint| point.mean.is_finite();
    let range = range_of(curves.iter().flat_map(|curve| &curve.points).filter(shown).flat_map(edges));
    let (low, high) = range.unwrap_or((0.0, 100.0));
    let room = (0.05 * (high - low)).max(1.0);
    let y = Axis::linear((low - room).max(0.0), (high + room).min(100.0).max(low + room), 6);
    let panel = Panel { frame, x: epoch_axis(curves), y };
    panel.draw_axes(sheet, "test accuracy (%)")?;
    for (index, curve) in curves.iter().enumerate() {
        let points: Vec<&CurvePoint> = curve.points.iter().filter(shown).collect();
        let edge = |side: usize| points.iter().map(move |point| (f64::from(point.epoch), edges(point)[side]));
        let outline: Vec<_> = edge(0).chain(edge(1).rev()).map(|point| panel.at(point)).collect();
        sheet.polygon(&outline, Stroke::of_curve(index).color.mix(0.16))?;
    }
    for (index, curve) in curves.iter().enumerate() {
        let points = curve.points.iter().filter(shown).map(|point| (f64::from(point.epoch), 100.0 * point.mean));
        panel.draw_curve(sheet, points, Stroke::of_curve(index))?;
    }
    Ok(())
}

fn loss_panel(sheet: &Sheet<'_>, frame: Frame, curves: &[Curve]) -> Result<(), String> {
    let losses = || curves.iter().flat_map(|curve| &curve.points).map(|point| point.train_loss_mean);
    let positive = range_of(losses().filter(|loss| *loss > 0.0));
    let logarithmic = positive.is_some_and(|(low, high)| high > 10.0 * low);
    let shown = |loss: &f64| loss.is_finite() && (!logarithmic || *loss > 0.0);
    let (low, high) = range_of(losses().filter(shown)).unwrap_or((0.0, 1.0));
    let y = if logarithmic {
        Axis::logarithmic(low / 1.15, high * 1.15)
    } else {
        let room = 0.05 * (high - low);
        Axis::linear(low - room, high + room, 6)
    };
    let panel = Panel { frame, x: epoch_axis(curves), y };
    panel.draw_axes(sheet, if logarithmic { "training loss (logarithmic)" } else { "training loss" })?;
    for (index, curve) in curves.iter().enumerate() {
        let points = curve.points.iter().map(|point| (f64::from(point.epoch), point.train_loss_mean));
        panel.draw_curve(sheet, points.filter(|(_, loss)| shown(loss)), Stroke::of_curve(index))?;
    }
    Ok(())
}

fn epoch_axis(curves: &[Curve]) -> Axis {
    let epochs = curves.iter().flat_map(|curve| &curve.points).map(|point| f64::from(point.epoch));
    let (low, high) = range_of(epochs).unwrap_or((0.0, 1.0));
    let mut axis = Axis::linear(low, high, 10);
    axis.ticks.retain(|tick| tick.fract() == 0.0);
    axis
}

/// Least and greatest finite value.
fn range_of(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((low.min(value), high.max(value))),
    })
}

/// Values along one side of a panel.
#[derive(Debug)]
struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
    ticks: Vec<f64>,
}

impl Axis {
    /// About `count` ticks at round numbers. A range of one value is widened around it.
    fn linear(low: f64, high: f64, count: u32) -> Axis {
        let least = (low.abs().max(high.abs()) * 1e-6).max(1e-9);
        let (low, high) = if high - low < least {
            let around = if low == 0.0 { 1.0 } else { 0.5 * low.abs() };
            (low - around, high + around)
        } else {
            (low, high)
        };
        let step = round_step((high - low) / f64::from(count));
        let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
        let ticks = (first..=last).map(|index| index as f64 * step).collect();
        Axis { low, high, logarithmic: false, ticks }
    }

    /// Ticks at 1, 2 and 5 of each decade, or at powers of ten where those would crowd. `low` is positive.
    fn logarithmic(low: f64, high: f64) -> Axis {
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let decades = last - first;
        let mantissas: &[f64] = if decades <= 3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let stride = (decades / 8 + 1) as usize;
        let ticks = (first..=last)
            .step_by(stride)
            .flat_map(|decade| mantissas.iter().map(move |mantissa| mantissa * 10f64.powi(decade)));
        Axis { low, high, logarithmic: true, ticks: ticks.filter(|tick| (low..=high).contains(tick)).collect() }
    }

    /// Where the value lies between the ends, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        if self.logarithmic {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    fn label(&self, tick: f64) -> String {
        if tick != 0.0 && !(1e-3..1e5).contains(&tick.abs()) {
            return format!("{tick:.0e}");
        }
        let decimals = match self.ticks[..] {
            [first, second, ..] if !self.logarithmic => -(second - first).log10().floor(),
            _ => -tick.abs().log10().floor(),
        };
        format!("{tick:.*}", decimals.clamp(0.0, 6.0) as usize)
    }
}

/// The least of 1, 2, 5, 10, 20, 50, ... that is not below `least`.
fn round_step(least: f64) -> f64 {
    let decade = 10f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|mantissa| mantissa * decade);
    steps.into_iter().find(|step| *step >= least).unwrap_or(10.0 * decade)
}

/// A rectangle on the sheet, in pixels.
#[derive(Clone, Copy)]
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

/// How a curve is drawn.
#[derive(Clone, Copy)]
struct Stroke {
    color: RGBColor,
    dashed: bool,
}

impl Stroke {
    /// Dashes tell apart the curves for which the palette starts anew.
    fn of_curve(index: usize) -> Stroke {
        Stroke { color: PALETTE[index % PALETTE.len()], dashed: (index / PALETTE.len()) % 2 == 1 }
    }
}

/// A frame with its axes.
struct Panel {
    frame: Frame,
    x: Axis,
    y: Axis,
}

impl Panel {
    /// Position on the sheet.
    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let Frame { left, right, top, bottom } = self.frame;
        (left + self.x.share(x) * (right - left), bottom - self.y.share(y) * (bottom - top))
    }

    fn draw_axes(&self, sheet: &Sheet<'_>, title: &str) -> Result<(), String> {
        let Frame { left, right, top, bottom } = self.frame;
        for &tick in &self.y.ticks {
            let (_, y) = self.at((self.x.low, tick));
            sheet.line(&[(left, y), (right, y)], GRID, 1.0)?;
            sheet.text(&self.y.label(tick), (left - 10.0, y), SMALL_TEXT, FAINT_INK, HPos::Right)?;
        }
        for &tick in &self.x.ticks {
            let (x, _) = self.at((tick, self.y.low));
            sheet.line(&[(x, bottom), (x, bottom + 5.0)], FAINT_INK, 1.0)?;
            sheet.text(&self.x.label(tick), (x, bottom + 17.0), SMALL_TEXT, FAINT_INK, HPos::Center)?;
        }
        sheet.line(&[(left, bottom), (right, bottom)], FAINT_INK, 1.2)?;
        sheet.text(title, (left, top - 18.0), TEXT, INK, HPos::Left)?;
        sheet.text("epoch", ((left + right) / 2.0, bottom + 42.0), TEXT, INK, HPos::Center)
    }

    /// A line with a dot at its end, which is all there is after one epoch.
    fn draw_curve(
        &self,
        sheet: &Sheet<'_>,
        points: impl Iterator<Item = (f64, f64)>,
        stroke: Stroke,
    ) -> Result<(), String> {
        let points: Vec<_> = points.map(|point| self.at(point)).collect();
        sheet.stroke(&points, stroke)?;
        points.last().map_or(Ok(()), |&end| sheet.dot(end, stroke.color))
    }
}

/// The curves' names, in as many rows as they need.
struct Legend {
    /// Text, left edge and row of each curve.
    entries: Vec<(String, f64, usize)>,
    rows: usize,
}

impl Legend {
    fn new(curves: &[Curve]) -> Legend {
        let right = f64::from(WIDTH) - 30.0;
        let (mut x, mut row) = (MARGIN, 0);
        let mut entries = Vec::new();
        for curve in curves {
            let text = fit(&curve.legend(), TEXT, right - MARGIN - SWATCH);
            let width = SWATCH + text_width(&text, TEXT);
            if x > MARGIN && x + width > right {
                (x, row) = (MARGIN, row + 1);
            }
            entries.push((text, x, row));
            x += width + LEGEND_GAP;
        }
        Legend { entries, rows: row + 1 }
    }

    fn draw(&self, sheet: &Sheet<'_>, top: f64) -> Result<(), String> {
        for (index, (text, x, row)) in self.entries.iter().enumerate() {
            let y = top + *row as f64 * LEGEND_ROW;
            let (end, stroke) = (x + SWATCH - 12.0, Stroke::of_curve(index));
            sheet.stroke(&[(*x, y), (end, y)], stroke)?;
            sheet.text(text, (x + SWATCH, y), TEXT, INK, HPos::Left)?;
        }
        Ok(())
    }
}

/// What is drawn on; positions and sizes in pixels of the finished picture.
struct Sheet<'a> {
    area: DrawingArea<BitMapBackend<'a>, Shift>,
}

impl Sheet<'_> {
    fn line(&self, points: &[(f64, f64)], color: RGBColor, width: f64) -> Result<(), String> {
        self.area.draw(&PathElement::new(large_all(points), color.stroke_width(large(width) as u32))).map_err(in_words)
    }

    fn stroke(&self, points: &[(f64, f64)], stroke: Stroke) -> Result<(), String> {
        const WIDTH: f64 = 2.4;
        if stroke.dashed {
            let style = stroke.color.stroke_width(large(WIDTH) as u32);
            let dashes = DashedPathElement::new(large_all(points), large(7.0), large(4.0), style);
            self.area.draw(&dashes).map_err(in_words)
        } else {
            self.line(points, stroke.color, WIDTH)
        }
    }

    fn polygon(&self, points: &[(f64, f64)], color: RGBAColor) -> Result<(), String> {
        self.area.draw(&Polygon::new(large_all(points), color)).map_err(in_words)
    }

    fn dot(&self, (x, y): (f64, f64), color: RGBColor) -> Result<(), String> {
        self.area.draw(&Circle::new((large(x), large(y)), large(3.6), color.filled())).map_err(in_words)
    }

    /// Text whose lower-case letters are centred on the point's height.
    fn text(&self, text: &str, (x, y): (f64, f64), size: f64, color: RGBColor, side: HPos) -> Result<(), String> {
        // plotters centres the whole line; its letters, most of which have no descender, then stand too high.
        let y = y + 0.14 * size;
        let style = font(size).color(&color).pos(Pos::new(side, VPos::Center));
        self.area.draw(&Text::new(text, (large(x), large(y)), style)).map_err(in_words)
    }
}

fn font(size: f64) -> FontDesc<'static> {
    FontDesc::new(FontFamily::Name(FONT), size * f64::from(OVERSAMPLE), FontStyle::Normal)
}

/// Width in pixels; nothing for a text that cannot be measured, whose drawing will say why.
fn text_width(text: &str, size: f64) -> f64 {
    font(size).box_size(text).map_or(0.0, |(width, _)| f64::from(width) / f64::from(OVERSAMPLE))
}

/// The text, shortened to the width if need be.
fn fit(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.to_owned();
    }
    let mut kept: Vec<char> = text.chars().collect();
    loop {
        kept.pop();
        let shortened = kept.iter().collect::<String>() + "…";
        if kept.is_empty() || text_width(&shortened, size) <= width {
            return shortened;
        }
    }
}

fn large(length: f64) -> i32 {
    (length * f64::from(OVERSAMPLE)).round() as i32
}

fn large_all(points: &[(f64, f64)]) -> Vec<(i32, i32)> {
    points.iter().map(|&(x, y)| (large(x), large(y))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn row(rank: Option<u32>, seed: u32, epoch: u32, test_accuracy: f64, train_loss: f64) -> MetricsRow {
        MetricsRow {
            epoch,
            step: epoch,
            replica: seed,
            seed,
            rank: rank.map(Rank::Of),
            train_loss,
            train_accuracy: 0.5,
            test_loss: 0.25,
            test_accuracy,
            seconds: 1.0,
        }
    }

    /// A smooth curve of `epochs` epochs that ends near `last`.
    fn curve(label: &str, epochs: u32, last: f64, seeds: bool) -> Curve {
        let points = (1..=epochs).map(|epoch| {
            let rest = (-f64::from(epoch) / 3.0).exp();
            let wave = 0.004 * (f64::from(epoch) * 1.7 + last * 90.0).sin();
            let std = seeds.then_some(0.002 + 0.05 * rest + wave.abs());
            CurvePoint { epoch, mean: last - 0.4 * rest + wave, std, train_loss_mean: 2.0 * rest + 1.0 - last }
        });
        Curve { label: label.to_owned(), points: points.collect() }
    }

    #[test]
    fn points_are_means_over_seeds_by_rank() {
        let rows = [
            row(Some(10), 1, 1, 0.5, 2.0),
            row(Some(4), 1, 1, 0.25, 3.0),
            row(Some(10), 2, 1, 1.0, 1.0),
            row(Some(10), 1, 2, 0.75, 0.5),
        ];
        let curves = Curve::from_metrics("normative", &rows);
        let point = |epoch, mean, std, train_loss_mean| CurvePoint { epoch, mean, std, train_loss_mean };
        assert_eq!(
            curves,
            [
                Curve { label: "normative, r = 4".to_owned(), points: vec![point(1, 0.25, None, 3.0)] },
                Curve {
                    label: "normative, r = 10".to_owned(),
                    points: vec![point(1, 0.75, Some(0.125f64.sqrt()), 1.5), point(2, 0.75, None, 0.5)]
                }
            ]
        );
        assert_eq!(Curve::from_metrics("backprop", &[row(None, 1, 1, 0.5, 1.0)])[0].label, "backprop");
        assert!(Curve::from_metrics("nothing", &[]).is_empty());
    }

    /// Set `LDFA_CURVES` to a folder to look at the pictures.
    #[test]
    fn pictures_of_every_kind_can_be_drawn() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = std::env::var_os("LDFA_CURVES").map_or(temporary.path().to_owned(), PathBuf::from);
        let rules = [
            curve("backprop", 20, 0.98, true),
            curve("normative, r = 10", 20, 0.975, true),
            curve("oja+hebbian, r = 10", 20, 0.962, true),
        ];
        let many: Vec<Curve> = (0..9)
            .map(|i| curve(&format!("oja+hebbian, r = {}", 1 << i), 160, 0.5 + 0.05 * f64::from(i), true))
            .collect();
        let mut broken = curve("diverged", 5, 0.9, true);
        broken.points[2].mean = f64::NAN;
        broken.points[3].std = Some(f64::INFINITY);
        broken.points[3].train_loss_mean = f64::INFINITY;
        broken.points[4].train_loss_mean = 0.0;
        let single = curve("backprop", 1, 0.9, false);
        let endless = Curve { label: "a very long name ".repeat(30), ..single.clone() };
        let title = "digits: 64-128-128-128-10, three seeds";
        for (name, title, curves) in [
            ("rules", title, &rules[..]),
            ("many", title, &many),
            ("broken", title, &[broken]),
            ("single", "", &[single]),
            ("endless", &title.repeat(9), &[endless]),
            ("empty", "nothing yet", &[]),
            ("pointless", "nothing yet", &[Curve { label: "x".to_owned(), points: Vec::new() }]),
        ] {
            let path = folder.join(format!("{name}.png"));
            draw_curves(&path, title, curves).unwrap();
            let picture = image::load_from_memory(&fs::read(&path).unwrap()).unwrap().to_rgb8();
            assert_eq!(picture.width(), WIDTH);
            let ink = picture.pixels().filter(|pixel| pixel.0 != [255; 3]).count();
            assert!(ink > 1000, "{name} is blank");
        }
    }

    /// Lines, bands and legend of each curve, and nothing outside of it, have its colour.
    #[test]
    fn curves_show_in_their_colours() {
        let picture = render("", &[curve("a", 9, 0.9, true), curve("b", 9, 0.5, true)]).unwrap();
        let pixels = |color: RGBColor| picture.pixels().filter(|pixel| pixel.0 == [color.0, color.1, color.2]).count();
        assert!(pixels(PALETTE[0]) > 500 && pixels(PALETTE[1]) > 500);
        assert_eq!(pixels(PALETTE[2]), 0);
    }

    #[test]
    fn text_is_drawn_with_the_embedded_font() {
        let title = |text| render(text, &[]).unwrap();
        assert_ne!(title("one").as_raw(), title("two").as_raw());
    }

    #[test]
    fn an_unwritable_place_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = draw_curves(&folder.path().join("none/curves.png"), "", &[]).unwrap_err();
        assert!(error.to_string().contains("curves.png"), "{error}");
    }

    #[test]
    fn ticks_are_round() {
        let labels = |axis: Axis| axis.ticks.iter().map(|&tick| axis.label(tick)).collect::<Vec<_>>();
        assert_eq!(labels(Axis::linear(87.3, 99.1, 6)), ["88", "90", "92", "94", "96", "98"]);
        assert_eq!(labels(Axis::linear(1.0, 20.0, 10)), ["2", "4", "6", "8", "10", "12", "14", "16", "18", "20"]);
        assert_eq!(labels(Axis::linear(0.1, 0.4, 6)), ["0.1", "0.2", "0.3", "0.4"]);
        assert_eq!(labels(Axis::logarithmic(0.04, 2.5)), ["0.05", "0.1", "0.2", "0.5", "1", "2"]);
        assert_eq!(labels(Axis::logarithmic(1e-6, 2e3)), ["1e-6", "1e-4", "0.01", "1", "100"]);
    }

    proptest! {
        #[test]
        fn axes_hold_their_range(a in prop::num::f64::NORMAL, b in prop::num::f64::NORMAL) {
            let (low, high) = (a.min(b), a.max(b));
            let axis = Axis::linear(low, high, 6);
            prop_assert!(axis.ticks.len() < 20);
            let (low, high) = (low.abs().min(high.abs()), low.abs().max(high.abs()));
            if high > 10.0 * low {
                let axis = Axis::logarithmic(low / 1.15, high * 1.15);
                prop_assert!(axis.ticks.len() < 20, "{}", axis.ticks.len());
                for value in [low, high].into_iter().filter(|value| (value / axis.low).is_finite()) {
                    prop_assert!((0.0..=1.0).contains(&axis.share(value)));
                }
            }
        }
    }
}
