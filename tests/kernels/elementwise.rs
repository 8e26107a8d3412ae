//! Activations, gates, dropout, sums, significance; grids of more workgroups than one dimension holds.

use ldfa_gpu::ops::random::{pcg4d, unit};
use ldfa_gpu::ops::*;

use crate::compare::{Report, identical, roundings};
use crate::scene::{SIZES, Scene, asymmetric, step};

const FUNCTIONS: [Activation; 3] = [Activation::Relu, Activation::Gelu, Activation::Tanh];

/// Every extent as rows and as columns, with different partners.
fn shapes() -> impl Iterator<Item = (u32, u32)> {
    SIZES.into_iter().enumerate().flat_map(|(at, size)| [(size, SIZES[(3 * at + 1) % 11]), (size, 1), (1, size)])
}

#[test]
fn activations_and_gates() {
    let mut report = Report::default();
    for replicas in [1, 3] {
        let mut scene = Scene::new(replicas);
        for (rows, cols) in shapes() {
            for f in FUNCTIONS {
                // Relu is exact. Gelu's erf is good to 1.5e-7, two and a half roundings, times half its argument; an
                // adapter's exp may take some more.
                let allowed = if f == Activation::Relu { 0.0 } else { roundings(8.0) };
                let x = scene.filled(rows, cols, |x, r, i, j| 0.4 + asymmetric(x, r, i, j));
                let out = scene.output(rows, cols);
                scene.push(Activate { x, out, f }, |_| allowed);
                // Gelu's slope is zero at -0.75, where a single element has no relative error to speak of.
                let shift = if f == Activation::Relu { -0.2 } else { 0.4 };
                // Tanh saves its output, within one.
                let saved = scene.filled(rows, cols, |x, r, i, j| match f {
                    Activation::Tanh => 0.8 * asymmetric(x, r, i, j).tanh(),
                    _ => asymmetric(x, r, i, j) + shift,
                });
                let (x, out) = (scene.own(rows, cols), scene.output(rows, cols));
                scene.push(Gate { x, saved, out, f }, |_| allowed);
            }
        }
        scene.verify(&mut report, &[step(replicas, 0, 0, 1)]);
    }
    report.finish("activations and gates");
}

/// One by one, from where the series ends to where nothing is left but one, and as the relative error that small ones keep.
#[test]
fn tanh_is_within_a_few_roundings_everywhere() {
    let mut scene = Scene::new(1);
    let count = 4001;
    let x = scene.filled(1, count, |_, _, _, j| ((f64::from(j) - 2000.0) / 440.0).powi(3));
    let out = scene.output(1, count);
    scene.push(Activate { x, out, f: Activation::Tanh }, |_| roundings(6.0));
    let mut gpu = scene.run(None, &[step(1, 0, 0, 1)]);
    let arguments = gpu.read(x).unwrap();
    for (x, y) in arguments.into_iter().zip(gpu.read(out).unwrap()) {
        // A quotient of 1 - e and 1 + e: at 0.1 the numerator has lost two digits of the exponential.
        let allowed = x.tanh().abs() * roundings(if x.abs() < 0.1 { 4.0 } else { 24.0 });
        assert!((y - x.tanh()).abs() <= allowed, "tanh({x}) = {y}");
    }
    for (x, expected) in [(f64::NAN, None), (1e30, Some(1.0)), (-1e30, Some(-1.0))] {
        let mut scene = Scene::new(1);
        let argument = scene.filled(1, 3, |_, _, _, _| x);
        let out = scene.output(1, 3);
        scene.push(Activate { x: argument, out, f: Activation::Tanh }, |_| 0.0);
        let found = scene.run(None, &[step(1, 0, 0, 1)]).read(out).unwrap()[0];
        assert!(expected.map_or(found.is_nan(), |expected| found == expected), "tanh({x}) = {found}");
    }
}

