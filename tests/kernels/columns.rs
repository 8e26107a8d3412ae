//! Reductions over rows.

use ldfa_gpu::ops::*;

use crate::compare::{Report, roundings, sums};
use crate::scene::{SIZES, Scene, step};

#[test]
fn column_sums_and_moments() {
    let mut report = Report::default();
    for replicas in [1, 3] {
        let mut scene = Scene::new(replicas);
        for (at, rows) in SIZES.into_iter().enumerate() {
            for cols in [SIZES[(3 * at + 2) % 11], SIZES[(7 * at + 5) % 11], 1, 16, 68] {
                let x = scene.own(rows, cols);
                let out = scene.output(1, cols);
                scene.push(ColumnSum { x, out, accumulate: false }, |_| sums(rows) + roundings(1.0));
                let out = scene.updated(1, cols, |x, _, _, j| x + f64::from(j));
                scene.push(ColumnSum { x, out, accumulate: true }, |_| sums(rows) + roundings(2.0));
                // The variance divides by the count twice over and squares a difference.
                let out = scene.output(2, cols);
                scene.push_by_row(Moments { x, out }, |_| 2.0 * sums(rows) + roundings(6.0));
            }
        }
        scene.verify(&mut report, &[step(replicas, 0, 0, 1)]);
    }
    report.finish("columns");
}

/// So many columns that each is added up by one invocation.
#[test]
fn sums_of_many_columns() {
    let mut report = Report::default();
    for replicas in [1, 3] {
        let mut scene = Scene::new(replicas);
        for (rows, cols) in [(1, 64), (1, 130), (3, 257), (5, 388), (9, 9 * 64 + 4), (17, 17 * 64)] {
            let x = scene.own(rows, cols);
            let out = scene.output(1, cols);
            scene.push(ColumnSum { x, out, accumulate: false }, |_| sums(rows) + roundings(1.0));
            let out = scene.updated(1, cols, |x, _, _, j| x + f64::from(j));
            scene.push(ColumnSum { x, out, accumulate: true }, |_| sums(rows) + roundings(2.0));
        }
        scene.verify(&mut report, &[step(replicas, 0, 0, 1)]);
    }
    report.finish("many columns");
}

#[test]
fn gradients_of_factors() {
    let mut report = Report::default();
    for replicas in [1, 3] {
        let mut scene = Scene::new(replicas);
        for (at, rows) in SIZES.into_iter().enumerate() {
            for cols in [SIZES[(3 * at + 2) % 11], SIZES[(7 * at + 5) % 11], 1, 16, 68] {
                let (error, x) = (scene.own(rows, cols), scene.own(rows, cols));
                // A rounding more a term, and terms of both signs, which nothing makes up for in a single column.
                let allowed = |depth| 2.0 * sums(depth) + roundings(if cols < 4 { 32.0 } else { 4.0 });
                let parts = [1, 2, 3, 7][scene.draw(4) as usize].min(rows);
                let out = scene.output(rows.div_ceil(rows.div_ceil(parts)), cols);
                let op = ScaleGradient { error, x, out, accumulate: false };
                scene.push(op, |_| allowed(op.depth()));
                let out = scene.updated(1, cols, |x, _, _, j| x + f64::from(j));
                scene.push(ScaleGradient { error, x, out, accumulate: true }, |_| allowed(rows));
            }
        }
        scene.verify(&mut report, &[step(replicas, 0, 0, 1)]);
    }
    report.finish("gradients of factors");
}

/// E[x^2] - E[x]^2 would lose every digit.
#[test]
fn a_large_mean_costs_no_digits_of_the_variance() {
    let mut report = Report::default();
    let mut scene = Scene::new(3);
    for rows in [2, 17, 129, 1000] {
        let x = scene.filled(rows, 19, |x, r, _, j| x + 4096.0 * f64::from(1 + r) - 500.0 * f64::from(j));
        let out = scene.output(2, 19);
        // The mean is off by its rounding, up to 8192 (1 + sqrt n) epsilon; its square adds to the variance of 1/3.
        let of_mean = 12_288.0 * (sums(rows) + roundings(2.0));
        scene.push_by_row(Moments { x, out }, |_| 3.0 * of_mean.powi(2) + 2.0 * sums(rows) + roundings(6.0));
    }
    scene.verify(&mut report, &[step(3, 0, 0, 1)]);
    report.finish("variances far from zero");
}

#[test]
fn constant_columns_have_no_variance() {
    let mut report = Report::default();
    let mut scene = Scene::new(3);
    for rows in [1, 2, 64, 256] {
        let x = scene.filled(rows, 17, |_, r, _, j| f64::from(j) - 8.0 + 0.25 * f64::from(r));
        let out = scene.output(2, 17);
        scene.push_by_row(Moments { x, out }, |_| 0.0);
    }
    scene.verify(&mut report, &[step(3, 0, 0, 1)]);
    report.finish("constant columns");
}
