//! Where the reference keeps its tensors.

use std::ops::Range;
use std::sync::Arc;

use super::error::ReferenceError;
use super::matrix::Matrix;
use crate::ops::{Dtype, Kind, Tensor, TensorInfo};
use crate::plan::Plan;

/// The elements of a tensor, in the type that holds them exactly.
#[derive(Clone, Debug)]
pub(super) enum Values {
    Floats(Vec<f64>),
    Words(Vec<u32>),
    Bytes(Vec<u8>),
}

impl Values {
    fn zeros(dtype: Dtype, count: usize) -> Values {
        match dtype {
            Dtype::F32 => Values::Floats(vec![0.0; count]),
            Dtype::U32 => Values::Words(vec![0; count]),
            Dtype::U8 => Values::Bytes(vec![0; count]),
        }
    }
}

impl From<Vec<f64>> for Values {
    fn from(values: Vec<f64>) -> Values {
        Values::Floats(values)
    }
}

impl From<Vec<u32>> for Values {
    fn from(values: Vec<u32>) -> Values {
        Values::Words(values)
    }
}

/// The Rust type that stands for a [`Dtype`].
pub(super) trait Element: Copy {
    const DTYPE: Dtype;
    fn slice(values: &Values) -> Option<&[Self]>;
    fn slice_mut(values: &mut Values) -> Option<&mut [Self]>;
}

macro_rules! element {
    ($type:ty, $dtype:ident, $variant:ident) => {
        impl Element for $type {
            const DTYPE: Dtype = Dtype::$dtype;

            fn slice(values: &Values) -> Option<&[$type]> {
                if let Values::$variant(values) = values { Some(values) } else { None }
            }

            fn slice_mut(values: &mut Values) -> Option<&mut [$type]> {
                if let Values::$variant(values) = values { Some(values) } else { None }
            }
        }
    };
}

element!(f64, F32, Floats);
element!(u32, U32, Words);
element!(u8, U8, Bytes);

/// Where the elements of a tensor lie: in its own values, or for a view in those of the tensor looked into.
#[derive(Clone, Copy, Debug)]
struct Place {
    owner: usize,
    offset: usize,
    replica_stride: usize,
}

/// All tensors of a plan; scratch tensors share no memory, so every value of a phase stays readable.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    plan: Arc<Plan>,
    places: Vec<Place>,
    values: Vec<Values>,
}

impl Storage {
    /// Zeros.
    pub(super) fn new(plan: Arc<Plan>) -> Storage {
        let mut storage = Storage { places: Vec::new(), values: Vec::new(), plan: Arc::clone(&plan) };
        for info in plan.tensors() {
            storage.add(info);
        }
        storage
    }

    fn add(&mut self, info: &TensorInfo) {
        let (place, owned) = match info.kind {
            // A view comes after what it looks into, which may itself be a view.
            Kind::View { of, offset } => {
                let parent = self.places[of.index()];
                (Place { offset: parent.offset + offset as usize, ..parent }, 0)
            }
            Kind::State | Kind::Scratch => {
                let shape = info.tensor.shape;
                let place = Place { owner: self.places.len(), offset: 0, replica_stride: shape.per_replica() };
                (place, shape.elements())
            }
        };
        self.places.push(place);
        self.values.push(Values::zeros(info.tensor.dtype, owned));
    }

    fn info(&self, tensor: Tensor) -> Result<&TensorInfo, ReferenceError> {
        let known = self.plan.tensors().get(tensor.index()).filter(|info| info.tensor == tensor);
        known.ok_or(ReferenceError::UnknownTensor { index: tensor.index(), shape: tensor.shape })
    }

    /// The owner of a replica's elements and where in its values they lie; the one replica of a shared tensor is
    /// everyone's.
    fn locate(&self, tensor: Tensor, replica: usize) -> Result<(usize, Range<usize>), ReferenceError> {
        let (info, shape) = (self.info(tensor)?, tensor.shape);
        let replica = if shape.replicas == 1 { 0 } else { replica };
        if replica >= shape.replicas as usize {
            return Err(ReferenceError::MissingReplica { name: info.name.clone(), shape, replica });
        }
        let place = self.places[tensor.index()];
        let start = place.offset + replica * place.replica_stride;
        Ok((place.owner, start..start + shape.per_replica()))
    }

