//! Probes: their values are the network's, their derivatives those of finite differences, on both executors.

use ldfa_gpu::feedback::FeedbackSpec;
use ldfa_gpu::gpu::{Context, DeviceChoice, Gpu, LimitPolicy};
use ldfa_gpu::model::{
    Feed, FeedSpec, LayerSpec, Loss, Network, NetworkSpec, Precision, Probe, Sides, Targets, activations, initialise,
    layers,
};
use ldfa_gpu::ops::random::{pcg4d, unit};
use ldfa_gpu::ops::{Phase, ReplicaStep, StepState, View};
use ldfa_gpu::optim::OptimizerSpec;
use ldfa_gpu::plan::{Blocking, Options, Plan, Profile};
use ldfa_gpu::reference::Reference;
use ldfa_gpu::train::weights::{self, NamedTensor};

const ROWS: u32 = 3;
const IMAGE: [u32; 3] = [6, 5, 2];

fn conv(out: u32) -> LayerSpec {
    LayerSpec::Conv(layers::Conv { out, kernel: Sides::One(3), stride: Sides::One(1), padding: Sides::One(1) })
}

/// Everything that a probe goes through, smooth but for the pool: what a pool chooses does not change in small steps.
fn layers() -> Vec<LayerSpec> {
    vec![
        conv(4),
        LayerSpec::BatchNorm(layers::BatchNorm {}),
        LayerSpec::Gelu(layers::Gelu {}),
        LayerSpec::Dropout(layers::Dropout { p: 0.4 }),
        LayerSpec::Residual(layers::Residual {
            layers: vec![conv(4), LayerSpec::BatchNorm(layers::BatchNorm {})],
            ..layers::Residual::default()
        }),
        LayerSpec::Gelu(layers::Gelu {}),
        LayerSpec::MaxPool(layers::MaxPool { size: Sides::One(2), stride: None, padding: Sides::One(0) }),
        LayerSpec::AvgPool(layers::AvgPool {
            size: Sides::One(2),
            stride: Some(Sides::One(1)),
            padding: Sides::One(0),
        }),
        LayerSpec::Flatten(layers::Flatten {}),
        LayerSpec::Dense(layers::Dense::new(7)),
        LayerSpec::Relu(layers::Relu {}),
        LayerSpec::Dense(layers::Dense::new(4)),
    ]
}

/// Tokens of a row of pixels each, which attend to those before them; what is dropped in training is not dropped here.
fn transformer() -> Vec<LayerSpec> {
    let norm = LayerSpec::LayerNorm(layers::LayerNorm { eps: 1e-5 });
    let dense = |out| LayerSpec::Dense(layers::Dense::new(out));
    let row = Sides::Two([1, 5]);
    let attention = LayerSpec::Attention(layers::Attention { heads: 2, dropout: 0.3, causal: true });
    vec![
        LayerSpec::Conv(layers::Conv { out: 6, kernel: row, stride: row, padding: Sides::One(0) }),
        LayerSpec::ClassToken(layers::ClassToken {}),
        LayerSpec::Position(layers::Position {}),
        LayerSpec::Residual(layers::Residual {
            layers: vec![norm.clone(), dense(18), attention, dense(6)],
            drop_path: 0.5,
            layer_scale: Some(0.8),
            ..layers::Residual::default()
        }),
        LayerSpec::Residual(layers::Residual {
            layers: vec![norm.clone(), dense(7), LayerSpec::Gelu(layers::Gelu {}), dense(6)],
            drop_path: 0.5,
            ..layers::Residual::default()
        }),
        norm,
        LayerSpec::LastToken(layers::LastToken {}),
        dense(4),
    ]
}

fn network(layers: Vec<LayerSpec>) -> Network {
    Network::new(&NetworkSpec {
        layers,
        freeze: Vec::new(),
        loss: Loss::CrossEntropy,
        label_smoothing: 0.0,
        feedback: FeedbackSpec::backprop(),
        optimizer: OptimizerSpec::sgd(0.1),
        feedback_optimizer: OptimizerSpec::sgd(0.1),
        precision: Precision::F32,
        batch: ROWS,
        accumulate: 1,
        evaluation_batch: ROWS,
        ranks: vec![None],
        feed: FeedSpec::Host { image: IMAGE },
        targets: Targets::Classes(4),
    })
    .unwrap()
}

