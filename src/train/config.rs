//! The configuration of a run: a TOML file, a preset, and changes to either.

use std::error::Error;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::TrainError;
use super::files::{self, FileError};
use crate::feedback::{FeedbackError, FeedbackSpec, Rank, Ranks, Route, Rule, RuleName};
use crate::model::{LayerSpec, Loss, Precision, sending, weighted};
use crate::ops::{AutoAugment, MAX_REPLICAS};
use crate::optim::{LESS_THAN_ONE, OptimizerError, OptimizerSpec, single};
use crate::words::{counted, suggest};

/// Configurations that come with the program, by name.
const PRESETS: [(&str, &str); 16] = [
    ("digits", include_str!("presets/digits.toml")),
    ("fashion-mnist", include_str!("presets/fashion-mnist.toml")),
    ("cifar10-mlp", include_str!("presets/cifar10-mlp.toml")),
    ("lenet", include_str!("presets/lenet.toml")),
    ("vgg-small", include_str!("presets/vgg-small.toml")),
    ("vgg-cifar10", include_str!("presets/vgg-cifar10.toml")),
    ("resnet20-cifar10", include_str!("presets/resnet20-cifar10.toml")),
    ("vit-small", include_str!("presets/vit-small.toml")),
    ("vit-cifar10", include_str!("presets/vit-cifar10.toml")),
    ("digits-rows", include_str!("presets/digits-rows.toml")),
    ("mnist-rows", include_str!("presets/mnist-rows.toml")),
    ("mnist-pixels", include_str!("presets/mnist-pixels.toml")),
    ("adding", include_str!("presets/adding.toml")),
    ("text", include_str!("presets/text.toml")),
    ("retina-small", include_str!("presets/retina-small.toml")),
    ("retina-cifar10", include_str!("presets/retina-cifar10.toml")),
];

/// Most micro-batches of a batch: the operations of every one of them are recorded.
const MOST_MICRO_BATCHES: u32 = 1024;

// Settings that came later are not written out where they are left at their defaults, so that runs from before them can
// be continued.

/// `[data]`: which images, and what happens to them before they are learned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSection {
    /// A known set, a folder of images or a text file.
    pub name: String,
    /// Steps of sequences that are made, characters of the windows of a text; the set's default if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u32>,
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
    /// Change images by a policy that was learned on such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoaugment: Option<AutoAugment>,
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
    /// Layers that keep their first values, with all layers within; "blocks" stands for all residual ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<String>,
    /// What is minimised; cross-entropy if left out.
    #[serde(default)]
    pub loss: Loss,
    /// Cross-entropy in training: the part of the target that all classes share.
    #[serde(default, skip_serializing_if = "is_default")]
    pub label_smoothing: f64,
}

/// `[train]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSection {
    /// Images of a step. An incomplete batch at the end of an epoch is left out; the next epoch shuffles anew.
    pub batch: u32,
    /// Micro-batches, as large as each other, that a batch is computed in one after the other, their gradients added: less
    /// memory, the same step but for batch norm, whose statistics are each micro-batch's own.
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
    /// Whom messages name.
    #[serde(skip)]
    origin: Origin,
}

/// Where settings come from: a file or preset, and what changed some of them.
#[derive(Clone, Debug, Default)]
struct Origin {
    base: String,
    /// Names of changed keys, each with the option that changed it; without one where the program itself did.
    changes: Vec<(Vec<String>, Option<String>)>,
}

/// All are alike: where settings come from makes no difference to a run.
impl PartialEq for Origin {
    fn eq(&self, _: &Origin) -> bool {
        true
    }
}

