//! A replica's result is bitwise what it would be alone, and the same twice.

use ldfa_gpu::gpu::Gpu;
use ldfa_gpu::ops::*;
use ldfa_gpu::plan::{Blocking, Variant};

use crate::compare::{Report, roundings};
use crate::scene::{Scene, asymmetric, open, step_from};

const REPLICAS: u32 = 5;
const ACTIVE: u32 = 30;

/// Operations of every family, replicas `first..first + count` of five.
fn scene(first: u32, count: u32) -> Scene {
    let mut scene = Scene::starting_at(count, first);
    for (rows, inner, cols) in [(33, 129, 17), (65, 7, 130), (1, 257, 3)] {
        let (a, b, out) = (scene.any(rows, inner), scene.any(cols, inner), scene.output(rows, cols));
        let epilogue = Epilogue { bias: Some(scene.any(1, cols)), clamp: Some(0.9), ..Epilogue::default() };
        scene.push(Gemm { epilogue, alpha: 0.3, ..Gemm::nt(a, b, out) }, |_| 0.0);
        let (a, b, out) = (scene.any(inner, rows), scene.any(inner, cols), scene.output(rows, cols));
        scene.push(Gemm::tn(a, b, out), |_| 0.0);
    }
    for (rows, width, rank, inputs) in [(33, 17, 5, 129), (17, 3, 64, 65)] {
        let (delta, p, q) = (scene.own(rows, width), scene.any(width, rank), scene.any(rank, inputs));
        let (y, out) = (scene.output(rows, rank), scene.output(rows, inputs));
        let gate = Some((Activation::Gelu, scene.own(rows, inputs)));
        let epilogue = Epilogue { gate, ..Epilogue::default() };
        scene.push(Transport { delta, p, q, y, out, epilogue }, |_| 0.0);
    }
    for (rows, cols) in [(129, 17), (3, 65), (257, 33)] {
        let (x, sum, moments) = (scene.own(rows, cols), scene.output(1, cols), scene.output(2, cols));
        scene.push(ColumnSum { x, out: sum, accumulate: false }, |_| 0.0);
        scene.push(Moments { x, out: moments }, |_| 0.0);
        let out = scene.output(rows, cols);
        scene.push(Dropout { x, out, drop: 0.4, stream: 3, together: 1 }, |_| 0.0);
        // A few groups: enough for the masks of replicas to differ in one of them.
        let out = scene.output(rows, cols);
        scene.push(Dropout { x, out, drop: 0.5, stream: 4, together: cols }, |_| 0.0);
        let (row, out, gradient) = (scene.any(1, cols), scene.output(rows, cols), scene.output(2, cols));
        scene.push(ScaleColumns { x, row, out }, |_| 0.0);
        scene.push(ScaleGradient { error: out, x, out: gradient, accumulate: false }, |_| 0.0);
        let (y, p, input) = (scene.own(rows, 5), scene.own(cols, 5), scene.own(rows, 9));
        let hebbian = Some(Hebbian { input, gradient: scene.output(5, 9), accumulate: false });
        let statistics = scene.output(8, cols + 5);
        scene.push(Correlate { x, y, statistics, origin: None, hebbian, splits: 1 }, |_| 0.0);
        let out = scene.output(cols, 5);
        scene.push(Oja { statistics, p, out, rows }, |_| 0.0);
        let labels = scene.words(rows, 1, |bits, _, _| bits % cols);
        let (delta, losses, correct) = (scene.output(rows, cols), scene.output(rows, 1), scene.output(rows, 1));
        scene.push(SoftmaxCrossEntropy { logits: x, labels, smoothing: 0.1, delta, losses, correct }, |_| 0.0);
        let metrics = scene.updated(1, 3, asymmetric);
        let fault = scene.words(1, 1, |_, r, _| if r == 3 { 1 } else { 0 });
        scene.push(Tally { losses, correct, metrics, fault }, |_| 0.0);
        let (values, gradients) = (scene.updated(1, rows * cols, asymmetric), scene.own(1, rows * cols));
        let moments = [0, 1, 2].map(|_| Some(scene.updated(1, rows * cols, |x, _, _, _| 0.1 * x.abs())));
        let update = Update::Adam { betas: (0.9, 0.999), epsilon: 1e-8, amsgrad: true, decoupled: true };
        scene.push(Optimize { update, group: 1, clamp: Some(0.5), values, gradients, moments, fault }, |_| 0.0);
    }
    for ([samples, length, count, width], causal) in [([2, 37, 2, 12], false), ([1, 50, 1, 7], true)] {
        let (rows, cols) = (samples * length, count * width);
        let heads = Heads { count, length, causal, drop: 0.2, stream: 5 };
        let (qkv, out, stats) = (scene.own(rows, 3 * cols), scene.output(rows, cols), scene.output(rows, count));
        scene.push(Attention { qkv, out, stats, heads }, |_| 0.0);
        let (error, dots, gradient) = (scene.own(rows, cols), scene.output(rows, count), scene.output(rows, 3 * cols));
        scene.push(AttentionQueries { error, qkv, out, stats, dots, gradient, heads }, |_| 0.0);
        scene.push(AttentionKeys { error, qkv, stats, dots, gradient, heads }, |_| 0.0);
        let (gamma, beta) = (scene.any(1, cols), scene.any(1, cols));
        let (x, normal, moments) = (out, scene.output(rows, cols), scene.output(rows, 2));
        scene.push(LayerNorm { x, gamma, beta, out: normal, moments, epsilon: 1e-5 }, |_| 0.0);
        let (grad_gamma, grad_beta) = (scene.output(2, cols), scene.output(2, cols));
        scene.push(LayerNormGradients { error, x, moments, grad_gamma, grad_beta, accumulate: false }, |_| 0.0);
        let out = scene.output(rows, cols);
        scene.push(LayerNormBackward { error, x, moments, gamma, addend: None, out }, |_| 0.0);
    }
    for (cell, width, rank) in [(Cell::Gru, 18, 5), (Cell::Lstm, 8, 4), (Cell::Rnn, 33, 3)] {
        let (samples, steps) = (17, Steps::all(3));
        let (rows, gates) = (3 * samples, cell.gates() * width);
        let (a, weight, bias) = (scene.own(rows, gates), scene.any(gates, width), scene.any(1, gates));
        let (out, kept) = (scene.output(rows, width), cell.saved() * width);
        let saved = (kept > 0).then(|| scene.output(rows, kept));
        scene.push(Recurrence { a, weight, bias, out, saved, cell, steps }, |_| 0.0);
        let (p, q) = (scene.any(gates, rank), scene.any(rank, width));
        for factored in [false, true] {
            let through = match factored {
                false => StateWeight::Whole(weight),
                true => StateWeight::Factored { p, q, y: scene.output(rows, rank) },
            };
            let back = RecurrenceBackward {
                error: scene.own(rows, width),
                saved: saved.unwrap_or(out),
                gates: scene.output(rows, gates),
                hidden: (cell == Cell::Gru).then(|| scene.output(rows, gates)),
                carried: (cell != Cell::Rnn).then(|| scene.output(samples, width)),
                through,
                clamp: Some(0.5),
                window: None,
                cell,
                steps,
            };
            scene.push(back, |_| 0.0);
        }
    }
    for channels in [3, 8] {
        let pool = Window::new([5, 4], [3, 2], [2, 1], [1, 1]).unwrap();
        let (pixels, positions) = (3 * pool.pixels(), 3 * pool.positions());
        let x = scene.own(pixels, channels);
        let (out, winners) = (scene.output(positions, channels), scene.words(positions, channels, |_, _, _| 7));
        scene.push(MaxPool { x, out, winners, window: pool }, |_| 0.0);
        let (error, out) = (scene.own(positions, channels), scene.output(pixels, channels));
        scene.push(MaxPoolBackward { error, winners, out, window: pool, gate: None }, |_| 0.0);
        let out = scene.output(positions, channels);
        scene.push(AveragePool { x, out, window: pool }, |_| 0.0);
        let out = scene.output(pixels, channels);
        scene.push(AveragePoolBackward { error, out, window: pool, gate: None }, |_| 0.0);
        let weight = scene.own(6, pool.taps() * channels);
        let (out, sent) = (scene.output(positions, 6), scene.own(positions, 6));
        scene.push(Gemm::convolve(x, weight, out, pool), |_| 0.0);
        let out = scene.output(pixels, channels);
        scene.push(Gemm::convolve_back(sent, weight, out, pool), |_| 0.0);
        let out = scene.output(6, pool.taps() * channels);
        scene.push(Gemm::correlate(sent, x, out, pool), |_| 0.0);
        let out = scene.output(3, channels * pool.pixels());
        scene.push(TransposeBlocks { x, out, rows: pool.pixels(), cols: channels }, |_| 0.0);
        let (other, out) = (scene.own(pixels, channels), scene.output(pixels, channels));
        scene.push(Add { a: x, b: other, out }, |_| 0.0);
    }
    let permutation = scene.words(1, 80, |_, r, i| (i * 7 + r) % 80);
    let (images, classes) = (scene.bytes(80, 45), scene.shared_words(80, 1, |bits, _| bits));
    let (out, labels) = (scene.output(33, 45), scene.words(33, 1, |_, _, _| 7));
    let augment = Augment { flip: true, rotation: 20.0, padding: 1, cutout: 2, ..Augment::default() };
    let encoding = Encoding::Scaled { scale: [0.01; 4], shift: [0.2; 4] };
    let image = [3, 5, 3];
    scene.push(
        Gather { images, classes, permutation, out, labels, first: 0, skip: 0, image, encoding, augment },
        |_| 0.0,
    );
    let (images, classes) = (scene.bytes(80, 15), scene.shared_words(80, 15, |bits, _| bits));
    let (out, labels) = (scene.output(33 * 15, 9), scene.words(33, 15, |_, _, _| 7));
    let (image, encoding, augment) = ([15, 1, 1], Encoding::OneHot(9), Augment::default());
    scene.push(
        Gather { images, classes, permutation, out, labels, first: 0, skip: 0, image, encoding, augment },
        |_| 0.0,
    );
    let (outputs, delta) = (scene.own(33 * 5, 3), scene.output(33 * 5, 3));
    let (losses, correct) = (scene.output(33, 5), scene.output(33, 5));
    scene.push(SquaredDistance { outputs, labels, scale: 1e-9, tolerance: 1.0, delta, losses, correct }, |_| 0.0);
    scene
}

