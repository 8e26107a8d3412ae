//! Kernels by shape: every candidate forced, beside the adapter's own ceilings.

use std::collections::HashSet;
use std::fmt;

use serde::Serialize;

use super::headline::transformer;
use super::rounds::{Samples, interleave};
use super::subject::{Way, dataset};
use super::workload::Workload;
use super::{BenchError, Effort, open};
use crate::gpu::{Context, DeviceChoice};
use crate::model::Network;
use crate::ops::{
    Activation, Attention, AttentionKeys, AttentionQueries, Cell, Chain, Cost, Dtype, Duplicate, Entry, Epilogue, Gate,
    Gemm, Half, Heads, LayerNorm, LayerNormBackward, LayerNormGradients, Op, Operation, Optimize, Pass, Phase,
    Recording, Recurrence, RecurrenceBackward, Role, ShapeError, StateWeight, Steps, Transport, Update, View, Window,
};
use crate::plan::{Options, Plan, Profile, candidates};
use crate::train::config::Draft;
use crate::train::spec::network_spec;

/// One way to compute a row.
#[derive(Clone, Debug, Serialize)]
pub struct KernelTime {
    /// Kernel variant, or form of a transport.
    pub variant: String,
    /// Whether training uses it.
    pub selected: bool,
    /// Median time, microseconds.
    pub microseconds: f64,
    /// Median distance from that, relative to it.
    pub spread: f64,
    /// Floating point operations.
    pub flops: u64,
    /// Bytes, each operand moved once.
    pub bytes: u64,
    /// Operations by time, 1e9 a second.
    pub gflops: f64,
    /// Bytes by time, 1e9 a second.
    pub gbs: f64,
    /// `gflops` over the adapter's own, 0 to 1.
    pub share_of_arithmetic: f64,
    /// `gbs` over that of a copy too large for caches; operands that stay in one may exceed 1.
    pub share_of_bandwidth: f64,
    /// Time over that of the row's first.
    pub ratio: f64,
}

/// One operation and shape.
#[derive(Clone, Debug, Serialize)]
pub struct KernelRow {
    /// Name of the operation.
    pub family: String,
    /// Shapes and what else matters.
    pub shape: String,
    /// First the one that the others are compared with.
    pub times: Vec<KernelTime>,
}

/// All of them.
#[derive(Clone, Debug, Serialize)]
pub struct KernelReport {
    /// What computed.
    pub device: String,
    /// Version of the program.
    pub version: &'static str,
    /// What the times were measured with.
    pub clock: &'static str,
    /// Rounds that the medians are of.
    pub rounds: usize,
    /// Multiply-adds on registers, 1e9 operations a second.
    pub ceiling_gflops: f64,
    /// A copy, 1e9 bytes a second, read and written.
    pub ceiling_gbs: f64,
    /// By family.
    pub rows: Vec<KernelRow>,
}

/// What the adapter can do at most: the fastest round counts, since nothing makes a ceiling look too high.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ceilings {
    /// Operations a second.
    pub(super) flops: f64,
    /// Bytes a second.
    pub(super) bytes: f64,
}

impl Ceilings {
    pub(super) fn measure(context: &Context, rounds: usize, effort: Effort) -> Result<Ceilings, BenchError> {
        // 16 MiB, enough invocations for any GPU, computed on for long; 64 MiB, past any cache but the largest.
        let (chained, copied) = effort.pick((1 << 12, 1 << 14), (1 << 6, 1 << 6));
        let ceiling = |rows: u32, op: fn(_, _) -> Op| -> Result<Workload, BenchError> {
            let mut recording = Recording::new(1);
            let x = recording.state("x", rows, 1024, Dtype::F32);
            recording.begin(Phase::Train);
            let out = recording.scratch("out", rows, 1024);
            recording.push(op(x, out))?;
            Workload::new(context, recording, Options::default(), effort)
        };
        let mut both = [
            ceiling(chained, |x, out| Chain { x, out, length: 512 }.into())?,
            ceiling(copied, |x, out| Duplicate { x, out }.into())?,
        ];
        let samples = interleave(&mut both, rounds, Workload::sample)?;
        Ok(Ceilings {
            flops: both[0].cost().flops as f64 / samples[0].fastest(),
            bytes: both[1].cost().bytes as f64 / samples[1].fastest(),
        })
    }
}

