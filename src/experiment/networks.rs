//! The networks of several runs, to be looked into side by side.

use crate::words::counted;
use std::path::{Path, PathBuf};

use super::sweep::{Sweep, is_sweep};
use super::{ExperimentError, setting};
use crate::data::Dataset;
use crate::feedback::Rank;
use crate::gpu::{Cache, DeviceChoice};
use crate::model::{Probe, Purpose};
use crate::ops::{Encoding, Phase, ReplicaStep, StepState};
use crate::plan::{Blocking, Options};
use crate::train::TrainError;
use crate::train::config::Config;
use crate::train::labels::{labels, ranked};
use crate::train::machine::{Kernels, Preparation, machine};
use crate::train::metrics::Spread;
use crate::train::opened::{Opened, Place};
use crate::train::session::Session;
use crate::train::spec::encoding;
use crate::train::summary::percent;
use crate::train::weights::{self, NamedTensor};

/// The family of networks as they were before they learned.
pub const UNTRAINED: &str = "untrained";

/// One network.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its seed.
    pub seed: u32,
    /// Share of the test images that it classifies correctly; none of untrained ones.
    pub test_accuracy: Option<f64>,
    /// Parameters and statistics, feedback left out.
    pub weights: Vec<NamedTensor>,
    /// How its run made inputs of bytes.
    pub inputs: Encoding,
}

/// Networks that differ in nothing but their seeds.
#[derive(Clone, Debug)]
pub struct Family {
    /// [`UNTRAINED`], or the rule with all in which its runs differ from the others, see [`labels`].
    pub rule: String,
    /// Rank, where the rule has one.
    pub rank: Option<Rank>,
    /// One a seed.
    pub members: Vec<Member>,
    /// What it is one of; none of the untrained ones.
    kind: Option<usize>,
}

/// What networks have in common that differ in their ranks and seeds, and the first run of them.
struct Kind {
    common: Config,
    folder: PathBuf,
}

impl Family {
    /// Name in tables and pictures.
    pub fn name(&self) -> String {
        ranked(&self.rule, self.rank)
    }
}

/// Networks of the same layers, tested on the same images.
pub struct Population {
    /// The first run's configuration.
    pub config: Config,
    /// The first run's images.
    pub data: Dataset,
    /// In the order of the runs, then of their ranks; the untrained ones first.
    pub families: Vec<Family>,
    /// Cells of sweeps that have not ended and runs that have not, in words.
    pub unfinished: Vec<String>,
    kinds: Vec<Kind>,
}

impl Population {
    /// Opens runs, and of sweeps every cell that has ended.
    ///
    /// # Errors
    /// If there is no run or no checkpoint, one is given twice, or the networks have other layers or other test images.
    pub fn gather(folders: &[PathBuf], place: &Place) -> Result<Population, ExperimentError> {
        let (runs, mut unfinished) = runs_of(folders)?;
        let mut population: Option<Population> = None;
        let mut untrained = Family { rule: UNTRAINED.to_owned(), rank: None, members: Vec::new(), kind: None };
        for folder in runs {
            let mut run = Opened::new(&folder, place)?;
            if let Some((done, all)) = run.stopped_after() {
                unfinished.push(format!("{} stopped after {done} of {all} steps", folder.display()));
            }
            let inputs = encoding(&run.data);
            for (replica, (_, seed)) in run.session.replicas.clone().into_iter().enumerate() {
                if !untrained.members.iter().any(|member| member.seed == seed) {
                    untrained.members.push(member(&mut run.session, replica, seed, None, inputs)?);
                }
            }
            run.restore()?;
            let config = run.session.config.clone();
            let all = match &mut population {
                Some(all) => {
                    all.check(&config, &run.data, &folder)?;
                    all
                }
                None => {
                    let (data, families, kinds, unfinished) = (run.data, Vec::new(), Vec::new(), Vec::new());
                    population.insert(Population { config, data, families, unfinished, kinds })
                }
            };
            all.add(&mut run.session, &folder, inputs)?;
        }
        let mut population = population.ok_or_else(|| setting("there is no run to look into"))?;
        population.name();
        population.families.insert(0, untrained);
        population.unfinished = unfinished;
        Ok(population)
    }

