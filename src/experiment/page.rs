//! Runs and sweeps as one HTML page that needs nothing beside it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use minijinja::Environment;
use minijinja::value::Serde;
use serde::Serialize;

use super::exhibit::{Exhibit, Folder, Picture};
use super::published::published;
use super::runs::{FinishedRun, data_of};
use super::sweep::{
    Measure, Results, Sweep, accuracies_png, compute_png, is_sweep, least_computation, rank_name, reaches, table,
};
use super::{ExperimentError, setting};
use crate::feedback::{Rank, RuleName};
use crate::files::write_atomically;
use crate::model::sending;
use crate::train::TrainError;
use crate::train::config::Config;
use crate::train::curves::{Curve, curves_png};
use crate::train::metrics::{AlignmentRow, LagRow, LogError, MetricsRow, SpectrumRow, Spread};
use crate::train::spectra::{Spectra, spectra_png};
use crate::train::summary::{BEST, percent};

const TEMPLATE: &str = include_str!("page.html");

#[derive(Serialize)]
struct Page {
    title: String,
    version: &'static str,
    /// Heading of accuracies of the best epoch.
    best: &'static str,
    /// Data sets of the runs.
    data: String,
    runs: Vec<Run>,
    pictures: Vec<Picture>,
    alignments: Vec<Aligned>,
    purposes: Vec<String>,
    published: Vec<Beside>,
    sweeps: Vec<SweepView>,
    exhibits: Vec<Exhibit>,
}

#[derive(Serialize)]
struct Run {
    label: String,
    preset: String,
    adapter: String,
    steps: u64,
    seconds: String,
    groups: Vec<Group>,
    costs: Vec<String>,
    folder: String,
    config: String,
}

#[derive(Serialize)]
struct Group {
    rank: String,
    seeds: usize,
    last: String,
    best: String,
}

#[derive(Serialize)]
struct Aligned {
    label: String,
    rank: String,
    layer: String,
    angle: String,
    norm: String,
    captured: String,
}

/// A published number and ours.
#[derive(Serialize)]
struct Beside {
    what: &'static str,
    rank: String,
    accuracy: String,
    seeds: String,
    last: String,
    best: String,
    epochs: String,
}

#[derive(Serialize)]
struct SweepView {
    folder: String,
    data: String,
    missing: usize,
    pictures: Vec<Picture>,
    /// The first line holds the names of the columns.
    table: Vec<Vec<String>>,
    sentences: Vec<String>,
}

/// What a page is about.
#[derive(Clone, Debug, Default)]
pub struct Subjects {
    /// Folders of finished runs.
    pub runs: Vec<PathBuf>,
    /// Folders of sweeps.
    pub sweeps: Vec<PathBuf>,
    /// Folders of other experiments.
    pub others: Vec<Folder>,
}

impl Subjects {
    /// Tells folders apart by what they hold; what is nothing else is taken for a run.
    pub fn of_folders(folders: &[PathBuf]) -> Subjects {
        let mut subjects = Subjects::default();
        for folder in folders {
            let others: Vec<Folder> = Folder::find(folder).collect();
            if is_sweep(folder) {
                subjects.sweeps.push(folder.clone());
            } else if others.is_empty() {
                subjects.runs.push(folder.clone());
            }
            subjects.others.extend(others);
        }
        subjects
    }
}

