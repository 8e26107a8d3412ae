//! This repository's engine through its library.

use std::cell::RefCell;
use std::time::Duration;

use ldfa_gpu::gpu::{Context, DeviceChoice, Gpu, LimitPolicy, tune};
use ldfa_gpu::model::{Feed, Network, NetworkSpec, initialise};
use ldfa_gpu::ops::{Dtype, Gemm, Phase, Recording, StepState, View};
use ldfa_gpu::optim::{Horizon, step_state};
use ldfa_gpu::plan::{Blocking, Executor, Options, Plan, Tuned};
use ldfa_gpu::reference::Reference;
use ldfa_gpu::train::config::Config;

use crate::engine::{Engine, EngineError, guard};
use crate::product::{Product, UNITS};
use crate::workload::{SEED, Workload};

/// Opens the adapter anew, as every engine has a device of its own.
pub(crate) fn open(device: &DeviceChoice) -> Result<Context, EngineError> {
    Context::open(device, LimitPolicy::from_env()).map_err(EngineError::of)
}

/// Enough to measure every kernel at once, where a training spreads it over its first few processes.
const TUNING: Duration = Duration::from_secs(60);

/// The adapter, and the kernels measured on it so far. Nothing is read from the cache or kept there.
pub(crate) struct Bench {
    device: DeviceChoice,
    known: RefCell<Tuned>,
}

impl Bench {
    /// Nothing is measured yet.
    pub(crate) fn new(device: DeviceChoice) -> Bench {
        Bench { device, known: RefCell::default() }
    }

    fn build(&self, recording: Recording) -> Result<Blocking<Gpu>, EngineError> {
        let context = open(&self.device)?;
        let mut known = self.known.borrow_mut();
        let profile = context.profile();
        let plan = Plan::tuned(recording.clone(), &profile, Options::default(), &known).map_err(EngineError::of)?;
        let reference = |plan| Box::new(Reference::new(plan)) as Box<dyn Executor>;
        // As in a training, what cannot be measured keeps its default kernel; a device may be lost on the way.
        let context = match guard(|| {
            context.block_on(tune(&context, &plan, &known, TUNING, &reference)).map_err(EngineError::of)
        }) {
            Ok(measured) => {
                known.complete(&measured.tuned);
                context
            }
            Err(error) => {
                eprintln!("measuring kernels failed ({error}); the defaults are used");
                open(&self.device)?
            }
        };
        let plan = Plan::tuned(recording, &profile, Options::default(), &known).map_err(EngineError::of)?;
        Gpu::blocking(context, plan).map_err(EngineError::of)
    }
}

/// A network in training.
pub(crate) struct Training {
    gpu: Blocking<Gpu>,
    spec: NetworkSpec,
    metrics: View,
    /// Steps handed over before the host waits.
    units: usize,
    taken: u32,
    /// Sum of losses at the end of the last advance, and how much that advance added.
    sums: (f64, f64),
}

impl Training {
    /// Trains the workload's network as `config` says, waiting for the device after every `units` steps.
    pub(crate) fn new(
        bench: &Bench,
        workload: &Workload,
        config: &Config,
        units: usize,
    ) -> Result<Training, EngineError> {
        let spec = workload.model.spec(config);
        let network = Network::new(&spec).map_err(EngineError::of)?;
        let mut gpu = bench.build(network.recording.clone())?;
        let mut write = |tensor, values: &[f64]| gpu.write(tensor, values).map_err(EngineError::of);
        for (tensor, values) in initialise(&network, &spec.feedback, &[SEED]).map_err(EngineError::of)? {
            write(tensor, &values)?;
        }
        let Feed::Host { x, labels } = network.feed else {
            return Err(EngineError::Failed("the network was recorded with another feed than asked for".into()));
        };
        write(x, &workload.inputs.iter().map(|&v| f64::from(v)).collect::<Vec<_>>())?;
        write(labels, &workload.labels.iter().map(|&v| f64::from(v)).collect::<Vec<_>>())?;
        Ok(Training { gpu, spec, metrics: network.train_metrics, units, taken: 0, sums: (0.0, 0.0) })
    }
}

impl Engine for Training {
    fn units(&self) -> usize {
        self.units
    }

    /// Waits by reading the twelve bytes of metrics, which a training loop would also have to read.
    fn advance(&mut self) -> Result<(), EngineError> {
        let optimizers = [&self.spec.optimizer, &self.spec.feedback_optimizer];
        let horizon = Horizon { steps_per_epoch: 1, epochs: 1 };
        let steps: Vec<StepState> = (self.taken..self.taken + self.units as u32)
            .map(|step| step_state(optimizers, horizon, &[SEED], step, 0, self.spec.batch))
            .collect();
        self.taken += self.units as u32;
        self.gpu.run(Phase::Train, &steps).map_err(EngineError::of)?;
        let sum = self.gpu.read(self.metrics).map_err(EngineError::of)?[0];
        self.sums = (sum, sum - self.sums.0);
        Ok(())
    }

    fn observe(&mut self) -> Result<f64, EngineError> {
        Ok(self.sums.1 / (self.spec.batch as usize * self.units) as f64)
    }
}

/// A recording with nothing but one product, repeated.
pub(crate) struct Multiplication {
    gpu: Blocking<Gpu>,
    out: View,
    small: View,
    product: Product,
}

impl Multiplication {
    /// Allocates and fills the factors.
    pub(crate) fn new(bench: &Bench, product: Product) -> Result<Multiplication, EngineError> {
        let [rows, cols, inner] = [product.rows, product.cols, product.inner].map(|n| n as u32);
        let mut recording = Recording::new(1);
        // Read to wait for the device without reading the product.
        let small = recording.state("small", 1, 1, Dtype::F32);
        let a = recording.state("a", rows, inner, Dtype::F32);
        let b = if product.transposed { (cols, inner) } else { (inner, cols) };
        let b = recording.state("b", b.0, b.1, Dtype::F32);
        let out = recording.state("out", rows, cols, Dtype::F32);
        recording.begin(Phase::Train);
        let gemm = if product.transposed { Gemm::nt(a, b, out) } else { Gemm::nn(a, b, out) };
        recording.push(gemm).map_err(EngineError::of)?;
        let mut gpu = bench.build(recording)?;
        for (tensor, values) in [(a, product.a()), (b, product.b())] {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            gpu.write(tensor, &values).map_err(EngineError::of)?;
        }
        Ok(Multiplication { gpu, out, small, product })
    }
}

impl Engine for Multiplication {
    fn units(&self) -> usize {
        UNITS
    }

    fn advance(&mut self) -> Result<(), EngineError> {
        let step = StepState { step: 0, cursor: 0, active_rows: 1, groups: Default::default(), replicas: Vec::new() };
        self.gpu.run(Phase::Train, &vec![step; UNITS]).map_err(EngineError::of)?;
        self.gpu.read(self.small).map_err(EngineError::of)?;
        Ok(())
    }

    fn observe(&mut self) -> Result<f64, EngineError> {
        let out = self.gpu.read(self.out).map_err(EngineError::of)?;
        Ok(self.product.project(out.into_iter()))
    }
}
