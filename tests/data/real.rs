//! The published sets, against the numbers that are published about them.

use std::path::PathBuf;

use ldfa_gpu::data::{Dataset, ImageShape, SearchPath, open};

fn load(name: &str) -> Dataset {
    let root = std::env::var_os("LDFA_DATA").unwrap_or_else(|| {
        panic!(
            "this test reads the real `{name}`: run `ldfa-gpu data fetch {name} --data-dir FOLDER`, \
             then set LDFA_DATA to FOLDER"
        )
    });
    open(name, &SearchPath::new(vec![PathBuf::from(root)])).unwrap_or_else(|error| panic!("{error}"))
}

/// Mean and standard deviation with pixels divided by 255, to the digits published.
fn assert_statistics(set: &Dataset, mean: &[f64], std: &[f64], digits: i32) {
    let statistics = set.channel_statistics();
    for (found, published) in [(&statistics.mean, mean), (&statistics.std, std)] {
        assert_eq!(found.len(), published.len());
        for (found, published) in found.iter().zip(published) {
            assert!((found / 255.0 - published).abs() <= 0.51 * 10f64.powi(-digits), "{found} {published}");
        }
    }
}

const GREY: ImageShape = ImageShape { height: 28, width: 28, channels: 1 };

#[test]
fn mnist() {
    let set = load("mnist");
    assert_eq!((set.shape, set.train.len(), set.test.len()), (GREY, 60_000, 10_000));
    assert_statistics(&set, &[0.1307], &[0.3081], 4);
    let train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949];
    let test = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009];
    assert_eq!(set.class_histogram(&set.train), train);
    assert_eq!(set.class_histogram(&set.test), test);
    assert_eq!(set.train.labels[..5], [5, 0, 4, 1, 9]);
    assert_eq!(set.checksum, "301446c9f56cd34f095a32eca3b148f28019738c7d003db848f7574dc75c94f8");
}

#[test]
fn fashion_mnist() {
    let set = load("fashion-mnist");
    assert_eq!((set.shape, set.train.len(), set.test.len()), (GREY, 60_000, 10_000));
    assert_statistics(&set, &[0.2860], &[0.3530], 4);
    assert_eq!(set.class_histogram(&set.train), [6000; 10]);
    assert_eq!(set.class_histogram(&set.test), [1000; 10]);
    assert_eq!((set.classes[0].as_str(), set.classes[9].as_str()), ("T-shirt/top", "Ankle boot"));
    assert_eq!(set.checksum, "3326ed47508b115e894c43722b0dd5422f970c6c08cd661525ba07ef43e939e7");
}

#[test]
fn cifar10() {
    let set = load("cifar10");
    let shape = ImageShape { height: 32, width: 32, channels: 3 };
    assert_eq!((set.shape, set.train.len(), set.test.len()), (shape, 50_000, 10_000));
    assert_statistics(&set, &[0.49140, 0.48216, 0.44653], &[0.24703, 0.24349, 0.26159], 5);
    assert_eq!(set.class_histogram(&set.train), [5000; 10]);
    assert_eq!(set.class_histogram(&set.test), [1000; 10]);
    assert_eq!(set.classes[..3], ["airplane", "automobile", "bird"]);
    assert_eq!(set.train.labels[..3], [6, 9, 9]);
    assert_eq!(set.checksum, "f4fc8bc3e34d0a3674820f3f9e8b3ff16e4de225af0fe17caba7a0b6c5e25fc0");
}

/// CIFAR-10 is larger than a shard, so a batch is gathered from several tensors.
#[test]
fn a_step_on_cifar10_holds_operation_by_operation() {
    load("cifar10");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ldfa-gpu"));
    let output = command.args(["verify", "cifar10-mlp"]).env("LDFA_CACHE", "").output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.matches("gather").count() >= 2 && printed.contains(" 0 beyond their allowance"), "{printed}");
}
