//! Matrix products: all transpositions, all epilogues.

use ldfa_gpu::ops::*;
use ldfa_gpu::plan::Variant;

use crate::compare::{Report, roundings, sums};
use crate::scene::{Scene, asymmetric, open, step};

/// Rows, inner, columns; the last four are whole quads in every dimension.
const SHAPES: [[u32; 3]; 22] = [
    [1, 1, 1],
    [1, 257, 1],
    [257, 1, 1],
    [1, 1, 257],
    [7, 1, 3],
    [2, 3, 7],
    [3, 17, 63],
    [17, 257, 2],
    [33, 65, 17],
    [8, 16, 32],
    [64, 64, 64],
    [128, 16, 128],
    [63, 127, 65],
    [65, 129, 127],
    [129, 33, 257],
    [257, 63, 129],
    [9, 31, 33],
    [65, 7, 1],
    [4, 4, 4],
    [36, 20, 68],
    [132, 68, 100],
    [20, 132, 260],
];

/// Which splits of an epilogue are present.
#[derive(Clone, Copy, Debug, Default)]
struct Parts {
    addend: bool,
    bias: bool,
    clamp: bool,
    activation: Option<Activation>,
    gate: Option<Activation>,
}

const NONE: Parts = Parts { addend: false, bias: false, clamp: false, activation: None, gate: None };
const RELU: Option<Activation> = Some(Activation::Relu);
const GELU: Option<Activation> = Some(Activation::Gelu);

/// Each part alone, the combinations that networks use, and all at once.
const EPILOGUES: [Parts; 15] = [
    NONE,
    Parts { addend: true, ..NONE },
    Parts { bias: true, ..NONE },
    Parts { clamp: true, ..NONE },
    Parts { activation: RELU, ..NONE },
    Parts { activation: GELU, ..NONE },
    Parts { gate: RELU, ..NONE },
    Parts { gate: GELU, ..NONE },
    Parts { addend: true, bias: true, ..NONE },
    Parts { bias: true, activation: RELU, ..NONE },
    Parts { bias: true, activation: GELU, ..NONE },
    Parts { clamp: true, gate: RELU, ..NONE },
    Parts { clamp: true, gate: GELU, ..NONE },
    Parts { bias: true, clamp: true, activation: GELU, gate: RELU, ..NONE },
    Parts { addend: true, bias: true, clamp: true, activation: RELU, gate: GELU },
];

/// Adds a product with data of its own.
fn product(scene: &mut Scene, [rows, inner, cols]: [u32; 3], transposes: [bool; 2], splits: Parts, half: Option<Half>) {
    let turn = |transposed: bool, a: u32, b: u32| if transposed { (b, a) } else { (a, b) };
    let (a_rows, a_cols) = turn(transposes[0], rows, inner);
    let (b_rows, b_cols) = turn(transposes[1], inner, cols);
    let (a, b) = (scene.any(a_rows, a_cols), scene.any(b_rows, b_cols));
    let saved = |scene: &mut Scene, f: Activation| match f {
        // Half of what relu saves is zero, where the derivative is defined to be zero too.
        Activation::Relu => scene.filled(rows, cols, |x, r, i, j| (asymmetric(x, r, i, j) - 0.3).max(0.0)),
        Activation::Gelu | Activation::Tanh => scene.any(rows, cols),
    };
    let epilogue = Epilogue {
        addend: splits.addend.then(|| (scene.any(rows, cols), -0.625)),
        bias: splits.bias.then(|| scene.any(1, cols)),
        clamp: splits.clamp.then_some(0.8),
        activation: splits.activation,
        gate: splits.gate.map(|f| (f, saved(scene, f))),
    };
    let out = scene.output(rows, cols);
    // Keeps results where activations bend, whatever the length of the sums. Far to the left gelu is small, and its
    // error is not: there the relative norm says nothing, so the products are turned to the right.
    let sign = if splits.activation == GELU { 1.0 } else { -1.0 };
    let alpha = if scene.draw(2) == 0 { 1.0 } else { sign * 0.7 / f64::from(inner).sqrt() };
    let [transpose_a, transpose_b] = transposes;
    // Factor, addend, bias and gate: six roundings at most; gelu's erf is good to 1.5e-7, two and a half more, and
    // exp to a few.
    let gelus = f64::from(u8::from(splits.activation == GELU) + u8::from(splits.gate == GELU));
    let halves = if half.is_some() { 2.0 / 1024.0 } else { 0.0 };
    let allowed = halves + sums(inner) + roundings(6.0 + 6.0 * gelus);
    scene.push(Gemm { transpose_a, transpose_b, alpha, epilogue, half, ..Gemm::nn(a, b, out) }, |_| allowed);
}

