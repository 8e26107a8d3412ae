//! Measured kernels in whole runs: what a cache decides, what a run records, what damage costs.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use ldfa_gpu::data::{self, Dataset, SearchPath};
use ldfa_gpu::gpu::{Cache, Context, DeviceChoice, LimitPolicy};
use ldfa_gpu::ops::Phase;
use ldfa_gpu::plan::{Options, Plan, ShapeClass, Tuned, Variant, candidates};
use ldfa_gpu::train::TrainError;
use ldfa_gpu::train::config::{Config, Draft};
use ldfa_gpu::train::machine::{Kernels, Preparation};
use ldfa_gpu::train::run_dir::RunDir;
use ldfa_gpu::train::session::Session;
use ldfa_gpu::train::trainer::recorded_kernels;
use tempfile::TempDir;

const CONFIGURATION: [&str; 5] = ["digits", "--seeds", "1", "--epochs", "1"];

fn config() -> Config {
    let mut draft = Draft::open("digits").unwrap();
    draft.set("train.seeds", "1").unwrap();
    draft.set("train.epochs", "1").unwrap();
    draft.finish().unwrap()
}

fn digits() -> Dataset {
    data::open("digits", &SearchPath::from_env(None)).unwrap()
}

fn context() -> Context {
    Context::open(&DeviceChoice::Best, LimitPolicy::from_env())
        .unwrap_or_else(|e| panic!("these tests need an adapter: {e}"))
}

fn session(kernels: Kernels) -> Session {
    let preparation = Preparation { kernels, cache: None };
    Session::prepared(config(), &digits(), &DeviceChoice::Best, Options::default(), &preparation).unwrap()
}

/// Variants of the training step.
fn variants(plan: &Plan) -> Vec<Variant> {
    plan.nodes(Phase::Train).iter().map(|node| node.variant).collect()
}

/// For every operation with a choice, one that is not the default.
fn contrary(plan: &Plan) -> Tuned {
    let profile = context().profile();
    let mut tuned = Tuned::default();
    for node in Phase::ALL.iter().flat_map(|phase| plan.nodes(*phase)) {
        let all = candidates(&node.entry.op, &profile);
        if let Some(other) = all.into_iter().find(|variant| *variant != node.variant) {
            tuned.insert(ShapeClass::of(&node.entry.op), other);
        }
    }
    assert!(!tuned.is_empty(), "there is no choice to test");
    tuned
}

fn program(cache: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ldfa-gpu"));
    command.env("LDFA_CACHE", cache).env("LDFA_LOG", "error,wgpu_hal=off,ldfa_gpu=debug").stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}\n{}", text(&output.stdout), text(&output.stderr));
    output
}

fn train(cache: &Path, out: &Path, more: &[&str]) -> Output {
    succeeds(program(cache).arg("train").args(CONFIGURATION).args(more).arg("--out").arg(out))
}

/// The variant column of `explain`.
fn explained(cache: &Path, more: &[&str]) -> String {
    text(&succeeds(program(cache).arg("explain").args(CONFIGURATION).args(more)).stdout)
}

fn weights(cache: &Path, run: &Path) -> Vec<u8> {
    let file = run.join("exported.safetensors");
    succeeds(program(cache).arg("export").arg(run).arg("-o").arg(&file));
    std::fs::read(file).unwrap()
}

#[test]
fn a_run_records_its_kernels_and_goes_on_with_them_whatever_the_cache_says_later() {
    let folder = TempDir::new().unwrap();
    let (cache, none) = (folder.path().join("cache"), folder.path().join("none"));
    let default = session(Kernels::Defaults);
    let choices = contrary(default.plan());
    let (key, count) = (context().key(), choices.len());
    assert_eq!(Cache::at(&cache).add_kernels(&key, &choices), choices);

    let whole = folder.path().join("whole");
    let chosen = format!("chosen_kernels={count}");
    let output = train(&cache, &whole, &["--max-steps", "20"]);
    assert!(text(&output.stderr).contains("kernels known"), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains(&chosen), "{}", text(&output.stderr));
    assert_eq!(recorded_kernels(&RunDir::open(&whole).unwrap()).unwrap(), choices);

    let parts = folder.path().join("parts");
    train(&cache, &parts, &["--max-steps", "7"]);
    let resumed = succeeds(program(&none).args(["train", "--max-steps", "20", "--resume"]).arg(&parts));
    assert!(text(&resumed.stderr).contains(&chosen), "{}", text(&resumed.stderr));
    assert_eq!(recorded_kernels(&RunDir::open(&parts).unwrap()).unwrap(), choices);
    assert_eq!(weights(&cache, &whole), weights(&none, &parts));
    assert_eq!(Cache::at(&none).load_kernels(&key), Tuned::default(), "a resumed run measures nothing");

    let again = session(Kernels::Chosen(choices.clone()));
    assert_eq!(again.kernels, choices);
    let pairs = variants(default.plan()).into_iter().zip(variants(again.plan()));
    let nodes = default.plan().nodes(Phase::Train).iter();
    for ((before, after), node) in pairs.zip(nodes) {
        assert_eq!(after, choices.get(&ShapeClass::of(&node.entry.op)).unwrap_or(before));
    }
}