/// Writes a page about `runs`, the finished ones of its subjects, about sweeps as far as they have come, judged by `measure`, and about
/// other experiments.
///
/// # Errors
/// If a run is damaged, no cell of a sweep has ended, a picture is missing, or the page cannot be written.
pub fn write_page(
    path: &Path,
    title: &str,
    runs: &[FinishedRun],
    subjects: &Subjects,
    measure: Measure,
) -> Result<(), ExperimentError> {
    let data = data_of(runs);
    let runs = runs.iter().map(Found::read).collect::<Result<Vec<_>, _>>()?;
    let purposes: Vec<String> =
        runs.first().map_or(Vec::new(), |found| found.run.summary.flops_per_step.keys().cloned().collect());
    let sweeps = subjects.sweeps.iter().map(|folder| Swept::read(folder)).collect::<Result<Vec<_>, _>>()?;
    let mut ours: Vec<Ours<'_>> = runs.iter().flat_map(Ours::of_run).collect();
    ours.extend(sweeps.iter().flat_map(|swept| Ours::of_sweep(&swept.sweep, &swept.results)));
    let page = Page {
        title: if title.is_empty() {
            "Networks trained through low-dimensional errors".to_owned()
        } else {
            title.to_owned()
        },
        version: env!("CARGO_PKG_VERSION"),
        best: BEST,
        data,
        pictures: pictures_of_runs(&runs).map_err(|message| draw_error(path, message))?,
        alignments: runs.iter().flat_map(aligned).collect(),
        published: beside(&ours),
        runs: runs.iter().map(|run| view(run, &purposes)).collect(),
        purposes: purposes.iter().map(|purpose| purpose.replace('_', " ")).collect(),
        sweeps: (1..)
            .zip(&sweeps)
            .map(|(number, swept)| view_of_sweep(number, swept, measure).map_err(|message| draw_error(path, message)))
            .collect::<Result<_, _>>()?,
        exhibits: (1..).zip(&subjects.others).map(|(number, folder)| folder.read(number)).collect::<Result<_, _>>()?,
    };
    let mut environment = Environment::new();
    let rendered = environment
        .add_template("page.html", TEMPLATE)
        .and_then(|()| environment.get_template("page.html"))
        .and_then(|template| template.render(Serde(&page)));
    let text = rendered.map_err(|e| setting(format!("cannot make {}: {e:#}", path.display())))?;
    Ok(write_atomically(path, |file| file.write_all(text.as_bytes()))?)
}

fn draw_error(path: &Path, message: String) -> ExperimentError {
    ExperimentError::Draw { path: path.to_owned(), message }
}

/// A run with its logs.
struct Found<'a> {
    run: &'a FinishedRun,
    metrics: Vec<MetricsRow>,
    alignments: Vec<AlignmentRow>,
    /// Empty in runs from before there were any.
    spectra: Vec<SpectrumRow>,
    /// The same.
    lags: Vec<LagRow>,
}