const TRANSPOSES: [[bool; 2]; 4] = [[false, false], [false, true], [true, false], [true, true]];

#[test]
fn products_of_every_shape_in_every_transposition() {
    let mut report = Report::default();
    for replicas in [1, 3] {
        let mut scene = Scene::new(replicas);
        for transposes in TRANSPOSES {
            for shape in SHAPES {
                product(&mut scene, shape, transposes, NONE, None);
            }
        }
        scene.verify(&mut report, &[step(replicas, 0, 0, 1)]);
    }
    report.finish("products");
}

/// Kernels differ in how they load, not in how they store: each meets every epilogue, in one transposition of each.
#[test]
fn every_epilogue() {
    let mut report = Report::default();
    let replicas = 3;
    let mut scene = Scene::new(replicas);
    for (index, splits) in EPILOGUES.into_iter().enumerate() {
        // Rows of whole quads, and not.
        let shape = if index % 2 == 0 { [33, 64, 68] } else { [33, 65, 17] };
        product(&mut scene, shape, TRANSPOSES[index % 4], splits, None);
    }
    scene.verify(&mut report, &[step(replicas, 0, 0, 1)]);
    report.finish("epilogues");
}

/// Row sums of op(a), and inner dimensions cut into splits that are added again, with whole quads and without.
#[test]
fn row_sums_and_parts() {
    let mut report = Report::default();
    let replicas = 2;
    let mut scene = Scene::new(replicas);
    for ([rows, inner, cols], splits) in [([36, 100, 20], 1), ([33, 101, 19], 1), ([68, 100, 36], 3), ([7, 257, 65], 9)]
    {
        for transpose_a in [false, true] {
            let a = if transpose_a { scene.any(inner, rows) } else { scene.own(rows, inner) };
            let b = scene.own(inner, cols);
            let (pieces, sums) = (scene.output(splits * rows, cols), Some(scene.output(splits, rows)));
            let gemm = Gemm { transpose_a, sums, splits, ..Gemm::nn(a, b, pieces) };
            scene.push(gemm, |_| sums_of(inner));
            let out = scene.output(rows, cols);
            let epilogue = Epilogue { clamp: Some(20.0), bias: Some(scene.own(1, cols)), ..Epilogue::default() };
            let added = SumSplits { a: pieces, out, alpha: 0.5, epilogue, accumulate: false };
            scene.push(added, |_| sums_of(inner) + roundings(3.0));
            // The same, added to what is there.
            let mut held = |rows, cols| scene.updated(rows, cols, asymmetric);
            let (out, sums, again) = (held(rows, cols), Some(held(1, rows)), held(rows, cols));
            let whole = Gemm { out, sums, splits: 1, accumulate: true, ..gemm };
            scene.push(whole, |_| sums_of(inner) + roundings(1.0));
            let added = SumSplits { out: again, accumulate: true, ..added };
            scene.push(added, |_| sums_of(inner) + roundings(4.0));
        }
    }
    scene.verify(&mut report, &[step(replicas, 0, 0, 1)]);
    report.finish("row sums and splits");
}

