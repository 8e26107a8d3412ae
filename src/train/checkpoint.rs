//! Checkpoints: everything a training needs to go on, in one safetensors file that notices a single flipped bit; and
//! plain weight files, for `--init` and `export`.
//!
//! A checkpoint is a valid safetensors file. Its `__metadata__` holds [`CheckpointMeta`] as strings and the SHA-256 of
//! the whole file, header included, computed with zeros in the digest's own place.

use crate::words::counted;
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::files::{FileError, open_regular, write_atomically};

/// Version of the layout below; a change that an older program would misread raises it. Files of version 1 have one hash of
/// configuration and data together, and one step for all networks.
const FORMAT: u32 = 2;
/// Mark of our checkpoints among other safetensors files.
const PROGRAM: &str = "ldfa-gpu";
/// What comes directly before the digest in the header. No tensor name can imitate it: its quotes would be escaped.
const BEFORE_DIGEST: &[u8] = br#""sha256":""#;
/// Stands in the digest's place while the digest is computed.
const NO_DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Bytes of the header's length at the start of a safetensors file.
const LENGTH: usize = 8;
/// The largest header that readers of safetensors accept; a greater length is no length.
const MAX_HEADER: u64 = 100_000_000;

const _: () = assert!(cfg!(target_endian = "little"), "tensors are written as they lie in memory, little end first");

/// State of a training between two steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Where the training stands.
    pub meta: CheckpointMeta,
    /// Name, shape and values of each tensor, in any order; names are unique. Loading sorts them by name.
    pub tensors: Vec<(String, Vec<usize>, Values)>,
}

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

/// Elements of a tensor, row-major, bit for bit.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Weights, moments, statistics.
    F32(Vec<f32>),
    /// Accumulators of the reference executor.
    F64(Vec<f64>),
    /// Permutations, cursors, generators.
    U32(Vec<u32>),
}

impl Values {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Values::F32(values) => values.len(),
            Values::F64(values) => values.len(),
            Values::U32(values) => values.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn dtype(&self) -> Dtype {
        match self {
            Values::F32(_) => Dtype::F32,
            Values::F64(_) => Dtype::F64,
            Values::U32(_) => Dtype::U32,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Values::F32(values) => bytemuck::cast_slice(values),
            Values::F64(values) => bytemuck::cast_slice(values),
            Values::U32(values) => bytemuck::cast_slice(values),
        }
    }

    /// Overwrites the rows of `networks`, of `count` that there are, with another tensor's of the same shape. Another executor may
    /// have written that one in another precision, which the whole tensor then takes.
    fn take(&mut self, networks: &[usize], count: usize, from: &Values) {
        fn rows<T: Copy>(own: &mut [T], networks: &[usize], count: usize, from: &[T]) {
            let size = own.len() / count;
            for row in networks.iter().map(|network| network * size..(network + 1) * size) {
                own[row.clone()].copy_from_slice(&from[row]);
            }
        }
        match (&mut *self, from) {
            (Values::F32(own), Values::F32(from)) => rows(own, networks, count, from),
            (Values::F64(own), Values::F64(from)) => rows(own, networks, count, from),
            (Values::U32(own), Values::U32(from)) => rows(own, networks, count, from),
            (own, from) => {
                let kept: Vec<usize> = (0..count).filter(|network| !networks.contains(network)).collect();
                let mut all = from.clone();
                all.take(&kept, count, &own.to_type_of(from));
                *self = all;
            }
        }
    }

    /// The same numbers, as exactly as the other's type holds them.
    fn to_type_of(&self, other: &Values) -> Values {
        let numbers: Vec<f64> = match self {
            Values::F32(values) => values.iter().map(|&value| f64::from(value)).collect(),
            Values::F64(values) => values.clone(),
            Values::U32(values) => values.iter().map(|&value| f64::from(value)).collect(),
        };
        match other {
            Values::F32(_) => Values::F32(numbers.into_iter().map(|number| number as f32).collect()),
            Values::F64(_) => Values::F64(numbers),
            Values::U32(_) => Values::U32(numbers.into_iter().map(|number| number as u32).collect()),
        }
    }

