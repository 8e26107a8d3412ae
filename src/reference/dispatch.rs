//! Which function computes an operation, and from what.

use super::error::ReferenceError;
use super::matrix::Matrix;
use super::storage::{Storage, Values};
use super::{
    attention, ceiling, columns, convolution, correlate, elementwise, fit, gather, gemm, layernorm, loss, normalise,
    optimize, pool, recurrent, rows, transport, transpose,
};
use crate::ops::{
    Activation, Correlate, Epilogue, Fit, Gather, Gemm, Heads, Op, Optimize, PlaceRows, Recurrence, RecurrenceBackward,
    ReplicaStep, StateWeight, StepState, Tally, Transport, View,
};

/// What one replica's share of an operation computed.
pub(super) type Outputs = Vec<(View, Values)>;

fn one(tensor: View, values: Vec<f64>) -> Outputs {
    vec![(tensor, values.into())]
}

fn two(first: View, second: View, (a, b): (Vec<f64>, Vec<f64>)) -> Outputs {
    vec![(first, a.into()), (second, b.into())]
}

/// One replica of the tensors, before an operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replica<'a> {
    pub(super) storage: &'a Storage,
    pub(super) step: &'a StepState,
    pub(super) index: usize,
}

impl<'a> Replica<'a> {
    fn matrix(&self, tensor: View) -> Result<Matrix<'a>, ReferenceError> {
        self.storage.matrix(tensor, self.index)
    }

    fn floats(&self, tensor: View) -> Result<&'a [f64], ReferenceError> {
        self.storage.slice(tensor, self.index)
    }

    fn copy(&self, tensor: View) -> Result<Vec<f64>, ReferenceError> {
        self.floats(tensor).map(<[f64]>::to_vec)
    }

    fn words(&self, tensor: View) -> Result<&'a [u32], ReferenceError> {
        self.storage.slice(tensor, self.index)
    }

    fn moments(&self, tensor: View) -> Result<normalise::Moments<'a>, ReferenceError> {
        Ok(self.matrix(tensor)?.into())
    }

    fn faulty(&self, fault: View) -> Result<bool, ReferenceError> {
        Ok(self.words(fault)?.iter().any(|&step| step != 0))
    }

    fn settings(&self) -> Result<&'a ReplicaStep, ReferenceError> {
        let replicas = &self.step.replicas;
        replicas.get(self.index).ok_or(ReferenceError::MissingStep { replica: self.index, found: replicas.len() })
    }

    /// The new values of the operation's outputs.
    pub(super) fn compute(&self, op: &Op) -> Result<Outputs, ReferenceError> {
        // Rows of outputs that are present; a tensor that has one a row is samples x positions.
        let active = |each: View| self.step.active_rows.saturating_mul(each.cols());
        Ok(match op {
            Op::Gather(op) => self.gather(op)?,
            Op::Gemm(op) => self.gemm(op)?,
            Op::SumSplits(op) => {
                let (a, epilogue) = (self.matrix(op.a)?, self.epilogue(&op.epilogue)?);
                self.sum(op.out, gemm::sum_splits(a, op.out.rows() as usize, op.alpha, &epilogue), op.accumulate)?
            }
            Op::Transport(op) => self.transport(op)?,
            Op::Activate(op) => one(op.out, elementwise::activate(self.floats(op.x)?, op.f)),
            Op::Gate(op) => one(op.out, elementwise::gate(self.floats(op.x)?, self.floats(op.saved)?, op.f)),
            Op::Dropout(op) => {
                let key = [op.stream, self.step.step, self.settings()?.seed];
                one(op.out, elementwise::dropout(self.floats(op.x)?, op.drop, op.together, key))
            }
            Op::Add(op) => one(op.out, elementwise::add(self.floats(op.a)?, self.floats(op.b)?)),
            Op::Significant(op) => one(op.out, elementwise::significant(self.floats(op.x)?, self.floats(op.scale)?)),
            Op::Fit(op) => self.fit(op)?,
            Op::ColumnSum(op) => self.sum(op.out, columns::column_sum(self.matrix(op.x)?), op.accumulate)?,
            Op::ScaleGradient(op) => {
                let (error, x) = (self.matrix(op.error)?, self.matrix(op.x)?);
                self.sum(op.out, columns::scale_gradient(error, x, op.depth() as usize), op.accumulate)?
            }
            Op::Moments(op) => one(op.out, columns::moments(self.matrix(op.x)?)),
            Op::Normalise(op) => {
                let (gamma, beta) = (self.floats(op.gamma)?, self.floats(op.beta)?);
                let (x, moments) = (self.matrix(op.x)?, self.moments(op.moments)?);
                let normal = normalise::normalise(x, moments, gamma, beta, op.epsilon);
                one(
                    op.out,
                    match op.activation {
                        Some(f) => elementwise::activate(&normal, f),
                        None => normal,
                    },
                )
            }
            Op::NormaliseGradients(op) => {
                let (error, x) = (self.matrix(op.error)?, self.matrix(op.x)?);
                let gradients = normalise::normalise_gradients(error, x, self.moments(op.moments)?, op.epsilon);
                let mut outputs = Vec::new();
                if let Some([gamma, beta]) = op.totals {
                    outputs.extend(self.sum(gamma, gradients.0.clone(), true)?);
                    outputs.extend(self.sum(beta, gradients.1.clone(), true)?);
                }
                outputs.extend(two(op.grad_gamma, op.grad_beta, gradients));
                outputs
            }
            Op::NormaliseBackward(op) => {
                let (error, x, moments) = (self.matrix(op.error)?, self.matrix(op.x)?, self.moments(op.moments)?);
                let scale = normalise::Scale {
                    gamma: self.floats(op.gamma)?,
                    grad_gamma: self.floats(op.grad_gamma)?,
                    grad_beta: self.floats(op.grad_beta)?,
                };
                one(op.out, normalise::normalise_backward(error, x, moments, scale, op.epsilon))
            }
            Op::LayerNorm(op) => {
                let (x, gamma, beta) = (self.matrix(op.x)?, self.floats(op.gamma)?, self.floats(op.beta)?);
                two(op.out, op.moments, layernorm::layer_norm(x, gamma, beta, op.epsilon))
            }
            Op::LayerNormGradients(op) => {
                let (error, x, moments) = (self.matrix(op.error)?, self.matrix(op.x)?, self.matrix(op.moments)?);
                let (gamma, beta) = layernorm::gradients(error, x, moments, op.depth() as usize);
                let mut outputs = self.sum(op.grad_gamma, gamma, op.accumulate)?;
                outputs.extend(self.sum(op.grad_beta, beta, op.accumulate)?);
                outputs
            }
            Op::LayerNormBackward(op) => {
                let (error, x, moments) = (self.matrix(op.error)?, self.matrix(op.x)?, self.matrix(op.moments)?);
                let mut out = layernorm::backward(error, x, moments, self.floats(op.gamma)?);
                if let Some(addend) = op.addend {
                    out = elementwise::add(&out, self.floats(addend)?);
                }
                one(op.out, out)
            }
            Op::Attention(op) => two(op.out, op.stats, attention::attention(&self.attending(op.qkv, op.heads)?)),
            Op::AttentionQueries(op) => {
                let (error, out, stats) = (self.matrix(op.error)?, self.matrix(op.out)?, self.matrix(op.stats)?);
                let input = self.attending(op.qkv, op.heads)?;
                let (queries, dots) = attention::queries(&input, error, out, stats);
                two(op.gradient, op.dots, (self.with_columns(op.gradient, &[(0, &queries)])?, dots))
            }
            Op::AttentionKeys(op) => {
                let (error, stats, dots) = (self.matrix(op.error)?, self.matrix(op.stats)?, self.matrix(op.dots)?);
                let input = self.attending(op.qkv, op.heads)?;
                let (keys, values) = attention::keys(&input, error, stats, dots);
                one(op.gradient, self.with_columns(op.gradient, &[(1, &keys), (2, &values)])?)
            }
            Op::Recurrence(op) => self.recurrence(op)?,
            Op::RecurrenceBackward(op) => self.recurrence_backward(op)?,
            Op::Correlate(op) => self.correlate(op)?,
            Op::Oja(op) => {
                let (statistics, p) = (self.matrix(op.statistics)?, self.matrix(op.p)?);
                one(op.out, correlate::oja(statistics, p, op.rows as usize))
            }
            Op::TrackMoments(op) if self.faulty(op.fault)? => Vec::new(),
            Op::TrackMoments(op) => {
                let (moments, running) = (self.moments(op.moments)?, self.moments(op.running)?);
                one(op.running, normalise::track_moments(moments, running, op.momentum, op.rows as usize))
            }
            Op::MaxPool(op) => {
                let (values, winners) = pool::max(self.matrix(op.x)?, &op.window);
                vec![(op.out, values.into()), (op.winners, winners.into())]
            }
            Op::MaxPoolBackward(op) => {
                let error = pool::max_backward(self.matrix(op.error)?, self.words(op.winners)?, &op.window);
                one(op.out, self.gated(error, op.gate)?)
            }
            Op::AveragePool(op) => one(op.out, pool::average(self.matrix(op.x)?, &op.window)),
            Op::AveragePoolBackward(op) => {
                let error = pool::average_backward(self.matrix(op.error)?, &op.window);
                one(op.out, self.gated(error, op.gate)?)
            }
            Op::TransposeBlocks(op) => {
                one(op.out, transpose::transpose_blocks(self.floats(op.x)?, op.rows as usize, op.cols as usize))
            }
            Op::AddRow(op) => one(op.out, rows::add_row(self.matrix(op.x)?, self.floats(op.row)?)),
            Op::ScaleColumns(op) => one(op.out, rows::scale_columns(self.matrix(op.x)?, self.floats(op.row)?)),
            Op::PlaceRows(op) => self.place_rows(op)?,
            Op::Clear(op) => one(op.out, vec![0.0; op.out.shape.per_replica()]),
            Op::SoftmaxCrossEntropy(op) => {
                let (logits, labels) = (self.matrix(op.logits)?, self.words(op.labels)?);
                let judged = loss::softmax_cross_entropy(logits, labels, op.smoothing, active(op.labels));
                verdict(op.delta, op.losses, op.correct, judged)
            }
            Op::MeanSquaredError(op) => {
                let (outputs, labels) = (self.matrix(op.outputs)?, self.words(op.labels)?);
                let judged = loss::mean_squared_error(outputs, labels, active(op.labels));
                verdict(op.delta, op.losses, op.correct, judged)
            }
            Op::SquaredDistance(op) => {
                let (outputs, labels) = (self.matrix(op.outputs)?, self.words(op.labels)?);
                let judged = loss::squared_distance(outputs, labels, op.scale, op.tolerance, active(op.losses));
                verdict(op.delta, op.losses, op.correct, judged)
            }
            Op::OneHot(op) => {
                let (labels, classes) = (self.words(op.labels)?, op.out.cols() as usize);
                one(op.out, loss::one_hot(labels, classes, active(op.labels)))
            }
            Op::Tally(op) => self.tally(op)?,
            Op::Optimize(op) if self.faulty(op.fault)? => Vec::new(),
            Op::Optimize(op) => self.optimize(op)?,
            Op::Chain(op) => one(op.out, ceiling::chain(self.floats(op.x)?, op.length)),
            Op::Duplicate(op) => one(op.out, self.copy(op.x)?),
        })
    }

    /// An output, or what it holds and the values added to that.
    fn sum(&self, out: View, values: Vec<f64>, accumulate: bool) -> Result<Outputs, ReferenceError> {
        let values = if accumulate { elementwise::add(self.floats(out)?, &values) } else { values };
        Ok(one(out, values))
    }

    fn gather(&self, op: &Gather) -> Result<Outputs, ReferenceError> {
        let source = gather::Source {
            images: self.storage.slice(op.images, self.index)?,
            classes: self.words(op.classes)?,
            permutation: self.words(op.permutation)?,
        };
        let mut batch = gather::Batch { images: self.copy(op.out)?, labels: self.words(op.labels)?.to_vec() };
        gather::gather(op, source, self.step, self.settings()?.seed, &mut batch)?;
        Ok(vec![(op.out, batch.images.into()), (op.labels, batch.labels.into())])
    }

    fn gemm(&self, op: &Gemm) -> Result<Outputs, ReferenceError> {
        let (a, b, epilogue) = (self.matrix(op.a)?, self.matrix(op.b)?, self.epilogue(&op.epilogue)?);
        let rounded = |m: Matrix<'_>, factor| op.half.map(|half| gemm::rounded(m.data, half.scale(factor)));
        let (half_a, half_b) = (rounded(a, 0), rounded(b, 1));
        let a = half_a.as_deref().map_or(a, |data| Matrix::new(a.rows, a.cols, data));
        let b = half_b.as_deref().map_or(b, |data| Matrix::new(b.rows, b.cols, data));
        let written_out = op.convolution.map(|c| convolution::factors(&c, a, b));
        let (a, b) = written_out.as_ref().map_or((a, b), |[a, b]| (a.matrix(), b.matrix()));
        let transposes = gemm::Transposes { a: op.transpose_a, b: op.transpose_b };
        let depth = op.depth() as usize;
        let product = match op.splits {
            1 => gemm::gemm(a, b, transposes, op.alpha, &epilogue),
            _ => gemm::splits(a, b, transposes, depth),
        };
        let mut outputs = self.sum(op.out, product, op.accumulate)?;
        if let Some(sums) = op.sums {
            outputs.extend(self.sum(sums, gemm::row_sums(a, op.transpose_a, depth), op.accumulate)?);
        }
        Ok(outputs)
    }

    fn recurrence(&self, op: &Recurrence) -> Result<Outputs, ReferenceError> {
        let input = recurrent::Input {
            cell: op.cell,
            steps: op.steps,
            a: self.matrix(op.a)?,
            weight: self.matrix(op.weight)?,
            bias: self.floats(op.bias)?,
        };
        let mut states = self.copy(op.out)?;
        let mut saved = op.saved.map_or(Ok(Vec::new()), |saved| self.copy(saved))?;
        recurrent::forward(&input, &mut states, &mut saved);
        let saved = op.saved.map(|tensor| (tensor, saved.into()));
        Ok([(op.out, states.into())].into_iter().chain(saved).collect())
    }

    fn recurrence_backward(&self, op: &RecurrenceBackward) -> Result<Outputs, ReferenceError> {
        let (through, y) = match op.through {
            StateWeight::Whole(weight) => (recurrent::Through::Whole(self.matrix(weight)?), None),
            StateWeight::Factored { p, q, y } => {
                (recurrent::Through::Factored(self.matrix(p)?, self.matrix(q)?), Some(y))
            }
        };
        let input = recurrent::Backward {
            cell: op.cell,
            steps: op.steps,
            window: op.window,
            clamp: op.clamp,
            error: self.matrix(op.error)?,
            saved: self.matrix(op.saved)?,
            through,
        };
        let so_far = |tensor: Option<View>| tensor.map_or(Ok(Vec::new()), |tensor| self.copy(tensor));
        let mut found = recurrent::Errors {
            gates: self.copy(op.gates)?,
            hidden: self.copy(op.sent())?,
            y: so_far(y)?,
            carried: so_far(op.carried)?,
        };
        recurrent::backward(&input, &mut found);
        let others = [(op.hidden, found.hidden), (y, found.y), (op.carried, found.carried)];
        let others = others.into_iter().filter_map(|(tensor, values)| Some((tensor?, values.into())));
        Ok([(op.gates, found.gates.into())].into_iter().chain(others).collect())
    }

    fn correlate(&self, op: &Correlate) -> Result<Outputs, ReferenceError> {
        let (x, y, depth) = (self.matrix(op.x)?, self.matrix(op.y)?, op.depth() as usize);
        let origin = op.origin.map(|origin| self.matrix(origin)).transpose()?;
        let mut outputs = one(op.statistics, correlate::statistics(x, y, origin, depth));
        if let Some(hebbian) = op.hebbian {
            let turned = gemm::Transposes { a: true, b: false };
            let gradient = gemm::splits(y, self.matrix(hebbian.input)?, turned, depth);
            outputs.extend(self.sum(hebbian.gradient, gradient, hebbian.accumulate)?);
        }
        Ok(outputs)
    }

    fn fit(&self, op: &Fit) -> Result<Outputs, ReferenceError> {
        let ([outputs, rank, inputs], at) = (op.extents.map(|n| n as usize), op.at.map(|n| n as usize));
        let values = self.floats(op.values)?;
        let p = Matrix::new(outputs, rank, &values[at[0]..][..outputs * rank]);
        let q = Matrix::new(rank, inputs, &values[at[1]..][..rank * inputs]);
        let mut gradients = self.copy(op.gradients)?;
        if let Some(w_q) = op.w_q {
            gradients[at[0]..][..outputs * rank].copy_from_slice(&fit::of_p(p, q, self.floats(w_q)?));
        }
        if let Some(p_w) = op.p_w {
            gradients[at[1]..][..rank * inputs].copy_from_slice(&fit::of_q(p, q, self.floats(p_w)?));
        }
        Ok(one(op.gradients, gradients))
    }

    fn transport(&self, op: &Transport) -> Result<Outputs, ReferenceError> {
        let (delta, p, q) = (self.matrix(op.delta)?, self.matrix(op.p)?, self.matrix(op.q)?);
        Ok(two(op.y, op.out, transport::transport(delta, p, q, &self.epilogue(&op.epilogue)?)))
    }

    fn place_rows(&self, op: &PlaceRows) -> Result<Outputs, ReferenceError> {
        let (cols, rows) = (op.x.cols() as usize, op.x.rows() as usize);
        let values = self.storage.gathered(op.x, self.index)?;
        let x = Matrix::new(values.len() / cols.max(1), cols, &values);
        let fill = op.fill.map_or(Ok(vec![0.0; cols]), |fill| self.copy(fill))?;
        Ok(one(op.out, rows::place_rows(x, rows, [op.first as usize, op.length() as usize], &fill)))
    }

    fn attending(&self, qkv: View, heads: Heads) -> Result<attention::Input<'a>, ReferenceError> {
        let key = [heads.stream, self.step.step, self.settings()?.seed];
        Ok(attention::Input { qkv: self.matrix(qkv)?, heads, key })
    }

    /// A tensor with some of its thirds, side by side, replaced.
    fn with_columns(&self, tensor: View, thirds: &[(usize, &[f64])]) -> Result<Vec<f64>, ReferenceError> {
        let (mut all, cols) = (self.copy(tensor)?, tensor.cols() as usize);
        for (third, part) in thirds {
            for (row, part) in all.chunks_mut(cols).zip(part.chunks(cols / 3)) {
                row[third * (cols / 3)..][..cols / 3].copy_from_slice(part);
            }
        }
        Ok(all)
    }

    fn gated(&self, x: Vec<f64>, gate: Option<(Activation, View)>) -> Result<Vec<f64>, ReferenceError> {
        Ok(match gate {
            Some((f, saved)) => elementwise::gate(&x, self.floats(saved)?, f),
            None => x,
        })
    }

    fn epilogue(&self, epilogue: &Epilogue) -> Result<gemm::Epilogue<'a>, ReferenceError> {
        let &Epilogue { addend, bias, clamp, activation, gate } = epilogue;
        Ok(gemm::Epilogue {
            addend: addend.map(|(tensor, scale)| self.floats(tensor).map(|values| (values, scale))).transpose()?,
            bias: bias.map(|tensor| self.floats(tensor)).transpose()?,
            clamp,
            activation,
            gate: gate.map(|(f, saved)| self.floats(saved).map(|values| (f, values))).transpose()?,
        })
    }

    fn tally(&self, op: &Tally) -> Result<Outputs, ReferenceError> {
        let so_far = loss::Tallied { metrics: three(self.floats(op.metrics)?), fault: self.words(op.fault)?[0] };
        let (losses, correct) = (self.floats(op.losses)?, self.floats(op.correct)?);
        let active = self.step.active_rows.saturating_mul(op.losses.cols());
        let tallied = loss::tally(so_far, losses, correct, active, self.step.step);
        Ok(vec![(op.metrics, tallied.metrics.to_vec().into()), (op.fault, vec![tallied.fault].into())])
    }

    fn optimize(&self, op: &Optimize) -> Result<Outputs, ReferenceError> {
        let (group, replica) = (op.group as usize, self.settings()?);
        let corrections = *self.step.groups.get(group).ok_or(ReferenceError::UnknownGroup { group: op.group })?;
        let settings = optimize::Settings {
            update: op.update,
            clamp: op.clamp,
            rate: replica.rate[group],
            decay: replica.decay[group],
            corrections,
        };
        let kept = op.moments.iter().flatten();
        let mut values = self.copy(op.values)?;
        let mut moments = kept.clone().map(|&tensor| self.copy(tensor)).collect::<Result<Vec<_>, _>>()?;
        optimize::optimize(&settings, &mut values, self.floats(op.gradients)?, &mut moments);
        let moments = kept.zip(moments).map(|(&tensor, values)| (tensor, values.into()));
        Ok(moments.chain([(op.values, values.into())]).collect())
    }
}

/// The outputs that every loss has in common.
fn verdict(delta: View, losses: View, correct: View, judged: loss::Judged) -> Outputs {
    vec![(delta, judged.delta.into()), (losses, judged.losses.into()), (correct, judged.correct.into())]
}

/// The metrics of a replica, whose shape check has counted them.
fn three(metrics: &[f64]) -> [f64; 3] {
    [metrics[0], metrics[1], metrics[2]]
}