/// The relative norm of a matrix hides what happens to its small elements, so these are looked at one by one.
#[test]
fn gelu_is_within_its_absolute_error_everywhere() {
    let mut scene = Scene::new(1);
    let count = 4001;
    let x = scene.filled(1, count, |_, _, _, j| (f64::from(j) - 2000.0) / 200.0);
    let ones = scene.filled(1, count, |_, _, _, _| 1.0);
    let (out, slope) = (scene.output(1, count), scene.output(1, count));
    scene.push(Activate { x, out, f: Activation::Gelu }, |_| roundings(6.0));
    scene.push(Gate { x: ones, saved: x, out: slope, f: Activation::Gelu }, |_| roundings(6.0));
    let mut gpu = scene.run(None, &[step(1, 0, 0, 1)]);
    let arguments = gpu.read(x).unwrap();
    let normal = |x: f64| 0.5 * libm::erfc(-x / 2f64.sqrt());
    let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    for ((x, y), slope) in arguments.into_iter().zip(gpu.read(out).unwrap()).zip(gpu.read(slope).unwrap()) {
        // Half of erf's 1.5e-7, and four roundings of numbers up to one (up to x).
        let allowed = 0.75e-7 + roundings(4.0);
        assert!((y - x * normal(x)).abs() <= x.abs() * allowed, "gelu({x}) = {y}");
        assert!((slope - normal(x) - x * density(x)).abs() <= 2.0 * allowed, "gelu'({x}) = {slope}");
    }
}

#[test]
fn relu_keeps_nan_and_infinity() {
    let special = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e-40, -1e-40];
    let mut scene = Scene::new(1);
    let x = scene.filled(1, 6, |_, _, _, j| special[j as usize]);
    let out = scene.output(1, 6);
    scene.push(Activate { x, out, f: Activation::Relu }, |_| 0.0);
    let found = scene.run(None, &[step(1, 0, 0, 1)]).read(out).unwrap();
    assert!(found[0].is_nan(), "a NaN must reach the loss");
    assert_eq!(found[1..4], [f64::INFINITY, 0.0, 0.0]);
    // A denormal may be flushed, but not change its sign.
    assert!((0.0..=1.1e-40).contains(&found[4]) && found[5] == 0.0);
}

#[test]
fn dropout_draws_the_mask_of_the_counter_based_generator() {
    let mut report = Report::default();
    for replicas in [1, 3] {
        let (mut scene, mut masks) = (Scene::new(replicas), Vec::new());
        for (rows, cols) in shapes() {
            for (drop, together) in [(0.0, 1), (0.1, cols), (0.5, 1), (0.5, rows * cols), (0.9, 1)] {
                let stream = scene.draw(40);
                let (x, out) = (scene.own(rows, cols), scene.output(rows, cols));
                scene.push(Dropout { x, out, drop, stream, together }, |_| roundings(2.0));
                let ones = scene.filled(rows, cols, |_, _, _, _| 1.0);
                let mask = scene.output(rows, cols);
                scene.push(Dropout { x: ones, out: mask, drop, stream, together }, |_| roundings(1.0));
                masks.push((mask, drop, stream, together));
            }
        }
        let now = step(replicas, 41, 0, 1);
        scene.verify(&mut report, std::slice::from_ref(&now));
        let mut gpu = scene.run(None, std::slice::from_ref(&now));
        for (mask, drop, stream, together) in masks {
            let found = gpu.read(mask).unwrap();
            for (replica, found) in found.chunks(mask.shape.per_replica()).enumerate() {
                for (element, found) in found.iter().enumerate() {
                    let bits = pcg4d([element as u32 / together, stream, 41, now.replicas[replica].seed])[0];
                    let kept = unit(bits) >= f64::from(drop as f32);
                    assert_eq!(
                        *found != 0.0,
                        kept,
                        "element {element} of replica {replica}, p = {drop}, {together} together"
                    );
                }
            }
        }
    }
    report.finish("dropout");
}

/// A threshold between neighbouring numbers of the generator's grid of 2^-24 shows every bit that is compared.
#[test]
fn dropout_compares_all_bits_of_a_draw() {
    let seed = step(1, 3, 0, 1).replicas[0].seed;
    let mut scene = Scene::new(1);
    let mut expected = Vec::new();
    for element in 0..64u32 {
        let draw = unit(pcg4d([element, 9, 3, seed])[0]);
        for (drop, kept) in [(draw, 1.0), (draw + 1.0 / f64::from(1 << 24), 0.0)] {
            let x = scene.filled(1, 64, |_, _, _, _| 1.0);
            let out = scene.output(1, 64);
            scene.push(Dropout { x, out, drop, stream: 9, together: 1 }, |_| 0.0);
            expected.push((out, element as usize, kept));
        }
    }
    let mut gpu = scene.run(None, &[step(1, 3, 0, 1)]);
    for (out, element, kept) in expected {
        assert_eq!(gpu.read(out).unwrap()[element].signum() * kept, kept, "element {element}");
        assert_eq!(gpu.read(out).unwrap()[element] != 0.0, kept != 0.0, "element {element}");
    }
}

