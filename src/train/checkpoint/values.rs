//! Elements of tensors in memory and in files.

use safetensors::tensor::Dtype;

const _: () = assert!(cfg!(target_endian = "little"), "tensors are written as they lie in memory, little end first");

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

    pub(super) fn dtype(&self) -> Dtype {
        match self {
            Values::F32(_) => Dtype::F32,
            Values::F64(_) => Dtype::F64,
            Values::U32(_) => Dtype::U32,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Values::F32(values) => bytemuck::cast_slice(values),
            Values::F64(values) => bytemuck::cast_slice(values),
            Values::U32(values) => bytemuck::cast_slice(values),
        }
    }

    /// Overwrites the rows of `networks`, of `count` that there are, with another tensor's of the same shape. Another executor may
    /// have written that one in another precision, which the whole tensor then takes.
    pub(super) fn take(&mut self, networks: &[usize], count: usize, from: &Values) {
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

    pub(super) fn from_bytes(dtype: Dtype, bytes: &[u8]) -> Option<Values> {
        match dtype {
            Dtype::F32 => Some(Values::F32(elements(bytes, f32::from_le_bytes))),
            Dtype::F64 => Some(Values::F64(elements(bytes, f64::from_le_bytes))),
            Dtype::U32 => Some(Values::U32(elements(bytes, u32::from_le_bytes))),
            _ => None,
        }
    }
}

/// Decodes little-endian elements of N bytes. The header's check has made sure that their number is whole.
pub(super) fn elements<const N: usize, T>(bytes: &[u8], decode: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&chunk| decode(chunk)).collect()
}