/// Factors in 16 bits, once of numbers that 16 bits hold exactly, so that nothing but sums may round, and once of any.
/// Lifted, in splits, with row sums, with every transposition.
#[test]
fn half_precision() {
    let profile = open().profile();
    if !profile.half {
        println!("half precision: this adapter does not compute in 16 bits, nothing was compared");
        return;
    }
    println!("matrix units: {:?} a side", profile.matrix_side);
    let mut report = Report::default();
    let replicas = 2;
    for exact in [true, false] {
        let mut scene = Scene::new(replicas);
        for (index, shape) in SHAPES.into_iter().enumerate().step_by(2) {
            for [transpose_a, transpose_b] in [TRANSPOSES[index / 2 % 4], TRANSPOSES[(index / 2 + 1) % 4]] {
                let [rows, inner, cols] = shape;
                let turn = |transposed: bool, a: u32, b: u32| if transposed { (b, a) } else { (a, b) };
                let mut factor = |(rows, cols)| {
                    scene.filled(rows, cols, |x, r, i, j| {
                        let value = asymmetric(x, r, i, j);
                        if exact { (value * 256.0).round() / 256.0 } else { value }
                    })
                };
                let (a, b) = (factor(turn(transpose_a, rows, inner)), factor(turn(transpose_b, inner, cols)));
                let splits = if inner > 100 { 3 } else { 1 };
                let (out, sums) = (scene.output(splits * rows, cols), Some(scene.output(splits, rows)));
                let half = Some(Half { lift: [index as i32 % 5, -(index as i32 % 3)] });
                let gemm = Gemm { transpose_a, transpose_b, splits, sums, half, ..Gemm::nn(a, b, out) };
                let rounded = if exact { 0.0 } else { 2.0 / 1024.0 };
                scene.push(gemm, |_| rounded + sums_of(inner));
            }
        }
        for (index, splits) in EPILOGUES.into_iter().enumerate().filter(|_| !exact) {
            let shape = if index % 2 == 0 { [33, 64, 68] } else { [33, 65, 17] };
            product(&mut scene, shape, TRANSPOSES[index % 4], splits, Some(Half { lift: [4, 0] }));
        }
        scene.verify(&mut report, &[step(replicas, 0, 0, 1)]);
    }
    report.finish("half precision");
}

/// How many networks are trained side by side enters the choice among kernels that differ in nothing but the size of their
/// tiles: that choice must not enter the result.
#[test]
fn kernels_of_one_family_agree_to_the_bit() {
    type Outputs = Vec<(String, View, Vec<f64>)>;
    let mut scene = Scene::new(2);
    // Less than a tile, more, and whole ones; with quads, and without.
    for [rows, inner, cols] in [[7, 257, 65], [129, 33, 70], [36, 20, 68], [132, 68, 100]] {
        for [transpose_a, transpose_b] in [[false, true], [true, false]] {
            let turn = |transposed: bool, a: u32, b: u32| if transposed { (b, a) } else { (a, b) };
            let mut factor = |(rows, cols)| scene.filled(rows, cols, asymmetric);
            let (a, b) = (factor(turn(transpose_a, rows, inner)), factor(turn(transpose_b, inner, cols)));
            let splits = if inner > 100 { 3 } else { 1 };
            let (out, sums) = (scene.output(splits * rows, cols), Some(scene.output(splits, rows)));
            scene.push(Gemm { transpose_a, transpose_b, splits, sums, ..Gemm::nn(a, b, out) }, |_| 0.0);
        }
    }
    let family = |variant: Variant| variant.to_string().split('-').next().map(str::to_owned).unwrap_or_default();
    let mut report = Report::default();
    let mut firsts: Vec<(String, Variant, Outputs)> = Vec::new();
    let mut compared = 0;
    for variant in scene.variants(&open().profile()) {
        // The yardstick is a tile that reads no quads.
        let family = if variant == Variant::Yardstick { family(Variant::Tile64x64) } else { family(variant) };
        let outputs = scene.outputs(&mut scene.run(Some(variant), &[step(2, 0, 0, 1)]));
        match firsts.iter().find(|(known, ..)| *known == family) {
            None => firsts.push((family, variant, outputs)),
            Some((_, first, expected)) => {
                compared += 1;
                for ((name, _, found), (_, _, expected)) in outputs.iter().zip(expected) {
                    report.same(&format!("{variant} and {first}, {name}"), found, expected);
                }
            }
        }
    }
    assert!(compared >= 5, "tiles of five sizes and the yardstick at the least");
    report.finish("kernels of one family");
}

fn sums_of(terms: u32) -> f64 {
    sums(terms) + roundings(2.0)
}