    fn check(&self, config: &Config, data: &Dataset, folder: &Path) -> Result<(), ExperimentError> {
        let problem = if config.model.layers != self.config.model.layers {
            "its networks have other layers than the first run's"
        } else if data.shape != self.data.shape {
            "its images have another size than the first run's"
        } else if data.test != self.data.test {
            "it is tested on other images than the first run"
        } else {
            return Ok(());
        };
        Err(setting(format!("{} does not match: {problem}", folder.display())))
    }

    /// Networks join those of the same configuration, unless a seed is there already.
    fn add(&mut self, session: &mut Session, folder: &Path, inputs: Encoding) -> Result<(), TrainError> {
        let replicas = session.replicas.clone();
        let common = in_common(&session.config);
        let holds_any = |kind: usize| {
            let mut own = self.families.iter().filter(|family| family.kind == Some(kind));
            own.any(|family| {
                let is_there = |&(rank, seed): &(Option<Rank>, u32)| {
                    family.rank == rank && family.members.iter().any(|member| member.seed == seed)
                };
                replicas.iter().any(is_there)
            })
        };
        let known = (0..self.kinds.len()).find(|&kind| self.kinds[kind].common == common && !holds_any(kind));
        let kind = known.unwrap_or_else(|| {
            self.kinds.push(Kind { common, folder: folder.to_owned() });
            self.kinds.len() - 1
        });
        let metrics = session.evaluate()?;
        for (replica, &(rank, seed)) in replicas.iter().enumerate() {
            let own = member(session, replica, seed, Some(metrics[replica].accuracy), inputs)?;
            match self.families.iter_mut().find(|family| family.kind == Some(kind) && family.rank == rank) {
                Some(family) => family.members.push(own),
                None => {
                    let (rule, members) = (String::new(), vec![own]);
                    self.families.push(Family { rule, rank, members, kind: Some(kind) });
                }
            }
        }
        Ok(())
    }

    /// Names all families, which takes all runs: what is different shows only then.
    fn name(&mut self) {
        let runs: Vec<(&Config, &Path)> = self.kinds.iter().map(|kind| (&kind.common, kind.folder.as_path())).collect();
        let names = labels(&runs);
        for family in &mut self.families {
            if let Some(kind) = family.kind {
                family.rule.clone_from(&names[kind]);
            }
        }
    }

    /// How well the networks that are looked at do what they have learned, in a sentence.
    pub fn accuracies(&self) -> String {
        let one = |family: &Family| {
            let own: Vec<f64> = family.members.iter().filter_map(|member| member.test_accuracy).collect();
            let Spread { mean, std } = Spread::of(&own);
            (!own.is_empty()).then(|| format!("{} {} (n = {})", family.name(), percent(mean, std), own.len()))
        };
        let all: Vec<String> = self.families.iter().filter_map(one).collect();
        format!("test accuracy: {}", all.join(", "))
    }

    /// Height, width, channels of a sample as the networks see it.
    pub fn image(&self) -> [u32; 3] {
        let shape = self.data.shape;
        encoding(&self.data).extent([shape.height, shape.width, shape.channels])
    }
}

/// What a configuration says besides seeds and ranks.
fn in_common(config: &Config) -> Config {
    let mut common = config.clone().resolved();
    common.name = None;
    common.feedback.rank = None;
    (common.train.seed, common.train.seeds) = (0, 1);
    common
}

