//! Where a training stands, and what determines it: the metadata of a checkpoint.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use super::digest::NO_DIGEST;

/// Version of the layout below; a change that an older program would misread raises it. Files of version 1 have one hash of
/// configuration and data together, and one step for all networks.
pub(super) const FORMAT: u32 = 2;

/// Mark of our checkpoints among other safetensors files.
pub(super) const PROGRAM: &str = "ldfa-gpu";

/// Where a training stands.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointMeta {
    /// Version of the program that wrote the file.
    pub program_version: String,
    /// What determines the training.
    pub origin: Origin,
    /// Training steps completed when the file was written.
    pub step: u64,
    /// Steps completed by each network as the file holds it: those of its best epoch in `best.safetensors`.
    pub steps: Vec<u64>,
    /// Time spent training, stops in between not counted.
    pub seconds: f64,
}

/// What determines a training, as SHA-256 in hexadecimal.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// Of the resolved configuration; in files of version 1 none, as in `together`.
    pub config: Option<String>,
    /// Of the images.
    pub data: Option<String>,
    /// Of both together.
    pub together: String,
}

impl CheckpointMeta {
    pub(super) fn to_strings(&self) -> BTreeMap<&'static str, String> {
        let Origin { config, data, together } = &self.origin;
        let mut strings = BTreeMap::from([
            ("program", PROGRAM.to_owned()),
            ("program_version", self.program_version.clone()),
            ("format", FORMAT.to_string()),
            ("sha256", NO_DIGEST.to_owned()),
            ("config_hash", together.clone()),
            ("step", self.step.to_string()),
            ("steps", join(self.steps.iter())),
            ("seconds", self.seconds.to_string()),
        ]);
        strings.extend(config.iter().map(|hash| ("settings_hash", hash.clone())));
        strings.extend(data.iter().map(|hash| ("data_hash", hash.clone())));
        strings
    }

    pub(super) fn from_strings(strings: &HashMap<String, String>, format: u32) -> Result<CheckpointMeta, String> {
        let step = field(strings, "step")?;
        let steps = match format {
            1 => vec![step; list::<u32>(strings, "best_epoch")?.len()],
            _ => list(strings, "steps")?,
        };
        Ok(CheckpointMeta {
            program_version: field(strings, "program_version")?,
            origin: Origin {
                config: strings.get("settings_hash").cloned(),
                data: strings.get("data_hash").cloned(),
                together: field(strings, "config_hash")?,
            },
            step,
            steps,
            seconds: field(strings, "seconds")?,
        })
    }
}

/// Numbers as text; Rust writes the fewest digits that read back exactly.
fn join(values: impl Iterator<Item = impl ToString>) -> String {
    values.map(|value| value.to_string()).collect::<Vec<_>>().join(" ")
}

pub(super) fn field<T: FromStr>(strings: &HashMap<String, String>, key: &str) -> Result<T, String> {
    let text = strings.get(key).ok_or_else(|| format!("its metadata lacks {key}"))?;
    text.parse().map_err(|_| format!("its metadata has {key} = {text:?}"))
}

fn list<T: FromStr>(strings: &HashMap<String, String>, key: &str) -> Result<Vec<T>, String> {
    let text: String = field(strings, key)?;
    let values = text.split_whitespace().map(|item| item.parse().ok());
    values.collect::<Option<_>>().ok_or_else(|| format!("its metadata has {key} = {text:?}"))
}
