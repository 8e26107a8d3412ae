//! What runs are called side by side.

use std::path::Path;

use toml::Value;

use super::config::Config;
use crate::feedback::Rank;

/// Most settings that a label spells out.
const MOST: usize = 4;

/// What no label repeats: the rule's name says it, each rank has a row or a curve of its own, and seeds are counted in a column.
const SAID: [&str; 5] = ["feedback.rule", "feedback.p", "feedback.q", "feedback.rank", "train.seeds"];

/// Dotted keys and values, in the order of the file.
type Settings = Vec<(String, String)>;

/// What each of several runs is called: its rule, then all in which it differs from others, its configuration's name first, as in
/// `backprop, optimizer.lr = 0.01`. What only a rule has is compared among the runs of that rule. Two runs that would be called the
/// same, or differ in more than a label holds, are told apart by their folders.
pub fn labels(runs: &[(&Config, &Path)]) -> Vec<String> {
    let rules: Vec<String> = runs.iter().map(|(config, _)| config.rule().to_string()).collect();
    let all: Vec<Settings> = runs.iter().map(|(config, _)| settings(config)).collect();
    let label = |(index, rule): (usize, &String)| {
        let kin: Vec<&Settings> =
            all.iter().zip(&rules).filter(|(_, other)| *other == rule).map(|(own, _)| own).collect();
        let everyone: Vec<&Settings> = all.iter().collect();
        let differs = |(key, value): &&(String, String)| {
            let of_rule = key.starts_with("feedback");
            let others = if of_rule { &kin } else { &everyone };
            others.iter().any(|other| of(other, key) != Some(value)) && !is_inherited(key, &kin)
        };
        let differences: Vec<String> = all[index].iter().filter(differs).map(in_words).collect();
        let rest = differences.len().saturating_sub(MOST);
        let mut parts = vec![rule.clone()];
        parts.extend(differences.into_iter().take(MOST));
        parts.extend((rest > 0).then(|| format!("{rest} more ({})", runs[index].1.display())));
        parts.join(", ")
    };
    let plain: Vec<String> = rules.iter().enumerate().map(label).collect();
    let meets = |a: usize, b: usize| {
        let [a, b] = [a, b].map(|run| runs[run].0.feedback.rank_list());
        a.is_empty() && b.is_empty() || a.iter().any(|rank| b.contains(rank))
    };
    let is_twin =
        |run: usize| (0..runs.len()).any(|other| other != run && plain[other] == plain[run] && meets(run, other));
    let distinct = |(run, label): (usize, &String)| {
        if is_twin(run) { format!("{label} ({})", runs[run].1.display()) } else { label.clone() }
    };
    plain.iter().enumerate().map(distinct).collect()
}

/// A label with a rank behind its rule: `local r=10, optimizer.lr = 0.01`.
pub fn ranked(label: &str, rank: Option<Rank>) -> String {
    let Some(rank) = rank else { return label.to_owned() };
    let (rule, rest) = label.split_at(label.find([',', ' ']).unwrap_or(label.len()));
    format!("{rule} r={rank}{rest}")
}

fn of<'a>(settings: &'a Settings, key: &str) -> Option<&'a String> {
    settings.iter().find(|(known, _)| known == key).map(|(_, value)| value)
}

/// Whether P and Q learn by the weights' setting in all of these runs: that is then said once.
fn is_inherited(key: &str, runs: &[&Settings]) -> bool {
    let Some(name) = key.strip_prefix("feedback_optimizer.") else { return false };
    runs.iter().all(|own| of(own, key) == of(own, &format!("optimizer.{name}")))
}

fn in_words((key, value): &(String, String)) -> String {
    if key == "name" { value.clone() } else { format!("{key} = {value}") }
}