impl Origin {
    /// The options that set a key, a part of it or what it is a part of; the file or preset if there are none. What no key is to
    /// blame for comes from all of them.
    fn of(&self, key: &str) -> String {
        let all = || self.changes.iter().filter_map(|(_, option)| option.as_deref());
        let Some(key) = key_path(key) else {
            let changes = all().collect::<Vec<_>>().join(", ");
            return if changes.is_empty() { self.base.clone() } else { format!("{} with {changes}", self.base) };
        };
        let concerns = |names: &[String]| names.iter().zip(&key).all(|(own, wanted)| own == wanted);
        let own: Vec<&Option<String>> =
            self.changes.iter().filter(|(names, _)| concerns(names)).map(|(_, option)| option).collect();
        if own.is_empty() {
            return self.base.clone();
        }
        own.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    fn at(&self, key: &str, problem: impl Into<Box<dyn Error + Send + Sync>>) -> ConfigError {
        ConfigError::At { origin: self.of(key), problem: problem.into() }
    }
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
    /// Feedback settings contradict each other.
    #[error(transparent)]
    Feedback(#[from] FeedbackError),
    /// An optimizer setting is out of range.
    #[error("{section}.{source}")]
    Optimizer {
        /// `optimizer` or `feedback_optimizer`.
        section: &'static str,
        /// What is wrong.
        source: OptimizerError,
    },
    /// A setting that is wrong, with the file, preset or option that it comes from.
    #[error("{origin}{}{problem}", if origin.is_empty() { "" } else { ": " })]
    At {
        /// File, preset or option; empty where the program itself made the setting.
        origin: String,
        /// What is wrong with it.
        problem: Box<dyn Error + Send + Sync>,
    },
}

impl ConfigError {
    /// The setting that is wrong, as a dotted key.
    fn key(&self) -> String {
        match self {
            ConfigError::Range { key, .. } => (*key).to_owned(),
            ConfigError::Feedback(error) => error.key(),
            ConfigError::Optimizer { section, source } => format!("{section}.{}", source.field),
            _ => String::new(),
        }
    }
}

/// Serde's message in plain words, with the nearest name behind "unknown field `x`, expected one of `a`, `b`".
fn in_plain_words(message: &str) -> String {
    let message = message
        .trim_end()
        .replace("expected u32", &format!("expected a whole number from 0 to {}", u32::MAX))
        .replace("expected f64", "expected a number");
    let Some(at) = message.find("unknown field").or_else(|| message.find("unknown variant")) else {
        return message;
    };
    let mut quoted = message[at..].split('`').skip(1).step_by(2);
    let Some(wanted) = quoted.next() else { return message };
    let meant = suggest(wanted, &quoted.collect::<Vec<_>>());
    message + &meant
}

/// What is wrong with a table.
struct Fault {
    message: String,
    /// Where, as a dotted key.
    key: String,
}

impl Fault {
    /// What an error of serde says of a table, in one line.
    fn of(error: &toml::de::Error) -> Fault {
        let text = error.to_string();
        let (message, path) = match text.trim_end().rsplit_once("\nin `") {
            Some((message, path)) => (message, path.trim_end_matches('`')),
            None => (text.trim_end(), ""),
        };
        let field = message.strip_prefix("unknown field `").or_else(|| message.strip_prefix("missing field `"));
        let names = [path, field.and_then(|rest| rest.split('`').next()).unwrap_or("")];
        let key = names.into_iter().filter(|name| !name.is_empty()).collect::<Vec<_>>().join(".");
        let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
        Fault { message: place + &in_plain_words(message), key }
    }
}

/// Why a table is no configuration, if it is none.
fn fault_in(table: &toml::Table) -> Option<Fault> {
    table.clone().try_into::<Config>().err().map(|error| Fault::of(&error))
}

/// The names of a dotted key, quoted ones included: `feedback.ranks."layers.2"` has three. `None` for what is no key.
fn key_path(key: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = toml::from_str::<toml::Table>(&format!("{key} = 0")).ok()?;
    while rest.len() == 1 {
        let (name, value) = rest.into_iter().next()?;
        names.push(name);
        match value {
            toml::Value::Table(table) => rest = table,
            _ => return Some(names),
        }
    }
    None
}

/// What is set to a text: TOML, a number too long for TOML's integers, or else a string.
fn value_of(text: &str) -> toml::Value {
    let parsed = toml::from_str::<toml::Table>(&format!("value = {text}")).ok().filter(|table| table.len() == 1);
    let is_number = text.starts_with(|first: char| "+-.".contains(first) || first.is_ascii_digit());
    let number = || text.parse::<f64>().ok().filter(|_| is_number).map(toml::Value::Float);
    let value = parsed.and_then(|mut table| table.remove("value")).or_else(number);
    value.unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

/// The section that some names lead to, made where there is none; a number behind the name of a list is that of an entry, from 0.
///
/// # Errors
/// Says what is no section on the way.
fn section<'a>(table: &'a mut toml::Table, names: &[String]) -> Result<&'a mut toml::Table, String> {
    let Some((first, rest)) = names.split_first() else { return Ok(table) };
    let entry = table.entry(first.as_str()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
    match (entry, rest.split_first()) {
        (toml::Value::Table(table), _) => section(table, rest),
        (toml::Value::Array(entries), Some((index, rest))) => {
            let last = entries.len().saturating_sub(1);
            let entry = index.parse::<usize>().ok().and_then(|index| entries.get_mut(index));
            let found = entry.and_then(toml::Value::as_table_mut);
            section(found.ok_or_else(|| format!("{index} is no entry of {first}; those are 0 to {last}"))?, rest)
        }
        _ => Err(format!("{first} is a value, not a section")),
    }
}

/// Names of the presets.
pub fn presets() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, _)| *name)
}

