//! Kernels by shape, on the best adapter. Compare rows of one run with each other; machines are noisy.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ldfa_gpu::gpu::{Context, DeviceChoice, Gpu, LimitPolicy};
use ldfa_gpu::ops::{Dtype, Epilogue, Gemm, Phase, Recording, StepState, Tensor};
use ldfa_gpu::plan::{Executor, Options, Plan, Variant};

/// Steps of one timed submission, so that submitting hardly counts.
const STEPS: usize = 16;

/// A recording on the device with one of its states, to wait for by reading it.
fn prepare(recording: Recording, options: Options, small: Tensor) -> (Gpu, Tensor, u64) {
    let context = Context::open(&DeviceChoice::Best, LimitPolicy::from_env()).expect("an adapter");
    let plan = Plan::new(recording, &context.profile(), options).expect("a plan that fits");
    let flops = plan.cost(Phase::Train, None).flops * STEPS as u64;
    (Gpu::new(context, plan).expect("kernels that build"), small, flops)
}

fn run(gpu: &mut Gpu, small: Tensor) {
    let step = StepState { step: 0, cursor: 0, active_rows: 1, groups: Default::default(), replicas: Vec::new() };
    gpu.run(Phase::Train, &vec![step; STEPS]).expect("a device that runs");
    gpu.read(small).expect("a device that answers");
}

fn gemms(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gemm");
    for (rows, cols, inner) in [(128, 256, 784), (256, 256, 256), (128, 10, 256)] {
        for variant in [Variant::Tile, Variant::Stream] {
            let mut recording = Recording::new(1);
            let small = recording.state("small", 1, 1, Dtype::F32);
            let a = recording.state("a", rows, inner, Dtype::F32);
            let b = recording.state("b", cols, inner, Dtype::F32);
            recording.begin(Phase::Train);
            let out = recording.scratch("out", rows, cols);
            recording.push(Gemm::nt(a, b, out)).expect("shapes that meet");
            let options = Options { force: Some(variant), ..Options::default() };
            let (mut gpu, small, flops) = prepare(recording, options, small);
            group.throughput(Throughput::Elements(flops));
            let shape = format!("{rows}x{cols}x{inner}");
            group.bench_function(BenchmarkId::new(variant.to_string(), shape), |b| b.iter(|| run(&mut gpu, small)));
        }
    }
}

fn transports(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("transport");
    for (rows, width, rank) in [(32, 128, 10), (512, 512, 16)] {
        for (name, fuse) in [("fused", true), ("unfused", false)] {
            let mut recording = Recording::new(1);
            let small = recording.state("small", 1, 1, Dtype::F32);
            let delta = recording.state("delta", rows, width, Dtype::F32);
            let p = recording.state("p", width, rank, Dtype::F32);
            let q = recording.state("q", rank, width, Dtype::F32);
            recording.begin(Phase::Train);
            recording.role(ldfa_gpu::ops::Role::Transport);
            let y = recording.scratch("y", rows, rank);
            let out = recording.scratch("out", rows, width);
            recording.push(Gemm::nn(delta, p, y)).expect("shapes that meet");
            let epilogue = Epilogue { clamp: Some(1.0), ..Epilogue::default() };
            recording.push(Gemm { epilogue, ..Gemm::nn(y, q, out) }).expect("shapes that meet");
            let (mut gpu, small, flops) = prepare(recording, Options { fuse, ..Options::default() }, small);
            group.throughput(Throughput::Elements(flops));
            let shape = format!("{rows}x{width} r={rank}");
            group.bench_function(BenchmarkId::new(name, shape), |b| b.iter(|| run(&mut gpu, small)));
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = gemms, transports
}
criterion_main!(benches);
