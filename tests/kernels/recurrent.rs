//! Recurrences: every cell, widths, ranks and samples that miss, meet and exceed tiles, all steps in one dispatch or a dispatch each.

use ldfa_gpu::ops::*;

use crate::compare::{Report, roundings, sums};
use crate::scene::{Scene, asymmetric, step};

/// Samples, steps, units, rank.
const SHAPES: [[u32; 4]; 9] = [
    [1, 1, 1, 1],
    [2, 3, 1, 1],
    [3, 2, 5, 3],
    [16, 4, 16, 4],
    [17, 3, 33, 7],
    [33, 2, 64, 16],
    [5, 5, 65, 17],
    [129, 2, 12, 8],
    [130, 2, 9, 5],
];

/// Values that keep states within what a tanh tells apart.
fn small(scale: f64) -> impl Fn(f64, u32, u32, u32) -> f64 {
    move |x, r, i, j| scale * asymmetric(x, r, i, j)
}

/// Forward and back, through the weight and through two factors, the steps in pieces of at most `most`. Over many steps errors
/// overflow unless a step's `gain` is below one.
fn recur(scene: &mut Scene, cell: Cell, [samples, length, width, rank]: [u32; 4], most: u32, gain: f64) {
    let (rows, gates) = (samples * length, cell.gates() * width);
    let all = Steps::all(length);
    let a = scene.filled(rows, gates, small(0.7));
    let scale = gain / f64::from(width).sqrt();
    let weight = scene.filled(gates, width, small(scale));
    let bias = scene.filled(1, gates, small(0.3));
    let out = scene.output(rows, width);
    let saved = (cell.saved() > 0).then(|| scene.output(rows, cell.saved() * width));
    // A step's error goes on into the next, and shrinks there with the gain; a sigmoid and a tanh are a few roundings each.
    let remembered = f64::from(length).min(2.0 / (1.0 - gain));
    let allowed = remembered * (sums(width) + roundings(12.0));
    for steps in all.cut(most) {
        scene.push(Recurrence { a, weight, bias, out, saved, cell, steps }, |_| allowed);
    }

    let error = scene.filled(rows, width, small(1.0));
    let kept = match cell {
        Cell::Rnn => scene.filled(rows, width, |x, r, i, j| (0.5 * asymmetric(x, r, i, j)).tanh()),
        // Gates lie between 0 and 1, and are not those of the way forward: what goes back is by itself.
        _ => scene.filled(rows, cell.saved() * width, |x, r, i, j| 0.5 + 0.3 * asymmetric(x, r, i, j).tanh()),
    };
    let p = scene.filled(gates, rank, small(1.0 / f64::from(gates).sqrt()));
    let q = scene.filled(rank, width, small(gain / f64::from(rank).sqrt()));
    for (factored, window, clamp) in
        [(false, None, None), (true, None, None), (false, Some(2), None), (true, Some(2), Some(0.2))]
    {
        let through = match factored {
            false => StateWeight::Whole(weight),
            true => StateWeight::Factored { p, q, y: scene.output(rows, rank) },
        };
        let gates = scene.output(rows, gates);
        let hidden = (cell == Cell::Gru).then(|| scene.output(rows, gates.cols()));
        let carried = (cell != Cell::Rnn).then(|| scene.output(samples, width));
        let op =
            RecurrenceBackward { error, saved: kept, gates, hidden, carried, through, clamp, window, cell, steps: all };
        let allowed = remembered * (sums(gates.cols()) + sums(rank) + roundings(12.0));
        for steps in all.cut(most).rev() {
            scene.push(RecurrenceBackward { steps, ..op }, |_| allowed);
        }
    }
}

#[test]
fn recurrences_of_every_shape() {
    let mut report = Report::default();
    for replicas in [1, 3] {
        let mut scene = Scene::new(replicas);
        for shape in SHAPES {
            for cell in Cell::ALL {
                recur(&mut scene, cell, shape, shape[1], 1.0);
            }
        }
        scene.verify(&mut report, &[step(replicas, 0, 0, 1)]);
    }
    report.finish("recurrences");
}

/// As many rounds of loops as a plan lets one dispatch go through, and more in all: a driver that ends loops early leaves states
/// unwritten.
#[test]
fn long_recurrences_end() {
    let mut report = Report::default();
    let mut scene = Scene::new(1);
    recur(&mut scene, Cell::Gru, [128, 600, 48, 4], 600, 0.3);
    scene.verify(&mut report, &[step(1, 0, 0, 1)]);
    report.finish("long recurrences");
}

#[test]
fn recurrences_in_pieces() {
    let mut report = Report::default();
    let mut scene = Scene::new(2);
    for (shape, most) in [([17, 3, 33, 7], 1), ([3, 5, 66, 4], 1), ([2, 5, 20, 18], 2)] {
        for cell in Cell::ALL {
            recur(&mut scene, cell, shape, most, 1.0);
        }
    }
    scene.verify(&mut report, &[step(2, 0, 0, 1)]);
    report.finish("recurrences in pieces");
}