    fn from_bytes(dtype: Dtype, bytes: &[u8]) -> Option<Values> {
        match dtype {
            Dtype::F32 => Some(Values::F32(elements(bytes, f32::from_le_bytes))),
            Dtype::F64 => Some(Values::F64(elements(bytes, f64::from_le_bytes))),
            Dtype::U32 => Some(Values::U32(elements(bytes, u32::from_le_bytes))),
            _ => None,
        }
    }
}

/// Name, shape and values (row-major) of each tensor of a network.
pub type Weights = Vec<(String, Vec<usize>, Vec<f32>)>;

/// A checkpoint or weight file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// No such file.
    #[error("{} does not exist; check the path, or start without --resume or --init", .0.display())]
    NotFound(PathBuf),
    /// The system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The end is missing.
    #[error("{} is cut short: it has {have} bytes of at least {need}; {RESTORE}", path.display())]
    CutShort {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        have: u64,
        /// The length that its header gives.
        need: u64,
    },
    /// Complete, but not what was written.
    #[error("{} is damaged: {what}; {RESTORE}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What gave it away.
        what: String,
    },
    /// A file of something else.
    #[error("{} is not a checkpoint of ldfa-gpu ({why}); name a file of a run's checkpoints folder", path.display())]
    NotACheckpoint {
        /// The file.
        path: PathBuf,
        /// What gave it away.
        why: String,
    },
    /// Written by a later version.
    #[error("{} has format {found} and this program reads up to {FORMAT}; use ldfa-gpu {program_version} or later", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The version that wrote it.
        program_version: String,
    },
    /// Of another experiment.
    #[error(
        "{} belongs to another {what} (hash {found}, and here it is {expected}); {remedy}, or start a new run with another --out",
        path.display()
    )]
    OtherOrigin {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// Hash in the file, abbreviated.
        found: String,
        /// Hash of what is in use, abbreviated.
        expected: String,
        /// What to do.
        remedy: String,
    },
    /// A weight file that is none.
    #[error("{} is not a safetensors file ({why}); save one with safetensors.torch.save_file", path.display())]
    NotWeights {
        /// The file.
        path: PathBuf,
        /// What gave it away.
        why: String,
    },
    /// A whole training instead of a network.
    #[error(
        "{} is a checkpoint of a training, not a weight file; make one of it with `ldfa-gpu export RUN -o FILE.safetensors`",
        .0.display()
    )]
    IsACheckpoint(PathBuf),
    /// A tensor that cannot be stored or used.
    #[error("{}, tensor {tensor}: {what}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong, and the remedy.
        what: String,
    },
}

/// What to do about a file that is no longer what was written.
const RESTORE: &str = "put an intact copy in its place";

impl CheckpointError {
    /// Whether the file is simply not there: a run that was stopped before its first checkpoint.
    pub fn is_not_found(&self) -> bool {
        matches!(self, CheckpointError::NotFound(_))
    }
}

impl Checkpoint {
    /// Writes the checkpoint, or leaves what was there. The same content gives the same bytes, in any order of tensors.
    ///
    /// # Errors
    /// [`CheckpointError::File`] when the disk refuses; [`CheckpointError::Tensor`] for a shape that does not fit its
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

impl CheckpointMeta {
    fn to_strings(&self) -> BTreeMap<&'static str, String> {
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

