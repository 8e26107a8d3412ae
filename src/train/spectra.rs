//! Dimension of errors along training, and on their way back through time, as a picture.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use image::RgbImage;
use plotters::style::text_anchor::HPos;

use super::curves::CurvesError;
use super::files::write_atomically;
use super::labels::ranked;
use super::metrics::{AlignmentRow, LagRow, SpectrumRow, Spread};
use crate::feedback::Rank;
use crate::picture::{
    Axis, Frame, INK, LEGEND_ROW, Legend, MARGIN, Panel, Sheet, Stroke, WIDTH, encode, fit, paint, range_of,
};

/// Values of every layer, each with its epoch, or with its step counted from the end of a sequence, whose last is 1.
type Measure = BTreeMap<String, Vec<(u32, f64)>>;

/// Measures of one rule at one rank, means over its seeds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spectra {
    /// Name in the legend.
    pub label: String,
    /// Effective dimension of the error at the layer's output, by epoch.
    pub dimension: Measure,
    /// Share of its variance that P takes in, by epoch; empty without P.
    pub captured: Measure,
    /// Effective dimension of the error of a single step after the last epoch, by step; empty where nothing recurs.
    pub step_dimension: Measure,
    /// Root mean square of that error, by step.
    pub step_rms: Measure,
}

impl Spectra {
    /// Of one run, one for each rank in its logs, named by `label` and the rank.
    pub fn from_logs(
        label: &str,
        spectra: &[SpectrumRow],
        alignments: &[AlignmentRow],
        lags: &[LagRow],
    ) -> Vec<Spectra> {
        type Values = BTreeMap<Option<Rank>, BTreeMap<String, BTreeMap<u32, Vec<f64>>>>;
        let [mut dimension, mut captured, mut step_dimension, mut step_rms] = [(); 4].map(|()| Values::new());
        let add = |values: &mut Values, rank, layer: &str, at, value| {
            let layers = values.entry(rank).or_default();
            layers.entry(layer.to_owned()).or_default().entry(at).or_default().push(value);
        };
        for row in spectra {
            add(&mut dimension, row.rank, &row.layer, row.epoch, row.effective_dimension);
        }
        for row in alignments {
            if let Some(share) = row.captured_energy {
                add(&mut captured, row.rank, &row.layer, row.epoch, share);
            }
        }
        let last = lags.iter().map(|row| row.epoch).max();
        for row in lags.iter().filter(|row| Some(row.epoch) == last) {
            for (values, value) in [(&mut step_dimension, row.effective_dimension), (&mut step_rms, row.error_rms)] {
                if let Some(value) = value {
                    add(values, row.rank, &row.layer, row.lag.saturating_add(1), value);
                }
            }
        }
        let means = |layers: Option<BTreeMap<String, BTreeMap<u32, Vec<f64>>>>| {
            let line = |places: BTreeMap<u32, Vec<f64>>| {
                places.into_iter().map(|(at, of)| (at, Spread::of(&of).mean)).collect()
            };
            layers.unwrap_or_default().into_iter().map(|(layer, places)| (layer, line(places))).collect()
        };
        let ranks: Vec<Option<Rank>> = dimension.keys().copied().collect();
        let one = |rank: Option<Rank>| Spectra {
            label: ranked(label, rank),
            dimension: means(dimension.remove(&rank)),
            captured: means(captured.remove(&rank)),
            step_dimension: means(step_dimension.remove(&rank)),
            step_rms: means(step_rms.remove(&rank)),
        };
        ranks.into_iter().map(one).collect()
    }
}

/// Draws, for every layer, the effective dimension of its error by epoch, then the share of the error's variance that P takes in;
/// for layers that recur then the dimension and the size of the error step by step, as after the last epoch.
///
/// # Errors
/// [`CurvesError`] when the file cannot be written; what was there before is untouched.
pub fn draw_spectra(path: &Path, title: &str, spectra: &[Spectra]) -> Result<(), CurvesError> {
    let png = spectra_png(title, spectra).map_err(|message| CurvesError::Draw { path: path.to_owned(), message })?;
    Ok(write_atomically(path, |file| file.write_all(&png))?)
}

