//! What can go wrong without a device.

use crate::ops::{Dtype, Shape, ShapeError};
use crate::plan::ExecuteError;

/// Why the reference could not compute or hand over a value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReferenceError {
    /// The handle comes from another recording.
    #[error("tensor {index} ({shape}) does not belong to this plan")]
    UnknownTensor {
        /// Position that the handle claims in the tensor table.
        index: usize,
        /// Extent that the handle claims.
        shape: Shape,
    },
    /// Another number of elements than the tensor has.
    #[error("tensor {name} ({shape}) takes {} values, not {found}", shape.elements())]
    Length {
        /// Name of the tensor.
        name: String,
        /// Its extent.
        shape: Shape,
        /// Elements given.
        found: usize,
    },
    /// An operand or a host value of the wrong element type.
    #[error("tensor {name} holds {holds:?}, where {wanted:?} is wanted")]
    ElementType {
        /// Name of the tensor.
        name: String,
        /// Its element type.
        holds: Dtype,
        /// What the operation or the caller works with.
        wanted: Dtype,
    },
    /// A value that an integer tensor cannot hold.
    #[error("{value} is no value of tensor {name}, which holds {dtype:?}")]
    NotRepresentable {
        /// Name of the tensor.
        name: String,
        /// Its element type.
        dtype: Dtype,
        /// The value.
        value: f64,
    },
    /// An operand has neither one replica nor as many as the operation.
    #[error("tensor {name} ({shape}) has no replica {replica}")]
    MissingReplica {
        /// Name of the tensor.
        name: String,
        /// Its extent.
        shape: Shape,
        /// Index of the replica.
        replica: usize,
    },
    /// An operand in rows that lie apart, of an operation that takes them side by side.
    #[error("the rows of {name} do not lie side by side, as this operation takes them")]
    Strided {
        /// Name of the tensor.
        name: String,
    },
    /// The step says nothing about a replica.
    #[error("the step has hyper-parameters of {found} replicas, so none for replica {replica}")]
    MissingStep {
        /// Index of the replica.
        replica: usize,
        /// Entries of the step.
        found: usize,
    },
    /// An optimizer group that no step knows.
    #[error("optimizer group {group} does not exist: 0 is that of the weights, 1 that of the feedback")]
    UnknownGroup {
        /// Index of the group.
        group: u32,
    },
    /// A batch that reaches past the end of the permutation.
    #[error("a batch of {rows} images from entry {cursor} on does not fit a permutation of {length}")]
    PermutationEnds {
        /// First entry of the batch.
        cursor: u32,
        /// Images that the batch takes.
        rows: usize,
        /// Entries of the permutation.
        length: usize,
    },
    /// Operands whose shapes cannot meet.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

impl From<ReferenceError> for ExecuteError {
    fn from(error: ReferenceError) -> ExecuteError {
        ExecuteError(Box::new(error))
    }
}
