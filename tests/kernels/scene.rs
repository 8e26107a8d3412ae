//! Operations with their data, run on the GPU and by the f64 reference.
//!
//! Every output is a state tensor that starts as NaN, so that an element which no kernel writes is seen. Many tensors
//! are windows into a longer row: around inputs lie NaNs, which a read past the edge brings in; around outputs lie
//! marks that must still be there afterwards. What nothing writes must be unchanged.

use std::collections::HashSet;

use ldfa_gpu::gpu::{Context, DeviceChoice, Gpu, LimitPolicy};
use ldfa_gpu::ops::random::{pcg4d, unit};
use ldfa_gpu::ops::*;
use ldfa_gpu::plan::{Blocking, Options, Plan, Profile, Variant, candidates};
use ldfa_gpu::reference::Reference;

use crate::compare::Report;

/// The adapter under test; a machine without one fails.
pub(crate) fn open() -> Context {
    Context::open(&DeviceChoice::Best, LimitPolicy::from_env())
        .unwrap_or_else(|e| panic!("the kernel tests need an adapter: {e}"))
}

/// Extents that miss, meet and exceed every tile, lane and workgroup.
pub(crate) const SIZES: [u32; 11] = [1, 2, 3, 7, 17, 33, 63, 65, 127, 129, 257];

#[derive(Clone, Debug)]
enum Data {
    Numbers(Vec<f64>),
    Bytes(Vec<u8>),
}

/// The part of a row that an output occupies.
#[derive(Clone, Debug)]
struct Window {
    of: View,
    offset: usize,
    length: usize,
}

#[derive(Clone, Debug)]
struct Check {
    name: String,
    tensor: View,
    allowed: f64,
    by_row: bool,
}

/// A recording and what its tensors hold.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) recording: Recording,
    /// Which replica's data the first one gets.
    first: u32,
    made: u32,
    contents: Vec<(View, Data)>,
    windows: Vec<Window>,
    checks: Vec<Check>,
}

/// Elements before a window, a multiple of the largest binding alignment; a few follow it.
const MARGIN: u32 = 64;

/// Uniform in +-1, a multiple of 2^-23.
fn noise(key: [u32; 4]) -> f64 {
    2.0 * unit(pcg4d(key)[1]) - 1.0
}

impl Scene {
    pub(crate) fn new(replicas: u32) -> Scene {
        Scene::starting_at(replicas, 0)
    }

    /// Replicas `first..first + replicas` of a larger scene.
    pub(crate) fn starting_at(replicas: u32, first: u32) -> Scene {
        let recording = Recording::new(replicas);
        Scene { recording, first, made: 0, contents: Vec::new(), windows: Vec::new(), checks: Vec::new() }
    }

    /// A number of the scene's own, below `bound`; the same for every number of replicas.
    pub(crate) fn draw(&mut self, bound: u32) -> u32 {
        self.made += 1;
        pcg4d([self.made, 77, 5, 1])[2] % bound
    }

    /// A tensor with a value for every (replica, row, column); `gap` surrounds it if it is a window.
    fn allocate(
        &mut self,
        [rows, cols]: [u32; 2],
        layout: Layout,
        gap: Option<f64>,
        value: impl Fn(u32, u32, u32) -> f64,
    ) -> View {
        self.made += 1;
        let name = format!("t{}", self.made);
        let (replicas, first) = (self.recording.replicas(), self.first);
        let matrix = |replica: u32| (0..rows * cols).map(move |i| (replica, i / cols, i % cols));
        let values = |replica: u32| matrix(replica).map(|(r, i, j)| f64::from(value(r, i, j) as f32));
        match layout {
            Layout::Plain => {
                let tensor = self.recording.state(name, rows, cols, Dtype::F32);
                let all = (first..first + replicas).flat_map(values).collect();
                self.contents.push((tensor, Data::Numbers(all)));
                tensor
            }
            Layout::Shared => {
                let tensor = self.recording.shared(name, rows, cols, Dtype::F32);
                self.contents.push((tensor, Data::Numbers(values(1000).collect())));
                tensor
            }
            Layout::Window => {
                // The next replica begins at a whole quad, as in a parameter group.
                let length = (MARGIN + rows * cols + 5).next_multiple_of(4);
                let tail = length - MARGIN - rows * cols;
                let of = self.recording.state(format!("{name}.row"), 1, length, Dtype::F32);
                let around = |count: u32| (0..count).map(|i| gap.unwrap_or_else(|| 1000.0 + f64::from(i % 97)));
                let row = |replica| around(MARGIN).chain(values(replica)).chain(around(tail)).collect::<Vec<_>>();
                let all = (first..first + replicas).flat_map(row).collect();
                self.contents.push((of, Data::Numbers(all)));
                let (offset, length) = (MARGIN as usize, (rows * cols) as usize);
                self.windows.push(Window { of, offset, length });
                let window = of.window(MARGIN, rows, cols);
                self.recording.name(window, name);
                window
            }
        }
    }

    fn own_layout(&mut self) -> Layout {
        if self.draw(2) == 0 { Layout::Plain } else { Layout::Window }
    }

