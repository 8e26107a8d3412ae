//! The recording: a tensor table and, for each phase, the operations in order.

use super::{Dtype, Gemm, Kind, Op, Shape, ShapeError, Tensor, TensorInfo};

/// Lists of operations that share one tensor table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// One training step.
    Train,
    /// Forward and metrics over one batch of the test set.
    Evaluate,
    /// Forward and backward over one training batch without an update; every error is kept for the host.
    Diagnose,
}

impl Phase {
    /// All phases.
    pub const ALL: [Phase; 3] = [Phase::Train, Phase::Evaluate, Phase::Diagnose];
}

/// What an operation is for; costs are summed by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Batches from the data set.
    Data,
    /// From inputs to outputs.
    Forward,
    /// Loss, its derivative, metrics.
    Loss,
    /// Sending the error through a weight, exactly or by feedback.
    Transport,
    /// Exact derivatives of what stands between the weights.
    Derivative,
    /// Gradients of weights and biases.
    WeightGradient,
    /// Gradients of P and Q.
    Feedback,
    /// Parameter updates and running statistics.
    Update,
    /// What only a diagnosis looks at.
    Diagnosis,
}

impl Role {
    /// All roles, in the order of a step.
    pub const ALL: [Role; 9] = [
        Role::Data,
        Role::Forward,
        Role::Loss,
        Role::Transport,
        Role::Derivative,
        Role::WeightGradient,
        Role::Feedback,
        Role::Update,
        Role::Diagnosis,
    ];

    /// Name in tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Role::Data => "data",
            Role::Forward => "forward",
            Role::Loss => "loss",
            Role::Transport => "transport",
            Role::Derivative => "derivative",
            Role::WeightGradient => "weight-gradient",
            Role::Feedback => "feedback",
            Role::Update => "update",
            Role::Diagnosis => "diagnosis",
        }
    }
}

/// One recorded operation.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The operation.
    pub op: Op,
    /// What it is for.
    pub role: Role,
    /// The layer it belongs to, empty for what belongs to none.
    pub layer: String,
}

/// A program as plain data: it can be printed, counted, rewritten and compared.
#[derive(Clone, Debug)]
pub struct Recording {
    replicas: u32,
    tensors: Vec<TensorInfo>,
    phases: [Vec<Entry>; 3],
    kept: [Vec<Tensor>; 3],
    phase: Phase,
    role: Role,
    layer: String,
}

impl Recording {
    /// An empty recording for so many networks side by side.
    pub fn new(replicas: u32) -> Recording {
        Recording {
            replicas,
            tensors: Vec::new(),
            phases: Default::default(),
            kept: Default::default(),
            phase: Phase::Train,
            role: Role::Forward,
            layer: String::new(),
        }
    }

    /// Networks side by side.
    pub fn replicas(&self) -> u32 {
        self.replicas
    }

    fn add(&mut self, name: String, shape: Shape, dtype: Dtype, kind: Kind) -> Tensor {
        let id = u32::try_from(self.tensors.len()).expect("fewer than 2^32 tensors");
        let tensor = Tensor { id, shape, dtype };
        self.tensors.push(TensorInfo { name, tensor, kind, ranked: [false; 2] });
        tensor
    }

    /// A tensor that lives from its writer to its last reader within a phase.
    pub fn scratch(&mut self, name: impl Into<String>, rows: u32, cols: u32) -> Tensor {
        self.scratch_of(name, rows, cols, Dtype::F32)
    }

    /// [`Recording::scratch`] of another element type.
    pub fn scratch_of(&mut self, name: impl Into<String>, rows: u32, cols: u32, dtype: Dtype) -> Tensor {
        let shape = Shape { replicas: self.replicas, rows, cols };
        let name = if self.layer.is_empty() { name.into() } else { format!("{}.{}", self.layer, name.into()) };
        self.add(name, shape, dtype, Kind::Scratch)
    }

