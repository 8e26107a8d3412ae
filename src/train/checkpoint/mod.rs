//! Checkpoints: everything a training needs to go on, in one safetensors file that notices a single flipped bit; and
//! plain weight files.
//!
//! A checkpoint is a valid safetensors file. Its `__metadata__` holds [`CheckpointMeta`] as strings and the SHA-256 of
//! the whole file, header included, computed with zeros in the digest's own place.

mod digest;
mod error;
mod meta;
mod read;
#[cfg(test)]
mod tests;
mod values;
mod weights;
mod write;

use std::path::Path;

pub use error::CheckpointError;
pub use meta::{CheckpointMeta, Origin};
pub use values::Values;
pub use weights::{Weights, read_weights, write_weights};

use super::files::{FileError, open_regular, write_atomically};
use digest::verify_digest;
use meta::{FORMAT, field};
use read::{Flaw, Parsed, read_file};
use write::{Image, Stored};

/// State of a training between two steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Where the training stands.
    pub meta: CheckpointMeta,
    /// Name, shape and values of each tensor, in any order; names are unique. Loading sorts them by name.
    pub tensors: Vec<(String, Vec<usize>, Values)>,
}

impl Checkpoint {
    /// Writes the checkpoint, or leaves what was there. The same content gives the same bytes, in any order of tensors.
    ///
    /// # Errors
    /// [`CheckpointError::File`] when the disk refuses; [`CheckpointError::View`] for a shape that does not fit its
    /// values, or a name used twice.
    pub fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        let tensors = self.tensors.iter().map(|(name, shape, values)| {
            let (dtype, bytes) = (values.dtype(), values.bytes());
            Stored { name, shape, dtype, bytes }
        });
        let mut image = Image::new(self.meta.to_strings(), tensors.collect()).map_err(|error| error.in_file(path))?;
        let digest = image.digest().map_err(FileError::at(path, "write"))?;
        image.metadata.insert("sha256", digest);
        Ok(write_atomically(path, |file| image.write_to(file))?)
    }

    /// Reads a checkpoint back, bit for bit.
    ///
    /// # Errors
    /// [`CheckpointError`]: not found, cut short, damaged, not a checkpoint, or of a newer format.
    pub fn load(path: &Path) -> Result<Checkpoint, CheckpointError> {
        let content = read_file(path)?;
        let bytes = &content.bytes[..];
        let parsed = Parsed::new(&content).map_err(|flaw| flaw.of_checkpoint(path, bytes))?;
        let Some(strings) = parsed.header.metadata().as_ref().filter(|strings| strings.contains_key("program")) else {
            // A flipped bit in our mark itself must not pass for somebody else's file.
            return Err(Flaw::Foreign("it has no mark of this program".to_owned()).of_checkpoint(path, bytes));
        };
        let damaged = |what: String| CheckpointError::Damaged { path: path.to_owned(), what };
        verify_digest(bytes).map_err(|what| damaged(what.to_owned()))?;
        let found = field(strings, "format").map_err(damaged)?;
        if found > FORMAT {
            let program_version = field(strings, "program_version").map_err(damaged)?;
            return Err(CheckpointError::Newer { path: path.to_owned(), found, program_version });
        }
        let meta = CheckpointMeta::from_strings(strings, found).map_err(damaged)?;
        let tensors = parsed.tensors().map(|(name, shape, dtype, bytes)| {
            let values =
                Values::from_bytes(dtype, bytes).ok_or_else(|| damaged(format!("{name} has type {dtype:?}")))?;
            Ok((name, shape, values))
        });
        Ok(Checkpoint { meta, tensors: tensors.collect::<Result<_, CheckpointError>>()? })
    }

    /// Confirms that the checkpoint, loaded from `path`, was written under the configuration and with the images in use, those of
    /// the set `images`.
    ///
    /// # Errors
    /// [`CheckpointError::OtherOrigin`], naming what differs.
    pub fn check_origin(&self, path: &Path, expected: &Origin, images: &str) -> Result<(), CheckpointError> {
        let found = &self.meta.origin;
        if found.together == expected.together {
            return Ok(());
        }
        let unchanged = "resume with the config.toml beside it and unchanged options";
        let restored = format!("put the images of {images} back that the run began with");
        let (what, found, expected, remedy) = match (&found.config, &found.data, &expected.config, &expected.data) {
            (Some(found), _, Some(expected), _) if found != expected => {
                ("configuration", found, expected, unchanged.to_owned())
            }
            (_, Some(found), _, Some(expected)) if found != expected => ("set of images", found, expected, restored),
            _ => {
                let remedy = format!("{unchanged}; {restored}");
                ("configuration or set of images", &found.together, &expected.together, remedy)
            }
        };
        let abbreviated = |hash: &str| hash.chars().take(12).collect();
        let (path, found, expected) = (path.to_owned(), abbreviated(found), abbreviated(expected));
        Err(CheckpointError::OtherOrigin { path, what, found, expected, remedy })
    }

    /// Takes networks over from another checkpoint of the same run, those of these indices. A tensor without a row for each network
    /// is all networks' own and never changes.
    ///
    /// # Errors
    /// The name of a tensor that differs in shape.
    pub fn take(&mut self, networks: &[usize], from: &Checkpoint) -> Result<(), String> {
        let count = from.meta.steps.len();
        for (name, shape, values) in &mut self.tensors {
            let (_, other, rows) = from.tensors.iter().find(|(other, ..)| other == name).ok_or_else(|| name.clone())?;
            if other != shape || self.meta.steps.len() != count {
                return Err(name.clone());
            }
            if shape.first() == Some(&count) {
                values.take(networks, count, rows);
            }
        }
        for &network in networks {
            self.meta.steps[network] = from.meta.steps[network];
        }
        self.meta.step = from.meta.step;
        self.meta.seconds = from.meta.seconds;
        Ok(())
    }
}
