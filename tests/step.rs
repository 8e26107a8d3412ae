//! Whole training steps: gradients against finite differences, fusion and shared memory against their absence, every
//! feedback rule on the GPU against the reference, replicas side by side against each alone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use ldfa_gpu::analysis::{Products, spectrum};
use ldfa_gpu::feedback::{FeedbackSpec, Init, PRule, QRule, Rank, Ranks, Rule, RuleName, Source, Statistics};
use ldfa_gpu::gpu::{Context, DeviceChoice, Gpu, LimitPolicy};
use ldfa_gpu::model::{
    DataFeed, Feed, FeedSpec, LayerSpec, Loss, Network, NetworkSpec, Precision, Sides, Targets, initialise, layers,
};
use ldfa_gpu::ops::random::{pcg4d, unit};
use ldfa_gpu::ops::{Access, Augment, Encoding, Kind, MAX_REPLICAS, Op, Operand, Phase, Role, StepState, View};
use ldfa_gpu::optim::{Algorithm, Horizon, OptimizerSpec, step_state};
use ldfa_gpu::plan::{Blocking, Options, Plan, Profile};
use ldfa_gpu::reference::Reference;
use ldfa_gpu::train::config::{Draft, presets};
use ldfa_gpu::train::spec::network_spec;
use ldfa_gpu::train::weights;

mod made_up;

use made_up::made_up;

const FEATURES: u32 = 9;
const CLASSES: u32 = 8;
const BATCH: u32 = 13;

const FUSED: Options = Options { fuse: true, share_memory: true, force: None };
const UNFUSED: Options = Options { fuse: false, share_memory: false, force: None };

fn dense(out: u32) -> LayerSpec {
    LayerSpec::Dense(layers::Dense::new(out))
}

/// Batch norm before and after a relu, a gelu.
fn normalised() -> Vec<LayerSpec> {
    let norm = LayerSpec::BatchNorm(layers::BatchNorm {});
    vec![
        norm.clone(),
        dense(11),
        norm,
        LayerSpec::Relu(layers::Relu {}),
        dense(8),
        LayerSpec::Gelu(layers::Gelu {}),
        dense(CLASSES),
    ]
}

/// Relu twice, with dropout between.
fn dropped() -> Vec<LayerSpec> {
    let drop = LayerSpec::Dropout(layers::Dropout { p: 0.3 });
    vec![dense(12), LayerSpec::Relu(layers::Relu {}), drop, dense(10), LayerSpec::Relu(layers::Relu {}), dense(CLASSES)]
}

/// Convolutions, both kinds of shortcut, both kinds of pool.
fn convolved() -> Vec<LayerSpec> {
    let conv = |out, kernel, padding| LayerSpec::Conv(layers::Conv { out, kernel, stride: Sides::One(1), padding });
    let three = |out| conv(out, Sides::One(3), Sides::One(1));
    vec![
        conv(4, Sides::Two([3, 2]), Sides::One(1)),
        LayerSpec::BatchNorm(layers::BatchNorm {}),
        LayerSpec::Gelu(layers::Gelu {}),
        LayerSpec::Residual(layers::Residual {
            layers: vec![three(4), LayerSpec::BatchNorm(layers::BatchNorm {})],
            ..layers::Residual::default()
        }),
        LayerSpec::Relu(layers::Relu {}),
        LayerSpec::MaxPool(layers::MaxPool { size: Sides::One(2), stride: None, padding: Sides::One(0) }),
        LayerSpec::Residual(layers::Residual {
            layers: vec![three(6), LayerSpec::Relu(layers::Relu {})],
            shortcut: vec![conv(6, Sides::One(1), Sides::One(0))],
            ..layers::Residual::default()
        }),
        LayerSpec::Relu(layers::Relu {}),
        LayerSpec::AvgPool(layers::AvgPool {
            size: Sides::One(2),
            stride: Some(Sides::One(1)),
            padding: Sides::Two([0, 1]),
        }),
        LayerSpec::Flatten(layers::Flatten {}),
        dense(CLASSES),
    ]
}

/// Ten patches of an image.
fn patches(out: u32) -> LayerSpec {
    let side = Sides::Two([1, 2]);
    LayerSpec::Conv(layers::Conv { out, kernel: side, stride: side, padding: Sides::One(0) })
}

fn layer_norm(eps: f64) -> LayerSpec {
    LayerSpec::LayerNorm(layers::LayerNorm { eps })
}

/// Queries, keys and values, what two heads make of them, and a layer that mixes those.
fn attending(width: u32, dropout: f64, causal: bool) -> Vec<LayerSpec> {
    let attention = LayerSpec::Attention(layers::Attention { heads: 2, dropout, causal });
    vec![layer_norm(1e-5), dense(3 * width), attention, dense(width)]
}

/// A class token that attends to patches, with both ways scaled, and dropped for some samples.
fn transformer() -> Vec<LayerSpec> {
    vec![
        patches(8),
        LayerSpec::ClassToken(layers::ClassToken {}),
        LayerSpec::Position(layers::Position {}),
        LayerSpec::Residual(layers::Residual {
            layers: attending(8, 0.2, false),
            drop_path: 0.3,
            layer_scale: Some(0.5),
            ..layers::Residual::default()
        }),
        LayerSpec::Residual(layers::Residual {
            layers: vec![layer_norm(1e-6), dense(10), LayerSpec::Gelu(layers::Gelu {}), dense(8)],
            layer_scale: Some(1.5),
            ..layers::Residual::default()
        }),
        layer_norm(1e-6),
        LayerSpec::FirstToken(layers::FirstToken {}),
        dense(CLASSES),
    ]
}

/// Positions that see those before them; the last one sees all. Heads whose rows are no whole quads.
fn causal() -> Vec<LayerSpec> {
    vec![
        patches(6),
        LayerSpec::Position(layers::Position {}),
        LayerSpec::Residual(layers::Residual {
            layers: attending(6, 0.0, true),
            drop_path: 0.4,
            ..layers::Residual::default()
        }),
        LayerSpec::LastToken(layers::LastToken {}),
        dense(CLASSES),
    ]
}

/// Without a convolution: a dense layer takes every pixel by itself, and the mean over the positions is judged.
fn pooled() -> Vec<LayerSpec> {
    vec![
        LayerSpec::Position(layers::Position {}),
        dense(6),
        LayerSpec::Residual(layers::Residual {
            layers: attending(6, 0.0, false),
            shortcut: vec![dense(6)],
            drop_path: 0.0,
            layer_scale: Some(0.7),
        }),
        LayerSpec::GlobalAvgPool(layers::GlobalAvgPool {}),
        dense(CLASSES),
    ]
}

fn spec(layers: Vec<LayerSpec>, feedback: FeedbackSpec) -> NetworkSpec {
    let rank = feedback.rank_list().first().copied();
    let takes_images = matches!(layers[0], LayerSpec::Conv(_) | LayerSpec::Position(_));
    let image = if takes_images { [5, 4, 2] } else { [1, 1, FEATURES] };
    NetworkSpec {
        layers,
        freeze: Vec::new(),
        loss: Loss::CrossEntropy,
        label_smoothing: 0.0,
        feedback,
        optimizer: OptimizerSpec::sgd(0.1),
        feedback_optimizer: OptimizerSpec::sgd(0.05),
        precision: Precision::F32,
        batch: BATCH,
        accumulate: 1,
        evaluation_batch: BATCH,
        ranks: vec![rank],
        feed: FeedSpec::Host { image },
        targets: Targets::Classes(CLASSES),
    }
}