/// The same as the content of a PNG file.
pub(crate) fn spectra_png(title: &str, spectra: &[Spectra]) -> Result<Vec<u8>, String> {
    encode(&render(title, spectra)?)
}

/// `layers.2` before `layers.10`.
fn in_order(mut layers: Vec<String>) -> Vec<String> {
    let key = |name: &String| -> Vec<(u64, String)> {
        name.split('.').map(|part| (part.parse().unwrap_or(u64::MAX), part.to_owned())).collect()
    };
    layers.sort_by_key(key);
    layers.dedup();
    layers
}

/// What panels show, one a layer.
struct Shown {
    what: &'static str,
    of: fn(&Spectra) -> &Measure,
    /// Whether it is drawn against steps of a sequence, and not against epochs.
    is_by_step: bool,
    /// Whether values of all sizes are told apart.
    is_logarithmic: bool,
}

const SHOWN: [Shown; 4] = [
    Shown { what: "effective dimension", of: |s| &s.dimension, is_by_step: false, is_logarithmic: false },
    Shown { what: "variance that P takes in", of: |s| &s.captured, is_by_step: false, is_logarithmic: false },
    Shown { what: "dimension by step", of: |s| &s.step_dimension, is_by_step: true, is_logarithmic: false },
    Shown { what: "RMS by step", of: |s| &s.step_rms, is_by_step: true, is_logarithmic: true },
];

/// Each with the number of its curve.
type Lines<'a> = Vec<(usize, &'a [(u32, f64)])>;