/// A row that is yet to be measured: names with what they run, and the name of what training uses.
struct Case {
    family: String,
    shape: String,
    forms: Vec<(String, Recording, Options)>,
    selected: String,
}

impl Case {
    /// Every candidate kernel of the recording's only training operation.
    fn candidates(recording: Recording, profile: &Profile) -> Result<Case, BenchError> {
        let op = recording.entries(Phase::Train)[0].op.clone();
        let form = |variant| {
            let options = Options { fuse: false, force: Some(variant), ..Options::default() };
            (format!("{variant}"), recording.clone(), options)
        };
        let forms = candidates(&op, profile).into_iter().map(form).collect();
        let plan = Plan::new(recording.clone(), profile, Options { fuse: false, ..Options::default() })?;
        let selected = plan.nodes(Phase::Train)[0].variant.to_string();
        Ok(Case { family: op.name().to_owned(), shape: shape(&op), forms, selected })
    }
}

/// Operands without what follows from the others: rows x columns of each, and the details.
fn shape(op: &Op) -> String {
    let text = match op {
        Op::Gemm(gemm) => {
            format!("{}x{}x{} {}", gemm.out.rows(), gemm.out.cols(), gemm.inner(), Operation::details(gemm))
        }
        Op::Transport(t) => {
            format!("{} rows, {} to {} {}", t.out.rows(), t.delta.cols(), t.out.cols(), Operation::details(t))
        }
        Op::Gather(gather) => format!("{} {}", gather.out.shape, Operation::details(gather)),
        Op::Optimize(optimize) => format!("{} {} moments", optimize.values.shape, optimize.update.moments()),
        op => {
            let largest = op.operands().into_iter().map(|o| o.tensor.shape).max_by_key(|shape| shape.per_replica());
            format!("{} {}", largest.map_or(String::new(), |shape| shape.to_string()), op.details())
        }
    };
    text.trim_end().to_owned()
}

/// Measures every kernel whose family's name contains `only`.
///
/// Shapes are those of the steps of `cifar10-mlp` (backprop, local and normative rule), `fashion-mnist` (local rule) and the
/// transformer of [`headline`](super::headline()) (both rules), fused as training does it, and a table of further ones.
///
/// # Errors
/// If the device fails.
pub fn kernels(device: &DeviceChoice, only: Option<&str>, effort: Effort) -> Result<KernelReport, BenchError> {
    let context = open(device)?;
    let profile = context.profile();
    let rounds = effort.pick(7, 2);
    let ceilings = Ceilings::measure(&context, rounds, effort)?;
    let mut cases = vec![control(effort)?];
    cases.extend(products(&profile, effort)?);
    cases.extend(transports(&profile, effort)?);
    cases.extend(attentions(&profile, effort)?);
    cases.extend(recurrences(&profile, effort)?);
    cases.extend(layer_norms(&profile, effort)?);
    cases.extend(updates(&profile, effort)?);
    let trained = match effort {
        Effort::Full => vec![
            (Draft::open("cifar10-mlp")?, Way::Backprop),
            (Draft::open("cifar10-mlp")?, Way::Local),
            (Draft::open("cifar10-mlp")?, Way::Normative),
            (Draft::open("fashion-mnist")?, Way::Local),
            (transformer(effort)?, Way::Local),
            (transformer(effort)?, Way::Normative),
        ],
        Effort::Quick => vec![(Draft::open("digits")?, Way::Local)],
    };
    for (network, way) in trained {
        cases.extend(of_step(network, way, &profile)?);
    }
    let mut seen = HashSet::new();
    // In a hurry one shape of each will do.
    let shape = |case: &Case| effort.pick(case.shape.clone(), String::new());
    cases.retain(|case| seen.insert((case.family.clone(), shape(case))));
    // Families together, in the order in which they first appear.
    let mut families: Vec<String> = Vec::new();
    for case in &cases {
        if !families.contains(&case.family) {
            families.push(case.family.clone());
        }
    }
    cases.sort_by_key(|case| families.iter().position(|family| *family == case.family));
    if let Some(only) = only {
        cases.retain(|case| case.family == "control" || case.family.contains(only));
        if cases.len() == 1 {
            return Err(BenchError::NoFamily { only: only.to_owned(), known: families.join(", ") });
        }
    }
    let mut rows = Vec::new();
    for case in cases {
        rows.push(measure(&context, case, ceilings, rounds, effort)?);
    }
    Ok(KernelReport {
        device: context.describe(),
        version: env!("CARGO_PKG_VERSION"),
        clock: context.clock().name(),
        rounds,
        ceiling_gflops: ceilings.flops / 1e9,
        ceiling_gbs: ceilings.bytes / 1e9,
        rows,
    })
}