fn open() -> Context {
    Context::open(&DeviceChoice::Best, LimitPolicy::from_env())
        .unwrap_or_else(|e| panic!("these tests need an adapter: {e}"))
}

/// Planned as for a GPU, with the fused transport, also where the adapter is a software one; golden and whole-run tests
/// cover what is planned for those.
fn gpu(network: &Network, options: Options) -> Blocking<Gpu> {
    let context = open();
    let profile = Profile { software: false, ..context.profile() };
    let plan = Plan::new(network.recording.clone(), &profile, options).unwrap();
    Gpu::blocking(context, plan).unwrap()
}

fn reference(network: &Network, options: Options) -> Blocking<Reference> {
    let plan = Plan::new(network.recording.clone(), &Profile::reference(), options).unwrap();
    Blocking::new(Reference::new(plan))
}

/// Uniform in +-1.
fn noise(element: usize, stream: u32) -> f64 {
    f64::from((2.0 * unit(pcg4d([element as u32, stream, 3, 4])[0]) - 1.0) as f32)
}

/// Writes first values, rounded to f32 so that every executor starts alike, and a batch; replica r learns from the data
/// of number `first + r`.
fn start(spec: &NetworkSpec, network: &Network, executor: &mut Blocking, seeds: &[u32], first: usize) {
    for (tensor, values) in initialise(network, &spec.feedback, seeds).unwrap() {
        let rounded: Vec<f64> = values.iter().map(|&v| f64::from(v as f32)).collect();
        executor.write(tensor, &rounded).unwrap();
    }
    let Feed::Host { x, labels } = network.feed else { panic!("asked for a host feed") };
    let data: Vec<usize> = (first..first + seeds.len()).collect();
    let size = x.shape.per_replica();
    let values: Vec<f64> = data.iter().flat_map(|&r| (0..size).map(move |i| noise(r * size + i, 1))).collect();
    executor.write(x, &values).unwrap();
    let classes: Vec<f64> = data
        .iter()
        .flat_map(|&r| (0..spec.batch as usize).map(move |i| ((7 * i + i * i + r) % CLASSES as usize) as f64))
        .collect();
    executor.write(labels, &classes).unwrap();
}

fn state(spec: &NetworkSpec, seeds: &[u32], step: u32) -> StepState {
    let horizon = Horizon { steps_per_epoch: 10, epochs: 1 };
    step_state([&spec.optimizer, &spec.feedback_optimizer], horizon, seeds, step, 0, spec.batch)
}

fn train(spec: &NetworkSpec, executor: &mut Blocking, seeds: &[u32], steps: u32) {
    let steps: Vec<StepState> = (0..steps).map(|step| state(spec, seeds, step)).collect();
    executor.run(Phase::Train, &steps).unwrap();
}

