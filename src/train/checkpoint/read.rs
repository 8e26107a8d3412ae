//! Reading safetensors files, whole or not at all.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata};

use super::digest::{BEFORE_DIGEST, find};
use super::error::CheckpointError;
use super::meta::PROGRAM;
use super::{FileError, open_regular};
use crate::words::counted;

/// Bytes of the header's length at the start of a safetensors file.
pub(super) const LENGTH: usize = 8;

/// The largest header that readers of safetensors accept; a greater length is no length.
const MAX_HEADER: u64 = 100_000_000;

/// What was read of a file.
pub(super) struct Content {
    pub bytes: Vec<u8>,
    /// Of the file, which may be longer than what was read.
    length: u64,
}

/// Reads a safetensors file; if it is longer than its header says, no more than the header, for it may be without bound.
pub(super) fn read_file(path: &Path) -> Result<Content, CheckpointError> {
    let read = || {
        let mut file = open_regular(path)?;
        let length = file.metadata()?.len();
        let mut bytes = Vec::new();
        (&mut file).take(LENGTH as u64 + MAX_HEADER).read_to_end(&mut bytes)?;
        let rest = length.saturating_sub(bytes.len() as u64);
        if rest > 0 && Extent::of(&bytes).is_ok_and(|extent| extent.need == length) {
            bytes.try_reserve_exact(rest as usize)?;
            file.take(rest).read_to_end(&mut bytes)?;
        }
        Ok(Content { length: length.max(bytes.len() as u64), bytes })
    };
    read().map_err(|error: io::Error| match error.kind() {
        ErrorKind::NotFound => CheckpointError::NotFound(path.to_owned()),
        _ => FileError::at(path, "read")(error).into(),
    })
}

/// The header of a safetensors file, and what it says of the file's length.
struct Extent {
    header: Metadata,
    data_start: usize,
    need: u64,
}

impl Extent {
    fn of(bytes: &[u8]) -> Result<Extent, Flaw> {
        let have = bytes.len() as u64;
        let (length, rest) = bytes.split_first_chunk().ok_or(Flaw::CutShort { have, need: LENGTH as u64 })?;
        let header_length = u64::from_le_bytes(*length);
        if header_length > MAX_HEADER {
            return Err(Flaw::Foreign("its first bytes are not the length of a header".to_owned()));
        }
        let data_start = LENGTH + header_length as usize;
        let header = rest.get(..header_length as usize).ok_or(Flaw::CutShort { have, need: data_start as u64 })?;
        let header: Metadata = serde_json::from_slice(header)
            .map_err(|error| Flaw::Foreign(format!("its header cannot be read: {error}")))?;
        let need = (data_start as u64).saturating_add(header.data_len() as u64);
        Ok(Extent { header, data_start, need })
    }
}

/// Header and data of a safetensors file whose header and length agree.
pub(super) struct Parsed<'a> {
    pub header: Metadata,
    data: &'a [u8],
}

/// Why a file is not safetensors.
pub(super) enum Flaw {
    CutShort { have: u64, need: u64 },
    TrailingBytes(u64),
    Foreign(String),
}

impl<'a> Parsed<'a> {
    pub(super) fn new(content: &'a Content) -> Result<Parsed<'a>, Flaw> {
        let Extent { header, data_start, need } = Extent::of(&content.bytes)?;
        let have = content.bytes.len() as u64;
        match content.length.cmp(&need) {
            Ordering::Greater => Err(Flaw::TrailingBytes(content.length - need)),
            // Shorter while it was read, if not before.
            _ if have < need => Err(Flaw::CutShort { have, need }),
            _ => Ok(Parsed { header, data: &content.bytes[data_start..] }),
        }
    }

    /// Name, shape, type and bytes of each tensor, by name.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>, Dtype, &'a [u8])> {
        let by_name: BTreeMap<_, _> = self.header.tensors().into_iter().collect();
        by_name.into_iter().map(|(name, info)| {
            let (start, end) = info.data_offsets;
            (name, info.shape.clone(), info.dtype, &self.data[start..end])
        })
    }
}

impl Flaw {
    /// In a file that should be a checkpoint. What bears our mark is a damaged checkpoint rather than another's file.
    pub(super) fn of_checkpoint(self, path: &Path, bytes: &[u8]) -> CheckpointError {
        let path = path.to_owned();
        match self {
            Flaw::CutShort { have, need } => CheckpointError::CutShort { path, have, need },
            Flaw::Foreign(what) if find(bytes, BEFORE_DIGEST).or(find(bytes, PROGRAM.as_bytes())).is_some() => {
                CheckpointError::Damaged { path, what }
            }
            Flaw::Foreign(why) => CheckpointError::NotACheckpoint { path, why },
            Flaw::TrailingBytes(count) => CheckpointError::Damaged { path, what: trailing(count) },
        }
    }

    /// In a file that should hold weights.
    pub(super) fn of_weights(self, path: &Path) -> CheckpointError {
        let path = path.to_owned();
        match self {
            Flaw::CutShort { have, need } => CheckpointError::CutShort { path, have, need },
            Flaw::Foreign(why) => CheckpointError::NotWeights { path, why },
            Flaw::TrailingBytes(count) => CheckpointError::NotWeights { path, why: trailing(count) },
        }
    }
}

fn trailing(count: u64) -> String {
    let follow = if count == 1 { "follows" } else { "follow" };
    format!("{} {follow} its end", counted(count, "byte"))
}