    /// Floats of every replica: `value(noise, replica, row, col)`.
    pub(crate) fn filled(&mut self, rows: u32, cols: u32, value: impl Fn(f64, u32, u32, u32) -> f64) -> View {
        let layout = self.own_layout();
        let key = self.made;
        let gap = Some(f64::NAN);
        self.allocate([rows, cols], layout, gap, |r, i, j| value(noise([i, j, r, key]), r, i, j))
    }

    /// Floats of every replica that depend on row and column in different ways; some are zero.
    pub(crate) fn own(&mut self, rows: u32, cols: u32) -> View {
        self.filled(rows, cols, asymmetric)
    }

    /// [`Scene::own`], or one matrix that all replicas share.
    pub(crate) fn any(&mut self, rows: u32, cols: u32) -> View {
        if self.draw(3) > 0 {
            return self.own(rows, cols);
        }
        let key = self.made;
        self.allocate([rows, cols], Layout::Shared, None, |r, i, j| asymmetric(noise([i, j, r, key]), r, i, j))
    }

    /// Poison, to be overwritten.
    pub(crate) fn output(&mut self, rows: u32, cols: u32) -> View {
        let layout = self.own_layout();
        self.allocate([rows, cols], layout, None, |_, _, _| f64::NAN)
    }

    /// Floats that an operation changes in place.
    pub(crate) fn updated(&mut self, rows: u32, cols: u32, value: impl Fn(f64, u32, u32, u32) -> f64) -> View {
        let layout = self.own_layout();
        let key = self.made;
        self.allocate([rows, cols], layout, None, |r, i, j| value(noise([i, j, r, key]), r, i, j))
    }

    /// Words of every replica: `value(random bits, replica, element)`.
    pub(crate) fn words(&mut self, rows: u32, cols: u32, value: impl Fn(u32, u32, u32) -> u32) -> View {
        self.made += 1;
        let tensor = self.recording.state(format!("t{}", self.made), rows, cols, Dtype::U32);
        let replicas = self.first..self.first + self.recording.replicas();
        self.hold_words(tensor, replicas, value)
    }

    /// Words that all replicas share.
    pub(crate) fn shared_words(&mut self, rows: u32, cols: u32, value: impl Fn(u32, u32) -> u32) -> View {
        self.made += 1;
        let tensor = self.recording.shared(format!("t{}", self.made), rows, cols, Dtype::U32);
        self.hold_words(tensor, 0..1, |bits, _, i| value(bits, i))
    }

    fn hold_words(
        &mut self,
        tensor: View,
        replicas: std::ops::Range<u32>,
        value: impl Fn(u32, u32, u32) -> u32,
    ) -> View {
        let count = tensor.rows() * tensor.cols();
        let key = self.made;
        let all = replicas.flat_map(|r| (0..count).map(move |i| (r, i)));
        let all = all.map(|(r, i)| f64::from(value(pcg4d([i, r, key, 3])[0], r, i))).collect();
        self.contents.push((tensor, Data::Numbers(all)));
        tensor
    }

    /// Random bytes that all replicas share.
    pub(crate) fn bytes(&mut self, rows: u32, cols: u32) -> View {
        self.made += 1;
        let tensor = self.recording.shared(format!("t{}", self.made), rows, cols, Dtype::U8);
        let all = (0..rows * cols).map(|i| (pcg4d([i, 0, self.made, 9])[3] >> 24) as u8).collect();
        self.contents.push((tensor, Data::Bytes(all)));
        tensor
    }

    /// Records an operation; each of its outputs may be off by `allowed(operand)` in every replica.
    pub(crate) fn push(&mut self, op: impl Into<Op>, allowed: impl Fn(&str) -> f64) {
        self.record(op.into(), allowed, false);
    }

    /// [`Scene::push`] with a comparison for every row, where rows differ in kind.
    pub(crate) fn push_by_row(&mut self, op: impl Into<Op>, allowed: impl Fn(&str) -> f64) {
        self.record(op.into(), allowed, true);
    }

    fn record(&mut self, op: Op, allowed: impl Fn(&str) -> f64, by_row: bool) {
        let shapes: Vec<String> = op.operands().iter().map(|o| format!("{} {}", o.name, o.tensor.shape)).collect();
        for operand in op.operands().iter().filter(|o| o.access != Access::Read) {
            let name = format!("{} of {} [{}] ({})", operand.name, op.name(), op.details(), shapes.join(", "));
            let allowed = allowed(operand.name);
            if !self.checks.iter().any(|c| c.tensor == operand.tensor) {
                self.checks.push(Check { name, tensor: operand.tensor, allowed, by_row });
            }
        }
        self.recording.push(op).unwrap();
    }

    /// Every kernel that can compute one of the operations.
    pub(crate) fn variants(&self, profile: &Profile) -> Vec<Variant> {
        let mut all: Vec<Variant> =
            self.recording.entries(Phase::Train).iter().flat_map(|e| candidates(&e.op, profile)).collect();
        all.sort();
        all.dedup();
        all
    }