/// A configuration as a table of TOML, before it is checked: what options change.
#[derive(Clone, Debug)]
pub struct Draft {
    table: toml::Table,
    origin: Origin,
    /// What changes settings.
    option: Option<String>,
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
    pub fn parse(origin: String, text: &str) -> Result<Draft, ConfigError> {
        // Checked as written first: only then do messages have lines.
        toml::from_str::<Config>(text)
            .map_err(|e| ConfigError::Parse { origin: origin.clone(), message: in_plain_words(&e.to_string()) })?;
        let table =
            toml::from_str(text).map_err(|e| ConfigError::Parse { origin: origin.clone(), message: e.to_string() })?;
        Ok(Draft { table, origin: Origin { base: origin, changes: Vec::new() }, option: None, single: None })
    }

    /// Makes a change that messages name by an option of the command line, such as `--epochs 3`.
    pub fn by<T>(&mut self, option: impl Into<String>, change: impl FnOnce(&mut Draft) -> T) -> T {
        self.option = Some(option.into());
        let made = change(self);
        self.option = None;
        made
    }

    /// Sets `section.key` to a TOML value; what is not TOML is taken as a string, and nothing at all leaves the key out.
    ///
    /// # Errors
    /// If it is no key, leads through something that is not a section, or is to be left out and not known.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let origin = self.option.clone().unwrap_or_else(|| format!("{key}={value}"));
        let wrong = |message: String| ConfigError::Parse { origin: origin.clone(), message };
        let names = key_path(key)
            .ok_or_else(|| wrong(format!("{key:?} is no key; use section.key=value, such as optimizer.lr=1e-3")))?;
        let (last, sections) = names.split_last().ok_or_else(|| wrong("there is no key".to_owned()))?;
        // A section that is made for nothing would be one that lacks keys.
        let mut table = self.table.clone();
        let place = section(&mut table, sections).map_err(wrong)?;
        if value.is_empty() {
            let probe = toml::Value::Table(toml::Table::new());
            let is_there = place.insert(last.clone(), probe).is_some();
            let is_own = |key: &str| key_path(key).is_some_and(|key| names.starts_with(&key));
            let fault = fault_in(&table).filter(|fault| fault.message.contains("unknown field") && is_own(&fault.key));
            if let Some(fault) = fault {
                return Err(wrong(fault.message));
            }
            if is_there && let Ok(place) = section(&mut self.table, sections) {
                place.remove(last);
            }
        } else {
            place.insert(last.clone(), value_of(value));
            self.table = table;
        }
        self.origin.changes.push((names, self.option.clone()));
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
    pub fn table(&self) -> &toml::Table {
        &self.table
    }

    /// Gives the last layer that has any so many outputs.
    pub fn set_outputs(&mut self, outputs: u32) {
        let layers = self.table.get_mut("model").and_then(|model| model.get_mut("layers"));
        let layers = layers.and_then(toml::Value::as_array_mut).map_or(&mut [][..], Vec::as_mut_slice);
        if let Some(out) = layers.iter_mut().rev().find_map(|layer| layer.get_mut("out")) {
            *out = toml::Value::Integer(outputs.into());
            self.origin.changes.push((vec!["model".to_owned(), "layers".to_owned()], None));
        }
    }

    /// Names the configuration after its preset or file, unless it has a name.
    pub fn name_after(&mut self, origin: &str) {
        let stem = Path::new(origin).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        if let Some(stem) = stem.filter(|_| !self.table.contains_key("name")) {
            self.table.insert("name".to_owned(), toml::Value::String(stem));
        }
    }

