//! Names and shapes that files use.

use super::network::{Layer, Tensors};
use crate::feedback::Pathway;
use crate::ops::Tensor;

/// A part of a tensor under the name and shape that files use.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Such as `layers.2.feedback.p`.
    pub name: String,
    /// Where the values are.
    pub tensor: Tensor,
    /// First row that belongs to the name.
    pub row: u32,
    /// Shape in files.
    pub shape: Vec<usize>,
    /// Of a side of a factored pathway: the axis that is padded with zeros for replicas of smaller rank, and every replica's
    /// rank.
    pub ranks: Option<(usize, Vec<u32>)>,
    /// Taps of a kernel. Files have them behind the channels of a row, tensors before.
    pub taps: usize,
}

/// PyTorch's names for parameters, `feedback.p` and `.q` for P^T and Q^T, so that p @ q has the shape of the weight.
pub(super) fn exchange(layers: &[Layer]) -> Vec<Exchange> {
    let mut list = Vec::new();
    let mut add = |name: String, tensor: Tensor, row: u32, shape: &[u32], ranks, taps: u32| {
        let shape = shape.iter().map(|&n| n as usize).collect();
        list.push(Exchange { name, tensor, row, shape, ranks, taps: taps as usize });
    };
    for layer in layers {
        let name = &layer.name;
        match &layer.tensors {
            Tensors::Linear(linear) => {
                let (m, k) = (linear.weight.value.rows(), linear.weight.value.cols());
                let kernel = linear.window.map(|w| w.kernel);
                let taps = kernel.map_or(1, |[height, width]| height * width);
                // Of so many rows, each as the weight's.
                let like_weight = |rows: u32| match kernel {
                    Some([height, width]) => vec![rows, k / taps, height, width],
                    None => vec![rows, k],
                };
                add(format!("{name}.weight"), linear.weight.value, 0, &like_weight(m), None, taps);
                add(format!("{name}.bias"), linear.bias.value, 0, &[m], None, 1);
                match linear.pathway {
                    Some(Pathway::Factored { p, q, .. }) => {
                        let mut shape = vec![p.rows(), p.cols()];
                        shape.extend(kernel.map_or(Vec::new(), |_| vec![1, 1]));
                        let ranks = |axis| Some((axis, linear.ranks.clone()));
                        add(format!("{name}.feedback.p"), p, 0, &shape, ranks(1), 1);
                        add(format!("{name}.feedback.q"), q, 0, &like_weight(q.rows()), ranks(0), taps);
                    }
                    Some(Pathway::Random(b)) => {
                        add(format!("{name}.feedback.b"), b, 0, &like_weight(b.rows()), None, taps);
                    }
                    Some(Pathway::Exact) | None => {}
                }
            }
            Tensors::BatchNorm { scale, shift, running } => {
                let width = running.cols();
                add(format!("{name}.weight"), scale.value, 0, &[width], None, 1);
                add(format!("{name}.bias"), shift.value, 0, &[width], None, 1);
                add(format!("{name}.running_mean"), *running, 0, &[width], None, 1);
                add(format!("{name}.running_var"), *running, 1, &[width], None, 1);
            }
            Tensors::None => {}
        }
    }
    list
}
