//! Which kernel is fastest on this adapter.
//!
//! For each class of shapes that has several kernels and no choice yet, all of them run on random data. Each result is
//! compared with an executor that is right, and those that agree are timed in turns. A kernel that computes wrongly is
//! never chosen.

use std::collections::HashMap;
use std::time::Duration;

use web_time::Instant;

use super::context::Context;
use super::error::GpuError;
use super::executor::Gpu;
use crate::ops::random::{pcg4d, unit};
use crate::ops::{Dtype, Epilogue, Gemm, Op, Phase, Recording, ReplicaStep, StepState, Transport, View};
use crate::plan::{
    BoxFuture, ExecuteError, Executor, Options, Plan, ShapeClass, Tuned, Variant, allowance, contenders,
    relative_error, select,
};

/// How much faster than the default a kernel must be to replace it: below, it is noise.
const MARGIN: f64 = 0.03;

/// A timed submission should last so long that submitting it, tens of microseconds, hardly counts.
const SAMPLE: Duration = Duration::from_millis(1);

/// Most repetitions in a submission.
const MOST_REPEATS: usize = 1000;

/// Timed submissions of each kernel; the median of them counts.
const ROUNDS: usize = 5;

/// A kernel so many times slower than the fastest at first sight is not timed again.
const HOPELESS: f64 = 4.0;

/// Multiply-adds that the reference may spend on a class, some 20 ms: more rows than fit are sampled.
const CHECKED: u64 = 1 << 24;

/// Most bytes of an operation's tensors; making random data for more would take longer than the rest.
const MOST_BYTES: u64 = 512 << 20;

/// Random values repeat after so many, a prime, so that no two rows of a matrix are alike.
const PERIOD: usize = 65_521;

/// Time that a process spends on measuring before it starts: what is not reached keeps its default until another time.
/// A software adapter gets less, for it compiles for longer and gains less.
pub fn budget(context: &Context) -> Duration {
    Duration::from_millis(if context.is_software() { 500 } else { 2000 })
}

/// What [`tune`] found.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// The new choices, defaults that won included.
    pub tuned: Tuned,
    /// Classes without a choice yet.
    pub open: usize,
}

/// Makes an executor that computes a plan correctly.
pub type MakeReference<'a> = dyn Fn(Plan) -> Box<dyn Executor> + 'a;

/// Whether a plan has classes that could be measured and that `known` lacks.
pub fn is_open(context: &Context, plan: &Plan, known: &Tuned) -> bool {
    !open_classes(context, plan, known).is_empty()
}

/// Measures the classes of a plan's operations that `known` lacks, the most work first, until the budget is spent; the
/// first is always completed, so that however slowly an adapter compiles, every process brings the table further.
///
/// # Errors
/// Only if the device is lost. Other failures leave their class without a choice, and are logged.
pub async fn tune(
    context: &Context,
    plan: &Plan,
    known: &Tuned,
    budget: Duration,
    reference: &MakeReference<'_>,
) -> Result<Measured, GpuError> {
    let deadline = Instant::now() + budget;
    let mut measured = Measured::default();
    for (index, (class, op)) in open_classes(context, plan, known).into_iter().enumerate() {
        let deadline = (index > 0).then_some(deadline);
        if is_over(deadline) {
            measured.open += 1;
            continue;
        }
        let began = Instant::now();
        match fastest(context, &op, reference, deadline).await {
            Ok(Some(variant)) => {
                tracing::debug!(%class, %variant, took = ?began.elapsed(), "kernel chosen");
                measured.tuned.insert(class, variant);
            }
            Ok(None) => measured.open += 1,
            Err(error) => {
                tracing::warn!("{class} could not be measured and keeps its default kernel: {error}");
                measured.open += 1;
                if let Err(lost @ GpuError::Lost(_)) = context.check() {
                    return Err(lost);
                }
                context.forgive();
            }
        }
    }
    Ok(measured)
}

/// The kernel that [`choose`] finds for an operation.
async fn fastest(
    context: &Context,
    op: &Op,
    reference: &MakeReference<'_>,
    deadline: Option<Instant>,
) -> Result<Option<Variant>, ExecuteError> {
    let mut bench = Bench::new(context, op, reference).await?;
    let (default, names) = (bench.default, bench.names());
    let chosen = choose(default, names, &mut bench, deadline).await?;
    Ok(chosen.map(|at| bench.variants[at]))
}

fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

/// Classes to measure with their largest operation, those with most work in a training step first. What only the one step of
/// an epoch's diagnosis needs is not worth it.
fn open_classes(context: &Context, plan: &Plan, known: &Tuned) -> Vec<(ShapeClass, Op)> {
    let profile = context.profile();
    let mut work: HashMap<ShapeClass, (u64, Op)> = HashMap::new();
    for phase in [Phase::Train, Phase::Evaluate] {
        for node in plan.nodes(phase) {
            let op = &node.entry.op;
            let bytes: u64 = op.operands().iter().map(|o| o.tensor.bytes()).sum();
            let class = ShapeClass::of(op);
            let is_open = contenders(op, &profile).len() > 1 && known.get(&class).is_none();
            if !is_open || bytes > MOST_BYTES || rebuild(op, &mut |_, tensor, _| tensor).is_none() {
                continue;
            }
            let flops = op.cost().flops;
            // Evaluation runs once an epoch.
            let weight = if phase == Phase::Train { flops } else { 0 };
            let (sum, largest) = work.entry(class).or_insert_with(|| (0, op.clone()));
            *sum += weight;
            if flops > largest.cost().flops {
                *largest = op.clone();
            }
        }
    }
    let mut classes: Vec<_> = work.into_iter().collect();
    classes.sort_by(|(a, (one, _)), (b, (other, _))| other.cmp(one).then_with(|| a.cmp(b)));
    classes.into_iter().map(|(class, (_, op))| (class, op)).collect()
}

/// Kernels that compute the same, numbered.
trait Trial {
    /// The error as a share of what rounding may cause; above 1, or not a number, the kernel is wrong.
    fn error(&mut self, at: usize) -> BoxFuture<'_, f64>;

    /// Time of so many repetitions.
    fn time(&mut self, at: usize, repeats: usize) -> BoxFuture<'_, Duration>;
}

/// The fastest of the kernels that compute rightly; the default, unless another is clearly faster or the default is
/// wrong. `None` if time runs out before all are checked, or none is right.
async fn choose(
    default: usize,
    names: Vec<String>,
    trial: &mut dyn Trial,
    deadline: Option<Instant>,
) -> Result<Option<usize>, ExecuteError> {
    let mut right = Vec::new();
    for (at, name) in names.iter().enumerate() {
        // The first run of a kernel may compile it, which no budget can interrupt.
        if is_over(deadline) {
            return Ok(None);
        }
        let share = trial.error(at).await?;
        if share <= 1.0 {
            right.push(at);
        } else {
            tracing::warn!(
                "kernel {name} computes wrongly on this adapter ({share:.1} times the error that rounding explains) and \
                 is not used; please report it with the output of `ldfa-gpu devices`"
            );
        }
    }
    let mut glances = Vec::new();
    for &at in &right {
        glances.push(trial.time(at, 1).await?.as_secs_f64().max(1e-9));
    }
    let Some(fastest) = glances.iter().copied().min_by(f64::total_cmp) else { return Ok(None) };
    let repeats = ((SAMPLE.as_secs_f64() / fastest).ceil() as usize).clamp(1, MOST_REPEATS);
    let mut timed: Vec<(usize, Vec<Duration>)> = right
        .into_iter()
        .zip(glances)
        .filter(|(at, glance)| *at == default || *glance <= HOPELESS * fastest)
        .map(|(at, _)| (at, Vec::new()))
        .collect();
    // In turns, so that a clock that speeds up or a neighbour on the machine meets all alike.
    for _ in 0..ROUNDS {
        for (at, times) in &mut timed {
            times.push(trial.time(*at, repeats).await?);
        }
    }
    let medians: Vec<(usize, f64)> = timed.into_iter().map(|(at, times)| (at, median(times))).collect();
    let best = medians.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1));
    let standard = medians.iter().copied().find(|(at, _)| *at == default);
    Ok(match (best, standard) {
        (Some((_, time)), Some((default, base))) if time > base * (1.0 - MARGIN) => Some(default),
        (best, _) => best.map(|(at, _)| at),
    })
}

/// Seconds.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

