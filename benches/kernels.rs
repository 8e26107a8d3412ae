//! Kernels by shape, on the best adapter, with criterion's statistics; `ldfa-gpu bench kernels` has the full table, as
//! ratios. Compare rows of one run with each other; machines are noisy.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ldfa_gpu::bench::{Effort, Form, Workload, product, transport};
use ldfa_gpu::gpu::{Context, DeviceChoice, LimitPolicy};
use ldfa_gpu::ops::{Phase, Recording};
use ldfa_gpu::plan::{Options, candidates};

fn open() -> Context {
    Context::open(&DeviceChoice::Best, LimitPolicy::from_env()).expect("an adapter")
}

fn measure(criterion: &mut Criterion, group: &str, id: BenchmarkId, recording: Recording, options: Options) {
    let mut workload = Workload::new(&open(), recording, options, Effort::Full).expect("a device that runs");
    let mut group = criterion.benchmark_group(group);
    group.throughput(Throughput::Elements(workload.cost().flops));
    group.bench_function(id, |bencher| {
        bencher.iter_custom(|runs| {
            let seconds = workload.seconds(u32::try_from(runs).unwrap_or(u32::MAX)).expect("a device that runs");
            Duration::from_secs_f64(seconds * runs as f64)
        });
    });
}

fn gemms(criterion: &mut Criterion) {
    for sizes in [[128, 256, 784], [512, 512, 512], [128, 10, 256]] {
        let recording = product(sizes, "nt", None).expect("shapes that meet");
        for variant in candidates(&recording.entries(Phase::Train)[0].op, &open().profile()) {
            let options = Options { force: Some(variant), ..Options::default() };
            let id = BenchmarkId::new(variant.to_string(), format!("{sizes:?}"));
            measure(criterion, "gemm", id, recording.clone(), options);
        }
    }
}

fn transports(criterion: &mut Criterion) {
    for sizes in [[32, 128, 10], [512, 512, 16]] {
        for form in [Form::Fused, Form::Split, Form::Recorded] {
            let recording = transport(sizes, form).expect("shapes that meet");
            let id = BenchmarkId::new(format!("{form:?}").to_lowercase(), format!("{sizes:?}"));
            measure(criterion, "transport", id, recording, Options { fuse: false, ..Options::default() });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(2));
    targets = gemms, transports
}
criterion_main!(benches);