    fn from_strings(strings: &HashMap<String, String>, format: u32) -> Result<CheckpointMeta, String> {
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

fn field<T: FromStr>(strings: &HashMap<String, String>, key: &str) -> Result<T, String> {
    let text = strings.get(key).ok_or_else(|| format!("its metadata lacks {key}"))?;
    text.parse().map_err(|_| format!("its metadata has {key} = {text:?}"))
}

fn list<T: FromStr>(strings: &HashMap<String, String>, key: &str) -> Result<Vec<T>, String> {
    let text: String = field(strings, key)?;
    let values = text.split_whitespace().map(|item| item.parse().ok());
    values.collect::<Option<_>>().ok_or_else(|| format!("its metadata has {key} = {text:?}"))
}

/// Reads the weights of a network from a safetensors file, sorted by name and converted to f32.
///
/// F32, F64, F16 and BF16 are accepted; PyTorch's batch counters (`num_batches_tracked`), which nothing here uses, are
/// passed over.
///
/// # Errors
/// [`CheckpointError`]: not found, cut short, damaged, not safetensors, a checkpoint instead of weights, a tensor of
/// another type or with values that are not finite.
pub fn read_weights(path: &Path) -> Result<Weights, CheckpointError> {
    let content = read_file(path)?;
    let parsed = Parsed::new(&content).map_err(|flaw| flaw.of_weights(path))?;
    if parsed.header.metadata().as_ref().and_then(|strings| strings.get("program")).is_some_and(|by| by == PROGRAM) {
        return Err(CheckpointError::IsACheckpoint(path.to_owned()));
    }
    let weights = parsed.tensors().filter(|(name, ..)| !name.ends_with("num_batches_tracked"));
    let converted = weights.map(|(name, shape, dtype, bytes)| match to_f32(dtype, bytes) {
        Ok(values) => Ok((name, shape, values)),
        Err(what) => Err(CheckpointError::Tensor { path: path.to_owned(), tensor: name, what }),
    });
    converted.collect()
}

/// Writes weights as a plain safetensors file, which `safetensors.torch.load_file` reads. Same content, same bytes.
///
/// # Errors
/// As [`Checkpoint::save`].
pub fn write_weights(path: &Path, weights: &[(String, Vec<usize>, Vec<f32>)]) -> Result<(), CheckpointError> {
    let tensors = weights.iter().map(|(name, shape, values)| {
        let bytes = bytemuck::cast_slice(values);
        Stored { name, shape, dtype: Dtype::F32, bytes }
    });
    // The mark that tools of the PyTorch world look for.
    let metadata = BTreeMap::from([("format", "pt".to_owned())]);
    let image = Image::new(metadata, tensors.collect()).map_err(|error| error.in_file(path))?;
    Ok(write_atomically(path, |file| image.write_to(file))?)
}

fn to_f32(dtype: Dtype, bytes: &[u8]) -> Result<Vec<f32>, String> {
    let values: Vec<f32> = match dtype {
        Dtype::F32 => elements(bytes, f32::from_le_bytes),
        Dtype::F64 => elements(bytes, |bytes| f64::from_le_bytes(bytes) as f32),
        Dtype::F16 => elements(bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dtype::BF16 => elements(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        other => return Err(format!("has type {other:?}; save it as F32, F64, F16 or BF16")),
    };
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(format!("element {index} is not a finite f32; the network that was saved had diverged")),
        None => Ok(values),
    }
}

/// Decodes little-endian elements of N bytes. The header's check has made sure that their number is whole.
fn elements<const N: usize, T>(bytes: &[u8], decode: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&chunk| decode(chunk)).collect()
}

/// A tensor about to be written.
struct Stored<'a> {
    name: &'a str,
    shape: &'a [usize],
    dtype: Dtype,
    bytes: &'a [u8],
}

/// A tensor that cannot be written.
struct Unstorable {
    tensor: String,
    what: String,
}

impl Unstorable {
    fn in_file(self, path: &Path) -> CheckpointError {
        CheckpointError::Tensor { path: path.to_owned(), tensor: self.tensor, what: self.what }
    }
}

/// A safetensors file about to be written. The crate's own writer takes the metadata from a hash map, whose order, and
/// with it the bytes of the file, changes from run to run.
struct Image<'a> {
    metadata: BTreeMap<&'static str, String>,
    /// Wide types first, so that every tensor is aligned in the file; by name among equals.
    tensors: Vec<Stored<'a>>,
}

impl<'a> Image<'a> {
    fn new(metadata: BTreeMap<&'static str, String>, mut tensors: Vec<Stored<'a>>) -> Result<Image<'a>, Unstorable> {
        tensors.sort_by_key(|tensor| (Reverse(tensor.dtype), tensor.name));
        let mut names = HashSet::new();
        for tensor in &tensors {
            let unstorable = |what| Err(Unstorable { tensor: tensor.name.to_owned(), what });
            let elements = tensor.bytes.len() * 8 / tensor.dtype.bitsize();
            if tensor.shape.iter().product::<usize>() != elements {
                return unstorable(format!("shape {:?} does not hold {elements} elements", tensor.shape));
            }
            if tensor.name == "__metadata__" || !names.insert(tensor.name) {
                return unstorable("the name is taken".to_owned());
            }
        }
        Ok(Image { metadata, tensors })
    }