/// Which axis of an operand runs along the rows of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Along {
    Rows,
    /// The rows of the result, once for each split of a sum.
    SplitRows(u32),
    Cols,
    Neither,
}

/// What stands in the place of an operand.
type Place<'a> = dyn FnMut(&'static str, View, Along) -> View + 'a;

/// The operation with other operands; `None` if it is of a kind that is not measured.
fn rebuild(op: &Op, place: &mut Place<'_>) -> Option<Op> {
    use Along::{Cols, Neither, Rows, SplitRows};
    let epilogue = |epilogue: &Epilogue, place: &mut Place<'_>| Epilogue {
        addend: epilogue.addend.map(|(tensor, scale)| (place("addend", tensor, Rows), scale)),
        bias: epilogue.bias.map(|tensor| place("bias", tensor, Neither)),
        gate: epilogue.gate.map(|(f, tensor)| (f, place("saved", tensor, Rows))),
        ..*epilogue
    };
    match op {
        Op::Gemm(op) => Some(
            Gemm {
                a: place("a", op.a, if op.transpose_a { Cols } else { Rows }),
                b: place("b", op.b, Neither),
                epilogue: epilogue(&op.epilogue, place),
                out: place("out", op.out, SplitRows(op.splits)),
                sums: op.sums.map(|tensor| place("sums", tensor, Cols)),
                ..*op
            }
            .into(),
        ),
        Op::Transport(op) => Some(
            Transport {
                delta: place("delta", op.delta, Rows),
                p: place("p", op.p, Neither),
                q: place("q", op.q, Neither),
                epilogue: epilogue(&op.epilogue, place),
                y: place("y", op.y, Rows),
                out: place("out", op.out, Rows),
            }
            .into(),
        ),
        _ => None,
    }
}

/// An operation alone, on tensors of its own that the host can write and read.
struct Alone {
    recording: Recording,
    op: Op,
    /// In the order of [`rebuild`].
    tensors: Vec<(View, Along)>,
}

impl Alone {
    /// With so many rows in place of all.
    fn new(op: &Op, rows: Option<u32>) -> Result<Alone, ExecuteError> {
        let mut recording = Recording::new(op.replicas());
        let mut tensors = Vec::new();
        let rebuilt = rebuild(op, &mut |name, tensor, along| {
            let (height, width) = match (along, rows) {
                (Along::Rows, Some(rows)) => (rows, tensor.cols()),
                (Along::SplitRows(splits), Some(rows)) => (splits * rows, tensor.cols()),
                (Along::Cols, Some(rows)) => (tensor.rows(), rows),
                _ => (tensor.rows(), tensor.cols()),
            };
            let is_shared = tensor.shape.replicas == 1;
            let own = if is_shared {
                recording.shared(name, height, width, Dtype::F32)
            } else {
                recording.state(name, height, width, Dtype::F32)
            };
            tensors.push((own, along));
            own
        });
        let op = rebuilt.ok_or_else(|| failure(format!("{} is not measured", op.name())))?;
        Ok(Alone { recording, op, tensors })
    }

    fn inputs(&self) -> impl Iterator<Item = (usize, View, Along)> {
        let outputs: Vec<View> = self.op.outputs().collect();
        let all = self.tensors.iter().enumerate().map(|(at, (tensor, along))| (at, *tensor, *along));
        all.filter(move |(_, tensor, _)| !outputs.contains(tensor))
    }

    fn along(&self, of: View) -> Along {
        self.tensors.iter().find(|(tensor, _)| *tensor == of).map_or(Along::Rows, |(_, along)| *along)
    }
}

fn failure(message: String) -> ExecuteError {
    ExecuteError(message.into())
}

/// The candidates of one operation on the device, and what they should compute.
struct Bench {
    gpu: Gpu,
    variants: Vec<Variant>,
    default: usize,
    allowed: f64,
    /// Rows that are compared.
    rows: Vec<u32>,
    /// Each output with its values in these rows.
    expected: Vec<(View, Along, Vec<f64>)>,
}

