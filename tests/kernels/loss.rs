//! Losses, targets and the sums that make a metric.

use ldfa_gpu::ops::*;

use crate::compare::{Report, identical, roundings, sums};
use crate::scene::{SIZES, Scene, asymmetric, step};

/// Samples, positions of a sample, columns, active samples.
const BATCHES: [[u32; 4]; 14] = [
    [1, 1, 1, 1],
    [1, 1, 10, 1],
    [2, 1, 2, 1],
    [7, 1, 3, 7],
    [17, 1, 257, 9],
    [63, 1, 10, 62],
    [64, 1, 10, 64],
    [65, 1, 129, 33],
    [127, 1, 7, 127],
    [129, 1, 1, 128],
    [257, 1, 33, 200],
    [1, 65, 5, 1],
    [9, 7, 28, 4],
    [33, 20, 3, 32],
];

/// Outputs with ties for the largest, poison in absent rows, and labels that hit and miss.
fn batch(scene: &mut Scene, [samples, positions, cols, active]: [u32; 4]) -> [View; 2] {
    let active = active * positions;
    let outputs = scene.filled(samples * positions, cols, |x, r, i, j| match i {
        _ if i >= active => f64::NAN,
        _ if i % 4 == 1 => f64::from((i + j + r) % 3),
        _ if i % 7 == 3 => 30.0 * x,
        _ => 2.0 * asymmetric(x, r, i, j),
    });
    let labels =
        scene.words(
            samples,
            positions,
            |bits, r, i| {
                if i >= active { u32::MAX } else { (bits >> 7).wrapping_add(i + r) % cols }
            },
        );
    [outputs, labels]
}

#[test]
fn losses_with_their_derivative() {
    let mut report = Report::default();
    for replicas in [1, 3] {
        for [samples, positions, cols, active] in BATCHES {
            let mut scene = Scene::new(replicas);
            let [outputs, labels] = batch(&mut scene, [samples, positions, cols, active]);
            let rows = samples * positions;
            let written = |scene: &mut Scene| {
                [scene.output(rows, cols), scene.output(samples, positions), scene.output(samples, positions)]
            };
            // Exponentials of numbers up to 60 are good to a few roundings of their argument's size.
            let allowed = |operand: &str| if operand == "correct" { 0.0 } else { sums(cols) + roundings(16.0) };
            for smoothing in [0.0, 0.1, 0.75] {
                let [delta, losses, correct] = written(&mut scene);
                scene.push(SoftmaxCrossEntropy { logits: outputs, labels, smoothing, delta, losses, correct }, allowed);
            }
            let exact_answers = |operand: &str| if operand == "correct" { 0.0 } else { sums(cols) + roundings(4.0) };
            let [delta, losses, correct] = written(&mut scene);
            scene.push(MeanSquaredError { outputs, labels, delta, losses, correct }, exact_answers);
            // Halves of whole numbers, as some outputs are: those are right to the bit, and others far off.
            let labels = scene.words(samples, positions * cols, |bits, _, _| bits % 5);
            let [delta, losses, correct] = written(&mut scene);
            let (scale, tolerance) = (0.5, 0.75);
            scene.push(SquaredDistance { outputs, labels, scale, tolerance, delta, losses, correct }, exact_answers);
            let (labels, out) = (scene.words(samples, positions, |bits, _, _| bits % cols), scene.output(rows, cols));
            scene.push(OneHot { labels, out }, |_| 0.0);
            scene.verify(&mut report, &[step(replicas, 0, 0, active)]);
        }
    }
    report.finish("losses");
}

#[test]
fn cross_entropy_of_far_apart_logits_is_finite() {
    let mut scene = Scene::new(1);
    // The smoothed loss has the distance to every logit in it, which must be a number itself.
    for (smoothing, largest) in [(0.0, 3e38), (0.1, 1e38)] {
        let logits =
            scene.filled(2, 3, |_, _, i, j| [[-1e4, 1e4, 0.0], [largest, -largest, 0.0]][i as usize][j as usize]);
        let labels = scene.words(2, 1, |_, _, i| 1 - i);
        let (delta, losses, correct) = (scene.output(2, 3), scene.output(2, 1), scene.output(2, 1));
        let op = SoftmaxCrossEntropy { logits, labels, smoothing, delta, losses, correct };
        scene.push(op, |_| roundings(if smoothing > 0.0 { 5.0 } else { 2.0 }));
    }
    let mut report = Report::default();
    scene.verify(&mut report, &[step(1, 0, 0, 2)]);
    report.finish("far apart logits");
}