fn measure(
    context: &Context,
    case: Case,
    ceilings: Ceilings,
    rounds: usize,
    effort: Effort,
) -> Result<KernelRow, BenchError> {
    let selected = case.selected;
    let (names, forms): (Vec<_>, Vec<_>) = case.forms.into_iter().map(|(name, r, o)| (name, (r, o))).unzip();
    let workloads = forms.into_iter().map(|(recording, options)| Workload::new(context, recording, options, effort));
    let mut workloads = workloads.collect::<Result<Vec<_>, _>>()?;
    let samples = interleave(&mut workloads, rounds, Workload::sample)?;
    let time = |((variant, workload), own): ((String, &Workload), &Samples)| {
        let (Cost { flops, bytes }, seconds) = (workload.cost(), own.median());
        let (per_second, moved) = (flops as f64 / seconds, bytes as f64 / seconds);
        KernelTime {
            selected: variant == selected,
            variant,
            microseconds: 1e6 * seconds,
            spread: own.spread(),
            flops,
            bytes,
            gflops: per_second / 1e9,
            gbs: moved / 1e9,
            share_of_arithmetic: per_second / ceilings.flops,
            share_of_bandwidth: moved / ceilings.bytes,
            ratio: own.over(&samples[0]),
        }
    };
    let times = names.into_iter().zip(&workloads).zip(&samples).map(time).collect();
    Ok(KernelRow { family: case.family, shape: case.shape, times })
}

/// A product, rows x cols with sums of `inner` terms, of factors stored as `nn`, `nt` or `tn` says and rounded to what
/// `half` says, as the training phase of a recording.
///
/// # Errors
/// Never: the factors are made to fit.
pub fn product([rows, cols, inner]: [u32; 3], orientation: &str, half: Option<Half>) -> Result<Recording, ShapeError> {
    let mut recording = Recording::new(1);
    let (turn_a, turn_b) = (orientation == "tn", orientation == "nt");
    let mut factor = |name, rows, cols, turned| {
        let (rows, cols) = if turned { (cols, rows) } else { (rows, cols) };
        recording.state(name, rows, cols, Dtype::F32)
    };
    let (a, b) = (factor("a", rows, inner, turn_a), factor("b", inner, cols, turn_b));
    recording.begin(Phase::Train);
    let out = recording.scratch("out", rows, cols);
    recording.push(Gemm { transpose_a: turn_a, transpose_b: turn_b, half, ..Gemm::nn(a, b, out) })?;
    Ok(recording)
}

