//! Sweeps: rules x ranks x seeds x classes, as cells that are ordinary runs.
//!
//! A cell trains every rank and seed of one rule on one set of classes side by side. Cells depend on nothing but the sweep's
//! configuration, so that they can be made one after the other or by different processes, and a sweep that was stopped goes on
//! where it was.

mod compute;
mod picture;
mod results;
mod verdict;

use std::fs::DirEntry;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

pub(super) use compute::compute_png;
pub use compute::{Cost, Reach, draw_compute, least_computation, reaches, write_reaches};
pub(super) use picture::accuracies_png;
pub use picture::draw_accuracies;
pub(super) use results::order;
pub use results::{Group, ResultRow, Results};
pub use verdict::{Gap, MARGIN, Measure, NoRank, table};

use super::{ExperimentError, setting};
use crate::data::SearchPath;
use crate::feedback::{FeedbackSpec, LayerRank, Rank, Ranks, Route, RuleName};
use crate::files::{self, FileError, create_folder, is_leftover, write_atomically};
use crate::gpu::DeviceChoice;
use crate::model::{LayerSpec, sending};
use crate::ops::MAX_REPLICAS;
use crate::plan::{Options, Profile};
use crate::train::TrainError;
use crate::train::config::{Config, Draft};
use crate::train::machine::{Kernels, Preparation};
use crate::train::progress::Progress;
use crate::train::run_dir::RunDir;
use crate::train::session::Session;
use crate::train::trainer::{Outcome, Trainer, recorded_kernels};

/// The section of a configuration file that makes it a sweep.
const SECTION: &str = "sweep";

/// What is varied besides the seeds, which are the configuration's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Axes {
    /// How errors travel back.
    #[serde(default)]
    pub rules: Vec<RuleName>,
    /// Ranks of the rules that have one.
    #[serde(default)]
    pub ranks: Vec<Rank>,
    /// The first so many classes of the data, each in turn; if empty, the data as configured.
    #[serde(default)]
    pub classes: Vec<u32>,
    /// Most networks in a cell; as many as a run takes if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<u32>,
}

/// One run of a sweep.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Its folder below `cells`.
    pub name: String,
    /// How errors travel back.
    pub rule: RuleName,
    /// Classes that it learns, where they are varied.
    pub classes: Option<u32>,
    /// The run.
    pub config: Config,
}

/// A configuration and what is varied of it.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// In a fixed order.
    pub cells: Vec<Cell>,
    /// What the sweep is made from, as a file that [`open`] reads.
    text: String,
}

/// Where and with what a cell is computed.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    /// Adapter.
    pub device: &'a DeviceChoice,
    /// Folders of the data.
    pub search: &'a SearchPath,
    /// Kernels of new runs; those that go on keep theirs.
    pub preparation: Preparation,
    /// Set to stop after the step.
    pub stop: &'a AtomicBool,
}

/// A preset, a configuration, or a configuration with a `[sweep]` section: what is varied is empty without one.
///
/// # Errors
/// If there is no such thing, or it is no configuration.
pub fn open(name: &str) -> Result<(Draft, Axes), ExperimentError> {
    let path = Path::new(name);
    if !path.is_file() {
        return Ok((Draft::open(name).map_err(TrainError::from)?, Axes::default()));
    }
    let text = files::read_text(path, files::MOST)?;
    let (draft, section) = Draft::split_off(name.to_owned(), &text, SECTION).map_err(TrainError::from)?;
    let axes = section.map_or(Ok(Axes::default()), Axes::deserialize);
    Ok((draft, axes.map_err(|e| setting(format!("{name}: [{SECTION}]: {}", e.message())))?))
}

