//! The executor as a whole, and what the tests of single functions share.

use super::*;
use crate::ops::random::{pcg4d, unit};
use crate::ops::{
    Activate, Activation, ColumnSum, Correlate, Dropout, Dtype, Encoding, Gate, Gather, Gemm, GroupStep, Moments,
    Normalise, NormaliseBackward, NormaliseGradients, Oja, OneHot, Optimize, Recording, ReplicaStep, Role,
    SoftmaxCrossEntropy, Tally, TrackMoments, Transport, Update,
};
use crate::plan::{Blocking, Options, Profile};

/// Values in (-2, 2), another sequence for every stream.
pub(super) fn noise(count: usize, stream: u32) -> Vec<f64> {
    (0..count as u32).map(|at| 4.0 * unit(pcg4d([at, stream, 0, 0])[0]) - 2.0).collect()
}

/// Equal to within `tolerance` times the larger of 1 and the expected value.
pub(super) fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (at, (f, e)) in found.iter().zip(expected).enumerate() {
        let off = (f - e).abs() / e.abs().max(1.0);
        assert!(off <= tolerance, "element {at}: {f} is not {e}, off by {off:e} where {tolerance:e} is allowed");
    }
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Gradient of f by central differences.
pub(super) fn differences(x: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let h = 1e-5;
    let at = |i: usize, by: f64| {
        let mut x = x.to_vec();
        x[i] += by;
        f(&x)
    };
    (0..x.len()).map(|i| (at(i, h) - at(i, -h)) / (2.0 * h)).collect()
}

#[test]
#[should_panic(expected = "element 1")]
fn assert_close_can_fail() {
    assert_close(&[1.0, 2.0], &[1.0, 2.0 + 1e-9], 1e-12);
}

#[test]
#[should_panic]
fn assert_close_sees_nan() {
    assert_close(&[f64::NAN], &[f64::NAN], 1e-12);
}

/// A step of so many replicas, with seeds 0, 1, ..., learning rates 0.1, 0.2, ... and no decay.
fn step(replicas: u32, active_rows: u32) -> StepState {
    let replica = |seed: u32| ReplicaStep { seed, rate: [0.1 * f64::from(seed + 1); 2], decay: [0.0; 2] };
    StepState {
        step: 4,
        cursor: 0,
        active_rows,
        groups: [GroupStep::default(); 2],
        replicas: (0..replicas).map(replica).collect(),
    }
}

fn reference(recording: Recording) -> Blocking<Reference> {
    let plan = Plan::new(recording, &Profile::reference(), Options::default()).unwrap();
    Blocking::new(Reference::new(plan))
}

#[test]
fn replicas_are_computed_side_by_side_and_a_shared_operand_serves_all() {
    let mut r = Recording::new(3);
    let (a, b) = (r.state("a", 2, 3, Dtype::F32), r.shared("b", 3, 2, Dtype::F32));
    let out = r.scratch("out", 2, 2);
    let mut reference = reference(r);
    let (a_values, b_values) = (noise(18, 1), noise(6, 2));
    reference.set(a, &a_values).unwrap();
    reference.set(b, &b_values).unwrap();
    reference.execute(&Gemm::nn(a, b, out).into(), &step(3, 2)).unwrap();
    let alone = |a: &[f64]| gemm::product(matrix::Matrix::new(2, 3, a), matrix::Matrix::new(3, 2, &b_values));
    let expected: Vec<f64> = a_values.chunks(6).flat_map(alone).collect();
    assert_eq!(reference.get(out).unwrap(), expected);
}