/// A product of a convolution of 3 x 3 that keeps a square image's side and its channels, as the training phase of a
/// recording.
///
/// # Errors
/// If the side is 0.
pub fn convolution([images, side, channels]: [u32; 3], pass: Pass) -> Result<Recording, BenchError> {
    let window = Window::new([side; 2], [3; 2], [1; 2], [1; 2]).map_err(BenchError::Window)?;
    let mut recording = Recording::new(1);
    let rows = images * window.pixels();
    let mut state = |name, rows, cols| recording.state(name, rows, cols, Dtype::F32);
    let (x, error) = (state("x", rows, channels), state("error", rows, channels));
    let weight = state("weight", channels, 9 * channels);
    recording.begin(Phase::Train);
    let op = match pass {
        Pass::Forward => Gemm::convolve(x, weight, recording.scratch("out", rows, channels), window),
        Pass::Input => Gemm::convolve_back(error, weight, recording.scratch("out", rows, channels), window),
        Pass::Weight => Gemm::correlate(error, x, recording.scratch("out", channels, 9 * channels), window),
    };
    recording.push(op)?;
    Ok(recording)
}

/// The same kernel twice: how far apart equals read.
fn control(effort: Effort) -> Result<Case, BenchError> {
    let size = effort.pick(512, 32);
    let recording = product([size; 3], "nn", None)?;
    let forms = ["itself", "again"].map(|name| (name.to_owned(), recording.clone(), Options::default()));
    Ok(Case {
        family: "control".into(),
        shape: format!("gemm {size}x{size}x{size} NN"),
        forms: forms.into(),
        selected: "itself".into(),
    })
}

fn products(profile: &Profile, effort: Effort) -> Result<Vec<Case>, BenchError> {
    // A cube, a skinny product on either side, and the shapes of a wide network's step; GPUs are asked for more.
    let side = if profile.software { 512 } else { 4096 };
    let sizes = effort
        .pick(vec![[side; 3], [512, 1024, 1024], [4096, 16, 512], [16, 1024, 512]], vec![[32, 32, 32], [9, 5, 33]]);
    let mut cases = Vec::new();
    for sizes in &sizes {
        for orientation in ["nn", "nt", "tn"] {
            cases.push(Case::candidates(product(*sizes, orientation, None)?, profile)?);
        }
    }
    let convolved: &[[u32; 3]] = effort.pick(&[[16, 32, 64], [64, 4, 512]], &[[1, 4, 4]]);
    for sizes in convolved {
        for pass in [Pass::Forward, Pass::Input, Pass::Weight] {
            cases.push(Case::candidates(convolution(*sizes, pass)?, profile)?);
        }
    }
    if profile.half {
        cases.push(Case::candidates(product(sizes[0], "nn", Some(Half::default()))?, profile)?);
    }
    Ok(cases)
}

/// How a transport is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Two products and a gate, as the model records it.
    Recorded,
    /// Two products, the gate in the second one's epilogue.
    Split,
    /// One operation.
    Fused,
}

/// A ReLU-gated transport of `rows` errors through `rank`, from a layer to one as wide, as the training phase of a
/// recording.
///
/// # Errors
/// Never: the tensors are made to fit.
pub fn transport([rows, width, rank]: [u32; 3], form: Form) -> Result<Recording, ShapeError> {
    let mut recording = Recording::new(1);
    let mut state = |name, rows, cols| recording.state(name, rows, cols, Dtype::F32);
    let (delta, p, q) = (state("delta", rows, width), state("p", width, rank), state("q", rank, width));
    let saved = state("saved", rows, width);
    recording.begin(Phase::Train);
    recording.role(Role::Transport);
    let y = recording.scratch("y", rows, rank);
    let out = recording.scratch("out", rows, width);
    let epilogue = Epilogue { gate: Some((Activation::Relu, saved)), ..Epilogue::default() };
    match form {
        Form::Recorded => {
            let error = recording.scratch("error", rows, width);
            recording.push(Gemm::nn(delta, p, y))?;
            recording.push(Gemm::nn(y, q, error))?;
            recording.role(Role::Derivative);
            recording.push(Gate { x: error, saved, out, f: Activation::Relu })?;
        }
        Form::Split => {
            recording.push(Gemm::nn(delta, p, y))?;
            recording.push(Gemm { epilogue, ..Gemm::nn(y, q, out) })?;
        }
        Form::Fused => recording.push(Transport { delta, p, q, y, out, epilogue })?,
    }
    Ok(recording)
}

