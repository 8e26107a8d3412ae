//! The recording: a tensor table and, for each phase, the operations in order.

use std::collections::{HashMap, HashSet};

use super::{Dtype, Gemm, Kind, Op, RecurrenceBackward, Shape, ShapeError, StateWeight, TensorInfo, View};

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

/// A stretch of a phase, between which a scheduler may put something: a sum over devices, a look at a tensor.
///
/// A training step goes forward and backward once for each micro-batch, then reduces, then updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Section {
    /// A batch from the data set, from inputs to the loss.
    Forward,
    /// Errors, and what is summed over samples: gradients of weights, what local rules learn from.
    Backward,
    /// Nothing on one device: here a scheduler adds over devices what [`Recording::reductions`] lists.
    Reduce,
    /// Once a step, from those sums: gradients that no sample enters, optimizers, running statistics.
    Update,
    /// All of an evaluation.
    Evaluate,
    /// All of a diagnosis.
    Diagnose,
}

impl Section {
    /// Name in plans.
    pub fn name(self) -> &'static str {
        match self {
            Section::Forward => "forward",
            Section::Backward => "backward",
            Section::Reduce => "reduce",
            Section::Update => "update",
            Section::Evaluate => "evaluate",
            Section::Diagnose => "diagnose",
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
    /// Where in the phase it stands.
    pub section: Section,
    /// The layer it belongs to, empty for what belongs to none.
    pub layer: String,
}

/// A program as plain data: it can be printed, counted, rewritten and compared.
#[derive(Clone, Debug)]
pub struct Recording {
    replicas: u32,
    tensors: Vec<TensorInfo>,
    named: Vec<(String, View)>,
    // Of views whose rows or columns are as many as the largest rank.
    ranked: HashMap<View, [bool; 2]>,
    phases: [Vec<Entry>; 3],
    kept: [Vec<View>; 3],
    reductions: Vec<View>,
    // What operations of the present phase have written.
    written: HashSet<View>,
    phase: Phase,
    section: Section,
    role: Role,
    layer: String,
}

impl Recording {
    /// An empty recording for so many networks side by side.
    pub fn new(replicas: u32) -> Recording {
        Recording {
            replicas,
            tensors: Vec::new(),
            named: Vec::new(),
            ranked: HashMap::new(),
            phases: Default::default(),
            kept: Default::default(),
            reductions: Vec::new(),
            written: HashSet::new(),
            phase: Phase::Train,
            section: Section::Forward,
            role: Role::Forward,
            layer: String::new(),
        }
    }

    /// Networks side by side.
    pub fn replicas(&self) -> u32 {
        self.replicas
    }

    fn add(&mut self, name: String, shape: Shape, dtype: Dtype, kind: Kind) -> View {
        let id = u32::try_from(self.tensors.len()).expect("fewer than 2^32 tensors");
        let tensor = View::whole(id, shape, dtype);
        self.tensors.push(TensorInfo { name, tensor, kind });
        tensor
    }

    /// A tensor that lives from its writer to its last reader within a phase.
    pub fn scratch(&mut self, name: impl Into<String>, rows: u32, cols: u32) -> View {
        self.scratch_of(name, rows, cols, Dtype::F32)
    }

    /// [`Recording::scratch`] of another element type.
    pub fn scratch_of(&mut self, name: impl Into<String>, rows: u32, cols: u32, dtype: Dtype) -> View {
        let shape = Shape::matrix(self.replicas, rows, cols);
        let name = if self.layer.is_empty() { name.into() } else { format!("{}.{}", self.layer, name.into()) };
        self.add(name, shape, dtype, Kind::Scratch)
    }

    /// A tensor of every replica that lives as long as the program.
    pub fn state(&mut self, name: impl Into<String>, rows: u32, cols: u32, dtype: Dtype) -> View {
        let shape = Shape::matrix(self.replicas, rows, cols);
        self.add(name.into(), shape, dtype, Kind::State)
    }