/// ||found - expected|| / ||expected||, infinite where something is not finite or zeros are expected and not found.
fn relative_error(found: &[f64], expected: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    assert_eq!(found.len(), expected.len());
    let difference = norm(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    let error = if difference == 0.0 { 0.0 } else { difference / norm(&mut expected.iter().copied()) };
    if error.is_nan() { f64::INFINITY } else { error }
}

#[test]
fn the_relative_error_is_infinite_for_what_is_no_result() {
    assert!(relative_error(&[f64::NAN], &[1.0]).is_infinite());
    assert!(relative_error(&[1e-9], &[0.0]).is_infinite());
    assert_eq!(relative_error(&[0.0], &[0.0]), 0.0);
    assert_eq!(relative_error(&[0.0, 0.0], &[3.0, 4.0]), 1.0);
}

// ---- gradients ----

/// Every learned tensor with its gradient, feedback not counted.
fn learned(network: &Network) -> Vec<(String, View, View)> {
    let gradient = |name: &String| network.recording.find(&format!("{name}.gradient"));
    let pair = |e: &ldfa_gpu::model::Exchange| Some((e.name.clone(), e.tensor, gradient(&e.name)?));
    network.exchange.iter().filter(|e| e.purpose == ldfa_gpu::model::Purpose::Learned).filter_map(pair).collect()
}

fn loss(spec: &NetworkSpec, network: &Network, executor: &mut Blocking<Reference>) -> f64 {
    executor.write(network.train_metrics, &[0.0; 3]).unwrap();
    train(spec, executor, &[3], 1);
    executor.read(network.train_metrics).unwrap()[0] / f64::from(BATCH)
}

#[test]
fn only_the_loss_of_training_is_smoothed() {
    let spec = NetworkSpec { label_smoothing: 0.1, ..spec(dropped(), FeedbackSpec::backprop()) };
    let network = Network::new(&spec).unwrap();
    for (phase, expected) in [(Phase::Train, 0.1), (Phase::Diagnose, 0.1), (Phase::Evaluate, 0.0)] {
        let losses = network.recording.entries(phase).iter().filter_map(|entry| match entry.op {
            Op::SoftmaxCrossEntropy(op) => Some(op.smoothing),
            _ => None,
        });
        assert_eq!(losses.collect::<Vec<_>>(), [expected]);
    }
}

#[test]
fn backpropagated_gradients_match_central_differences() {
    // So short that none of the maxima and relus changes sides.
    let step = 1e-6;
    let mut worst: f64 = 0.0;
    for layers in [normalised(), dropped(), convolved(), transformer(), causal(), pooled()] {
        for (of, smoothing) in [(Loss::CrossEntropy, 0.0), (Loss::CrossEntropy, 0.2), (Loss::MeanSquaredError, 0.0)] {
            let mut spec = spec(layers.clone(), FeedbackSpec::backprop());
            // A step of length zero leaves the parameters where they are.
            spec.optimizer = OptimizerSpec::sgd(0.0);
            (spec.loss, spec.label_smoothing) = (of, smoothing);
            let network = Network::new(&spec).unwrap();
            let mut executor = reference(&network, UNFUSED);
            start(&spec, &network, &mut executor, &[3], 0);
            loss(&spec, &network, &mut executor);
            let all = learned(&network);
            assert_eq!(all.len(), network.exchange.iter().filter(|e| !e.name.contains(".running_")).count());
            // Before anything is moved.
            let gradients: Vec<Vec<f64>> =
                all.iter().map(|(_, _, gradient)| executor.get(*gradient).unwrap()).collect();
            for ((name, values, _), found) in all.into_iter().zip(gradients) {
                let at_start = executor.get(values).unwrap();
                let mut expected = Vec::new();
                for at in 0..at_start.len() {
                    let mut beside = |by: f64| {
                        let mut moved = at_start.clone();
                        moved[at] += by;
                        executor.set(values, &moved).unwrap();
                        loss(&spec, &network, &mut executor)
                    };
                    expected.push((beside(step) - beside(-step)) / (2.0 * step));
                }
                executor.set(values, &at_start).unwrap();
                // A shift that the next batch norm takes away again has no gradient but rounding.
                let size = expected.iter().chain(&found).fold(0.0f64, |size, v| size.max(v.abs()));
                if size < 1e-9 {
                    assert!(name.ends_with(".bias"), "{name} has no gradient");
                    continue;
                }
                let error = relative_error(&found, &expected);
                worst = worst.max(error);
                assert!(error < 1e-7, "{of:?}: the gradient of {name} is off by {error:.2e}");
            }
        }
    }
    println!("gradients: off by {worst:.1e} at most, 1e-7 allowed");
    assert!(worst > 0.0, "central differences are never exact");
}

/// What differs in nothing but a constant of all keys has the same attention: that part of the bias is not learned.
#[test]
fn the_keys_part_of_a_bias_before_attention_has_a_gradient_of_zero() {
    for (layers, name, width) in [
        (transformer(), "layers.3.main.1.bias", 8),
        (causal(), "layers.2.main.1.bias", 6),
        (pooled(), "layers.2.main.1.bias", 6),
    ] {
        let spec = spec(layers, FeedbackSpec::backprop());
        let network = Network::new(&spec).unwrap();
        for executor in [&mut reference(&network, UNFUSED) as &mut Blocking, &mut gpu(&network, FUSED)] {
            start(&spec, &network, executor, &[3], 0);
            train(&spec, executor, &[3], 1);
            let (_, _, gradient) = learned(&network).into_iter().find(|(learned, ..)| learned == name).unwrap();
            let found = executor.read(gradient).unwrap();
            assert_eq!(found.len(), 3 * width);
            for (at, value) in found.iter().enumerate() {
                assert_eq!(*value == 0.0, (width..2 * width).contains(&at), "{name}: {value} at {at}");
            }
        }
    }
}

/// A path is dropped forward as back, for whole samples, and only in training; factors are there in every phase.
#[test]
fn residual_ways_are_scaled_and_dropped() {
    let recorded = |layers: Vec<LayerSpec>, phase: Phase| {
        let recording = Network::new(&spec(layers, FeedbackSpec::backprop())).unwrap().recording;
        let entries = recording.entries(phase).iter().filter(|entry| entry.layer == "layers.3");
        let (mut drops, mut names) = (Vec::new(), Vec::new());
        for entry in entries {
            names.push(entry.op.name());
            if let Op::Dropout(op) = entry.op {
                drops.push((op.drop, op.stream, op.together));
            }
        }
        (drops, names)
    };
    let (drops, names) = recorded(transformer(), Phase::Train);
    assert_eq!(names, ["scale-columns", "dropout", "add", "dropout", "scale-gradient", "scale-columns"]);
    // Eleven positions of eight channels.
    assert!(drops[0] == drops[1] && (drops[0].0, drops[0].2) == (0.3, 88), "{drops:?}");
    assert_eq!(recorded(transformer(), Phase::Evaluate).1, ["scale-columns", "add"]);
    assert_eq!(recorded(transformer(), Phase::Diagnose).0, drops);
    let plain = |layer: LayerSpec| match layer {
        LayerSpec::Residual(residual) => {
            LayerSpec::Residual(layers::Residual { drop_path: 0.0, layer_scale: None, ..residual })
        }
        other => other,
    };
    let without: Vec<LayerSpec> = transformer().into_iter().map(plain).collect();
    assert_eq!(recorded(without, Phase::Train).1, ["add"], "nothing that was not asked for");
}

// ---- rules ----

fn ldfa(p: PRule, q: QRule) -> FeedbackSpec {
    FeedbackSpec { p: Some(p), q: Some(q), rank: Some(Ranks::One(Rank::Of(3))), ..FeedbackSpec::default() }
}

fn other(rule: Rule) -> FeedbackSpec {
    FeedbackSpec { rule, ..FeedbackSpec::default() }
}

/// Every pair of rules that is allowed, then every setting beside them.
fn rules() -> Vec<FeedbackSpec> {
    let mut all = Vec::new();
    for p in [PRule::Fixed, PRule::Normative, PRule::Oja, PRule::KolenPollack] {
        for q in [QRule::Fixed, QRule::Normative, QRule::Hebbian] {
            for source in [Source::Layer, Source::Output] {
                let rule = FeedbackSpec { source, ..ldfa(p, q) };
                if rule.check().is_ok() {
                    all.push(rule);
                }
            }
        }
    }
    // Kolen-Pollack goes with hebbian only, and what reads a weight needs the layer's own error.
    assert_eq!(all.len(), 14);
    let labels =
        |source| FeedbackSpec { source, output_statistics: Statistics::Labels, ..ldfa(PRule::Oja, QRule::Hebbian) };
    all.extend([labels(Source::Layer), labels(Source::Output)]);
    // Each where it is not the default.
    let from = |p, init| FeedbackSpec { init: Some(init), ..ldfa(p, QRule::Hebbian) };
    all.extend([
        from(PRule::Oja, Init::Svd),
        from(PRule::Oja, Init::Orthonormal),
        from(PRule::Normative, Init::Uniform),
    ]);
    all.push(FeedbackSpec { error_clamp: Some(0.01), ..ldfa(PRule::Normative, QRule::Hebbian) });
    all.push(other(Rule::Backprop));
    all.push(other(Rule::FeedbackAlignment));
    all.push(other(Rule::DirectFeedbackAlignment));
    all.push(FeedbackSpec { error_clamp: Some(0.02), ..other(Rule::FeedbackAlignment) });
    all
}

/// Rules with a network to run in; names of layers differ from network to network.
fn cases() -> Vec<NetworkSpec> {
    let networks = [normalised(), dropped()];
    let mut cases: Vec<NetworkSpec> =
        rules().into_iter().enumerate().map(|(at, rule)| spec(networks[at % 2].clone(), rule)).collect();
    let ranks = BTreeMap::from([("layers.4".to_owned(), Rank::Of(2).into())]);
    let overridden = FeedbackSpec { ranks, ..ldfa(PRule::Oja, QRule::Hebbian) };
    cases.push(spec(normalised(), overridden));
    let exact = FeedbackSpec { exact: vec!["layers.5".into()], ..ldfa(PRule::Oja, QRule::Hebbian) };
    cases.push(spec(dropped(), exact));
    let named = FeedbackSpec { source: Source::Named("layers.3".into()), ..ldfa(PRule::Oja, QRule::Hebbian) };
    cases.push(spec(dropped(), named));
    let mut squares = spec(dropped(), ldfa(PRule::KolenPollack, QRule::Hebbian));
    squares.loss = Loss::MeanSquaredError;
    cases.push(squares);
    let of_images = [
        ldfa(PRule::Normative, QRule::Normative),
        ldfa(PRule::Oja, QRule::Hebbian),
        ldfa(PRule::KolenPollack, QRule::Hebbian),
        FeedbackSpec { exact: vec!["layers.6.main.0".into()], ..ldfa(PRule::Fixed, QRule::Hebbian) },
        other(Rule::FeedbackAlignment),
        other(Rule::Backprop),
    ];
    cases.extend(of_images.map(|rule| spec(convolved(), rule)));
    let of_tokens = [
        (transformer(), ldfa(PRule::Oja, QRule::Hebbian)),
        (transformer(), ldfa(PRule::Normative, QRule::Normative)),
        (transformer(), other(Rule::Backprop)),
        (causal(), ldfa(PRule::Oja, QRule::Hebbian)),
        (causal(), other(Rule::FeedbackAlignment)),
        (pooled(), ldfa(PRule::KolenPollack, QRule::Hebbian)),
        (pooled(), FeedbackSpec { exact: vec!["layers.2.main.1".into()], ..ldfa(PRule::Fixed, QRule::Hebbian) }),
    ];
    cases.extend(of_tokens.map(|(layers, rule)| spec(layers, rule)));
    cases
}

/// Everything that a step writes: gradients, parameters, statistics, metrics.
fn outcome(network: &Network, executor: &mut Blocking) -> Vec<(String, Vec<f64>)> {
    let states = network.recording.tensors().iter().map(|t| (&t.name, t.tensor));
    let whole = states.filter(|(name, _)| name.ends_with(".running") || *name == "train.metrics");
    let named: Vec<_> = network.recording.named().iter().map(|(name, view)| (name, *view)).chain(whole).collect();
    assert!(named.iter().any(|(name, _)| name.ends_with(".gradient")));
    named.into_iter().map(|(name, view)| (name.clone(), executor.read(view).unwrap())).collect()
}

/// Fails if anything is off by more than its allowance; returns the largest share of one that was used.
fn compare(
    title: &str,
    found: &[(String, Vec<f64>)],
    expected: &[(String, Vec<f64>)],
    allowed: impl Fn(&str) -> f64,
) -> f64 {
    assert_eq!(found.len(), expected.len());
    let mut worst: f64 = 0.0;
    for ((name, found), (_, expected)) in found.iter().zip(expected) {
        let (error, allowed) = (relative_error(found, expected), allowed(name));
        // A shift that the next batch norm takes away again has no gradient but rounding.
        let rounding = |values: &[f64]| values.iter().all(|v| v.abs() < 1e-7);
        if name.contains(".bias") && rounding(found) && rounding(expected) {
            continue;
        }
        assert!(error <= allowed, "{title}: {name} is off by {error:.2e}, allowed {allowed:.0e}");
        worst = worst.max(error / allowed);
    }
    worst
}

fn after_one_step(spec: &NetworkSpec, network: &Network, executor: &mut Blocking) -> Vec<(String, Vec<f64>)> {
    start(spec, network, executor, &[8], 0);
    train(spec, executor, &[8], 1);
    outcome(network, executor)
}

/// A dozen sums of ten terms one after the other, each off by two or three roundings of 6e-8.
const ONE_STEP: f64 = 2e-6;

/// What rounding may do to a tensor in a step.
///
/// The Oja rule shifts its statistics by the first row. Behind a first token most rows of an error are zeros and that one is not, so
/// that what is left of the covariances is a small part of what is subtracted.
fn allowed(spec: &NetworkSpec, name: &str) -> f64 {
    let of_class_tokens = spec.layers.iter().any(|layer| matches!(layer, LayerSpec::FirstToken(_)));
    let by_oja = spec.feedback.p == Some(PRule::Oja) && name.contains(".feedback.p");
    if of_class_tokens && by_oja { 50.0 * ONE_STEP } else { ONE_STEP }
}

#[test]
fn every_rule_steps_alike_on_the_gpu_and_in_the_reference() {
    let mut worst: f64 = 0.0;
    for spec in cases() {
        let network = Network::new(&spec).unwrap();
        let expected = after_one_step(&spec, &network, &mut reference(&network, UNFUSED));
        let found = after_one_step(&spec, &network, &mut gpu(&network, FUSED));
        let title = format!("{:?}", spec.feedback);
        worst = worst.max(compare(&title, &found, &expected, |name| allowed(&spec, name)));
        // What was compared did change.
        let (_, gradient) = expected.iter().find(|(name, _)| name.ends_with("weight.gradient")).unwrap();
        assert!(gradient.iter().any(|&g| g.abs() > 1e-4), "{title}: no gradient");
    }
    println!("rules: {:.0} % of the allowance", worst * 100.0);
}

#[test]
fn rules_differ_from_each_other() {
    let mut outcomes: Vec<(String, Vec<f64>)> = Vec::new();
    for rule in rules() {
        let spec = spec(dropped(), rule);
        let network = Network::new(&spec).unwrap();
        let mut executor = reference(&network, UNFUSED);
        start(&spec, &network, &mut executor, &[8], 0);
        // The first step of some rules moves only P and Q.
        train(&spec, &mut executor, &[8], 3);
        let weights = weights::read(&network.exchange, &mut executor, 0).unwrap();
        let values: Vec<f64> =
            weights.into_iter().filter(|t| !t.name.contains(".feedback.")).flat_map(|t| t.values).collect();
        let title = format!("{:?}", spec.feedback);
        for (name, other) in &outcomes {
            assert!(&values != other, "{title} learns just what {name} does");
        }
        outcomes.push((title, values));
    }
}

// ---- fusion ----

#[test]
fn fused_and_unfused_plans_agree_in_the_reference() {
    let mut fused_away = 0;
    for spec in cases() {
        let network = Network::new(&spec).unwrap();
        let (mut fused, mut unfused) = (reference(&network, FUSED), reference(&network, UNFUSED));
        let expected = after_one_step(&spec, &network, &mut unfused);
        let found = after_one_step(&spec, &network, &mut fused);
        compare(&format!("{:?}", spec.feedback), &found, &expected, |_| 1e-12);
        let length = |options| {
            let plan = Plan::new(network.recording.clone(), &Profile::reference(), options).unwrap();
            Phase::ALL.map(|phase| plan.nodes(phase).len()).iter().sum::<usize>()
        };
        assert!(length(FUSED) < length(UNFUSED), "nothing was fused");
        fused_away += length(UNFUSED) - length(FUSED);
    }
    println!("{fused_away} operations fused away");
}

/// Fusion makes transports of products, and products take gates and activations.
#[test]
fn fusion_makes_what_it_should() {
    let spec = spec(dropped(), ldfa(PRule::Oja, QRule::Hebbian));
    let network = Network::new(&spec).unwrap();
    let profile = Profile { software: false, ..Profile::reference() };
    let plan = Plan::new(network.recording.clone(), &profile, FUSED).unwrap();
    let nodes = plan.nodes(Phase::Train);
    let transports: Vec<_> =
        nodes.iter().filter_map(|n| if let Op::Transport(t) = &n.entry.op { Some(t) } else { None }).collect();
    assert_eq!(transports.len(), 2);
    // The upper one sits right above a relu; below the lower one comes dropout, which keeps the gate apart.
    assert_eq!(transports.iter().filter(|t| t.epilogue.gate.is_some()).count(), 1);
    let activated = nodes.iter().filter(|n| matches!(&n.entry.op, Op::Gemm(g) if g.epilogue.activation.is_some()));
    assert_eq!(activated.count(), 2);
    assert!(!nodes.iter().any(|n| matches!(n.entry.op, Op::Activate(_))));
}

/// Activations join a batch norm, gates the way back of a pool.
#[test]
fn activations_and_gates_join_what_stands_before_them() {
    let count = |layers: Vec<LayerSpec>, wanted: fn(&Op) -> bool| {
        let network = Network::new(&spec(layers, FeedbackSpec::backprop())).unwrap();
        let plan = Plan::new(network.recording.clone(), &Profile::reference(), FUSED).unwrap();
        plan.nodes(Phase::Train).iter().filter(|n| wanted(&n.entry.op)).count()
    };
    assert_eq!(count(normalised(), |op| matches!(op, Op::Normalise(n) if n.activation.is_some())), 1);
    assert_eq!(count(normalised(), |op| matches!(op, Op::Normalise(n) if n.activation.is_none())), 1);
    assert_eq!(count(convolved(), |op| matches!(op, Op::MaxPoolBackward(p) if p.gate.is_some())), 1);
    assert_eq!(count(convolved(), |op| matches!(op, Op::AveragePoolBackward(p) if p.gate.is_some())), 1);
    // A gelu's gate needs what came in, so that the activation and what it saves are both kept.
    // So does a sum behind a batch norm; one that meets a shortcut's convolution joins it, and its activation, too.
    assert_eq!(count(convolved(), |op| matches!(op, Op::Activate(_))), 2);
    let joined = |op: &Op| matches!(op, Op::Gemm(g) if g.epilogue.addend.is_some() && g.epilogue.activation.is_some());
    assert_eq!(count(convolved(), joined), 1);
}

/// On CPUs with eight lanes: what the factors of a layer learn is one operation, which costs and yields what its parts do.
#[test]
fn small_normative_factors_learn_together() {
    let profile = Profile { subgroup_lanes: Some(8), ..Profile::reference() };
    for (p, q, factors) in [
        (PRule::Normative, QRule::Normative, 2),
        (PRule::Normative, QRule::Hebbian, 1),
        (PRule::Oja, QRule::Normative, 1),
    ] {
        // From a start where the gradients are no rounding.
        let feedback = FeedbackSpec { init: Some(Init::Uniform), ..ldfa(p, q) };
        let spec = spec(dropped(), feedback);
        let network = Network::new(&spec).unwrap();
        let fused = Plan::new(network.recording.clone(), &profile, FUSED).unwrap();
        let recorded = Plan::new(network.recording.clone(), &profile, UNFUSED).unwrap();
        let found: Vec<u32> = fused.nodes(Phase::Train).iter().filter_map(|n| fit_factors(&n.entry.op)).collect();
        assert_eq!(found, [factors; 2], "{p:?} {q:?}");
        assert!(!fused.nodes(Phase::Train).iter().any(|n| matches!(n.entry.op, Op::Significant(_))));
        assert_eq!(
            fused.cost(Phase::Train, Some(Role::Feedback)).flops,
            recorded.cost(Phase::Train, Some(Role::Feedback)).flops
        );
        let expected = after_one_step(&spec, &network, &mut reference(&network, UNFUSED));
        let together = after_one_step(&spec, &network, &mut Blocking::new(Reference::new(fused.clone())));
        compare(&format!("{p:?} {q:?} together, reference"), &together, &expected, |_| 1e-12);
        let context = open();
        if context.profile().subgroup_lanes == Some(8) {
            let found = after_one_step(&spec, &network, &mut Gpu::blocking(context, fused).unwrap());
            compare(&format!("{p:?} {q:?} together, device"), &found, &expected, |_| ONE_STEP);
        }
    }
}

fn fit_factors(op: &Op) -> Option<u32> {
    if let Op::Fit(fit) = op { Some(fit.factors()) } else { None }
}

/// Parts of every sum that a plan cuts, by layer, role and what it makes. In how many dispatches a recurrence takes its steps rounds
/// nothing, and may differ.
fn cuts(spec: &NetworkSpec, profile: &Profile) -> BTreeMap<String, u32> {
    let plan = Plan::new(Network::new(spec).unwrap().recording, profile, FUSED).unwrap();
    let mut cuts = BTreeMap::new();
    for phase in Phase::ALL {
        let sums = plan.nodes(phase).iter().filter_map(|node| match &node.entry.op {
            Op::Gemm(op) => Some((node, "gemm", op.splits)),
            Op::Correlate(op) => Some((node, "correlate", op.splits)),
            _ => None,
        });
        for (at, (node, kind, parts)) in sums.enumerate() {
            cuts.insert(format!("{phase:?} {at} {} {kind}", node.entry.layer), parts);
        }
    }
    cuts
}

/// Where sums are cut decides how they round: a network alone and beside others must be cut alike, in every preset, under every
/// rule, on a GPU as in software. Ranks are those that the fused kernels take (up to 16 in software, 64 on a GPU): beyond,
/// neighbours of a large rank have other operations.
#[test]
fn sums_are_cut_alike_whatever_is_trained_beside() {
    let unlimited = Profile { max_binding_bytes: u64::MAX, ..Profile::reference() };
    let gpu = Profile { software: false, subgroup_lanes: Some(32), ..unlimited };
    let software = Profile { software: true, subgroup_lanes: Some(8), ..unlimited };
    let mut cut = [0; 2];
    for preset in presets() {
        let config = Draft::open(preset).unwrap().finish().unwrap();
        let data = made_up(&config);
        let preset_spec = network_spec(&config, &data).unwrap();
        let own = preset_spec.feedback.clone();
        for rule in [own, ldfa(PRule::Oja, QRule::Hebbian), ldfa(PRule::Normative, QRule::Normative)] {
            for (at, (profile, ranks)) in
                [(gpu, [2, 5, 10, 16, 20, 64]), (software, [1, 2, 3, 5, 10, 16])].iter().enumerate()
            {
                let beside = |ranks: &[u32]| {
                    let ranks = ranks.iter().map(|&rank| Some(Rank::Of(rank))).collect();
                    let mut feedback = rule.clone();
                    feedback.ranks.clear();
                    cuts(&NetworkSpec { ranks, feedback, ..preset_spec.clone() }, profile)
                };
                let alone = beside(&ranks[2..3]);
                cut[at] += alone.values().filter(|&&parts| parts > 1).count();
                for replicas in [2, 4, 16, 64] {
                    let together = beside(&vec![ranks[2]; replicas]);
                    assert_eq!(alone, together, "{preset}, {rule:?}, {replicas} replicas");
                }
                assert_eq!(alone, beside(ranks), "{preset}, {rule:?}, mixed ranks");
                for rank in ranks {
                    assert_eq!(alone, beside(&[*rank]), "{preset}, {rule:?}, rank {rank}");
                }
            }
        }
    }
    assert!(cut.iter().all(|&cut| cut > 100), "{cut:?} sums were cut: the networks are too narrow to show anything");
}

/// A batch so long that few outputs leave a GPU idle: sums in parts, biases from the weights' tiles, and the Hebbian
/// gradient from the tiles of the statistics.
#[test]
fn long_batches_are_cut_into_parts() {
    let long = NetworkSpec {
        batch: 1030,
        evaluation_batch: 1030,
        ..spec(
            vec![
                dense(12),
                LayerSpec::Relu(layers::Relu {}),
                dense(9),
                LayerSpec::Relu(layers::Relu {}),
                dense(CLASSES),
            ],
            ldfa(PRule::Oja, QRule::Hebbian),
        )
    };
    let network = Network::new(&long).unwrap();
    let mut device = gpu(&network, FUSED);
    let count =
        |wanted: fn(&Op) -> bool| device.plan().nodes(Phase::Train).iter().filter(|n| wanted(&n.entry.op)).count();
    assert_eq!(count(|op| matches!(op, Op::Gemm(g) if g.transpose_a && g.splits > 1 && g.sums.is_some())), 3);
    assert_eq!(count(|op| matches!(op, Op::Correlate(c) if c.splits > 1 && c.hebbian.is_some())), 2);
    // Weights, biases, statistics, gradients of q.
    assert_eq!(count(|op| matches!(op, Op::SumSplits(_))), 3 + 3 + 2 + 2);
    assert_eq!(count(|op| matches!(op, Op::ColumnSum(_))), 0);
    let found = after_one_step(&long, &network, &mut device);
    let expected = after_one_step(&long, &network, &mut reference(&network, UNFUSED));
    // Sums of a thousand terms.
    compare("a long batch", &found, &expected, |_| 10.0 * ONE_STEP);
}

#[test]
fn fused_and_unfused_plans_agree_on_the_gpu() {
    for spec in cases().into_iter().filter(|s| {
        s.feedback == ldfa(PRule::Oja, QRule::Hebbian)
            || s.feedback.rule == Rule::DirectFeedbackAlignment
            || s.feedback.error_clamp.is_some()
    }) {
        let network = Network::new(&spec).unwrap();
        let expected = after_one_step(&spec, &network, &mut gpu(&network, UNFUSED));
        let found = after_one_step(&spec, &network, &mut gpu(&network, FUSED));
        compare(&format!("{:?}", spec.feedback), &found, &expected, |name| allowed(&spec, name));
    }
}

// ---- memory ----

/// Bytes of a replica's part of a tensor in its buffer.
fn range(plan: &Plan, tensor: View, replica: u32) -> (usize, Range<u64>) {
    let place = plan.placement(tensor).unwrap();
    let size = tensor.dtype.size() as u64;
    let first = place.offset + u64::from(replica) * u64::from(place.replica_stride) * size;
    (place.buffer, first..first + tensor.shape.per_replica() as u64 * size)
}

fn overlap(a: &(usize, Range<u64>), b: &(usize, Range<u64>)) -> bool {
    a.0 == b.0 && a.1.start < b.1.end && b.1.start < a.1.end
}

/// The reference's, a GPU's and that of a software adapter with subgroups of eight lanes.
fn profiles() -> [Profile; 3] {
    let plain = Profile::reference();
    [
        plain,
        Profile { software: false, subgroup_lanes: Some(32), ..plain },
        Profile { subgroup_lanes: Some(8), ..plain },
    ]
}

#[test]
fn no_operation_finds_its_operands_in_one_place() {
    for mut spec in cases() {
        spec.ranks = vec![spec.ranks[0]; 2];
        let network = Network::new(&spec).unwrap();
        let options = [FUSED, Options { fuse: false, ..FUSED }, UNFUSED];
        for (options, profile) in options.into_iter().flat_map(|o| profiles().map(|p| (o, p))) {
            let plan = Plan::new(network.recording.clone(), &profile, options).unwrap();
            for node in Phase::ALL.iter().flat_map(|&phase| plan.nodes(phase)) {
                let operands = node.entry.op.operands();
                for (at, one) in operands.iter().enumerate() {
                    for other in operands.iter().take(at).filter(|o| o.tensor != one.tensor) {
                        let name = format!("{}: {} and {}", node.entry.op.name(), one.name, other.name);
                        let [a, b] = [one, other].map(|o| plan.placement(o.tensor).unwrap());
                        let reads = |o: &Operand| o.access == Access::Read;
                        if reads(one) != reads(other) {
                            assert_ne!(a.buffer, b.buffer, "{name}: one buffer is read and written");
                        }
                        let scratch = [one, other].iter().any(|o| plan.info(o.tensor).kind == Kind::Scratch);
                        assert!(!scratch || a.buffer != b.buffer, "{name}: a scratch buffer holds both");
                        for (r, s) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                            assert!(!overlap(&range(&plan, one.tensor, r), &range(&plan, other.tensor, s)), "{name}");
                        }
                    }
                }
            }
        }
    }
}