fn transports(profile: &Profile, effort: Effort) -> Result<Vec<Case>, BenchError> {
    let sizes: &[[u32; 3]] = effort
        .pick(&[[32, 512, 10], [128, 256, 10], [512, 1024, 16], [512, 1024, 64], [4096, 512, 16]], &[[16, 32, 4]]);
    let apart = Options { fuse: false, ..Options::default() };
    let mut cases = Vec::new();
    for sizes in sizes {
        let [rows, width, rank] = sizes;
        let mut forms = vec![
            ("unfused".to_owned(), transport(*sizes, Form::Recorded)?, apart),
            ("split".to_owned(), transport(*sizes, Form::Split)?, apart),
        ];
        let fused = Case::candidates(transport(*sizes, Form::Fused)?, profile)?;
        let plan = Plan::new(transport(*sizes, Form::Recorded)?, profile, Options::default())?;
        let selected = match plan.nodes(Phase::Train) {
            [only] => format!("fused {}", only.variant),
            _ => "split".to_owned(),
        };
        forms.extend(fused.forms.into_iter().map(|(variant, r, o)| (format!("fused {variant}"), r, o)));
        let shape = format!("{rows} rows, {width} to {width} r={rank} gate relu'");
        cases.push(Case { family: "transport".into(), shape, forms, selected });
    }
    Ok(cases)
}

/// One operation as the training phase of a recording of one network; `op` makes it of named states.
fn alone<T: Into<Op>>(op: impl FnOnce(&mut dyn FnMut(&str, u32, u32) -> View) -> T) -> Result<Recording, ShapeError> {
    let mut recording = Recording::new(1);
    let op = op(&mut |name, rows, cols| recording.state(name, rows, cols, Dtype::F32));
    recording.begin(Phase::Train);
    recording.push(op)?;
    Ok(recording)
}

/// Forward, back to the queries, back to keys and values.
fn attentions(profile: &Profile, effort: Effort) -> Result<Vec<Case>, BenchError> {
    // Samples, length, heads, width: two small vision transformers, a longer sequence, heads as wide as they are usually.
    let sizes: &[[u32; 4]] =
        effort.pick(&[[64, 65, 8, 48], [64, 65, 4, 16], [16, 197, 6, 64], [8, 300, 8, 32]], &[[2, 9, 2, 8]]);
    let mut cases = Vec::new();
    for &[samples, length, count, width] in sizes {
        let (rows, cols) = (samples * length, count * width);
        let heads = Heads { count, length, causal: false, drop: 0.0, stream: 0 };
        let recordings = [
            alone(|state| Attention {
                qkv: state("qkv", rows, 3 * cols),
                out: state("out", rows, cols),
                stats: state("stats", rows, count),
                heads,
            })?,
            alone(|state| AttentionQueries {
                error: state("error", rows, cols),
                qkv: state("qkv", rows, 3 * cols),
                out: state("out", rows, cols),
                stats: state("stats", rows, count),
                dots: state("dots", rows, count),
                gradient: state("gradient", rows, 3 * cols),
                heads,
            })?,
            alone(|state| AttentionKeys {
                error: state("error", rows, cols),
                qkv: state("qkv", rows, 3 * cols),
                stats: state("stats", rows, count),
                dots: state("dots", rows, count),
                gradient: state("gradient", rows, 3 * cols),
                heads,
            })?,
        ];
        for recording in recordings {
            cases.push(Case::candidates(recording, profile)?);
        }
    }
    Ok(cases)
}