    /// A configuration's text without a section that is no part of one, and that section, if it is there.
    ///
    /// # Errors
    /// If the text is no TOML.
    pub fn split_off(origin: String, text: &str, section: &str) -> Result<(Draft, Option<toml::Value>), ConfigError> {
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
        let mut config: Config = self.table.try_into().map_err(|e: toml::de::Error| {
            let Fault { message, key } = Fault::of(&e);
            self.origin.at(&key, message)
        })?;
        if let Some(name) = self.single {
            let layers = &config.model.layers;
            let exact = name.exact_layers(&weighted(layers), &sending(layers));
            config.feedback.exact =
                exact.map_err(|message| ConfigError::Parse { origin: format!("rule {name}"), message })?;
            config.feedback.ranks.clear();
        }
        config.origin = self.origin;
        config.check().map_err(|error| config.origin.at(&error.key(), error))?;
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
        let rule =
            format!("must be at least 1, at most {MOST_MICRO_BATCHES}, and divide train.batch = {}", train.batch);
        let divides =
            (1..=MOST_MICRO_BATCHES).contains(&train.accumulate) && train.batch.is_multiple_of(train.accumulate);
        require("train.accumulate", train.accumulate.into(), divides, rule)?;
        require("train.epochs", train.epochs.into(), train.epochs >= 1, "must be at least 1".into())?;
        require("train.seeds", train.seeds.into(), train.seeds >= 1, "must be at least 1".into())?;
        require("train.max_steps", 0, train.max_steps != Some(0), "must be at least 1".into())?;
        let last = u64::from(train.seed) + u64::from(train.seeds);
        require("train.seed", train.seed.into(), last <= u64::from(u32::MAX), "seeds must fit 32 bits".into())?;
        let ranks = self.feedback.rank_list().len().max(1);
        let replicas = ranks as u64 * u64::from(train.seeds);
        let rule = format!(
            "with {} these are {replicas} networks, and a run trains at most {MAX_REPLICAS}; train the rest in a second \
             run (train.seed)",
            counted(ranks, "rank")
        );
        require("train.seeds", train.seeds.into(), replicas <= MAX_REPLICAS as u64, rule)?;
        require("data.limit", 0, self.data.limit != Some(0), "must be at least 1".into())?;
        require("data.shrink", 0, self.data.shrink != 0, "must be at least 1".into())?;
        let classes = self.data.classes.unwrap_or(2);
        require("data.classes", classes.into(), classes >= 2, "must be at least 2".into())?;
        let rotation = single(self.data.rotation).and_then(|angle| {
            let holds = (0.0..=180.0).contains(&angle);
            if holds { Ok(()) } else { Err("must lie between 0 and 180 degrees".to_owned()) }
        });
        rotation.map_err(|rule| ConfigError::Range {
            key: "data.rotation",
            value: self.data.rotation.to_string(),
            rule,
        })?;
        if let Some(policy) = self.data.autoaugment.filter(|_| self.data.rotation > 0.0) {
            let (value, rule) =
                (policy.name().to_owned(), "takes bytes, which images are not after data.rotation".into());
            return Err(ConfigError::Range { key: "data.autoaugment", value, rule });
        }
        let smoothing = single(self.model.label_smoothing).and_then(|share| {
            if !(0.0..1.0).contains(&share) {
                Err(format!("must lie in [0, 1), {LESS_THAN_ONE}"))
            } else if share > 0.0 && self.model.loss != Loss::CrossEntropy {
                Err("belongs to the loss cross-entropy; leave it out".to_owned())
            } else {
                Ok(())
            }
        });
        smoothing.map_err(|rule| ConfigError::Range {
            key: "model.label_smoothing",
            value: self.model.label_smoothing.to_string(),
            rule,
        })?;
        self.feedback.check()?;
        for (section, optimizer) in
            [("optimizer", Some(&self.optimizer)), ("feedback_optimizer", self.feedback_optimizer.as_ref())]
        {
            let checked = optimizer
                .map_or(Ok(()), |own| own.check().and_then(|()| own.schedule.check_epochs(own.lr, train.epochs)));
            checked.map_err(|source| ConfigError::Optimizer { section, source })?;
        }
        Ok(())
    }

    /// Names the file, preset or option behind an error that shows only with the data or the network.
    pub(crate) fn at(&self, error: TrainError) -> TrainError {
        match error {
            TrainError::Config(ConfigError::At { .. }) => error,
            TrainError::Config(error) => self.origin.at(&error.key(), error).into(),
            TrainError::Model(error) => self.origin.at(&error.key(), error).into(),
            TrainError::Batch(_) => self.origin.at("train.batch", error).into(),
            error => error,
        }
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
        RuleName::of(&self.feedback, &sending(&self.model.layers))
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
