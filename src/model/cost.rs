//! What a step costs, layer by layer.

use super::Network;
use crate::ops::{Phase, Role};

/// FLOPs of one training step in one layer with a weight, one network's.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerCost {
    /// `layers.<index>`.
    pub name: String,
    /// m x k of the weight, taps counted with k.
    pub weight: [u32; 2],
    /// Rank of its feedback; none where the error goes back exactly or not at all.
    pub rank: Option<u32>,
    /// From inputs to outputs.
    pub forward: u64,
    /// The error back to the layer's input.
    pub transport: u64,
    /// The gradients of weight and bias.
    pub weight_gradient: u64,
    /// The gradients of P and Q.
    pub learning: u64,
}

impl LayerCost {
    /// What depends on how errors travel.
    pub fn feedback(&self) -> u64 {
        self.transport + self.learning
    }

    /// Everything.
    pub fn total(&self) -> u64 {
        self.forward + self.weight_gradient + self.feedback()
    }
}

/// The layers with weights, from input to output: operations as recorded, of the first replica.
pub fn layer_costs(network: &Network) -> Vec<LayerCost> {
    let replicas = network.replicas() as u64;
    let entries = network.recording.entries(Phase::Train);
    let layer = |linear: &super::LinearLayer| {
        let of = |role| {
            let own = entries.iter().filter(|e| e.role == role && e.layer == linear.name);
            own.map(|e| e.op.cost().flops).sum::<u64>() / replicas
        };
        LayerCost {
            name: linear.name.clone(),
            weight: [linear.weight.value.rows(), linear.weight.value.cols()],
            rank: linear.ranks.first().copied(),
            forward: of(Role::Forward),
            transport: of(Role::Transport),
            weight_gradient: of(Role::WeightGradient),
            learning: of(Role::Feedback),
        }
    };
    network.linear.iter().map(layer).collect()
}