/// A GRU forward, and back through its weight and through factors of rank 16: as a plan cuts the steps, and a dispatch a step.
fn recurrences(profile: &Profile, effort: Effort) -> Result<Vec<Case>, BenchError> {
    // Samples, steps, units: as in the headline, and narrower.
    let sizes: &[[u32; 3]] = effort.pick(&[[128, 28, 256], [32, 8, 64]], &[[3, 2, 4]]);
    let cell = Cell::Gru;
    let mut cases = Vec::new();
    for &[samples, length, width] in sizes {
        let (rows, gates) = (samples * length, cell.gates() * width);
        let steps = Steps::all(length);
        let forward = alone(|state| Recurrence {
            a: state("a", rows, gates),
            weight: state("weight", gates, width),
            bias: state("bias", 1, gates),
            out: state("out", rows, width),
            saved: Some(state("saved", rows, cell.saved() * width)),
            cell,
            steps,
        })?;
        let back = |rank: Option<u32>| {
            alone(|state| RecurrenceBackward {
                error: state("error", rows, width),
                saved: state("saved", rows, cell.saved() * width),
                gates: state("gates", rows, gates),
                hidden: Some(state("hidden", rows, gates)),
                carried: Some(state("carried", samples, width)),
                through: match rank {
                    None => StateWeight::Whole(state("weight", gates, width)),
                    Some(rank) => StateWeight::Factored {
                        p: state("p", gates, rank),
                        q: state("q", rank, width),
                        y: state("y", rows, rank),
                    },
                },
                clamp: None,
                window: None,
                cell,
                steps,
            })
        };
        for together in [forward, back(None)?, back(Some(16))?] {
            let op = together.entries(Phase::Train)[0].op.clone();
            let plan = Plan::new(together.clone(), profile, Options::default())?;
            let mut apart = together.clone();
            apart.begin(Phase::Train);
            let pieces: Vec<Op> = match &op {
                Op::Recurrence(op) => steps.cut(1).map(|steps| Recurrence { steps, ..*op }.into()).collect(),
                Op::RecurrenceBackward(op) => {
                    steps.cut(1).rev().map(|steps| RecurrenceBackward { steps, ..*op }.into()).collect()
                }
                _ => Vec::new(),
            };
            let first = apart.entries(Phase::Train)[0].clone();
            apart.replace(Phase::Train, pieces.into_iter().map(|op| Entry { op, ..first.clone() }).collect());
            let planned = match plan.nodes(Phase::Train).len() {
                1 => "one dispatch".to_owned(),
                count => format!("{count} dispatches"),
            };
            let forms = [("a dispatch a step".to_owned(), apart), (planned.clone(), together)];
            let forms = forms.into_iter().map(|(name, r)| (name, r, Options::default())).collect();
            let shape = format!("{samples} samples, {width} units {}", op.details());
            cases.push(Case { family: op.name().into(), shape, forms, selected: planned });
        }
    }
    Ok(cases)
}

fn layer_norms(profile: &Profile, effort: Effort) -> Result<Vec<Case>, BenchError> {
    let sizes: &[[u32; 2]] = effort.pick(&[[64 * 65, 384], [64 * 65, 64]], &[[9, 8]]);
    let mut cases = Vec::new();
    for &[rows, cols] in sizes {
        let recordings = [
            alone(|state| LayerNorm {
                x: state("x", rows, cols),
                gamma: state("gamma", 1, cols),
                beta: state("beta", 1, cols),
                out: state("out", rows, cols),
                moments: state("moments", rows, 2),
                epsilon: 1e-5,
            })?,
            alone(|state| LayerNormBackward {
                error: state("error", rows, cols),
                x: state("x", rows, cols),
                moments: state("moments", rows, 2),
                gamma: state("gamma", 1, cols),
                addend: None,
                out: state("out", rows, cols),
            })?,
            alone(|state| LayerNormGradients {
                error: state("error", rows, cols),
                x: state("x", rows, cols),
                moments: state("moments", rows, 2),
                grad_gamma: state("grad_gamma", 1, cols),
                grad_beta: state("grad_beta", 1, cols),
                accumulate: false,
            })?,
        ];
        for recording in recordings {
            cases.push(Case::candidates(recording, profile)?);
        }
    }
    Ok(cases)
}