#[test]
fn views_read_and_write_a_window_of_every_replica() {
    let mut r = Recording::new(2);
    let parent = r.state("gradients", 1, 7, Dtype::F32);
    let window = parent.window(2, 1, 3);
    let x = r.state("x", 2, 3, Dtype::F32);
    let out = r.scratch("out", 1, 3);
    let mut reference = reference(r);
    reference.set(parent, &[9.0; 14]).unwrap();
    reference.set(x, &[1.0, 2.0, 3.0, 10.0, 20.0, 30.0, -1.0, -2.0, -3.0, 0.0, 0.0, 0.0]).unwrap();
    reference.execute(&ColumnSum { x, out: window, accumulate: false }.into(), &step(2, 2)).unwrap();
    let expected = [9.0, 9.0, 11.0, 22.0, 33.0, 9.0, 9.0, 9.0, 9.0, -1.0, -2.0, -3.0, 9.0, 9.0];
    assert_eq!(reference.get(parent).unwrap(), expected);
    assert_eq!(reference.get(window).unwrap(), [11.0, 22.0, 33.0, -1.0, -2.0, -3.0]);

    reference.execute(&Activate { x: window, out, f: Activation::Relu }.into(), &step(2, 2)).unwrap();
    assert_eq!(reference.get(out).unwrap(), [11.0, 22.0, 33.0, 0.0, 0.0, 0.0]);
    reference.set(window, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    let parent = reference.get(parent).unwrap();
    assert_eq!((&parent[2..5], &parent[9..12]), (&[1.0, 2.0, 3.0][..], &[4.0, 5.0, 6.0][..]));
}

#[test]
fn a_view_of_a_view_lies_in_the_outermost_tensor() {
    let mut r = Recording::new(2);
    let parent = r.state("all", 1, 6, Dtype::F32);
    let middle = parent.window(1, 1, 4);
    let inner = middle.window(2, 1, 2);
    let mut reference = reference(r);
    reference.set(inner, &[1.0, 2.0, 3.0, 4.0]).unwrap();
    assert_eq!(reference.get(parent).unwrap(), [0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 3.0, 4.0, 0.0]);
}

#[test]
fn a_transport_keeps_y_and_equals_its_two_products() {
    let mut r = Recording::new(2);
    let delta = r.state("delta", 5, 4, Dtype::F32);
    let (p, q) = (r.state("p", 4, 2, Dtype::F32), r.state("q", 2, 3, Dtype::F32));
    let saved = r.state("saved", 5, 3, Dtype::F32);
    let (y, out) = (r.scratch("y", 5, 2), r.scratch("out", 5, 3));
    let (y2, out2) = (r.scratch("y2", 5, 2), r.scratch("out2", 5, 3));
    let mut reference = reference(r);
    for (tensor, stream) in [(delta, 1), (p, 2), (q, 3), (saved, 4)] {
        reference.set(tensor, &noise(tensor.shape.elements(), stream)).unwrap();
    }
    let epilogue =
        crate::ops::Epilogue { clamp: Some(0.5), gate: Some((Activation::Relu, saved)), ..Default::default() };
    reference.execute(&Transport { delta, p, q, y, out, epilogue }.into(), &step(2, 5)).unwrap();
    reference.execute(&Gemm::nn(delta, p, y2).into(), &step(2, 5)).unwrap();
    reference.execute(&Gemm { epilogue, ..Gemm::nn(y2, q, out2) }.into(), &step(2, 5)).unwrap();
    assert_eq!(reference.get(y).unwrap(), reference.get(y2).unwrap());
    assert_eq!(reference.get(out).unwrap(), reference.get(out2).unwrap());
    assert!(reference.get(out).unwrap().iter().any(|&x| x.abs() == 0.5), "the clamp was reached");
}

#[test]
fn gemm_takes_addend_and_bias_of_its_own_replica() {
    let mut r = Recording::new(2);
    let (a, b) = (r.state("a", 1, 1, Dtype::F32), r.state("b", 1, 2, Dtype::F32));
    let (addend, bias) = (r.state("addend", 1, 2, Dtype::F32), r.state("bias", 1, 2, Dtype::F32));
    let out = r.scratch("out", 1, 2);
    let mut reference = reference(r);
    for (tensor, values) in [(a, &[2.0, 3.0][..]), (b, &[1.0, 2.0, 3.0, 4.0])] {
        reference.set(tensor, values).unwrap();
    }
    reference.set(addend, &[10.0, 20.0, 30.0, 40.0]).unwrap();
    reference.set(bias, &[0.5, 0.25, 0.125, 0.0]).unwrap();
    let epilogue = crate::ops::Epilogue { addend: Some((addend, -1.0)), bias: Some(bias), ..Default::default() };
    reference.execute(&Gemm { alpha: 10.0, epilogue, ..Gemm::nn(a, b, out) }.into(), &step(2, 1)).unwrap();
    assert_eq!(reference.get(out).unwrap(), [10.5, 20.25, 60.125, 80.0]);
}

#[test]
fn replicas_draw_masks_of_their_own_seed() {
    let mut r = Recording::new(2);
    let (x, out) = (r.state("x", 8, 16, Dtype::F32), r.scratch("out", 8, 16));
    let mut reference = reference(r);
    reference.set(x, &[1.0; 256]).unwrap();
    let op = Dropout { x, out, drop: 0.5, stream: 3, together: 1 }.into();
    reference.execute(&op, &step(2, 8)).unwrap();
    let (out, alone) = (reference.get(out).unwrap(), |seed| elementwise::dropout(&[1.0; 128], 0.5, 1, [3, 4, seed]));
    assert_eq!(out, [alone(0), alone(1)].concat());
    assert_ne!(out[..128], out[128..]);

    let error = reference.execute(&op, &step(1, 8)).unwrap_err();
    assert_eq!(error, ReferenceError::MissingStep { replica: 1, found: 1 });
}

/// Everything that a faulty replica must not change.
#[test]
fn a_faulty_replica_keeps_weights_moments_metrics_and_running_statistics() {
    let mut r = Recording::new(2);
    let (values, gradients) = (r.state("w", 1, 2, Dtype::F32), r.state("g", 1, 2, Dtype::F32));
    let (velocity, fault) = (r.state("velocity", 1, 2, Dtype::F32), r.state("fault", 1, 1, Dtype::U32));
    let (losses, correct) = (r.state("losses", 3, 1, Dtype::F32), r.state("correct", 3, 1, Dtype::F32));
    let metrics = r.state("metrics", 1, 3, Dtype::F32);
    let (moments, running) = (r.state("moments", 2, 1, Dtype::F32), r.state("running", 2, 1, Dtype::F32));
    let mut reference = reference(r);
    reference.set(gradients, &[1.0, -1.0, 1.0, -1.0]).unwrap();
    reference.set(losses, &[1.0, 2.0, 0.0, 1.0, f64::NAN, 0.0]).unwrap();
    reference.set(correct, &[1.0, 0.0, 0.0, 1.0, 1.0, 0.0]).unwrap();
    reference.set(moments, &[1.0, 1.0, 1.0, 1.0]).unwrap();
    let update = Update::Sgd { momentum: 0.9 };
    let moment = [Some(velocity), None, None];
    let ops: [Op; 3] = [
        Tally { losses, correct, metrics, fault }.into(),
        Optimize { update, group: 0, clamp: None, values, gradients, moments: moment, fault }.into(),
        TrackMoments { moments, running, fault, momentum: 0.5, rows: 2 }.into(),
    ];
    for _ in 0..2 {
        for op in &ops {
            reference.execute(op, &step(2, 2)).unwrap();
        }
    }
    assert_eq!(reference.get(fault).unwrap(), [0.0, 5.0]);
    assert_eq!(reference.get(metrics).unwrap(), [6.0, 2.0, 4.0, 0.0, 0.0, 0.0]);
    // The first replica at rate 0.1: -0.1, then a step of 1.9 times that.
    assert_close(&reference.get(values).unwrap(), &[-0.29, 0.29, 0.0, 0.0], 1e-15);
    assert_eq!(reference.get(velocity).unwrap(), [1.9, -1.9, 0.0, 0.0]);
    assert_eq!(reference.get(running).unwrap(), [0.75, 1.5, 0.0, 0.0]);
}

#[test]
fn rates_and_decays_are_those_of_the_replica_and_the_group() {
    let mut r = Recording::new(2);
    let (values, gradients) = (r.state("w", 1, 1, Dtype::F32), r.state("g", 1, 1, Dtype::F32));
    let fault = r.state("fault", 1, 1, Dtype::U32);
    let mut reference = reference(r);
    reference.set(values, &[1.0, 1.0]).unwrap();
    reference.set(gradients, &[1.0, 1.0]).unwrap();
    let mut state = step(2, 1);
    state.replicas[0] = ReplicaStep { seed: 0, rate: [f64::NAN, 0.5], decay: [f64::NAN, 0.0] };
    state.replicas[1] = ReplicaStep { seed: 0, rate: [f64::NAN, 0.25], decay: [f64::NAN, 1.0] };
    let update = Update::Sgd { momentum: 0.0 };
    let op = Optimize { update, group: 1, clamp: None, values, gradients, moments: [None; 3], fault };
    reference.execute(&op.into(), &state).unwrap();
    assert_eq!(reference.get(values).unwrap(), [0.5, 0.5]);
    let error = reference.execute(&Optimize { group: 2, ..op }.into(), &state).unwrap_err();
    assert_eq!(error, ReferenceError::UnknownGroup { group: 2 });
}

/// A network of one hidden layer on a data set of eight images, trained by its exact gradient.
struct Network {
    recording: Recording,
    losses: View,
    weights: View,
    gradients: View,
    metrics: View,
    data: [View; 3],
}

const IMAGES: u32 = 8;
const WIDTHS: [u32; 3] = [12, 7, 3];

/// Gather, dense, batch norm, gelu, dropout, dense, loss; and back.
fn network(replicas: u32, update: Update) -> Network {
    let [inputs, hidden, classes] = WIDTHS;
    let (rows, epsilon) = (5, 1e-5);
    let mut r = Recording::new(replicas);
    let data = [
        r.shared("images", IMAGES, inputs, Dtype::U8),
        r.shared("classes", IMAGES, 1, Dtype::U32),
        r.shared("permutation", 1, IMAGES, Dtype::U32),
    ];
    let sizes = [hidden * inputs, hidden, hidden, classes * hidden, classes];
    let total = sizes.iter().sum();
    let (weights, gradients) = (r.state("weights", 1, total, Dtype::F32), r.state("gradients", 1, total, Dtype::F32));
    let windows = |of: View| {
        let mut offset = 0;
        let shapes = [(hidden, inputs), (1, hidden), (1, hidden), (classes, hidden), (1, classes)];
        shapes.map(|(rows, cols)| {
            offset += rows * cols;
            of.window(offset - rows * cols, rows, cols)
        })
    };
    let ([w1, gamma, beta, w2, b2], [dw1, dgamma, dbeta, dw2, db2]) = (windows(weights), windows(gradients));
    let (metrics, fault) = (r.state("metrics", 1, 3, Dtype::F32), r.state("fault", 1, 1, Dtype::U32));
    let running = r.state("running", 2, hidden, Dtype::F32);
    let (x, labels) = (r.scratch("x", rows, inputs), r.scratch_of("labels", rows, 1, Dtype::U32));
    let (a1, moments) = (r.scratch("a1", rows, hidden), r.scratch("moments", 2, hidden));
    let [normed, active, h] = ["normed", "active", "h"].map(|name| r.scratch(name, rows, hidden));
    let (logits, delta) = (r.scratch("logits", rows, classes), r.scratch("delta", rows, classes));
    let (losses, correct) = (r.scratch("losses", rows, 1), r.scratch("correct", rows, 1));
    let [dh, dactive, dnormed, da1] = ["dh", "dactive", "dnormed", "da1"].map(|name| r.scratch(name, rows, hidden));

    let (f, drop) = (Activation::Gelu, 0.25);
    let bias = crate::ops::Epilogue { bias: Some(b2), ..Default::default() };
    let ops: Vec<Op> = vec![
        Gather {
            images: data[0],
            classes: data[1],
            permutation: data[2],
            out: x,
            labels,
            first: 0,
            skip: 0,
            image: [2, 2, 3],
            encoding: Encoding::Scaled { scale: [0.01; 4], shift: [-1.0; 4] },
            augment: Default::default(),
        }
        .into(),
        Gemm::nt(x, w1, a1).into(),
        Moments { x: a1, out: moments }.into(),
        Normalise { x: a1, moments, gamma, beta, out: normed, epsilon, activation: None }.into(),
        Activate { x: normed, out: active, f }.into(),
        Dropout { x: active, out: h, drop, stream: 1, together: 1 }.into(),
        Gemm { epilogue: bias, ..Gemm::nt(h, w2, logits) }.into(),
        SoftmaxCrossEntropy { logits, labels, smoothing: 0.0, delta, losses, correct }.into(),
        Tally { losses, correct, metrics, fault }.into(),
        Gemm::tn(delta, h, dw2).into(),
        ColumnSum { x: delta, out: db2, accumulate: false }.into(),
        Gemm::nn(delta, w2, dh).into(),
        Dropout { x: dh, out: dactive, drop, stream: 1, together: 1 }.into(),
        Gate { x: dactive, saved: normed, out: dnormed, f }.into(),
        NormaliseGradients {
            error: dnormed,
            x: a1,
            moments,
            grad_gamma: dgamma,
            grad_beta: dbeta,
            totals: None,
            epsilon,
        }
        .into(),
        NormaliseBackward {
            error: dnormed,
            x: a1,
            moments,
            gamma,
            grad_gamma: dgamma,
            grad_beta: dbeta,
            out: da1,
            epsilon,
        }
        .into(),
        Gemm::tn(da1, x, dw1).into(),
        TrackMoments { moments, running, fault, momentum: 0.1, rows }.into(),
        Optimize { update, group: 0, clamp: None, values: weights, gradients, moments: [None; 3], fault }.into(),
    ];
    r.begin(Phase::Train);
    for op in ops {
        r.push(op).unwrap();
    }
    r.keep(losses);
    Network { recording: r, losses, weights, gradients, metrics, data }
}

fn prepared(network: &Network) -> Blocking<Reference> {
    let mut reference = reference(network.recording.clone());
    let images: Vec<u8> =
        noise(IMAGES as usize * WIDTHS[0] as usize, 1).iter().map(|v| (v.abs() * 120.0) as u8).collect();
    reference.write_bytes(network.data[0], &images).unwrap();
    reference.write(network.data[1], &[0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 0.0, 1.0]).unwrap();
    reference.write(network.data[2], &[3.0, 1.0, 4.0, 0.0, 5.0, 7.0, 2.0, 6.0]).unwrap();
    let weights = network.weights.shape.per_replica();
    let replicas = network.weights.shape.replicas;
    let values: Vec<f64> = (0..replicas).flat_map(|replica| noise(weights, 10 + replica)).collect();
    reference.write(network.weights, &values).unwrap();
    reference
}

/// The gradients of a whole step against central differences of its loss.
#[test]
fn a_step_computes_the_gradient_of_its_loss() {
    let network = network(1, Update::Sgd { momentum: 0.0 });
    let mut still = step(1, 5);
    still.replicas[0].rate = [0.0; 2];
    let mut reference = prepared(&network);
    let weights = reference.get(network.weights).unwrap();
    reference.run(Phase::Train, std::slice::from_ref(&still)).unwrap();
    let gradients = reference.get(network.gradients).unwrap();
    let loss = |weights: &[f64]| {
        let mut reference = Blocking::new(reference.clone());
        reference.set(network.weights, weights).unwrap();
        reference.run(Phase::Train, std::slice::from_ref(&still)).unwrap();
        reference.get(network.losses).unwrap().iter().sum::<f64>() / 5.0
    };
    assert_close(&gradients, &differences(&weights, loss), 1e-8);
    assert!(gradients.iter().any(|g| g.abs() > 0.01));
}

#[test]
fn a_fused_plan_computes_what_the_unfused_one_does() {
    let mut r = Recording::new(2);
    let delta = r.state("delta", 5, 4, Dtype::F32);
    let (p, q) = (r.state("p", 4, 2, Dtype::F32), r.state("q", 2, 3, Dtype::F32));
    let saved = r.state("saved", 5, 3, Dtype::F32);
    let (y, mixed, out) = (r.scratch("y", 5, 2), r.scratch("mixed", 5, 3), r.scratch("out", 5, 3));
    r.begin(Phase::Diagnose);
    r.role(Role::Transport);
    r.push(Gemm::nn(delta, p, y)).unwrap();
    r.push(Gemm::nn(y, q, mixed)).unwrap();
    r.push(Gate { x: mixed, saved, out, f: Activation::Gelu }).unwrap();
    r.keep(out);
    let results = [(true, 1), (false, 3)].map(|(fuse, operations)| {
        let options = Options { fuse, ..Options::default() };
        // On software adapters transports stay two products.
        let profile = Profile { software: false, ..Profile::reference() };
        let plan = Plan::new(r.clone(), &profile, options).unwrap();
        assert_eq!(plan.nodes(Phase::Diagnose).len(), operations);
        let mut reference = Blocking::new(Reference::new(plan));
        for (tensor, stream) in [(delta, 1), (p, 2), (q, 3), (saved, 4)] {
            reference.write(tensor, &noise(tensor.shape.elements(), stream)).unwrap();
        }
        reference.run(Phase::Diagnose, &[step(2, 5)]).unwrap();
        [y, out].map(|tensor| reference.read(tensor).unwrap())
    });
    assert_eq!(results[0], results[1]);
    assert!(results[0][1].iter().any(|&v| v != 0.0));
}

#[test]
fn a_replica_is_bitwise_what_it_would_be_alone() {
    let (pair, single) = (network(2, Update::Sgd { momentum: 0.0 }), network(1, Update::Sgd { momentum: 0.0 }));
    let steps = [step(2, 5), StepState { step: 5, ..step(2, 5) }];
    let mut together = prepared(&pair);
    together.run(Phase::Train, &steps).unwrap();
    let together = together.get(pair.weights).unwrap();

    let mut alone = prepared(&single);
    let count = single.weights.shape.per_replica();
    alone.set(single.weights, &noise(count, 11)).unwrap();
    let steps = steps.map(|step| StepState { replicas: vec![step.replicas[1]], ..step });
    alone.run(Phase::Train, &steps).unwrap();
    assert_eq!(alone.get(single.weights).unwrap(), together[count..]);
}

#[test]
fn training_lowers_the_loss() {
    let network = network(1, Update::Sgd { momentum: 0.0 });
    let mut reference = prepared(&network);
    let mut loss = |from: u32| {
        reference.set(network.metrics, &[0.0; 3]).unwrap();
        let steps: Vec<StepState> = (from..from + 50).map(|at| StepState { step: at, ..step(1, 5) }).collect();
        reference.run(Phase::Train, &steps).unwrap();
        let metrics = reference.get(network.metrics).unwrap();
        assert_eq!(metrics[2], 250.0);
        metrics[0] / metrics[2]
    };
    let (first, later) = (loss(0), (50..300).step_by(50).map(&mut loss).last().unwrap());
    assert!(later < 0.5 * first, "{first} to {later}");
}

#[test]
fn one_hot_labels_and_their_statistics_reach_their_tensors() {
    let mut r = Recording::new(1);
    let (labels, p) = (r.state("labels", 3, 1, Dtype::U32), r.state("p", 2, 1, Dtype::F32));
    let (x, y) = (r.scratch("x", 3, 2), r.scratch("y", 3, 1));
    let (statistics, out) = (r.scratch("statistics", 4, 3), r.scratch("out", 2, 1));
    let mut reference = reference(r);
    reference.set(labels, &[1.0, 0.0, 1.0]).unwrap();
    reference.set(p, &[1.0, 0.0]).unwrap();
    let ops: [Op; 4] = [
        OneHot { labels, out: x }.into(),
        Gemm::nn(x, p, y).into(),
        Correlate { x, y, statistics, origin: None, hebbian: None, splits: 1 }.into(),
        Oja { statistics, p, out, rows: 3 }.into(),
    ];
    for op in ops {
        reference.execute(&op, &step(1, 3)).unwrap();
    }
    assert_eq!(reference.get(x).unwrap(), [0.0, 1.0, 1.0, 0.0, 0.0, 1.0]);
    // Of one row that differs from the first: x' = (1, -1), y' = 1.
    assert_eq!(reference.get(statistics).unwrap(), [1.0, -1.0, 1.0, 1.0, -1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0]);
    // Both columns have the biased variance 2/9, the unbiased 1/3; Y^T Y = D_0^T Y, so only column 1 turns p.
    let s = (1.0f64 / 3.0).sqrt() + 1e-8;
    assert_close(&reference.get(out).unwrap(), &[0.0, 2.0 / 9.0 / (s * s)], 1e-14);
}

#[test]
fn the_host_cannot_write_what_does_not_fit() {
    let mut r = Recording::new(2);
    let floats = r.state("floats", 1, 2, Dtype::F32);
    let (words, bytes) = (r.state("words", 1, 1, Dtype::U32), r.shared("bytes", 1, 2, Dtype::U8));
    let mut reference = reference(r);
    let text = |error: ReferenceError| error.to_string();
    assert_eq!(text(reference.set(floats, &[1.0]).unwrap_err()), "tensor floats (2*1x2) takes 4 values, not 1");
    for value in [0.5, -1.0, 4_294_967_296.0, f64::NAN] {
        let error = reference.set(words, &[7.0, value]).unwrap_err();
        assert!(matches!(error, ReferenceError::NotRepresentable { .. }), "{value}");
    }
    assert_eq!(reference.get(words).unwrap(), [0.0, 0.0], "nothing was written by halves");
    reference.set(words, &[7.0, f64::from(u32::MAX)]).unwrap();
    assert_eq!(reference.get(words).unwrap(), [7.0, f64::from(u32::MAX)]);
    assert!(reference.set(bytes, &[1.0, 256.0]).is_err());
    assert!(reference.write_bytes(bytes, &[1]).is_err());
    reference.write_bytes(bytes, &[1, 255]).unwrap();
    assert_eq!(reference.get(bytes).unwrap(), [1.0, 255.0]);
    let error = reference.write_bytes(floats, &[1, 2, 3, 4]).unwrap_err();
    assert_eq!(error.to_string(), "tensor floats holds F32, where U8 is wanted");
}

#[test]
fn tensors_of_another_plan_are_refused() {
    let mut other = Recording::new(1);
    other.state("first", 1, 3, Dtype::F32);
    let second = other.state("second", 1, 3, Dtype::F32);
    let mut r = Recording::new(1);
    let first = r.state("first", 1, 2, Dtype::F32);
    let mut reference = reference(r);
    let unknown = ReferenceError::UnknownTensor { index: 1, shape: second.shape };
    assert_eq!(reference.get(second).unwrap_err(), unknown);
    assert_eq!(reference.set(second, &[0.0; 3]).unwrap_err(), unknown);
    // Of a tensor that stands in the same place, what reaches past the end is told.
    let impostor = other.find("first").unwrap();
    assert_ne!(impostor, first);
    assert!(reference.get(impostor).is_err());
    assert_eq!(
        reference.execute(&Activate { x: second, out: second, f: Activation::Relu }.into(), &step(1, 1)),
        Err(unknown)
    );
}

#[test]
fn operands_that_do_not_meet_are_refused() {
    let mut r = Recording::new(3);
    let (x, narrow) = (r.state("x", 2, 2, Dtype::F32), r.state("narrow", 1, 1, Dtype::F32));
    let words = r.state("words", 2, 2, Dtype::U32);
    let mut reference = reference(r);
    let error = reference.execute(&ColumnSum { x, out: narrow, accumulate: false }.into(), &step(3, 2)).unwrap_err();
    assert!(error.to_string().starts_with("column-sum: out must be one row of x's columns"), "{error}");
    let error = reference.execute(&Activate { x: words, out: x, f: Activation::Relu }.into(), &step(3, 2)).unwrap_err();
    assert_eq!(error, ReferenceError::ElementType { name: "words".into(), holds: Dtype::U32, wanted: Dtype::F32 });
    let error = reference.execute(&Activate { x, out: words, f: Activation::Relu }.into(), &step(3, 2)).unwrap_err();
    assert_eq!(error, ReferenceError::ElementType { name: "words".into(), holds: Dtype::U32, wanted: Dtype::F32 });
}
