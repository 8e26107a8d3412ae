//! First values of parameters and feedback, and the factorisation of weights.
//!
//! Every tensor of every replica is drawn from a generator keyed by (seed, layer, what), so a replica starts the same
//! whatever is trained beside it, whatever its rank.

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use faer::{Mat, MatRef};

use super::network::{LinearLayer, Network};
use super::spec::ModelError;
use crate::feedback::{FeedbackSpec, Init, Pathway};
use crate::ops::Tensor;

/// What a generator is for; part of its key.
#[derive(Clone, Copy)]
enum Purpose {
    Weight,
    Bias,
    P,
    Q,
    Random,
}

struct Draws(ChaCha8Rng);

impl Draws {
    fn new(seed: u32, layer: usize, purpose: Purpose) -> Draws {
        let mut generator = ChaCha8Rng::seed_from_u64(u64::from(seed));
        generator.set_stream((layer as u64) << 8 | purpose as u64);
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
}

/// Standard normal numbers, a function of seed and stream.
pub(crate) fn normal(seed: u32, stream: u64, count: usize) -> Vec<f64> {
    let mut generator = ChaCha8Rng::seed_from_u64(u64::from(seed));
    // Apart from the streams of layers and of the order of images.
    generator.set_stream(1 << 48 | stream);
    Draws(generator).normal(count)
}

/// First values of every learned or fixed tensor, all replicas row-major, in the order of writing.
///
/// W and b are U(+-1/sqrt(fan in)), PyTorch's default; batch norm starts as the identity with unit running variance.
///
/// # Errors
/// If a factorisation does not converge, which no finite matrix makes happen.
pub fn initialise(
    network: &Network,
    feedback: &FeedbackSpec,
    seeds: &[u32],
) -> Result<Vec<(Tensor, Vec<f64>)>, ModelError> {
    let mut values = Vec::new();
    for exchange in &network.exchange {
        if exchange.name.ends_with(".running_mean") {
            let width = exchange.tensor.cols() as usize;
            let one = [vec![0.0; width], vec![1.0; width]].concat();
            values.push((exchange.tensor, one.repeat(seeds.len())));
        }
    }
    for linear in &network.linear {
        let mut all: [Vec<f64>; 5] = Default::default();
        for (replica, &seed) in seeds.iter().enumerate() {
            let start = start(linear, feedback, replica, seed)?;
            for (all, one) in all.iter_mut().zip(start) {
                all.extend(one);
            }
        }
        let [weight, bias, p, q, random] = all;
        values.push((linear.weight.value, weight));
        values.push((linear.bias.value, bias));
        match linear.pathway {
            Some(Pathway::Factored { p: p_tensor, q: q_tensor, .. }) => {
                values.extend([(p_tensor, p), (q_tensor, q)]);
            }
            Some(Pathway::Random(tensor)) => values.push((tensor, random)),
            Some(Pathway::Exact) | None => {}
        }
    }
    let normal_scales = network.exchange.iter().filter(|e| e.shape.len() == 1 && e.name.ends_with(".weight"));
    values.extend(normal_scales.map(|e| (e.tensor, vec![1.0; e.tensor.shape.elements()])));
    Ok(values)
}

/// Weight, bias, p, q and full feedback matrix of one replica; empty where the layer has none.
fn start(
    linear: &LinearLayer,
    feedback: &FeedbackSpec,
    replica: usize,
    seed: u32,
) -> Result<[Vec<f64>; 5], ModelError> {
    let draws = |purpose| Draws::new(seed, linear.index, purpose);
    let (m, k) = (linear.weight.value.rows() as usize, linear.weight.value.cols() as usize);
    let bound = 1.0 / (k as f64).sqrt();
    let weight = draws(Purpose::Weight).uniform(m * k, bound);
    let bias = draws(Purpose::Bias).uniform(m, bound);
    let (mut p, mut q, mut random) = (Vec::new(), Vec::new(), Vec::new());
    match linear.pathway {
        Some(Pathway::Random(tensor)) => random = draws(Purpose::Random).uniform(tensor.shape.per_replica(), bound),
        Some(Pathway::Factored { p: p_tensor, q: q_tensor, .. }) => {
            let rank = linear.ranks[replica] as usize;
            let source = p_tensor.rows() as usize;
            let (narrow_p, narrow_q) = match feedback.initialisation() {
                Init::Svd => factorise(&weight, m, k, rank)?,
                Init::Uniform => (
                    // Drawn row by row of P, so that ranks share their first rows.
                    transpose(&draws(Purpose::P).uniform(rank * source, 1.0 / (rank as f64).sqrt()), rank, source),
                    draws(Purpose::Q).uniform(rank * k, (3.0 / k as f64).sqrt()),
                ),
                Init::Orthonormal => {
                    let p = orthonormal(&draws(Purpose::P).normal(source * rank), source, rank);
                    let q = draws(Purpose::Q).normal(rank * k);
                    let scale = norm(&weight) / norm(&q);
                    (p, q.into_iter().map(|x| x * scale).collect())
                }
            };
            p = pad_columns(&narrow_p, source, rank, p_tensor.cols() as usize);
            q = narrow_q;
            q.resize(q_tensor.shape.per_replica(), 0.0);
        }
        Some(Pathway::Exact) | None => {}
    }
    Ok([weight, bias, p, q, random])
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
pub(crate) fn pad_columns(values: &[f64], rows: usize, from: usize, to: usize) -> Vec<f64> {
    let mut padded = vec![0.0; rows * to];
    for (wide, narrow) in padded.chunks_mut(to).zip(values.chunks(from)) {
        wide[..from].copy_from_slice(narrow);
    }
    padded
}