fn member(
    session: &mut Session,
    replica: usize,
    seed: u32,
    test_accuracy: Option<f64>,
    inputs: Encoding,
) -> Result<Member, TrainError> {
    let mut weights = session.weights(replica)?;
    let is_feedback = |name: &str| {
        let of_name = session.network.exchange.iter().find(|exchange| exchange.name == name);
        of_name.is_some_and(|exchange| exchange.purpose == Purpose::Feedback)
    };
    weights.retain(|tensor| !is_feedback(&tensor.name));
    Ok(Member { seed, test_accuracy, weights, inputs })
}

/// The folders of runs, of a sweep those of its cells that have ended; and what has not, in words.
fn runs_of(folders: &[PathBuf]) -> Result<(Vec<PathBuf>, Vec<String>), ExperimentError> {
    let (mut runs, mut missing) = (Vec::new(), Vec::new());
    for folder in folders {
        if is_sweep(folder) {
            let sweep = Sweep::of_folder(folder)?;
            let ended = sweep.ended(folder)?;
            let rest = sweep.cells.len() - ended.len();
            if ended.is_empty() {
                let folder = folder.display();
                return Err(setting(format!(
                    "no cell of the sweep in {folder} has ended; the `sweep` command goes on"
                )));
            }
            if rest > 0 {
                let cells = counted(sweep.cells.len() as u32, "cell");
                missing.push(format!("not ended: {rest} of {cells} of {}", folder.display()));
            }
            runs.extend(ended);
        } else {
            runs.push(folder.clone());
        }
    }
    // Names may differ where folders do not.
    let places: Vec<PathBuf> = runs.iter().map(|run| run.canonicalize().unwrap_or_else(|_| run.clone())).collect();
    match places.iter().enumerate().find(|(at, place)| places[..*at].contains(place)) {
        Some((at, _)) => Err(setting(format!("{} is given twice", runs[at].display()))),
        None => Ok((runs, missing)),
    }
}

/// A probe on a device.
pub(super) struct Instrument {
    pub(super) probe: Probe,
    executor: Box<Blocking>,
}

impl Instrument {
    pub(super) fn new(probe: Probe, device: &DeviceChoice) -> Result<Instrument, TrainError> {
        // Of one network at a time, for seconds: no kernel is worth measuring.
        let preparation = Preparation { kernels: Kernels::Defaults, cache: Cache::from_env() };
        let executor = machine(&probe.recording, device, Options::default(), &preparation)?.executor;
        Ok(Instrument { probe, executor })
    }

    /// Takes a network in.
    pub(super) fn load(&mut self, member: &Member) -> Result<(), ExperimentError> {
        weights::write(&self.probe.exchange, &mut self.executor, &member.weights)
            .map_err(|e| setting(format!("network of seed {}: {e}", member.seed)))
    }

    /// Reads all values of some inputs.
    pub(super) fn values(&mut self, inputs: &[f64]) -> Result<Vec<Vec<f64>>, ExperimentError> {
        self.executor.write(self.probe.x, inputs)?;
        self.run()?;
        Ok(self.probe.values.iter().map(|value| self.executor.read(value.tensor)).collect::<Result<_, _>>()?)
    }

    /// The derivative of some weighted outputs by a blank input; empty for a probe without a way back.
    pub(super) fn gradient(&mut self, of: &[f64]) -> Result<Vec<f64>, ExperimentError> {
        let Some(gradient) = self.probe.gradient else { return Ok(Vec::new()) };
        self.executor.write(self.probe.x, &vec![0.0; self.probe.x.shape.elements()])?;
        self.executor.write(gradient.of, of)?;
        self.run()?;
        Ok(self.executor.read(gradient.by_input)?)
    }

    fn run(&mut self) -> Result<(), ExperimentError> {
        let step = StepState {
            step: 0,
            cursor: 0,
            active_rows: self.probe.rows,
            groups: Default::default(),
            replicas: vec![ReplicaStep::default()],
        };
        Ok(self.executor.run(Phase::Evaluate, &[step])?)
    }
}