impl<'a> Found<'a> {
    fn read(run: &'a FinishedRun) -> Result<Found<'a>, TrainError> {
        let (spectra, lags) = (if_any(run.spectra())?, if_any(run.lags())?);
        Ok(Found { run, metrics: run.metrics()?, alignments: run.alignments()?, spectra, lags })
    }
}

/// No rows of a log that is not there.
fn if_any<R>(rows: Result<Vec<R>, TrainError>) -> Result<Vec<R>, TrainError> {
    match rows {
        Err(TrainError::Log(LogError::Missing { .. })) => Ok(Vec::new()),
        rows => rows,
    }
}

fn view(found: &Found<'_>, purposes: &[String]) -> Run {
    let (label, summary) = (&found.run.label, &found.run.summary);
    let megas = |flops: u64| format!("{:.2}", flops as f64 / 1e6);
    let group = |group: &crate::train::summary::RankSummary| Group {
        rank: rank_name(group.rank),
        seeds: group.n as usize,
        last: percent(group.mean_last, group.std_last),
        best: percent(group.mean_best, group.std_best),
    };
    let costs = purposes.iter().map(|purpose| summary.flops_per_step.get(purpose).copied().unwrap_or(0));
    Run {
        label: label.clone(),
        preset: summary.preset.clone(),
        adapter: summary.adapter.clone(),
        steps: summary.steps,
        seconds: format!("{:.1}", summary.seconds),
        groups: summary.by_rank.iter().map(group).collect(),
        costs: costs.chain([summary.flops_per_step.values().sum()]).map(megas).collect(),
        folder: found.run.folder.display().to_string(),
        config: found.run.config.to_toml().unwrap_or_default(),
    }
}

fn pictures_of_runs(runs: &[Found<'_>]) -> Result<Vec<Picture>, String> {
    let curves: Vec<Curve> =
        runs.iter().flat_map(|found| Curve::from_metrics(&found.run.label, &found.metrics)).collect();
    let spectra =
        |found: &Found<'_>| Spectra::from_logs(&found.run.label, &found.spectra, &found.alignments, &found.lags);
    let spectra: Vec<Spectra> = runs.iter().flat_map(spectra).collect();
    let mut pictures = Vec::new();
    if !curves.is_empty() {
        let caption = "Test accuracy with a band of one standard deviation over seeds, and training loss";
        pictures.push(Picture::new("curves", caption, &curves_png("Learning curves", &curves)?));
    }
    if !spectra.is_empty() {
        let caption = "Participation ratio of each layer's error, and the share of its variance that P takes in; where a layer recurs, \
                       ratio and size of the error of each step after the last epoch; means over seeds";
        pictures.push(Picture::new("spectra", caption, &spectra_png("Errors", &spectra)?));
    }
    Ok(pictures)
}

fn aligned(run: &Found<'_>) -> Vec<Aligned> {
    let last = run.alignments.iter().map(|row| row.epoch).max();
    let mut groups: BTreeMap<Option<Rank>, Vec<(String, Vec<&AlignmentRow>)>> = BTreeMap::new();
    for row in run.alignments.iter().filter(|row| Some(row.epoch) == last) {
        let layers = groups.entry(row.rank).or_default();
        match layers.iter_mut().find(|(layer, _)| *layer == row.layer) {
            Some((_, rows)) => rows.push(row),
            None => layers.push((row.layer.clone(), vec![row])),
        }
    }
    let mean = |rows: &[&AlignmentRow], of: fn(&AlignmentRow) -> Option<f64>, digits: usize| {
        let values: Vec<f64> = rows.iter().filter_map(|row| of(row)).collect();
        if values.is_empty() { "-".to_owned() } else { format!("{:.digits$}", Spread::of(&values).mean) }
    };
    let one = |rank: Option<Rank>, layer: String, rows: Vec<&AlignmentRow>| Aligned {
        label: run.run.label.clone(),
        rank: rank_name(rank),
        layer,
        angle: mean(&rows, |row| row.angle_degrees, 1),
        norm: mean(&rows, |row| row.norm_ratio, 2),
        captured: mean(&rows, |row| row.captured_energy, 3),
    };
    let of_rank = |(rank, layers): (Option<Rank>, Vec<(String, Vec<_>)>)| {
        layers.into_iter().map(move |(layer, rows)| (rank, layer, rows))
    };
    groups.into_iter().flat_map(of_rank).map(|(rank, layer, rows)| one(rank, layer, rows)).collect()
}

/// Networks of one rule and rank that a published number may be about.
struct Ours<'a> {
    config: &'a Config,
    rule: Option<RuleName>,
    rank: Option<Rank>,
    seeds: usize,
    last: Spread,
    best: Spread,
    epochs: u32,
}

impl<'a> Ours<'a> {
    fn of_run(found: &'a Found<'_>) -> impl Iterator<Item = Ours<'a>> {
        let (config, summary) = (&found.run.config, &found.run.summary);
        let epochs = summary.epochs;
        summary.by_rank.iter().map(move |group| Ours {
            config,
            rule: exact_name(config),
            rank: group.rank,
            seeds: group.n as usize,
            last: Spread { mean: group.mean_last, std: group.std_last },
            best: Spread { mean: group.mean_best, std: group.std_best },
            epochs,
        })
    }

