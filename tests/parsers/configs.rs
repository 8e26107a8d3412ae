//! Configurations, options, sweeps.

use std::sync::LazyLock;

use ldfa_gpu::data::{self, Dataset, SearchPath};
use ldfa_gpu::experiment::sweep;
use ldfa_gpu::model::Network;
use ldfa_gpu::train::config::{Config, Draft};
use ldfa_gpu::train::spec::network_spec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tempfile::TempDir;

use crate::MOST;
use crate::mutate::{Change, changed, changed_text, changes};
use crate::watch::{run, within};

/// Every section and nearly every key.
const WHOLE: &str = r#"
name = "whole"

[data]
name = "digits"
grey = true
shrink = 1
flip = true
rotation = 5.0
crop_padding = 1
cutout = 3
classes = 10
limit = 1000

[model]
loss = "mean-squared-error"
layers = [
    { type = "conv", out = 4, kernel = 3, stride = [1, 1], padding = 1 },
    { type = "batchnorm" },
    { type = "relu" },
    { type = "maxpool", size = 2, stride = 2, padding = [0, 0] },
    { type = "residual", layers = [{ type = "conv", out = 4, kernel = 1 }], shortcut = [{ type = "gelu" }] },
    { type = "avgpool", size = 2 },
    { type = "flatten" },
    { type = "dense", out = 16 },
    { type = "dropout", p = 0.1 },
    { type = "dense", out = 10 },
]

[feedback]
rule = "ldfa"
p = "oja"
q = "hebbian"
rank = [3, "n/4"]
init = "uniform"
source = "layer"
refactorise_every = 2
output_statistics = "labels"
error_clamp = 0.5
ranks = { "layers.7" = 4 }
exact = ["layers.4.main.0"]

[optimizer]
type = "adamw"
lr = 1e-3
weight_decay = 0.1
betas = [0.9, 0.99]
eps = 1e-8
amsgrad = true
clamp = 2.5
schedule = { type = "warmup-cosine", warmup_epochs = 1, start_divisor = 25.0, final_lr = 1e-6 }

[feedback_optimizer]
type = "rmsprop"
lr = 1e-3
alpha = 0.9
schedule = { type = "one-cycle", rise = 0.2, start_divisor = 10.0, final_divisor = 100.0 }

[train]
batch = 48
accumulate = 4
epochs = 2
seeds = 2
seed = 7
max_steps = 5
precision = "f32"
"#;

const TEXTS: [&str; 3] = [
    WHOLE,
    include_str!("../../src/train/presets/digits.toml"),
    include_str!("../../src/train/presets/resnet20-cifar10.toml"),
];

const SWEEP: &str = r#"
[sweep]
rules = ["backprop", "oja+hebbian", "direct:fixed", "normative"]
ranks = [2, 4, "n/8"]
classes = [2, 5]
networks = 3
"#;

static DIGITS: LazyLock<Dataset> = LazyLock::new(|| data::open("digits", &SearchPath::new(Vec::new())).unwrap());

/// An accepted configuration comes back from its own text, and makes a recording or says why not, by its origin.
fn accepted(config: &Config, origin: &str) -> Result<bool, TestCaseError> {
    let text = config.to_toml().unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("again.toml");
    std::fs::write(&file, &text).unwrap();
    let again = Config::load(&file).map_err(|e| TestCaseError::fail(format!("{e} in its own text\n{text}")))?;
    // As text: a number that is none is not equal to itself.
    prop_assert_eq!(text, again.to_toml().unwrap());
    prop_assert!(config.hash("data").is_ok() && config.replicas().len() <= 64);
    if config.data.name == "digits" {
        match network_spec(&config.clone().resolved(), &DIGITS) {
            Ok(spec) => drop(Network::new(&spec)),
            Err(error) => prop_assert!(error.to_string().contains(origin), "{error} names no {origin}"),
        }
    }
    Ok(true)
}

#[test]
fn configurations_are_refused_or_read() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("changed.toml");
    let name = file.to_str().unwrap();
    run("configuration", &(0..TEXTS.len(), changes()), |(which, changes)| {
        let bytes = changed(TEXTS[which].as_bytes(), &changes);
        std::fs::write(&file, &bytes).unwrap();
        let read = within(bytes.len(), MOST, || Draft::open(name).and_then(Draft::finish))?;
        match read {
            Ok(config) => within(bytes.len(), MOST, || accepted(&config, name))?,
            Err(error) => {
                prop_assert!(error.to_string().contains(name), "{error}");
                Ok(false)
            }
        }
    });
}

