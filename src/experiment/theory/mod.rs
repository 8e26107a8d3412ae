//! The linear network of the theory: which modes of the data does it learn through feedback of low rank?
//!
//! outputs = W2 W1 x learns a random linear map by full-batch gradient descent on ||outputs - targets||^2 / 2. In the singular
//! basis of the input-output covariance S = U diag(s) V^T, mode i is learned as far as its overlap
//! (U^T W2 W1 V)_ii / s_i has come to 1. The inputs are whitened Gaussians (X^T X / n = 1), which stands for a batch without
//! end: the weights then obey closed equations, integrated here in f64 beside the engine's own steps.

mod picture;
mod results;

use std::ops::Range;

use faer::{Mat, MatRef};

pub use picture::draw_modes;
pub use results::{CAPTION, Ending, endings, read_csv, table, write_csv};

use super::ExperimentError;
use crate::feedback::{BackwardWeight, Observed, PRule, Pathway, QRule, Seen};
use crate::gpu::DeviceChoice;
use crate::model::{ModelError, factorise, normal};
use crate::ops::{Dtype, Epilogue, Gemm, Phase, Recording, ReplicaStep, Role, ShapeError, StepState, View};
use crate::optim::{GroupBuilder, Learned, OptimizerSpec};
use crate::plan::{Blocking, Options};
use crate::train::machine::{Preparation, machine};

/// Sizes and rates; the default is the setting of the paper.
#[derive(Clone, Debug)]
pub struct Setting {
    /// n, inputs.
    pub inputs: usize,
    /// k, hidden units.
    pub hidden: usize,
    /// m, outputs.
    pub outputs: usize,
    /// Rows of the batch, at least `inputs`; since they are whitened, how many is without effect.
    pub samples: usize,
    /// Learning rate of the weights.
    pub rate: f64,
    /// Learning rate of P and Q at first, and by what it is multiplied in every iteration.
    pub feedback_rate: (f64, f64),
    /// L2 decay of the weights.
    pub decay: f64,
    /// Steps.
    pub iterations: u32,
    /// Steps from one row of the result to the next.
    pub every: u32,
    /// Of all random numbers.
    pub seed: u32,
}

impl Default for Setting {
    fn default() -> Setting {
        Setting {
            inputs: 128,
            hidden: 64,
            outputs: 64,
            samples: 256,
            rate: 2.5e-3,
            feedback_rate: (1e-3, 0.999),
            decay: 1e-5,
            iterations: 5000,
            every: 10,
            seed: 0,
        }
    }
}

/// How the error reaches W1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback {
    /// By W2^T.
    Exact,
    /// By random P and Q that stay.
    Fixed {
        /// Rows of P.
        rank: usize,
    },
    /// By P and Q that follow W2, from its truncated SVD on.
    Learned {
        /// Rows of P.
        rank: usize,
    },
}

impl Feedback {
    /// Name in tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Feedback::Exact => "backprop",
            Feedback::Fixed { .. } => "fixed",
            Feedback::Learned { .. } => "learned",
        }
    }

    /// Rank, where there is one.
    pub fn rank(self) -> Option<usize> {
        match self {
            Feedback::Exact => None,
            Feedback::Fixed { rank } | Feedback::Learned { rank } => Some(rank),
        }
    }
}

/// Overlaps of all modes over the iterations.
#[derive(Clone, Debug)]
pub struct Trajectory {
    /// How the error travelled.
    pub feedback: Feedback,
    /// Of data, weights and fixed feedback.
    pub seed: u32,
    /// Singular values of the covariance, the largest first.
    pub modes: Vec<f64>,
    /// Steps before each row.
    pub iterations: Vec<u32>,
    /// The engine's, mode by mode in each row.
    pub engine: Vec<Vec<f64>>,
    /// Those of the closed equations.
    pub closed: Vec<Vec<f64>>,
}

impl Trajectory {
    /// Mean overlap of some modes at the end.
    pub fn mean(&self, modes: Range<usize>) -> f64 {
        let Some(last) = self.engine.last() else { return f64::NAN };
        let chosen = &last[modes.start.min(last.len())..modes.end.min(last.len())];
        chosen.iter().sum::<f64>() / chosen.len() as f64
    }

