//! How many dispatches a training step of every preset takes: work that nobody asked for shows here first.

use ldfa_gpu::feedback::{FeedbackSpec, PRule, QRule, Rank, Ranks, Rule};
use ldfa_gpu::model::{Network, NetworkSpec};
use ldfa_gpu::ops::Phase;
use ldfa_gpu::plan::{Options, Plan, Profile};
use ldfa_gpu::train::config::{Draft, presets};
use ldfa_gpu::train::spec::network_spec;

mod made_up;

use made_up::made_up;

/// What a preset is planned with: its own rule, the same with its batch in two micro-batches, then other rules.
const COLUMNS: [&str; 5] = ["own", "halves", "oja, hebbian", "normative", "backprop"];

/// Of a GPU, then of a software adapter with subgroups of eight lanes. Those of the transformers are from when these came and their
/// weights' gradients were split for the cache, all others from before every layer recorded its own operations.
const RECORDED: [(&str, [[usize; 5]; 2]); 11] = [
    ("digits", [[22, 44, 22, 40, 15], [25, 50, 25, 25, 15]]),
    ("fashion-mnist", [[38, 76, 38, 56, 31], [40, 80, 40, 40, 30]]),
    ("cifar10-mlp", [[41, 82, 41, 69, 36], [40, 80, 40, 40, 30]]),
    ("lenet", [[37, 74, 37, 54, 26], [38, 74, 38, 36, 25]]),
    ("vgg-small", [[163, 266, 140, 179, 96], [139, 235, 134, 125, 90]]),
    ("vgg-cifar10", [[172, 270, 137, 190, 88], [137, 233, 134, 138, 88]]),
    ("resnet20-cifar10", [[432, 686, 356, 432, 233], [352, 606, 357, 317, 233]]),
    ("vit-small", [[167, 260, 129, 167, 94], [134, 225, 138, 122, 94]]),
    ("vit-cifar10", [[605, 896, 417, 597, 284], [614, 951, 478, 422, 314]]),
    ("retina-small", [[44, 88, 46, 66, 29], [39, 70, 41, 39, 24]]),
    ("retina-cifar10", [[71, 142, 73, 110, 44], [72, 144, 74, 93, 43]]),
];

fn ldfa(p: PRule, q: QRule) -> FeedbackSpec {
    FeedbackSpec { p: Some(p), q: Some(q), rank: Some(Ranks::One(Rank::Of(10))), ..FeedbackSpec::default() }
}

/// The networks of [`COLUMNS`].
fn networks(preset: NetworkSpec) -> [NetworkSpec; 5] {
    let with = |feedback: FeedbackSpec| {
        let ranks = vec![feedback.rank_list().first().copied()];
        NetworkSpec { feedback, ranks, ..preset.clone() }
    };
    let own = NetworkSpec { ranks: preset.ranks[..1].to_vec(), ..preset.clone() };
    [
        own.clone(),
        NetworkSpec { accumulate: 2, ..own },
        with(ldfa(PRule::Oja, QRule::Hebbian)),
        with(ldfa(PRule::Normative, QRule::Normative)),
        with(FeedbackSpec { rule: Rule::Backprop, ..FeedbackSpec::default() }),
    ]
}

fn dispatches(spec: &NetworkSpec, profile: &Profile) -> usize {
    let recording = Network::new(spec).unwrap().recording;
    Plan::new(recording, profile, Options::default()).unwrap().nodes(Phase::Train).len()
}

#[test]
fn no_training_step_takes_more_dispatches_than_it_did() {
    let unlimited = Profile { max_binding_bytes: u64::MAX, ..Profile::reference() };
    let gpu = Profile { software: false, subgroup_lanes: Some(32), ..unlimited };
    let software = Profile { software: true, subgroup_lanes: Some(8), ..unlimited };
    println!("dispatches a step: {}; on a GPU, in software", COLUMNS.join(" | "));
    let mut grown = Vec::new();
    for preset in presets() {
        let config = Draft::open(preset).unwrap().finish().unwrap();
        let networks = networks(network_spec(&config, &made_up(&config)).unwrap());
        let found = [gpu, software].map(|profile| networks.each_ref().map(|spec| dispatches(spec, &profile)));
        println!("    (\"{preset}\", {found:?}),");
        let recorded = RECORDED.iter().find(|(name, _)| *name == preset);
        let (_, recorded) = recorded.unwrap_or_else(|| panic!("record how many dispatches {preset} takes"));
        let counts = found.as_flattened().iter().zip(recorded.as_flattened());
        for ((found, recorded), column) in counts.zip(COLUMNS.iter().cycle()).filter(|((f, r), _)| f > r) {
            grown.push(format!("{preset}, {column}: {found} dispatches where there were {recorded}"));
        }
    }
    assert!(grown.is_empty(), "{}", grown.join("\n"));
}
