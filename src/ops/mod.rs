//! The vocabulary of the engine: tensors, typed operations, and the recording they are written into.
//!
//! A model, a feedback rule and an optimizer only *write operations*. An operation is plain data: its operands by
//! name, its shape check and its [`Cost`]; what it means is written in its doc comment, computed in f64 by the
//! function of the same name in [`crate::reference`], and in f32 by the shader of the same file name.

mod attention;
mod autoaugment;
mod ceiling;
mod columns;
mod convolution;
mod correlate;
mod elementwise;
mod fit;
mod gather;
mod gemm;
mod layernorm;
mod loss;
mod normalise;
mod optimize;
mod pool;
pub mod random;
mod recording;
mod recurrent;
mod rows;
mod step;
mod tensor;
mod transport;
mod transpose;
mod window;

pub use attention::{Attention, AttentionKeys, AttentionQueries, Heads};
pub use autoaugment::AutoAugment;
pub use ceiling::{Chain, Duplicate};
pub use columns::{ColumnSum, Moments, ScaleGradient};
pub use convolution::{Convolution, Pass};
pub use correlate::{Correlate, Hebbian, Oja};
pub use elementwise::{Activate, Activation, Add, Dropout, Gate, Saves, Significant};
pub use fit::Fit;
pub use gather::{Augment, Encoding, Gather};
pub use gemm::{Epilogue, Gemm, Half, SumSplits};
pub use layernorm::{LayerNorm, LayerNormBackward, LayerNormGradients};
pub use loss::{MeanSquaredError, OneHot, SoftmaxCrossEntropy, SquaredDistance, Tally};
pub use normalise::{Normalise, NormaliseBackward, NormaliseGradients, TrackMoments};
pub use optimize::{Optimize, Update};
pub use pool::{AveragePool, AveragePoolBackward, MaxPool, MaxPoolBackward};
pub use recording::{Entry, Phase, Recording, Role, Section};
pub use recurrent::{Cell, Recurrence, RecurrenceBackward, StateWeight, Steps};
pub use rows::{AddRow, Clear, PlaceRows, ScaleColumns};
pub use step::{GroupStep, MAX_REPLICAS, ReplicaStep, StepState};
pub use tensor::{Dtype, Kind, Shape, Strides, TensorInfo, View};
pub use transport::Transport;
pub use transpose::TransposeBlocks;
pub use window::Window;

/// How an operation touches an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read only.
    Read,
    /// Every element is written, none is read.
    Write,
    /// Read and written in place; only state tensors, and outputs that several operations fill part by part.
    Update,
}

/// A named operand; the name is also that of the shader's binding.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// Name in the shader and in reports.
    pub name: &'static str,
    /// The tensor bound to it.
    pub tensor: View,
    /// How it is touched.
    pub access: Access,
}

pub(crate) fn read(name: &'static str, tensor: View) -> Operand {
    Operand { name, tensor, access: Access::Read }
}

pub(crate) fn write(name: &'static str, tensor: View) -> Operand {
    Operand { name, tensor, access: Access::Write }
}

/// An output that is written, or added to what it holds.
pub(crate) fn sum(name: &'static str, tensor: View, accumulate: bool) -> Operand {
    Operand { name, tensor, access: if accumulate { Access::Update } else { Access::Write } }
}

pub(crate) fn update(name: &'static str, tensor: View) -> Operand {
    Operand { name, tensor, access: Access::Update }
}

/// Arithmetic and memory traffic of one operation over all replicas, each operand moved once (of a data set, a batch).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating point operations; a multiply-add counts as two.
    pub flops: u64,
    /// Bytes read and written.
    pub bytes: u64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.flops += other.flops;
        self.bytes += other.bytes;
    }
}

/// Operands whose shapes cannot meet.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{op}: {what} ({operands})")]
pub struct ShapeError {
    /// The operation.
    pub op: &'static str,
    /// The rule that does not hold.
    pub what: String,
    /// Every operand with its shape.
    pub operands: String,
}

