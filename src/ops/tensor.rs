//! Views of tensors, and the table that gives each tensor a name and a place to live.

use std::fmt;

/// Extents of a view: `replicas` networks, each with a stack of matrices of `rows` x `cols`.
///
/// An error signal is always (batch x positions) x channels; a vector is one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Networks trained side by side; 1 for what all of them share (the data set).
    pub replicas: u32,
    /// Matrices of one replica, on two axes: those of a product of many small matrices are samples and heads.
    pub batch: [u32; 2],
    /// Rows of one matrix.
    pub rows: u32,
    /// Columns of one matrix.
    pub cols: u32,
}

impl Shape {
    /// One matrix a replica.
    pub fn matrix(replicas: u32, rows: u32, cols: u32) -> Shape {
        Shape { replicas, batch: [1, 1], rows, cols }
    }

    /// Matrices of one replica.
    pub fn matrices(self) -> u32 {
        self.batch[0] * self.batch[1]
    }

    /// Elements of one replica.
    pub fn per_replica(self) -> usize {
        self.matrices() as usize * self.rows as usize * self.cols as usize
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
        match self.batch {
            [1, 1] => {}
            [outer, 1] => write!(f, "[{outer}]")?,
            [outer, inner] => write!(f, "[{outer}x{inner}]")?,
        }
        write!(f, "{}x{}", self.rows, self.cols)
    }
}

/// Elements from one place of a view to the next, along each axis but the columns, which are neighbours. How far replicas lie
/// apart is a matter of the tensor, not of the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Strides {
    /// Along both axes of the batch.
    pub batch: [u32; 2],
    /// From one row to the next.
    pub row: u32,
}

impl Strides {
    /// Of matrices that lie one behind the other.
    fn contiguous(shape: Shape) -> Strides {
        let matrix = shape.rows * shape.cols;
        Strides { batch: [shape.batch[1] * matrix, matrix], row: shape.cols }
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

/// What an operation reads or writes: a tensor of the recording, or a part of it. Cheap to copy, holds no data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct View {
    id: u32,
    offset: u32,
    strides: Strides,
    /// Extents.
    pub shape: Shape,
    /// Element type.
    pub dtype: Dtype,
}

impl View {
    /// All of the tensor at a position of the table.
    pub(super) fn whole(id: u32, shape: Shape, dtype: Dtype) -> View {
        View { id, offset: 0, strides: Strides::contiguous(shape), shape, dtype }
    }

    /// Position of its tensor in the recording's table.
    pub fn index(self) -> usize {
        self.id as usize
    }

    /// First element, counted from the start of each replica of the tensor.
    pub fn offset(self) -> u32 {
        self.offset
    }

    /// Elements from one place to the next.
    pub fn strides(self) -> Strides {
        self.strides
    }

    /// Rows of one matrix.
    pub fn rows(self) -> u32 {
        self.shape.rows
    }

    /// Columns of one matrix.
    pub fn cols(self) -> u32 {
        self.shape.cols
    }

    /// Whether the elements of a replica lie side by side, row by row.
    pub fn is_contiguous(self) -> bool {
        let Strides { batch, row } = Strides::contiguous(self.shape);
        let Shape { rows, batch: [outer, inner], .. } = self.shape;
        let own = self.strides;
        (rows == 1 || own.row == row)
            && (outer == 1 || own.batch[0] == batch[0])
            && (inner == 1 || own.batch[1] == batch[1])
    }

    /// Some of the elements of a contiguous view as a matrix of their own, from element `offset` of every replica on.
    pub fn window(self, offset: u32, rows: u32, cols: u32) -> View {
        debug_assert!(self.is_contiguous(), "a window is cut out of elements that lie side by side");
        let shape = Shape::matrix(self.shape.replicas, rows, cols);
        debug_assert!(
            offset as usize + shape.per_replica() <= self.shape.per_replica(),
            "a window lies within its tensor"
        );
        View { offset: self.offset + offset, strides: Strides::contiguous(shape), shape, ..self }
    }

    /// `cols` columns from `first` on.
    pub fn columns(self, first: u32, cols: u32) -> View {
        debug_assert!(first + cols <= self.cols(), "columns lie within their matrix");
        View { offset: self.offset + first, shape: Shape { cols, ..self.shape }, ..self }
    }

    /// `rows` rows of every matrix from `first` on.
    pub fn rows_from(self, first: u32, rows: u32) -> View {
        debug_assert!(first + rows <= self.rows(), "rows lie within their matrix");
        View { offset: self.offset + first * self.strides.row, shape: Shape { rows, ..self.shape }, ..self }
    }

    /// The rows in groups of `rows`, a matrix each, on the outer axis of the batch: samples of so many positions.
    pub fn by_rows(self, rows: u32) -> View {
        debug_assert!(self.shape.batch[0] == 1 && self.rows().is_multiple_of(rows), "rows fall into whole groups");
        let shape = Shape { batch: [self.rows() / rows, self.shape.batch[1]], rows, ..self.shape };
        let strides = Strides { batch: [rows * self.strides.row, self.strides.batch[1]], ..self.strides };
        View { shape, strides, ..self }
    }

    /// The columns in `groups`, a matrix each, on the inner axis of the batch: heads.
    pub fn by_columns(self, groups: u32) -> View {
        debug_assert!(self.shape.batch[1] == 1 && self.cols().is_multiple_of(groups), "columns fall into whole groups");
        let cols = self.cols() / groups;
        let shape = Shape { batch: [self.shape.batch[0], groups], cols, ..self.shape };
        let strides = Strides { batch: [self.strides.batch[0], cols], ..self.strides };
        View { shape, strides, ..self }
    }

    /// Elements from the first to behind the last, of one replica.
    pub fn reach(self) -> usize {
        let Shape { batch: [outer, inner], rows, cols, .. } = self.shape;
        if self.shape.per_replica() == 0 {
            return 0;
        }
        let last = |count: u32, stride: u32| (count as usize - 1) * stride as usize;
        last(outer, self.strides.batch[0])
            + last(inner, self.strides.batch[1])
            + last(rows, self.strides.row)
            + cols as usize
    }

    /// Where each row of one replica begins, counted from the start of the replica, in the order of the elements.
    pub fn row_starts(self) -> impl Iterator<Item = usize> {
        let Shape { batch: [outer, inner], rows, .. } = self.shape;
        let place = move |count: u32, stride: u32| (0..count as usize).map(move |at| at * stride as usize);
        let Strides { batch: [by_outer, by_inner], row } = self.strides;
        let first = self.offset as usize;
        place(outer, by_outer).flat_map(move |sample| {
            place(inner, by_inner).flat_map(move |head| place(rows, row).map(move |row| first + sample + head + row))
        })
    }

    /// Bytes of its elements in all replicas, rounded up to whole 32-bit words.
    pub fn bytes(self) -> u64 {
        (self.shape.elements() as u64 * self.dtype.size() as u64).next_multiple_of(4)
    }
}

/// How long a tensor lives and where its memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Lives as long as the program; starts as zeros; the host may read and write it between steps. A run that stops is its
    /// states: parameters, moments, running statistics, fixed feedback, sums of metrics.
    State,
    /// Lives as long, but is made anew by what goes on: data sets, gradients, sums of a test. No checkpoint holds it.
    Workspace,
    /// Written once in a phase and dead after its last reader; memory is shared with others.
    Scratch,
}

/// What the tensor table knows of one tensor.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    /// Unique among states; the name that checkpoints and reports use.
    pub name: String,
    /// All of it.
    pub tensor: View,
    /// Lifetime.
    pub kind: Kind,
}
