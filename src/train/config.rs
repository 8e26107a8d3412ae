//! The configuration of a run: a TOML file, a preset, and changes to either.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::files::{self, FileError};
use crate::feedback::{FeedbackSpec, Rank, Ranks, Route, Rule, RuleName};
use crate::model::{LayerSpec, Loss, Precision, weighted};
use crate::ops::MAX_REPLICAS;
use crate::optim::OptimizerSpec;

/// Configurations that come with the program, by name.
const PRESETS: [(&str, &str); 9] = [
    ("digits", include_str!("presets/digits.toml")),
    ("fashion-mnist", include_str!("presets/fashion-mnist.toml")),
    ("cifar10-mlp", include_str!("presets/cifar10-mlp.toml")),
    ("lenet", include_str!("presets/lenet.toml")),
    ("vgg-small", include_str!("presets/vgg-small.toml")),
    ("vgg-cifar10", include_str!("presets/vgg-cifar10.toml")),
    ("resnet20-cifar10", include_str!("presets/resnet20-cifar10.toml")),
    ("retina-small", include_str!("presets/retina-small.toml")),
    ("retina-cifar10", include_str!("presets/retina-cifar10.toml")),
];

// Settings that came later are not written out where they are left at their defaults, so that runs from before them can
// be continued.

/// `[data]`: which images, and what happens to them before they are learned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSection {
    /// A known set or a folder of images.
    pub name: String,
    /// Take the luma of images in colour.
    #[serde(default, skip_serializing_if = "is_default")]
    pub grey: bool,
    /// Make images so many times smaller either way, by means; as large as they are if left out.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub shrink: u32,
    /// Mirror half of the images.
    #[serde(default)]
    pub flip: bool,
    /// Rotate by up to so many degrees either way.
    #[serde(default)]
    pub rotation: f64,
    /// Shift by up to so many pixels, padding with black.
    #[serde(default)]
    pub crop_padding: u32,
    /// Blank a square of this side anywhere in the image.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cutout: u32,
    /// Only the first so many classes, in training and test; all if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<u32>,
    /// Learn only from so many images of the training set (of its chosen classes); from all if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Which images a limit leaves.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limit_order: LimitOrder,
}

/// Which images of the training set `limit` takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LimitOrder {
    /// Of every class in proportion to its size, always the same ones.
    #[default]
    Stratified,
    /// The first ones of the files.
    First,
}

/// `[model]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// From input to output.
    pub layers: Vec<LayerSpec>,
    /// What is minimised; cross-entropy if left out.
    #[serde(default)]
    pub loss: Loss,
}

/// `[train]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSection {
    /// Images of a step. An incomplete batch at the end of an epoch is left out; the next epoch shuffles anew.
    pub batch: u32,
    /// Equal parts of a batch that are computed one after the other, their gradients added: less memory, the same step but
    /// for batch norm, whose statistics are each part's own.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub accumulate: u32,
    /// Passes over the training set.
    pub epochs: u32,
    /// Networks trained side by side for every rank, differing in their seeds.
    #[serde(default = "one")]
    pub seeds: u32,
    /// First seed; the others follow.
    #[serde(default)]
    pub seed: u32,
    /// Stop after so many steps even if epochs are left; the schedule does not change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u32>,
    /// Of the factors of large products.
    #[serde(default, skip_serializing_if = "is_default")]
    pub precision: Precision,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn one() -> u32 {
    1
}

fn is_one(value: &u32) -> bool {
    *value == 1
}

/// Everything that determines a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What the configuration goes by in tables: the preset's or the file's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Images.
    pub data: DataSection,
    /// Network.
    pub model: ModelSection,
    /// How errors travel back; exact if left out.
    #[serde(default = "FeedbackSpec::backprop")]
    pub feedback: FeedbackSpec,
    /// For weights, biases, scales and shifts.
    pub optimizer: OptimizerSpec,
    /// For learned P and Q; if left out, `[optimizer]`, without weight decay where P or Q is normative.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feedback_optimizer: Option<OptimizerSpec>,
    /// Length and repetitions.
    pub train: TrainSection,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Neither a preset nor a file.
    #[error("{wanted} is neither a file nor a preset; the presets are {}{}", .presets.join(", "), suggest(.wanted, .presets))]
    Unknown {
        /// What was asked for.
        wanted: String,
        /// Names of all presets.
        presets: Vec<String>,
    },
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not TOML, or a key is unknown, missing or of another type.
    #[error("{origin}: {message}")]
    Parse {
        /// File, preset or option.
        origin: String,
        /// What is wrong and where, and the nearest name if one is unknown.
        message: String,
    },
    /// A value out of range.
    #[error("{key} = {value}: {rule}")]
    Range {
        /// Section and key.
        key: &'static str,
        /// What it was set to.
        value: String,
        /// What it must be.
        rule: String,
    },
}