    /// A tensor of every replica that lives as long as the program and is no part of what a run has come to.
    pub fn workspace(&mut self, name: impl Into<String>, rows: u32, cols: u32, dtype: Dtype) -> View {
        let shape = Shape::matrix(self.replicas, rows, cols);
        self.add(name.into(), shape, dtype, Kind::Workspace)
    }

    /// A workspace that all replicas share.
    pub fn shared(&mut self, name: impl Into<String>, rows: u32, cols: u32, dtype: Dtype) -> View {
        self.add(name.into(), Shape::matrix(1, rows, cols), dtype, Kind::Workspace)
    }

    /// Gives a part of a state a name of its own, such as a member of a parameter group.
    pub fn name(&mut self, view: View, name: impl Into<String>) {
        self.named.push((name.into(), view));
    }

    /// Turns to a phase: what is pushed from now on belongs to it.
    pub fn begin(&mut self, phase: Phase) {
        self.phase = phase;
        self.section = match phase {
            Phase::Train => Section::Forward,
            Phase::Evaluate => Section::Evaluate,
            Phase::Diagnose => Section::Diagnose,
        };
        self.role = Role::Forward;
        self.layer.clear();
        self.written.clear();
    }

    /// Turns to a section of a training step; an evaluation and a diagnosis have one each.
    pub fn section(&mut self, section: Section) {
        if self.phase == Phase::Train {
            self.section = section;
        }
    }

    /// Whether an operation of this phase has written a view. The first use of a parameter writes its gradient, each later one
    /// adds to it.
    pub fn has_written(&self, view: View) -> bool {
        self.written.contains(&view)
    }

    /// Notes that a view holds sums over samples when a training step comes to [`Section::Reduce`].
    pub fn reduce(&mut self, view: View) {
        self.reductions.push(view);
    }

    /// What holds sums over samples between the backward passes and the update.
    pub fn reductions(&self) -> &[View] {
        &self.reductions
    }

    /// Sets what the following operations are for.
    pub fn role(&mut self, role: Role) {
        self.role = role;
    }

    /// Sets the layer that the following operations and scratch tensors belong to.
    pub fn layer(&mut self, layer: impl Into<String>) {
        self.layer = layer.into();
    }

    /// Says that a view's rows, or its columns, are as many as the largest rank of all replicas: those of smaller ranks have zeros
    /// there. Products pass it on to what they make, and so does an error's way back through time.
    pub fn mark_ranked(&mut self, view: View, ranked: [bool; 2]) {
        self.ranked.insert(view, ranked);
    }

    /// Whether rows, columns and inner length of a product are as long as the largest rank.
    pub fn ranked(&self, gemm: &Gemm) -> [bool; 3] {
        let [a, b] = [gemm.a, gemm.b].map(|factor| self.ranked.get(&factor).copied().unwrap_or_default());
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
        if let Op::RecurrenceBackward(RecurrenceBackward { through: StateWeight::Factored { p, y, .. }, .. }) = op {
            let [_, cols] = self.ranked.get(&p).copied().unwrap_or_default();
            self.mark_ranked(y, [false, cols]);
        }
        self.written.extend(op.outputs());
        let (role, section, layer) = (self.role, self.section, self.layer.clone());
        self.phases[self.phase as usize].push(Entry { op, role, section, layer });
        Ok(())
    }

    /// Keeps a scratch tensor readable until another phase runs.
    pub fn keep(&mut self, tensor: View) {
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
    pub fn kept(&self, phase: Phase) -> &[View] {
        &self.kept[phase as usize]
    }

    /// The tensor table.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// What the table knows of a view's tensor.
    pub fn info(&self, view: View) -> &TensorInfo {
        &self.tensors[view.index()]
    }

    /// Parts of states that have a name of their own.
    pub fn named(&self) -> &[(String, View)] {
        &self.named
    }

    /// The state, or part of one, of that name.
    pub fn find(&self, name: &str) -> Option<View> {
        let states = self.tensors.iter().filter(|t| t.kind != Kind::Scratch).map(|t| (&t.name, t.tensor));
        let parts = self.named.iter().map(|(name, view)| (name, *view));
        states.chain(parts).find(|(known, _)| *known == name).map(|(_, view)| view)
    }
}
