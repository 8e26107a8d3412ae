//! Where the reference keeps its tensors.

use std::sync::Arc;

use super::error::ReferenceError;
use super::matrix::Matrix;
use crate::ops::{Dtype, TensorInfo, View};
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

/// All tensors of a plan; scratch tensors share no memory, so every value of a phase stays readable.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    plan: Arc<Plan>,
    // Of every tensor, all replicas.
    values: Vec<Values>,
}

impl Storage {
    /// Zeros.
    pub(super) fn new(plan: Arc<Plan>) -> Storage {
        let zeros = |info: &TensorInfo| Values::zeros(info.tensor.dtype, info.tensor.shape.elements());
        let values = plan.tensors().iter().map(zeros).collect();
        Storage { plan, values }
    }

    fn info(&self, view: View) -> Result<&TensorInfo, ReferenceError> {
        let fits = |info: &&TensorInfo| {
            let all = info.tensor;
            let inside = view.offset() as usize + view.reach() <= all.shape.per_replica();
            inside && all.dtype == view.dtype && all.shape.replicas == view.shape.replicas
        };
        let known = self.plan.tensors().get(view.index()).filter(fits);
        known.ok_or(ReferenceError::UnknownTensor { index: view.index(), shape: view.shape })
    }

    /// First element of a replica of a view's tensor; the one replica of a shared tensor is everyone's.
    fn start(&self, view: View, replica: usize) -> Result<usize, ReferenceError> {
        let (info, shape) = (self.info(view)?, view.shape);
        let replica = if shape.replicas == 1 { 0 } else { replica };
        if replica >= shape.replicas as usize {
            return Err(ReferenceError::MissingReplica { name: info.name.clone(), shape, replica });
        }
        Ok(replica * info.tensor.shape.per_replica())
    }

    fn mismatch(&self, view: View, wanted: Dtype) -> ReferenceError {
        let name = self.plan.name(view).to_owned();
        ReferenceError::ElementType { name, holds: view.dtype, wanted }
    }

    fn held<T: Element>(&self, view: View) -> Result<&[T], ReferenceError> {
        T::slice(&self.values[view.index()]).ok_or_else(|| self.mismatch(view, T::DTYPE))
    }

    /// One replica's elements, which lie side by side.
    pub(super) fn slice<T: Element>(&self, view: View, replica: usize) -> Result<&[T], ReferenceError> {
        let start = self.start(view, replica)? + view.offset() as usize;
        if !view.is_contiguous() {
            return Err(ReferenceError::Strided { name: self.plan.name(view).to_owned() });
        }
        Ok(&self.held(view)?[start..start + view.shape.per_replica()])
    }

    /// One replica's elements in their order, wherever they lie.
    pub(super) fn gathered<T: Element>(&self, view: View, replica: usize) -> Result<Vec<T>, ReferenceError> {
        let (start, cols, held) = (self.start(view, replica)?, view.cols() as usize, self.held(view)?);
        Ok(view.row_starts().flat_map(|row| &held[start + row..][..cols]).copied().collect())
    }

    /// One replica's matrix.
    pub(super) fn matrix(&self, view: View, replica: usize) -> Result<Matrix<'_>, ReferenceError> {
        let data = self.slice(view, replica)?;
        Ok(Matrix::new(view.rows() as usize, view.cols() as usize, data))
    }

    fn store<T: Element>(&mut self, view: View, replica: usize, values: &[T]) -> Result<(), ReferenceError> {
        let start = self.start(view, replica)?;
        if values.len() != view.shape.per_replica() {
            return Err(self.length(view, values.len()));
        }
        if view.dtype != T::DTYPE {
            return Err(self.mismatch(view, T::DTYPE));
        }
        if let Some(held) = T::slice_mut(&mut self.values[view.index()]) {
            let cols = view.cols() as usize;
            for (row, values) in view.row_starts().zip(values.chunks(cols.max(1))) {
                held[start + row..][..cols].copy_from_slice(values);
            }
        }
        Ok(())
    }

    fn length(&self, tensor: View, found: usize) -> ReferenceError {
        let name = self.plan.name(tensor).to_owned();
        ReferenceError::Length { name, shape: tensor.shape, found }
    }

    /// Overwrites one replica's elements.
    pub(super) fn put(&mut self, tensor: View, replica: usize, values: &Values) -> Result<(), ReferenceError> {
        match values {
            Values::Floats(values) => self.store(tensor, replica, values),
            Values::Words(values) => self.store(tensor, replica, values),
            Values::Bytes(values) => self.store(tensor, replica, values),
        }
    }

    /// Overwrites all replicas' elements with values of their own type.
    pub(super) fn fill<T: Element>(&mut self, tensor: View, values: &[T]) -> Result<(), ReferenceError> {
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
    pub(super) fn set(&mut self, tensor: View, values: &[f64]) -> Result<(), ReferenceError> {
        match tensor.dtype {
            Dtype::F32 => self.fill(tensor, values),
            Dtype::U32 => self.fill(tensor, &self.exact(tensor, values, |v| v as u32)?),
            Dtype::U8 => self.fill(tensor, &self.exact(tensor, values, |v| v as u8)?),
        }
    }

    /// Values as the integers that they are; a fraction or a value out of range is an error, not rounded.
    fn exact<T>(&self, tensor: View, values: &[f64], cast: impl Fn(f64) -> T) -> Result<Vec<T>, ReferenceError>
    where
        T: Copy + Into<f64>,
    {
        let info = self.info(tensor)?;
        let not = |value| ReferenceError::NotRepresentable { name: info.name.clone(), dtype: tensor.dtype, value };
        let exactly = |&value: &f64| Some(cast(value)).filter(|&cast| cast.into() == value).ok_or_else(|| not(value));
        values.iter().map(exactly).collect()
    }

    /// All replicas' elements.
    pub(super) fn get(&self, tensor: View) -> Result<Vec<f64>, ReferenceError> {
        let mut all = Vec::with_capacity(tensor.shape.elements());
        for replica in 0..tensor.shape.replicas as usize {
            match tensor.dtype {
                Dtype::F32 => all.extend(self.gathered::<f64>(tensor, replica)?),
                Dtype::U32 => all.extend(self.gathered::<u32>(tensor, replica)?.into_iter().map(f64::from)),
                Dtype::U8 => all.extend(self.gathered::<u8>(tensor, replica)?.into_iter().map(f64::from)),
            }
        }
        Ok(all)
    }
}
