//! Tensors: typed handles, and the table that gives each one a name and a place to live.

use std::fmt;

/// Extent of a tensor: `replicas` networks, each with a row-major `rows` x `cols` matrix.
///
/// An error signal is always (batch x positions) x channels; a vector is one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Networks trained side by side; 1 for what all of them share (the data set).
    pub replicas: u32,
    /// Rows of one replica's matrix.
    pub rows: u32,
    /// Columns of one replica's matrix.
    pub cols: u32,
}

impl Shape {
    /// Elements of one replica.
    pub fn per_replica(self) -> usize {
        self.rows as usize * self.cols as usize
    }

    /// Elements of all replicas.
    pub fn elements(self) -> usize {
        self.replicas as usize * self.per_replica()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.replicas > 1 {
            write!(f, "{}*", self.replicas)?;
        }
        write!(f, "{}x{}", self.rows, self.cols)
    }
}

/// Element type as it lies in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// Unsigned 32-bit integers: labels, permutations, step numbers.
    U32,
    /// Unsigned bytes, four to a 32-bit word, little end first: pixels.
    U8,
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Dtype::F32 | Dtype::U32 => 4,
            Dtype::U8 => 1,
        }
    }
}

/// A handle: which tensor of the recording, and its extent. Cheap to copy, holds no data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tensor {
    pub(super) id: u32,
    /// Extent.
    pub shape: Shape,
    /// Element type.
    pub dtype: Dtype,
}

impl Tensor {
    /// Position in the recording's tensor table.
    pub fn index(self) -> usize {
        self.id as usize
    }

    /// Rows of one replica's matrix.
    pub fn rows(self) -> u32 {
        self.shape.rows
    }

    /// Columns of one replica's matrix.
    pub fn cols(self) -> u32 {
        self.shape.cols
    }

    /// Bytes that all replicas occupy, rounded up to whole 32-bit words.
    pub fn bytes(self) -> u64 {
        (self.shape.elements() as u64 * self.dtype.size() as u64).next_multiple_of(4)
    }
}

/// How long a tensor lives and where its memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Lives as long as the program; starts as zeros; the host may read and write it between steps.
    State,
    /// Written once in a phase and dead after its last reader; memory is shared with others.
    Scratch,
    /// A window of every replica's row in a one-row state tensor, `offset` elements in.
    View {
        /// The tensor looked into.
        of: Tensor,
        /// First element of the window, counted from the start of each replica.
        offset: u32,
    },
}

/// What the tensor table knows of one tensor.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    /// Unique among states and views; the name that checkpoints and reports use.
    pub name: String,
    /// The handle.
    pub tensor: Tensor,
    /// Lifetime.
    pub kind: Kind,
    /// Whether its rows and its columns are as many as the largest rank: replicas of smaller ranks have zeros there.
    pub ranked: [bool; 2],
}