/// `; did you mean X?` for the nearest of some names, if one is near.
fn suggest(wanted: &str, names: &[String]) -> String {
    let near = names.iter().map(|name| (strsim::damerau_levenshtein(wanted, name), name)).min();
    match near {
        Some((distance, name)) if distance <= 3 && distance < wanted.chars().count() => {
            format!("; did you mean {name}?")
        }
        _ => match names.iter().find(|name| abbreviates(name, wanted) || abbreviates(wanted, name)) {
            Some(name) => format!("; did you mean {name}?"),
            None => String::new(),
        },
    }
}

/// Whether the letters of `short` occur in `long` in their order, from the first one on: `lr` in `learning_rate`.
fn abbreviates(short: &str, long: &str) -> bool {
    let mut rest = long.chars();
    short.len() >= 2 && short.chars().next() == long.chars().next() && short.chars().all(|c| rest.any(|l| l == c))
}

/// Adds the nearest name to serde's "unknown field `x`, expected one of `a`, `b`".
fn with_suggestion(message: &str) -> String {
    let message = message.trim_end();
    let Some(at) = message.find("unknown field").or_else(|| message.find("unknown variant")) else {
        return message.to_owned();
    };
    let mut quoted = message[at..].split('`').skip(1).step_by(2).map(str::to_owned);
    let Some(wanted) = quoted.next() else { return message.to_owned() };
    let names: Vec<String> = quoted.collect();
    format!("{message}{}", suggest(&wanted, &names))
}

/// The names of a dotted key, quoted ones included: `feedback.ranks."layers.2"` has three.
fn key_path(key: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = toml::from_str::<toml::Table>(&format!("{key} = 0")).ok();
    while let Some((name, value)) = rest.take().and_then(|table| table.into_iter().next()) {
        names.push(name);
        rest = if let toml::Value::Table(table) = value { Some(table) } else { None };
    }
    if names.is_empty() { key.split('.').map(str::to_owned).collect() } else { names }
}

/// Names of the presets.
pub fn presets() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, _)| *name)
}

/// A configuration as a table of TOML, before it is checked: what options change.
#[derive(Clone, Debug)]
pub struct Draft {
    origin: String,
    table: toml::Table,
    /// Keys that options have set.
    changed: Vec<String>,
    /// A rule that constrains a single layer: which others there are shows when the layers are final.
    single: Option<RuleName>,
}

impl Draft {
    /// Reads a preset by its name, else a file.
    ///
    /// # Errors
    /// If there is neither, or the file is not TOML.
    pub fn open(name: &str) -> Result<Draft, ConfigError> {
        if let Some((_, text)) = PRESETS.iter().find(|(preset, _)| *preset == name) {
            return Draft::parse(format!("preset {name}"), text);
        }
        let path = Path::new(name);
        if !path.exists() {
            return Err(ConfigError::Unknown {
                wanted: name.to_owned(),
                presets: presets().map(str::to_owned).collect(),
            });
        }
        Draft::read(path)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read or is no configuration.
    pub fn read(path: &Path) -> Result<Draft, ConfigError> {
        Draft::parse(path.display().to_string(), &files::read_text(path, files::MOST)?)
    }

    /// Takes the text of a file.
    ///
    /// # Errors
    /// If it is not TOML, or no configuration.
    pub(crate) fn parse(origin: String, text: &str) -> Result<Draft, ConfigError> {
        // Checked as written first: only then do messages have lines.
        toml::from_str::<Config>(text)
            .map_err(|e| ConfigError::Parse { origin: origin.clone(), message: with_suggestion(&e.to_string()) })?;
        let table =
            toml::from_str(text).map_err(|e| ConfigError::Parse { origin: origin.clone(), message: e.to_string() })?;
        Ok(Draft { origin, table, changed: Vec::new(), single: None })
    }

    /// Sets `section.key` to a TOML value; what is not TOML is taken as a string, and nothing at all leaves the key out.
    ///
    /// # Errors
    /// If the path leads through something that is not a section.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let parsed = toml::from_str::<toml::Table>(&format!("value = {value}"))
            .ok()
            .filter(|table| table.len() == 1)
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| toml::Value::String(value.to_owned()));
        self.changed.push(key.to_owned());
        let mut names = key_path(key);
        let last = names.pop().unwrap_or_default();
        let mut table = &mut self.table;
        for name in names {
            let entry = table.entry(name.as_str()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            table = entry.as_table_mut().ok_or_else(|| ConfigError::Parse {
                origin: format!("--set {key}={value}"),
                message: format!("{name} is a value, not a section"),
            })?;
        }
        if value.is_empty() {
            table.remove(&last);
        } else {
            table.insert(last, parsed);
        }
        Ok(())
    }

