//! First values of parameters and feedback, and the factorisation of weights.
//!
//! Every tensor of every replica is drawn from a generator keyed by (seed, layer, what), so a replica starts the same
//! whatever is trained beside it, whatever its rank.

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use faer::{Mat, MatRef};

use super::network::Network;
use super::parameter::{Start, Weight};
use super::pass::Placed;
use super::spec::ModelError;
use crate::feedback::{FeedbackSpec, Init, Pathway};
use crate::ops::View;

/// What a generator is for; part of its key. Parameters of a layer count from zero, in their order.
const P: u64 = 2;
const Q: u64 = 3;
const RANDOM: u64 = 4;

fn parameter(which: usize) -> u64 {
    if which < P as usize { which as u64 } else { RANDOM + 1 + which as u64 }
}

struct Draws(ChaCha8Rng);

impl Draws {
    fn new(seed: u32, layer: usize, purpose: u64) -> Draws {
        let mut generator = ChaCha8Rng::seed_from_u64(u64::from(seed));
        generator.set_stream((layer as u64) << 8 | purpose);
        Draws(generator)
    }

    /// Uniform in [0, 1).
    fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in +-bound.
    fn uniform(&mut self, count: usize, bound: f64) -> Vec<f64> {
        (0..count).map(|_| bound * (2.0 * self.unit() - 1.0)).collect()
    }

