//! Looking at a batch: feedback against weights, the dimension of errors, also on their way back through time, whether depth is used,
//! and where values ceased to be finite.

use super::Session;
use crate::analysis::{Alignment, Depth, Lag, Matrices, Products, Spectrum, alignment, spectrum};
use crate::feedback::Pathway;
use crate::model::Weight;
use crate::ops::{Phase, StepState, View};
use crate::train::TrainError;

/// Measures after a step, each with its replica and layer.
#[derive(Clone, Debug, Default)]
pub struct Diagnosis {
    /// Feedback against weights; none for exact feedback.
    pub alignments: Vec<(usize, String, Alignment)>,
    /// Errors at the layers' outputs; none where there is no error.
    pub spectra: Vec<(usize, String, Spectrum)>,
    /// Residual blocks and layers with a weight, from input to output.
    pub depths: Vec<(usize, String, Depth)>,
    /// Errors of layers that recur, from the last step back; of a single step none.
    pub lags: Vec<(usize, String, Lag)>,
}

impl Session {
    /// What the batch that `step` takes shows, of every replica and layer.
    ///
    /// # Errors
    /// If the device fails.
    pub fn diagnosis(&mut self, step: u32) -> Result<Diagnosis, TrainError> {
        self.executor.run(Phase::Diagnose, &[self.step_state(step)])?;
        Ok(Diagnosis {
            alignments: self.alignments()?,
            spectra: self.spectra()?,
            depths: self.depths()?,
            lags: self.lags()?,
        })
    }

    /// The errors at the layers' outputs.
    fn spectra(&mut self) -> Result<Vec<(usize, String, Spectrum)>, TrainError> {
        let mut found = Vec::new();
        let replicas = self.seeds.len();
        for error in &self.network.diagnosis.errors {
            let products = self.executor.read(error.products)?;
            let sums = error.sums.map(|sums| self.executor.read(sums)).transpose()?;
            for replica in 0..replicas {
                let measured = spectrum(&Products {
                    products: own(&products, replica, replicas),
                    sums: sums.as_ref().map(|sums| own(sums, replica, replicas)),
                    samples: error.delta.rows() as usize,
                });
                found.extend(measured.map(|spectrum| (replica, error.name.clone(), spectrum)));
            }
        }
        Ok(found)
    }

    /// The errors that go back through time, step by step.
    fn lags(&mut self) -> Result<Vec<(usize, String, Lag)>, TrainError> {
        let mut found = Vec::new();
        let replicas = self.seeds.len();
        for error in self.network.diagnosis.errors.iter().filter(|error| error.steps > 1) {
            let delta = self.executor.read(error.delta)?;
            for replica in 0..replicas {
                let lags = Lag::all(own(&delta, replica, replicas), error.delta.cols() as usize, error.steps);
                found.extend(lags.into_iter().map(|lag| (replica, error.name.clone(), lag)));
            }
        }
        Ok(found)
    }

    /// The stream through residual blocks, and the errors and gradients of layers with weights.
    fn depths(&mut self) -> Result<Vec<(usize, String, Depth)>, TrainError> {
        let replicas = self.seeds.len();
        let mut found = Vec::new();
        for block in &self.network.diagnosis.blocks {
            let mut read = |tensor| self.executor.read(tensor);
            let (input, long, output) = (read(block.input)?, read(block.long)?, read(block.output)?);
            for replica in 0..replicas {
                let [input, long, output] = [&input, &long, &output].map(|values| own(values, replica, replicas));
                found.push((block.layer, replica, block.name.clone(), Depth::of_block(input, long, output)));
            }
        }
        for error in &self.network.diagnosis.errors {
            let delta = self.executor.read(error.delta)?;
            let gradients = match error.gradients {
                Some([whole, first]) => Some([self.executor.read(whole)?, self.executor.read(first)?]),
                None => None,
            };
            for replica in 0..replicas {
                let gradients = gradients.as_ref().map(|both| both.each_ref().map(|of| own(of, replica, replicas)));
                let depth = Depth::of_weight(own(&delta, replica, replicas), gradients);
                found.push((error.layer, replica, error.name.clone(), depth));
            }
        }
        found.sort_by_key(|&(layer, replica, ..)| (layer, replica));
        Ok(found.into_iter().map(|(_, replica, name, depth)| (replica, name, depth)).collect())
    }