/// A walk over every phase: what an operation reads is still what its writer left there.
#[test]
fn shared_memory_holds_a_value_until_its_last_reader() {
    for spec in cases() {
        let network = Network::new(&spec).unwrap();
        let options = [FUSED, Options { fuse: false, ..FUSED }];
        for (options, profile) in options.into_iter().flat_map(|o| profiles().map(|p| (o, p))) {
            let plan = Plan::new(network.recording.clone(), &profile, options).unwrap();
            for phase in Phase::ALL {
                let mut holds: HashMap<usize, usize> = HashMap::new();
                let scratch = |t: View| plan.info(t).kind == Kind::Scratch;
                let buffer = |t: View| plan.placement(t).unwrap().buffer;
                for node in plan.nodes(phase) {
                    let op = &node.entry.op;
                    for tensor in op.inputs().filter(|&t| scratch(t)) {
                        let (name, held) = (&plan.info(tensor).name, holds.get(&buffer(tensor)));
                        assert_eq!(held, Some(&tensor.index()), "{} reads {name}", op.name());
                    }
                    for tensor in op.outputs().filter(|&t| scratch(t)) {
                        assert!(plan.buffers()[buffer(tensor)] >= tensor.bytes());
                        holds.insert(buffer(tensor), tensor.index());
                    }
                }
                for kept in network.recording.kept(phase) {
                    assert_eq!(holds.get(&buffer(*kept)), Some(&kept.index()), "{} is kept", plan.info(*kept).name);
                }
            }
        }
    }
}