    /// Largest difference between engine and closed equations, of any mode at any time.
    pub fn distance(&self) -> f64 {
        let pairs = self.engine.iter().flatten().zip(self.closed.iter().flatten());
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, |most, d| if d > most || d.is_nan() { d } else { most })
    }
}

/// What all trajectories of a setting start from.
#[derive(Clone, Debug)]
pub struct Problem {
    setting: Setting,
    /// samples x n.
    x: Mat<f64>,
    /// samples x m.
    targets: Mat<f64>,
    /// m x n.
    covariance: Mat<f64>,
    u: Mat<f64>,
    v: Mat<f64>,
    /// Singular values of the covariance, the largest first.
    pub modes: Vec<f64>,
    w1: Mat<f64>,
    w2: Mat<f64>,
}

impl Problem {
    /// Draws data and first weights.
    ///
    /// # Errors
    /// If a size makes no sense, or a decomposition does not converge.
    pub fn new(setting: Setting) -> Result<Problem, ExperimentError> {
        let Setting { inputs: n, hidden: k, outputs: m, samples, seed, .. } = setting;
        if n == 0 || k == 0 || m == 0 || samples < n || setting.every == 0 || setting.iterations == 0 {
            return Err(ExperimentError::Setting(format!(
                "theory: {n} inputs, {k} hidden units, {m} outputs, {samples} samples, {} iterations, one row every {}: all \
                 must be at least 1, and samples at least the inputs",
                setting.iterations, setting.every
            )));
        }
        let gaussian = |stream: u64, rows: usize, cols: usize, scale: f64| {
            let values = normal(seed, stream, rows * cols);
            Mat::from_fn(rows, cols, |i, j| scale * values[i * cols + j])
        };
        let x = gaussian(0, samples, n, 1.0).qr().compute_thin_Q() * faer::Scale((samples as f64).sqrt());
        let map = gaussian(1, m, k, 1.0) * gaussian(2, k, n, 1.0) * faer::Scale(1.0 / (k as f64).sqrt());
        let targets = &x * map.transpose();
        let covariance = targets.transpose() * &x * faer::Scale(1.0 / samples as f64);
        let svd =
            covariance.thin_svd().map_err(|_| ExperimentError::Setting("theory: the SVD did not converge".into()))?;
        let (u, v) = (svd.U().to_owned(), svd.V().to_owned());
        let modes = (0..m.min(n)).map(|i| svd.S()[i]).collect();
        let (w1, w2) = (gaussian(3, k, n, 1.0 / k as f64), gaussian(4, m, k, 1.0 / m as f64));
        Ok(Problem { setting, x, targets, covariance, u, v, modes, w1, w2 })
    }

    /// p = P^T (m x r) and q = Q^T (r x k) at first.
    fn factors(&self, feedback: Feedback) -> Result<Option<[Mat<f64>; 2]>, ExperimentError> {
        let Setting { hidden: k, outputs: m, seed, .. } = self.setting;
        let Some(rank) = feedback.rank() else { return Ok(None) };
        if rank == 0 || rank > m.min(k) {
            let problem = format!("theory: rank {rank} must lie between 1 and {}", m.min(k));
            return Err(ExperimentError::Setting(problem));
        }
        if let Feedback::Fixed { .. } = feedback {
            let (p, q) = (normal(seed, 5, m * rank), normal(seed, 6, k * rank));
            let basis = |values: &[f64], rows| MatRef::from_row_major_slice(values, rows, rank).qr().compute_thin_Q();
            return Ok(Some([basis(&p, m), basis(&q, k).transpose().to_owned()]));
        }
        let (p, q) = factorise(&row_major(&self.w2), m, k, rank)?;
        let [p, q] = [MatRef::from_row_major_slice(&p, m, rank), MatRef::from_row_major_slice(&q, rank, k)];
        // The singular values, of which either factor has the root, all go to P.
        let root = |j: usize| q.row(j).iter().map(|x| x * x).sum::<f64>().sqrt();
        let p = Mat::from_fn(m, rank, |i, j| p[(i, j)] * root(j));
        let q = Mat::from_fn(rank, k, |j, i| q[(j, i)] / root(j));
        Ok(Some([p, q]))
    }

    fn overlaps(&self, w2: &Mat<f64>, w1: &Mat<f64>) -> Vec<f64> {
        let rotated = self.u.transpose() * w2 * w1 * &self.v;
        self.modes.iter().enumerate().map(|(i, s)| rotated[(i, i)] / s).collect()
    }