    fn mismatch(&self, tensor: Tensor, wanted: Dtype) -> ReferenceError {
        let name = self.plan.info(tensor).name.clone();
        ReferenceError::ElementType { name, holds: tensor.dtype, wanted }
    }

    /// One replica's elements.
    pub(super) fn slice<T: Element>(&self, tensor: Tensor, replica: usize) -> Result<&[T], ReferenceError> {
        let (owner, range) = self.locate(tensor, replica)?;
        let values = T::slice(&self.values[owner]).ok_or_else(|| self.mismatch(tensor, T::DTYPE))?;
        Ok(&values[range])
    }

    /// One replica's matrix.
    pub(super) fn matrix(&self, tensor: Tensor, replica: usize) -> Result<Matrix<'_>, ReferenceError> {
        let data = self.slice(tensor, replica)?;
        Ok(Matrix::new(tensor.rows() as usize, tensor.cols() as usize, data))
    }

    fn store<T: Element>(&mut self, tensor: Tensor, replica: usize, values: &[T]) -> Result<(), ReferenceError> {
        let (owner, range) = self.locate(tensor, replica)?;
        if values.len() != range.len() {
            return Err(self.length(tensor, values.len()));
        }
        if tensor.dtype != T::DTYPE {
            return Err(self.mismatch(tensor, T::DTYPE));
        }
        if let Some(held) = T::slice_mut(&mut self.values[owner]) {
            held[range].copy_from_slice(values);
        }
        Ok(())
    }

    fn length(&self, tensor: Tensor, found: usize) -> ReferenceError {
        let name = self.plan.info(tensor).name.clone();
        ReferenceError::Length { name, shape: tensor.shape, found }
    }

    /// Overwrites one replica's elements.
    pub(super) fn put(&mut self, tensor: Tensor, replica: usize, values: &Values) -> Result<(), ReferenceError> {
        match values {
            Values::Floats(values) => self.store(tensor, replica, values),
            Values::Words(values) => self.store(tensor, replica, values),
            Values::Bytes(values) => self.store(tensor, replica, values),
        }
    }

    /// Overwrites all replicas' elements with values of their own type.
    pub(super) fn fill<T: Element>(&mut self, tensor: Tensor, values: &[T]) -> Result<(), ReferenceError> {
        self.info(tensor)?;
        if values.len() != tensor.shape.elements() {
            return Err(self.length(tensor, values.len()));
        }
        for (replica, values) in values.chunks(tensor.shape.per_replica().max(1)).enumerate() {
            self.store(tensor, replica, values)?;
        }
        Ok(())
    }

    /// Overwrites all replicas' elements.
    pub(super) fn set(&mut self, tensor: Tensor, values: &[f64]) -> Result<(), ReferenceError> {
        match tensor.dtype {
            Dtype::F32 => self.fill(tensor, values),
            Dtype::U32 => self.fill(tensor, &self.exact(tensor, values, |v| v as u32)?),
            Dtype::U8 => self.fill(tensor, &self.exact(tensor, values, |v| v as u8)?),
        }
    }

    /// Values as the integers that they are; a fraction or a value out of range is an error, not rounded.
    fn exact<T>(&self, tensor: Tensor, values: &[f64], cast: impl Fn(f64) -> T) -> Result<Vec<T>, ReferenceError>
    where
        T: Copy + Into<f64>,
    {
        let info = self.info(tensor)?;
        let not = |value| ReferenceError::NotRepresentable { name: info.name.clone(), dtype: tensor.dtype, value };
        let exactly = |&value: &f64| Some(cast(value)).filter(|&cast| cast.into() == value).ok_or_else(|| not(value));
        values.iter().map(exactly).collect()
    }

    /// All replicas' elements.
    pub(super) fn get(&self, tensor: Tensor) -> Result<Vec<f64>, ReferenceError> {
        let mut all = Vec::with_capacity(tensor.shape.elements());
        for replica in 0..tensor.shape.replicas as usize {
            match tensor.dtype {
                Dtype::F32 => all.extend_from_slice(self.slice::<f64>(tensor, replica)?),
                Dtype::U32 => all.extend(self.slice::<u32>(tensor, replica)?.iter().copied().map(f64::from)),
                Dtype::U8 => all.extend(self.slice::<u8>(tensor, replica)?.iter().copied().map(f64::from)),
            }
        }
        Ok(all)
    }
}
