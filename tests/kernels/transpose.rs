//! Matrices transposed one by one.

use ldfa_gpu::ops::*;

use crate::compare::Report;
use crate::scene::{SIZES, Scene, step};

#[test]
fn blocks_of_every_size() {
    let mut report = Report::default();
    for replicas in [1, 3] {
        let mut scene = Scene::new(replicas);
        for (at, size) in SIZES.into_iter().enumerate() {
            for (rows, cols) in [(size, SIZES[(3 * at + 1) % 11]), (size, 1), (1, size), (64, size), (size, 32)] {
                for blocks in [1, 5] {
                    let (x, out) = (scene.any(blocks * rows, cols), scene.output(blocks, rows * cols));
                    scene.push(TransposeBlocks { x, out, rows, cols }, |_| 0.0);
                }
                let (x, out) = (scene.own(3, rows * cols), scene.output(3 * cols, rows));
                scene.push(TransposeBlocks { x, out, rows, cols }, |_| 0.0);
            }
        }
        scene.verify(&mut report, &[step(replicas, 0, 0, 1)]);
    }
    report.finish("transposed blocks");
}

/// What is flattened and comes back is what it was.
#[test]
fn there_and_back() {
    let mut report = Report::default();
    let mut scene = Scene::new(2);
    let (batch, pixels, channels) = (3, 35, 12);
    let x = scene.own(batch * pixels, channels);
    let (flat, back) = (scene.output(batch, channels * pixels), scene.output(batch * pixels, channels));
    scene.push(TransposeBlocks { x, out: flat, rows: pixels, cols: channels }, |_| 0.0);
    scene.push(TransposeBlocks { x: flat, out: back, rows: channels, cols: pixels }, |_| 0.0);
    let steps = [step(2, 0, 0, 1)];
    scene.verify(&mut report, &steps);
    let mut gpu = scene.run(None, &steps);
    let outputs = scene.outputs(&mut gpu);
    let read = |tensor| outputs.iter().find(|(_, t, _)| *t == tensor).map(|(_, _, values)| values).unwrap();
    let (flat, back) = (read(flat), read(back));
    // PyTorch's order: channel, then pixel.
    let [image, pixel, channel] = [1, 30, 7];
    let at = (image * pixels + pixel) * channels + channel;
    assert_eq!(flat[((image * channels + channel) * pixels + pixel) as usize], back[at as usize]);
    report.finish("there and back");
}

/// More than 65535 workgroups, which is what one dimension of a grid holds.
#[test]
fn more_blocks_than_one_dimension_holds() {
    let mut report = Report::default();
    let mut scene = Scene::new(1);
    let blocks = 65_535 + 3;
    let (x, out) = (scene.own(2 * blocks, 3), scene.output(blocks, 6));
    scene.push(TransposeBlocks { x, out, rows: 2, cols: 3 }, |_| 0.0);
    scene.verify(&mut report, &[step(1, 0, 0, 1)]);
    report.finish("many blocks");
}
