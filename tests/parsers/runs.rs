//! What runs leave and take: checkpoints, weights, logs, summaries, kernels.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;

use ldfa_gpu::gpu::{AdapterKey, Cache};
use ldfa_gpu::ops::{Dtype, Gemm, Recording};
use ldfa_gpu::plan::{Profile, ShapeClass, Tuned, Variant};
use ldfa_gpu::train::checkpoint::{Checkpoint, CheckpointMeta, Origin, Values, read_weights, write_weights};
use ldfa_gpu::train::config::{Config, Draft};
use ldfa_gpu::train::metrics::{AlignmentRow, DepthRow, LagRow, Log, MetricsRow, Row, SpectrumRow};
use ldfa_gpu::train::run_dir::RunDir;
use ldfa_gpu::train::summary::{RankSummary, ReplicaSummary, Summary};
use ldfa_gpu::train::trainer::recorded_kernels;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tempfile::TempDir;

use crate::MOST;
use crate::mutate::{changed, changes};
use crate::watch::{run, within};

#[test]
fn a_changed_checkpoint_is_refused_or_the_same() {
    let meta = CheckpointMeta {
        program_version: "0.1.0".into(),
        origin: Origin { config: Some("ab12".repeat(16)), data: Some("cd34".repeat(16)), together: "ef56".repeat(16) },
        step: 1234,
        steps: vec![1234, 1190],
        seconds: 12.5,
    };
    let floats: Vec<f32> = (0..200).map(|i| (i as f32).sin()).collect();
    let tensors = vec![
        ("weights.values".to_owned(), vec![2, 10, 10], Values::F32(floats)),
        ("sums".to_owned(), vec![1, 1, 3], Values::F64(vec![0.1, 0.2, 0.3])),
        ("train.fault".to_owned(), vec![2, 1, 1], Values::U32(vec![0, 7])),
    ];
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("last.safetensors");
    Checkpoint { meta, tensors }.save(&path).unwrap();
    let (whole, original) = (std::fs::read(&path).unwrap(), Checkpoint::load(&path).unwrap());
    run("checkpoint", &changes(), |changes| {
        let bytes = changed(&whole, &changes);
        std::fs::write(&path, &bytes).unwrap();
        let parsed = within(bytes.len(), MOST, || Checkpoint::load(&path))?;
        let passed = parsed.is_ok();
        match parsed {
            Ok(loaded) => prop_assert_eq!(&loaded, &original),
            Err(error) => prop_assert!(error.to_string().contains("last.safetensors"), "{error}"),
        }
        Ok(passed)
    });
}

#[test]
fn changed_weights_are_refused_or_read() {
    let folder = TempDir::new().unwrap();
    let (path, again) = (folder.path().join("w.safetensors"), folder.path().join("again.safetensors"));
    let weights = vec![
        ("layers.0.weight".to_owned(), vec![40, 30], (0..1200).map(|i| i as f32).collect::<Vec<f32>>()),
        ("layers.0.bias".to_owned(), vec![4], vec![0.5; 4]),
        ("scalar".to_owned(), vec![], vec![1.5]),
    ];
    write_weights(&path, &weights).unwrap();
    let whole = std::fs::read(&path).unwrap();
    run("weights", &changes(), |changes| {
        let bytes = changed(&whole, &changes);
        std::fs::write(&path, &bytes).unwrap();
        let parsed = within(bytes.len(), MOST, || read_weights(&path))?;
        let passed = parsed.is_ok();
        match parsed {
            Ok(read) => {
                prop_assert!(read.iter().flat_map(|(_, _, values)| values).all(|value| value.is_finite()));
                write_weights(&again, &read).map_err(|e| TestCaseError::fail(e.to_string()))?;
                prop_assert_eq!(read, read_weights(&again).unwrap());
            }
            Err(error) => prop_assert!(error.to_string().contains("w.safetensors"), "{error}"),
        }
        Ok(passed)
    });
}

/// Numbers that are none are not equal to themselves; their text is.
fn text(rows: &impl Debug) -> String {
    format!("{rows:?}")
}