/// What every operation can say about itself.
pub trait Operation {
    /// Name in plans, profiles and errors.
    fn name(&self) -> &'static str;
    /// Operands that are present, by the names their shader uses.
    fn operands(&self) -> Vec<Operand>;
    /// The rule that the operands' shapes break, if any.
    fn check(&self) -> Result<(), String>;
    /// Floating point operations of one replica.
    fn flops(&self) -> u64;
    /// Bytes that one replica moves, where that is not each operand once.
    fn bytes(&self) -> Option<u64> {
        None
    }
    /// What a reader of a plan wants to know beyond the shapes.
    fn details(&self) -> String {
        String::new()
    }
}

macro_rules! operations {
    ($($op:ident),* $(,)?) => {
        /// One operation of a recording.
        #[derive(Clone, Debug)]
        pub enum Op {
            $(#[doc = concat!("See [`", stringify!($op), "`].")] $op($op),)*
        }

        $(impl From<$op> for Op {
            fn from(op: $op) -> Op {
                Op::$op(op)
            }
        })*

        impl Op {
            fn operation(&self) -> &dyn Operation {
                match self {
                    $(Op::$op(op) => op,)*
                }
            }
        }
    };
}

operations!(
    Gather,
    Gemm,
    SumSplits,
    Transport,
    Activate,
    Gate,
    Dropout,
    Add,
    Significant,
    Fit,
    ColumnSum,
    ScaleGradient,
    Moments,
    Normalise,
    NormaliseGradients,
    NormaliseBackward,
    LayerNorm,
    LayerNormGradients,
    LayerNormBackward,
    Attention,
    AttentionQueries,
    AttentionKeys,
    Recurrence,
    RecurrenceBackward,
    Correlate,
    Oja,
    TrackMoments,
    MaxPool,
    MaxPoolBackward,
    AveragePool,
    AveragePoolBackward,
    TransposeBlocks,
    AddRow,
    ScaleColumns,
    PlaceRows,
    Clear,
    SoftmaxCrossEntropy,
    MeanSquaredError,
    SquaredDistance,
    OneHot,
    Tally,
    Optimize,
    Chain,
    Duplicate,
);

impl Op {
    /// Name in plans, profiles and errors.
    pub fn name(&self) -> &'static str {
        self.operation().name()
    }

    /// Operands that are present.
    pub fn operands(&self) -> Vec<Operand> {
        self.operation().operands()
    }

    /// What a reader of a plan wants to know beyond the shapes: transposes, epilogue, hyper-parameters.
    pub fn details(&self) -> String {
        self.operation().details()
    }

    /// Tensors whose value the operation needs.
    pub fn inputs(&self) -> impl Iterator<Item = View> {
        self.operands().into_iter().filter(|o| o.access != Access::Write).map(|o| o.tensor)
    }

    /// Tensors that the operation changes.
    pub fn outputs(&self) -> impl Iterator<Item = View> {
        self.operands().into_iter().filter(|o| o.access != Access::Read).map(|o| o.tensor)
    }

    /// Checks that the operands' shapes meet.
    ///
    /// # Errors
    /// [`ShapeError`] names the operation, the broken rule and every operand with its shape.
    pub fn check(&self) -> Result<(), ShapeError> {
        self.operation().check().map_err(|what| ShapeError {
            op: self.name(),
            what,
            operands: self
                .operands()
                .iter()
                .map(|o| format!("{} {}", o.name, o.tensor.shape))
                .collect::<Vec<_>>()
                .join(", "),
        })
    }

    /// Replicas that the operation runs for.
    pub fn replicas(&self) -> u32 {
        self.outputs().map(|t| t.shape.replicas).max().unwrap_or(1)
    }

    /// Arithmetic and traffic over all replicas.
    pub fn cost(&self) -> Cost {
        let replicas = u64::from(self.replicas());
        let bytes = self.operation().bytes().map(|bytes| bytes * replicas).unwrap_or_else(|| {
            self.operands().iter().map(|o| o.tensor.bytes() * if o.access == Access::Update { 2 } else { 1 }).sum()
        });
        Cost { flops: self.operation().flops() * replicas, bytes }
    }
}

/// `Ok` when `holds`, else the broken rule; keeps shape checks one line each.
pub(crate) fn require(holds: bool, rule: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(rule.to_owned()) }
}