    /// Trains the network on a device, and integrates the closed equations beside it.
    ///
    /// # Errors
    /// If the rank does not fit or the device fails.
    pub fn run(&self, feedback: Feedback, device: &DeviceChoice) -> Result<Trajectory, ExperimentError> {
        let factors = self.factors(feedback)?;
        let recorded = self.record(feedback).map_err(ModelError::from)?;
        let mut executor = machine(&recorded.recording, device, Options::default(), &Preparation::default())?.executor;
        recorded.start(self, factors.as_ref(), executor.as_mut())?;
        let Setting { iterations, every, outputs: m, hidden: k, inputs: n, .. } = self.setting;
        let mut closed = Closed { w1: self.w1.clone(), w2: self.w2.clone(), factors };
        let mut found = Trajectory {
            feedback,
            seed: self.setting.seed,
            modes: self.modes.clone(),
            iterations: Vec::new(),
            engine: Vec::new(),
            closed: Vec::new(),
        };
        for begin in (0..=iterations).step_by(every as usize) {
            let w2 = executor.read(recorded.w2.value)?;
            let w1 = executor.read(recorded.w1.value)?;
            let [w2, w1] = [(&w2, m, k), (&w1, k, n)].map(|(w, rows, cols)| from_row_major(w, rows, cols));
            found.iterations.push(begin);
            found.engine.push(self.overlaps(&w2, &w1));
            found.closed.push(self.overlaps(&closed.w2, &closed.w1));
            let steps: Vec<StepState> = (begin..(begin + every).min(iterations)).map(|i| self.step(i)).collect();
            executor.run(Phase::Train, &steps)?;
            for step in &steps {
                closed.step(self, step.replicas[0].rate, feedback);
            }
        }
        Ok(found)
    }

    fn step(&self, step: u32) -> StepState {
        let (rate, factor) = self.setting.feedback_rate;
        let rate = [self.setting.rate, rate * factor.powf(f64::from(step))];
        let replica = ReplicaStep { seed: self.setting.seed, rate, decay: [self.setting.decay, 0.0] };
        let active_rows = self.setting.samples as u32;
        StepState { step, cursor: 0, active_rows, groups: Default::default(), replicas: vec![replica] }
    }

    /// The network as operations; p q stands in for W2.
    fn record(&self, feedback: Feedback) -> Result<Recorded, ShapeError> {
        let size = |n: usize| n as u32;
        let (n, k, m, rows) = (
            size(self.setting.inputs),
            size(self.setting.hidden),
            size(self.setting.outputs),
            size(self.setting.samples),
        );
        let mut rec = Recording::new(1);
        let (x, targets) = (rec.state("x", rows, n, Dtype::F32), rec.state("targets", rows, m, Dtype::F32));
        let fault = rec.state("fault", 1, 1, Dtype::U32);
        let (mut weights, mut others) = (GroupBuilder::default(), GroupBuilder::default());
        let (w1, w2) = (weights.add("w1", k, n), weights.add("w2", m, k));
        let learned = match feedback {
            Feedback::Learned { rank } => Some((others.add("p", m, size(rank)), others.add("q", size(rank), k))),
            _ => None,
        };
        let plain = OptimizerSpec::sgd(1.0);
        let groups = [weights.finish(&mut rec, "weights", 0, &plain), others.finish(&mut rec, "feedback", 1, &plain)];
        let member = |group: usize, slot: usize| {
            groups[group].as_ref().map(|g| g.member(slot)).expect("a group with members was just laid out")
        };
        let (w1, w2) = (member(0, w1), member(0, w2));
        let pathway = match (feedback, learned) {
            (Feedback::Exact, _) => Pathway::Exact,
            (Feedback::Learned { .. }, Some((p, q))) => {
                let (p, q) = (member(1, p), member(1, q));
                let learn_p = Some((PRule::Normative, p.gradient));
                Pathway::Factored { p: p.value, q: q.value, learn_p, learn_q: Some((QRule::Normative, q.gradient)) }
            }
            (Feedback::Fixed { rank } | Feedback::Learned { rank }, _) => {
                let (p, q) = (rec.state("p", m, size(rank), Dtype::F32), rec.state("q", size(rank), k, Dtype::F32));
                Pathway::Factored { p, q, learn_p: None, learn_q: None }
            }
        };

        rec.begin(Phase::Train);
        let (h, delta) = (rec.scratch("h", rows, k), rec.scratch("delta", rows, m));
        rec.push(Gemm::nt(x, w1.value, h))?;
        // (outputs - targets) / samples: the derivative of the mean.
        let mean = 1.0 / f64::from(rows);
        let epilogue = Epilogue { addend: Some((targets, -mean)), ..Epilogue::default() };
        rec.push(Gemm { alpha: mean, epilogue, ..Gemm::nt(h, w2.value, delta) })?;
        rec.role(Role::WeightGradient);
        rec.push(Gemm::tn(delta, h, w2.gradient))?;
        let way = BackwardWeight { pathway: &pathway, weight: w2, window: None };
        let (sent, y) = way.transport(&mut rec, delta, None, None)?;
        rec.role(Role::WeightGradient);
        rec.push(Gemm::tn(sent, x, w1.gradient))?;
        let mut observed = Observed::default();
        if let Some(y) = y {
            let seen = Seen { source: delta, y, statistics: delta, input: h, window: None };
            observed = way.observe(&mut rec, &seen, observed)?;
        }
        way.learn(&mut rec, observed)?;
        for group in groups.iter().flatten() {
            group.record(&mut rec, fault)?;
        }
        Ok(Recorded { recording: rec, x, targets, w1, w2, pathway })
    }
}

