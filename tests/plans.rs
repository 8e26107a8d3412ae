//! How many dispatches a training step of every preset takes: work that nobody asked for shows here first.

use ldfa_gpu::feedback::{FeedbackSpec, PRule, QRule, Rank, Ranks, Rule};
use ldfa_gpu::model::{Network, NetworkSpec};
use ldfa_gpu::ops::{
    Add, Cell, Dtype, Gemm, LayerNormBackward, Op, Phase, Recording, Recurrence, RecurrenceBackward, Role, StateWeight,
    Steps,
};
use ldfa_gpu::plan::{Options, Plan, Profile};
use ldfa_gpu::train::config::{Draft, presets};
use ldfa_gpu::train::spec::network_spec;

mod made_up;

use made_up::made_up;

/// What a preset is planned with: its own rule, the same with its batch in two micro-batches, then other rules.
const COLUMNS: [&str; 5] = ["own", "halves", "oja, hebbian", "normative", "backprop"];

/// Of a GPU, then of a software adapter with subgroups of eight lanes. Those of the transformers are from when these came and their
/// weights' gradients were split for the cache, all others but those of sequences from before every layer recorded its own operations.
const RECORDED: [(&str, [[usize; 5]; 2]); 16] = [
    ("digits", [[22, 44, 22, 40, 15], [25, 50, 25, 25, 15]]),
    ("fashion-mnist", [[38, 76, 38, 56, 31], [40, 80, 40, 40, 30]]),
    ("cifar10-mlp", [[41, 82, 41, 69, 36], [40, 80, 40, 40, 30]]),
    ("lenet", [[37, 74, 37, 54, 26], [38, 74, 38, 36, 25]]),
    ("vgg-small", [[163, 266, 140, 179, 96], [139, 235, 134, 125, 90]]),
    ("vgg-cifar10", [[172, 270, 137, 190, 88], [137, 233, 134, 138, 88]]),
    ("resnet20-cifar10", [[432, 686, 356, 432, 233], [352, 606, 357, 317, 233]]),
    ("vit-small", [[167, 260, 129, 167, 94], [134, 225, 138, 122, 94]]),
    ("vit-cifar10", [[605, 896, 417, 597, 284], [614, 951, 478, 422, 314]]),
    ("digits-rows", [[22, 38, 22, 32, 15], [22, 42, 22, 22, 15]]),
    ("mnist-rows", [[63, 108, 53, 63, 73], [26, 36, 28, 26, 19]]),
    ("mnist-pixels", [[821, 1622, 809, 821, 1585], [50, 92, 53, 51, 50]]),
    ("adding", [[36, 54, 26, 36, 19], [26, 36, 27, 26, 19]]),
    ("text", [[112, 198, 100, 112, 150], [33, 43, 38, 33, 24]]),
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

/// Whatever plans add for speed, a preset runs where bindings are as small as WebGPU allows.
#[test]
fn every_preset_fits_the_least_binding() {
    let least = Profile { max_binding_bytes: 128 << 20, ..Profile::reference() };
    let gpu = Profile { software: false, subgroup_lanes: Some(32), ..least };
    let software = Profile { software: true, subgroup_lanes: Some(8), ..least };
    for preset in presets() {
        let config = Draft::open(preset).unwrap().finish().unwrap();
        let spec = network_spec(&config, &made_up(&config)).unwrap();
        let spec = NetworkSpec { ranks: spec.ranks[..1].to_vec(), ..spec };
        for profile in [gpu, software] {
            let recording = Network::new(&spec).unwrap().recording;
            if let Err(e) = Plan::new(recording, &profile, Options::default()) {
                panic!("{preset}, software: {}: {e}", profile.software);
            }
        }
    }
}

/// Steps of the recurrences of a GRU, in the plan's order: forward, then back.
fn pieces(width: u32, length: u32, factored: bool, profile: &Profile) -> [Vec<Steps>; 2] {
    let mut rec = Recording::new(1);
    let (rows, gates) = (4 * length, 3 * width);
    let mut state = |name: &str, rows, cols| rec.state(name, rows, cols, Dtype::F32);
    let (a, weight, bias) = (state("a", rows, gates), state("weight", gates, width), state("bias", 1, gates));
    let (p, q, error) = (state("p", gates, 16), state("q", 16, width), state("error", rows, width));
    let (out, kept, y) = (state("out", rows, width), state("kept", rows, 5 * width), state("y", rows, 16));
    let (of_gates, hidden) = (state("gates", rows, gates), state("hidden", rows, gates));
    let carried = state("carried", 4, width);
    rec.begin(Phase::Train);
    let (cell, steps) = (Cell::Gru, Steps::all(length));
    rec.push(Recurrence { a, weight, bias, out, saved: Some(kept), cell, steps }).unwrap();
    rec.push(RecurrenceBackward {
        error,
        saved: kept,
        gates: of_gates,
        hidden: Some(hidden),
        carried: Some(carried),
        through: if factored { StateWeight::Factored { p, q, y } } else { StateWeight::Whole(weight) },
        clamp: None,
        window: None,
        cell,
        steps,
    })
    .unwrap();
    let plan = Plan::new(rec, profile, Options::default()).unwrap();
    let mut found = [Vec::new(), Vec::new()];
    for node in plan.nodes(Phase::Train) {
        match &node.entry.op {
            Op::Recurrence(op) => found[0].push(op.steps),
            Op::RecurrenceBackward(op) => found[1].push(op.steps),
            op => panic!("{op:?}"),
        }
    }
    found
}

/// All steps are taken once, in their order, whatever cuts them. The factors of low rank keep them in one dispatch on GPUs, where a
/// whole weight wider than a tile takes a dispatch a step; a CPU's driver ends loops that are too long.
#[test]
fn recurrences_are_cut_where_they_must_be() {
    let unlimited = Profile { max_binding_bytes: u64::MAX, ..Profile::reference() };
    let gpu = Profile { software: false, subgroup_lanes: Some(32), ..unlimited };
    let software = Profile { software: true, subgroup_lanes: Some(8), ..unlimited };
    for (profile, width, length, factored, most) in [
        (&gpu, 64, 28, false, [1, 1]),
        (&gpu, 256, 28, false, [28, 28]),
        (&gpu, 256, 784, true, [784, 1]),
        (&software, 64, 28, true, [1, 1]),
        (&software, 256, 28, true, [2, 1]),
        (&software, 256, 28, false, [2, 2]),
        (&software, 128, 784, true, [14, 12]),
    ] {
        let [forward, mut back] = pieces(width, length, factored, profile);
        assert_eq!([forward.len(), back.len()], most, "{width} wide, {length} steps, factored: {factored}");
        back.reverse();
        for taken in [forward, back] {
            let mut next = 0;
            for steps in taken {
                assert_eq!((steps.first, steps.length), (next, length));
                next = steps.end();
            }
            assert_eq!(next, length);
        }
    }
}

/// What a residual layer adds comes for free behind a product, a transport through low rank, and layer norm's way back.
#[test]
fn residual_sums_join_what_they_follow() {
    let mut rec = Recording::new(1);
    let mut state = |name: &str, rows, cols| rec.state(name, rows, cols, Dtype::F32);
    let (delta, p, q) = (state("delta", 40, 24), state("p", 24, 4), state("q", 4, 24));
    let (skip, moments, gamma) = (state("skip", 40, 24), state("moments", 40, 2), state("gamma", 1, 24));
    rec.begin(Phase::Train);
    let mut made = || rec.scratch("made", 40, 24);
    let [sent, through, normal] = [made(), made(), made()];
    let [first, second, third] = [made(), made(), made()];
    let y = rec.scratch("y", 40, 4);
    rec.role(Role::Transport);
    rec.push(Gemm::nn(delta, p, y)).unwrap();
    rec.push(Gemm::nn(y, q, sent)).unwrap();
    rec.push(Add { a: skip, b: sent, out: first }).unwrap();
    rec.role(Role::Forward);
    rec.push(Gemm::nn(y, q, through)).unwrap();
    rec.push(Add { a: through, b: first, out: second }).unwrap();
    rec.push(LayerNormBackward { error: second, x: skip, moments, gamma, addend: None, out: normal }).unwrap();
    rec.push(Add { a: normal, b: skip, out: third }).unwrap();
    // Added to itself it has no other addend.
    let twice = rec.scratch("twice", 40, 24);
    rec.push(Add { a: third, b: third, out: twice }).unwrap();
    rec.keep(twice);
    for software in [false, true] {
        let profile = Profile { software, subgroup_lanes: Some(if software { 8 } else { 32 }), ..Profile::reference() };
        let plan = Plan::new(rec.clone(), &profile, Options::default()).unwrap();
        let found: Vec<_> = plan.nodes(Phase::Train).iter().map(|node| node.entry.op.clone()).collect();
        let [Op::Transport(transport), Op::Gemm(product), Op::LayerNormBackward(norm), Op::Add(_)] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!((transport.out, transport.epilogue.addend), (first, Some((skip, 1.0))));
        assert_eq!((product.out, product.epilogue.addend), (second, Some((first, 1.0))));
        assert_eq!((norm.out, norm.addend), (third, Some(skip)));
    }
}