    /// Every feedback pathway against its weight.
    fn alignments(&mut self) -> Result<Vec<(usize, String, Alignment)>, TrainError> {
        let mut found = Vec::new();
        for weight in self.network.weights.clone() {
            let value = weight.learned.value;
            let (p, q, random) = match weight.pathway() {
                Some(Pathway::Factored { p, q, .. }) => (Some(p), Some(q), None),
                Some(Pathway::Random(random)) => (None, None, Some(random)),
                Some(Pathway::Exact) | None => continue,
            };
            // Direct feedback has another width than the weight: there is nothing to compare it with.
            if weight.source() != weight.layer && p.or(random).is_some_and(|t| t.rows() != value.rows()) {
                continue;
            }
            let Some(delta) = self.network.diagnosis.error_of(&weight).map(|error| error.delta) else {
                continue;
            };
            let weights = self.executor.read(value)?;
            let errors = self.executor.read(delta)?;
            let mut read = |tensor: Option<View>| tensor.map(|t| self.executor.read(t)).transpose();
            let (p_all, q_all, random_all) = (read(p)?, read(q)?, read(random)?);
            let width = delta.cols() as usize;
            for replica in 0..self.seeds.len() {
                let (own_p, feedback) = match (&p_all, &q_all, &random_all) {
                    (Some(p_all), Some(q_all), _) => {
                        let (p, q) = factors(&weight, replica, p_all, q_all);
                        let product = product(&p, &q, weight.ranks()[replica] as usize);
                        (Some(p), product)
                    }
                    (_, _, Some(random)) => (None, own(random, replica, self.seeds.len()).to_vec()),
                    _ => continue,
                };
                let matrices = Matrices {
                    weight: own(&weights, replica, self.seeds.len()),
                    feedback: &feedback,
                    p: own_p.as_deref(),
                    error: own(&errors, replica, self.seeds.len()),
                    width,
                };
                found.push((replica, weight.name.clone(), alignment(&matrices)));
            }
        }
        Ok(found)
    }

    /// The error that a fault amounts to: the replica's weights are those before the step, so the step is repeated
    /// without its update and searched for the first non-finite value.
    ///
    /// # Errors
    /// If the device fails.
    pub fn explain_fault(&mut self, replica: usize, step: u32) -> Result<TrainError, TrainError> {
        let now = self.step_state(step);
        let train = &self.config.train;
        let rows = train.batch / train.accumulate;
        let mut place = None;
        for accumulation in 0..train.accumulate {
            let cursor = now.cursor + accumulation * rows;
            self.executor.run(Phase::Diagnose, &[StepState { cursor, active_rows: rows, ..now.clone() }])?;
            place = self.first_not_finite(replica)?;
            if place.is_some() {
                break;
            }
        }
        let place = place.unwrap_or_else(|| "in the loss itself".into());
        let epoch = step / self.horizon.steps_per_epoch + 1;
        Ok(TrainError::NotFinite { replica, seed: self.seeds[replica], step: step + 1, epoch, place })
    }

    /// Where the first value lies that is not finite, of one replica's weights and what diagnosing has kept.
    fn first_not_finite(&mut self, replica: usize) -> Result<Option<String>, TrainError> {
        let weights = self.network.exchange.iter().map(|e| (format!("{} was", e.name), e.tensor));
        let outputs =
            self.network.diagnosis.activations.iter().map(|(name, t)| (format!("the output of {name} is"), *t));
        for (name, tensor) in weights.chain(outputs).collect::<Vec<_>>() {
            let values = self.executor.read(tensor)?;
            let size = tensor.shape.per_replica();
            if !values[replica * size..(replica + 1) * size].iter().all(|v| v.is_finite()) {
                return Ok(Some(format!("{name} the first value that is not finite")));
            }
        }
        Ok(None)
    }
}

/// One replica's rows of a tensor.
fn own(values: &[f64], replica: usize, replicas: usize) -> &[f64] {
    let size = values.len() / replicas;
    &values[replica * size..(replica + 1) * size]
}

/// p (m x rank) and q (rank x k) of one replica, without the padding of smaller ranks.
fn factors(weight: &Weight, replica: usize, p: &[f64], q: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (ranks, replicas) = (weight.ranks(), weight.ranks().len());
    let (rank, widest) = (ranks[replica] as usize, ranks.iter().copied().max().unwrap_or(1) as usize);
    let k = weight.learned.value.cols() as usize;
    let narrow = own(p, replica, replicas).chunks(widest).flat_map(|row| &row[..rank]).copied().collect();
    (narrow, own(q, replica, replicas)[..rank * k].to_vec())
}

/// p q, m x k.
fn product(p: &[f64], q: &[f64], rank: usize) -> Vec<f64> {
    let k = q.len() / rank;
    p.chunks(rank)
        .flat_map(|row| {
            let mut sums = vec![0.0; k];
            for (factor, line) in row.iter().zip(q.chunks(k)) {
                sums.iter_mut().zip(line).for_each(|(sum, q)| *sum += factor * q);
            }
            sums
        })
        .collect()
}