fn values(count: usize, key: u32) -> Vec<f64> {
    (0..count as u32).map(|i| 2.0 * unit(pcg4d([i, key, 7, 1])[0]) - 1.0).collect()
}

/// First values, and running statistics that are none.
fn trained(network: &Network) -> Vec<NamedTensor> {
    let mut executor = reference(&network.recording);
    for (tensor, values) in initialise(network, &FeedbackSpec::backprop(), &[3]).unwrap() {
        executor.write(tensor, &values).unwrap();
    }
    let mut all = weights::read(&network.exchange, executor.as_mut(), 0).unwrap();
    for (key, tensor) in (0..).zip(&mut all).filter(|(_, tensor)| tensor.name.contains("running")) {
        let spread = values(tensor.values.len(), key);
        let is_variance = tensor.name.ends_with("var");
        tensor.values = spread.into_iter().map(|v| if is_variance { 1.5 + v } else { 0.3 * v }).collect();
    }
    all
}

fn reference(recording: &ldfa_gpu::ops::Recording) -> Box<Blocking> {
    let plan = Plan::new(recording.clone(), &Profile::reference(), Options::default()).unwrap();
    Box::new(Blocking::new(Reference::new(plan)))
}

fn gpu(recording: &ldfa_gpu::ops::Recording) -> Box<Blocking> {
    let context = Context::open(&DeviceChoice::Best, LimitPolicy::from_env()).unwrap();
    let plan = Plan::new(recording.clone(), &context.profile(), Options::default()).unwrap();
    Box::new(Gpu::blocking(context, plan).unwrap())
}

fn evaluate(executor: &mut Blocking, x: View, input: &[f64]) {
    executor.write(x, input).unwrap();
    let replicas = vec![ReplicaStep::default()];
    let step = StepState { step: 0, cursor: 0, active_rows: ROWS, groups: Default::default(), replicas };
    executor.run(Phase::Evaluate, &[step]).unwrap();
}

#[test]
fn values_are_those_of_the_network() {
    let of_images = ["layers.2", "layers.5", "layers.10", "layers.11"];
    let of_tokens = ["layers.4.main.2", "layers.7"];
    for (layers, expected_names) in [(layers(), &of_images[..]), (transformer(), &of_tokens)] {
        let network = network(layers.clone());
        let start = trained(&network);
        let names = activations(&layers, IMAGE).unwrap();
        assert_eq!(names, expected_names);
        let probe = Probe::of_values(&layers, IMAGE, ROWS, &names).unwrap();
        let Feed::Host { x, .. } = network.feed else { panic!("the host feeds it") };
        let input = values(x.shape.elements(), 11);
        let mut whole = reference(&network.recording);
        weights::write(&network.exchange, whole.as_mut(), &start).unwrap();
        evaluate(whole.as_mut(), x, &input);
        let expected = whole.read(network.outputs).unwrap();
        for (mut executor, tolerance) in [(reference(&probe.recording), 1e-12), (gpu(&probe.recording), 1e-5)] {
            weights::write(&probe.exchange, executor.as_mut(), &start).unwrap();
            evaluate(executor.as_mut(), probe.x, &input);
            let found = executor.read(probe.values[names.len() - 1].tensor).unwrap();
            assert_eq!(found.len(), expected.len());
            let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(off < tolerance, "{}: {off}", executor.device());
            // The activation below feeds them: it is there, and it is one; no gelu is below -0.17.
            let activated = executor.read(probe.values[names.len() - 2].tensor).unwrap();
            assert!(activated.iter().all(|v| *v >= -0.17) && activated.iter().any(|v| *v > 0.0));
        }
    }
}

