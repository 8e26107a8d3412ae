//! Plain weight files, for `--init` and `export`.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::Dtype;

use super::error::CheckpointError;
use super::meta::PROGRAM;
use super::read::{Parsed, read_file};
use super::values::elements;
use super::write::{Image, Stored};
use super::write_atomically;

/// Name, shape and values (row-major) of each tensor of a network.
pub type Weights = Vec<(String, Vec<usize>, Vec<f32>)>;

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
        Err(what) => Err(CheckpointError::View { path: path.to_owned(), tensor: name, what }),
    });
    converted.collect()
}

/// Writes weights as a plain safetensors file, which `safetensors.torch.load_file` reads. Same content, same bytes.
///
/// # Errors
/// As [`Checkpoint::save`](super::Checkpoint::save).
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

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
        assert!(read_weights(&folder.path().join("none")).unwrap_err().is_not_found());
        fs::write(&path, "a picture of the network, surely").unwrap();
        assert!(matches!(read_weights(&path).unwrap_err(), CheckpointError::NotWeights { .. }));
    }
}
