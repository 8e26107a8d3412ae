//! Pictures of lines in panels: axes, legend, text from an embedded font, all in pixels of the finished picture.

use std::fmt::Display;
use std::sync::Once;

use image::{ExtendedColorType, ImageEncoder, Rgb, RgbImage, codecs::png::PngEncoder, imageops};
use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Pixels across.
pub(crate) const WIDTH: u32 = 1200;
/// Drawn this many times larger and averaged: plotters' thick lines have hard edges.
const OVERSAMPLE: u32 = 3;
/// Space at the left and right, in pixels.
pub(crate) const MARGIN: f64 = 64.0;
/// Height of a row of the legend, in pixels.
pub(crate) const LEGEND_ROW: f64 = 26.0;
/// Length of the line before a legend's text, and the space after the text, in pixels.
const SWATCH: f64 = 34.0;
const LEGEND_GAP: f64 = 30.0;
/// Size of a panel's title and of the legend, in pixels, and of the numbers at the axes.
pub(crate) const TEXT: f64 = 17.0;
const SMALL_TEXT: f64 = 15.0;
/// The font's name in plotters' table.
const FONT: &str = "ubuntu";

/// Okabe and Ito's colours, which all common kinds of colour vision tell apart; yellow, too pale for a line, left out.
pub(crate) const PALETTE: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(60, 60, 60),
];
pub(crate) const INK: RGBColor = RGBColor(34, 34, 34);
pub(crate) const PAPER: RGBColor = RGBColor(255, 255, 255);
const FAINT_INK: RGBColor = RGBColor(80, 80, 80);
const GRID: RGBColor = RGBColor(226, 226, 226);

/// Draws a picture of so many pixels down, [`WIDTH`] across.
pub(crate) fn paint(height: u32, draw: impl FnOnce(&Sheet<'_>) -> Result<(), String>) -> Result<RgbImage, String> {
    let mut large = RgbImage::from_pixel(WIDTH * OVERSAMPLE, height * OVERSAMPLE, Rgb([255; 3]));
    let size = large.dimensions();
    {
        let sheet = Sheet { area: BitMapBackend::with_buffer(&mut large, size).into_drawing_area() };
        draw(&sheet)?;
        sheet.area.present().map_err(in_words)?;
    }
    Ok(imageops::thumbnail(&large, WIDTH, height))
}

/// The picture as the content of a PNG file.
pub(crate) fn encode(picture: &RgbImage) -> Result<Vec<u8>, String> {
    let mut png = Vec::new();
    PngEncoder::new(&mut png)
        .write_image(picture.as_raw(), picture.width(), picture.height(), ExtendedColorType::Rgb8)
        .map_err(in_words)?;
    Ok(png)
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

/// Least and greatest finite value.
pub(crate) fn range_of(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((low.min(value), high.max(value))),
    })
}

/// Values along one side of a panel.
#[derive(Debug)]
pub(crate) struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
    pub(crate) ticks: Vec<f64>,
    /// What stands at the ticks, if not their numbers.
    names: Vec<String>,
}

impl Axis {
    /// About `count` ticks at round numbers. A range of one value is widened around it.
    pub(crate) fn linear(low: f64, high: f64, count: u32) -> Axis {
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
        Axis { low, high, logarithmic: false, ticks, names: Vec::new() }
    }

    /// Of what is counted, such as epochs: no tick between whole numbers.
    pub(crate) fn counts(values: impl Iterator<Item = u32>, count: u32) -> Axis {
        let (low, high) = range_of(values.map(f64::from)).unwrap_or((0.0, 1.0));
        let mut axis = Axis::linear(low, high, count);
        axis.ticks.retain(|tick| tick.fract() == 0.0);
        axis
    }

    /// Ticks at 1, 2 and 5 of each decade, or at powers of ten where those would crowd. `low` is positive.
    pub(crate) fn logarithmic(low: f64, high: f64) -> Axis {
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let decades = last - first;
        let mantissas: &[f64] = if decades <= 3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let stride = (decades / 8 + 1) as usize;
        let ticks = (first..=last)
            .step_by(stride)
            .flat_map(|decade| mantissas.iter().map(move |mantissa| mantissa * 10f64.powi(decade)));
        let ticks = ticks.filter(|tick| (low..=high).contains(tick)).collect();
        Axis { low, high, logarithmic: true, ticks, names: Vec::new() }
    }

