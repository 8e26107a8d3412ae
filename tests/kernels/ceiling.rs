//! The operations that measure an adapter's ceilings.

use ldfa_gpu::gpu::Gpu;
use ldfa_gpu::ops::*;
use ldfa_gpu::plan::{Blocking, Options, Plan, Profile};
use ldfa_gpu::reference::Reference;

use crate::compare::{Report, roundings, sums};
use crate::scene::{asymmetric, open, step};

/// The kernels read and write four elements at once, so these tensors are not windows at odd places.
#[test]
fn chains_and_copies() {
    let mut report = Report::default();
    for (replicas, rows, cols, length) in [(1, 1, 4, 8), (1, 3, 1024, 0), (2, 33, 100, 64), (3, 65, 256, 1024)] {
        let mut recording = Recording::new(replicas);
        let x = recording.state("x", rows, cols, Dtype::F32);
        let chained = recording.state("chained", rows, cols, Dtype::F32);
        let copied = recording.state("copied", rows, cols, Dtype::F32);
        recording.begin(Phase::Train);
        recording.push(Chain { x, out: chained, length }).unwrap();
        recording.push(Duplicate { x, out: copied }).unwrap();
        let plan = |profile: &Profile| Plan::new(recording.clone(), profile, Options::default()).unwrap();
        let context = open();
        let mut gpu = Gpu::blocking(context.clone(), plan(&context.profile())).unwrap();
        let mut reference = Blocking::new(Reference::new(plan(&Profile::reference())));
        let per_replica = rows * cols;
        let value = |i: u32| asymmetric(0.0, i / per_replica, i % per_replica / cols, i % cols);
        let values: Vec<f64> = (0..replicas * per_replica).map(|i| f64::from(value(i) as f32)).collect();
        let executors: [&mut Blocking; 2] = [&mut gpu, &mut reference];
        for executor in executors {
            executor.write(x, &values).unwrap();
            for out in [chained, copied] {
                executor.write(out, &vec![1e6; values.len()]).unwrap();
            }
            executor.run(Phase::Train, &[step(replicas, 0, 0, 1)]).unwrap();
        }
        let expected = reference.read(chained).unwrap();
        // Every application rounds a value of about one, where the result may be smaller.
        let allowed = roundings(2.0) + 4.0 * sums(length);
        report.near(&format!("chain of {length}"), &gpu.read(chained).unwrap(), &expected, allowed);
        report.same("copy", &gpu.read(copied).unwrap(), &values);
    }
    report.finish("ceilings");
}
