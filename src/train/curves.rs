//! Learning curves as a picture: test accuracy and training loss against the epoch.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use image::RgbImage;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::files::{FileError, write_atomically};
use super::labels::ranked;
use super::metrics::{MetricsRow, Spread};
use super::summary::percent;
use crate::feedback::Rank;
use crate::picture::{
    Axis, Frame, INK, LEGEND_ROW, Legend, MARGIN, Panel, Sheet, Stroke, WIDTH, encode, fit, paint, range_of,
};

/// Pixels down to the bottom, below a legend of one row.
const HEIGHT: u32 = 480;
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
    /// The curves of one run, one for each rank in its `metrics.csv`, named by its label and the rank.
    pub fn from_metrics(label: &str, rows: &[MetricsRow]) -> Vec<Curve> {
        let mut ranks: BTreeMap<Option<Rank>, BTreeMap<u32, Vec<&MetricsRow>>> = BTreeMap::new();
        for row in rows {
            ranks.entry(row.rank).or_default().entry(row.epoch).or_default().push(row);
        }
        let curve = |(rank, epochs): (_, BTreeMap<u32, Vec<&MetricsRow>>)| Curve {
            label: ranked(label, rank),
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
    let png = curves_png(title, curves).map_err(|message| CurvesError::Draw { path: path.to_owned(), message })?;
    Ok(write_atomically(path, |file| file.write_all(&png))?)
}

/// The same as the content of a PNG file.
pub(crate) fn curves_png(title: &str, curves: &[Curve]) -> Result<Vec<u8>, String> {
    encode(&render(title, curves)?)
}

fn render(title: &str, curves: &[Curve]) -> Result<RgbImage, String> {
    let legend = Legend::new(curves.iter().map(Curve::legend));
    let height = HEIGHT + (legend.rows as f64 * LEGEND_ROW) as u32;
    paint(height, |sheet| {
        sheet.text(&fit(title, 22.0, f64::from(WIDTH) - 2.0 * MARGIN), (MARGIN, 34.0), 22.0, INK, HPos::Left)?;
        legend.draw(sheet, 72.0)?;
        let (top, bottom) = (72.0 + LEGEND_ROW * legend.rows as f64 + 34.0, f64::from(height) - 62.0);
        let middle = f64::from(WIDTH) / 2.0;
        let left = Frame { left: MARGIN, right: middle - 30.0, top, bottom };
        let right = Frame { left: middle + MARGIN - 4.0, right: f64::from(WIDTH) - 30.0, top, bottom };
        accuracy_panel(sheet, left, curves)?;
        loss_panel(sheet, right, curves)
    })
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
    panel.draw_axes(sheet, "test accuracy (%)", "epoch")?;
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
    panel.draw_axes(sheet, if logarithmic { "training loss (logarithmic)" } else { "training loss" }, "epoch")?;
    for (index, curve) in curves.iter().enumerate() {
        let points = curve.points.iter().map(|point| (f64::from(point.epoch), point.train_loss_mean));
        panel.draw_curve(sheet, points.filter(|(_, loss)| shown(loss)), Stroke::of_curve(index))?;
    }
    Ok(())
}

fn epoch_axis(curves: &[Curve]) -> Axis {
    Axis::counts(curves.iter().flat_map(|curve| &curve.points).map(|point| point.epoch), 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::PALETTE;
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
                Curve { label: "normative r=4".to_owned(), points: vec![point(1, 0.25, None, 3.0)] },
                Curve {
                    label: "normative r=10".to_owned(),
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
            curve("normative r=10", 20, 0.975, true),
            curve("local r=10", 20, 0.962, true),
        ];
        let many: Vec<Curve> =
            (0..9).map(|i| curve(&format!("local r={}", 1 << i), 160, 0.5 + 0.05 * f64::from(i), true)).collect();
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
}
