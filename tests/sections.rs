//! The seams of a training step: what a scheduler may put between its sections.

use ldfa_gpu::feedback::{FeedbackSpec, PRule, QRule, Rank, Ranks};
use ldfa_gpu::gpu::{Context, DeviceChoice, Gpu, LimitPolicy};
use ldfa_gpu::model::{Feed, FeedSpec, LayerSpec, Loss, Network, NetworkSpec, Precision, Targets, initialise, layers};
use ldfa_gpu::ops::random::{pcg4d, unit};
use ldfa_gpu::ops::{Phase, ReplicaStep, Section, StepState, View};
use ldfa_gpu::optim::OptimizerSpec;
use ldfa_gpu::plan::{Blocking, Options, Plan, Profile};
use ldfa_gpu::reference::Reference;

const CLASSES: u32 = 4;
const FEATURES: u32 = 9;
const BATCH: u32 = 12;

fn network(batch: u32) -> (NetworkSpec, Network) {
    let dense = |out| LayerSpec::Dense(layers::Dense::new(out));
    let relu = || LayerSpec::Relu(layers::Relu {});
    let feedback = FeedbackSpec {
        p: Some(PRule::Normative),
        q: Some(QRule::Hebbian),
        rank: Some(Ranks::One(Rank::Of(3))),
        ..FeedbackSpec::default()
    };
    let spec = NetworkSpec {
        layers: vec![dense(11), relu(), dense(8), relu(), dense(CLASSES)],
        freeze: Vec::new(),
        loss: Loss::CrossEntropy,
        label_smoothing: 0.0,
        feedback,
        optimizer: OptimizerSpec::sgd(0.1),
        feedback_optimizer: OptimizerSpec::sgd(0.05),
        precision: Precision::F32,
        batch,
        accumulate: 1,
        evaluation_batch: batch,
        ranks: vec![Some(Rank::Of(3))],
        feed: FeedSpec::Host { image: [1, 1, FEATURES] },
        targets: Targets::Classes(CLASSES),
    };
    let network = Network::new(&spec).unwrap();
    (spec, network)
}

fn start(network: &Network, spec: &NetworkSpec, executor: &mut Blocking, samples: std::ops::Range<u32>) {
    for (tensor, values) in initialise(network, &spec.feedback, &[5]).unwrap() {
        executor.write(tensor, &values).unwrap();
    }
    let Feed::Host { x, labels } = network.feed else { unreachable!("asked for a host feed") };
    let input = |sample: u32| (0..FEATURES).map(move |at| 2.0 * unit(pcg4d([sample, at, 1, 2])[0]) - 1.0);
    executor.write(x, &samples.clone().flat_map(input).collect::<Vec<_>>()).unwrap();
    executor.write(labels, &samples.map(|sample| f64::from(sample % CLASSES)).collect::<Vec<_>>()).unwrap();
}

/// Gradients are of the mean over all samples, whichever device they are on.
fn step() -> StepState {
    let replica = ReplicaStep { seed: 5, rate: [0.1, 0.05], decay: [0.0; 2] };
    StepState { step: 0, cursor: 0, active_rows: BATCH, groups: Default::default(), replicas: vec![replica] }
}

fn parameters(network: &Network, executor: &mut Blocking) -> Vec<(String, Vec<f64>)> {
    network.exchange.iter().map(|e| (e.name.clone(), executor.read(e.tensor).unwrap())).collect()
}

/// Both halves of a batch on a device each, their sums added between the backward passes and the update.
fn on_two_devices(mut device: impl FnMut(Plan) -> Box<Blocking>, profile: &Profile) -> f64 {
    let (spec, whole) = network(BATCH);
    let plan = |network: &Network| Plan::new(network.recording.clone(), profile, Options::default()).unwrap();
    let mut alone = device(plan(&whole));
    start(&whole, &spec, &mut alone, 0..BATCH);
    alone.run(Phase::Train, &[step()]).unwrap();
    let expected = parameters(&whole, &mut alone);

    let (spec, half) = network(BATCH / 2);
    let plan_of_half = plan(&half);
    let sections = plan_of_half.sections(Phase::Train);
    let names: Vec<Section> = sections.iter().map(|(section, _)| *section).collect();
    assert_eq!(names, [Section::Forward, Section::Backward, Section::Reduce, Section::Update]);
    let mut devices = [device(plan_of_half.clone()), device(plan_of_half.clone())];
    for (at, device) in devices.iter_mut().enumerate() {
        let first = at as u32 * BATCH / 2;
        start(&half, &spec, device, first..first + BATCH / 2);
    }
    for (section, operations) in sections {
        if section == Section::Reduce {
            let sums: &[View] = half.recording.reductions();
            assert!(!sums.is_empty());
            for &tensor in sums {
                let both = devices.each_mut().map(|device| device.read(tensor).unwrap());
                let sum: Vec<f64> = both[0].iter().zip(&both[1]).map(|(a, b)| a + b).collect();
                devices.iter_mut().for_each(|device| device.write(tensor, &sum).unwrap());
            }
        }
        for device in &mut devices {
            device.run_section(Phase::Train, operations.clone(), &step()).unwrap();
        }
    }
    let mut worst: f64 = 0.0;
    for device in &mut devices {
        for ((name, expected), (_, found)) in expected.iter().zip(parameters(&half, device)) {
            let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
            let error =
                norm(&mut expected.iter().zip(&found).map(|(a, b)| a - b)) / norm(&mut expected.iter().copied());
            assert!(error.is_finite(), "{name}");
            worst = worst.max(error);
        }
    }
    worst
}

#[test]
fn a_batch_on_two_devices_is_the_batch_on_one() {
    let device = |plan| Box::new(Blocking::new(Reference::new(plan))) as Box<Blocking>;
    let worst = on_two_devices(device, &Profile::reference());
    println!("on the reference: {worst:.1e}");
    assert!(worst < 1e-13, "{worst:e}");
    let profile = open().profile();
    let worst = on_two_devices(|plan| Box::new(Gpu::blocking(open(), plan).unwrap()) as Box<Blocking>, &profile);
    println!("on {}: {worst:.1e}", open().describe());
    assert!(worst < 1e-6, "{worst:e}");
}

fn open() -> Context {
    Context::open(&DeviceChoice::Best, LimitPolicy::from_env()).expect("the tests need an adapter")
}