fn run(first: u32, count: u32, variant: Variant) -> (Scene, Blocking<Gpu>) {
    let scene = scene(first, count);
    let steps = [4, 5].map(|number| step_from(first, count, number, 11, ACTIVE));
    let gpu = scene.run(Some(variant), &steps);
    (scene, gpu)
}

fn variants() -> Vec<Variant> {
    scene(0, 1).variants(&open().profile())
}

#[test]
fn a_replica_is_bitwise_what_it_is_alone() {
    let mut report = Report::default();
    for variant in variants() {
        let (together, mut gpu) = run(0, REPLICAS, variant);
        let all = together.outputs(&mut gpu);
        for replica in 0..REPLICAS {
            let (alone, mut gpu) = run(replica, 1, variant);
            for ((name, tensor, all), (_, _, own)) in all.iter().zip(alone.outputs(&mut gpu)) {
                let size = tensor.shape.per_replica();
                let part = &all[replica as usize * size..][..size];
                report.same(&format!("{variant} {name}, replica {replica}"), &own, part);
            }
        }
        // Replicas that agreed with each other would show nothing.
        let differ = |(_, tensor, values): &&(String, View, Vec<f64>)| {
            let size = tensor.shape.per_replica();
            tensor.dtype == Dtype::U32 || values[..size] != values[size..2 * size]
        };
        assert!(all.iter().filter(differ).count() + 4 > all.len(), "the replicas are too much alike");
    }
    report.finish("replicas alone");
}

