//! Short trainings against the float64 trajectories of an independent implementation.
//!
//! Runs every case of `tests/golden` and of the folder that `LDFA_GOLDEN` names, on the GPU executor and on the f64
//! reference. A layer or rule that the engine does not know fails the case by name.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ldfa_gpu::feedback::FeedbackSpec;
use ldfa_gpu::gpu::{Context, DeviceChoice, Gpu, LimitPolicy};
use ldfa_gpu::model::{Feed, FeedSpec, LayerSpec, Loss, Network, NetworkSpec, Precision, Targets, layers};
use ldfa_gpu::ops::Phase;
use ldfa_gpu::ops::random::{pcg4d, unit};
use ldfa_gpu::optim::{Algorithm, Horizon, OptimizerSpec, step_state};
use ldfa_gpu::plan::{Blocking, Options, Plan, Profile};
use ldfa_gpu::reference::Reference;
use ldfa_gpu::train::weights::{self, NamedTensor};
use safetensors::{Dtype, SafeTensors};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(rename = "seed")]
    _seed: u32,
    input: Vec<u32>,
    batch: u32,
    steps: usize,
    layers: Vec<LayerSpec>,
    #[serde(default = "FeedbackSpec::backprop")]
    feedback: FeedbackSpec,
    optimizer: OptimizerSpec,
    feedback_optimizer: Option<OptimizerSpec>,
}

type Arrays = HashMap<String, (Vec<usize>, Vec<f64>)>;

fn load_arrays(path: &Path) -> Arrays {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    file.iter()
        .map(|(name, view)| {
            let data = view.data();
            let values = match view.dtype() {
                Dtype::F32 => data.chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect(),
                Dtype::F64 => data.chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
                Dtype::I32 => data.chunks(4).map(|b| f64::from(i32::from_le_bytes(b.try_into().unwrap()))).collect(),
                other => panic!("{name}: unexpected {other:?}"),
            };
            (name.to_owned(), (view.shape().to_vec(), values))
        })
        .collect()
}

fn with_prefix(arrays: &Arrays, prefix: &str) -> Vec<NamedTensor> {
    arrays
        .iter()
        .filter_map(|(name, (shape, values))| {
            let name = name.strip_prefix(prefix)?.to_owned();
            Some(NamedTensor { name, shape: shape.clone(), values: values.clone() })
        })
        .collect()
}

/// ||found - expected|| / ||expected||, or the absolute norm where nothing is expected.
fn relative_error(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    let scale = norm(&mut expected.iter().copied());
    let error = if scale > 0.0 { difference / scale } else { difference };
    if error.is_nan() { f64::INFINITY } else { error }
}

/// What a case determines: everything that is compared, by name.
type Outcome = Vec<(String, Vec<f64>)>;

struct Problem {
    case: Case,
    spec: NetworkSpec,
    network: Network,
    arrays: Arrays,
}

fn load(path: &Path) -> Problem {
    let text = std::fs::read_to_string(path).unwrap();
    let case: Case = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let arrays = load_arrays(&path.with_extension("safetensors"));
    let Some(LayerSpec::Dense(layers::Dense { out: classes, .. })) = case.layers.last() else {
        panic!("{}: no dense output", case.name)
    };
    let spec = NetworkSpec {
        targets: Targets::Classes(*classes),
        layers: case.layers.clone(),
        freeze: Vec::new(),
        loss: Loss::CrossEntropy,
        label_smoothing: 0.0,
        ranks: vec![case.feedback.rank_list().first().copied()],
        feedback: case.feedback.clone(),
        optimizer: case.optimizer.clone(),
        feedback_optimizer: case.feedback_optimizer.clone().unwrap_or_else(|| case.optimizer.clone()),
        precision: Precision::F32,
        batch: case.batch,
        accumulate: 1,
        evaluation_batch: case.batch,
        feed: FeedSpec::Host { image: image(&case.input) },
    };
    let network = Network::new(&spec).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    Problem { case, spec, network, arrays }
}

/// A row of features is an image of one pixel.
fn image(input: &[u32]) -> [u32; 3] {
    match *input {
        [features] => [1, 1, features],
        [height, width, channels] => [height, width, channels],
        _ => panic!("an input of {input:?}"),
    }
}

/// Trains from `start` on the case's batches.
fn train(problem: &Problem, executor: &mut Blocking, start: &[NamedTensor]) -> Outcome {
    let Problem { case, spec, network, arrays } = problem;
    let Feed::Host { x, labels } = network.feed else { unreachable!("asked for a host feed") };
    weights::write(&network.exchange, executor, start).unwrap();
    let batch = |name: &str, step: usize| {
        let values = &arrays[name].1;
        let size = values.len() / case.steps;
        values[step * size..(step + 1) * size].to_vec()
    };
    let optimizers = [&spec.optimizer, &spec.feedback_optimizer];
    let horizon = Horizon { steps_per_epoch: case.steps as u32, epochs: 1 };
    let state = |step: usize| step_state(optimizers, horizon, &[0], step as u32, 0, case.batch);
    let mut outcome = Vec::new();
    for step in 0..case.steps {
        executor.write(x, &batch("x", step)).unwrap();
        executor.write(labels, &batch("y", step)).unwrap();
        executor.write(network.train_metrics, &[0.0; 3]).unwrap();
        executor.run(Phase::Train, &[state(step)]).unwrap();
        let loss = executor.read(network.train_metrics).unwrap()[0] / f64::from(case.batch);
        outcome.push((format!("loss of step {step}"), vec![loss]));
    }
    outcome.extend(weights::read(&network.exchange, executor, 0).unwrap().into_iter().map(|t| (t.name, t.values)));
    executor.write(x, &batch("x", 0)).unwrap();
    executor.write(labels, &batch("y", 0)).unwrap();
    executor.run(Phase::Evaluate, &[state(0)]).unwrap();
    outcome.push(("eval_logits".into(), executor.read(network.outputs).unwrap()));
    outcome
}

