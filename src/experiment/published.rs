//! Accuracies that others have published, to stand beside ours.

use crate::train::config::{Config, DataSection, Draft};

/// One number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Published {
    /// Preset whose network and training it belongs to.
    preset: &'static str,
    /// Data set.
    data: &'static str,
    /// The rule as sweeps name it.
    pub(super) rule: &'static str,
    /// What was constrained, and where the number is from.
    pub(super) what: &'static str,
    /// Rank, where there is one.
    pub(super) rank: Option<u32>,
    /// In percent.
    pub(super) accuracy: f64,
}

/// Numbers of one rule: preset, data, rule, what, then rank and percent.
type Line = (&'static str, &'static str, &'static str, &'static str, &'static [(Option<u32>, f64)]);

/// docs/method.md says where each comes from.
const ALL: [Line; 12] = [
    ("cifar10-mlp", "cifar10", "backprop", "arXiv 2502.20580, backpropagation", &[(None, 62.76)]),
    (
        "cifar10-mlp",
        "cifar10",
        "local",
        "arXiv 2502.20580, all layers constrained, local rule",
        &[(Some(64), 62.87), (Some(32), 62.43), (Some(16), 62.13), (Some(10), 61.84)],
    ),
    (
        "cifar10-mlp",
        "cifar10",
        "local@layers.3",
        "arXiv 2502.20580, only the error into the first layer constrained",
        &[
            (Some(1), 55.8),
            (Some(2), 59.0),
            (Some(3), 59.9),
            (Some(4), 60.5),
            (Some(5), 61.0),
            (Some(6), 61.1),
            (Some(7), 61.7),
            (Some(8), 62.0),
            (Some(10), 62.6),
            (Some(16), 62.8),
            (Some(32), 62.8),
        ],
    ),
    (
        "cifar10-mlp",
        "cifar10",
        "local@layers.6",
        "arXiv 2502.20580, only the error into the second layer constrained",
        &[
            (Some(1), 53.9),
            (Some(2), 57.3),
            (Some(3), 58.6),
            (Some(4), 59.6),
            (Some(5), 60.2),
            (Some(6), 61.0),
            (Some(7), 61.2),
            (Some(8), 61.7),
            (Some(10), 62.4),
            (Some(16), 62.6),
            (Some(32), 62.8),
        ],
    ),
    (
        "cifar10-mlp",
        "cifar10",
        "local@layers.9",
        "arXiv 2502.20580, only the output's error constrained",
        &[
            (Some(1), 47.3),
            (Some(2), 54.1),
            (Some(3), 56.9),
            (Some(4), 58.7),
            (Some(5), 59.8),
            (Some(6), 60.9),
            (Some(7), 61.5),
            (Some(8), 62.3),
            (Some(10), 62.9),
        ],
    ),
    (
        "cifar10-mlp",
        "cifar10",
        "direct:local",
        "arXiv 2502.20580, direct feedback",
        &[
            (Some(1), 35.8),
            (Some(2), 49.2),
            (Some(3), 54.7),
            (Some(4), 57.3),
            (Some(5), 58.8),
            (Some(6), 59.8),
            (Some(7), 60.3),
            (Some(8), 61.4),
            (Some(10), 62.1),
        ],
    ),
    ("lenet", "cifar10", "backprop", "BioTorch, CIFAR-10, backpropagation", &[(None, 84.08)]),
    ("lenet", "cifar10", "feedback-alignment", "BioTorch, CIFAR-10, feedback alignment", &[(None, 59.33)]),
    (
        "lenet",
        "cifar10",
        "direct-feedback-alignment",
        "BioTorch, CIFAR-10, direct feedback alignment",
        &[(None, 62.41)],
    ),
    ("lenet", "fashion-mnist", "backprop", "BioTorch, Fashion-MNIST, backpropagation", &[(None, 90.8)]),
    ("lenet", "fashion-mnist", "feedback-alignment", "BioTorch, Fashion-MNIST, feedback alignment", &[(None, 86.94)]),
    (
        "lenet",
        "fashion-mnist",
        "direct-feedback-alignment",
        "BioTorch, Fashion-MNIST, direct feedback alignment",
        &[(None, 87.19)],
    ),
];

fn all() -> impl Iterator<Item = Published> {
    let line = |(preset, data, rule, what, numbers): Line| {
        numbers.iter().map(move |&(rank, accuracy)| Published { preset, data, rule, what, rank, accuracy })
    };
    ALL.into_iter().flat_map(line)
}

impl Published {
    /// Whether a configuration is of this number's preset and data, with the preset's layers and all of the data.
    pub(super) fn is_of(&self, config: &Config) -> bool {
        if config.name.as_deref() != Some(self.preset) || config.data.name != self.data {
            return false;
        }
        let preset = Draft::open(self.preset).and_then(Draft::finish);
        preset.is_ok_and(|preset| {
            let data = DataSection { name: config.data.name.clone(), ..preset.data };
            preset.model == config.model && data == config.data
        })
    }
}

/// Of a configuration's preset and data.
pub(super) fn published(config: &Config) -> impl Iterator<Item = Published> + use<'_> {
    all().filter(move |number| number.is_of(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::sweep::{Axes, Sweep};
    use crate::feedback::{Rank, RuleName};
    use crate::model::sending;

    /// Presets and rules that the table names exist, and a sweep's cells are recognised as what they are.
    #[test]
    fn every_number_belongs_to_a_preset_and_a_rule() {
        let count = |preset: &str, data: &str| {
            let mut draft = Draft::open(preset).unwrap();
            draft.set("data.name", data).unwrap();
            let mut config = draft.finish().unwrap();
            config.name = Some(preset.to_owned());
            published(&config).count()
        };
        assert_eq!(count("cifar10-mlp", "cifar10"), 45);
        assert_eq!(count("cifar10-mlp", "mnist"), 0, "another data set");
        assert_eq!((count("lenet", "cifar10"), count("lenet", "fashion-mnist")), (3, 3));
        let mut other = Draft::open("lenet").unwrap();
        other.set("data.limit", "1000").unwrap();
        let mut other = other.finish().unwrap();
        other.name = Some("lenet".to_owned());
        assert_eq!(published(&other).count(), 0, "a part of the data");
        for number in all() {
            let rule: RuleName = number.rule.parse().unwrap();
            assert_eq!(rule.has_rank(), number.rank.is_some());
            let ranks = number.rank.into_iter().map(Rank::Of).collect();
            let axes = Axes { rules: vec![rule], ranks, ..Axes::default() };
            let sweep = Sweep::new(&Draft::open(number.preset).unwrap(), &axes).unwrap();
            let config = &sweep.cells[0].config;
            let name = RuleName::exactly(&config.feedback, &sending(&config.model.layers));
            assert_eq!(name, Some(rule), "{number:?}");
        }
    }
}
