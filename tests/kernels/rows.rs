//! Rows of sequences: added to, placed among others, taken out.

use ldfa_gpu::ops::*;

use crate::compare::{Report, roundings};
use crate::scene::{Scene, step};

/// Samples, rows of a sample, columns.
const SHAPES: [[u32; 3]; 6] = [[1, 1, 1], [3, 2, 5], [2, 5, 12], [4, 65, 7], [5, 16, 64], [70, 9, 36]];

#[test]
fn a_row_is_added_to_every_row_and_scales_it() {
    let mut report = Report::default();
    for replicas in [1, 3] {
        let mut scene = Scene::new(replicas);
        for [samples, rows, cols] in SHAPES {
            let (x, row, out) =
                (scene.own(samples * rows, cols), scene.any(1, cols), scene.output(samples * rows, cols));
            scene.push(AddRow { x, row, out }, |_| roundings(1.0));
            let out = scene.output(samples * rows, cols);
            scene.push(ScaleColumns { x, row, out }, |_| roundings(1.0));
            // Whole samples, as positions are added.
            let (x, row) = (scene.own(samples, rows * cols), scene.own(1, rows * cols));
            let out = scene.output(samples, rows * cols);
            scene.push(AddRow { x, row, out }, |_| roundings(1.0));
        }
        scene.verify(&mut report, &[step(replicas, 0, 0, 1)]);
    }
    report.finish("added rows and scaled columns");
}

#[test]
fn rows_are_placed_and_taken_out() {
    let mut report = Report::default();
    for replicas in [1, 3] {
        let mut scene = Scene::new(replicas);
        for [samples, rows, cols] in SHAPES {
            // A token before the others, and what goes back past it.
            let (x, fill) = (scene.own(samples * rows, cols), Some(scene.any(1, cols)));
            let long = scene.output(samples * (rows + 1), cols);
            scene.push(PlaceRows { x: x.by_rows(rows), out: long, first: 1, fill }, |_| 0.0);
            let error = scene.own(samples * (rows + 1), cols);
            let (all, back) = (error.by_rows(rows + 1), scene.output(samples * rows, cols));
            scene.push(PlaceRows { x: all.rows_from(1, rows), out: back, first: 0, fill: None }, |_| 0.0);
            // The first and the last one alone, and their errors among zeros.
            for at in [0, rows] {
                let (alone, among) = (scene.output(samples, cols), scene.output(samples * (rows + 1), cols));
                scene.push(PlaceRows { x: all.rows_from(at, 1), out: alone, first: 0, fill: None }, |_| 0.0);
                let one = scene.own(samples, cols);
                scene.push(PlaceRows { x: one.by_rows(1), out: among, first: at, fill: None }, |_| 0.0);
            }
        }
        scene.verify(&mut report, &[step(replicas, 0, 0, 1)]);
    }
    report.finish("placed rows");
}

#[test]
fn a_part_of_a_row_is_cleared() {
    let mut report = Report::default();
    let mut scene = Scene::new(3);
    for [at, count, behind] in [[0, 1, 0], [5, 7, 3], [64, 300, 1]] {
        let row = scene.updated(1, at + count + behind, |x, _, _, j| x + f64::from(j));
        scene.push(Clear { out: row.columns(at, count) }, |_| 0.0);
        // The rest is read back by another operation, so that it is compared.
        let (x, out) = (scene.own(2, at + count + behind), scene.output(2, at + count + behind));
        scene.push(AddRow { x, row, out }, |_| roundings(1.0));
    }
    scene.verify(&mut report, &[step(3, 0, 0, 1)]);
    report.finish("cleared rows");
}