    /// Names side by side, at 0, 1, 2, ...
    pub(crate) fn categories(names: impl IntoIterator<Item = String>) -> Axis {
        let names: Vec<String> = names.into_iter().collect();
        let ticks: Vec<f64> = (0..names.len()).map(|index| index as f64).collect();
        Axis { low: -0.5, high: ticks.len().max(1) as f64 - 0.5, logarithmic: false, ticks, names }
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
        if let Some(name) = self.names.get(tick as usize) {
            return name.clone();
        }
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
pub(crate) struct Frame {
    pub(crate) left: f64,
    pub(crate) right: f64,
    pub(crate) top: f64,
    pub(crate) bottom: f64,
}

/// How a curve is drawn.
#[derive(Clone, Copy)]
pub(crate) struct Stroke {
    pub(crate) color: RGBColor,
    pub(crate) dashed: bool,
}

impl Stroke {
    /// Dashes tell apart the curves for which the palette starts anew.
    pub(crate) fn of_curve(index: usize) -> Stroke {
        Stroke { color: PALETTE[index % PALETTE.len()], dashed: (index / PALETTE.len()) % 2 == 1 }
    }
}

/// A frame with its axes.
pub(crate) struct Panel {
    pub(crate) frame: Frame,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
}

impl Panel {
    /// Position on the sheet.
    pub(crate) fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let Frame { left, right, top, bottom } = self.frame;
        (left + self.x.share(x) * (right - left), bottom - self.y.share(y) * (bottom - top))
    }

    pub(crate) fn draw_axes(&self, sheet: &Sheet<'_>, title: &str, along: &str) -> Result<(), String> {
        let Frame { left, right, top, bottom } = self.frame;
        for &tick in &self.y.ticks {
            let (_, y) = self.at((self.x.low, tick));
            sheet.line(&[(left, y), (right, y)], GRID, 1.0)?;
            sheet.text(&self.y.label(tick), (left - 10.0, y), SMALL_TEXT, FAINT_INK, HPos::Right)?;
        }
        self.draw_scale(sheet, along)?;
        sheet.line(&[(left, bottom), (right, bottom)], FAINT_INK, 1.2)?;
        sheet.text(title, (left, top - 18.0), TEXT, INK, HPos::Left)
    }

    /// Ticks of x below the frame, and what they count.
    pub(crate) fn draw_scale(&self, sheet: &Sheet<'_>, along: &str) -> Result<(), String> {
        let Frame { left, right, bottom, .. } = self.frame;
        for &tick in &self.x.ticks {
            let (x, _) = self.at((tick, self.y.low));
            sheet.line(&[(x, bottom), (x, bottom + 5.0)], FAINT_INK, 1.0)?;
            sheet.text(&self.x.label(tick), (x, bottom + 17.0), SMALL_TEXT, FAINT_INK, HPos::Center)?;
        }
        sheet.text(along, ((left + right) / 2.0, bottom + 42.0), TEXT, INK, HPos::Center)
    }

    /// A bar from one value to the other, with feet.
    pub(crate) fn draw_bar(&self, sheet: &Sheet<'_>, x: f64, range: [f64; 2], stroke: Stroke) -> Result<(), String> {
        const FOOT: f64 = 5.0;
        let [(x, low), (_, high)] = range.map(|y| self.at((x, y)));
        sheet.line(&[(x, low), (x, high)], stroke.color, 1.4)?;
        for y in [low, high] {
            sheet.line(&[(x - FOOT, y), (x + FOOT, y)], stroke.color, 1.4)?;
        }
        Ok(())
    }

    /// A line with a dot at its end, which is all there is after one epoch.
    pub(crate) fn draw_curve(
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
pub(crate) struct Legend {
    /// Text, left edge and row of each curve.
    entries: Vec<(String, f64, usize)>,
    pub(crate) rows: usize,
}

impl Legend {
    pub(crate) fn new(names: impl IntoIterator<Item = String>) -> Legend {
        let right = f64::from(WIDTH) - 30.0;
        let (mut x, mut row) = (MARGIN, 0);
        let mut entries = Vec::new();
        for name in names {
            let text = fit(&name, TEXT, right - MARGIN - SWATCH);
            let width = SWATCH + text_width(&text, TEXT);
            if x > MARGIN && x + width > right {
                (x, row) = (MARGIN, row + 1);
            }
            entries.push((text, x, row));
            x += width + LEGEND_GAP;
        }
        Legend { entries, rows: row + 1 }
    }

    pub(crate) fn draw(&self, sheet: &Sheet<'_>, top: f64) -> Result<(), String> {
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
pub(crate) struct Sheet<'a> {
    area: DrawingArea<BitMapBackend<'a>, Shift>,
}

impl Sheet<'_> {
    fn line(&self, points: &[(f64, f64)], color: RGBColor, width: f64) -> Result<(), String> {
        self.area.draw(&PathElement::new(large_all(points), color.stroke_width(large(width) as u32))).map_err(in_words)
    }

    pub(crate) fn stroke(&self, points: &[(f64, f64)], stroke: Stroke) -> Result<(), String> {
        const WIDTH: f64 = 2.4;
        if stroke.dashed {
            let style = stroke.color.stroke_width(large(WIDTH) as u32);
            let dashes = DashedPathElement::new(large_all(points), large(7.0), large(4.0), style);
            self.area.draw(&dashes).map_err(in_words)
        } else {
            self.line(points, stroke.color, WIDTH)
        }
    }

    pub(crate) fn polygon(&self, points: &[(f64, f64)], color: RGBAColor) -> Result<(), String> {
        self.area.draw(&Polygon::new(large_all(points), color)).map_err(in_words)
    }

    /// Coloured rectangles, row by row, that fill a frame.
    pub(crate) fn tiles(
        &self,
        frame: Frame,
        [rows, columns]: [usize; 2],
        color: impl Fn(usize, usize) -> RGBColor,
    ) -> Result<(), String> {
        let between = |from: f64, to: f64, at: usize, of: usize| large(from + (to - from) * at as f64 / of as f64);
        let x = |column| between(frame.left, frame.right, column, columns);
        let y = |row| between(frame.top, frame.bottom, row, rows);
        for row in 0..rows {
            for column in 0..columns {
                let corners = [(x(column), y(row)), (x(column + 1), y(row + 1))];
                self.area.draw(&Rectangle::new(corners, color(row, column).filled())).map_err(in_words)?;
            }
        }
        Ok(())
    }

    /// One of many dots, which may lie upon each other.
    pub(crate) fn speck(&self, (x, y): (f64, f64), color: RGBAColor) -> Result<(), String> {
        self.area.draw(&Circle::new((large(x), large(y)), large(2.6), color.filled())).map_err(in_words)
    }

    fn dot(&self, (x, y): (f64, f64), color: RGBColor) -> Result<(), String> {
        self.area.draw(&Circle::new((large(x), large(y)), large(3.6), color.filled())).map_err(in_words)
    }

    /// Text whose lower-case letters are centred on the point's height.
    pub(crate) fn text(
        &self,
        text: &str,
        (x, y): (f64, f64),
        size: f64,
        color: RGBColor,
        side: HPos,
    ) -> Result<(), String> {
        // plotters centres the whole line; its letters, most of which have no descender, then stand too high.
        let y = y + 0.14 * size;
        let style = font(size).color(&color).pos(Pos::new(side, VPos::Center));
        self.area.draw(&Text::new(text, (large(x), large(y)), style)).map_err(in_words)
    }
}

/// The font, which plotters knows from the first use on: texts are measured before anything is drawn.
fn font(size: f64) -> FontDesc<'static> {
    register_font();
    FontDesc::new(FontFamily::Name(FONT), size * f64::from(OVERSAMPLE), FontStyle::Normal)
}

/// Width in pixels; nothing for a text that cannot be measured, whose drawing will say why.
fn text_width(text: &str, size: f64) -> f64 {
    font(size).box_size(text).map_or(0.0, |(width, _)| f64::from(width) / f64::from(OVERSAMPLE))
}

/// The text, shortened to the width if need be.
pub(crate) fn fit(text: &str, size: f64, width: f64) -> String {
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

    /// Nothing is drawn before: names are measured with the font all the same.
    #[test]
    fn names_in_a_legend_do_not_overlap() {
        let legend = Legend::new((0..9).map(|i| format!("a rule with a long name, number {i}")));
        assert!(legend.rows > 1 && legend.entries.len() == 9);
        for pair in legend.entries.windows(2) {
            let [(text, x, row), (_, next, next_row)] = pair else { unreachable!("windows of two") };
            let width = text_width(text, TEXT);
            assert!(width > 100.0, "{text} is {width} pixels wide");
            assert!(next_row > row || *next >= x + SWATCH + width, "{text} runs into the next name");
        }
    }

    #[test]
    fn ticks_are_round() {
        let labels = |axis: Axis| axis.ticks.iter().map(|&tick| axis.label(tick)).collect::<Vec<_>>();
        assert_eq!(labels(Axis::linear(87.3, 99.1, 6)), ["88", "90", "92", "94", "96", "98"]);
        assert_eq!(labels(Axis::linear(1.0, 20.0, 10)), ["2", "4", "6", "8", "10", "12", "14", "16", "18", "20"]);
        assert_eq!(labels(Axis::linear(0.1, 0.4, 6)), ["0.1", "0.2", "0.3", "0.4"]);
        assert_eq!(labels(Axis::counts([3, 1, 2].into_iter(), 4)), ["1", "2", "3"]);
        assert_eq!(labels(Axis::counts([7].into_iter(), 4)), ["4", "6", "8", "10"]);
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