#[test]
fn sharing_memory_saves_memory() {
    for spec in cases() {
        let network = Network::new(&spec).unwrap();
        let bytes = |options| -> u64 {
            Plan::new(network.recording.clone(), &Profile::reference(), options).unwrap().buffers().iter().sum()
        };
        let (shared, apart) = (bytes(FUSED), bytes(Options { share_memory: false, ..FUSED }));
        assert!(shared < apart, "{shared} bytes shared, {apart} apart");
    }
    let network = Network::new(&spec(normalised(), other(Rule::Backprop))).unwrap();
    let apart = Options { share_memory: false, ..FUSED };
    let plan = Plan::new(network.recording.clone(), &Profile::reference(), apart).unwrap();
    let scratch = |t: &&ldfa_gpu::ops::TensorInfo| t.kind == Kind::Scratch;
    let placed: Vec<usize> =
        plan.tensors().iter().filter(scratch).filter_map(|t| plan.placement(t.tensor)).map(|p| p.buffer).collect();
    assert_eq!(placed.iter().collect::<HashSet<_>>().len(), placed.len(), "each has a buffer of its own");
}

// ---- replicas ----

/// Variance and participation ratio of samples, from their centred covariance.
fn dimension(samples: &[f64], width: usize) -> (f64, f64) {
    let count = (samples.len() / width) as f64;
    let mean: Vec<f64> = (0..width).map(|j| samples.iter().skip(j).step_by(width).sum::<f64>() / count).collect();
    let covariance = |i: usize, j: usize| {
        samples.chunks(width).map(|sample| (sample[i] - mean[i]) * (sample[j] - mean[j])).sum::<f64>() / count
    };
    let variance: f64 = (0..width).map(|i| covariance(i, i)).sum();
    let squares: f64 =
        (0..width).flat_map(|i| (0..width).map(move |j| (i, j))).map(|(i, j)| covariance(i, j).powi(2)).sum();
    (variance, variance * variance / squares)
}

