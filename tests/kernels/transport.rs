//! The fused bottleneck.

use ldfa_gpu::ops::*;

use crate::compare::{Report, roundings, sums};
use crate::scene::{Scene, asymmetric, step};

/// Rows, width of the error, rank, width of the input.
const SHAPES: [[u32; 4]; 18] = [
    [1, 1, 1, 1],
    [1, 257, 1, 1],
    [257, 1, 1, 3],
    [1, 3, 64, 257],
    [15, 10, 2, 63],
    [40, 12, 5, 68],
    [70, 64, 16, 36],
    [64, 10, 10, 128],
    [32, 8, 4, 64],
    [16, 10, 3, 64],
    [17, 7, 7, 65],
    [33, 17, 16, 127],
    [65, 33, 17, 2],
    [63, 129, 33, 17],
    [7, 65, 64, 129],
    [31, 63, 50, 33],
    [129, 127, 63, 7],
    [18, 257, 33, 130],
];

#[test]
fn transports_of_every_rank_with_and_without_addend_clamp_and_gate() {
    let mut report = Report::default();
    for replicas in [1, 3] {
        let mut scene = Scene::new(replicas);
        let gates = [None, Some(Activation::Relu), Some(Activation::Gelu)];
        for (index, shape) in SHAPES.into_iter().enumerate() {
            for clamp in [None, Some(0.8)] {
                transport(&mut scene, shape, clamp, gates[index % 3], index % 2 == 0);
                transport(&mut scene, shape, clamp, gates[(index + 1) % 3], index % 2 == 1);
            }
        }
        scene.verify(&mut report, &[step(replicas, 0, 0, 1)]);
    }
    report.finish("transports");
}

fn transport(
    scene: &mut Scene,
    [rows, width, rank, inputs]: [u32; 4],
    clamp: Option<f64>,
    gate: Option<Activation>,
    has_addend: bool,
) {
    // Small enough that a clamp leaves something as it is.
    let size = 1.0 / f64::from(width * rank).sqrt();
    let delta = scene.filled(rows, width, |x, r, i, j| size * (asymmetric(x, r, i, j) - 0.5));
    let (p, q) = (scene.any(width, rank), scene.any(rank, inputs));
    let gate = gate.map(|f| {
        let saved = scene.filled(rows, inputs, |x, r, i, j| match f {
            Activation::Relu => (asymmetric(x, r, i, j) - 0.3).max(0.0),
            Activation::Gelu | Activation::Tanh => asymmetric(x, r, i, j),
        });
        (f, saved)
    });
    let (y, out) = (scene.output(rows, rank), scene.output(rows, inputs));
    let addend = has_addend.then(|| (scene.filled(rows, inputs, |x, r, i, j| asymmetric(x, r, i, j) - 0.5), 1.0));
    let epilogue = Epilogue { addend, clamp, gate, ..Epilogue::default() };
    // Terms of both signs may cancel; where there are few elements nothing makes up for one of which little is left.
    let few = |elements: u32| if elements < 4 { 4.0 } else { 1.0 };
    scene.push(Transport { delta, p, q, y, out, epilogue }, |operand| match operand {
        "y" => few(rows * rank) * (sums(width) + roundings(2.0)),
        // y's error is carried along; gelu's erf is good to 1.5e-7.
        _ => few(rows * inputs) * (sums(width) + sums(rank) + roundings(11.0)),
    });
}
