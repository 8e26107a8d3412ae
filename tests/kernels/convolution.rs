//! The three products of a convolution: windows of every kind, channels that are whole quads and such that are not.

use ldfa_gpu::ops::*;

use crate::compare::{Report, roundings, sums};
use crate::scene::{Scene, open, step};

/// Images, their height and width, kernel, stride, padding, channels in and out.
type Geometry = (u32, [u32; 2], [u32; 2], [u32; 2], [u32; 2], u32, u32);

const GEOMETRIES: [Geometry; 14] = [
    (1, [1, 1], [1, 1], [1, 1], [0, 0], 1, 1),
    (2, [5, 7], [3, 3], [1, 1], [1, 1], 3, 5),
    (3, [4, 6], [2, 3], [1, 2], [0, 1], 2, 7),
    (1, [9, 4], [1, 1], [2, 2], [0, 0], 5, 33),
    (2, [7, 7], [5, 3], [3, 2], [2, 1], 1, 17),
    (1, [3, 11], [3, 1], [1, 1], [1, 0], 65, 2),
    (2, [6, 5], [4, 4], [2, 1], [3, 2], 6, 9),
    // Whole quads.
    (2, [5, 7], [3, 3], [1, 1], [1, 1], 4, 8),
    (4, [3, 5], [1, 1], [1, 1], [0, 0], 8, 36),
    (4, [7, 6], [3, 3], [2, 2], [1, 1], 12, 20),
    (4, [5, 4], [2, 2], [2, 2], [0, 0], 36, 68),
    (4, [9, 8], [5, 3], [2, 3], [2, 2], 4, 132),
    (4, [4, 4], [4, 4], [1, 1], [0, 0], 20, 12),
    // Whole quads of channels, sums that are none.
    (1, [3, 3], [2, 2], [1, 1], [0, 1], 16, 4),
];

/// All three products of one convolution, with the epilogues that networks give them.
fn products(scene: &mut Scene, geometry: Geometry, half: Option<Half>) {
    let (images, image, kernel, stride, padding, inputs, outputs) = geometry;
    let window = Window::new(image, kernel, stride, padding).unwrap();
    let (pixels, positions) = (images * window.pixels(), images * window.positions());
    let taps = window.taps();
    let rounded = if half.is_some() { 2.0 / 1024.0 } else { 0.0 };
    let x = scene.own(pixels, inputs);
    let weight = scene.any(outputs, taps * inputs);
    let error = scene.own(positions, outputs);

    let out = scene.output(positions, outputs);
    let epilogue =
        Epilogue { bias: Some(scene.any(1, outputs)), activation: Some(Activation::Relu), ..Epilogue::default() };
    let forward = Gemm { alpha: -0.7, epilogue, half, ..Gemm::convolve(x, weight, out, window) };
    scene.push(forward, |_| rounded + sums(taps * inputs) + roundings(6.0));

    let sent = scene.output(pixels, inputs);
    let saved = scene.filled(pixels, inputs, |noise, _, i, j| if (i + j) % 3 == 0 { 0.0 } else { noise });
    let epilogue = Epilogue {
        gate: Some((Activation::Relu, saved)),
        addend: Some((scene.own(pixels, inputs), 0.5)),
        ..Epilogue::default()
    };
    let back = Gemm { epilogue, half, ..Gemm::convolve_back(error, weight, sent, window) };
    scene.push(back, |_| rounded + sums(taps * outputs) + roundings(6.0));

    let gradient = scene.output(outputs, taps * inputs);
    let sums_of_error = Some(scene.output(1, outputs));
    let correlate = Gemm { sums: sums_of_error, half, ..Gemm::correlate(error, x, gradient, window) };
    scene.push(correlate, |_| rounded + sums(positions) + roundings(3.0));
}

/// The same with the sums in splits that begin within a tap.
fn in_parts(scene: &mut Scene, geometry: Geometry, splits: u32) {
    let (images, image, kernel, stride, padding, inputs, outputs) = geometry;
    let window = Window::new(image, kernel, stride, padding).unwrap();
    let (pixels, positions, taps) = (images * window.pixels(), images * window.positions(), window.taps());
    let (x, weight) = (scene.own(pixels, inputs), scene.own(outputs, taps * inputs));
    let error = scene.own(positions, outputs);
    let out = scene.output(splits * positions, outputs);
    let sent = scene.output(splits * pixels, inputs);
    let gradient = scene.output(splits * outputs, taps * inputs);
    let sums_of_error = Some(scene.output(splits, outputs));
    for (whole, terms) in [
        (Gemm::convolve(x, weight, out, window), taps * inputs),
        (Gemm::convolve_back(error, weight, sent, window), taps * outputs),
        (Gemm { sums: sums_of_error, ..Gemm::correlate(error, x, gradient, window) }, positions),
    ] {
        scene.push(Gemm { splits, ..whole }, |_| sums(terms) + roundings(2.0));
    }
}

#[test]
fn convolutions_of_every_geometry() {
    let mut report = Report::default();
    for replicas in [1, 3] {
        let mut scene = Scene::new(replicas);
        for geometry in GEOMETRIES {
            products(&mut scene, geometry, None);
        }
        scene.verify(&mut report, &[step(replicas, 0, 0, 1)]);
    }
    report.finish("convolutions");
}

#[test]
fn convolutions_in_parts() {
    let mut report = Report::default();
    let mut scene = Scene::new(2);
    in_parts(&mut scene, (4, [5, 7], [3, 3], [1, 1], [1, 1], 12, 8), 2);
    in_parts(&mut scene, (3, [6, 4], [3, 2], [2, 1], [1, 0], 7, 9), 2);
    scene.verify(&mut report, &[step(2, 0, 0, 1)]);
    report.finish("convolutions in splits");
}

#[test]
fn convolutions_in_half_precision() {
    if !open().profile().half {
        println!("half precision: this adapter does not compute in 16 bits, nothing was compared");
        return;
    }
    let mut report = Report::default();
    let mut scene = Scene::new(2);
    for geometry in GEOMETRIES.into_iter().skip(1).step_by(3) {
        products(&mut scene, geometry, Some(Half { lift: [3, 0] }));
    }
    scene.verify(&mut report, &[step(2, 0, 0, 1)]);
    report.finish("convolutions in half precision");
}