impl Bench {
    async fn new(context: &Context, op: &Op, reference: &MakeReference<'_>) -> Result<Bench, ExecuteError> {
        let profile = context.profile();
        let variants = contenders(op, &profile);
        let standard = select(op, &profile, &Tuned::default());
        let options = Options { fuse: false, share_memory: false, force: None };

        let mut whole = Alone::new(op, None)?;
        for _ in &variants {
            whole.recording.push(whole.op.clone()).map_err(|e| failure(e.to_string()))?;
        }
        let mut plan = Plan::new(whole.recording.clone(), &profile, options).map_err(|e| failure(e.to_string()))?;
        for (at, variant) in variants.iter().enumerate() {
            plan.set_variant(Phase::Train, at, *variant);
        }
        let rows = sampled_rows(op);
        let mut sample = Alone::new(op, Some(rows.len() as u32))?;
        sample.recording.push(sample.op.clone()).map_err(|e| failure(e.to_string()))?;
        let small = Plan::new(sample.recording.clone(), &profile, options).map_err(|e| failure(e.to_string()))?;

        let mut gpu = Gpu::new(context.clone(), plan).await?;
        let mut right = reference(small);
        for ((at, tensor, along), (_, sampled, _)) in whole.inputs().zip(sample.inputs()) {
            let values = noise(at, tensor.shape.elements());
            gpu.write(tensor, &values).await?;
            right.write(sampled, &picked(&values, tensor, along, &rows)).await?;
        }
        let replicas = vec![ReplicaStep::default(); op.replicas() as usize];
        let step = StepState { step: 0, cursor: 0, active_rows: u32::MAX, groups: Default::default(), replicas };
        right.run(Phase::Train, &[step]).await?;
        let mut expected = Vec::new();
        for (output, sampled) in whole.op.outputs().zip(sample.op.outputs()) {
            expected.push((output, whole.along(output), right.read(sampled).await?));
        }
        let default = variants.iter().position(|v| *v == standard).unwrap_or(0);
        Ok(Bench { gpu, variants, default, allowed: allowance(op), rows, expected })
    }

    fn names(&self) -> Vec<String> {
        self.variants.iter().map(Variant::to_string).collect()
    }
}

impl Trial for Bench {
    fn error(&mut self, at: usize) -> BoxFuture<'_, f64> {
        Box::pin(async move {
            for (output, ..) in &self.expected {
                // What a kernel does not write is seen.
                self.gpu.write(*output, &vec![f64::NAN; output.shape.elements()]).await?;
            }
            self.gpu.repeat(Phase::Train, at, 1).await?;
            let mut worst: f64 = 0.0;
            for (output, along, expected) in &self.expected {
                let found = self.gpu.read(*output).await?;
                if !found.iter().all(|v| v.is_finite()) {
                    return Ok(f64::INFINITY);
                }
                let found = picked(&found, *output, *along, &self.rows);
                worst = worst.max(relative_error(&found, expected, expected) / self.allowed);
            }
            Ok(worst)
        })
    }

    fn time(&mut self, at: usize, repeats: usize) -> BoxFuture<'_, Duration> {
        Box::pin(async move { Ok(self.gpu.repeat(Phase::Train, at, repeats).await?) })
    }
}