    /// SHA-256 of the file as it is now, in hexadecimal.
    fn digest(&self) -> io::Result<String> {
        let mut hash = HashWriter(Sha256::new());
        self.write_to(&mut hash)?;
        Ok(hex(hash.0))
    }

    fn write_to(&self, sink: &mut impl Write) -> io::Result<()> {
        let mut header = serde_json::to_vec(self)?;
        header.resize(header.len().next_multiple_of(LENGTH), b' ');
        sink.write_all(&(header.len() as u64).to_le_bytes())?;
        sink.write_all(&header)?;
        self.tensors.iter().try_for_each(|tensor| sink.write_all(tensor.bytes))
    }
}

/// The header: metadata, then what each tensor is and where it lies.
impl Serialize for Image<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("__metadata__", &self.metadata)?;
        let mut start = 0;
        for Stored { name, shape, dtype, bytes } in &self.tensors {
            let data_offsets = (start, start + bytes.len());
            map.serialize_entry(name, &TensorInfo { dtype: *dtype, shape: shape.to_vec(), data_offsets })?;
            start = data_offsets.1;
        }
        map.end()
    }
}

/// Feeds what is written into a hash.
struct HashWriter(Sha256);

impl Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Recomputes the digest over every byte of the file; only the digest's own place counts as zeros.
fn verify_digest(bytes: &[u8]) -> Result<(), &'static str> {
    let start = find(bytes, BEFORE_DIGEST).ok_or("its checksum is missing")? + BEFORE_DIGEST.len();
    let end = start + NO_DIGEST.len();
    let written = bytes.get(start..end).ok_or("its checksum is cut short")?;
    let mut hash = Sha256::new();
    hash.update(&bytes[..start]);
    hash.update(NO_DIGEST);
    hash.update(&bytes[end..]);
    if hex(hash).as_bytes() == written { Ok(()) } else { Err("its checksum does not match its content") }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// What was read of a file.
struct Content {
    bytes: Vec<u8>,
    /// Of the file, which may be longer than what was read.
    length: u64,
}

/// Reads a safetensors file; if it is longer than its header says, no more than the header, for it may be without bound.
fn read_file(path: &Path) -> Result<Content, CheckpointError> {
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

/// The two parts of a safetensors file whose header and length agree.
struct Parsed<'a> {
    header: Metadata,
    data: &'a [u8],
}

/// Why a file is not safetensors.
enum Flaw {
    CutShort { have: u64, need: u64 },
    TrailingBytes(u64),
    Foreign(String),
}