/// Keys with a value each that may be set.
const OPTIONS: [(&str, &str); 38] = [
    ("name", "x"),
    ("data.name", "digits"),
    ("data.grey", "true"),
    ("data.shrink", "2"),
    ("data.flip", "true"),
    ("data.rotation", "10"),
    ("data.crop_padding", "1"),
    ("data.autoaugment", "cifar10"),
    ("data.cutout", "2"),
    ("data.classes", "10"),
    ("data.limit", "500"),
    ("model.loss", "mean-squared-error"),
    ("model.label_smoothing", "0.1"),
    ("model.layers", "[{type=\"dense\",out=16},{type=\"dropout\",p=0.5},{type=\"dense\",out=10}]"),
    ("feedback.rule", "ldfa"),
    ("feedback.p", "oja"),
    ("feedback.q", "hebbian"),
    ("feedback.rank", "[2,4]"),
    ("feedback.ranks", "{\"layers.2\"=8}"),
    ("feedback.ranks.\"layers.4\"", "6"),
    ("feedback.exact", "[\"layers.2\"]"),
    ("feedback.source", "output"),
    ("feedback.init", "orthonormal"),
    ("feedback.error_clamp", "0.25"),
    ("feedback.refactorise_every", "3"),
    ("optimizer.type", "adamw"),
    ("optimizer.lr", "0.01"),
    ("optimizer.betas", "[0.9,0.99]"),
    ("optimizer.eps", "1e-8"),
    ("optimizer.weight_decay", "0.1"),
    ("optimizer.clamp", "1.5"),
    ("optimizer.schedule", "{type=\"one-cycle\",rise=0.3}"),
    ("optimizer.schedule.gamma", "0.9"),
    ("feedback_optimizer", "{type=\"sgd\",lr=0.1,momentum=0.9}"),
    ("train.batch", "64"),
    ("train.accumulate", "2"),
    ("train.epochs", "3"),
    ("train.seed", "5"),
];

#[test]
fn options_are_refused_or_taken() {
    let change = || prop::collection::vec(crate::mutate::change(), 0..3);
    let option = || (0..OPTIONS.len(), change(), change());
    let of = |(which, key, value): &(usize, Vec<Change>, Vec<Change>)| {
        let (own_key, own_value) = OPTIONS[*which];
        (changed_text(own_key, key), changed_text(own_value, value))
    };
    run("option", &prop::collection::vec(option(), 1..4), |options| {
        let options: Vec<(String, String)> = options.iter().map(of).collect();
        let length = options.iter().map(|(key, value)| key.len() + value.len()).sum();
        let read = within(length, MOST, || {
            let mut draft = Draft::open("digits")?;
            for (key, value) in &options {
                draft.by(format!("--set {key}={value}"), |draft| draft.set(key, value))?;
            }
            draft.finish()
        })?;
        match read {
            Ok(config) => within(length, MOST, || accepted(&config, "--set"))?,
            Err(error) => {
                let text = error.to_string();
                prop_assert!(text.contains("--set ") || text.contains("preset digits"), "{text}");
                Ok(false)
            }
        }
    });
}

#[test]
fn sweeps_are_refused_or_read() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("sweep.toml");
    let name = file.to_str().unwrap();
    let whole = format!("{}{SWEEP}", TEXTS[1]);
    // Half of the changes in the section itself, which is the last part.
    run("sweep", &(any::<bool>(), changes()), |(within_section, changes)| {
        let bytes = if within_section {
            [TEXTS[1].as_bytes(), &changed(SWEEP.as_bytes(), &changes)].concat()
        } else {
            changed(whole.as_bytes(), &changes)
        };
        std::fs::write(&file, &bytes).unwrap();
        match within(bytes.len(), MOST, || sweep::open(name))? {
            Ok((draft, axes)) => {
                let made = within(bytes.len(), MOST, || sweep::Sweep::new(&draft, &axes))?;
                let cells = made.map(|sweep| sweep.cells.len());
                prop_assert!(cells.as_ref().map_or(true, |cells| *cells > 0));
                Ok(cells.is_ok())
            }
            Err(error) => {
                prop_assert!(error.to_string().contains(name), "{error}");
                Ok(false)
            }
        }
    });
}
