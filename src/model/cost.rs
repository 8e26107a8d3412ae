//! What a step costs, layer by layer.

use std::collections::HashMap;

use super::spec::ModelError;
use super::{Network, NetworkSpec, Weight};
use crate::feedback::Rank;
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
    let mut flops: HashMap<(&str, Role), u64> = HashMap::new();
    for entry in network.recording.entries(Phase::Train) {
        *flops.entry((&entry.layer, entry.role)).or_default() += entry.op.cost().flops;
    }
    let layer = |weight: &Weight| {
        let of = |role| flops.get(&(weight.name.as_str(), role)).map_or(0, |flops| flops / replicas);
        LayerCost {
            name: weight.name.clone(),
            weight: [weight.learned.value.rows(), weight.learned.value.cols()],
            rank: weight.ranks().first().copied(),
            forward: of(Role::Forward),
            transport: of(Role::Transport),
            weight_gradient: of(Role::WeightGradient),
            learning: of(Role::Feedback),
        }
    };
    network.weights.iter().map(layer).collect()
}

/// The largest rank of every layer at which its feedback costs less than the exact transport; none where the feedback has
/// no rank. Found by halving, all layers at once: a network is recorded in milliseconds.
///
/// `own` are the costs of the network that `spec` describes, `exact` those of the same by backpropagation.
///
/// # Errors
/// Those of [`Network::new`].
pub fn break_even(spec: &NetworkSpec, own: &[LayerCost], exact: &[LayerCost]) -> Result<Vec<Option<u32>>, ModelError> {
    let at = |ranks: &[u32]| -> Result<Vec<LayerCost>, ModelError> {
        let mut spec = spec.clone();
        let factored = own.iter().zip(ranks).filter(|(layer, _)| layer.rank.is_some());
        spec.feedback.ranks = factored.map(|(layer, rank)| (layer.name.clone(), Rank::Of(*rank).into())).collect();
        Ok(layer_costs(&Network::new(&spec)?))
    };
    if own.iter().all(|layer| layer.rank.is_none()) {
        return Ok(vec![None; own.len()]);
    }
    // The whole width, which is clipped to what the layer can use.
    let widest: Vec<u32> = {
        let mut spec = spec.clone();
        spec.feedback.ranks.clear();
        spec.ranks = vec![Some(Rank::WidthOver(1))];
        layer_costs(&Network::new(&spec)?).iter().map(|layer| layer.rank.unwrap_or(0)).collect()
    };
    let (mut pays, mut fails): (Vec<u32>, Vec<u32>) = widest.iter().map(|rank| (0, rank + 1)).unzip();
    while pays.iter().zip(&fails).any(|(pays, fails)| fails - pays > 1) {
        let middle: Vec<u32> = pays.iter().zip(&fails).map(|(pays, fails)| ((pays + fails) / 2).max(1)).collect();
        for (index, cost) in at(&middle)?.iter().enumerate() {
            if fails[index] - pays[index] > 1 {
                let side = if cost.feedback() < exact[index].feedback() { &mut pays } else { &mut fails };
                side[index] = middle[index];
            }
        }
    }
    Ok(own.iter().zip(pays).map(|(layer, rank)| layer.rank.map(|_| rank)).collect())
}