fn log<R: Row + Debug>(path: &Path, config: &Config, bytes: &[u8]) -> Result<bool, TestCaseError> {
    std::fs::write(path, bytes).unwrap();
    let parsed = within(bytes.len(), MOST, || Log::<R>::read(path, config))?;
    let passed = parsed.is_ok();
    match parsed {
        Ok(rows) => {
            let again = path.with_extension("again");
            Log::create(&again, &rows).unwrap();
            let back = Log::<R>::read(&again, config).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(text(&rows), text(&back));
        }
        Err(error) => prop_assert!(error.to_string().contains(path.to_str().unwrap()), "{error}"),
    }
    Ok(passed)
}

#[test]
fn changed_logs_are_refused_or_written_back() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let names = ["metrics.csv", "alignment.csv", "spectrum.csv", "depth.csv", "lags.csv"];
    let [metrics, alignment, spectrum, depth, lags] = names.map(path);
    let mut draft = Draft::open("digits").unwrap();
    for (key, value) in [("feedback.rank", "[4, \"n/8\"]"), ("train.seeds", "1"), ("train.seed", "7")] {
        draft.set(key, value).unwrap();
    }
    let config = draft.finish().unwrap();
    let rank = |replica: u32| Some(if replica == 0 { 4.into() } else { "n/8".parse().unwrap() });
    let places = || (1..4u32).flat_map(|epoch| (0..2u32).map(move |replica| (epoch, epoch * 44, replica, 7)));
    let rows: Vec<MetricsRow> = places()
        .map(|(epoch, step, replica, seed)| MetricsRow {
            epoch,
            step,
            replica,
            seed,
            rank: rank(replica),
            train_loss: 1.0 / f64::from(epoch),
            train_accuracy: 0.5,
            test_loss: 0.3,
            test_accuracy: 0.25 * f64::from(epoch),
            seconds: 1.5 * f64::from(epoch),
        })
        .collect();
    Log::create(&metrics, &rows).unwrap();
    let rows: Vec<AlignmentRow> = places()
        .map(|(epoch, step, replica, seed)| AlignmentRow {
            epoch,
            step,
            replica,
            seed,
            rank: rank(replica),
            layer: "layers.2".into(),
            angle_degrees: Some(45.5),
            norm_ratio: None,
            captured_energy: Some(0.5),
            orthonormality_error: None,
        })
        .collect();
    Log::create(&alignment, &rows).unwrap();
    let rows: Vec<SpectrumRow> = places()
        .map(|(epoch, step, replica, seed)| SpectrumRow {
            epoch,
            step,
            replica,
            seed,
            rank: rank(replica),
            layer: "layers.2".into(),
            variance: 1e-3,
            effective_dimension: 3.25,
            shares: "0.5 0.25 0.125".into(),
        })
        .collect();
    Log::create(&spectrum, &rows).unwrap();
    let rows: Vec<DepthRow> = places()
        .map(|(epoch, step, replica, seed)| DepthRow {
            epoch,
            step,
            replica,
            seed,
            rank: rank(replica),
            layer: "layers.2".into(),
            growth: None,
            long_share: None,
            error_rms: Some(1e-30),
            gradient_cosine: Some(-0.25),
        })
        .collect();
    Log::create(&depth, &rows).unwrap();
    let rows: Vec<LagRow> = places()
        .flat_map(|place| (0..3).map(move |lag| (place, lag)))
        .map(|((epoch, step, replica, seed), lag)| LagRow {
            epoch,
            step,
            replica,
            seed,
            rank: rank(replica),
            layer: "layers.1.hh".into(),
            lag,
            error_rms: Some(1e-30),
            effective_dimension: (lag < 2).then_some(1.5),
        })
        .collect();
    Log::create(&lags, &rows).unwrap();
    let whole = [&metrics, &alignment, &spectrum, &depth, &lags].map(|path| std::fs::read(path).unwrap());
    run("log", &(0..5usize, changes()), |(which, changes)| {
        let bytes = changed(&whole[which], &changes);
        match which {
            0 => log::<MetricsRow>(&metrics, &config, &bytes),
            1 => log::<AlignmentRow>(&alignment, &config, &bytes),
            2 => log::<SpectrumRow>(&spectrum, &config, &bytes),
            3 => log::<DepthRow>(&depth, &config, &bytes),
            _ => log::<LagRow>(&lags, &config, &bytes),
        }
    });
}