#[test]
fn without_tuning_the_cache_decides_nothing() {
    let folder = TempDir::new().unwrap();
    let (cache, none) = (folder.path().join("cache"), Path::new(""));
    let choices = contrary(session(Kernels::Defaults).plan());
    Cache::at(&cache).add_kernels(&context().key(), &choices);
    let defaults = explained(none, &["--no-tune"]);
    assert_eq!(explained(&cache, &["--no-tune"]), defaults);
    assert_eq!(explained(none, &[]), defaults, "nothing is measured where it cannot be kept");
    assert_ne!(explained(&cache, &[]), defaults);
    train(&cache, &folder.path().join("run"), &["--no-tune", "--max-steps", "1"]);
    let run = RunDir::open(&folder.path().join("run")).unwrap();
    assert!(recorded_kernels(&run).unwrap().is_empty());
    // Without its record nobody knows: a run from before there was any says --no-tune, for it began with the defaults.
    std::fs::remove_file(run.kernels()).unwrap();
    assert!(matches!(recorded_kernels(&run), Err(TrainError::NoKernels(_))));
}

#[test]
fn what_was_measured_is_used_again_and_verifies() {
    let folder = TempDir::new().unwrap();
    let cache = folder.path().join("cache");
    let mut attempts = 0;
    while !text(&succeeds(program(&cache).arg("explain").args(CONFIGURATION)).stderr).contains("kernels known") {
        attempts += 1;
        assert!(attempts < 100, "every process measures at least one class, and there are not so many");
    }
    assert!(attempts > 0, "an empty cache knows nothing");
    assert_eq!(explained(&cache, &[]), explained(&cache, &[]));
    let verified = text(&succeeds(program(&cache).arg("verify").args(CONFIGURATION)).stdout);
    assert!(verified.contains(" 0 beyond their allowance"), "{verified}");
    let devices = text(&succeeds(program(&cache).arg("devices")).stdout);
    let file = Cache::at(&cache).kernels(&context().key());
    assert!(file.is_file());
    assert!(devices.contains(&format!("kernels     {}\n", file.display())), "{devices}");
}

#[test]
fn two_processes_that_measure_at_once_leave_a_whole_file() {
    let folder = TempDir::new().unwrap();
    let start = || {
        let mut command = program(folder.path());
        command.arg("explain").args(CONFIGURATION).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let (mut one, mut other) = (start(), start());
    assert!(one.wait().unwrap().success() && other.wait().unwrap().success());
    let text = std::fs::read_to_string(Cache::at(folder.path()).kernels(&context().key())).unwrap();
    let (origin, tuned) = Tuned::from_text(&text).unwrap();
    assert_eq!(origin, context().key().to_string());
    assert!(!tuned.is_empty());
}

#[test]
fn a_damaged_cache_costs_a_warning() {
    let folder = TempDir::new().unwrap();
    let cache = Cache::at(folder.path());
    let key = context().key();
    let choices = contrary(session(Kernels::Defaults).plan());
    cache.add_kernels(&key, &choices);
    let mut bytes = std::fs::read(cache.kernels(&key)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(cache.kernels(&key), &bytes).unwrap();
    let warned = text(&succeeds(program(folder.path()).arg("explain").args(CONFIGURATION)).stderr);
    assert!(warned.contains("WARN") && warned.contains("is ignored: it is damaged"), "{warned}");
    assert!(!cache.load_kernels(&key).is_empty(), "it is replaced");
}

#[test]
fn a_cache_that_cannot_be_written_costs_a_warning() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let warned = text(&train(&file.join("below"), &folder.path().join("run"), &["--max-steps", "1"]).stderr);
    assert!(warned.contains("WARN") && warned.contains("LDFA_CACHE"), "{warned}");
}

#[test]
fn a_damaged_record_of_a_run_is_an_error_with_a_remedy() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("run");
    train(Path::new(""), &path, &["--max-steps", "1"]);
    let run = RunDir::open(&path).unwrap();
    let mut bytes = std::fs::read(run.kernels()).unwrap();
    bytes[30] ^= 1;
    std::fs::write(run.kernels(), bytes).unwrap();
    assert!(matches!(recorded_kernels(&run), Err(TrainError::Kernels { .. })));
    for command in ["eval", "export"] {
        let mut process = program(Path::new(""));
        process.arg(command).arg(&path);
        if command == "export" {
            process.arg("-o").arg(folder.path().join("out.safetensors"));
        }
        let output = process.output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("kernels.toml") && stderr.contains("--no-tune"), "{stderr}");
    }
    std::fs::remove_file(run.kernels()).unwrap();
    assert!(matches!(recorded_kernels(&run), Err(TrainError::NoKernels(_))));
    succeeds(program(Path::new("")).args(["train", "--no-tune", "--resume"]).arg(&path));
    assert_eq!(recorded_kernels(&run).unwrap(), Tuned::default());
    succeeds(program(Path::new("")).arg("eval").arg(&path));
}