#[test]
fn a_diagnosis_has_the_spectrum_of_the_errors_that_it_holds() {
    // Of more samples than columns and of fewer; samples times positions.
    let wide = vec![dense(20), LayerSpec::Relu(layers::Relu {}), dense(CLASSES)];
    let mut shapes = HashSet::new();
    for layers in [wide, convolved()] {
        let spec = NetworkSpec { ranks: vec![None, None], ..spec(layers, other(Rule::Backprop)) };
        let network = Network::new(&spec).unwrap();
        let mut executors: [Box<Blocking>; 2] =
            [Box::new(reference(&network, UNFUSED)), Box::new(gpu(&network, FUSED))];
        let mut gradients = Vec::new();
        for executor in &mut executors {
            start(&spec, &network, executor.as_mut(), &[3, 4], 0);
            executor.run(Phase::Diagnose, &[state(&spec, &[3, 4], 0)]).unwrap();
            assert_eq!(network.diagnosis.errors.len(), network.weights.len());
            for error in &network.diagnosis.errors {
                shapes.insert(error.sums.is_some());
                gradients.push(error.gradients.unwrap().map(|of| executor.read(of).unwrap()));
                let (width, samples) = (error.delta.cols() as usize, error.delta.rows() as usize);
                let halves =
                    |values: Vec<f64>| values.chunks(values.len() / 2).map(<[f64]>::to_vec).collect::<Vec<_>>();
                let deltas = halves(executor.read(error.delta).unwrap());
                let products = halves(executor.read(error.products).unwrap());
                let sums = error.sums.map(|sums| halves(executor.read(sums).unwrap()));
                assert!(products[0].len() <= deltas[0].len(), "products need no more room than the error itself");
                for replica in 0..2 {
                    let sums = sums.as_ref().map(|sums| &sums[replica][..]);
                    let found = spectrum(&Products { products: &products[replica], sums, samples }).unwrap();
                    let (variance, dimension) = dimension(&deltas[replica], width);
                    let off = |found: f64, expected: f64| (found - expected).abs() / expected;
                    // Sums of 260 terms at most, each rounded to 6e-8 of itself.
                    assert!(off(found.variance, variance) < 2e-6, "{} and {variance}", found.variance);
                    assert!(
                        off(found.effective_dimension, dimension) < 2e-6,
                        "{} of {dimension}",
                        found.effective_dimension
                    );
                }
            }
        }
        let (exact, found) = gradients.split_at(network.weights.len());
        for (exact, found) in exact.iter().flatten().zip(found.iter().flatten()) {
            let largest = exact.iter().fold(0.0, |most: f64, g| most.max(g.abs()));
            assert!(largest > 0.0);
            // As above, after errors that were rounded on their way through few layers.
            assert!(exact.iter().zip(found).all(|(a, b)| (a - b).abs() < 1e-5 * largest));
        }
    }
    assert_eq!(shapes.len(), 2, "both products were looked at");
}