fn render(title: &str, spectra: &[Spectra]) -> Result<RgbImage, String> {
    /// Panels side by side, and pixels of one down.
    const COLUMNS: usize = 3;
    const DOWN: f64 = 290.0;
    let mut panels: Vec<(&Shown, String, Lines<'_>)> = Vec::new();
    for shown in &SHOWN {
        for layer in in_order(spectra.iter().flat_map(|s| (shown.of)(s).keys().cloned()).collect()) {
            let curves = spectra.iter().map(shown.of).enumerate();
            let lines = curves.filter_map(|(at, measure)| Some((at, measure.get(&layer)?.as_slice()))).collect();
            panels.push((shown, layer, lines));
        }
    }
    let legend = Legend::new(spectra.iter().map(|s| s.label.clone()));
    let above = 72.0 + LEGEND_ROW * legend.rows as f64;
    let height = above + DOWN * panels.len().div_ceil(COLUMNS).max(1) as f64;
    paint(height as u32, |sheet| {
        sheet.text(&fit(title, 22.0, f64::from(WIDTH) - 2.0 * MARGIN), (MARGIN, 34.0), 22.0, INK, HPos::Left)?;
        legend.draw(sheet, 72.0)?;
        let across = (f64::from(WIDTH) - MARGIN) / COLUMNS as f64;
        for (index, (shown, layer, lines)) in panels.iter().enumerate() {
            let (left, top) = (MARGIN + across * (index % COLUMNS) as f64, above + DOWN * (index / COLUMNS) as f64);
            let frame = Frame { left, right: left + across - 56.0, top: top + 40.0, bottom: top + DOWN - 60.0 };
            panel(sheet, frame, shown, layer, lines)?;
        }
        Ok(())
    })
}

fn panel(sheet: &Sheet<'_>, frame: Frame, shown: &Shown, layer: &str, lines: &Lines<'_>) -> Result<(), String> {
    /// Steps from which on those near the end would crowd.
    const LONG: u32 = 32;
    let places = || lines.iter().flat_map(|(_, points)| *points).map(|(at, _)| *at);
    let values = || lines.iter().flat_map(|(_, points)| *points).map(|(_, value)| *value);
    let positive = range_of(values().filter(|value| *value > 0.0)).filter(|_| shown.is_logarithmic);
    let y = match positive {
        Some((low, high)) => Axis::logarithmic(low / 1.15, high * 1.15),
        None => Axis::linear(0.0, 1.05 * range_of(values()).map_or(1.0, |(_, high)| high), 4),
    };
    let x = match places().max() {
        Some(most) if shown.is_by_step && most > LONG => Axis::logarithmic(1.0, f64::from(most)),
        _ => Axis::counts(places(), 4),
    };
    let is_drawn = |value: f64| value.is_finite() && (positive.is_none() || value > 0.0);
    let panel = Panel { frame, x, y };
    let along = if shown.is_by_step { "step from the end" } else { "epoch" };
    panel.draw_axes(sheet, &format!("{}, {layer}", shown.what), along)?;
    for (at, points) in lines {
        let points = points.iter().map(|&(at, value)| (f64::from(at), value));
        panel.draw_curve(sheet, points.filter(|(_, value)| is_drawn(*value)), Stroke::of_curve(*at))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seed: u32, epoch: u32, layer: &str, effective_dimension: f64) -> SpectrumRow {
        SpectrumRow {
            epoch,
            step: epoch,
            replica: seed,
            seed,
            rank: Some(Rank::Of(4)),
            layer: layer.to_owned(),
            variance: 1.0,
            effective_dimension,
            shares: "1".to_owned(),
        }
    }

    fn lag(seed: u32, epoch: u32, lag: u32, error_rms: f64, effective_dimension: Option<f64>) -> LagRow {
        LagRow {
            epoch,
            step: epoch,
            replica: seed,
            seed,
            rank: Some(Rank::Of(4)),
            layer: "layers.1.hh".to_owned(),
            lag,
            error_rms: Some(error_rms),
            effective_dimension,
        }
    }

    #[test]
    fn measures_are_means_over_seeds_by_rank_and_layer() {
        let rows = [row(0, 1, "layers.0", 2.0), row(1, 1, "layers.0", 4.0), row(0, 2, "layers.0", 1.0)];
        let lags = [
            lag(0, 1, 0, 9.0, Some(9.0)),
            lag(0, 2, 0, 2.0, Some(3.0)),
            lag(1, 2, 0, 4.0, Some(5.0)),
            lag(0, 2, 1, 0.0, None),
        ];
        let found = Spectra::from_logs("local", &rows, &[], &lags);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].label, "local r=4");
        assert_eq!(found[0].dimension["layers.0"], [(1, 3.0), (2, 1.0)]);
        assert!(found[0].captured.is_empty());
        // After the last epoch.
        assert_eq!(found[0].step_dimension["layers.1.hh"], [(1, 4.0)]);
        assert_eq!(found[0].step_rms["layers.1.hh"], [(1, 3.0), (2, 0.0)]);
        assert!(Spectra::from_logs("local", &[], &[], &[]).is_empty());
    }

    #[test]
    fn layers_are_in_the_order_of_the_network() {
        let names = ["layers.10", "layers.2", "layers.2.main.0", "layers.2"].map(str::to_owned);
        assert_eq!(in_order(names.to_vec()), ["layers.2", "layers.2.main.0", "layers.10"]);
    }

    #[test]
    fn pictures_can_be_drawn_of_whatever_there_is() {
        let rows = [row(0, 1, "layers.0", 2.0), row(0, 1, "layers.2", f64::NAN)];
        for rows in [&rows[..], &[]] {
            for lags in
                [&[][..], &[lag(0, 1, 0, 0.0, None)], &[lag(0, 1, 0, 1e-9, Some(2.0)), lag(0, 1, u32::MAX, 0.1, None)]]
            {
                assert!(render("title", &Spectra::from_logs("local", rows, &[], lags)).is_ok());
            }
        }
    }
}
