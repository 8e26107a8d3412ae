//! What a step costs: layer by layer where there are weights, by kind of operation in between.

use std::collections::{BTreeMap, HashMap};

use super::spec::ModelError;
use super::{Network, NetworkSpec, Weight};
use crate::feedback::Rank;
use crate::ops::{Entry, Op, Phase, Role};

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

/// What the operations of a training step do that stand in no layer with a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OtherKind {
    /// Softmax over positions, and the products around it.
    Attention,
    /// Batch norm and layer norm.
    Norms,
    /// ReLU, GELU, tanh and their derivatives.
    Activations,
    /// Pools, tokens, positions, dropout, and sums of values or errors.
    Rest,
    /// Layers with a weight that no error passes.
    Frozen,
    /// Images of the batch and their augmentation.
    Data,
    /// The loss, its derivative, and the sums of the metrics.
    Loss,
    /// Steps of the optimizers, and running statistics.
    Updates,
}

impl OtherKind {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            OtherKind::Attention => "attention",
            OtherKind::Norms => "norms",
            OtherKind::Activations => "activations",
            OtherKind::Rest => "pools, tokens, sums",
            OtherKind::Frozen => "frozen weights",
            OtherKind::Data => "data",
            OtherKind::Loss => "loss",
            OtherKind::Updates => "updates",
        }
    }

    fn of(entry: &Entry) -> OtherKind {
        match (entry.role, &entry.op) {
            (Role::Data, _) => OtherKind::Data,
            (Role::Loss, _) => OtherKind::Loss,
            (Role::Update, _) => OtherKind::Updates,
            (_, Op::Attention(_) | Op::AttentionQueries(_) | Op::AttentionKeys(_)) => OtherKind::Attention,
            (_, Op::Moments(_) | Op::Normalise(_) | Op::NormaliseGradients(_) | Op::NormaliseBackward(_)) => {
                OtherKind::Norms
            }
            (_, Op::LayerNorm(_) | Op::LayerNormGradients(_) | Op::LayerNormBackward(_)) => OtherKind::Norms,
            (_, Op::Activate(_) | Op::Gate(_)) => OtherKind::Activations,
            (_, Op::Gemm(_)) => OtherKind::Frozen,
            _ => OtherKind::Rest,
        }
    }
}

/// FLOPs of one training step in operations of one kind that stand in no layer with a weight, one network's.
#[derive(Clone, Debug, PartialEq)]
pub struct OtherCost {
    /// What they do.
    pub kind: OtherKind,
    /// From inputs to outputs.
    pub forward: u64,
    /// The error back to what they take.
    pub derivative: u64,
    /// The gradients of what they learn: scales, shifts, positions, tokens.
    pub gradient: u64,
    /// What is neither: data, loss and updates.
    pub aside: u64,
}

impl OtherCost {
    /// Everything.
    pub fn total(&self) -> u64 {
        self.forward + self.derivative + self.gradient + self.aside
    }
}

/// FLOPs of one training step of one network, all of them: operations as recorded, before any is fused with another.
#[derive(Clone, Debug, PartialEq)]
pub struct StepCost {
    /// The layers with weights, from input to output.
    pub layers: Vec<LayerCost>,
    /// What stands between and around them; kinds that compute nothing are left out.
    pub others: Vec<OtherCost>,
}

impl StepCost {
    /// Everything.
    pub fn total(&self) -> u64 {
        self.layers.iter().map(LayerCost::total).sum::<u64>() + self.others.iter().map(OtherCost::total).sum::<u64>()
    }

    /// The backward pass: from the loss's derivative to all gradients.
    pub fn backward(&self) -> u64 {
        let layers = self.layers.iter().map(|layer| layer.total() - layer.forward);
        layers.chain(self.others.iter().map(|other| other.derivative + other.gradient)).sum()
    }
}

/// Purposes that [`LayerCost`] has a number for.
const OF_LAYERS: [Role; 4] = [Role::Forward, Role::Transport, Role::WeightGradient, Role::Feedback];