#[test]
fn changed_summaries_are_refused_or_written_back() {
    let replica = |seed| ReplicaSummary {
        replica: seed,
        seed,
        rank: Some(4.into()),
        last_epoch: 3,
        last_train_loss: 0.25,
        last_test_loss: 0.5,
        last_test_accuracy: 0.75,
        best_test_accuracy: 0.8,
        best_epoch: 2,
    };
    let rank = RankSummary {
        rank: Some(4.into()),
        n: 2,
        mean_last: 0.75,
        std_last: Some(0.1),
        mean_best: 0.8,
        std_best: None,
    };
    let summary = Summary {
        rule: "local".into(),
        preset: "digits".into(),
        adapter: "reference".into(),
        version: "0.1.0".into(),
        config_hash: "12ab".repeat(16),
        steps: 132,
        epochs: 3,
        seconds: 4.5,
        test_images: Some(360),
        parameters: 42_000,
        flops_per_step: BTreeMap::from([("forward".into(), 12_345_678)]),
        replicas: vec![replica(0), replica(1)],
        by_rank: vec![rank],
    };
    let folder = TempDir::new().unwrap();
    let (path, again) = (folder.path().join("summary.json"), folder.path().join("again.json"));
    summary.write(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    run("summary", &changes(), |changes| {
        let bytes = changed(&whole, &changes);
        std::fs::write(&path, &bytes).unwrap();
        let parsed = within(bytes.len(), MOST, || Summary::read(&path))?;
        let passed = parsed.is_ok();
        match parsed {
            Ok(read) => {
                read.write(&again).map_err(|e| TestCaseError::fail(e.to_string()))?;
                let back = Summary::read(&again).map_err(|e| TestCaseError::fail(e.to_string()))?;
                prop_assert_eq!(text(&read), text(&back));
            }
            Err(error) => prop_assert!(error.to_string().contains("summary.json"), "{error}"),
        }
        Ok(passed)
    });
}

/// Choices for two classes of products.
fn tuned() -> Tuned {
    let mut tuned = Tuned::default();
    for (rows, variant) in [(64, Variant::Tile64x64), (16, Variant::Tile16x64)] {
        let mut recording = Recording::new(1);
        let mut state = |name, rows, cols| recording.state(name, rows, cols, Dtype::F32);
        let (a, b, out) = (state("a", rows, 32), state("b", 32, 64), state("out", rows, 64));
        tuned.insert(ShapeClass::of(&Gemm::nn(a, b, out).into()), variant);
    }
    tuned
}

#[test]
fn a_changed_cache_is_the_same_or_left_alone() {
    let folder = TempDir::new().unwrap();
    let cache = Cache::at(folder.path());
    let info = wgpu::AdapterInfo::new(wgpu::DeviceType::Cpu, wgpu::Backend::Vulkan);
    let key = AdapterKey::of(&info, &Profile::reference());
    let original = cache.add_kernels(&key, &tuned());
    let path = cache.kernels(&key);
    let whole = std::fs::read(&path).unwrap();
    assert_eq!(cache.load_kernels(&key), tuned());
    run("cache", &changes(), |changes| {
        let bytes = changed(&whole, &changes);
        std::fs::write(&path, &bytes).unwrap();
        let loaded = within(bytes.len(), MOST, || cache.load_kernels(&key))?;
        prop_assert!(loaded.is_empty() || loaded == original, "{loaded:?}");
        prop_assert_eq!(std::fs::read(&path).unwrap(), bytes);
        Ok(!loaded.is_empty())
    });
}

#[test]
fn changed_kernels_of_a_run_are_refused_or_the_same() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("config.toml"), "").unwrap();
    let run_dir = RunDir::open(folder.path()).unwrap();
    let whole = tuned().to_text("an adapter");
    run("kernels", &changes(), |changes| {
        let bytes = changed(whole.as_bytes(), &changes);
        std::fs::write(run_dir.kernels(), &bytes).unwrap();
        let parsed = within(bytes.len(), MOST, || recorded_kernels(&run_dir))?;
        let passed = parsed.is_ok();
        match parsed {
            Ok(read) => prop_assert_eq!(read, tuned()),
            Err(error) => {
                let name = run_dir.kernels();
                prop_assert!(error.to_string().contains(name.to_str().unwrap()), "{error}");
            }
        }
        Ok(passed)
    });
}