    /// Of all classes of the data only.
    fn of_sweep(sweep: &'a Sweep, results: &Results) -> Vec<Ours<'a>> {
        let groups = results.groups().into_iter().filter(|group| group.classes.is_none());
        let ours = groups.filter_map(|group| {
            let cell = sweep.cells.iter().find(|cell| cell.rule == group.rule)?;
            let (rule, rank) = (exact_name(&cell.config), group.rank);
            Some(Ours {
                config: &cell.config,
                rule,
                rank,
                seeds: group.n,
                last: group.accuracy,
                best: group.best,
                epochs: group.epochs,
            })
        });
        ours.collect()
    }
}

/// The rule, where its name says all that the configuration does.
fn exact_name(config: &Config) -> Option<RuleName> {
    RuleName::exactly(&config.feedback, &sending(&config.model.layers))
}

/// Every published number of the presets that there are networks of, each once, with ours where there is one.
fn beside(all: &[Ours<'_>]) -> Vec<Beside> {
    let mut rows: Vec<Beside> = Vec::new();
    for number in all.iter().flat_map(|ours| published(ours.config)) {
        let rank = number.rank.map(Rank::Of);
        let accuracy = format!("{:.2}", number.accuracy);
        if rows.iter().any(|row| row.what == number.what && row.rank == rank_name(rank) && row.accuracy == accuracy) {
            continue;
        }
        let own = all.iter().find(|ours| {
            let is_rule = ours.rule.is_some_and(|rule| rule.to_string() == number.rule);
            is_rule && ours.rank == rank && number.is_of(ours.config)
        });
        let in_words = |spread: fn(&Ours<'_>) -> Spread| {
            own.map_or("-".to_owned(), |own| percent(spread(own).mean, spread(own).std))
        };
        let (last, best) = (in_words(|ours| ours.last), in_words(|ours| ours.best));
        let count = |of: fn(&Ours<'_>) -> usize| own.map_or("-".to_owned(), |own| of(own).to_string());
        let (seeds, epochs) = (count(|ours| ours.seeds), count(|ours| ours.epochs as usize));
        rows.push(Beside { what: number.what, rank: rank_name(rank), accuracy, seeds, last, best, epochs });
    }
    rows
}

/// What a sweep's folder holds.
struct Swept {
    folder: PathBuf,
    sweep: Sweep,
    results: Results,
}

impl Swept {
    fn read(folder: &Path) -> Result<Swept, ExperimentError> {
        let sweep = Sweep::of_folder(folder)?;
        let results = Results::read(&sweep, folder)?;
        if results.rows.is_empty() {
            return Err(setting(format!("no cell of the sweep in {} has ended", folder.display())));
        }
        Ok(Swept { folder: folder.to_owned(), sweep, results })
    }
}

fn view_of_sweep(number: usize, swept: &Swept, measure: Measure) -> Result<SweepView, String> {
    let results = &swept.results;
    let mut pictures = Vec::new();
    let mut sentences = [swept.sweep.kept(), results.verdicts(measure.margin)].concat();
    let caption = "Test accuracy after the last epoch against the rank of the error; bars: one standard error";
    let png = accuracies_png("Accuracy against rank", results)?;
    pictures.push(Picture::new(format!("accuracy-{number}"), caption, &png));
    if let Some(target) = measure.target_of(results) {
        let title = format!("Computation to {:.1} % test accuracy", 100.0 * target);
        let found = reaches(results, target);
        let png = compute_png(&title, results, &found)?;
        let caption = "FLOPs of a network until its test accuracy is first as wanted; bars: one standard deviation";
        pictures.push(Picture::new(format!("compute-{number}"), caption, &png));
        sentences.extend(least_computation(target, &found));
    }
    Ok(SweepView {
        folder: swept.folder.display().to_string(),
        data: swept.sweep.data().to_owned(),
        missing: results.missing.len(),
        pictures,
        table: table(results),
        sentences,
    })
}