/// What a training step costs, of the first replica.
pub fn step_cost(network: &Network) -> StepCost {
    let names: Vec<&str> = network.weights.iter().map(|weight| weight.name.as_str()).collect();
    let is_layers = |entry: &Entry| OF_LAYERS.contains(&entry.role) && names.contains(&entry.layer.as_str());
    let mut others: BTreeMap<OtherKind, OtherCost> = BTreeMap::new();
    for entry in network.recording.entries(Phase::Train).iter().filter(|entry| !is_layers(entry)) {
        let kind = OtherKind::of(entry);
        let cost = others.entry(kind).or_insert(OtherCost { kind, forward: 0, derivative: 0, gradient: 0, aside: 0 });
        let part = match entry.role {
            Role::Forward => &mut cost.forward,
            Role::Derivative | Role::Transport => &mut cost.derivative,
            Role::WeightGradient => &mut cost.gradient,
            Role::Data | Role::Loss | Role::Feedback | Role::Update | Role::Diagnosis => &mut cost.aside,
        };
        // What all replicas share is done once, also for one.
        *part += entry.op.cost().flops / u64::from(entry.op.replicas());
    }
    StepCost { layers: layer_costs(network), others: others.into_values().filter(|cost| cost.total() > 0).collect() }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feedback::FeedbackSpec;
    use crate::model::{FeedSpec, LayerSpec, Loss, Precision, Targets};
    use crate::optim::{Algorithm, OptimizerSpec};

    /// A transformer of one block on images of 8 x 8, which has all kinds of operations but batch norm and pools.
    fn transformer(feedback: FeedbackSpec) -> NetworkSpec {
        let layers = r#"[
            {"type": "conv", "out": 8, "kernel": 4, "stride": 4},
            {"type": "class-token"},
            {"type": "position"},
            {"type": "residual", "layers": [
                {"type": "layernorm"},
                {"type": "dense", "out": 24},
                {"type": "attention", "heads": 2, "dropout": 0.1},
                {"type": "dense", "out": 8}
            ]},
            {"type": "gelu"},
            {"type": "first-token"},
            {"type": "dropout", "p": 0.1},
            {"type": "dense", "out": 3}
        ]"#;
        let layers: Vec<LayerSpec> = serde_json::from_str(layers).unwrap();
        let adam = OptimizerSpec { algorithm: Algorithm::Adam, ..OptimizerSpec::sgd(1e-3) };
        NetworkSpec {
            layers,
            freeze: Vec::new(),
            loss: Loss::CrossEntropy,
            label_smoothing: 0.0,
            ranks: feedback.rank_list().into_iter().map(Some).collect(),
            feedback,
            optimizer: adam.clone(),
            feedback_optimizer: adam,
            precision: Precision::F32,
            batch: 5,
            accumulate: 1,
            evaluation_batch: 5,
            feed: FeedSpec::Host { image: [8, 8, 3] },
            targets: Targets::Classes(3),
        }
    }

    fn recorded(network: &Network) -> u64 {
        network.recording.entries(Phase::Train).iter().map(|entry| entry.op.cost().flops).sum()
    }

    #[test]
    fn every_operation_of_a_step_is_counted_once() {
        for rank in [2, 3] {
            let feedback =
                FeedbackSpec { rank: Some(crate::feedback::Ranks::One(rank.into())), ..FeedbackSpec::default() };
            let network = Network::new(&transformer(feedback)).unwrap();
            let cost = step_cost(&network);
            assert_eq!(cost.total(), recorded(&network));
            let kinds: Vec<OtherKind> = cost.others.iter().map(|other| other.kind).collect();
            let wanted = [
                OtherKind::Attention,
                OtherKind::Norms,
                OtherKind::Activations,
                OtherKind::Rest,
                OtherKind::Loss,
                OtherKind::Updates,
            ];
            assert_eq!(kinds, wanted);
            let of = |wanted| cost.others.iter().find(|other| other.kind == wanted).unwrap();
            let attention = of(OtherKind::Attention);
            // Of 5 samples and both heads of 4 channels, q k^T and the sum of values alone: 5 positions each way.
            assert!(attention.forward >= 2 * 5 * 2 * 2 * 5 * 5 * 4 && attention.derivative > attention.forward);
            assert!(of(OtherKind::Norms).gradient > 0 && of(OtherKind::Updates).aside > 0);
        }
    }

    #[test]
    fn what_stands_between_weights_costs_every_rule_the_same() {
        let feedback = FeedbackSpec { rank: Some(crate::feedback::Ranks::One(2.into())), ..FeedbackSpec::default() };
        let own = step_cost(&Network::new(&transformer(feedback)).unwrap());
        let exact = NetworkSpec { ranks: vec![None], ..transformer(FeedbackSpec::backprop()) };
        let network = Network::new(&exact).unwrap();
        let exact = step_cost(&network);
        assert_eq!(exact.total(), recorded(&network));
        let same = |cost: &StepCost| -> Vec<_> {
            cost.others.iter().filter(|other| other.kind != OtherKind::Updates).cloned().collect()
        };
        assert_eq!(same(&own), same(&exact), "how errors pass the weights changes nothing between them");
        assert!(own.backward() < own.total() && exact.backward() < exact.total());
    }
}
