//! The operations of a feedback pathway.
//!
//! In matrices: p = P^T is m x r and q = Q^T is r x k, so that p q stands in for W (m x k) and errors, which are rows,
//! multiply from the left: `y = delta p`, `error = y q`.

use super::rules::{Learning, Seen};
use super::{PRule, QRule};
use crate::ops::{Epilogue, Gemm, Half, Recording, Role, ShapeError, View, Window};
use crate::optim::Learned;

/// What stands in for a layer's W on the way back.
#[derive(Clone, Copy, Debug)]
pub enum Pathway {
    /// W itself.
    Exact,
    /// A fixed matrix, m x k.
    Random(View),
    /// p q of low rank.
    Factored {
        /// P^T, m x r.
        p: View,
        /// Q^T, r x k.
        q: View,
        /// Rule and gradient of p; `None` if it is fixed.
        learn_p: Option<(PRule, View)>,
        /// Rule and gradient of q; `None` if it is fixed.
        learn_q: Option<(QRule, View)>,
    },
}

/// What the backward passes of a step have shown the rules of one pathway so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Observed {
    of_p: Option<View>,
    of_q: Option<View>,
    rows: u32,
}

impl Observed {
    /// Sums over samples that are not gradients.
    pub fn sums(self) -> impl Iterator<Item = View> {
        [self.of_p, self.of_q].into_iter().flatten()
    }
}

/// A weight (m x k; of a convolution m x (taps k)) with what stands in for it.
#[derive(Clone, Copy, Debug)]
pub struct BackwardWeight<'a> {
    /// What errors go through.
    pub pathway: &'a Pathway,
    /// What it stands in for.
    pub weight: Learned,
    /// How a convolution moves over its input: P is then a convolution of 1 x 1, Q a transposed one by this window.
    pub window: Option<Window>,
}

impl BackwardWeight<'_> {
    /// The product that sends what is left of an error to the layer's input.
    fn send(&self, rec: &mut Recording, error: View, matrix: View) -> Gemm {
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
    /// pixels x k), and the projection y (rows x r) of a factored pathway.
    ///
    /// `half` is the precision of the exact way; what goes through P and Q stays in single precision.
    ///
    /// # Errors
    /// If a shape does not fit, which is a bug of the caller.
    pub fn transport(
        &self,
        recording: &mut Recording,
        source: View,
        clamp: Option<f64>,
        half: Option<Half>,
    ) -> Result<(View, Option<View>), ShapeError> {
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
        Ok((product.out, y))
    }

    /// P's rule and what it finds.
    fn of_p(&self) -> Option<(PRule, Learning)> {
        let Pathway::Factored { p, q, learn_p: Some((rule, gradient)), .. } = *self.pathway else { return None };
        Some((rule, Learning { p, q, weight: self.weight, gradient }))
    }

    /// Q's rule and what it finds.
    fn of_q(&self) -> Option<(QRule, Learning)> {
        let Pathway::Factored { p, q, learn_q: Some((rule, gradient)), .. } = *self.pathway else { return None };
        Some((rule, Learning { p, q, weight: self.weight, gradient }))
    }

    /// Shows the rules of p and q a micro-batch, behind those that `so_far` comes from.
    ///
    /// # Errors
    /// If a shape does not fit, which is a bug of the caller.
    pub fn observe(&self, rec: &mut Recording, seen: &Seen, so_far: Observed) -> Result<Observed, ShapeError> {
        rec.role(Role::Feedback);
        let (p, q) = (self.of_p(), self.of_q());
        let of_p = p.map(|(rule, own)| rule.rule().observe(rec, &own, seen, so_far.of_p)).transpose()?.flatten();
        let of_q = q.map(|(rule, own)| rule.rule().observe(rec, &own, seen, so_far.of_q)).transpose()?.flatten();
        Ok(Observed { of_p, of_q, rows: so_far.rows + seen.source.rows() })
    }

    /// Writes what is left of the gradients of p and q once all micro-batches have been observed, from values before the step.
    ///
    /// # Errors
    /// If a shape does not fit, which is a bug of the caller.
    pub fn learn(&self, rec: &mut Recording, observed: Observed) -> Result<(), ShapeError> {
        rec.role(Role::Feedback);
        let (p, q) = (self.of_p(), self.of_q());
        let sums = |of: Option<View>| of.map(|sums| (sums, observed.rows));
        if let Some((rule, own)) = p {
            rule.rule().learn(rec, &own, sums(observed.of_p))?;
        }
        if let Some((rule, own)) = q {
            rule.rule().learn(rec, &own, sums(observed.of_q))?;
        }
        Ok(())
    }
}
