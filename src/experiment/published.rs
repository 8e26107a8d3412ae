//! Accuracies that others have published, to stand beside ours.

use crate::train::config::Config;

/// One number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Published {
    /// Preset whose network and training it belongs to.
    preset: &'static str,
    /// Data set.
    data: &'static str,
    /// The rule as a run's summary names it.
    pub(super) rule: &'static str,
    /// What was constrained, and where the number is from.
    pub(super) what: &'static str,
    /// Rank, where there is one.
    pub(super) rank: Option<u32>,
    /// In percent.
    pub(super) accuracy: f64,
}

const LDFA: &str = "arXiv 2502.20580, all layers constrained, local rule";
const LDFA_EXACT: &str = "arXiv 2502.20580, backpropagation";

const fn mlp(rule: &'static str, what: &'static str, rank: Option<u32>, accuracy: f64) -> Published {
    Published { preset: "cifar10-mlp", data: "cifar10", rule, what, rank, accuracy }
}

const fn lenet(data: &'static str, rule: &'static str, what: &'static str, accuracy: f64) -> Published {
    Published { preset: "lenet", data, rule, what, rank: None, accuracy }
}

/// docs/method.md says where each comes from.
const ALL: [Published; 11] = [
    mlp("backprop", LDFA_EXACT, None, 62.76),
    mlp("ldfa-oja-hebbian", LDFA, Some(64), 62.87),
    mlp("ldfa-oja-hebbian", LDFA, Some(32), 62.43),
    mlp("ldfa-oja-hebbian", LDFA, Some(16), 62.13),
    mlp("ldfa-oja-hebbian", LDFA, Some(10), 61.84),
    lenet("cifar10", "backprop", "BioTorch, backpropagation", 84.08),
    lenet("cifar10", "feedback-alignment", "BioTorch, feedback alignment", 59.33),
    lenet("cifar10", "direct-feedback-alignment", "BioTorch, direct feedback alignment", 62.41),
    lenet("fashion-mnist", "backprop", "BioTorch, backpropagation", 90.8),
    lenet("fashion-mnist", "feedback-alignment", "BioTorch, feedback alignment", 86.94),
    lenet("fashion-mnist", "direct-feedback-alignment", "BioTorch, direct feedback alignment", 87.19),
];

/// Of a configuration's preset and data.
pub(super) fn published(config: &Config) -> impl Iterator<Item = Published> + use<'_> {
    let preset = config.name.as_deref().unwrap_or_default();
    ALL.into_iter().filter(move |number| number.preset == preset && number.data == config.data.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::config::Draft;

    /// Presets and rules that the table names exist under these names.
    #[test]
    fn every_number_belongs_to_a_preset_and_a_rule() {
        let count = |preset: &str, data: &str| {
            let mut draft = Draft::open(preset).unwrap();
            draft.set("data.name", data).unwrap();
            let mut config = draft.finish().unwrap();
            config.name = Some(preset.to_owned());
            published(&config).count()
        };
        assert_eq!(count("cifar10-mlp", "cifar10"), 5);
        assert_eq!(count("cifar10-mlp", "mnist"), 0, "another data set");
        assert_eq!((count("lenet", "cifar10"), count("lenet", "fashion-mnist")), (3, 3));
        for number in ALL {
            let mut draft = Draft::open(number.preset).unwrap();
            match number.rule.strip_prefix("ldfa-oja-hebbian") {
                Some(_) => {
                    draft.set_rule("ldfa").unwrap();
                    draft.set("feedback.p", "\"oja\"").unwrap();
                    draft.set("feedback.q", "\"hebbian\"").unwrap();
                }
                None => draft.set_rule(number.rule).unwrap(),
            }
            assert_eq!(draft.finish().unwrap().feedback.label(), number.rule);
        }
    }
}
