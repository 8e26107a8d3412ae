//! What single layers do in a network that trains: those that are frozen, and those that few other tests use.

use ldfa_gpu::feedback::{FeedbackSpec, LayerRank, PRule, QRule, Rank, Ranks, Source, Statistics};
use ldfa_gpu::model::{
    DataFeed, Feed, FeedSpec, LayerSpec, Loss, Network, NetworkSpec, Precision, Targets, initialise, layers,
};
use ldfa_gpu::ops::random::{pcg4d, unit};
use ldfa_gpu::ops::{Augment, Cell, Encoding, Phase, ReplicaStep, StepState};
use ldfa_gpu::optim::OptimizerSpec;
use ldfa_gpu::plan::{Blocking, Options, Plan, Profile};
use ldfa_gpu::reference::Reference;

const IMAGE: [u32; 3] = [4, 6, 2];
const CLASSES: u32 = 3;
const BATCH: u32 = 7;

fn dense(out: u32) -> LayerSpec {
    layers::Dense::new(out).into()
}

fn tanh() -> LayerSpec {
    layers::Tanh {}.into()
}

fn spec(layers: Vec<LayerSpec>, feedback: FeedbackSpec, freeze: &[&str]) -> NetworkSpec {
    let ranks = vec![feedback.rank_list().first().copied()];
    NetworkSpec {
        layers,
        freeze: freeze.iter().map(|name| (*name).to_owned()).collect(),
        loss: Loss::CrossEntropy,
        label_smoothing: 0.0,
        feedback,
        optimizer: OptimizerSpec::sgd(0.1),
        feedback_optimizer: OptimizerSpec::sgd(0.05),
        precision: Precision::F32,
        batch: BATCH,
        accumulate: 1,
        evaluation_batch: BATCH,
        ranks,
        feed: FeedSpec::Host { image: IMAGE },
        targets: Targets::Classes(CLASSES),
    }
}

/// A network in f64 with its first values and a batch.
fn machine(spec: &NetworkSpec) -> (Network, Blocking<Reference>) {
    let network = Network::new(spec).unwrap();
    let plan = Plan::new(network.recording.clone(), &Profile::reference(), Options::default()).unwrap();
    let mut executor = Blocking::new(Reference::new(plan));
    for (tensor, values) in initialise(&network, &spec.feedback, &[3]).unwrap() {
        executor.write(tensor, &values).unwrap();
    }
    let Feed::Host { x, labels } = network.feed else { unreachable!("asked for a host feed") };
    let input = |at: usize| 2.0 * unit(pcg4d([at as u32, 1, 2, 3])[0]) - 1.0;
    executor.write(x, &(0..x.shape.elements()).map(input).collect::<Vec<_>>()).unwrap();
    let classes = (0..labels.shape.elements()).map(|at| (at % CLASSES as usize) as f64);
    executor.write(labels, &classes.collect::<Vec<_>>()).unwrap();
    (network, executor)
}

fn step(at: u32) -> StepState {
    let replica = ReplicaStep { seed: 3, rate: [0.1, 0.05], decay: [0.0; 2] };
    StepState { step: at, cursor: 0, active_rows: BATCH, groups: Default::default(), replicas: vec![replica] }
}

fn values(network: &Network, executor: &mut Blocking<Reference>) -> Vec<(String, Vec<f64>)> {
    network.exchange.iter().map(|e| (e.name.clone(), executor.read(e.tensor).unwrap())).collect()
}

fn local() -> FeedbackSpec {
    let rank = Some(Ranks::One(Rank::Of(2)));
    FeedbackSpec { p: Some(PRule::Oja), q: Some(QRule::Hebbian), rank, ..FeedbackSpec::default() }
}

fn blocks() -> Vec<LayerSpec> {
    let conv = layers::Conv {
        out: 5,
        kernel: ldfa_gpu::model::Sides::One(2),
        stride: ldfa_gpu::model::Sides::One(2),
        padding: ldfa_gpu::model::Sides::default(),
    };
    let norm = || LayerSpec::LayerNorm(layers::LayerNorm { eps: 1e-5 });
    let batch_norm = || LayerSpec::BatchNorm(layers::BatchNorm {});
    let block = |layers: Vec<LayerSpec>, layer_scale| {
        LayerSpec::from(layers::Residual { layers, layer_scale, ..layers::Residual::default() })
    };
    vec![
        conv.into(),
        block(vec![norm(), dense(8), tanh(), dense(5)], Some(0.5)),
        block(vec![batch_norm(), dense(5)], None),
        layers::GlobalAvgPool {}.into(),
        dense(CLASSES),
    ]
}

