//! The operations of a feedback pathway.
//!
//! In matrices: p = P^T is m x r and q = Q^T is r x k, so that p q stands in for W (m x k) and errors, which are rows,
//! multiply from the left: `y = delta p`, `error = y q`.

use super::{PRule, QRule};
use crate::ops::{Add, Correlate, Epilogue, Gemm, Half, Oja, Recording, Role, ShapeError, Significant, Tensor, Window};
use crate::optim::Parameter;

/// What stands in for a layer's W on the way back.
#[derive(Clone, Copy, Debug)]
pub enum Pathway {
    /// W itself.
    Exact,
    /// A fixed matrix, m x k.
    Random(Tensor),
    /// p q of low rank.
    Factored {
        /// P^T, m x r.
        p: Tensor,
        /// Q^T, r x k.
        q: Tensor,
        /// Rule and gradient of p; `None` if it is fixed.
        learn_p: Option<(PRule, Tensor)>,
        /// Rule and gradient of q; `None` if it is fixed.
        learn_q: Option<(QRule, Tensor)>,
    },
}

impl Pathway {
    /// The same with gradients elsewhere, but for those that are written once a step: those that no sample enters by its first
    /// accumulation step, the Oja rule's by its last.
    pub fn later(self, place: impl Fn(Tensor) -> Tensor) -> Pathway {
        let Pathway::Factored { p, q, learn_p, learn_q } = self else { return self };
        let learn_p = learn_p
            .filter(|(rule, _)| *rule != PRule::Normative)
            .map(|(rule, g)| (rule, if rule == PRule::Oja { g } else { place(g) }));
        let learn_q = learn_q.filter(|(rule, _)| *rule != QRule::Normative).map(|(rule, g)| (rule, place(g)));
        Pathway::Factored { p, q, learn_p, learn_q }
    }
}

/// What the transport leaves for the rules that learn from it.
#[derive(Clone, Copy, Debug)]
pub struct Squeezed {
    /// The error that was sent, rows x m.
    pub source: Tensor,
    /// Its projection y, rows x r; absent for unfactored pathways.
    pub y: Option<Tensor>,
}

/// Where an accumulation step stands among those that a training step takes its batch in.
#[derive(Clone, Copy, Debug)]
pub struct Accumulation {
    /// What the Oja rule needs of the accumulation steps before.
    pub statistics: Option<Tensor>,
    /// Rows of all accumulation steps, if this is the last one.
    pub rows: Option<u32>,
}

impl Accumulation {
    /// The only step, of so many rows.
    pub fn whole(rows: u32) -> Accumulation {
        Accumulation { statistics: None, rows: Some(rows) }
    }
}

/// A weight (m x k; of a convolution m x (taps k)) with what stands in for it.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// What errors go through.
    pub pathway: &'a Pathway,
    /// What it stands in for.
    pub weight: Parameter,
    /// How a convolution moves over its input: P is then a convolution of 1 x 1, Q a transposed one by this window.
    pub window: Option<Window>,
}

impl Way<'_> {
    /// The product that sends what is left of an error to the layer's input.
    fn send(&self, rec: &mut Recording, error: Tensor, matrix: Tensor) -> Gemm {
        let (rows, cols) = match self.window {
            Some(w) => (error.rows() / w.positions() * w.pixels(), matrix.cols() / w.taps()),
            None => (error.rows(), matrix.cols()),
        };
        let out = rec.scratch("error", rows, cols);
        match self.window {
            Some(window) => Gemm::convolve_back(error, matrix, out, window),
            None => Gemm::nn(error, matrix, out),
        }
    }

    /// Sends the error `source` (rows x m) back; returns what reaches the layer's input (rows x k, of a convolution
    /// pixels x k).
    ///
    /// `half` is the precision of the exact way; what goes through P and Q stays in single precision.
    ///
    /// # Errors
    /// If a shape does not fit, which is a bug of the caller.
    pub fn transport(
        &self,
        recording: &mut Recording,
        source: Tensor,
        clamp: Option<f64>,
        half: Option<Half>,
    ) -> Result<(Tensor, Squeezed), ShapeError> {
        recording.role(Role::Transport);
        let epilogue = Epilogue { clamp, ..Epilogue::default() };
        let (product, y) = match *self.pathway {
            // The bound belongs to errors that are sent by other means than the derivative.
            Pathway::Exact => (Gemm { half, ..self.send(recording, source, self.weight.value) }, None),
            Pathway::Random(matrix) => (Gemm { epilogue, ..self.send(recording, source, matrix) }, None),
            Pathway::Factored { p, q, .. } => {
                let y = recording.scratch("y", source.rows(), p.cols());
                recording.push(Gemm::nn(source, p, y))?;
                (Gemm { epilogue, ..self.send(recording, y, q) }, Some(y))
            }
        };
        recording.push(product)?;
        Ok((product.out, Squeezed { source, y }))
    }
}