    /// A tensor of every replica that lives as long as the program.
    pub fn state(&mut self, name: impl Into<String>, rows: u32, cols: u32, dtype: Dtype) -> Tensor {
        let shape = Shape { replicas: self.replicas, rows, cols };
        self.add(name.into(), shape, dtype, Kind::State)
    }

    /// A tensor that all replicas share and that lives as long as the program.
    pub fn shared(&mut self, name: impl Into<String>, rows: u32, cols: u32, dtype: Dtype) -> Tensor {
        self.add(name.into(), Shape { replicas: 1, rows, cols }, dtype, Kind::State)
    }

    /// A window of a one-row state tensor, `offset` elements into each replica.
    pub fn view(&mut self, name: impl Into<String>, of: Tensor, offset: u32, rows: u32, cols: u32) -> Tensor {
        debug_assert!(of.rows() == 1 && offset + rows * cols <= of.cols(), "a view lies within its tensor");
        let shape = Shape { rows, cols, ..of.shape };
        self.add(name.into(), shape, of.dtype, Kind::View { of, offset })
    }

    /// Turns to a phase: what is pushed from now on belongs to it.
    pub fn begin(&mut self, phase: Phase) {
        self.phase = phase;
        self.role = Role::Forward;
        self.layer.clear();
    }

    /// Sets what the following operations are for.
    pub fn role(&mut self, role: Role) {
        self.role = role;
    }

    /// Sets the layer that the following operations and scratch tensors belong to.
    pub fn layer(&mut self, layer: impl Into<String>) {
        self.layer = layer.into();
    }

    /// Says that a tensor's rows, or its columns, are as many as the largest rank of all replicas. Products pass it on to what
    /// they make.
    pub fn mark_ranked(&mut self, tensor: Tensor, [rows, cols]: [bool; 2]) {
        self.tensors[tensor.index()].ranked = [rows, cols];
    }

    /// Whether rows, columns and inner length of a product are as long as the largest rank.
    pub fn ranked(&self, gemm: &Gemm) -> [bool; 3] {
        let [a, b] = [gemm.a, gemm.b].map(|factor| self.info(factor).ranked);
        let [rows, inner] = if gemm.transpose_a { [a[1], a[0]] } else { a };
        [rows, b[usize::from(!gemm.transpose_b)], inner]
    }

    /// Appends an operation.
    ///
    /// # Errors
    /// If its operands' shapes do not meet.
    pub fn push(&mut self, op: impl Into<Op>) -> Result<(), ShapeError> {
        let op = op.into();
        op.check()?;
        if let Op::Gemm(gemm) = &op {
            let [rows, cols, _] = self.ranked(gemm);
            self.mark_ranked(gemm.out, [rows, cols]);
        }
        self.phases[self.phase as usize].push(Entry { op, role: self.role, layer: self.layer.clone() });
        Ok(())
    }

    /// Keeps a scratch tensor readable until another phase runs.
    pub fn keep(&mut self, tensor: Tensor) {
        self.kept[self.phase as usize].push(tensor);
    }

    /// The operations of a phase.
    pub fn entries(&self, phase: Phase) -> &[Entry] {
        &self.phases[phase as usize]
    }

    /// Replaces the operations of a phase (a pass of the plan).
    pub fn replace(&mut self, phase: Phase, entries: Vec<Entry>) {
        self.phases[phase as usize] = entries;
    }

    /// Scratch tensors that stay readable after a phase.
    pub fn kept(&self, phase: Phase) -> &[Tensor] {
        &self.kept[phase as usize]
    }

    /// The tensor table.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// What the table knows of a tensor.
    pub fn info(&self, tensor: Tensor) -> &TensorInfo {
        &self.tensors[tensor.index()]
    }

    /// The state or view of that name.
    pub fn find(&self, name: &str) -> Option<Tensor> {
        self.tensors.iter().find(|t| t.kind != Kind::Scratch && t.name == name).map(|t| t.tensor)
    }
}
