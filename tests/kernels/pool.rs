//! Pooling, forward and backward.

use ldfa_gpu::ops::*;

use crate::compare::{Report, roundings, sums};
use crate::scene::{Scene, asymmetric, step};

/// Image, kernel, stride, padding: overlaps, gaps, padding on some sides, remainders, images seen as a whole.
const WINDOWS: [[[u32; 2]; 4]; 10] = [
    [[1, 1], [1, 1], [1, 1], [0, 0]],
    [[4, 4], [2, 2], [2, 2], [0, 0]],
    [[5, 7], [3, 3], [2, 2], [1, 1]],
    [[6, 5], [3, 2], [1, 1], [1, 1]],
    [[7, 3], [4, 1], [3, 2], [2, 0]],
    [[9, 4], [1, 1], [3, 3], [0, 0]],
    [[3, 17], [2, 5], [1, 4], [1, 2]],
    [[8, 8], [8, 8], [1, 1], [0, 0]],
    [[2, 9], [2, 9], [5, 5], [0, 3]],
    [[32, 32], [3, 3], [2, 2], [1, 1]],
];

/// Whole quads and others.
const CHANNELS: [u32; 7] = [1, 3, 4, 7, 8, 20, 65];

/// Every window with several numbers of images and channels.
fn cases() -> impl Iterator<Item = (Window, u32, u32)> {
    WINDOWS.into_iter().enumerate().flat_map(|(at, [image, kernel, stride, padding])| {
        let window = Window::new(image, kernel, stride, padding).unwrap();
        let pick = move |i: usize| (window, [1, 3, 2, 5][(at + i) % 4], CHANNELS[(3 * at + 2 * i) % 7]);
        (0..4).map(pick).chain([(window, 2, 4), (window, 2, 12)])
    })
}

/// In quarters, so that many neighbours are equal.
fn coarse(scene: &mut Scene, rows: u32, cols: u32) -> View {
    scene.filled(rows, cols, |x, r, i, j| (4.0 * asymmetric(x, r, i, j)).round() / 4.0)
}

/// Of either activation.
fn gate(scene: &mut Scene, rows: u32, cols: u32) -> Option<(Activation, View)> {
    let saved = scene.own(rows, cols);
    Some(([Activation::Relu, Activation::Gelu][scene.draw(2) as usize], saved))
}

#[test]
fn maxima_and_their_way_back() {
    let mut report = Report::default();
    for replicas in [1, 3] {
        let mut scene = Scene::new(replicas);
        for (window, images, channels) in cases() {
            let (pixels, positions) = (images * window.pixels(), images * window.positions());
            let x = coarse(&mut scene, pixels, channels);
            let out = scene.output(positions, channels);
            let winners = scene.words(positions, channels, |_, _, _| 0xDEAD_BEEF);
            scene.push(MaxPool { x, out, winners, window }, |_| 0.0);

            // Sums of as many errors as windows overlap.
            let allowed = sums(window.taps()) + roundings(1.0);
            let (error, out) = (scene.any(positions, channels), scene.output(pixels, channels));
            scene.push(MaxPoolBackward { error, winners, out, window, gate: None }, |_| allowed);
            // Any tap, those over the padding included.
            let winners = scene.words(positions, channels, |bits, _, _| bits % window.taps());
            let (gate, out) = (gate(&mut scene, pixels, channels), scene.output(pixels, channels));
            scene.push(MaxPoolBackward { error, winners, out, window, gate }, |_| allowed + roundings(8.0));
        }
        scene.verify(&mut report, &[step(replicas, 0, 0, 1)]);
    }
    report.finish("max pools");
}

#[test]
fn means_and_their_way_back() {
    let mut report = Report::default();
    for replicas in [1, 3] {
        let mut scene = Scene::new(replicas);
        for (window, images, channels) in cases() {
            let (pixels, positions) = (images * window.pixels(), images * window.positions());
            let allowed = 2.0 * sums(window.taps()) + roundings(3.0);
            let (x, out) = (scene.any(pixels, channels), scene.output(positions, channels));
            scene.push(AveragePool { x, out, window }, |_| allowed);
            let (error, out) = (scene.any(positions, channels), scene.output(pixels, channels));
            let gate = gate(&mut scene, pixels, channels);
            scene.push(AveragePoolBackward { error, out, window, gate }, |_| allowed + roundings(8.0));
        }
        scene.verify(&mut report, &[step(replicas, 0, 0, 1)]);
    }
    report.finish("average pools");
}

/// PyTorch's rule, `val > max || isnan(val)`, on values that compilers like to forget.
#[test]
fn not_a_number_wins_and_the_last_one_is_found() {
    const NAN: f64 = f64::NAN;
    const LOWEST: f64 = f64::NEG_INFINITY;
    let windows = [
        ([1.0, NAN, 9.0, 2.0], NAN, 1),
        ([NAN, 7.0, NAN, 8.0], NAN, 2),
        ([-NAN, f64::INFINITY, 0.0, 1.0], NAN, 0),
        ([LOWEST; 4], LOWEST, 0),
        ([LOWEST, -3.0, LOWEST, -3.0], -3.0, 1),
        ([1.0, f64::INFINITY, f64::INFINITY, 1.0], f64::INFINITY, 1),
        ([0.0, -1.0, -2.0, NAN], NAN, 3),
    ];
    let window = Window::new([1, 28], [1, 4], [1, 4], [0, 0]).unwrap();
    for channels in [1, 4] {
        let case = |position: u32, channel: u32| windows[((position + 2 * channel) % 7) as usize];
        let mut scene = Scene::new(1);
        let x = scene.filled(28, channels, |_, _, i, j| case(i / 4, j).0[i as usize % 4]);
        let (out, winners) = (scene.output(7, channels), scene.words(7, channels, |_, _, _| 99));
        scene.push(MaxPool { x, out, winners, window }, |_| 0.0);
        let mut gpu = scene.run(None, &[step(1, 0, 0, 1)]);
        let (values, winners) = (gpu.read(out).unwrap(), gpu.read(winners).unwrap());
        for (at, (value, winner)) in (0..).zip(values.into_iter().zip(winners)) {
            let (window, expected, tap) = case(at / channels, at % channels);
            assert!(value == expected || value.is_nan() && expected.is_nan(), "the maximum of {window:?} is {value}");
            assert_eq!(winner, f64::from(tap), "the winner of {window:?}");
        }
    }
}

/// A NaN among the errors stays with the pixels that won.
#[test]
fn losers_get_nothing_of_an_infinite_error() {
    let window = Window::new([1, 4], [1, 2], [1, 2], [0, 0]).unwrap();
    for channels in [1, 4] {
        let mut scene = Scene::new(1);
        let error = scene.filled(2, channels, |_, _, i, _| if i == 0 { f64::NAN } else { f64::INFINITY });
        let winners = scene.words(2, channels, |_, _, _| 1);
        let out = scene.output(4, channels);
        scene.push(MaxPoolBackward { error, winners, out, window, gate: None }, |_| 0.0);
        let found = scene.run(None, &[step(1, 0, 0, 1)]).read(out).unwrap();
        for pixels in (0..channels as usize).map(|c| [0, 1, 2, 3].map(|pixel| found[pixel * channels as usize + c])) {
            assert!(pixels[0] == 0.0 && pixels[1].is_nan() && pixels[2] == 0.0 && pixels[3] == f64::INFINITY);
        }
    }
}
