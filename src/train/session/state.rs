//! What outlives a session: checkpoints and weights.

use std::path::Path;

use super::Session;
use crate::feedback::{Init, Pathway};
use crate::model::{Purpose, factorise, pad_columns};
use crate::ops::{Dtype, Kind, View};
use crate::train::TrainError;
use crate::train::checkpoint::{Checkpoint, CheckpointError, Values, read_weights};
use crate::train::weights::{self, NamedTensor};

impl Session {
    /// Tensors that a checkpoint holds.
    fn persistent(&self) -> Vec<(String, View)> {
        let states = self.plan.tensors().iter().filter(|t| t.kind == Kind::State);
        states.map(|t| (t.name.clone(), t.tensor)).collect()
    }

    /// Everything that resuming needs but for the meta data.
    ///
    /// # Errors
    /// If the device fails.
    pub fn save(&mut self) -> Result<Vec<(String, Vec<usize>, Values)>, TrainError> {
        let is_f64 = self.executor.is_f64();
        let mut tensors = Vec::new();
        for (name, tensor) in self.persistent() {
            let values = self.executor.read(tensor)?;
            let values = match tensor.dtype {
                Dtype::F32 if is_f64 => Values::F64(values),
                Dtype::F32 => Values::F32(values.into_iter().map(|v| v as f32).collect()),
                Dtype::U32 | Dtype::U8 => Values::U32(values.into_iter().map(|v| v as u32).collect()),
            };
            let shape = tensor.shape;
            tensors.push((name, vec![shape.replicas as usize, shape.rows as usize, shape.cols as usize], values));
        }
        Ok(tensors)
    }

    /// Takes over what [`Session::save`] gave.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape, or the device fails.
    pub fn restore(&mut self, checkpoint: &Checkpoint, path: &Path) -> Result<(), TrainError> {
        for (name, tensor) in self.persistent() {
            let found = checkpoint.tensors.iter().find(|(n, _, _)| *n == name);
            let values: Vec<f64> = match found {
                Some((_, _, Values::F32(v))) => v.iter().map(|&v| f64::from(v)).collect(),
                Some((_, _, Values::F64(v))) => v.clone(),
                Some((_, _, Values::U32(v))) => v.iter().map(|&v| f64::from(v)).collect(),
                None => Vec::new(),
            };
            if values.len() != tensor.shape.elements() {
                let what = format!("has {} elements, {} are needed", values.len(), tensor.shape.elements());
                return Err(CheckpointError::View { path: path.to_owned(), tensor: name, what }.into());
            }
            self.executor.write(tensor, &values)?;
        }
        Ok(())
    }

    /// One replica's parameters by the names of files.
    ///
    /// # Errors
    /// If the device fails.
    pub fn weights(&mut self, replica: usize) -> Result<Vec<NamedTensor>, TrainError> {
        Ok(weights::read(&self.network.exchange, &mut self.executor, replica)?)
    }

    /// Starts every replica from the tensors of a file; feedback that it lacks keeps its own start, or is factorised
    /// from the new weights where `init = "svd"`.
    ///
    /// # Errors
    /// If the file cannot be read or does not fit the network.
    pub fn load_weights(&mut self, path: &Path) -> Result<(), TrainError> {
        let tensors: Vec<NamedTensor> = read_weights(path)?
            .into_iter()
            .map(|(name, shape, values)| NamedTensor {
                name,
                shape,
                values: values.into_iter().map(f64::from).collect(),
            })
            .collect();
        weights::write(&self.network.exchange, &mut self.executor, &tensors)
            .map_err(|source| TrainError::Weights { path: path.to_owned(), source })?;
        self.has_given_weights = true;
        // Factors of the weights that were replaced would be a start that nobody asked for.
        let mut feedback = self.network.exchange.iter().filter(|e| e.purpose == Purpose::Feedback);
        let has_feedback = feedback.any(|e| tensors.iter().any(|t| t.name == e.name));
        if !has_feedback && self.config.feedback.initialisation() == Init::Svd {
            self.refactorise()?;
        }
        Ok(())
    }

    /// Sets P and Q of every factored layer to the truncated SVD of its weight.
    ///
    /// # Errors
    /// If the device fails or a weight is not finite.
    pub fn refactorise(&mut self) -> Result<(), TrainError> {
        for weight in self.network.weights.clone() {
            let Some(Pathway::Factored { p, q, .. }) = weight.pathway() else { continue };
            let value = weight.learned.value;
            let (m, k) = (value.rows() as usize, value.cols() as usize);
            let (mut all_p, mut all_q) = (Vec::new(), Vec::new());
            for (own, &rank) in self.executor.read(value)?.chunks(m * k).zip(weight.ranks()) {
                let (narrow_p, mut own_q) = factorise(own, m, k, rank as usize)?;
                all_p.extend(pad_columns(&narrow_p, m, rank as usize, p.cols() as usize));
                own_q.resize(q.shape.per_replica(), 0.0);
                all_q.extend(own_q);
            }
            self.executor.write(p, &all_p)?;
            self.executor.write(q, &all_q)?;
        }
        Ok(())
    }
}