/// Frozen layers keep every value that they start with, P and Q among them, and what stands before and behind them
/// learns.
#[test]
fn frozen_layers_keep_their_first_values() {
    for (freeze, frozen) in [
        (&["blocks"][..], &["layers.1.", "layers.2."][..]),
        (&["layers.1"], &["layers.1."]),
        (&["layers.2.main.1", "layers.4"], &["layers.2.main.1.", "layers.4."]),
    ] {
        for feedback in [FeedbackSpec::backprop(), local()] {
            let spec = spec(blocks(), feedback, freeze);
            let (network, mut executor) = machine(&spec);
            let before = values(&network, &mut executor);
            executor.run(Phase::Train, &[step(0), step(1)]).unwrap();
            let after = values(&network, &mut executor);
            for ((name, before), (_, after)) in before.iter().zip(&after) {
                let is_frozen = frozen.iter().any(|prefix| name.starts_with(prefix));
                // A running statistic is no value that is learned, and a bias before a batch norm has no gradient.
                if name.contains(".running_") || name == "layers.1.main.3.bias" {
                    continue;
                }
                let is_feedback_of_first = name.starts_with("layers.0.feedback");
                assert_eq!(before == after, is_frozen || is_feedback_of_first, "{name} with {freeze:?} frozen");
            }
        }
    }
}

/// Errors go through what is frozen as they did before: below, the first step is that of the network without freezing.
#[test]
fn errors_pass_frozen_layers() {
    let first_weight = |freeze: &[&str]| {
        let spec = spec(blocks(), FeedbackSpec::backprop(), freeze);
        let (network, mut executor) = machine(&spec);
        executor.run(Phase::Train, &[step(0)]).unwrap();
        values(&network, &mut executor).into_iter().find(|(name, _)| name == "layers.0.weight").unwrap().1
    };
    assert_eq!(first_weight(&[]), first_weight(&["blocks"]));
}

/// Of seven samples, at positions and not: the gradients that a diagnosis forms are the step's, and that of the first
/// three by itself; a block's tensors are those of the layers around it.
#[test]
fn a_diagnosis_has_gradients_of_the_batch_and_its_half_and_follows_the_stream() {
    for feedback in [FeedbackSpec::backprop(), local()] {
        let (network, mut executor) = machine(&spec(blocks(), feedback, &[]));
        executor.run(Phase::Diagnose, &[step(0)]).unwrap();
        let diagnosis = &network.diagnosis;
        let gradients: Vec<[Vec<f64>; 2]> = diagnosis
            .errors
            .iter()
            .map(|error| error.gradients.unwrap().map(|of| executor.read(of).unwrap()))
            .collect();
        let of = |name: &str| diagnosis.activations.iter().find(|(own, _)| own == name).unwrap().1;
        let found: Vec<_> = diagnosis.blocks.iter().map(|block| (block.input, block.long, block.output)).collect();
        let around = |before: &str, last: &str, block: &str| (of(before), of(last), of(block));
        assert_eq!(
            found,
            [around("layers.0", "layers.1.main.3", "layers.1"), around("layers.1", "layers.2.main.1", "layers.2")]
        );
        executor.run(Phase::Train, &[step(0)]).unwrap();
        assert_eq!(gradients.len(), network.weights.len());
        let output = diagnosis.error_of(network.weights.last().unwrap()).unwrap().delta;
        for (weight, [whole, first]) in network.weights.iter().zip(&gradients) {
            let gradient = executor.read(weight.learned.gradient).unwrap();
            let largest = gradient.iter().fold(0.0, |most: f64, g| most.max(g.abs()));
            assert!(largest > 0.0 && first != whole, "{}", weight.name);
            let is_close = whole.iter().zip(&gradient).all(|(a, b)| (a - b).abs() <= 1e-12 * largest);
            assert!(is_close, "{}", weight.name);
        }
        // The last layer, by hand.
        executor.run(Phase::Diagnose, &[step(1)]).unwrap();
        let [_, first] = diagnosis.errors.last().unwrap().gradients.unwrap();
        let (first, errors) = (executor.read(first).unwrap(), executor.read(output).unwrap());
        let (inputs, classes) = (executor.read(of("layers.3")).unwrap(), CLASSES as usize);
        let width = inputs.len() / BATCH as usize;
        for (at, found) in first.iter().enumerate() {
            let (i, j) = (at / width, at % width);
            let expected: f64 = (0..3).map(|n| errors[n * classes + i] * inputs[n * width + j]).sum();
            assert!((found - expected).abs() <= 1e-12, "{found} and {expected}");
        }
    }
}