impl Sweep {
    /// The cells of every rule and number of classes.
    ///
    /// # Errors
    /// If there is nothing to vary, something twice, or a cell's configuration makes no sense.
    pub fn new(draft: &Draft, axes: &Axes) -> Result<Sweep, ExperimentError> {
        if axes.rules.is_empty() {
            return Err(setting("a sweep needs rules, such as --rules backprop,normative,local"));
        }
        let ranked = axes.rules.iter().any(|rule| rule.has_rank());
        if ranked && axes.ranks.is_empty() {
            return Err(setting("a sweep over rules of low rank needs ranks, such as --ranks 2,4,8,16"));
        }
        unique("rule", &axes.rules)?;
        unique("rank", &axes.ranks)?;
        unique("number of classes", &axes.classes)?;
        let networks = axes.networks.map_or(MAX_REPLICAS, |n| n as usize);
        if !(1..=MAX_REPLICAS).contains(&networks) {
            return Err(setting(format!(
                "--networks {networks}: a cell holds from 1 to {MAX_REPLICAS} networks; leave it out for as many as there can be"
            )));
        }
        let mut cells = Vec::new();
        let classes: Vec<Option<u32>> =
            if axes.classes.is_empty() { vec![None] } else { axes.classes.iter().copied().map(Some).collect() };
        for &classes in &classes {
            for rule in &axes.rules {
                cells.extend(of_rule(draft, rule, &axes.ranks, classes, networks)?);
            }
        }
        Ok(Sweep { cells, text: text(draft, axes)? })
    }

    /// The sweep that a folder was made for.
    ///
    /// # Errors
    /// If it holds none, or what it holds is damaged.
    pub fn of_folder(folder: &Path) -> Result<Sweep, ExperimentError> {
        let path = file_of(folder);
        if !path.is_file() {
            return Err(setting(format!("{} holds no sweep: there is no sweep.toml", folder.display())));
        }
        let (draft, mut axes) = open(&path.to_string_lossy())?;
        // Sweeps of old may say any number, which was then brought into these bounds.
        axes.networks = axes.networks.map(|networks| networks.clamp(1, MAX_REPLICAS as u32));
        Sweep::new(&draft, &axes)
    }