/// A NaN or an infinity among the outputs must reach the sum that sets the fault.
#[test]
fn outputs_that_are_not_finite_make_a_loss_that_is_not() {
    for bad in [f64::NAN, f64::INFINITY] {
        let mut scene = Scene::new(1);
        let outputs = scene.filled(4, 5, |x, _, i, j| if (i, j) == (2, 3) { bad } else { x });
        let labels = scene.words(4, 1, |bits, _, _| bits % 5);
        let mut all = Vec::new();
        for smoothing in [Some(0.0), Some(0.1), None] {
            let (delta, losses, correct) = (scene.output(4, 5), scene.output(4, 1), scene.output(4, 1));
            if let Some(smoothing) = smoothing {
                scene.push(SoftmaxCrossEntropy { logits: outputs, labels, smoothing, delta, losses, correct }, |_| 0.0);
            } else {
                scene.push(MeanSquaredError { outputs, labels, delta, losses, correct }, |_| 0.0);
            }
            all.push(losses);
        }
        let mut gpu = scene.run(None, &[step(1, 0, 0, 4)]);
        for losses in all {
            let losses = gpu.read(losses).unwrap();
            assert!(!losses[2].is_finite(), "{bad} became {}", losses[2]);
            assert!([0, 1, 3].iter().all(|&row| losses[row].is_finite()), "rows must not mix: {losses:?}");
        }
    }
}

#[test]
fn metrics_add_up_over_steps() {
    let mut report = Report::default();
    for replicas in [1, 3] {
        let mut scene = Scene::new(replicas);
        for (at, samples) in SIZES.into_iter().chain([255, 256, 512, 1000]).enumerate() {
            let positions = [1, 1, 3, 28][at % 4];
            let rows = samples * positions;
            let losses =
                scene.filled(samples, positions, |x, r, i, _| 1.5 + x + 0.1 * f64::from(r) + 0.01 * f64::from(i % 9));
            let correct = scene.filled(samples, positions, |x, _, _, _| if x > 0.2 { 1.0 } else { 0.0 });
            let metrics = scene.updated(1, 3, |x, r, _, j| if j == 0 { 10.0 + x } else { f64::from(3 * r + j) });
            let fault = scene.words(1, 1, |_, _, _| 0);
            scene.push(Tally { losses, correct, metrics, fault }, |operand| match operand {
                "fault" => 0.0,
                _ => sums(rows) + roundings(3.0),
            });
        }
        let steps: Vec<StepState> = (0..3).map(|n| step(replicas, n, 0, 2 * n + 1)).collect();
        scene.verify(&mut report, &steps);
    }
    report.finish("metrics");
}

/// Replica 1 fails in its sum, replica 2 has failed before.
#[test]
fn a_loss_that_is_not_finite_sets_the_fault_of_its_replica_for_good() {
    for rows in [1, 5, 300] {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut scene = Scene::new(4);
            let losses = scene.filled(rows, 1, |_, r, i, _| if r == 1 && i == rows - 1 { bad } else { 2.0 });
            let correct = scene.filled(rows, 1, |_, _, _, _| 1.0);
            let metrics = scene.updated(1, 3, |_, r, _, j| f64::from(10 * r + j));
            let fault = scene.words(1, 1, |_, r, _| if r == 2 { 3 } else { 0 });
            scene.push(Tally { losses, correct, metrics, fault }, |_| 0.0);
            let mut gpu = scene.run(None, &[step(4, 41, 0, rows), step(4, 42, 0, rows)]);
            assert_eq!(gpu.read(fault).unwrap(), [0.0, 42.0, 3.0, 0.0], "{bad} in {rows} rows");
            let counted = |r: f64| vec![10.0 * r + 4.0 * f64::from(rows), 10.0 * r + 1.0 + 2.0 * f64::from(rows)];
            let metrics = gpu.read(metrics).unwrap();
            assert_eq!(metrics[..2], counted(0.0));
            assert_eq!(metrics[3..9], [10.0, 11.0, 12.0, 20.0, 21.0, 22.0]);
            assert_eq!(metrics[9..11], counted(3.0));
        }
    }
}

/// Every loss is finite, their sum is not.
#[test]
fn a_sum_that_overflows_sets_the_fault() {
    let mut scene = Scene::new(1);
    let losses = scene.filled(300, 1, |_, _, _, _| 3e38);
    let correct = scene.filled(300, 1, |_, _, _, _| 1.0);
    let metrics = scene.updated(1, 3, |_, _, _, j| f64::from(j));
    let fault = scene.words(1, 1, |_, _, _| 0);
    scene.push(Tally { losses, correct, metrics, fault }, |_| 0.0);
    let mut gpu = scene.run(None, &[step(1, 0, 0, 300)]);
    assert_eq!(gpu.read(fault).unwrap(), [1.0]);
    assert!(identical(&gpu.read(metrics).unwrap(), &[0.0, 1.0, 2.0]));
}