impl<'a> Parsed<'a> {
    fn new(content: &'a Content) -> Result<Parsed<'a>, Flaw> {
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
    fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>, Dtype, &'a [u8])> {
        let by_name: BTreeMap<_, _> = self.header.tensors().into_iter().collect();
        by_name.into_iter().map(|(name, info)| {
            let (start, end) = info.data_offsets;
            (name, info.shape.clone(), info.dtype, &self.data[start..end])
        })
    }
}

impl Flaw {
    /// In a file that should be a checkpoint. What bears our mark is a damaged checkpoint rather than another's file.
    fn of_checkpoint(self, path: &Path, bytes: &[u8]) -> CheckpointError {
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
    fn of_weights(self, path: &Path) -> CheckpointError {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::time::{Duration, Instant};

    fn origin(config: &str, data: &str) -> Origin {
        let hash = |text: &str| text.repeat(64 / text.len());
        Origin { config: Some(hash(config)), data: Some(hash(data)), together: hash(&format!("{config}{data}")) }
    }

    fn example() -> Checkpoint {
        let meta = CheckpointMeta {
            program_version: "0.1.0".to_owned(),
            origin: origin("a", "b"),
            step: 1234,
            steps: vec![1234, 1220],
            seconds: 12.345678901234567,
        };
        let tensors = vec![
            ("layers.0.weight".to_owned(), vec![2, 1, 2], Values::F32(vec![1.0, -0.0, f32::NAN, 1e-40])),
            ("cursor".to_owned(), vec![1], Values::U32(vec![u32::MAX])),
            ("loss".to_owned(), vec![2], Values::F64(vec![f64::MIN_POSITIVE, 0.1])),
            ("nothing".to_owned(), vec![0, 3], Values::F32(vec![])),
        ];
        Checkpoint { meta, tensors }
    }

    /// Folder, path and bytes of a saved example.
    fn saved() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        example().save(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        (folder, path, bytes)
    }

    fn load_bytes(path: &Path, bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
        fs::write(path, bytes).unwrap();
        Checkpoint::load(path)
    }

    #[test]
    fn reads_back_bit_for_bit() {
        let (_folder, path, _) = saved();
        let loaded = Checkpoint::load(&path).unwrap();
        assert_eq!(loaded.meta, example().meta);
        let mut expected = example().tensors;
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(loaded.tensors.len(), expected.len());
        for (loaded, expected) in loaded.tensors.iter().zip(&expected) {
            assert_eq!((&loaded.0, &loaded.1), (&expected.0, &expected.1));
            assert_eq!(loaded.2.dtype(), expected.2.dtype());
            assert_eq!(loaded.2.bytes(), expected.2.bytes(), "NaN payloads and signed zeros included");
        }
    }

    #[test]
    fn is_a_safetensors_file_with_aligned_tensors() {
        let (_folder, _, bytes) = saved();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.len(), 4);
        for (name, tensor) in file.tensors() {
            let offset = tensor.data().as_ptr() as usize - bytes.as_ptr() as usize;
            assert_eq!(offset % (tensor.dtype().bitsize() / 8), 0, "{name}");
        }
    }

    #[test]
    fn the_same_content_gives_the_same_bytes() {
        let (_folder, path, bytes) = saved();
        let mut shuffled = example();
        shuffled.tensors.reverse();
        shuffled.save(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes);
        shuffled.meta.step += 1;
        shuffled.save(&path).unwrap();
        assert_ne!(fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (_folder, path, bytes) = saved();
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[position] ^= 1 << bit;
                let error = load_bytes(&path, &flipped).expect_err("a flipped bit must be noticed");
                assert!(
                    matches!(error, CheckpointError::Damaged { .. } | CheckpointError::CutShort { .. }),
                    "byte {position}, bit {bit}: {error}"
                );
            }
        }
        load_bytes(&path, &bytes).expect("the file itself is sound");
    }

    #[test]
    fn every_cut_is_noticed() {
        let (_folder, path, bytes) = saved();
        for length in 0..bytes.len() {
            let error = load_bytes(&path, &bytes[..length]).unwrap_err();
            assert!(matches!(error, CheckpointError::CutShort { .. }), "{length} bytes: {error}");
            assert!(error.to_string().contains("last.safetensors"), "{error}");
        }
        let longer = [&bytes[..], b"\0"].concat();
        assert!(matches!(load_bytes(&path, &longer).unwrap_err(), CheckpointError::Damaged { .. }));
    }

    /// Body of the process that the next test kills; does nothing when run with the rest.
    #[test]
    fn saves_until_killed() {
        let Some(path) = std::env::var_os("LDFA_TEST_SAVE_UNTIL_KILLED") else { return };
        let mut checkpoint = example();
        checkpoint.tensors.push(("ballast".to_owned(), vec![1 << 16], Values::U32(vec![7; 1 << 16])));
        loop {
            checkpoint.save(Path::new(&path)).unwrap();
            checkpoint.meta.step += 1;
        }
    }