#[test]
fn derivatives_are_those_of_finite_differences() {
    let of_images = ["layers.0", "layers.4.main.0", "layers.8", "layers.11"].map(|name| (layers(), name));
    let of_tokens = ["layers.3.main.0", "layers.3.main.2", "layers.3", "layers.7"].map(|name| (transformer(), name));
    for (layers, name) in of_images.into_iter().chain(of_tokens) {
        let start = trained(&network(layers.clone()));
        let probe = Probe::of_gradient(&layers, IMAGE, ROWS, name).unwrap();
        let gradient = probe.gradient.unwrap();
        let (input, of) = (values(probe.x.shape.elements(), 11), values(gradient.of.shape.elements(), 12));
        let mut oracle = reference(&probe.recording);
        let mut adapter = gpu(&probe.recording);
        for executor in [&mut oracle, &mut adapter] {
            weights::write(&probe.exchange, executor.as_mut(), &start).unwrap();
            executor.write(gradient.of, &of).unwrap();
            evaluate(executor.as_mut(), probe.x, &input);
        }
        let exact = oracle.read(gradient.by_input).unwrap();
        let found = adapter.read(gradient.by_input).unwrap();
        assert!(exact.iter().any(|v| v.abs() > 1e-3), "{name}: nothing comes back");
        for (at, (a, b)) in exact.iter().zip(&found).enumerate() {
            assert!((a - b).abs() < 1e-5 * (1.0 + a.abs()), "{name}, input {at}: {b} on the adapter, {a} in f64");
        }
        let mut weighted = |input: &[f64]| -> f64 {
            evaluate(oracle.as_mut(), probe.x, input);
            oracle.read(probe.values[0].tensor).unwrap().iter().zip(&of).map(|(a, b)| a * b).sum()
        };
        for at in (0..input.len()).step_by(7) {
            const STEP: f64 = 1e-6;
            let mut moved = |by: f64| {
                let mut input = input.clone();
                input[at] += by;
                weighted(&input)
            };
            let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            assert!((slope - exact[at]).abs() < 1e-6, "{name}, input {at}: {} instead of {slope}", exact[at]);
        }
    }
}

/// The field of a first layer's unit is its kernel, where it looks.
#[test]
fn of_the_first_layer_it_is_the_weight() {
    let start = trained(&network(layers()));
    let probe = Probe::of_gradient(&layers(), IMAGE, ROWS, "layers.0").unwrap();
    let gradient = probe.gradient.unwrap();
    let mut executor = gpu(&probe.recording);
    weights::write(&probe.exchange, executor.as_mut(), &start).unwrap();
    // Sample 1, row 2, column 3, unit 2.
    let (row, column, unit) = (2, 3, 2);
    let mut of = vec![0.0; gradient.of.shape.elements()];
    of[((6 * 5) + row * 5 + column) * 4 + unit] = 1.0;
    executor.write(gradient.of, &of).unwrap();
    evaluate(executor.as_mut(), probe.x, &vec![0.0; probe.x.shape.elements()]);
    let found = executor.read(gradient.by_input).unwrap();
    let kernel = &start.iter().find(|tensor| tensor.name == "layers.0.weight").unwrap().values;
    for (at, value) in found.iter().enumerate() {
        let (sample, y, x, channel) = (at / 60, at / 2 / 5 % 6, at / 2 % 5, at % 2);
        let (dy, dx) = ((y + 1).wrapping_sub(row), (x + 1).wrapping_sub(column));
        let inside = sample == 1 && dy < 3 && dx < 3;
        let expected = if inside { kernel[((unit * 2 + channel) * 3 + dy) * 3 + dx] } else { 0.0 };
        assert!((value - expected).abs() < 1e-6, "{at}: {value} instead of {expected}");
    }
}

#[test]
fn a_layer_that_is_not_there_is_named() {
    let error = Probe::of_gradient(&layers(), IMAGE, ROWS, "layers.99").unwrap_err().to_string();
    assert!(error.contains("layers.99 is not a layer") && error.contains("layers.4.main.1"), "{error}");
    assert!(Probe::of_values(&[LayerSpec::Dense(layers::Dense::new(0))], IMAGE, ROWS, &[]).is_err());
    assert!(Probe::of_values(&[], IMAGE, ROWS, &[]).is_err(), "nothing to look at");
}