struct Recorded {
    recording: Recording,
    x: View,
    targets: View,
    w1: Learned,
    w2: Learned,
    pathway: Pathway,
}

impl Recorded {
    fn start(
        &self,
        problem: &Problem,
        factors: Option<&[Mat<f64>; 2]>,
        executor: &mut Blocking,
    ) -> Result<(), ExperimentError> {
        executor.write(self.x, &row_major(&problem.x))?;
        executor.write(self.targets, &row_major(&problem.targets))?;
        executor.write(self.w1.value, &row_major(&problem.w1))?;
        executor.write(self.w2.value, &row_major(&problem.w2))?;
        if let (Pathway::Factored { p, q, .. }, Some([p_start, q_start])) = (self.pathway, factors) {
            executor.write(p, &row_major(p_start))?;
            executor.write(q, &row_major(q_start))?;
        }
        Ok(())
    }
}

/// The weights of the closed equations.
struct Closed {
    w1: Mat<f64>,
    w2: Mat<f64>,
    factors: Option<[Mat<f64>; 2]>,
}

impl Closed {
    /// With D = S - W2 W1: dW2 = D W1^T, dW1 = (p q)^T D, and of learned factors dp = (W2 - p q) q^T, dq = p^T (W2 - p q).
    fn step(&mut self, problem: &Problem, [rate, feedback_rate]: [f64; 2], feedback: Feedback) {
        let difference = &problem.covariance - &self.w2 * &self.w1;
        let by_w2 = &difference * self.w1.transpose();
        let by_w1 = match &self.factors {
            None => self.w2.transpose() * &difference,
            Some([p, q]) => q.transpose() * (p.transpose() * &difference),
        };
        if let (Feedback::Learned { .. }, Some([p, q])) = (feedback, &mut self.factors) {
            let misfit = &self.w2 - &*p * &*q;
            let (by_p, by_q) = (&misfit * q.transpose(), p.transpose() * &misfit);
            *p += by_p * faer::Scale(feedback_rate);
            *q += by_q * faer::Scale(feedback_rate);
        }
        let kept = faer::Scale(1.0 - rate * problem.setting.decay);
        self.w2 = &self.w2 * kept + by_w2 * faer::Scale(rate);
        self.w1 = &self.w1 * kept + by_w1 * faer::Scale(rate);
    }
}

fn row_major(matrix: &Mat<f64>) -> Vec<f64> {
    (0..matrix.nrows()).flat_map(|i| (0..matrix.ncols()).map(move |j| matrix[(i, j)])).collect()
}

fn from_row_major(values: &[f64], rows: usize, cols: usize) -> Mat<f64> {
    MatRef::from_row_major_slice(values, rows, cols).to_owned()
}

/// Each once.
fn feedbacks(trajectories: &[Trajectory]) -> Vec<Feedback> {
    let mut feedbacks = Vec::new();
    for trajectory in trajectories {
        if !feedbacks.contains(&trajectory.feedback) {
            feedbacks.push(trajectory.feedback);
        }
    }
    feedbacks
}