/// Rows of the result that the reference computes: all, or where that would take long the first, the last, and others
/// at random.
///
/// A sample suffices: every row is computed by the same code from its own row of the left factor and all of the right
/// one, so that a kernel that is wrong is wrong in all rows, at the edge (the last row), or in rows at a fixed place
/// within a tile, which random rows meet. Every sampled row is compared over all its columns and in all replicas, and
/// rows that are not written at all are noticed in the whole result.
fn sampled_rows(op: &Op) -> Vec<u32> {
    let total = match op {
        Op::Gemm(gemm) => gemm.rows(),
        _ => op.outputs().map(View::rows).max().unwrap_or(1),
    };
    let each = (op.cost().flops / 2 / u64::from(total.max(1))).max(1);
    let count = (CHECKED / each).max(2);
    if count >= u64::from(total) {
        return (0..total).collect();
    }
    let mut rows: Vec<u32> =
        (2..count as u32).map(|i| pcg4d([i, total, 0, 0])[0] % total).chain([0, total - 1]).collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// Uniform in +-1, different for every tensor.
fn noise(tensor: usize, elements: usize) -> Vec<f64> {
    let key = tensor as u32;
    let some: Vec<f64> = (0..PERIOD.min(elements)).map(|i| 2.0 * unit(pcg4d([i as u32, key, 0, 0])[1]) - 1.0).collect();
    some.iter().copied().cycle().take(elements).collect()
}

/// What these rows of the result depend on of an operand.
fn picked(values: &[f64], tensor: View, along: Along, rows: &[u32]) -> Vec<f64> {
    let (size, cols) = (tensor.shape.per_replica(), tensor.cols() as usize);
    let of_each = |size: usize| {
        let row = move |matrix: &[f64], row: u32| matrix[row as usize * cols..][..cols].to_vec();
        values.chunks(size).flat_map(|matrix| rows.iter().flat_map(move |&r| row(matrix, r))).collect()
    };
    match along {
        Along::Neither => values.to_vec(),
        Along::Rows => of_each(size),
        Along::SplitRows(splits) => of_each(size / splits as usize),
        Along::Cols => {
            let lines = values.chunks(cols);
            lines.flat_map(|line| rows.iter().map(move |&r| line[r as usize])).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use pollster::block_on;

    use super::*;
    use crate::gpu::{DeviceChoice, LimitPolicy};
    use crate::ops::Activation;
    use crate::plan::{Blocking, OpTimes, Profile};
    use crate::reference::Reference;

    /// Kernels with made-up errors and times.
    struct Made {
        errors: Vec<f64>,
        micros: Vec<f64>,
        timed: Vec<usize>,
        delay: Duration,
    }

    impl Trial for Made {
        fn error(&mut self, at: usize) -> BoxFuture<'_, f64> {
            std::thread::sleep(self.delay);
            let error = self.errors[at];
            Box::pin(ready(if error < 0.0 { Err(failure("on purpose".into())) } else { Ok(error) }))
        }

        fn time(&mut self, at: usize, repeats: usize) -> BoxFuture<'_, Duration> {
            self.timed.push(at);
            Box::pin(ready(Ok(Duration::from_secs_f64(1e-6 * self.micros[at] * repeats as f64))))
        }
    }

    fn made(errors: &[f64], micros: &[f64]) -> Made {
        Made { errors: errors.into(), micros: micros.into(), timed: Vec::new(), delay: Duration::ZERO }
    }

    fn chosen(default: usize, trial: &mut Made) -> Option<usize> {
        let names = (0..trial.errors.len()).map(|at| at.to_string()).collect();
        block_on(choose(default, names, trial, None)).unwrap()
    }

    #[test]
    fn the_fastest_wins_if_it_is_clearly_faster() {
        assert_eq!(chosen(0, &mut made(&[0.1, 0.1, 0.1], &[10.0, 9.0, 8.0])), Some(2));
        assert_eq!(chosen(0, &mut made(&[0.1, 0.1], &[10.0, 9.8])), Some(0), "2 % is noise");
        assert_eq!(chosen(1, &mut made(&[0.1, 0.1], &[10.0, 9.8])), Some(1));
        assert_eq!(chosen(0, &mut made(&[0.1], &[10.0])), Some(0));
    }

    #[test]
    fn a_wrong_kernel_never_wins_and_is_not_even_timed() {
        for wrong in [1.01, 1e9, f64::INFINITY, f64::NAN] {
            let mut trial = made(&[0.1, wrong, 0.9], &[10.0, 1.0, 11.0]);
            assert_eq!(chosen(0, &mut trial), Some(0));
            assert!(!trial.timed.contains(&1));
            assert_eq!(chosen(1, &mut made(&[0.1, wrong], &[10.0, 1.0])), Some(0), "not as the default either");
            assert_eq!(chosen(0, &mut made(&[wrong, wrong], &[1.0, 1.0])), None);
        }
    }

    #[test]
    fn the_hopeless_are_not_timed_again() {
        let mut trial = made(&[0.1, 0.1], &[10.0, 1000.0]);
        assert_eq!(chosen(0, &mut trial), Some(0));
        assert_eq!(trial.timed.iter().filter(|at| **at == 1).count(), 1);
    }

    #[test]
    fn time_that_runs_out_leaves_the_class_open() {
        let mut trial = made(&[0.1, 0.1], &[10.0, 1.0]);
        trial.delay = Duration::from_millis(20);
        let names = vec!["a".to_owned(), "b".to_owned()];
        let deadline = Some(Instant::now() + Duration::from_millis(10));
        assert_eq!(block_on(choose(0, names.clone(), &mut trial, deadline)).unwrap(), None);
        trial.errors[0] = -1.0;
        assert!(block_on(choose(0, names, &mut trial, None)).is_err());
    }

    fn context() -> Context {
        Context::open(&DeviceChoice::Best, LimitPolicy::from_env())
            .unwrap_or_else(|e| panic!("the tuner's tests need an adapter: {e}"))
    }

    /// Products of every orientation with every epilogue, one with its sums split, and a transport.
    fn program() -> Recording {
        let mut recording = Recording::new(3);
        let square = recording.state("square", 37, 37, Dtype::F32);
        let shared = recording.shared("shared", 37, 37, Dtype::F32);
        let bias = recording.state("bias", 1, 37, Dtype::F32);
        let gate = Some((Activation::Relu, square));
        let epilogue = Epilogue { bias: Some(bias), clamp: Some(2.0), ..Epilogue::default() };
        for (at, (transpose_a, transpose_b)) in [(false, false), (false, true), (true, false)].into_iter().enumerate() {
            let out = recording.scratch(format!("out{at}"), 37, 37);
            let epilogues = [
                epilogue,
                Epilogue { addend: Some((square, -0.5)), activation: Some(Activation::Gelu), ..Epilogue::default() },
                Epilogue { gate, ..Epilogue::default() },
            ];
            let product = Gemm { transpose_a, transpose_b, epilogue: epilogues[at], ..Gemm::nn(square, shared, out) };
            recording.push(product).unwrap();
        }
        let (out, sums) = (recording.scratch("partial", 3 * 37, 37), Some(recording.scratch("sums", 3, 37)));
        recording.push(Gemm { splits: 3, sums, ..Gemm::tn(square, shared, out) }).unwrap();
        let (p, q) = (recording.state("p", 37, 5, Dtype::F32), recording.state("q", 5, 37, Dtype::F32));
        let (y, out) = (recording.scratch("y", 37, 5), recording.scratch("t", 37, 37));
        let epilogue = Epilogue { clamp: Some(1.0), gate, ..Epilogue::default() };
        recording.push(Transport { delta: square, p, q, y, out, epilogue }).unwrap();
        recording
    }

    fn plan(context: &Context) -> Plan {
        let options = Options { fuse: false, share_memory: false, force: None };
        Plan::new(program(), &context.profile(), options).unwrap()
    }

    const LONG: Duration = Duration::from_secs(120);

    fn measured(context: &Context, plan: &Plan, known: &Tuned, budget: Duration) -> (Tuned, usize) {
        let reference = |plan: Plan| -> Box<dyn Executor> { Box::new(Reference::new(plan)) };
        let measured = context.block_on(tune(context, plan, known, budget, &reference)).unwrap();
        (measured.tuned, measured.open)
    }

    #[test]
    fn real_kernels_are_measured_once() {
        let context = context();
        let plan = plan(&context);
        let classes = open_classes(&context, &plan, &Tuned::default()).len();
        let (tuned, open) = measured(&context, &plan, &Tuned::default(), LONG);
        assert_eq!((tuned.len(), open), (classes, 0));
        assert!(classes >= 3);
        let (again, open) = measured(&context, &plan, &tuned, LONG);
        assert!(again.is_empty() && open == 0);
        let (first, open) = measured(&context, &plan, &Tuned::default(), Duration::ZERO);
        assert_eq!((first.len(), open), (1, classes - 1), "a class a process, however slow");
    }

    #[test]
    fn where_no_kernel_agrees_with_the_reference_nothing_is_chosen() {
        /// An executor whose results are off by a thousandth.
        struct Off(Reference);
        impl Executor for Off {
            fn device(&self) -> String {
                self.0.device()
            }
            fn is_f64(&self) -> bool {
                true
            }
            fn batch(&self, phase: Phase) -> usize {
                self.0.batch(phase)
            }
            fn write<'a>(&'a mut self, tensor: View, values: &'a [f64]) -> BoxFuture<'a, ()> {
                self.0.write(tensor, values)
            }
            fn write_bytes<'a>(&'a mut self, tensor: View, bytes: &'a [u8]) -> BoxFuture<'a, ()> {
                self.0.write_bytes(tensor, bytes)
            }
            fn read(&mut self, tensor: View) -> BoxFuture<'_, Vec<f64>> {
                let values = self.0.get(tensor).unwrap();
                Box::pin(ready(Ok(values.into_iter().map(|v| 1.001 * v).collect())))
            }
            fn run<'a>(&'a mut self, phase: Phase, steps: &'a [StepState]) -> BoxFuture<'a, ()> {
                self.0.run(phase, steps)
            }
            fn run_section<'a>(
                &'a mut self,
                phase: Phase,
                operations: std::ops::Range<usize>,
                step: &'a StepState,
            ) -> BoxFuture<'a, ()> {
                self.0.run_section(phase, operations, step)
            }

            fn profile<'a>(&'a mut self, phase: Phase, step: &'a StepState, rounds: usize) -> BoxFuture<'a, OpTimes> {
                self.0.profile(phase, step, rounds)
            }
        }
        let context = context();
        let plan = plan(&context);
        let classes = open_classes(&context, &plan, &Tuned::default()).len();
        let off = |plan: Plan| -> Box<dyn Executor> { Box::new(Off(Reference::new(plan))) };
        let found = context.block_on(tune(&context, &plan, &Tuned::default(), LONG, &off)).unwrap();
        assert_eq!((found.tuned.len(), found.open), (0, classes));
    }

    #[test]
    fn sampled_rows_are_those_of_the_whole_result() {
        for entry in program().entries(Phase::Train) {
            let rows = [0, 3, 17, 36];
            let (mut whole, mut part) =
                (Alone::new(&entry.op, None).unwrap(), Alone::new(&entry.op, Some(rows.len() as u32)).unwrap());
            let run = |alone: &mut Alone, data: &[Vec<f64>]| {
                alone.recording.push(alone.op.clone()).unwrap();
                let options = Options { fuse: false, share_memory: false, force: None };
                let plan = Plan::new(alone.recording.clone(), &Profile::reference(), options).unwrap();
                let mut reference = Blocking::new(Reference::new(plan));
                for ((_, tensor, _), values) in alone.inputs().zip(data) {
                    reference.set(tensor, values).unwrap();
                }
                let replicas = vec![ReplicaStep::default(); 3];
                let step =
                    StepState { step: 0, cursor: 0, active_rows: u32::MAX, groups: Default::default(), replicas };
                reference.run(Phase::Train, &[step]).unwrap();
                alone.op.outputs().map(|t| reference.get(t).unwrap()).collect::<Vec<_>>()
            };
            let data: Vec<_> = whole.inputs().map(|(at, t, _)| noise(at, t.shape.elements())).collect();
            let few: Vec<_> =
                whole.inputs().zip(&data).map(|((_, t, along), values)| picked(values, t, along, &rows)).collect();
            let (all, some) = (run(&mut whole, &data), run(&mut part, &few));
            for ((tensor, all), some) in whole.op.outputs().zip(all).zip(some) {
                let along = whole.along(tensor);
                assert_eq!(picked(&all, tensor, along, &rows), some, "{}", entry.op.details());
            }
        }
    }

    #[test]
    fn large_products_are_sampled_at_their_edges_and_within() {
        let mut recording = Recording::new(1);
        let a = recording.state("a", 4096, 1024, Dtype::F32);
        let out = recording.state("out", 4096, 4096, Dtype::F32);
        let rows = sampled_rows(&Gemm::nt(a, a, out).into());
        assert!(rows.len() >= 3 && rows.len() < 64, "{}", rows.len());
        assert!(rows.contains(&0) && rows.contains(&4095) && rows.is_sorted());
        let small = recording.state("small", 7, 7, Dtype::F32);
        assert_eq!(sampled_rows(&Gemm::nn(small, small, small).into()), [0, 1, 2, 3, 4, 5, 6]);
        let (long, partial) =
            (recording.state("long", 7, 40, Dtype::F32), recording.state("partial", 14, 7, Dtype::F32));
        assert_eq!(sampled_rows(&Gemm { splits: 2, ..Gemm::nt(long, long, partial) }.into()), [0, 1, 2, 3, 4, 5, 6]);
    }
}