    fn plan(&self, profile: &Profile, force: Option<Variant>) -> Plan {
        let plan =
            Plan::new(self.recording.clone(), profile, Options { fuse: false, share_memory: false, force }).unwrap();
        for node in plan.nodes(Phase::Train) {
            if let Some(force) = force.filter(|v| candidates(&node.entry.op, profile).contains(v)) {
                assert_eq!(node.variant, force, "{} is not computed as forced", node.entry.op.name());
            }
        }
        plan
    }

    fn start(&self, executor: &mut Blocking, steps: &[StepState]) {
        for (tensor, data) in &self.contents {
            match data {
                Data::Numbers(values) => executor.write(*tensor, values).unwrap(),
                Data::Bytes(bytes) => executor.write_bytes(*tensor, bytes).unwrap(),
            }
        }
        executor.run(Phase::Train, steps).unwrap();
    }

    /// The GPU after the steps.
    pub(crate) fn run(&self, force: Option<Variant>, steps: &[StepState]) -> Blocking<Gpu> {
        let context = open();
        let plan = self.plan(&context.profile(), force);
        let mut gpu = Gpu::blocking(context, plan).unwrap();
        self.start(&mut gpu, steps);
        gpu
    }

    /// Everything that the operations wrote, by tensor.
    pub(crate) fn outputs(&self, executor: &mut Blocking) -> Vec<(String, View, Vec<f64>)> {
        self.checks.iter().map(|c| (c.name.clone(), c.tensor, executor.read(c.tensor).unwrap())).collect()
    }

    /// Runs the scene in every way there is, and compares all outputs with the reference.
    pub(crate) fn verify(&self, report: &mut Report, steps: &[StepState]) {
        let profile = open().profile();
        let mut reference = Blocking::new(Reference::new(self.plan(&profile, None)));
        self.start(&mut reference, steps);
        let expected = self.outputs(&mut reference);
        for variant in self.variants(&profile) {
            let mut gpu = self.run(Some(variant), steps);
            for (check, (_, _, expected)) in self.checks.iter().zip(&expected) {
                let found = gpu.read(check.tensor).unwrap();
                let name = format!("{variant} {}", check.name);
                let shape = check.tensor.shape;
                let rows = if check.by_row { shape.rows as usize } else { 1 };
                let part = shape.per_replica() / rows;
                for (index, (found, expected)) in found.chunks(part).zip(expected.chunks(part)).enumerate() {
                    let name = format!("{name}, replica {} row {}", index / rows, index % rows);
                    report.near(&name, found, expected, check.allowed);
                }
            }
            self.verify_rest(report, &mut gpu);
        }
    }

    /// What nothing writes is unchanged, the surroundings of outputs included.
    fn verify_rest(&self, report: &mut Report, gpu: &mut Blocking<Gpu>) {
        let root = |tensor: View| self.recording.info(tensor).tensor;
        let written: HashSet<View> = self.checks.iter().map(|c| root(c.tensor)).collect();
        for (tensor, data) in &self.contents {
            let Data::Numbers(before) = data else { continue };
            let after = gpu.read(*tensor).unwrap();
            let name = format!("what lies around {}", self.recording.info(*tensor).name);
            match self.windows.iter().find(|w| w.of == *tensor) {
                _ if !written.contains(tensor) => report.same(&name, &after, before),
                Some(window) => {
                    let outside = |values: &[f64]| -> Vec<f64> {
                        let rows = values.chunks(tensor.shape.per_replica());
                        rows.flat_map(|r| [&r[..window.offset], &r[window.offset + window.length..]].concat()).collect()
                    };
                    report.same(&name, &outside(&after), &outside(before));
                }
                None => {}
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Layout {
    Plain,
    Shared,
    Window,
}

/// A value that no transposition, shift or exchange of replicas leaves in place; one in eleven is zero.
pub(crate) fn asymmetric(noise: f64, replica: u32, row: u32, col: u32) -> f64 {
    if (3 * row + 5 * col + replica) % 11 == 4 {
        return 0.0;
    }
    0.3 + 0.12 * f64::from(row % 5) - 0.07 * f64::from(col % 7) + 0.2 * f64::from(replica % 8) + noise
}

/// A step that differs from replica to replica, for replicas `first..first + count`.
pub(crate) fn step_from(first: u32, count: u32, number: u32, cursor: u32, active_rows: u32) -> StepState {
    let replicas = (first..first + count).map(|r| {
        let x = f64::from(r);
        ReplicaStep {
            seed: 1000 + 17 * r,
            rate: [0.01 * (1.0 + x), 0.03 / (1.0 + x)],
            decay: [0.1 / (2.0 + x), 0.02 * x],
        }
    });
    let group = |power: f64| GroupStep {
        correction1: 1.0 - 0.9f64.powf(power * f64::from(number + 1)),
        correction2_root: (1.0 - 0.99f64.powf(power * f64::from(number + 1))).sqrt(),
    };
    StepState { step: number, cursor, active_rows, groups: [group(1.0), group(2.0)], replicas: replicas.collect() }
}

/// [`step_from`] of all replicas.
pub(crate) fn step(count: u32, number: u32, cursor: u32, active_rows: u32) -> StepState {
    step_from(0, count, number, cursor, active_rows)
}