/// A configuration in full, one line a setting.
fn settings(config: &Config) -> Settings {
    fn flatten(name: String, value: Value, found: &mut Settings) {
        let below = |key: String| if name.is_empty() { key } else { format!("{name}.{key}") };
        match value {
            Value::Table(table) => table.into_iter().for_each(|(key, value)| flatten(below(key), value, found)),
            Value::Array(entries) if entries.iter().any(Value::is_table) => {
                found.push((name.clone(), format!("{} entries", entries.len())));
                for (index, entry) in entries.into_iter().enumerate() {
                    flatten(below(index.to_string()), entry, found);
                }
            }
            Value::String(text) => found.push((name, text)),
            value => found.push((name, value.to_string())),
        }
    }
    let mut found = Vec::new();
    // A configuration that was read can be written.
    let table = toml::Table::try_from(config.clone().resolved()).unwrap_or_default();
    flatten(String::new(), Value::Table(table), &mut found);
    found.retain(|(key, _)| !SAID.contains(&key.as_str()));
    found.sort_by_key(|(key, _)| key != "name");
    found
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::train::config::Draft;

    fn made(changes: &[(&str, &str)]) -> Config {
        let mut draft = Draft::open("digits").unwrap();
        draft.name_after("digits");
        for (key, value) in changes {
            if *key == "rule" { draft.set_rule(value).unwrap() } else { draft.set(key, value).unwrap() }
        }
        draft.finish().unwrap()
    }

    fn told(runs: &[&[(&str, &str)]]) -> Vec<String> {
        let configs: Vec<Config> = runs.iter().map(|changes| made(changes)).collect();
        let folders: Vec<PathBuf> = (1..=runs.len()).map(|number| PathBuf::from(format!("run-{number}"))).collect();
        labels(&configs.iter().zip(&folders).map(|(config, folder)| (config, folder.as_path())).collect::<Vec<_>>())
    }

    #[test]
    fn a_label_is_the_rule_and_what_differs() {
        assert_eq!(told(&[&[("optimizer.lr", "7.0")]]), ["local"], "alone there is nothing to differ from");
        // Rules bring settings of their own, which are no difference between them.
        assert_eq!(
            told(&[&[("rule", "backprop")], &[("rule", "normative")], &[], &[("rule", "oja+fixed")]]),
            ["backprop", "normative", "local", "oja+fixed"]
        );
        assert_eq!(
            told(&[&[("rule", "backprop")], &[("rule", "backprop"), ("optimizer.lr", "0.01")], &[]]),
            ["backprop, optimizer.lr = 0.001", "backprop, optimizer.lr = 0.01", "local, optimizer.lr = 0.001"]
        );
        // P and Q take over the weights' learning rate, which is said once; their own is said.
        assert_eq!(
            told(&[&[], &[("optimizer.lr", "0.01")]]),
            ["local, optimizer.lr = 0.001", "local, optimizer.lr = 0.01"]
        );
        let own = [("feedback_optimizer.type", "adam"), ("feedback_optimizer.lr", "0.5")];
        let found = told(&[&[], &own]);
        assert!(found[1].contains("feedback_optimizer.lr = 0.5") && found[0] != found[1], "{found:?}");
    }

    #[test]
    fn names_defaults_and_layers_count() {
        let found =
            told(&[&[("rule", "backprop")], &[("rule", "backprop"), ("name", "\"slow\""), ("data.limit", "100")]]);
        assert_eq!(found, ["backprop, digits", "backprop, slow, data.limit = 100"]);
        let gelu = r#"[{type="dense",out=20},{type="gelu"},{type="dense",out=10}]"#;
        let relu = r#"[{type="dense",out=20},{type="relu"},{type="dense",out=10}]"#;
        let found = told(&[&[("model.layers", gelu)], &[("model.layers", relu)]]);
        assert_eq!(found, ["local, model.layers.1.type = gelu", "local, model.layers.1.type = relu"]);
        let found = told(&[&[("model.layers", gelu)], &[]]);
        assert!(
            found[0].starts_with("local, model.layers = 3 entries, ") && found[1].contains("more (run-2)"),
            "{found:?}"
        );
    }

    #[test]
    fn what_is_the_same_is_told_apart_by_its_folder() {
        assert_eq!(told(&[&[], &[]]), ["local (run-1)", "local (run-2)"]);
        assert_eq!(told(&[&[], &[("train.seeds", "7")]]), ["local (run-1)", "local (run-2)"]);
        assert_eq!(told(&[&[], &[("train.seed", "7")]]), ["local, train.seed = 0", "local, train.seed = 7"]);
        // Where the ranks differ every row does.
        assert_eq!(told(&[&[("feedback.rank", "4")], &[("feedback.rank", "[2, 8]")]]), ["local", "local"]);
        assert_eq!(
            told(&[&[("feedback.rank", "4")], &[("feedback.rank", "[2, 4]")]]),
            ["local (run-1)", "local (run-2)"]
        );
    }

    #[test]
    fn folders_have_the_names_that_tables_have() {
        let folder = |rule: &str, rank: &str| made(&[("rule", rule), ("feedback.rank", rank)]).label();
        assert_eq!(folder("local", "10"), "digits-local-r10");
        assert_eq!(folder("oja+hebbian", "\"n/8\""), "digits-local-rn8");
        assert_eq!(folder("direct:oja+fixed", "[2, 4]"), "digits-direct-oja-fixed");
        assert_eq!(folder("local@layers.4", "3"), "digits-local-layers.4-r3");
        assert_eq!(made(&[("rule", "backprop")]).label(), "digits-backprop");
    }

    #[test]
    fn ranks_stand_behind_the_rule() {
        let four = Some(Rank::Of(4));
        assert_eq!(ranked("local", four), "local r=4");
        assert_eq!(
            ranked("oja+fixed, optimizer.lr = 0.1", Some(Rank::WidthOver(8))),
            "oja+fixed r=n/8, optimizer.lr = 0.1"
        );
        assert_eq!(ranked("local (runs/a)", four), "local r=4 (runs/a)");
        assert_eq!(ranked("backprop", None), "backprop");
    }
}
