//! Attention: lengths and widths that miss, meet and exceed every tile, masks, and scores that exponentials cannot hold.

use ldfa_gpu::ops::*;

use crate::compare::{Report, roundings, sums};
use crate::scene::{Scene, asymmetric, step};

/// Samples, length, heads, columns of a head; narrow ones, for every kernel costs a driver on a CPU a second or two to compile.
const SHAPES: [[u32; 4]; 10] = [
    [1, 1, 1, 1],
    [3, 1, 2, 4],
    [2, 2, 3, 3],
    [2, 7, 1, 31],
    [1, 24, 1, 8],
    [1, 32, 3, 16],
    [2, 25, 2, 12],
    [2, 33, 1, 9],
    [1, 66, 4, 16],
    [1, 97, 1, 5],
];

/// Longer than any block, or wider.
const LARGE: [[u32; 4]; 5] = [[2, 65, 2, 48], [1, 197, 1, 64], [1, 300, 1, 12], [1, 34, 1, 127], [1, 41, 1, 128]];

/// Forward and back with data of its own. Scores are as large as `scale`, squared, makes them; in single precision an
/// exponential is as far off as its argument is.
fn attend(scene: &mut Scene, [samples, length, heads, width]: [u32; 4], scale: f64, of: Heads) {
    let (rows, cols) = (samples * length, heads * width);
    let of = Heads { count: heads, length, ..of };
    let qkv = scene.filled(rows, 3 * cols, |x, r, i, j| {
        let value = asymmetric(x, r, i, j);
        if j < 2 * cols { scale * value } else { value }
    });
    let largest = scale * scale * f64::from(width).sqrt();
    let allowed = sums(width) + 2.0 * sums(length) + roundings(16.0 + 4.0 * largest);
    let (out, stats) = (scene.output(rows, cols), scene.output(rows, heads));
    scene.push(Attention { qkv, out, stats, heads: of }, |_| allowed);

    let (error, dots, gradient) = (scene.own(rows, cols), scene.output(rows, heads), scene.output(rows, 3 * cols));
    // The gradients of queries and keys are differences of larger numbers, and those of the values stand beside them.
    scene.push(AttentionQueries { error, qkv, out, stats, dots, gradient, heads: of }, |_| 4.0 * allowed);
    scene.push(AttentionKeys { error, qkv, stats, dots, gradient, heads: of }, |_| 4.0 * allowed);
}

const PLAIN: Heads = Heads { count: 1, length: 1, causal: false, drop: 0.0, stream: 0 };

#[test]
fn attention_of_every_shape() {
    let mut report = Report::default();
    for replicas in [1, 3] {
        let mut scene = Scene::new(replicas);
        for shape in SHAPES {
            attend(&mut scene, shape, 1.0, PLAIN);
            attend(&mut scene, shape, 1.0, Heads { causal: true, ..PLAIN });
        }
        scene.verify(&mut report, &[step(replicas, 0, 0, 1)]);
    }
    report.finish("attention");
}

#[test]
fn long_and_wide_attention() {
    let mut report = Report::default();
    let mut scene = Scene::new(1);
    for shape in LARGE {
        attend(&mut scene, shape, 1.0, PLAIN);
    }
    scene.verify(&mut report, &[step(1, 0, 0, 1)]);
    report.finish("long and wide attention");
}

#[test]
fn dropped_attention_draws_the_mask_of_the_counter_based_generator() {
    let mut report = Report::default();
    let replicas = 3;
    let mut scene = Scene::new(replicas);
    for (at, shape) in [[2, 65, 2, 13], [3, 9, 3, 5], [1, 33, 1, 16]].into_iter().enumerate() {
        for drop in [0.1, 0.5, 0.9] {
            attend(&mut scene, shape, 1.0, Heads { drop, stream: 10 + at as u32, ..PLAIN });
            attend(&mut scene, shape, 1.0, Heads { drop, causal: true, ..PLAIN });
        }
    }
    // Another step, another mask.
    scene.verify(&mut report, &[step(replicas, 41, 0, 1), step(replicas, 42, 0, 1)]);
    report.finish("dropped attention");
}

/// Scores of +-1e4 and more: a softmax that subtracts no running maximum has only infinities and zeros here.
#[test]
fn large_scores_stay_finite() {
    let mut report = Report::default();
    let mut scene = Scene::new(2);
    for shape in [[2, 65, 2, 16], [1, 40, 1, 7]] {
        for causal in [false, true] {
            attend(&mut scene, shape, 40.0, Heads { causal, ..PLAIN });
        }
    }
    scene.verify(&mut report, &[step(2, 0, 0, 1)]);
    report.finish("large scores");
}

/// Each key scores higher, or lower, than all before: the running maximum moves at every block, or never again.
#[test]
fn scores_that_only_rise_or_fall() {
    let mut report = Report::default();
    let mut scene = Scene::new(1);
    for slope in [100.0, -100.0] {
        let (length, width) = (70, 4);
        // Column 0 is 2 in queries and rises in keys; values are multiples of their position.
        let qkv = scene.filled(length, 3 * width, |_, _, i, j| match j {
            0 => 2.0,
            4 => slope * f64::from(i),
            8.. => f64::from((i + 1) * (j - 7)),
            _ => 0.0,
        });
        let (out, stats) = (scene.output(length, width), scene.output(length, 1));
        let heads = Heads { length, ..PLAIN };
        scene.push(Attention { qkv, out, stats, heads }, |_| roundings(8.0));
        // The largest score is 100 above the next one.
        let mut gpu = scene.run(None, &[step(1, 0, 0, 1)]);
        let best = if slope > 0.0 { f64::from(length) } else { 1.0 };
        let found = gpu.read(out).unwrap();
        for (at, found) in found.iter().enumerate() {
            let expected = best * f64::from(at as u32 % width + 1);
            assert!((found - expected).abs() <= 1e-5 * expected, "{found} is not {expected} at {at}");
        }
    }
    scene.verify(&mut report, &[step(1, 0, 0, 1)]);
    report.finish("rising and falling scores");
}

/// Equal keys share a query evenly, and no score can be improved: what goes back to queries and keys is nothing.
#[test]
fn equal_rows_share_evenly() {
    let mut report = Report::default();
    let mut scene = Scene::new(2);
    for [samples, length, heads, width] in [[2, 65, 2, 16], [2, 9, 1, 3]] {
        let (rows, cols) = (samples * length, heads * width);
        let of = Heads { count: heads, length, ..PLAIN };
        let qkv = scene.filled(rows, 3 * cols, |_, r, _, j| asymmetric(0.1, r, 3, j));
        let (out, stats) = (scene.output(rows, cols), scene.output(rows, heads));
        let allowed = 2.0 * sums(length) + roundings(16.0);
        scene.push(Attention { qkv, out, stats, heads: of }, |_| allowed);
        let (error, dots, gradient) = (scene.own(rows, cols), scene.output(rows, heads), scene.output(rows, 3 * cols));
        scene.push(AttentionQueries { error, qkv, out, stats, dots, gradient, heads: of }, |_| 4.0 * allowed);
        scene.push(AttentionKeys { error, qkv, stats, dots, gradient, heads: of }, |_| 4.0 * allowed);
    }
    scene.verify(&mut report, &[step(2, 0, 0, 1)]);
    report.finish("equal rows");
}
