//! Parameters between an executor and the names and layouts that files use.

use crate::model::{Exchange, Purpose};
use crate::ops::View;
use crate::plan::{Blocking, ExecuteError};

/// A tensor as a file holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Such as `layers.2.feedback.p`.
    pub name: String,
    /// Extent, row-major.
    pub shape: Vec<usize>,
    /// Its elements.
    pub values: Vec<f64>,
}

/// Weights that do not fit the network.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// A name is missing.
    #[error("there is no tensor {name}; the network needs {}", .needed.join(", "))]
    Missing {
        /// Its name.
        name: String,
        /// All names that must be there.
        needed: Vec<String>,
    },
    /// A name belongs to no layer.
    #[error("tensor {name} belongs to no layer of this network, which has {}", .known.join(", "))]
    Unknown {
        /// Its name.
        name: String,
        /// All names of the network.
        known: Vec<String>,
    },
    /// A shape differs.
    #[error("tensor {name} has shape {found:?}, the network needs {needed:?}")]
    Shape {
        /// Its name.
        name: String,
        /// Shape in the file.
        found: Vec<usize>,
        /// Shape of the network.
        needed: Vec<usize>,
    },
    /// A value is not finite.
    #[error("tensor {name} holds a value that is not finite")]
    NotFinite {
        /// Its name.
        name: String,
    },
    /// The device failed.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
}

/// Shape of one replica's tensor: the rank axis without its padding.
fn shape_of(exchange: &Exchange, replica: usize) -> Vec<usize> {
    let mut shape = exchange.shape.clone();
    if let Some((axis, ranks)) = &exchange.ranks {
        shape[*axis] = ranks[replica] as usize;
    }
    shape
}

/// Where every element of a file's tensor lies in a replica of the device's, whose rows may be wider.
fn places(exchange: &Exchange, shape: &[usize]) -> impl Iterator<Item = usize> {
    let (rows, cols) = if shape.len() == 1 { (1, shape[0]) } else { (shape[0], shape[1..].iter().product()) };
    let (first, width, taps) = (exchange.row as usize, exchange.tensor.cols() as usize, exchange.taps);
    let channels = cols / taps;
    // Files count the taps of each channel, tensors the channels of each tap.
    let within = move |col: usize| (col % taps) * channels + col / taps;
    (0..rows).flat_map(move |row| (0..cols).map(move |col| (first + row) * width + within(col)))
}

/// All parameters, statistics and feedback of one replica.
///
/// # Errors
/// If the device fails.
pub fn read(exchange: &[Exchange], executor: &mut Blocking, replica: usize) -> Result<Vec<NamedTensor>, ExecuteError> {
    let mut list = Vec::new();
    for exchange in exchange {
        let all = executor.read(exchange.tensor)?;
        let size = exchange.tensor.shape.per_replica();
        let own = &all[replica * size..(replica + 1) * size];
        let shape = shape_of(exchange, replica);
        let values = places(exchange, &shape).map(|at| own[at]).collect();
        list.push(NamedTensor { name: exchange.name.clone(), shape, values });
    }
    Ok(list)
}

/// Overwrites every replica with the given tensors. Feedback may be missing, and then stays as it is.
///
/// # Errors
/// If a name is missing or unknown, a shape differs or a value is not finite; nothing is written then.
pub fn write(exchanges: &[Exchange], executor: &mut Blocking, tensors: &[NamedTensor]) -> Result<(), WeightsError> {
    let known = || exchanges.iter().map(|e| e.name.clone()).collect::<Vec<_>>();
    if let Some(unknown) = tensors.iter().find(|t| !exchanges.iter().any(|e| e.name == t.name)) {
        return Err(WeightsError::Unknown { name: unknown.name.clone(), known: known() });
    }
    let mut updates: Vec<(View, Vec<f64>)> = Vec::new();
    for exchange in exchanges {
        let Some(given) = tensors.iter().find(|t| t.name == exchange.name) else {
            if exchange.purpose == Purpose::Feedback {
                continue;
            }
            let needed = exchanges.iter().filter(|e| e.purpose != Purpose::Feedback).map(|e| e.name.clone()).collect();
            return Err(WeightsError::Missing { name: exchange.name.clone(), needed });
        };
        if !given.values.iter().all(|v| v.is_finite()) {
            return Err(WeightsError::NotFinite { name: given.name.clone() });
        }
        // Two names can share a tensor (running mean and variance): the later one adds to the earlier one's values.
        let at = match updates.iter().position(|(t, _)| *t == exchange.tensor) {
            Some(at) => at,
            None => {
                updates.push((exchange.tensor, vec![0.0; exchange.tensor.shape.elements()]));
                updates.len() - 1
            }
        };
        let size = exchange.tensor.shape.per_replica();
        for (replica, own) in updates[at].1.chunks_mut(size).enumerate() {
            let needed = shape_of(exchange, replica);
            if given.shape != needed {
                let found = given.shape.clone();
                return Err(WeightsError::Shape { name: given.name.clone(), found, needed });
            }
            for (at, value) in places(exchange, &needed).zip(&given.values) {
                own[at] = *value;
            }
        }
    }
    for (tensor, values) in updates {
        executor.write(tensor, &values)?;
    }
    Ok(())
}
