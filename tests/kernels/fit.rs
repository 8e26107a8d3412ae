//! Factors that follow their weight: the gradients of both in one operation.

use ldfa_gpu::ops::*;

use crate::compare::{Report, identical, roundings, sums};
use crate::scene::{Scene, asymmetric, open, step};

/// m, r, k.
const SHAPES: [[u32; 3]; 11] = [
    [1, 1, 1],
    [10, 10, 64],
    [7, 3, 65],
    [64, 16, 64],
    [33, 8, 31],
    [257, 9, 5],
    [2, 2, 300],
    [129, 15, 130],
    [32, 12, 32],
    [5, 7, 127],
    [128, 16, 36],
];

/// Places in the rows, with something before, between and behind.
fn places([m, r, k]: [u32; 3]) -> ([u32; 2], u32) {
    let p = 3;
    let q = p + m * r + 5;
    ([p, q], (q + r * k + 2).next_multiple_of(4))
}

/// Whether the adapter has the one kernel; where it has not, plans keep to products.
fn has_kernel() -> bool {
    let found = open().profile().subgroup_lanes == Some(8);
    if !found {
        println!("fit: left out, no subgroups of eight lanes here");
    }
    found
}

#[test]
fn gradients_of_either_factor_and_both() {
    if !has_kernel() {
        return;
    }
    let mut report = Report::default();
    for replicas in [1, 3] {
        let mut scene = Scene::new(replicas);
        for extents @ [m, r, k] in SHAPES {
            for (of_p, of_q) in [(true, true), (true, false), (false, true)] {
                let (at, length) = places(extents);
                let (values, gradients) = (scene.own(1, length), scene.updated(1, length, asymmetric));
                let w_q = of_p.then(|| scene.own(m, r));
                let p_w = of_q.then(|| scene.own(r, k));
                let op = Fit { values, gradients, at, extents, w_q, p_w };
                scene.push(op, |_| sums(m.max(k)) + sums(r) + roundings(3.0));
            }
        }
        scene.verify(&mut report, &[step(replicas, 0, 0, 1)]);
    }
    report.finish("fits");
}

/// Rows of q are unit vectors, so that p (q q^T) is p itself and how far W q^T lies from it is known to the bit.
#[test]
fn rounding_is_no_gradient() {
    let ([m, r, k], mut scene) = ([37, 6, 40], Scene::new(3));
    let (at, length) = places([m, r, k]);
    let element = |i: u32| 1.0 + f64::from(i % 13);
    let in_p = |i: u32| (at[0]..at[0] + m * r).contains(&i);
    let in_q = |i: u32| (at[1]..at[1] + r * k).contains(&i);
    let value = |i: u32| match i {
        i if in_p(i) => element(i - at[0]),
        i if in_q(i) => f64::from((i - at[1]) / k == (i - at[1]) % k),
        _ => f64::NAN,
    };
    let values = scene.filled(1, length, |_, _, _, i| value(i));
    let mark = |replica: u32, i: u32| f64::from(1000 * replica + i);
    let gradients = scene.updated(1, length, |_, replica, _, i| mark(replica, i));
    // Replicas differ in whether they are kept: off by 2^-21, 2^-19 and not at all.
    let off = [2f64.powi(-21), 2f64.powi(-19), 0.0];
    let w_q = scene.filled(m, r, |_, replica, i, j| element(i * r + j) * (1.0 + off[replica as usize]));
    scene.push(Fit { values, gradients, at, extents: [m, r, k], w_q: Some(w_q), p_w: None }, |_| 0.0);
    let now = step(3, 0, 0, 1);
    if !has_kernel() {
        return;
    }
    for variant in scene.variants(&open().profile()) {
        let found = scene.run(Some(variant), std::slice::from_ref(&now)).read(gradients).unwrap();
        for (replica, found) in (0..).zip(found.chunks(length as usize)) {
            let expected = (0..length).map(|i| match (in_p(i), replica) {
                (true, 1) => -element(i - at[0]) * off[1],
                (true, _) => 0.0,
                (false, _) => mark(replica, i),
            });
            let expected: Vec<f64> = expected.collect();
            let plain: Vec<f64> = found.iter().map(|x| x + 0.0).collect();
            assert!(identical(&plain, &expected), "{variant}, replica {replica}");
        }
    }
}

/// What lies in p (element (i, j) of one of rank 5) and q where the rank is filled up with zeros.
fn padded(rank: u32, replicas: u32) -> (Scene, View) {
    let ([m, r, k], mut scene) = ([70, 5, 45], Scene::new(replicas));
    let (at, length) = places([m, rank, k]);
    let noise =
        |matrix: u32, replica: u32, i: u32, j: u32| f64::from((matrix + 7 * i + 3 * i * j + replica) % 61) / 60.0;
    let p = |replica, i, j| if j < r { noise(1, replica, i, j) - 0.4 } else { 0.0 };
    let q = |replica, j, x| if j < r { noise(2, replica, j, x) - 0.3 } else { 0.0 };
    let value = move |replica, i: u32| match i {
        i if (at[0]..at[0] + m * rank).contains(&i) => p(replica, (i - at[0]) / rank, (i - at[0]) % rank),
        i if (at[1]..at[1] + rank * k).contains(&i) => q(replica, (i - at[1]) / k, (i - at[1]) % k),
        _ => 7.0,
    };
    let values = scene.filled(1, length, |_, replica, _, i| value(replica, i));
    let gradients = scene.updated(1, length, |_, _, _, _| 0.0);
    let w_q = scene.filled(m, rank, |_, replica, i, j| if j < r { noise(3, replica, i, j) } else { 0.0 });
    let p_w = scene.filled(rank, k, |_, replica, j, x| if j < r { noise(4, replica, j, x) } else { 0.0 });
    scene.push(Fit { values, gradients, at, extents: [m, rank, k], w_q: Some(w_q), p_w: Some(p_w) }, |_| 0.0);
    (scene, gradients)
}

/// A network of a smaller rank beside others gets zeros for the rest; to the bit it learns what it learns alone.
#[test]
fn ranks_of_padding_change_no_bit() {
    let ([m, r, k], now) = ([70, 5, 45], |count| [step(count, 0, 0, 1)]);
    let (scene, alone) = padded(r, 1);
    if !has_kernel() {
        return;
    }
    for variant in scene.variants(&open().profile()) {
        let (at, _) = places([m, r, k]);
        let alone = scene.run(Some(variant), &now(1)).read(alone).unwrap();
        let own = [&alone[at[0] as usize..][..(m * r) as usize], &alone[at[1] as usize..][..(r * k) as usize]].concat();
        for (rank, replicas) in [(8, 1), (12, 1), (16, 3)] {
            let (scene, beside) = padded(rank, replicas);
            let all = scene.run(Some(variant), &now(replicas)).read(beside).unwrap();
            let (at, _) = places([m, rank, k]);
            let columns = |i: u32| (0..r).map(move |j| i * rank + j);
            let p = (0..m).flat_map(columns).map(|i| all[(at[0] + i) as usize]);
            let q = (0..r * k).map(|i| all[(at[1] + i) as usize]);
            assert!(identical(&p.chain(q).collect::<Vec<_>>(), &own), "{variant}, rank {rank}, {replicas} replicas");
        }
    }
}