    /// What cells keep of the configuration beside the ranks that are varied: a line for each rule and number of classes.
    pub fn kept(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for cell in self.cells.iter().filter(|cell| cell.rule.has_rank()) {
            let FeedbackSpec { ranks, exact, .. } = &cell.config.feedback;
            let is_single = matches!(cell.rule, RuleName::Factored { route: Route::Only(_), .. });
            let mut parts: Vec<String> = Vec::new();
            let pinned = ranks.iter().filter(|(_, rank)| matches!(rank, LayerRank::Own(_)));
            let each: Vec<String> = pinned.map(|(layer, rank)| format!("{layer} keeps r={rank}")).collect();
            if !each.is_empty() {
                parts.push(format!("{} (feedback.ranks)", each.join(", ")));
            }
            if !exact.is_empty() && !is_single {
                parts.push(format!("{} the exact transport (feedback.exact)", exact.join(", ")));
            }
            if parts.is_empty() {
                continue;
            }
            let line = format!(
                "{}: {}; --ranks is the rank of {}",
                cell.rule,
                parts.join(", "),
                free(&cell.config).join(", ")
            );
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        lines
    }

    /// The data set's name.
    pub fn data(&self) -> &str {
        self.cells.first().map_or("", |cell| cell.config.data.name.as_str())
    }

    /// Looks whether every cell can be trained on such an adapter, before the first one is: what its networks cost.
    ///
    /// # Errors
    /// The first cell whose data or network is not possible, or does not fit the adapter.
    pub fn check(&self, search: &SearchPath, profile: &Profile) -> Result<Vec<Cost>, ExperimentError> {
        let mut costs = Vec::new();
        for cell in &self.cells {
            if cell.rule.has_rank() {
                refuse_pinned(cell.rule, &cell.config)?;
            }
            let own = Cost::of_cell(cell, search, profile);
            costs.extend(own.map_err(|error| setting(format!("cell {}: {error}", cell.name)))?);
        }
        Ok(costs)
    }

    /// Makes the folder with what the networks cost, or finds that it was made for this sweep.
    ///
    /// # Errors
    /// If it was made for another one or holds something else, or cannot be written.
    pub fn prepare(&self, folder: &Path, costs: &[Cost]) -> Result<(), ExperimentError> {
        let path = file_of(folder);
        match files::read_text(&path, files::MOST) {
            Ok(found) if found == self.text => {
                return if costs_of(folder).is_file() { Ok(()) } else { Ok(Cost::write(&costs_of(folder), costs)?) };
            }
            Ok(_) => {
                return Err(setting(format!(
                    "{} holds another sweep; choose another --out, or give the rules, ranks, seeds and settings in its sweep.toml",
                    folder.display()
                )));
            }
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        create_folder(folder)?;
        let own = |entry: &DirEntry| {
            is_leftover(&entry.file_name()) || entry.path() == costs_of(folder) || entry.path() == path
        };
        let mut entries = std::fs::read_dir(folder).map_err(FileError::at(folder, "look into"))?;
        if let Some(entry) = entries.find_map(|entry| entry.ok().filter(|entry| !own(entry))) {
            if path.is_file() {
                // Another process of the same sweep was faster.
                return self.prepare(folder, costs);
            }
            let found = entry.file_name().to_string_lossy().into_owned();
            return Err(setting(format!(
                "{} is not empty (it holds {found}); choose a new or empty folder with --out",
                folder.display()
            )));
        }
        Cost::write(&costs_of(folder), costs)?;
        Ok(write_atomically(&path, |file| file.write_all(self.text.as_bytes()))?)
    }

    /// Folders of the cells that have ended.
    ///
    /// # Errors
    /// If a cell was made by another configuration than the sweep's.
    pub fn ended(&self, folder: &Path) -> Result<Vec<PathBuf>, ExperimentError> {
        let mut ended = Vec::new();
        for cell in &self.cells {
            let path = folder_of(folder, cell);
            if path.join("summary.json").is_file() {
                results::check_cell(cell, &path)?;
                ended.push(path);
            }
        }
        Ok(ended)
    }

    /// Trains a cell, goes on with it, or does nothing if it has ended; false if asked to stop before its end.
    ///
    /// # Errors
    /// As a run's.
    pub fn train(&self, cell: &Cell, folder: &Path, setup: &Setup<'_>) -> Result<bool, ExperimentError> {
        let path = folder_of(folder, cell);
        let run = if path.join("config.toml").is_file() {
            let run = RunDir::resume(&path).map_err(TrainError::from)?;
            if run.summary().is_file() {
                return Ok(true);
            }
            let kernels = Kernels::Chosen(recorded_kernels(&run)?);
            let preparation = Preparation { kernels, ..setup.preparation.clone() };
            let session = session(cell, setup, &preparation)?;
            let progress = Box::new(Progress::of(&session));
            Trainer::resume(session, run, setup.stop, progress)?.run()?
        } else {
            let session = session(cell, setup, &setup.preparation)?;
            let run = RunDir::create(&path).map_err(TrainError::from)?;
            let progress = Box::new(Progress::of(&session));
            Trainer::start(session, run, setup.stop, progress)?.run()?
        };
        Ok(matches!(run, Outcome::Finished(_)))
    }
}

fn session(cell: &Cell, setup: &Setup<'_>, preparation: &Preparation) -> Result<Session, TrainError> {
    let data = cell.config.dataset(setup.search)?;
    Session::prepared(cell.config.clone(), &data, setup.device, Options::default(), preparation)
}

fn file_of(folder: &Path) -> PathBuf {
    folder.join("sweep.toml")
}

fn costs_of(folder: &Path) -> PathBuf {
    folder.join("cost.csv")
}

/// Whether a folder holds a sweep.
pub fn is_sweep(folder: &Path) -> bool {
    file_of(folder).is_file()
}

fn folder_of(folder: &Path, cell: &Cell) -> PathBuf {
    folder.join("cells").join(&cell.name)
}

fn unique<T: PartialEq + std::fmt::Display>(what: &str, values: &[T]) -> Result<(), ExperimentError> {
    let twice = values.iter().enumerate().find(|(at, value)| values[..*at].contains(value));
    twice.map_or(Ok(()), |(_, value)| Err(setting(format!("{what} {value} is listed twice"))))
}

/// A rule's cells, more than one where its networks are too many for one.
fn of_rule(
    draft: &Draft,
    rule: &RuleName,
    ranks: &[Rank],
    classes: Option<u32>,
    networks: usize,
) -> Result<Vec<Cell>, ExperimentError> {
    let mut whole = draft.clone();
    whole.apply(*rule).map_err(TrainError::from)?;
    if let Some(classes) = classes {
        whole.set("data.classes", &classes.to_string()).map_err(TrainError::from)?;
        whole.set_outputs(classes);
    }
    // Ranks are put in afterwards: all of them with all seeds may be more than a run takes.
    if rule.has_rank() {
        let first = ranks.first().map_or(String::new(), |rank| format!("\"{rank}\""));
        whole.set("feedback.rank", &first).map_err(TrainError::from)?;
    }
    let base = whole.finish().map_err(TrainError::from)?;
    let ranks = if rule.has_rank() { useful(*rule, ranks, &base.model.layers)? } else { Vec::new() };
    let ranks = &ranks[..];
    let seeds_at_once = (networks / ranks.len().max(1)).max(1) as u32;
    let ranks_at_once = networks.min(ranks.len().max(1));
    let prefix = classes.map_or(String::new(), |classes| format!("{classes}-classes-"));
    let mut cells = Vec::new();
    let rank_sets: Vec<&[Rank]> = if ranks.is_empty() { vec![&[]] } else { ranks.chunks(ranks_at_once).collect() };
    for (part, set) in rank_sets.iter().enumerate() {
        let mut first = base.train.seed;
        let last = base.train.seed + base.train.seeds;
        while first < last {
            let seeds = seeds_at_once.min(last - first);
            let mut config = base.clone();
            config.train.seed = first;
            config.train.seeds = seeds;
            if let [rank] = set {
                config.feedback.rank = Some(Ranks::One(*rank));
            } else if !set.is_empty() {
                config.feedback.rank = Some(Ranks::Several(set.to_vec()));
            }
            config.feedback.check().map_err(|e| setting(format!("rule {rule}: {e}")))?;
            let mut name = format!("{prefix}{}", rule.folder());
            if rank_sets.len() > 1 {
                name += &format!("-ranks{part}");
            }
            if seeds < base.train.seeds {
                name += &format!("-seed{first}");
            }
            cells.push(Cell { name, rule: *rule, classes, config });
            first += seeds;
        }
    }
    Ok(cells)
}

/// Layers whose error a rule of low rank sends at the rank that is varied.
fn free(config: &Config) -> Vec<String> {
    let FeedbackSpec { ranks, exact, .. } = &config.feedback;
    let constrained = sending(&config.model.layers).into_iter();
    let is_pinned = |name: &String| matches!(ranks.get(name), Some(LayerRank::Own(_)));
    constrained.filter(|name| !is_pinned(name) && !exact.contains(name)).collect()
}

/// To vary the rank where no layer has it would show nothing.
fn refuse_pinned(rule: RuleName, config: &Config) -> Result<(), ExperimentError> {
    if config.feedback.ranks.is_empty() || !free(config).is_empty() {
        return Ok(());
    }
    Err(setting(format!(
        "rule {rule}: feedback.ranks and feedback.exact name every layer that sends its error back, so that --ranks changes nothing; \
         leave the ranks of single layers out with --set feedback.ranks="
    )))
}

/// Where a single layer's error passes, larger ranks than it is wide are left to the other rules.
fn useful(rule: RuleName, ranks: &[Rank], layers: &[LayerSpec]) -> Result<Vec<Rank>, ExperimentError> {
    let Some(widest) = widest(rule, layers) else { return Ok(ranks.to_vec()) };
    let found: Vec<Rank> = ranks.iter().copied().filter(|rank| rank.at(widest) <= widest).collect();
    if found.is_empty() {
        return Err(setting(format!(
            "rule {rule}: every rank is larger than the {widest} outputs of the layer whose error it sends"
        )));
    }
    Ok(found)
}

/// Of a network's layers, the most that a rank is of use for: outputs of the only layer whose error passes.
fn widest(rule: RuleName, layers: &[LayerSpec]) -> Option<u32> {
    match rule {
        RuleName::Factored { route: Route::Only(layer), .. } => layers.get(layer)?.outputs(),
        RuleName::Factored { route: Route::Output, .. } => layers.last()?.outputs(),
        _ => None,
    }
}

/// ` with 5 classes`, where they are varied.
pub(super) fn with_classes(classes: Option<u32>) -> String {
    classes.map_or(String::new(), |classes| format!(" with {classes} classes"))
}

/// A rank in a table; a dash for a rule without one.
pub(super) fn rank_name(rank: Option<Rank>) -> String {
    rank.map_or("-".to_owned(), |rank| rank.to_string())
}

fn text(draft: &Draft, axes: &Axes) -> Result<String, ExperimentError> {
    let in_words = |e: toml::ser::Error| setting(format!("the sweep cannot be written as TOML: {e}"));
    let section = toml::Table::try_from(axes).map_err(in_words)?;
    let mut table = draft.table().clone();
    table.insert(SECTION.to_owned(), toml::Value::Table(section));
    toml::to_string(&table).map_err(in_words)
}
