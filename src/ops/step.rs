//! What changes from step to step.

/// Most networks that one run trains side by side; the step's uniform block has room for this many.
pub const MAX_REPLICAS: usize = 64;

/// Bias corrections of Adam for one optimizer group at this step; 1 where the rule has none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupStep {
    /// 1 - beta1^t.
    pub correction1: f64,
    /// sqrt(1 - beta2^t).
    pub correction2_root: f64,
}

impl Default for GroupStep {
    fn default() -> Self {
        GroupStep { correction1: 1.0, correction2_root: 1.0 }
    }
}

/// Hyper-parameters and seed of one replica at this step; arrays are indexed by optimizer group.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReplicaStep {
    /// Key of the replica's random numbers.
    pub seed: u32,
    /// Learning rates of weights and feedback.
    pub rate: [f64; 2],
    /// Weight decays of weights and feedback.
    pub decay: [f64; 2],
}

/// Everything a step reads besides tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct StepState {
    /// Steps taken before this one; key of the random numbers.
    pub step: u32,
    /// First entry of the permutation that this batch takes.
    pub cursor: u32,
    /// Rows of the batch that hold a sample; the rest are absent.
    pub active_rows: u32,
    /// Weights and feedback.
    pub groups: [GroupStep; 2],
    /// One entry a replica, at most [`MAX_REPLICAS`].
    pub replicas: Vec<ReplicaStep>,
}