    /// Until the file is replaced: a fixed time would not do on a busy machine.
    fn wait_for_change(path: &Path) {
        let written = || fs::metadata(path).unwrap().modified().unwrap();
        let (before, start) = (written(), Instant::now());
        while written() == before {
            assert!(start.elapsed() < Duration::from_secs(60), "the other process does not save");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_kill_at_any_moment_leaves_a_sound_checkpoint() {
        let (folder, path, _) = saved();
        for round in 0..8u64 {
            let mut process = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", concat!(module_path!(), "::saves_until_killed").split_once("::").unwrap().1])
                .env("LDFA_TEST_SAVE_UNTIL_KILLED", &path)
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap();
            wait_for_change(&path);
            std::thread::sleep(Duration::from_millis(3 * round));
            process.kill().unwrap();
            process.wait().unwrap();
            assert!(Checkpoint::load(&path).unwrap().meta.step >= example().meta.step);
        }
        crate::train::files::remove_leftovers(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn other_files_are_called_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        assert!(Checkpoint::load(&path).unwrap_err().is_not_found());
        assert!(matches!(Checkpoint::load(folder.path()).unwrap_err(), CheckpointError::File(_)));
        for foreign in [&b"PK\x03\x04 this is a zip file of weights"[..], br#"{"json": true, "and": "long enough"}"#] {
            assert!(matches!(load_bytes(&path, foreign).unwrap_err(), CheckpointError::NotACheckpoint { .. }));
        }
        write_weights(&path, &[("w".to_owned(), vec![1], vec![1.0])]).unwrap();
        assert!(matches!(Checkpoint::load(&path).unwrap_err(), CheckpointError::NotACheckpoint { .. }));
    }

    /// Rewrites the metadata of the example, with a correct digest.
    fn save_with(path: &Path, key: &'static str, value: &str) {
        let mut metadata = example().meta.to_strings();
        metadata.insert(key, value.to_owned());
        let mut image = Image::new(metadata, Vec::new()).ok().unwrap();
        let digest = image.digest().unwrap();
        image.metadata.insert("sha256", digest);
        write_atomically(path, |file| image.write_to(file)).unwrap();
    }

    #[test]
    fn a_newer_format_names_the_version_to_get() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        save_with(&path, "format", "3");
        let error = Checkpoint::load(&path).unwrap_err();
        assert!(matches!(error, CheckpointError::Newer { found: 3, .. }) && error.to_string().contains("0.1.0"));
        save_with(&path, "steps", "1 2 x");
        assert!(matches!(Checkpoint::load(&path).unwrap_err(), CheckpointError::Damaged { .. }));
        save_with(&path, "step", "-1");
        assert!(Checkpoint::load(&path).unwrap_err().to_string().contains(r#"step = "-1""#));
    }

    /// Version 1 knew one hash of configuration and data, and the best epochs of the networks.
    #[test]
    fn files_of_the_first_version_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let mut metadata = example().meta.to_strings();
        metadata.retain(|key, _| !["steps", "settings_hash", "data_hash"].contains(key));
        let old = [("format", "1"), ("epoch", "5"), ("best_accuracy", "0.5 0.25"), ("best_epoch", "4 5")];
        metadata.extend(old.map(|(key, value)| (key, value.to_owned())));
        let mut image = Image::new(metadata, Vec::new()).ok().unwrap();
        image.metadata.insert("sha256", image.digest().unwrap());
        write_atomically(&path, |file| image.write_to(file)).unwrap();
        let read = Checkpoint::load(&path).unwrap();
        assert_eq!((read.meta.step, &read.meta.steps[..]), (1234, &[1234, 1234][..]));
        read.check_origin(&path, &origin("a", "b"), "digits").unwrap();
        let error = read.check_origin(&path, &origin("a", "c"), "digits").unwrap_err().to_string();
        assert!(error.contains("configuration or set of images"), "{error}");
    }

    #[test]
    fn another_configuration_and_other_images_are_told_apart() {
        let (_folder, path, _) = saved();
        let checkpoint = Checkpoint::load(&path).unwrap();
        checkpoint.check_origin(&path, &origin("a", "b"), "digits").unwrap();
        let error = |origin: &Origin| checkpoint.check_origin(&path, origin, "digits").unwrap_err().to_string();
        let other = error(&origin("c", "b"));
        assert!(other.contains("another configuration (hash aaaaaaaaaaaa, and here it is cccccccccccc)"), "{other}");
        assert!(other.contains("config.toml") && other.contains("--out"), "{other}");
        let other = error(&origin("a", "d"));
        assert!(other.contains("another set of images (hash bbbbbbbbbbbb, and here it is dddddddddddd)"), "{other}");
        assert!(other.contains("images of digits back"), "{other}");
        assert!(error(&origin("c", "d")).contains("another configuration ("));
    }

    fn values_of<'a>(checkpoint: &'a Checkpoint, name: &str) -> &'a Values {
        &checkpoint.tensors.iter().find(|(other, ..)| other == name).unwrap().2
    }

    #[test]
    fn networks_are_taken_over_one_by_one() {
        let later = || {
            let mut later = example();
            later.meta.step = 2000;
            later.meta.steps = vec![2000, 2000];
            later.tensors[0].2 = Values::F32(vec![5.0, 6.0, 7.0, 8.0]);
            later.tensors[1].2 = Values::U32(vec![9]);
            later.tensors[2].2 = Values::F64(vec![0.5, 0.75]);
            later
        };
        let mut best = example();
        best.take(&[1], &later()).unwrap();
        assert_eq!((best.meta.step, &best.meta.steps[..]), (2000, &[1234, 2000][..]));
        assert_eq!(values_of(&best, "layers.0.weight"), &Values::F32(vec![1.0, -0.0, 7.0, 8.0]));
        assert_eq!(values_of(&best, "loss"), &Values::F64(vec![f64::MIN_POSITIVE, 0.75]));
        assert_eq!(values_of(&best, "cursor"), &Values::U32(vec![u32::MAX]), "no network's own");
        // The other executor keeps its numbers in another precision.
        let mut other = later();
        other.tensors[0].2 = Values::F64(vec![5.0, 6.0, 7.0, 8.0]);
        let mut best = example();
        best.take(&[0], &other).unwrap();
        let Values::F64(taken) = values_of(&best, "layers.0.weight") else { panic!("the type of what is taken") };
        assert!(taken[..2] == [5.0, 6.0] && taken[2].is_nan() && taken[3] == f64::from(1e-40f32));
        let mut narrower = later();
        narrower.tensors[0].1 = vec![2, 2, 1];
        assert_eq!(example().take(&[0], &narrower), Err("layers.0.weight".to_owned()));
        narrower.tensors.remove(0);
        assert_eq!(example().take(&[0], &narrower), Err("layers.0.weight".to_owned()));
    }

    #[test]
    fn an_endless_file_is_not_read_to_its_end() {
        let (_folder, path, bytes) = saved();
        fs::File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        let error = Checkpoint::load(&path).unwrap_err();
        let trailing = (1u64 << 40) - bytes.len() as u64;
        assert!(error.to_string().contains(&format!("{trailing} bytes follow its end")), "{error}");
        fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(matches!(Checkpoint::load(&path).unwrap_err(), CheckpointError::NotACheckpoint { .. }));
        assert!(matches!(read_weights(&path).unwrap_err(), CheckpointError::NotWeights { .. }));
    }

    #[test]
    fn what_cannot_be_stored_is_refused_and_the_old_file_kept() {
        let (_folder, path, bytes) = saved();
        for (name, shape) in [("cursor", vec![1]), ("w", vec![2]), ("__metadata__", vec![1])] {
            let mut bad = example();
            bad.tensors.push((name.to_owned(), shape, Values::U32(vec![1])));
            let error = bad.save(&path).unwrap_err();
            assert!(matches!(&error, CheckpointError::Tensor { tensor, .. } if tensor == name), "{error}");
        }
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert!(matches!(example().save(&path.join("below")).unwrap_err(), CheckpointError::File(_)));
    }

    #[test]
    fn weights_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let weights = [
            ("layers.0.bias".to_owned(), vec![2], vec![1.5, -2.0]),
            ("layers.0.weight".to_owned(), vec![2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 1e-40]),
        ];
        write_weights(&path, &weights).unwrap();
        assert_eq!(read_weights(&path).unwrap(), weights);
        let bytes = fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            assert!(matches!(read_weights(&path).unwrap_err(), CheckpointError::CutShort { .. }));
        }
    }

