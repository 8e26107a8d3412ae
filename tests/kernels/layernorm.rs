//! Layer norm.

use ldfa_gpu::ops::*;
use ldfa_gpu::plan::{Blocking, Options, Plan, Profile};
use ldfa_gpu::reference::Reference;

use crate::compare::{Report, relative_error, roundings, sums};
use crate::scene::{SIZES, Scene, asymmetric, step};

/// Of every row a mean of any sign and a positive factor.
fn moments(scene: &mut Scene, rows: u32) -> View {
    scene.filled(rows, 2, |x, r, i, j| {
        let value = asymmetric(x, r, i, j);
        if j == 0 { 0.4 * value } else { 0.2 + value.abs() }
    })
}

fn shapes() -> Vec<(u32, u32)> {
    let pair = |(at, rows): (usize, u32)| {
        [SIZES[(3 * at + 2) % 11], SIZES[(7 * at + 5) % 11], 4 * (at as u32 + 1)].map(|cols| (rows, cols))
    };
    SIZES.into_iter().enumerate().flat_map(pair).chain([(70, 384), (3, 1028)]).collect()
}

#[test]
fn layer_norm_forward_and_backward() {
    let mut report = Report::default();
    for replicas in [1, 3] {
        let mut scene = Scene::new(replicas);
        for (rows, cols) in shapes() {
            // A narrow row may have next to no variance, by which rounding is then divided.
            let epsilon = if cols < 8 { 0.1 } else { 1e-5 };
            let (x, gamma, beta) = (scene.own(rows, cols), scene.any(1, cols), scene.any(1, cols));
            let (out, of_rows) = (scene.output(rows, cols), scene.output(rows, 2));
            let allowed = sums(cols) + roundings(12.0);
            scene.push(LayerNorm { x, gamma, beta, out, moments: of_rows, epsilon }, |_| allowed);

            let (error, of_rows) = (scene.own(rows, cols), moments(&mut scene, rows));
            let out = scene.output(rows, cols);
            let op = LayerNormBackward { error, x, moments: of_rows, gamma, addend: None, out };
            scene.push(op, |_| 2.0 * sums(cols) + roundings(16.0));
            let (addend, out) = (Some(scene.own(rows, cols)), scene.output(rows, cols));
            scene.push(LayerNormBackward { addend, out, ..op }, |_| 2.0 * sums(cols) + roundings(17.0));

            let parts = [1, 2, 3, 7][scene.draw(4) as usize].min(rows);
            let parts = rows.div_ceil(rows.div_ceil(parts));
            let (grad_gamma, grad_beta) = (scene.output(parts, cols), scene.output(parts, cols));
            let op = LayerNormGradients { error, x, moments: of_rows, grad_gamma, grad_beta, accumulate: false };
            // Six roundings a term. Terms of both signs may cancel, and in a single column nothing makes up for that.
            let count = if cols < 4 { 128.0 } else { 16.0 };
            scene.push(op, |_| 2.0 * sums(op.depth()) + roundings(count));
            let mut held = || scene.updated(1, cols, asymmetric);
            let (grad_gamma, grad_beta) = (held(), held());
            let again = LayerNormGradients { grad_gamma, grad_beta, accumulate: true, ..op };
            scene.push(again, |_| 2.0 * sums(rows) + roundings(count + 1.0));
        }
        scene.verify(&mut report, &[step(replicas, 0, 0, 1)]);
    }
    report.finish("layer norm");
}

/// The squares of such means fill a single float: a variance from the mean of squares would be noise.
#[test]
fn a_large_mean_costs_no_digits() {
    let (rows, cols) = (9, 100);
    let mut scene = Scene::new(1);
    let x = scene.filled(rows, cols, |x, _, i, _| f64::from(1u32 << (i + 4)) + (64.0 * x).round() / 64.0);
    let (gamma, beta) = (scene.filled(1, cols, |_, _, _, _| 1.0), scene.filled(1, cols, |_, _, _, _| 0.0));
    let (out, moments) = (scene.output(rows, cols), scene.output(rows, 2));
    // The mean itself is rounded, to 2^-12 of the noise at most.
    scene.push_by_row(LayerNorm { x, gamma, beta, out, moments, epsilon: 1e-5 }, |_| 1.0 / f64::from(1 << 10));
    let mut report = Report::default();
    scene.verify(&mut report, &[step(1, 0, 0, 1)]);
    report.finish("large means");
}

/// A row of one value is its mean, to the bit: nothing is left but the shift.
#[test]
fn a_constant_row_becomes_the_shift() {
    let (rows, cols) = (5, 64);
    let mut scene = Scene::new(1);
    let x = scene.filled(rows, cols, |_, _, i, _| f64::from(i) - 1.5);
    let (gamma, beta) = (scene.own(1, cols), scene.own(1, cols));
    let (out, moments) = (scene.output(rows, cols), scene.output(rows, 2));
    let allowed = |operand: &str| if operand == "out" { 0.0 } else { roundings(8.0) };
    scene.push(LayerNorm { x, gamma, beta, out, moments, epsilon: 1e-5 }, allowed);
    let mut report = Report::default();
    scene.verify(&mut report, &[step(1, 0, 0, 1)]);
    report.finish("constant rows");
}

/// A plan cuts many rows into parts, as many for one network as for five, and adds what these have learnt.
#[test]
fn many_rows_are_cut_into_parts_that_add_up() {
    let gpu = Profile { software: false, ..Profile::reference() };
    let parts_of = |replicas: u32| {
        let (rows, cols) = (3001, 20);
        let mut recording = Recording::new(replicas);
        let mut state = |name, rows, cols| recording.state(name, rows, cols, Dtype::F32);
        let (x, error, moments) = (state("x", rows, cols), state("error", rows, cols), state("moments", rows, 2));
        let (grad_gamma, grad_beta) = (state("gamma", 1, cols), state("beta", 1, cols));
        recording.begin(Phase::Train);
        recording.push(LayerNormGradients { error, x, moments, grad_gamma, grad_beta, accumulate: false }).unwrap();
        let results = [true, false].map(|fuse| {
            let plan = Plan::new(recording.clone(), &gpu, Options { fuse, ..Options::default() }).unwrap();
            let parts = plan.nodes(Phase::Train).iter().find_map(|node| match &node.entry.op {
                Op::LayerNormGradients(op) => Some(op.splits()),
                _ => None,
            });
            let names: Vec<&str> = plan.nodes(Phase::Train).iter().map(|node| node.entry.op.name()).collect();
            let expected = ["layer-norm-gradients", "sum-splits", "sum-splits"];
            assert_eq!(names, if fuse { &expected[..] } else { &expected[..1] });
            let mut reference = Blocking::new(Reference::new(plan));
            for (at, tensor) in [x, error, moments].into_iter().enumerate() {
                let value = |i: usize| asymmetric(0.01 * at as f64, at as u32, i as u32 / 7, i as u32);
                reference.write(tensor, &(0..tensor.shape.elements()).map(value).collect::<Vec<_>>()).unwrap();
            }
            reference.run(Phase::Train, &[step(replicas, 0, 0, 1)]).unwrap();
            (parts, [grad_gamma, grad_beta].map(|tensor| reference.read(tensor).unwrap()))
        });
        let [(parts, cut), (_, whole)] = results;
        for (cut, whole) in cut.iter().zip(&whole) {
            assert!(relative_error(cut, whole) < 1e-12);
        }
        parts
    };
    let parts = parts_of(1);
    assert!(parts > Some(4), "{parts:?}");
    assert_eq!(parts, parts_of(5));
}