    /// Changes the feedback rule, to `ldfa` with P's and Q's rules as they are or to one by its [name](RuleName); settings that belong
    /// to another rule are dropped.
    ///
    /// # Errors
    /// If there is no such rule; else as [`Draft::set`].
    pub fn set_rule(&mut self, rule: &str) -> Result<(), ConfigError> {
        if rule == Rule::Ldfa.name() {
            return self.set_kind(Rule::Ldfa);
        }
        let names: Vec<String> = RuleName::common().map(str::to_owned).collect();
        let unknown =
            |e| ConfigError::Parse { origin: "rule".into(), message: format!("{e}{}", suggest(rule, &names)) };
        self.apply(rule.parse().map_err(unknown)?)
    }

    /// The same, by a name that is one.
    ///
    /// # Errors
    /// As [`Draft::set`].
    pub(crate) fn apply(&mut self, name: RuleName) -> Result<(), ConfigError> {
        self.set_kind(name.rule())?;
        self.single = None;
        if let RuleName::Factored { p, q, route } = name {
            self.set("feedback.p", &format!("\"{}\"", p.name()))?;
            self.set("feedback.q", &format!("\"{}\"", q.name()))?;
            self.set("feedback.source", if route == Route::Output { "\"output\"" } else { "" })?;
            self.single = matches!(route, Route::Only(_)).then_some(name);
        }
        Ok(())
    }

    fn set_kind(&mut self, rule: Rule) -> Result<(), ConfigError> {
        let current = self.table.get("feedback").and_then(|f| f.get("rule")).and_then(toml::Value::as_str);
        if current.unwrap_or(Rule::Ldfa.name()) != rule.name() {
            self.table.remove("feedback");
            self.table.remove("feedback_optimizer");
        }
        self.set("feedback.rule", &format!("\"{}\"", rule.name()))
    }

    /// As it stands.
    pub(crate) fn table(&self) -> &toml::Table {
        &self.table
    }

    /// Gives the last layer that has any so many outputs.
    pub(crate) fn set_outputs(&mut self, outputs: u32) {
        let layers = self.table.get_mut("model").and_then(|model| model.get_mut("layers"));
        let layers = layers.and_then(toml::Value::as_array_mut).map_or(&mut [][..], Vec::as_mut_slice);
        if let Some(out) = layers.iter_mut().rev().find_map(|layer| layer.get_mut("out")) {
            *out = toml::Value::Integer(outputs.into());
            self.changed.push("the last layer's outputs".to_owned());
        }
    }

    /// Names the configuration after its preset or file, unless it has a name.
    pub(crate) fn name_after(&mut self, origin: &str) {
        let stem = Path::new(origin).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        if let Some(stem) = stem.filter(|_| !self.table.contains_key("name")) {
            self.table.insert("name".to_owned(), toml::Value::String(stem));
        }
    }

    /// Takes a section out that is no part of a configuration.
    pub(crate) fn split_off(
        origin: String,
        text: &str,
        section: &str,
    ) -> Result<(Draft, Option<toml::Value>), ConfigError> {
        let parsed = toml::from_str::<toml::Table>(text);
        let Some((table, value)) = parsed.ok().and_then(|mut table| {
            let value = table.remove(section)?;
            Some((table, value))
        }) else {
            // As it stands, so that messages have lines.
            return Ok((Draft::parse(origin, text)?, None));
        };
        let rest = toml::to_string(&table)
            .map_err(|e| ConfigError::Parse { origin: origin.clone(), message: e.to_string() })?;
        Ok((Draft::parse(origin, &rest)?, Some(value)))
    }

    /// The configuration, checked.
    ///
    /// # Errors
    /// If a key is unknown or missing, or a value out of range or of another type.
    pub fn finish(self) -> Result<Config, ConfigError> {
        let changed = self.changed.join(", ");
        let origin = if changed.is_empty() { self.origin } else { format!("{} with {changed}", self.origin) };
        let mut config: Config = self
            .table
            .try_into()
            .map_err(|e: toml::de::Error| ConfigError::Parse { origin, message: with_suggestion(&e.to_string()) })?;
        if let Some(name) = self.single {
            let exact = name.exact_layers(&weighted(&config.model.layers));
            config.feedback.exact =
                exact.map_err(|message| ConfigError::Parse { origin: format!("rule {name}"), message })?;
            config.feedback.ranks.clear();
        }
        config.check()?;
        Ok(config)
    }
}