    /// A file with one tensor of each kind, written by the reference implementation of the format.
    fn foreign_file(path: &Path, tensors: &[(&str, Dtype, &[u8])]) {
        let views = tensors.iter().map(|&(name, dtype, bytes)| {
            let length = bytes.len() * 8 / dtype.bitsize();
            (name, safetensors::tensor::TensorView::new(dtype, vec![length], bytes).unwrap())
        });
        fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
    }

    #[test]
    fn weights_of_every_float_type_are_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        foreign_file(
            &path,
            &[
                (
                    "bf16",
                    Dtype::BF16,
                    &[bf16::from_f32(-1.5).to_le_bytes(), bf16::from_f32(2.0).to_le_bytes()].concat(),
                ),
                ("bn.num_batches_tracked", Dtype::I64, &7u64.to_le_bytes()),
                ("f16", Dtype::F16, &f16::from_f32(0.25).to_le_bytes()),
                ("f32", Dtype::F32, &0.1f32.to_le_bytes()),
                ("f64", Dtype::F64, &0.1f64.to_le_bytes()),
            ],
        );
        let expected = [("bf16", vec![-1.5, 2.0]), ("f16", vec![0.25]), ("f32", vec![0.1]), ("f64", vec![0.1])];
        assert_eq!(
            read_weights(&path).unwrap(),
            expected.map(|(name, values)| (name.to_owned(), vec![values.len()], values))
        );
    }

    #[test]
    fn unusable_weights_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        foreign_file(&path, &[("mask", Dtype::U8, &[1, 2])]);
        let error = read_weights(&path).unwrap_err().to_string();
        assert!(error.contains("tensor mask") && error.contains("U8"), "{error}");
        for bytes in [&f32::NAN.to_le_bytes()[..], &f32::INFINITY.to_le_bytes()] {
            foreign_file(&path, &[("w", Dtype::F32, bytes)]);
            assert!(read_weights(&path).unwrap_err().to_string().contains("element 0"));
        }
        foreign_file(&path, &[("w", Dtype::F64, &1e300f64.to_le_bytes())]);
        assert!(read_weights(&path).is_err(), "too large for f32");
        example().save(&path).unwrap();
        assert!(matches!(read_weights(&path).unwrap_err(), CheckpointError::IsACheckpoint(_)));
        assert!(read_weights(&folder.path().join("none")).unwrap_err().is_not_found());
        fs::write(&path, "a picture of the network, surely").unwrap();
        assert!(matches!(read_weights(&path).unwrap_err(), CheckpointError::NotWeights { .. }));
    }

    fn with_header(header: &[u8], data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes()[..], header, data].concat()
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>, header in r#"[\[\]{}:,"a-z0-9_]{0,60}"#) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x");
            for bytes in [with_header(header.as_bytes(), &bytes), with_header(&bytes, &bytes), bytes] {
                fs::write(&path, &bytes).unwrap();
                prop_assert!(Checkpoint::load(&path).is_err());
                // `{}` is a file of no weights.
                prop_assert!(read_weights(&path).map_or(true, |weights| weights.is_empty()));
            }
        }

        #[test]
        fn impossible_headers_never_panic(dtype in "F32|F64|U8|F4|BF16|Q7", shape: [u64; 2], start: u64, end: u64) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x");
            for (start, end) in [(start, end), (0, end), (0, 0), (0, 16), (end, end)] {
                let header = format!(
                    r#"{{"w":{{"dtype":"{dtype}","shape":[{},{}],"data_offsets":[{start},{end}]}}}}"#,
                    shape[0], shape[1]
                );
                fs::write(&path, with_header(header.as_bytes(), &[0; 16])).unwrap();
                prop_assert!(read_weights(&path).is_err() && Checkpoint::load(&path).is_err());
            }
        }
    }
}
