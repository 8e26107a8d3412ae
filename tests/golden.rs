//! Short trainings against the float64 trajectories of an independent implementation.
//!
//! Runs every case of `tests/golden` and of the folder that `LDFA_GOLDEN` names, on the GPU executor and on the f64
//! reference. A layer or rule that the engine does not know fails the case by name.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ldfa_gpu::feedback::FeedbackSpec;
use ldfa_gpu::gpu::{Context, DeviceChoice, Gpu, LimitPolicy};
use ldfa_gpu::model::{Feed, FeedSpec, LayerSpec, Loss, Network, NetworkSpec};
use ldfa_gpu::ops::Phase;
use ldfa_gpu::optim::{Horizon, OptimizerSpec, step_state};
use ldfa_gpu::plan::{Executor, Options, Plan, Profile};
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

struct Tolerance {
    plain: f64,
    /// For parameters that an optimizer of the Adam family moves: it divides by small numbers.
    adam: f64,
}

fn check(worst: &mut f64, case: &str, what: &str, error: f64, allowed: f64) {
    let share = error / allowed;
    *worst = worst.max(share);
    assert!(share <= 1.0, "{case}: {what} is off by {error:.2e}, allowed {allowed:.0e}");
}

fn run_case(path: &Path, executor: impl Fn(&Network) -> Box<dyn Executor>, tolerance: &Tolerance) {
    let text = std::fs::read_to_string(path).unwrap();
    let case: Case = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let arrays = load_arrays(&path.with_extension("safetensors"));
    let adam = matches!(
        case.optimizer.algorithm,
        ldfa_gpu::optim::Algorithm::Adam | ldfa_gpu::optim::Algorithm::AdamW | ldfa_gpu::optim::Algorithm::RmsProp
    );
    let allowed = if adam { tolerance.adam } else { tolerance.plain };
    let feedback_optimizer = case.feedback_optimizer.clone().unwrap_or_else(|| case.optimizer.clone());
    let Some(LayerSpec::Dense { out: classes }) = case.layers.last() else { panic!("{}: no dense output", case.name) };
    let spec = NetworkSpec {
        classes: *classes,
        layers: case.layers,
        loss: Loss::CrossEntropy,
        ranks: vec![case.feedback.rank_list().first().copied()],
        feedback: case.feedback,
        optimizer: case.optimizer,
        feedback_optimizer,
        batch: case.batch,
        evaluation_batch: case.batch,
        feed: FeedSpec::Host { features: case.input.iter().product() },
    };
    let network = Network::new(&spec).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let mut executor = executor(&network);
    let Feed::Host { x, labels } = network.feed else { unreachable!("asked for a host feed") };
    weights::write(&network, executor.as_mut(), &with_prefix(&arrays, "init.")).unwrap();
    let batches = |name: &str, step: usize| {
        let values = &arrays[name].1;
        let size = values.len() / case.steps;
        values[step * size..(step + 1) * size].to_vec()
    };
    let optimizers = [&spec.optimizer, &spec.feedback_optimizer];
    let horizon = Horizon { steps_per_epoch: case.steps as u32, epochs: 1 };
    let mut worst = 0.0;
    for step in 0..case.steps {
        executor.write(x, &batches("x", step)).unwrap();
        executor.write(labels, &batches("y", step)).unwrap();
        executor.write(network.train_metrics, &[0.0; 3]).unwrap();
        let state = step_state(optimizers, horizon, &[0], step as u32, 0, case.batch);
        executor.run(Phase::Train, &[state]).unwrap();
        let loss = executor.read(network.train_metrics).unwrap()[0] / f64::from(case.batch);
        let expected = arrays["losses"].1[step];
        check(&mut worst, &case.name, &format!("loss of step {step}"), (loss / expected - 1.0).abs(), allowed);
    }
    let trained = weights::read(&network, executor.as_ref_mut(), 0).unwrap();
    for expected in with_prefix(&arrays, "final.") {
        let found = trained.iter().find(|t| t.name == expected.name).unwrap_or_else(|| panic!("no {}", expected.name));
        assert_eq!(found.shape, expected.shape, "{}", expected.name);
        let error = relative_error(&found.values, &expected.values);
        check(&mut worst, &case.name, &expected.name, error, allowed);
    }
    executor.write(x, &batches("x", 0)).unwrap();
    executor.write(labels, &batches("y", 0)).unwrap();
    executor.run(Phase::Evaluate, &[step_state(optimizers, horizon, &[0], 0, 0, case.batch)]).unwrap();
    let logits = executor.read(network.outputs).unwrap();
    check(&mut worst, &case.name, "eval_logits", relative_error(&logits, &arrays["eval_logits"].1), allowed);
    println!("{} on {}: {:.1} % of the allowance used", case.name, executor.device(), worst * 100.0);
}

trait AsRefMut {
    fn as_ref_mut(&mut self) -> &mut dyn Executor;
}

impl AsRefMut for Box<dyn Executor> {
    fn as_ref_mut(&mut self) -> &mut dyn Executor {
        self.as_mut()
    }
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
    assert!(cases.len() >= 6, "the six mlp cases are part of the repository");
    cases
}

#[test]
fn golden_trajectories_on_the_gpu() {
    for case in cases() {
        let gpu = |network: &Network| -> Box<dyn Executor> {
            let context = Context::open(&DeviceChoice::Best, LimitPolicy::from_env()).unwrap();
            let plan = Plan::new(network.recording.clone(), &context.profile(), Options::default()).unwrap();
            Box::new(Gpu::new(context, plan).unwrap())
        };
        run_case(&case, gpu, &Tolerance { plain: 1e-4, adam: 1e-3 });
    }
}

#[test]
fn golden_trajectories_on_the_reference() {
    for case in cases() {
        let reference = |network: &Network| -> Box<dyn Executor> {
            let plan = Plan::new(network.recording.clone(), &Profile::reference(), Options::default()).unwrap();
            Box::new(Reference::new(plan))
        };
        run_case(&case, reference, &Tolerance { plain: 1e-6, adam: 1e-6 });
    }
}