fn adam(lr: f64) -> OptimizerSpec {
    OptimizerSpec { algorithm: Algorithm::Adam, ..OptimizerSpec::sgd(lr) }
}

/// Ranks 3 and 7 with two seeds each, padded to rank 7 where they are trained together.
#[test]
fn ranks_and_seeds_trained_together_equal_each_alone_bitwise() {
    let (ranks, seeds) = ([3, 3, 7, 7], [11, 12, 11, 12]);
    let labels = FeedbackSpec {
        output_statistics: Statistics::Labels,
        source: Source::Output,
        ..ldfa(PRule::Oja, QRule::Hebbian)
    };
    let plain =
        vec![dense(20), LayerSpec::Relu(layers::Relu {}), dense(17), LayerSpec::Gelu(layers::Gelu {}), dense(CLASSES)];
    let drop = LayerSpec::Dropout(layers::Dropout { p: 0.2 });
    let dropped = vec![
        dense(20),
        LayerSpec::BatchNorm(layers::BatchNorm {}),
        LayerSpec::Relu(layers::Relu {}),
        drop,
        dense(12),
        dense(CLASSES),
    ];
    for (rule, layers) in [
        (ldfa(PRule::Oja, QRule::Hebbian), &plain),
        (ldfa(PRule::Normative, QRule::Normative), &dropped),
        (ldfa(PRule::KolenPollack, QRule::Hebbian), &plain),
        (labels, &dropped),
        (ldfa(PRule::Oja, QRule::Hebbian), &convolved()),
        (ldfa(PRule::Normative, QRule::Normative), &convolved()),
        (ldfa(PRule::Oja, QRule::Hebbian), &transformer()),
        (ldfa(PRule::Normative, QRule::Normative), &transformer()),
    ] {
        let run = |ranks: &[u32], seeds: &[u32], first: usize| {
            let mut spec = spec(layers.to_vec(), rule.clone());
            spec.feedback.rank = Some(Ranks::Several(vec![Rank::Of(3), Rank::Of(7)]));
            spec.ranks = ranks.iter().map(|&r| Some(Rank::Of(r))).collect();
            (spec.optimizer, spec.feedback_optimizer) = (adam(0.01), adam(0.02));
            let network = Network::new(&spec).unwrap();
            let mut gpu = gpu(&network, FUSED);
            start(&spec, &network, &mut gpu, seeds, first);
            let before = weights::read(&network.exchange, &mut gpu, 0).unwrap();
            train(&spec, &mut gpu, seeds, 5);
            let all: Vec<_> =
                (0..seeds.len()).map(|r| weights::read(&network.exchange, &mut gpu, r).unwrap()).collect();
            assert_ne!(before, all[0], "nothing was learned");
            all
        };
        let together = run(&ranks, &seeds, 0);
        for replica in 0..4 {
            let alone = &run(&ranks[replica..=replica], &seeds[replica..=replica], replica)[0];
            assert_eq!(alone.len(), together[replica].len());
            for (alone, together) in alone.iter().zip(&together[replica]) {
                assert_eq!((&alone.name, &alone.shape), (&together.name, &together.shape));
                let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert!(alone.values.iter().all(|v| v.is_finite()), "{}", alone.name);
                let off = relative_error(&together.values, &alone.values);
                let title = format!("{} of replica {replica} with {}", alone.name, RuleName::of(&rule, &[]));
                assert_eq!(bits(&together.values), bits(&alone.values), "{title}, off by {off:.1e}");
            }
        }
        assert_ne!(together[0], together[1], "seeds must differ");
    }
}