/// Writes the gradients of p and q, from values before the step.
///
/// `input` is the layer's input h (rows x k); `statistics` what the Oja rule learns from, usually the error that was
/// sent. Gradients are sums over rows, which add up over accumulation steps; the Oja rule's is not, and follows in the
/// last of them from statistics that do. Returns those so far.
///
/// # Errors
/// If a shape does not fit, which is a bug of the caller.
pub fn learn(
    recording: &mut Recording,
    way: &Way<'_>,
    squeezed: Squeezed,
    statistics: Tensor,
    input: Tensor,
    accumulation: Accumulation,
) -> Result<Option<Tensor>, ShapeError> {
    let (Pathway::Factored { p, q, learn_p, learn_q }, Some(y)) = (*way.pathway, squeezed.y) else { return Ok(None) };
    let weight = way.weight;
    let mut so_far = None;
    recording.role(Role::Feedback);
    match learn_p {
        Some((PRule::Normative, gradient)) => normative_p(recording, p, q, weight.value, gradient)?,
        Some((PRule::Oja, gradient)) => {
            let sent = (statistics == squeezed.source).then_some(y);
            let sums = correlate(recording, statistics, sent, p, accumulation.statistics)?;
            if let Some(rows) = accumulation.rows {
                recording.push(Oja { statistics: sums, p, out: gradient, rows })?;
            }
            so_far = Some(sums);
        }
        Some((PRule::KolenPollack, gradient)) => recording.push(Gemm::nt(weight.gradient, q, gradient))?,
        Some((PRule::Fixed, _)) | None => {}
    }
    match learn_q {
        Some((QRule::Normative, gradient)) => normative_q(recording, p, q, weight.value, gradient)?,
        Some((QRule::Hebbian, gradient)) => recording.push(match way.window {
            Some(window) => Gemm::correlate(y, input, gradient, window),
            None => Gemm::tn(y, input, gradient),
        })?,
        Some((QRule::Fixed, _)) | None => {}
    }
    Ok(so_far)
}

/// grad p = E q^T = p (q q^T) - W q^T with E = p q - W, which is never formed: 2 m k r + 2 r^2 (m + k) instead of
/// 4 m k r.
fn normative_p(rec: &mut Recording, p: Tensor, q: Tensor, weight: Tensor, gradient: Tensor) -> Result<(), ShapeError> {
    let rank = q.rows();
    let gram = rec.scratch("q_gram", rank, rank);
    let target = rec.scratch("w_q", weight.rows(), rank);
    rec.push(Gemm::nt(q, q, gram))?;
    rec.push(Gemm::nt(weight, q, target))?;
    let epilogue = Epilogue { addend: Some((target, -1.0)), ..Epilogue::default() };
    let difference = rec.scratch("p_residual", p.rows(), rank);
    rec.push(Gemm { epilogue, ..Gemm::nn(p, gram, difference) })?;
    rec.push(Significant { x: difference, scale: target, out: gradient })
}

/// grad q = p^T E = (p^T p) q - p^T W.
fn normative_q(rec: &mut Recording, p: Tensor, q: Tensor, weight: Tensor, gradient: Tensor) -> Result<(), ShapeError> {
    let rank = p.cols();
    let gram = rec.scratch("p_gram", rank, rank);
    let target = rec.scratch("p_w", rank, weight.cols());
    rec.push(Gemm::tn(p, p, gram))?;
    rec.push(Gemm::tn(p, weight, target))?;
    let epilogue = Epilogue { addend: Some((target, -1.0)), ..Epilogue::default() };
    let difference = rec.scratch("q_residual", rank, q.cols());
    rec.push(Gemm { epilogue, ..Gemm::nn(gram, q, difference) })?;
    rec.push(Significant { x: difference, scale: target, out: gradient })
}

/// What the Oja rule needs of `x`, rows x m, added to what the accumulation steps `before` have left.
///
/// `y` is the projection of x, which the transport has already made where x is the error that it sent.
fn correlate(
    rec: &mut Recording,
    x: Tensor,
    y: Option<Tensor>,
    p: Tensor,
    before: Option<Tensor>,
) -> Result<Tensor, ShapeError> {
    let (width, rank) = (p.rows(), p.cols());
    let y = match y {
        Some(y) => y,
        None => {
            let y = rec.scratch("statistics_p", x.rows(), rank);
            rec.push(Gemm::nn(x, p, y))?;
            y
        }
    };
    let statistics = rec.scratch("statistics", rank + 3, width + rank);
    rec.push(Correlate { x, y, statistics, origin: before, hebbian: None, parts: 1 })?;
    let Some(before) = before else { return Ok(statistics) };
    let sum = rec.scratch("statistics_so_far", rank + 3, width + rank);
    rec.push(Add { a: before, b: statistics, out: sum })?;
    Ok(sum)
}
