//! Dimension of errors along training as a picture.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use image::RgbImage;
use plotters::style::text_anchor::HPos;

use super::curves::CurvesError;
use super::files::write_atomically;
use super::labels::ranked;
use super::metrics::{AlignmentRow, SpectrumRow, Spread};
use crate::feedback::Rank;
use crate::picture::{
    Axis, Frame, INK, LEGEND_ROW, Legend, MARGIN, Panel, Sheet, Stroke, WIDTH, encode, fit, paint, range_of,
};

/// By layer, epoch and value.
type Measure = BTreeMap<String, Vec<(u32, f64)>>;

/// Measures of one rule at one rank, means over its seeds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spectra {
    /// Name in the legend.
    pub label: String,
    /// Effective dimension of the error at the layer's output.
    pub dimension: Measure,
    /// Share of its variance that P takes in; empty without P.
    pub captured: Measure,
}

impl Spectra {
    /// Of one run, one for each rank in its logs, named by `label` and the rank.
    pub fn from_logs(label: &str, spectra: &[SpectrumRow], alignments: &[AlignmentRow]) -> Vec<Spectra> {
        type Values = BTreeMap<Option<Rank>, BTreeMap<String, BTreeMap<u32, Vec<f64>>>>;
        let (mut dimension, mut captured) = (Values::new(), Values::new());
        let add = |values: &mut Values, rank, layer: &str, epoch, value| {
            let layers = values.entry(rank).or_default();
            layers.entry(layer.to_owned()).or_default().entry(epoch).or_default().push(value);
        };
        for row in spectra {
            add(&mut dimension, row.rank, &row.layer, row.epoch, row.effective_dimension);
        }
        for row in alignments {
            if let Some(share) = row.captured_energy {
                add(&mut captured, row.rank, &row.layer, row.epoch, share);
            }
        }
        let means = |layers: Option<BTreeMap<String, BTreeMap<u32, Vec<f64>>>>| {
            let line = |epochs: BTreeMap<u32, Vec<f64>>| {
                epochs.into_iter().map(|(epoch, values)| (epoch, Spread::of(&values).mean)).collect()
            };
            layers.unwrap_or_default().into_iter().map(|(layer, epochs)| (layer, line(epochs))).collect()
        };
        let ranks: Vec<Option<Rank>> = dimension.keys().copied().collect();
        let one = |rank: Option<Rank>| Spectra {
            label: ranked(label, rank),
            dimension: means(dimension.remove(&rank)),
            captured: means(captured.remove(&rank)),
        };
        ranks.into_iter().map(one).collect()
    }
}

/// Draws, for every layer, the effective dimension of its error by epoch, then the share of the error's variance that P takes in.
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

type Lines = Vec<(usize, Vec<(u32, f64)>)>;

fn render(title: &str, spectra: &[Spectra]) -> Result<RgbImage, String> {
    /// Panels side by side, and pixels of one down.
    const COLUMNS: usize = 3;
    const DOWN: f64 = 290.0;
    let dimension: fn(&Spectra) -> &Measure = |s| &s.dimension;
    let captured: fn(&Spectra) -> &Measure = |s| &s.captured;
    let measures = [("effective dimension", dimension), ("variance that P takes in", captured)];
    let mut panels: Vec<(String, Lines)> = Vec::new();
    for (what, measure) in measures {
        for layer in in_order(spectra.iter().flat_map(|s| measure(s).keys().cloned()).collect()) {
            let lines = spectra.iter().enumerate().filter_map(|(at, s)| Some((at, measure(s).get(&layer)?.clone())));
            panels.push((format!("{what}, {layer}"), lines.collect()));
        }
    }
    let legend = Legend::new(spectra.iter().map(|s| s.label.clone()));
    let above = 72.0 + LEGEND_ROW * legend.rows as f64;
    let height = above + DOWN * panels.len().div_ceil(COLUMNS).max(1) as f64;
    paint(height as u32, |sheet| {
        sheet.text(&fit(title, 22.0, f64::from(WIDTH) - 2.0 * MARGIN), (MARGIN, 34.0), 22.0, INK, HPos::Left)?;
        legend.draw(sheet, 72.0)?;
        let across = (f64::from(WIDTH) - MARGIN) / COLUMNS as f64;
        for (index, (name, lines)) in panels.iter().enumerate() {
            let (left, top) = (MARGIN + across * (index % COLUMNS) as f64, above + DOWN * (index / COLUMNS) as f64);
            let frame = Frame { left, right: left + across - 56.0, top: top + 40.0, bottom: top + DOWN - 60.0 };
            panel(sheet, frame, name, lines)?;
        }
        Ok(())
    })
}

fn panel(sheet: &Sheet<'_>, frame: Frame, name: &str, lines: &Lines) -> Result<(), String> {
    let points = || lines.iter().flat_map(|(_, points)| points);
    let (_, high) = range_of(points().map(|(_, value)| *value)).unwrap_or((0.0, 1.0));
    let x = Axis::counts(points().map(|(epoch, _)| *epoch), 4);
    let panel = Panel { frame, x, y: Axis::linear(0.0, 1.05 * high, 4) };
    panel.draw_axes(sheet, name, "epoch")?;
    for (at, points) in lines {
        let points = points.iter().map(|&(epoch, value)| (f64::from(epoch), value));
        panel.draw_curve(sheet, points.filter(|(_, value)| value.is_finite()), Stroke::of_curve(*at))?;
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

    #[test]
    fn measures_are_means_over_seeds_by_rank_and_layer() {
        let rows = [row(0, 1, "layers.0", 2.0), row(1, 1, "layers.0", 4.0), row(0, 2, "layers.0", 1.0)];
        let found = Spectra::from_logs("local", &rows, &[]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].label, "local r=4");
        assert_eq!(found[0].dimension["layers.0"], [(1, 3.0), (2, 1.0)]);
        assert!(found[0].captured.is_empty());
        assert!(Spectra::from_logs("local", &[], &[]).is_empty());
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
            assert!(render("title", &Spectra::from_logs("local", rows, &[])).is_ok());
        }
    }
}