fn expected(problem: &Problem) -> Outcome {
    let losses = problem.arrays["losses"].1.iter().enumerate();
    let mut outcome: Outcome = losses.map(|(step, &loss)| (format!("loss of step {step}"), vec![loss])).collect();
    outcome.extend(with_prefix(&problem.arrays, "final.").into_iter().map(|t| (t.name, t.values)));
    outcome.push(("eval_logits".into(), problem.arrays["eval_logits"].1.clone()));
    outcome
}

/// Relative error of every expected quantity.
fn errors(found: &Outcome, expected: &Outcome) -> Vec<(String, f64)> {
    expected
        .iter()
        .map(|(name, values)| {
            let (_, own) = found.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("there is no {name}"));
            (name.clone(), relative_error(own, values))
        })
        .collect()
}

/// Fails if an error is beyond its allowance; prints the largest share used.
fn judge(problem: &Problem, device: &str, errors: &[(String, f64)], allowance: impl Fn(&str) -> f64) {
    let mut worst: f64 = 0.0;
    for (name, error) in errors {
        let allowed = allowance(name);
        worst = worst.max(error / allowed);
        assert!(error <= &allowed, "{}: {name} is off by {error:.2e}, allowed {allowed:.1e}", problem.case.name);
    }
    println!("{} on {device}: {:.1} % of the allowance used", problem.case.name, worst * 100.0);
}

fn cases() -> Vec<PathBuf> {
    let own = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
    let folders = std::iter::once(own).chain(std::env::var_os("LDFA_GOLDEN").map(PathBuf::from));
    let mut cases: Vec<PathBuf> = folders
        .flat_map(|folder| std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect();
    cases.sort();
    assert!(cases.len() >= 9, "six cases of dense layers and three of convolutions are part of the repository");
    cases
}

/// Planned both as for a GPU (tiles, fused transport) and as for a software adapter, whichever this one is.
#[test]
fn golden_trajectories_on_the_gpu() {
    for (path, software) in cases().into_iter().flat_map(|path| [(path.clone(), false), (path, true)]) {
        let problem = load(&path);
        let context = Context::open(&DeviceChoice::Best, LimitPolicy::from_env()).unwrap();
        let profile = Profile { software, ..context.profile() };
        let plan = Plan::new(problem.network.recording.clone(), &profile, Options::default()).unwrap();
        let mut gpu = Gpu::blocking(context, plan).unwrap();
        let found = train(&problem, &mut gpu, &with_prefix(&problem.arrays, "init."));
        // Adam and its kin divide by small numbers.
        let allowed = if problem.case.optimizer.algorithm == Algorithm::Sgd { 1e-4 } else { 1e-3 };
        let device = format!("{} (planned as software: {software})", gpu.device());
        judge(&problem, &device, &errors(&found, &expected(&problem)), |_| allowed);
    }
}

/// The files hold float32, the trajectories were computed in float64 from unrounded starting values. Where a training
/// magnifies that rounding (the normative rule starts where its gradient is zero, and Adam divides by it), the file
/// does not determine the outcome to 1e-6: the allowance is then what moving the start within its rounding changes.
#[test]
fn golden_trajectories_on_the_reference() {
    for path in cases() {
        let problem = load(&path);
        let plan = Plan::new(problem.network.recording.clone(), &Profile::reference(), Options::default()).unwrap();
        let run = |start: &[NamedTensor]| train(&problem, &mut Blocking::new(Reference::new(plan.clone())), start);
        let start = with_prefix(&problem.arrays, "init.");
        let found = run(&start);
        let mut spread: HashMap<String, f64> = HashMap::new();
        for seed in 0..4 {
            for (name, error) in errors(&run(&moved_within_rounding(&start, seed)), &found) {
                let widest = spread.entry(name).or_default();
                *widest = widest.max(error);
            }
        }
        judge(&problem, "the f64 reference", &errors(&found, &expected(&problem)), |name| {
            1e-6_f64.max(2.0 * spread[name])
        });
    }
}

/// Every value moved by up to half a unit in its last float32 place.
fn moved_within_rounding(tensors: &[NamedTensor], seed: u32) -> Vec<NamedTensor> {
    let mut element = 0;
    let mut moved = tensors.to_vec();
    for value in moved.iter_mut().flat_map(|t| &mut t.values) {
        element += 1;
        let draw = unit(pcg4d([element, 0, 0, seed])[0]) - 0.5;
        *value += draw * value.abs() * f64::from(f32::EPSILON);
    }
    moved
}