fn updates(profile: &Profile, effort: Effort) -> Result<Vec<Case>, BenchError> {
    let adam = |amsgrad, decoupled| Update::Adam { betas: (0.9, 0.999), epsilon: 1e-8, amsgrad, decoupled };
    let rules = [
        Update::Sgd { momentum: 0.0 },
        Update::Sgd { momentum: 0.9 },
        adam(false, false),
        adam(true, false),
        adam(false, true),
        Update::RmsProp { alpha: 0.99, epsilon: 1e-8 },
    ];
    let mut cases = Vec::new();
    for update in rules {
        let mut recording = Recording::new(1);
        let fault = recording.state("fault", 1, 1, Dtype::U32);
        let mut row = |name| recording.state(name, 1, effort.pick(1 << 20, 1 << 10), Dtype::F32);
        let (values, gradients) = (row("values"), row("gradients"));
        let names = ["moment1", "moment2", "moment3"];
        let moments = std::array::from_fn(|i| (i < update.moments()).then(|| row(names[i])));
        recording.begin(Phase::Train);
        recording.role(Role::Update);
        recording.push(Optimize { update, group: 0, clamp: None, values, gradients, moments, fault })?;
        cases.push(Case::candidates(recording, profile)?);
    }
    Ok(cases)
}

/// Every distinct operation of a network's training step, each alone.
fn of_step(network: Draft, way: Way, profile: &Profile) -> Result<Vec<Case>, BenchError> {
    let config = way.of(network)?.resolved();
    let network = Network::new(&network_spec(&config, &dataset(&config)?)?)?;
    let plan = Plan::new(network.recording.clone(), profile, Options::default())?;
    let mut empty = network.recording.clone();
    for phase in Phase::ALL {
        empty.replace(phase, Vec::new());
    }
    // Partial sums, which planning has added.
    for info in &plan.tensors()[network.recording.tensors().len()..] {
        empty.scratch(info.name.clone(), info.tensor.rows(), info.tensor.cols());
    }
    let alone = |entry: &Entry| {
        let mut recording = empty.clone();
        recording.replace(Phase::Train, vec![entry.clone()]);
        Case::candidates(recording, profile)
    };
    plan.nodes(Phase::Train).iter().map(|node| alone(&node.entry)).collect()
}

impl fmt::Display for KernelReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, {}, medians of {} rounds", self.device, self.clock, self.rounds)?;
        writeln!(
            f,
            "ceilings: {:.1} GFLOP/s of multiply-adds on registers, {:.1} GB/s of a copy",
            self.ceiling_gflops, self.ceiling_gbs
        )?;
        writeln!(
            f,
            "{:<22} {:<52} {:<17} {:>10} {:>8} {:>9} {:>6} {:>8} {:>6} {:>7}",
            "family", "shape", "variant", "us", "spread %", "GFLOP/s", "%", "GB/s", "%", "ratio"
        )?;
        for row in &self.rows {
            for (at, time) in row.times.iter().enumerate() {
                let (family, shape) = if at == 0 { (row.family.as_str(), row.shape.as_str()) } else { ("", "") };
                let mark = if time.selected { "*" } else { "" };
                writeln!(
                    f,
                    "{family:<22} {shape:<52} {:<17} {:>10.2} {:>8.1} {:>9.2} {:>6.1} {:>8.2} {:>6.1} {:>7.3}",
                    format!("{}{mark}", time.variant),
                    time.microseconds,
                    100.0 * time.spread,
                    time.gflops,
                    100.0 * time.share_of_arithmetic,
                    time.gbs,
                    100.0 * time.share_of_bandwidth,
                    time.ratio,
                )?;
            }
        }
        write!(
            f,
            "%: of the ceiling (operands that stay in a cache can pass that of the copy); ratio: time over the row's \
             first; *: what training uses"
        )
    }
}