/// A dense layer acts at every position; the loss takes as many rows of outputs as there are targets.
#[test]
fn outputs_are_as_many_as_the_targets() {
    let data = |targets| DataFeed {
        image: IMAGE,
        encoding: Encoding::Scaled { scale: [1.0; 4], shift: [0.0; 4] },
        targets,
        train: BATCH,
        test: BATCH,
        augment: Augment::default(),
        shard_bytes: 1 << 20,
    };
    let network = |layers, targets| {
        let feed = FeedSpec::Data(data(targets));
        Network::new(&NetworkSpec { feed, ..spec(layers, FeedbackSpec::backprop(), &[]) }).map(|_| ())
    };
    let mut at_every_position = blocks();
    at_every_position.remove(3);
    let refused = |layers, targets, words: [&str; 3]| {
        let error = network(layers, targets).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    refused(at_every_position.clone(), 1, ["model.layers[3]", "2 x 3 positions", "flatten"]);
    refused(blocks(), 6, ["model.layers[4]", "a target at each of 6", "last-token"]);
    refused(at_every_position.clone(), 5, ["model.layers[3]", "2 x 3 positions", "a target at each of 5"]);
    network(at_every_position, 6).unwrap();
    network(blocks(), 1).unwrap();
}

/// Numbers are no classes.
#[test]
fn numbers_want_squares_and_no_one_hot_labels() {
    let targets = Targets::Numbers { outputs: CLASSES, scale: 0.1, tolerance: 0.5 };
    let numbers = |loss, feedback| NetworkSpec { loss, targets, ..spec(blocks(), feedback, &[]) };
    let refused = |spec: NetworkSpec, words: [&str; 2]| {
        let error = Network::new(&spec).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    refused(numbers(Loss::CrossEntropy, local()), ["model.loss", "mean-squared-error"]);
    let labels = FeedbackSpec { output_statistics: Statistics::Labels, ..local() };
    refused(numbers(Loss::MeanSquaredError, labels), ["feedback.output_statistics", "numbers"]);
    let few = Targets::Numbers { outputs: 2, scale: 0.1, tolerance: 0.5 };
    refused(NetworkSpec { targets: few, ..numbers(Loss::MeanSquaredError, local()) }, ["3 outputs", "2 numbers"]);
    Network::new(&numbers(Loss::MeanSquaredError, local())).unwrap();
}

#[test]
fn what_cannot_be_frozen_is_named() {
    let refused =
        |layers, name| Network::new(&spec(layers, FeedbackSpec::backprop(), &[name])).unwrap_err().to_string();
    assert!(refused(blocks(), "layers.9").contains("model.freeze: layers.9"));
    assert!(refused(blocks(), "layers.3").contains("anything to learn"));
    assert!(refused(vec![dense(4), tanh(), dense(CLASSES)], "blocks").contains("residual blocks"));
}

fn assert_gradients_are_exact(layers: Vec<LayerSpec>, names: &[&str]) {
    assert_gradients_of(&spec(layers, FeedbackSpec::backprop(), &[]), names);
}

/// The gradients that backpropagation writes, every seventh element, against central differences of the mean loss.
fn assert_gradients_of(spec: &NetworkSpec, names: &[&str]) {
    let (network, mut executor) = machine(spec);
    let loss = |name: &str, at: usize, by: f64| {
        let (network, mut executor) = machine(spec);
        let tensor = network.recording.find(name).unwrap();
        let mut values = executor.read(tensor).unwrap();
        values[at] += by;
        executor.write(tensor, &values).unwrap();
        executor.run(Phase::Train, &[step(0)]).unwrap();
        let metrics = executor.read(network.train_metrics).unwrap();
        metrics[0] / metrics[2]
    };
    executor.run(Phase::Train, &[step(0)]).unwrap();
    for name in names {
        let gradient = executor.read(network.recording.find(&format!("{name}.gradient")).unwrap()).unwrap();
        assert!(gradient.iter().any(|g| g.abs() > 1e-6), "{name} has a gradient");
        for at in (0..gradient.len()).step_by(7) {
            let h = 1e-5;
            let slope = (loss(name, at, h) - loss(name, at, -h)) / (2.0 * h);
            assert!((slope - gradient[at]).abs() < 1e-8, "{name}[{at}]: {} against {slope}", gradient[at]);
        }
    }
}

#[test]
fn the_derivative_of_tanh_is_exact() {
    let layers = vec![dense(6), tanh(), dense(5), tanh(), dense(CLASSES)];
    assert_gradients_are_exact(layers, &["layers.0.weight", "layers.2.weight", "layers.2.bias"]);
}

fn recurrent(cell: Cell, out: u32) -> LayerSpec {
    layers::Recurrent { cell, out, window: None }.into()
}

fn sequence(of: layers::Token) -> LayerSpec {
    layers::Sequence { of }.into()
}

/// Two cells above each other, through a sequence of 4 rows and one of 24 pixels; the last state is judged, or the mean of all.
#[test]
fn the_derivatives_through_time_are_exact() {
    for cell in Cell::ALL {
        let names: Vec<String> = ["layers.1", "layers.2"]
            .iter()
            .flat_map(|layer| ["weight_ih", "weight_hh", "bias_ih", "bias_hh"].map(|name| format!("{layer}.{name}")))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let with =
            |of, last: LayerSpec| vec![sequence(of), recurrent(cell, 5), recurrent(cell, 3), last, dense(CLASSES)];
        assert_gradients_are_exact(with(layers::Token::Rows, layers::LastToken {}.into()), &names);
        assert_gradients_are_exact(with(layers::Token::Pixels, layers::GlobalAvgPool {}.into()), &names);
    }
}

/// A target at every step of a sequence, of a mean over all steps; a class, or two numbers.
#[test]
fn the_derivatives_of_targets_at_every_position_are_exact() {
    let numbers = Targets::Numbers { outputs: CLASSES, scale: 0.3, tolerance: 0.5 };
    let classes = Targets::Classes(CLASSES);
    for (loss, targets) in
        [(Loss::CrossEntropy, classes), (Loss::MeanSquaredError, classes), (Loss::MeanSquaredError, numbers)]
    {
        let each = vec![sequence(layers::Token::Rows), recurrent(Cell::Gru, 4), dense(CLASSES)];
        let each = NetworkSpec { loss, targets, ..spec(each, FeedbackSpec::backprop(), &[]) };
        assert_gradients_of(&each, &["layers.1.weight_ih", "layers.1.weight_hh", "layers.2.weight", "layers.2.bias"]);
        // A row of them a sample.
        let last = vec![sequence(layers::Token::Rows), layers::LastToken {}.into(), dense(6), tanh(), dense(CLASSES)];
        let last = NetworkSpec { loss, targets, ..spec(last, FeedbackSpec::backprop(), &[]) };
        assert_gradients_of(&last, &["layers.2.weight", "layers.4.weight"]);
    }
}

/// The tokens of an image are its rows, or its pixels, with their channels.
#[test]
fn a_sequence_is_an_image_row_by_row_or_pixel_by_pixel() {
    for (of, position, range) in [(layers::Token::Rows, 1, 12..24), (layers::Token::Pixels, 7, 14..16)] {
        let first = LayerSpec::from(layers::LastToken {});
        let layers = vec![sequence(of), first, dense(CLASSES)];
        let (network, mut executor) = machine(&spec(layers, FeedbackSpec::backprop(), &[]));
        executor.run(Phase::Diagnose, &[step(0)]).unwrap();
        let (_, tokens) = network.diagnosis.activations[0].clone();
        let Feed::Host { x, .. } = network.feed else { unreachable!("asked for a host feed") };
        let (image, tokens_found) = (executor.read(x).unwrap(), executor.read(tokens).unwrap());
        let token = &tokens_found[position * tokens.cols() as usize..][..tokens.cols() as usize];
        assert_eq!(*token, image[range]);
    }
}

/// A recurrent layer behind another: both weights have feedback, by their own names or the layer's.
#[test]
fn both_weights_of_a_recurrent_layer_have_feedback_of_their_own() {
    let layers = || {
        let cells = [recurrent(Cell::Rnn, 6), recurrent(Cell::Gru, 5), layers::LastToken {}.into(), dense(CLASSES)];
        [sequence(layers::Token::Rows)].into_iter().chain(cells).collect::<Vec<_>>()
    };
    let ranks = |feedback: FeedbackSpec| -> Vec<(String, Vec<u32>)> {
        let network = Network::new(&spec(layers(), feedback, &[])).unwrap();
        network.weights.iter().map(|weight| (weight.name.clone(), weight.ranks().to_vec())).collect()
    };
    let named = |all: [(&str, &[u32]); 5]| all.map(|(name, ranks)| (name.to_owned(), ranks.to_vec())).to_vec();
    // The first weight sends its error nowhere.
    let first = ("layers.1.ih", &[][..]);
    let last = ("layers.4", &[2][..]);
    let all = [first, ("layers.1.hh", &[2]), ("layers.2.ih", &[2]), ("layers.2.hh", &[2]), last];
    assert_eq!(ranks(local()), named(all));
    let exact = |names: &[&str]| FeedbackSpec { exact: names.iter().map(|n| (*n).to_owned()).collect(), ..local() };
    let found = named([first, ("layers.1.hh", &[2]), ("layers.2.ih", &[2]), ("layers.2.hh", &[]), last]);
    assert_eq!(ranks(exact(&["layers.2.hh"])), found);
    let found = named([first, ("layers.1.hh", &[2]), ("layers.2.ih", &[]), ("layers.2.hh", &[]), last]);
    assert_eq!(ranks(exact(&["layers.2"])), found);
    let own = |name: &str, rank| {
        let ranks = [(name.to_owned(), LayerRank::Own(Rank::Of(rank)))].into_iter().collect();
        FeedbackSpec { ranks, ..local() }
    };
    let found = named([first, ("layers.1.hh", &[2]), ("layers.2.ih", &[2]), ("layers.2.hh", &[4]), last]);
    assert_eq!(ranks(own("layers.2.hh", 4)), found);
    // More than the state has, which is less than the layer's input has.
    let found = named([first, ("layers.1.hh", &[2]), ("layers.2.ih", &[6]), ("layers.2.hh", &[5]), last]);
    assert_eq!(ranks(own("layers.2", 6)), found);

    let refused = |feedback| Network::new(&spec(layers(), feedback, &[])).unwrap_err().to_string();
    let message = refused(exact(&["layers.2.h"]));
    assert!(message.contains("layers.2.h ") && message.contains("layers.2.hh"), "{message}");
    let message = refused(own("layers.2.hh", 6));
    assert!(message.contains("rank 6") && message.contains("the largest useful rank there is 5"), "{message}");
    let direct = FeedbackSpec { source: Source::Output, ..local() };
    let message = refused(direct);
    assert!(message.contains("layers.1.hh takes the error of a step to the one before"), "{message}");
    assert!(message.contains("feedback.exact"), "{message}");
}

/// Samples of one step have no state before: nothing is learned of the weights through time, and nothing fails.
#[test]
fn a_sequence_of_one_step_has_no_time_to_go_back() {
    for cell in Cell::ALL {
        let layers = vec![recurrent(cell, 5), recurrent(cell, 4), dense(CLASSES)];
        let mut spec = spec(layers, local(), &[]);
        spec.feed = FeedSpec::Host { image: [1, 1, 6] };
        let (network, mut executor) = machine(&spec);
        executor.run(Phase::Train, &[step(0)]).unwrap();
        let gradient = |executor: &mut Blocking<Reference>, name: &str| {
            executor.read(network.recording.find(&format!("{name}.gradient")).unwrap()).unwrap()
        };
        assert!(gradient(&mut executor, "layers.1.weight_hh").iter().all(|g| *g == 0.0));
        assert!(gradient(&mut executor, "layers.1.weight_ih").iter().any(|g| *g != 0.0));
        executor.run(Phase::Evaluate, &[step(0)]).unwrap();
        executor.run(Phase::Diagnose, &[step(0)]).unwrap();
    }
}
