//! Statistics of errors, the Hebbian gradient beside them, and the Oja rule.

use ldfa_gpu::ops::*;

use crate::compare::{Report, roundings, sums};
use crate::scene::{Scene, step};

/// Rows, width of the error, rank, width of the input (0: no Hebbian gradient), splits.
const SHAPES: [[u32; 5]; 17] = [
    [1, 1, 1, 0, 1],
    [1, 7, 3, 5, 1],
    [2, 65, 1, 0, 1],
    [5, 10, 10, 64, 1],
    [17, 63, 8, 0, 1],
    [64, 64, 16, 64, 1],
    [33, 68, 16, 0, 1],
    [100, 129, 15, 0, 1],
    [127, 10, 17, 33, 1],
    [257, 36, 9, 0, 1],
    [64, 20, 65, 127, 1],
    [100, 65, 12, 70, 3],
    [103, 68, 16, 0, 4],
    [70, 36, 20, 0, 1],
    [103, 65, 65, 0, 3],
    [41, 132, 80, 0, 1],
    [33, 4, 4, 4, 8],
];

#[test]
fn correlations_of_every_shape() {
    let mut report = Report::default();
    for replicas in [1, 3] {
        let mut scene = Scene::new(replicas);
        for [rows, width, rank, inputs, splits] in SHAPES {
            let splits = rows.div_ceil(rows.div_ceil(splits));
            let (x, y) = (scene.any(rows, width), scene.own(rows, rank));
            let hebbian = (inputs > 0).then(|| {
                let (input, accumulate) = (scene.any(rows, inputs), splits == 1);
                let held = |x, _, i, j| x + f64::from((i + j) % 3);
                let gradient =
                    if accumulate { scene.updated(rank, inputs, held) } else { scene.output(splits * rank, inputs) };
                Hebbian { input, gradient, accumulate }
            });
            let statistics = scene.output(splits * (rank + 3), width + rank);
            // The shift rounds once; the terms of one row are zero, which leaves nothing to round.
            scene.push(Correlate { x, y, statistics, origin: None, hebbian, splits }, |_| sums(rows) + roundings(3.0));
        }
        scene.verify(&mut report, &[step(replicas, 0, 0, 1)]);
    }
    report.finish("correlations");
}

/// The gradient from statistics that the device made itself, so that they are those of samples.
#[test]
fn oja_from_the_statistics_of_samples() {
    let mut report = Report::default();
    for replicas in [1, 3] {
        let mut scene = Scene::new(replicas);
        for [rows, width, rank, ..] in SHAPES {
            // Means and deviations of one size, p small enough that neither term drowns the other.
            let x = scene.filled(rows, width, |x, r, i, j| x + 0.1 * f64::from((i + 2 * j + r) % 5));
            let p = scene.filled(width, rank, |x, _, _, _| x / f64::from(width).sqrt());
            let (y, out) = (scene.output(rows, rank), scene.output(width, rank));
            let statistics = scene.output(rank + 3, width + rank);
            let first = sums(width) + sums(rows) + roundings(6.0);
            scene.push(Gemm::nn(x, p, y), |_| first);
            scene.push(Correlate { x, y, statistics, origin: None, hebbian: None, splits: 1 }, |_| 2.0 * first);
            // The terms partly cancel, by no more than the eightfold on these data.
            scene.push(Oja { statistics, p, out, rows }, |_| 8.0 * (2.0 * first + sums(rank) + roundings(10.0)));
        }
        scene.verify(&mut report, &[step(replicas, 0, 0, 1)]);
    }
    report.finish("oja");
}

/// Statistics of three accumulation steps, shifted alike, add up to those of all their rows.
#[test]
fn statistics_shifted_as_those_before() {
    let mut report = Report::default();
    for replicas in [1, 3] {
        let mut scene = Scene::new(replicas);
        for [rows, width, rank, inputs, splits] in SHAPES {
            let splits = rows.div_ceil(rows.div_ceil(splits));
            let (mut so_far, mut allowed) = (None, 0.0);
            for _ in 0..3 {
                // Rows that differ from the origin by more than from each other.
                let shift = f64::from(scene.draw(5));
                let mut samples = |cols| scene.filled(rows, cols, move |x, _, _, j| x + shift * f64::from(j % 3));
                let (x, y) = (samples(width), samples(rank));
                let hebbian = (inputs > 0).then(|| {
                    let input = scene.any(rows, inputs);
                    Hebbian { input, gradient: scene.output(splits * rank, inputs), accumulate: false }
                });
                let statistics = scene.output(splits * (rank + 3), width + rank);
                allowed += sums(rows) + roundings(3.0);
                scene.push(Correlate { x, y, statistics, origin: so_far, hebbian, splits }, |_| allowed);
                let whole = scene.output(rank + 3, width + rank);
                let epilogue = Epilogue { addend: so_far.map(|before| (before, 1.0)), ..Epilogue::default() };
                scene.push(SumSplits { a: statistics, out: whole, alpha: 1.0, epilogue, accumulate: false }, |_| {
                    allowed
                });
                so_far = Some(whole);
            }
        }
        scene.verify(&mut report, &[step(replicas, 0, 0, 1)]);
    }
    report.finish("accumulated statistics");
}

/// A single row, and rows that are all equal, teach nothing: the gradient is zero to the bit.
#[test]
fn oja_without_deviation() {
    let mut report = Report::default();
    let mut scene = Scene::new(2);
    for rows in [1, 9] {
        let x = scene.filled(rows, 70, |_, r, _, j| 1e3 + f64::from(r) - 0.37 * f64::from(j));
        let (y, p) = (scene.filled(rows, 6, |_, _, _, j| 0.1 + f64::from(j)), scene.own(70, 6));
        let (statistics, out) = (scene.output(9, 76), scene.output(70, 6));
        scene.push(Correlate { x, y, statistics, origin: None, hebbian: None, splits: 1 }, |_| 0.0);
        scene.push(Oja { statistics, p, out, rows }, |_| 0.0);
    }
    scene.verify(&mut report, &[step(2, 0, 0, 1)]);
    report.finish("no deviation");
}

/// Samples a thousand deviations from zero, which the shift by the first row removes.
#[test]
fn a_large_mean_costs_no_digits() {
    let mut report = Report::default();
    let mut scene = Scene::new(1);
    let (x, y) = (scene.filled(65, 20, |x, _, _, _| 1e3 + x), scene.filled(65, 5, |x, _, _, _| x - 1e3));
    let statistics = scene.output(8, 25);
    scene.push(Correlate { x, y, statistics, origin: None, hebbian: None, splits: 1 }, |_| sums(65) + roundings(3.0));
    scene.verify(&mut report, &[step(1, 0, 0, 1)]);
    report.finish("large mean");
}
