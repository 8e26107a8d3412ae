//! Writing safetensors files: the same content, the same bytes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, TensorInfo};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::digest::{HashWriter, hex};
use super::error::CheckpointError;
use super::read::LENGTH;

/// A tensor about to be written.
pub(super) struct Stored<'a> {
    pub name: &'a str,
    pub shape: &'a [usize],
    pub dtype: Dtype,
    pub bytes: &'a [u8],
}

/// A tensor that cannot be written.
pub(super) struct Unstorable {
    tensor: String,
    what: String,
}

impl Unstorable {
    pub(super) fn in_file(self, path: &Path) -> CheckpointError {
        CheckpointError::View { path: path.to_owned(), tensor: self.tensor, what: self.what }
    }
}

/// A safetensors file about to be written. The crate's own writer takes the metadata from a hash map, whose order, and
/// with it the bytes of the file, changes from run to run.
pub(super) struct Image<'a> {
    pub metadata: BTreeMap<&'static str, String>,
    /// Wide types first, so that every tensor is aligned in the file; by name among equals.
    tensors: Vec<Stored<'a>>,
}

impl<'a> Image<'a> {
    pub(super) fn new(
        metadata: BTreeMap<&'static str, String>,
        mut tensors: Vec<Stored<'a>>,
    ) -> Result<Image<'a>, Unstorable> {
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
    pub(super) fn digest(&self) -> io::Result<String> {
        let mut hash = HashWriter(Sha256::new());
        self.write_to(&mut hash)?;
        Ok(hex(hash.0))
    }

    pub(super) fn write_to(&self, sink: &mut impl Write) -> io::Result<()> {
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
