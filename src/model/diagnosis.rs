//! What the host looks at beside a training: a phase of its own that changes nothing.

use crate::ops::{ColumnSum, Gemm, Recording, Role, ShapeError, Tensor};

/// Tensors that are readable after [`crate::ops::Phase::Diagnose`].
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// Error at the output of each layer with a weight; same order as [`super::Network::weights`].
    pub errors: Vec<LayerError>,
    /// Every layer's output with its name.
    pub activations: Vec<(String, Tensor)>,
}

/// The error at a layer's output over a batch.
#[derive(Clone, Copy, Debug)]
pub struct LayerError {
    /// Samples (times positions) x width.
    pub delta: Tensor,
    /// The smaller of `delta^T delta` and `delta delta^T`: they have the same eigenvalues but for zeros.
    pub products: Tensor,
    /// Sums of the columns, 1 x width, where the products are those of columns.
    pub sums: Option<Tensor>,
}

impl LayerError {
    /// Records the products.
    pub(super) fn record(rec: &mut Recording, layer: &str, delta: Tensor) -> Result<LayerError, ShapeError> {
        rec.layer(layer);
        rec.role(Role::Diagnosis);
        let (rows, width) = (delta.rows(), delta.cols());
        if rows < width {
            let products = rec.scratch("products", rows, rows);
            rec.push(Gemm::nt(delta, delta, products))?;
            return Ok(LayerError { delta, products, sums: None });
        }
        let (products, sums) = (rec.scratch("products", width, width), rec.scratch("sums", 1, width));
        rec.push(Gemm::tn(delta, delta, products))?;
        rec.push(ColumnSum { x: delta, out: sums, accumulate: false })?;
        Ok(LayerError { delta, products, sums: Some(sums) })
    }

    /// All tensors.
    pub(super) fn tensors(&self) -> impl Iterator<Item = Tensor> {
        [self.delta, self.products].into_iter().chain(self.sums)
    }
}