    /// Standard normal, by Box and Muller.
    fn normal(&mut self, count: usize) -> Vec<f64> {
        (0..count)
            .map(|_| {
                let (radius, angle) = (1.0 - self.unit(), self.unit());
                (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
            })
            .collect()
    }

    /// Normal of that deviation, drawn again beyond +-2.
    fn truncated(&mut self, count: usize, deviation: f64) -> Vec<f64> {
        let mut draw = || loop {
            let value = deviation * self.normal(1)[0];
            if value.abs() <= 2.0 {
                return value;
            }
        };
        (0..count).map(|_| draw()).collect()
    }
}

/// Standard normal numbers, a function of seed and stream.
pub fn normal(seed: u32, stream: u64, count: usize) -> Vec<f64> {
    let mut generator = ChaCha8Rng::seed_from_u64(u64::from(seed));
    // Apart from the streams of layers and of the order of images.
    generator.set_stream(1 << 48 | stream);
    Draws(generator).normal(count)
}

/// First values of every learned or fixed tensor, all replicas row-major, in the order of writing.
///
/// Weights and biases of dense layers and convolutions are by default U(+-1/sqrt(fan in)), as PyTorch's; norms start as the
/// identity, running statistics at mean zero and variance one.
///
/// # Errors
/// If a factorisation does not converge, which no finite matrix makes happen.
pub fn initialise(
    network: &Network,
    feedback: &FeedbackSpec,
    seeds: &[u32],
) -> Result<Vec<(View, Vec<f64>)>, ModelError> {
    let mut values = Vec::new();
    for placed in &network.layers {
        for (which, parameter) in placed.parameters.iter().enumerate() {
            let all = seeds.iter().flat_map(|&seed| first_values(network, placed, which, seed)).collect();
            values.push((parameter.value, all));
        }
    }
    for weight in &network.weights {
        let mut all: [Vec<f64>; 3] = Default::default();
        for (replica, &seed) in seeds.iter().enumerate() {
            for (all, one) in all.iter_mut().zip(first_feedback(network, weight, feedback, replica, seed)?) {
                all.extend(one);
            }
        }
        let [p, q, random] = all;
        match weight.pathway() {
            Some(Pathway::Factored { p: p_tensor, q: q_tensor, .. }) => values.extend([(p_tensor, p), (q_tensor, q)]),
            Some(Pathway::Random(tensor)) => values.push((tensor, random)),
            Some(Pathway::Exact) | None => {}
        }
    }
    Ok(values)
}

/// Those of one parameter of a layer, one replica's.
fn first_values(network: &Network, placed: &Placed, which: usize, seed: u32) -> Vec<f64> {
    let value = placed.parameters[which].value;
    let mut draws = Draws::new(seed, placed.index, parameter(which));
    let files = network.exchange.iter().filter(|e| e.tensor == value);
    files
        .flat_map(|exchange| match exchange.start {
            Start::Constant(value) => vec![value; exchange.elements()],
            Start::Uniform(bound) => draws.uniform(exchange.elements(), bound),
            Start::Normal(deviation) => draws.truncated(exchange.elements(), deviation),
            Start::Feedback => Vec::new(),
        })
        .collect()
}

/// p, q and full feedback matrix of one replica; empty where the weight has none.
fn first_feedback(
    network: &Network,
    weight: &Weight,
    feedback: &FeedbackSpec,
    replica: usize,
    seed: u32,
) -> Result<[Vec<f64>; 3], ModelError> {
    // Several weights of a layer draw from streams of their own.
    let draws = |purpose| Draws::new(seed, weight.layer, (weight.parameter as u64) << 6 | purpose);
    let (m, k) = (weight.learned.value.rows() as usize, weight.learned.value.cols() as usize);
    match weight.pathway() {
        Some(Pathway::Random(tensor)) => {
            let bound = 1.0 / (k as f64).sqrt();
            Ok([Vec::new(), Vec::new(), draws(RANDOM).uniform(tensor.shape.per_replica(), bound)])
        }
        Some(Pathway::Factored { p: p_tensor, q: q_tensor, .. }) => {
            let (rank, source) = (weight.ranks()[replica] as usize, p_tensor.rows() as usize);
            let first_weight = || {
                let placed = &network.layers[weight.layer];
                first_values(network, placed, weight.parameter, seed)
            };
            let (narrow_p, mut q) = match feedback.initialisation() {
                Init::Svd => factorise(&first_weight(), m, k, rank)?,
                Init::Uniform => (
                    // Drawn row by row of P, so that ranks share their first rows.
                    transpose(&draws(P).uniform(rank * source, 1.0 / (rank as f64).sqrt()), rank, source),
                    draws(Q).uniform(rank * k, (3.0 / k as f64).sqrt()),
                ),
                Init::Orthonormal => {
                    let p = orthonormal(&draws(P).normal(source * rank), source, rank);
                    let q = draws(Q).normal(rank * k);
                    let scale = norm(&first_weight()) / norm(&q);
                    (p, q.into_iter().map(|x| x * scale).collect())
                }
            };
            q.resize(q_tensor.shape.per_replica(), 0.0);
            Ok([pad_columns(&narrow_p, source, rank, p_tensor.cols() as usize), q, Vec::new()])
        }
        Some(Pathway::Exact) | None => Ok(Default::default()),
    }
}

/// p (m x rank) and q (rank x k) whose product is the best approximation of `weight` (m x k, row-major), the root of
/// each singular value on either side.
///
/// # Errors
/// If the decomposition does not converge: the weight holds a non-finite value.
pub fn factorise(weight: &[f64], m: usize, k: usize, rank: usize) -> Result<(Vec<f64>, Vec<f64>), ModelError> {
    let svd = MatRef::from_row_major_slice(weight, m, k)
        .thin_svd()
        .map_err(|_| ModelError::Network("the SVD of a weight did not converge: it is not finite".into()))?;
    let (u, s, v) = (svd.U(), svd.S(), svd.V());
    let mut p = Vec::with_capacity(m * rank);
    for row in 0..m {
        // The sign of a pair of singular vectors is free: the largest part of each right vector is made positive, so
        // that all platforms start alike.
        p.extend((0..rank).map(|j| u[(row, j)] * s[j].sqrt() * sign(v, j)));
    }
    let mut q = Vec::with_capacity(rank * k);
    for j in 0..rank {
        q.extend((0..k).map(|col| v[(col, j)] * s[j].sqrt() * sign(v, j)));
    }
    Ok((p, q))
}

fn sign(v: MatRef<'_, f64>, column: usize) -> f64 {
    let mut largest = 0.0f64;
    for row in 0..v.nrows() {
        // A margin keeps rounding from choosing between equals.
        if v[(row, column)].abs() > largest.abs() * (1.0 + 1e-9) {
            largest = v[(row, column)];
        }
    }
    if largest < 0.0 { -1.0 } else { 1.0 }
}

/// An orthonormal basis of the columns of a random rows x cols matrix, row-major.
fn orthonormal(values: &[f64], rows: usize, cols: usize) -> Vec<f64> {
    let matrix: Mat<f64> = MatRef::from_row_major_slice(values, rows, cols).to_owned();
    let basis = matrix.qr().compute_thin_Q();
    (0..rows).flat_map(|i| (0..cols).map(move |j| (i, j))).map(|(i, j)| basis[(i, j)]).collect()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn transpose(values: &[f64], rows: usize, cols: usize) -> Vec<f64> {
    (0..cols).flat_map(|j| (0..rows).map(move |i| values[i * cols + j])).collect()
}

/// A row-major matrix with zero columns added on the right.
pub fn pad_columns(values: &[f64], rows: usize, from: usize, to: usize) -> Vec<f64> {
    let mut padded = vec![0.0; rows * to];
    for (wide, narrow) in padded.chunks_mut(to).zip(values.chunks(from)) {
        wide[..from].copy_from_slice(narrow);
    }
    padded
}
