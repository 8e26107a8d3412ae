//! A few operations on the device, with numbers to compute on, to be timed again and again.

use super::{BenchError, Effort};
use crate::gpu::{Context, Gpu};
use crate::ops::{Access, Cost, Dtype, Phase, Recording, ReplicaStep, StepState, View};
use crate::plan::{Blocking, Clock, Options, Plan};

/// Length of one sample in seconds. By timestamps little is enough; the host's clock has the submission in it, which the
/// sample must dwarf.
fn sample_seconds(clock: Clock, effort: Effort) -> f64 {
    match (effort, clock) {
        (Effort::Quick, _) => 5e-4,
        (Effort::Full, Clock::Device) => 2e-3,
        (Effort::Full, Clock::Host) => 2e-2,
    }
}

/// Most runs of a sample, whatever they take.
const MOST_REPETITIONS: f64 = 1000.0;

/// The training phase of a recording on the device.
pub struct Workload {
    gpu: Blocking<Gpu>,
    step: StepState,
    repetitions: u32,
}

impl Workload {
    /// Plans the recording, fills what its training phase reads, and finds out how often a sample must run it.
    ///
    /// # Errors
    /// If a tensor does not fit the device, or it fails.
    pub fn new(
        context: &Context,
        recording: Recording,
        options: Options,
        effort: Effort,
    ) -> Result<Workload, BenchError> {
        let plan = Plan::new(recording, &context.profile(), options)?;
        let operands = plan.nodes(Phase::Train).iter().flat_map(|node| node.entry.op.operands());
        let (read, written): (Vec<_>, Vec<_>) = operands.partition(|o| o.access != Access::Write);
        let read: Vec<(&str, View)> =
            read.iter().map(|o| (o.name, o.tensor)).filter(|(_, t)| !written.iter().any(|o| o.tensor == *t)).collect();
        let rows = written.iter().map(|o| o.tensor.rows()).max().unwrap_or(1);
        let seeds = plan.replicas();
        let mut gpu = Gpu::blocking(context.clone(), plan)?;
        for (name, tensor) in read {
            fill(&mut gpu, name, tensor)?;
        }
        let replica = |seed| ReplicaStep { seed, rate: [1e-3; 2], decay: [0.0; 2] };
        let step = StepState {
            step: 0,
            cursor: 0,
            active_rows: rows,
            groups: Default::default(),
            replicas: (0..seeds).map(replica).collect(),
        };
        // The first run pays for what the driver has put off.
        gpu.time(Phase::Train, &step, 1)?;
        let once = gpu.time(Phase::Train, &step, 1)?;
        let repetitions = (sample_seconds(context.clock(), effort) / once).clamp(1.0, MOST_REPETITIONS) as u32;
        Ok(Workload { gpu, step, repetitions })
    }

    /// Seconds of one run, the mean of so many in one submission.
    ///
    /// # Errors
    /// If the device fails.
    pub fn seconds(&mut self, repetitions: u32) -> Result<f64, BenchError> {
        Ok(self.gpu.time(Phase::Train, &self.step, repetitions)?)
    }

    /// Seconds of one run, from a sample of a fitting length.
    pub(super) fn sample(&mut self) -> Result<f64, BenchError> {
        self.seconds(self.repetitions)
    }

    /// Arithmetic and traffic of one run.
    pub fn cost(&self) -> Cost {
        self.gpu.plan().cost(Phase::Train, None)
    }

    /// Operations and their kernels, such as `gemm stream, gate`.
    pub(super) fn form(&self) -> String {
        let nodes = self.gpu.plan().nodes(Phase::Train).iter();
        nodes.map(|n| format!("{} {}", n.entry.op.name(), n.variant)).collect::<Vec<_>>().join(", ")
    }
}

/// Numbers that are neither zero nor alike, since a GPU spends less on those; positive, so that roots exist. Indices stay
/// within what they index, faults stay clear.
fn fill(gpu: &mut Blocking<Gpu>, operand: &str, tensor: View) -> Result<(), BenchError> {
    let count = tensor.shape.elements();
    // A multiplicative hash: neighbours are far apart.
    let hash = |index: usize| (index as u32).wrapping_mul(2_654_435_761);
    match tensor.dtype {
        Dtype::F32 => {
            let number = |i| 0.25 + f64::from(hash(i) >> 8) / f64::from(1u32 << 24);
            gpu.write(tensor, &(0..count).map(number).collect::<Vec<_>>())?;
        }
        Dtype::U8 => {
            let bytes: Vec<u8> = (0..count).map(|i| (hash(i) >> 24) as u8).collect();
            gpu.write_bytes(tensor, &bytes)?;
        }
        Dtype::U32 if operand == "permutation" => {
            let index = |i| f64::from(hash(i) % tensor.cols());
            gpu.write(tensor, &(0..count).map(index).collect::<Vec<_>>())?;
        }
        // Class 0 and no fault, as every state starts; a scratch tensor's memory may hold anything.
        Dtype::U32 => gpu.write(tensor, &vec![0.0; count])?,
    }
    Ok(())
}