#[test]
fn the_same_twice_is_bitwise_the_same() {
    let mut report = Report::default();
    for variant in variants() {
        let (scene, mut first) = run(0, REPLICAS, variant);
        let (_, mut second) = run(0, REPLICAS, variant);
        let again = scene.outputs(&mut second);
        for ((name, _, one), (_, _, two)) in scene.outputs(&mut first).iter().zip(&again) {
            report.same(&format!("{variant} {name}"), one, two);
        }
    }
    report.finish("twice");
}

/// The step's uniform block has room for 64 replicas, each with a seed, two rates and two decays of its own.
#[test]
fn the_last_of_64_replicas_reads_its_own_part_of_the_step() {
    let count = MAX_REPLICAS as u32;
    let mut report = Report::default();
    let mut scene = Scene::new(count);
    for group in [0, 1] {
        for update in [Update::Sgd { momentum: 0.0 }, Update::RmsProp { alpha: 0.9, epsilon: 1e-6 }] {
            let (values, gradients) = (scene.updated(1, 9, asymmetric), scene.own(1, 9));
            let moment = scene.updated(1, 9, |x, _, _, _| 0.1 + x.abs());
            let moments = [(update.moments() > 0).then_some(moment), None, None];
            let fault = scene.words(1, 1, |_, _, _| 0);
            scene.push(Optimize { update, group, clamp: None, values, gradients, moments, fault }, |_| roundings(8.0));
        }
    }
    let (x, out) = (scene.own(3, 50), scene.output(3, 50));
    scene.push(Dropout { x, out, drop: 0.5, stream: 1, together: 1 }, |_| 0.0);
    scene.verify(&mut report, &[step_from(0, count, 2, 0, 1)]);
    report.finish("64 replicas");
}