/// So many replicas that one row for all weights would be longer than the least binding; alone, each has one.
#[test]
fn parameters_in_several_rows_step_as_those_in_one() {
    let layers = vec![
        dense(512),
        LayerSpec::Relu(layers::Relu {}),
        dense(1024),
        LayerSpec::Relu(layers::Relu {}),
        dense(CLASSES),
    ];
    let one = NetworkSpec { batch: 2, evaluation_batch: 2, ..spec(layers, ldfa(PRule::Oja, QRule::Hebbian)) };
    let last = MAX_REPLICAS - 1;
    let run = |seeds: Range<u32>, rows: usize| {
        let seeds: Vec<u32> = seeds.collect();
        let spec = NetworkSpec { ranks: vec![one.ranks[0]; seeds.len()], ..one.clone() };
        let network = Network::new(&spec).unwrap();
        let names = network.recording.tensors().iter().map(|t| t.name.as_str());
        assert_eq!(names.filter(|n| n.starts_with("weights.") && n.ends_with(".values")).count(), rows);
        let mut gpu = gpu(&network, FUSED);
        start(&spec, &network, &mut gpu, &seeds, seeds[0] as usize);
        let before = weights::read(&network.exchange, &mut gpu, seeds.len() - 1).unwrap();
        train(&spec, &mut gpu, &seeds, 1);
        let after = weights::read(&network.exchange, &mut gpu, seeds.len() - 1).unwrap();
        for (before, after) in before.iter().zip(&after) {
            assert!(before != after, "{} has not learned", before.name);
        }
        after
    };
    let (alone, together) = (run(last as u32..last as u32 + 1, 1), run(0..last as u32 + 1, 3));
    assert_eq!(alone.len(), together.len());
    for (alone, together) in alone.iter().zip(&together) {
        let off = relative_error(&together.values, &alone.values);
        assert!(alone == together, "{} is off by {off:.1e}", alone.name);
    }
    let too_many = NetworkSpec { ranks: vec![one.ranks[0]; MAX_REPLICAS + 1], ..one };
    assert!(Network::new(&too_many).is_err());
}

/// The same program twice, from the same start.
#[test]
fn training_twice_is_bitwise_the_same() {
    let mut spec = spec(normalised(), ldfa(PRule::Oja, QRule::Hebbian));
    (spec.optimizer, spec.feedback_optimizer) = (adam(0.01), adam(0.02));
    let network = Network::new(&spec).unwrap();
    let run = || {
        let mut gpu = gpu(&network, FUSED);
        start(&spec, &network, &mut gpu, &[5], 0);
        train(&spec, &mut gpu, &[5], 6);
        weights::read(&network.exchange, &mut gpu, 0).unwrap()
    };
    assert_eq!(run(), run());
}

/// A loss that is not finite stops its own replica, and leaves its neighbour as it would be alone.
#[test]
fn a_replica_that_fails_keeps_its_weights_and_disturbs_no_other() {
    let mut spec = spec(normalised(), ldfa(PRule::Oja, QRule::Hebbian));
    spec.ranks = vec![Some(Rank::Of(3)); 2];
    let network = Network::new(&spec).unwrap();
    let seeds = [5, 6];
    let run = |poisoned: bool| {
        let mut gpu = gpu(&network, FUSED);
        start(&spec, &network, &mut gpu, &seeds, 0);
        let before = weights::read(&network.exchange, &mut gpu, 1).unwrap();
        if poisoned {
            let Feed::Host { x, .. } = network.feed else { panic!("asked for a host feed") };
            let mut values = gpu.read(x).unwrap();
            let last = values.len() - 1;
            values[last] = f64::NAN;
            gpu.write(x, &values).unwrap();
        }
        train(&spec, &mut gpu, &seeds, 3);
        let after = [0, 1].map(|r| weights::read(&network.exchange, &mut gpu, r).unwrap());
        (before, after, gpu.read(network.fault).unwrap(), gpu.read(network.train_metrics).unwrap())
    };
    let (_, healthy, fault, _) = run(false);
    assert_eq!(fault, [0.0, 0.0]);
    let (before, after, fault, metrics) = run(true);
    assert_eq!(fault, [0.0, 1.0], "the first step failed");
    assert_eq!(after[0], healthy[0]);
    assert_eq!(after[1], before);
    assert_eq!(metrics[3..], [0.0, 0.0, 0.0]);
}

/// Parts of a batch share their memory, each average is weighed, and what no sample enters is learned once.
#[test]
fn a_batch_in_parts_needs_less_memory() {
    let layers = || {
        vec![dense(64), LayerSpec::Relu(layers::Relu {}), dense(64), LayerSpec::Relu(layers::Relu {}), dense(CLASSES)]
    };
    let data = DataFeed {
        image: [3, FEATURES / 3, 1],
        train: 512,
        test: 16,
        encoding: Encoding::Scaled { scale: [1.0; 4], shift: [0.0; 4] },
        targets: 1,
        augment: Augment::default(),
        shard_bytes: 1 << 20,
    };
    let network = |feedback: FeedbackSpec, accumulate: u32| {
        let feed = FeedSpec::Data(data.clone());
        Network::new(&NetworkSpec { batch: 512, accumulate, evaluation_batch: 16, feed, ..spec(layers(), feedback) })
    };
    let bytes = |accumulate| {
        let recording = network(ldfa(PRule::Oja, QRule::Hebbian), accumulate).unwrap().recording;
        Plan::new(recording, &Profile::reference(), FUSED).unwrap().buffers().iter().sum::<u64>()
    };
    assert!(2 * bytes(8) < bytes(1), "{} bytes in parts, {} at once", bytes(8), bytes(1));
    let count = |feedback: FeedbackSpec, wanted: &dyn Fn(&Op) -> bool| {
        let recording = network(feedback, 4).unwrap().recording;
        recording.entries(Phase::Train).iter().filter(|e| wanted(&e.op)).count()
    };
    let oja = ldfa(PRule::Oja, QRule::Hebbian);
    assert_eq!(count(oja.clone(), &|op| matches!(op, Op::Oja(oja) if oja.rows == 512)), 2);
    assert_eq!(count(ldfa(PRule::Normative, QRule::Normative), &|op| matches!(op, Op::Significant(_))), 2 * 2);
    // One micro-batch of one row is no batch of one row.
    assert!(network(oja.clone(), 512).is_ok());
    assert!(network(oja.clone(), 3).is_err(), "512 is no multiple of 3");
    assert!(network(oja, 0).is_err());
}

/// Nothing deviates in a single row; decay would be all that the Oja rule does.
#[test]
fn the_oja_rule_refuses_a_batch_of_one_row() {
    let of = |batch, layers, rule| Network::new(&NetworkSpec { batch, evaluation_batch: batch, ..spec(layers, rule) });
    let oja = || ldfa(PRule::Oja, QRule::Hebbian);
    let error = of(1, dropped(), oja()).unwrap_err().to_string();
    assert!(error.contains("layers.3") && error.contains("train.batch of at least 2"), "{error}");
    of(2, dropped(), oja()).unwrap();
    assert!(of(1, dropped(), ldfa(PRule::Normative, QRule::Hebbian)).is_ok());
    // The errors of convolutions have a row for every position.
    let conv = |out| {
        LayerSpec::Conv(layers::Conv { out, kernel: Sides::One(1), stride: Sides::One(1), padding: Sides::One(0) })
    };
    let exact = FeedbackSpec { exact: vec!["layers.3".into()], ..oja() };
    assert!(of(1, vec![conv(3), conv(4), LayerSpec::Flatten(layers::Flatten {}), dense(CLASSES)], exact).is_ok());
}