#[test]
fn sums_of_two() {
    let mut report = Report::default();
    for replicas in [1, 3] {
        let mut scene = Scene::new(replicas);
        for (rows, cols) in shapes().chain([(64, 4), (16, 100), (2, 2)]) {
            let (a, b, out) = (scene.own(rows, cols), scene.own(rows, cols), scene.output(rows, cols));
            scene.push(Add { a, b, out }, |_| roundings(1.0));
            let out = scene.output(rows, cols);
            scene.push(Add { a, b: a, out }, |_| 0.0);
        }
        scene.verify(&mut report, &[step(replicas, 0, 0, 1)]);
    }
    report.finish("sums");
}

#[test]
fn differences_within_rounding_vanish_as_a_whole() {
    let mut report = Report::default();
    for replicas in [1, 3] {
        let mut scene = Scene::new(replicas);
        for (rows, cols) in shapes() {
            // Replicas differ in whether they are kept.
            for size in [1.0, 2e-6, 1e-8] {
                let x = scene.filled(rows, cols, |x, r, _, _| size * (2.0 + x) * if r == 1 { 0.05 } else { 1.0 });
                let (scale, out) = (scene.own(rows, cols), scene.output(rows, cols));
                scene.push(Significant { x, scale, out }, |_| 0.0);
            }
        }
        scene.verify(&mut report, &[step(replicas, 0, 0, 1)]);
    }
    report.finish("significance");
}

#[test]
fn zeros_are_never_significant_and_anything_is_beside_zeros() {
    let mut report = Report::default();
    let mut scene = Scene::new(1);
    for (x, scale) in [(0.0, 0.0), (0.0, 1.0), (1e-6, 0.0)] {
        let x = scene.filled(3, 5, |_, _, _, _| x);
        let scale = scene.filled(3, 5, |_, _, _, _| scale);
        let out = scene.output(3, 5);
        scene.push(Significant { x, scale, out }, |_| 0.0);
    }
    scene.verify(&mut report, &[step(1, 0, 0, 1)]);
    report.finish("zeros");
}

/// More than 65535 workgroups, which is what one dimension of a grid holds.
#[test]
fn grids_larger_than_one_dimension() {
    let mut scene = Scene::new(1);
    let (rows, cols) = (65_537, 257);
    assert!(rows * cols > 65_535 * 256);
    let x = scene.filled(rows, cols, asymmetric);
    let (out, again) = (scene.output(rows, cols), scene.output(rows, cols));
    scene.push(Dropout { x, out, drop: 0.25, stream: 2, together: 1 }, |_| roundings(2.0));
    scene.push(Activate { x, out: again, f: Activation::Relu }, |_| 0.0);
    let now = step(1, 7, 0, 1);
    let mut gpu = scene.run(None, std::slice::from_ref(&now));
    let given = gpu.read(x).unwrap();
    let relu: Vec<f64> = given.iter().map(|x| x.max(0.0)).collect();
    assert!(identical(&gpu.read(again).unwrap(), &relu));
    let seed = now.replicas[0].seed;
    for (element, (x, found)) in (0..).zip(given.iter().zip(gpu.read(out).unwrap())) {
        let kept = unit(pcg4d([element, 2, 7, seed])[0]) >= 0.25;
        let expected = if kept { x / 0.75 } else { 0.0 };
        assert!((found - expected).abs() <= roundings(2.0) * expected.abs(), "element {element}");
    }
}

/// The same for kernels that divide their grid otherwise.
#[test]
fn tall_and_wide_grids_of_other_kernels() {
    let mut report = Report::default();
    let mut scene = Scene::new(1);
    let rows = 65_535 * 64 + 65;
    let (a, b, out) = (scene.own(rows, 1), scene.own(1, 1), scene.output(rows, 1));
    scene.push(Gemm::nn(a, b, out), |_| roundings(2.0));
    let rows = 65_535 * 16 + 33;
    let (delta, p, q) = (scene.own(rows, 1), scene.own(1, 1), scene.own(1, 2));
    let (y, out) = (scene.output(rows, 1), scene.output(rows, 2));
    scene.push(Transport { delta, p, q, y, out, epilogue: Epilogue::default() }, |_| roundings(3.0));
    let cols = 65_535 * 16 + 21;
    let (x, sum, moments) = (scene.own(2, cols), scene.output(1, cols), scene.output(2, cols));
    scene.push(ColumnSum { x, out: sum, accumulate: false }, |_| roundings(2.0));
    scene.push(Moments { x, out: moments }, |_| roundings(6.0));
    scene.verify(&mut report, &[step(1, 0, 0, 1)]);
    report.finish("large grids");
}
