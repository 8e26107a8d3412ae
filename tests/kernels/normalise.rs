//! Batch norm and the scaled errors of the Oja rule.

use ldfa_gpu::ops::*;

use crate::compare::{Report, roundings, sums};
use crate::scene::{SIZES, Scene, asymmetric, step};

/// Means of any sign, then positive variances; shared by all replicas or not.
fn moments(scene: &mut Scene, cols: u32) -> View {
    scene.filled(2, cols, |x, r, i, j| {
        let value = asymmetric(x, r, i, j);
        if i == 0 { 0.4 * value } else { 0.2 + value.abs() }
    })
}

fn shapes() -> Vec<(u32, u32)> {
    let pair = |(at, rows): (usize, u32)| {
        [SIZES[(3 * at + 2) % 11], SIZES[(7 * at + 5) % 11], 1, 4 * (at as u32 + 1)].map(|c| (rows, c))
    };
    SIZES.into_iter().enumerate().flat_map(pair).collect()
}

#[test]
fn batch_norm_forward_and_backward() {
    let mut report = Report::default();
    for replicas in [1, 3] {
        let mut scene = Scene::new(replicas);
        for (rows, cols) in shapes() {
            let epsilon = [1e-5, 0.1][scene.draw(2) as usize];
            let x = scene.own(rows, cols);
            let of_x = moments(&mut scene, cols);
            let (gamma, beta, out) = (scene.any(1, cols), scene.any(1, cols), scene.output(rows, cols));
            let activation = [None, Some(Activation::Relu), Some(Activation::Gelu)][scene.draw(3) as usize];
            let op = Normalise { x, moments: of_x, gamma, beta, out, epsilon, activation };
            scene.push(op, |_| roundings(if activation == Some(Activation::Gelu) { 16.0 } else { 8.0 }));

            let error = scene.own(rows, cols);
            let (grad_gamma, grad_beta) = (scene.output(1, cols), scene.output(1, cols));
            let op = NormaliseGradients { error, x, moments: of_x, grad_gamma, grad_beta, totals: None, epsilon };
            // Six roundings a term, counted twice and more because terms of both signs cancel where there are few.
            scene.push(op, |_| 2.0 * sums(rows) + roundings(16.0));
            let [grad_gamma, grad_beta] = [0, 1].map(|_| scene.output(1, cols));
            // Far from zero, so that the total does not cancel.
            let totals = Some([0, 1].map(|_| scene.updated(1, cols, |x, _, _, j| 100.0 + x + f64::from(j))));
            scene.push(NormaliseGradients { grad_gamma, grad_beta, totals, ..op }, |_| {
                2.0 * sums(rows) + roundings(16.0)
            });

            let (grad_gamma, grad_beta) = (scene.any(1, cols), scene.any(1, cols));
            let out = scene.output(rows, cols);
            let op = NormaliseBackward { error, x, moments: of_x, gamma, grad_gamma, grad_beta, out, epsilon };
            // Of a single element nothing makes up for it where its three terms cancel.
            scene.push(op, |_| roundings(if rows * cols == 1 { 24.0 } else { 12.0 }));
        }
        scene.verify(&mut report, &[step(replicas, 0, 0, 1)]);
    }
    report.finish("batch norm");
}

#[test]
fn running_moments_move_toward_the_batch_unless_a_fault_is_set() {
    let mut report = Report::default();
    for replicas in [1, 3] {
        let mut scene = Scene::new(replicas);
        for (at, cols) in SIZES.into_iter().enumerate() {
            let of_batch = moments(&mut scene, cols);
            let running = scene.updated(2, cols, asymmetric);
            // Replica 1 has failed.
            let fault = scene.words(1, 1, |_, replica, _| if replica == 1 { 7 } else { 0 });
            let rows = [2, 3, 64, 1000][at % 4];
            let op = TrackMoments { moments: of_batch, running, fault, momentum: 0.1 + 0.2 * at as f64 % 0.9, rows };
            // Six roundings a step, and three steps.
            scene.push_by_row(op, |_| roundings(18.0));
        }
        scene.verify(&mut report, &[step(replicas, 0, 0, 1), step(replicas, 1, 0, 1), step(replicas, 2, 0, 1)]);
    }
    report.finish("running moments");
}

#[test]
fn a_fault_leaves_running_moments_untouched() {
    let mut report = Report::default();
    let mut scene = Scene::new(3);
    let of_batch = moments(&mut scene, 130);
    let running = scene.updated(2, 130, asymmetric);
    let fault = scene.words(1, 1, |_, replica, _| 1 << (31 * replica / 2));
    scene.push(TrackMoments { moments: of_batch, running, fault, momentum: 0.3, rows: 9 }, |_| 0.0);
    scene.verify(&mut report, &[step(3, 0, 0, 1)]);
    report.finish("faulty running moments");
}