impl Config {
    /// Reads the configuration that a run was made with.
    ///
    /// # Errors
    /// If the file is missing or damaged.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        Draft::read(path)?.finish()
    }

    fn check(&self) -> Result<(), ConfigError> {
        let require = |key, value: u64, holds: bool, rule: String| {
            if holds { Ok(()) } else { Err(ConfigError::Range { key, value: value.to_string(), rule }) }
        };
        let train = &self.train;
        require("train.batch", train.batch.into(), train.batch >= 1, "must be at least 1".into())?;
        let rule = format!("must be at least 1 and divide train.batch = {}", train.batch);
        let divides = train.accumulate >= 1 && train.batch.is_multiple_of(train.accumulate);
        require("train.accumulate", train.accumulate.into(), divides, rule)?;
        require("train.epochs", train.epochs.into(), train.epochs >= 1, "must be at least 1".into())?;
        require("train.seeds", train.seeds.into(), train.seeds >= 1, "must be at least 1".into())?;
        require("train.max_steps", 0, train.max_steps != Some(0), "must be at least 1".into())?;
        let last = u64::from(train.seed) + u64::from(train.seeds);
        require("train.seed", train.seed.into(), last <= u64::from(u32::MAX), "seeds must fit 32 bits".into())?;
        let replicas = self.feedback.rank_list().len().max(1) as u64 * u64::from(train.seeds);
        let rule = format!("ranks x seeds may be at most {MAX_REPLICAS}; train the rest in a second run (train.seed)");
        require("ranks x train.seeds", replicas, replicas <= MAX_REPLICAS as u64, rule)?;
        require("data.limit", 0, self.data.limit != Some(0), "must be at least 1".into())?;
        require("data.shrink", 0, self.data.shrink != 0, "must be at least 1".into())?;
        let classes = self.data.classes.unwrap_or(2);
        require("data.classes", classes.into(), classes >= 2, "must be at least 2".into())?;
        let rotation = self.data.rotation;
        if !(0.0..=180.0).contains(&rotation) {
            let rule = "must lie between 0 and 180 degrees".into();
            return Err(ConfigError::Range { key: "data.rotation", value: rotation.to_string(), rule });
        }
        Ok(())
    }

    /// The optimizer of P and Q.
    pub fn feedback_optimizer(&self) -> OptimizerSpec {
        self.feedback_optimizer.clone().unwrap_or_else(|| {
            let mut optimizer = self.optimizer.clone();
            if self.feedback.is_normative() {
                optimizer.weight_decay = Some(0.0);
            }
            optimizer
        })
    }

    /// The same run, said in full: inherited sections written out.
    pub fn resolved(mut self) -> Config {
        if self.feedback.rule == Rule::Ldfa {
            self.feedback_optimizer = Some(self.feedback_optimizer());
            self.feedback.init = Some(self.feedback.initialisation());
            self.feedback.p = Some(self.feedback.p_rule());
            self.feedback.q = Some(self.feedback.q_rule());
        }
        self
    }

    /// Rank and seed of every replica: all seeds of the first rank, then of the next.
    pub fn replicas(&self) -> Vec<(Option<Rank>, u32)> {
        let ranks = self.feedback.rank_list();
        let ranks: Vec<Option<Rank>> =
            if ranks.is_empty() { vec![None] } else { ranks.into_iter().map(Some).collect() };
        let seeds = self.train.seed..self.train.seed + self.train.seeds;
        ranks.into_iter().flat_map(|rank| seeds.clone().map(move |seed| (rank, seed))).collect()
    }

    /// As TOML.
    ///
    /// # Errors
    /// Never for a configuration that was read or checked.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(self).map_err(|e| ConfigError::Parse { origin: "configuration".into(), message: e.to_string() })
    }

    /// SHA-256 over everything that determines the weights at a given step, the data included; hexadecimal.
    ///
    /// # Errors
    /// Never for a configuration that was read or checked.
    pub fn hash(&self, data_checksum: &str) -> Result<String, ConfigError> {
        let mut determining = self.clone().resolved();
        determining.name = None;
        determining.train.max_steps = None;
        // The checksum is that of the images that a limit leaves.
        determining.data.limit_order = LimitOrder::default();
        let digest = Sha256::digest(format!("{}\n{data_checksum}", determining.to_toml()?));
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The rule by its name, which tables, curves and folders share.
    pub fn rule(&self) -> RuleName {
        RuleName::of(&self.feedback, &weighted(&self.model.layers))
    }

    /// A short name for folders: data, rule and rank.
    pub fn label(&self) -> String {
        let rank = match &self.feedback.rank {
            Some(Ranks::One(rank)) => format!("-r{rank}").replace('/', ""),
            _ => String::new(),
        };
        format!("{}-{}{rank}", crate::data::short_name(&self.data.name), self.rule().folder())
    }
}
