//! Whole runs of the program on the embedded digits: accuracy by rule, determinism, stopping and resuming.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use safetensors::SafeTensors;
use tempfile::TempDir;

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ldfa-gpu"));
    // Without a cache nothing is measured: all runs use the same kernels, and leave the user's cache alone.
    command.env("LDFA_CACHE", "").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn finish(child: Child) -> Output {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    output
}

/// Trains digits into a folder.
fn train(out: &Path, arguments: &[&str]) -> PathBuf {
    finish(program().args(["train", "digits", "--out"]).arg(out).args(arguments).spawn().unwrap());
    out.to_owned()
}

fn resume(run: &Path, arguments: &[&str]) {
    finish(program().args(["train", "--resume"]).arg(run).args(arguments).spawn().unwrap());
}

/// The weights of one replica as `export` writes them: name, shape and bytes of every tensor.
fn weights(run: &Path, replica: usize) -> Vec<(String, Vec<usize>, Vec<u8>)> {
    exported(run, replica, &[])
}

fn exported(run: &Path, replica: usize, arguments: &[&str]) -> Vec<(String, Vec<usize>, Vec<u8>)> {
    let file = run.join(format!("exported-{replica}.safetensors"));
    let replica = replica.to_string();
    let export = ["--replica", &replica, "-o"];
    finish(program().arg("export").arg(run).args(export).arg(&file).args(arguments).spawn().unwrap());
    let bytes = std::fs::read(&file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut list: Vec<_> =
        tensors.iter().map(|(name, view)| (name.to_owned(), view.shape().to_vec(), view.data().to_vec())).collect();
    list.sort();
    assert!(list.len() >= 4, "two layers or more with weight and bias");
    list
}

fn summary(run: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(run.join("summary.json")).unwrap()).unwrap()
}

/// What the lines of a log are of, without their measures: epoch, step, replica, and layer if there is one.
fn subjects(run: &Path, log: &str, columns: &[usize]) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(run.join(log)).unwrap();
    let line = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        columns.iter().map(|&column| cells[column].to_owned()).collect()
    };
    text.lines().skip(1).map(line).collect()
}

/// Mean last test accuracy of a run in percent.
fn accuracy(run: &Path) -> f64 {
    let summary = summary(run);
    let ranks = summary["by_rank"].as_array().unwrap();
    assert_eq!((ranks.len(), &ranks[0]["n"]), (1, &serde_json::json!(3)), "one rank, three seeds");
    100.0 * ranks[0]["mean_last"].as_f64().unwrap()
}

#[test]
fn every_rule_reaches_its_accuracy_on_digits() {
    let folder = TempDir::new().unwrap();
    let run = |name: &str, arguments: &[&str]| accuracy(&train(&folder.path().join(name), arguments));
    let backprop = run("backprop", &["--rule", "backprop"]);
    let normative = run("normative", &["--p", "normative", "--q", "normative", "--rank", "10"]);
    let local = run("local", &["--p", "oja", "--q", "hebbian", "--rank", "10"]);
    let fixed = run("fixed", &["--p", "fixed", "--q", "fixed", "--rank", "4"]);
    println!("backprop {backprop:.2}, normative {normative:.2}, local {local:.2}, fixed r=4 {fixed:.2}");
    assert!(backprop >= 97.0, "backprop {backprop}");
    assert!(normative >= backprop - 1.0, "normative {normative}, backprop {backprop}");
    assert!(local >= backprop - 2.0, "local {local}, backprop {backprop}");
    assert!(fixed <= backprop - 3.0, "fixed P and Q of rank 4 must fail: {fixed}, backprop {backprop}");
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    let folder = TempDir::new().unwrap();
    let run = |name| train(&folder.path().join(name), &["--epochs", "2", "--seeds", "1"]);
    let (first, second) = (run("first"), run("second"));
    assert_eq!(weights(&first, 0), weights(&second, 0));
    let other = train(&folder.path().join("other"), &["--epochs", "2", "--seeds", "1", "--set", "train.seed=1"]);
    assert_ne!(weights(&first, 0), weights(&other, 0), "another seed must give other weights");
}

/// 15 networks at once: ranks 4, 7 and 10, five seeds each. Replica 5 (rank index) + 2 (seed) against itself alone.
#[test]
fn a_replica_among_fifteen_is_bitwise_the_replica_alone() {
    let folder = TempDir::new().unwrap();
    let short = ["--epochs", "1", "--max-steps", "20"];
    let together =
        train(&folder.path().join("together"), &[&["--rank", "4,7,10", "--seeds", "5"], &short[..]].concat());
    for (rank_index, rank, seed) in [(0, "4", 0), (1, "7", 2), (2, "10", 4)] {
        let seed_setting = format!("train.seed={seed}");
        let alone = ["--rank", rank, "--seeds", "1", "--set", &seed_setting];
        let alone = train(&folder.path().join(format!("alone-{rank}")), &[&alone[..], &short[..]].concat());
        assert_eq!(weights(&together, rank_index * 5 + seed), weights(&alone, 0), "rank {rank}, seed {seed}");
    }
}

#[test]
fn stopped_within_an_epoch_and_resumed_is_bitwise_uninterrupted() {
    let folder = TempDir::new().unwrap();
    let arguments = ["--p", "normative", "--q", "normative", "--epochs", "2", "--seeds", "2"];
    let refactorise = ["--set", "feedback.refactorise_every=22"];
    let all = [&arguments[..], &refactorise[..]].concat();
    let whole = train(&folder.path().join("whole"), &all);
    let parts = train(&folder.path().join("parts"), &[&all[..], &["--max-steps", "30"]].concat());
    resume(&parts, &["--max-steps", "88"]);
    for replica in 0..2 {
        assert_eq!(weights(&whole, replica), weights(&parts, replica));
    }
    // An epoch that was cut has the rows of its end, as if it had never been.
    for (log, columns) in
        [("metrics.csv", &[0, 1, 2][..]), ("alignment.csv", &[0, 1, 2, 5]), ("spectrum.csv", &[0, 1, 2, 5])]
    {
        let expected = subjects(&whole, log, columns);
        assert!(expected.len() >= 4, "{log}: two networks, two epochs");
        assert_eq!(subjects(&parts, log, columns), expected, "{log}");
    }
    let untimed = |run: &Path| {
        let mut summary = summary(run);
        summary["seconds"] = 0.into();
        (summary["replicas"].clone(), summary["by_rank"].clone(), summary["steps"].clone())
    };
    assert_eq!(untimed(&whole), untimed(&parts));
    let config = std::fs::read_to_string(parts.join("config.toml")).unwrap();
    assert!(config.contains("max_steps = 88"), "{config}");
    let losses = |run: &Path| {
        let text = std::fs::read_to_string(run.join("metrics.csv")).unwrap();
        let last = text.lines().rev().take(2).map(|line| line.split(',').take(9).collect::<Vec<_>>().join(","));
        last.collect::<Vec<_>>()
    };
    assert_eq!(losses(&whole), losses(&parts), "the metrics of the last epoch count the steps before the stop too");
}

/// Rows of depth.csv: of a network without residual blocks those of its weights; of frozen layers that no error reaches none.
#[test]
fn depth_is_logged_of_blocks_and_weights_the_same_after_a_stop() {
    let folder = TempDir::new().unwrap();
    let plain =
        "model.layers=[{type='dense',out=12},{type='relu'},{type='dense',out=12},{type='relu'},{type='dense',out=10}]";
    let residual = "model.layers=[{type='dense',out=12},{type='residual',layers=[{type='residual',layers=[]},\
                    {type='dense',out=12},{type='tanh'}]},{type='residual',layers=[{type='dense',out=9}],\
                    shortcut=[{type='dense',out=9}]},{type='dense',out=10}]";
    let (weight, block) = ([false, true], [true, false]);
    let plain_rows = [("layers.0", weight), ("layers.2", weight), ("layers.4", weight)];
    let residual_rows = [
        ("layers.0", weight),
        ("layers.1.main.0", block),
        ("layers.1.main.1", weight),
        ("layers.1", block),
        ("layers.2.main.0", weight),
        ("layers.2.shortcut.0", weight),
        ("layers.2", block),
        ("layers.3", weight),
    ];
    type Rows<'a> = &'a [(&'a str, [bool; 2])];
    let cases: [(&str, &str, &[&str], Rows<'_>); 3] = [
        ("plain", plain, &[], &plain_rows),
        ("frozen", plain, &["--freeze", "layers.0"], &plain_rows[1..]),
        ("residual", residual, &[], &residual_rows),
    ];
    for (name, layers, more, expected) in cases {
        let same = ["--seeds", "2", "--epochs", "2", "--device", "reference", "--rank", "8", "--set", layers];
        let arguments = [&same[..], more].concat();
        let whole = train(&folder.path().join(name), &arguments);
        let log = |run: &Path| std::fs::read_to_string(run.join("depth.csv")).unwrap();
        let parts =
            train(&folder.path().join(format!("{name}-parts")), &[&arguments, &["--max-steps", "30"][..]].concat());
        assert_eq!(log(&parts).lines().count(), 1 + 2 * expected.len(), "{name}: the epoch that was cut has its rows");
        // Cut in the first epoch, then in the second.
        for steps in ["60", "88"] {
            resume(&parts, &["--device", "reference", "--max-steps", steps]);
        }
        assert_eq!(log(&parts), log(&whole), "{name}");

        let mut subjects = Vec::new();
        for line in log(&whole).lines().skip(1) {
            let cells: Vec<&str> = line.split(',').collect();
            let number = |column: usize| cells[column].parse::<f64>().ok();
            let [growth, share, error, cosine] = [6, 7, 8, 9].map(number);
            subjects.push((cells[0].to_owned(), cells[2].to_owned(), cells[5].to_owned()));
            let (_, measured) = expected.iter().find(|(layer, _)| *layer == cells[5]).unwrap();
            assert_eq!([growth.is_some(), share.is_some()], [measured[0]; 2], "{line}");
            assert_eq!([error.is_some(), cosine.is_some()], [measured[1]; 2], "{line}");
            assert!(growth.is_none_or(|growth| growth > 0.0) && error.is_none_or(|error| error > 0.0), "{line}");
            assert!(cosine.is_none_or(|cosine| (-1.0..=1.0).contains(&cosine)), "{line}");
            if cells[5] == "layers.1.main.0" {
                // It adds its input to itself.
                assert_eq!((growth, share), (Some(2.0), Some(0.5)), "{line}");
            }
        }
        let mut all = Vec::new();
        for epoch in ["1", "2"] {
            for (layer, _) in expected {
                all.extend(["0", "1"].map(|replica| (epoch.to_owned(), replica.to_owned(), (*layer).to_owned())));
            }
        }
        assert_eq!(subjects, all, "{name}");
    }
}

/// The optimizer goes on with the moments that it had: what P and Q jump by is no gradient.
#[test]
fn refactorising_changes_p_and_q_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let states = |name: &str, more: &[&str]| {
        let arguments = ["--p", "normative", "--q", "normative", "--seeds", "1", "--max-steps", "22"];
        let run = train(&folder.path().join(name), &[&arguments[..], more].concat());
        let bytes = std::fs::read(run.join("checkpoints/last.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let list = tensors.iter().map(|(name, view)| (name.to_owned(), view.data().to_vec()));
        list.collect::<std::collections::BTreeMap<_, _>>()
    };
    let (kept, renewed) = (states("kept", &[]), states("renewed", &["--set", "feedback.refactorise_every=22"]));
    let changed: Vec<&String> = renewed.keys().filter(|name| renewed[*name] != kept[*name]).collect();
    assert_eq!(changed, ["feedback.values"]);
    let moments = renewed.iter().filter(|(name, _)| name.starts_with("feedback.moment"));
    assert!(moments.clone().count() >= 2 && moments.clone().all(|(_, bytes)| bytes.iter().any(|&byte| byte != 0)));
}

/// Waits for a file to appear, so that the process has work behind and before it.
fn wait_for(path: &Path, child: &mut Child) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !path.exists() {
        assert!(Instant::now() < deadline, "{} never appeared", path.display());
        assert!(child.try_wait().unwrap().is_none(), "the run ended too early to be interrupted");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn killed_and_resumed_is_bitwise_uninterrupted() {
    let folder = TempDir::new().unwrap();
    let arguments = ["--epochs", "6", "--seeds", "2"];
    let whole = train(&folder.path().join("whole"), &arguments);
    let killed = folder.path().join("killed");
    for attempt in 0..3 {
        let mut command = program();
        if attempt == 0 {
            command.args(["train", "digits", "--out"]).arg(&killed).args(arguments);
        } else {
            command.args(["train", "--resume"]).arg(&killed);
        }
        let mut child = command.spawn().unwrap();
        wait_for(&killed.join("checkpoints/last.safetensors"), &mut child);
        std::thread::sleep(Duration::from_millis(120 * attempt + 60));
        // SIGKILL: nothing of the program runs any more.
        child.kill().unwrap();
        child.wait().unwrap();
    }
    resume(&killed, &[]);
    for replica in 0..2 {
        assert_eq!(weights(&whole, replica), weights(&killed, replica));
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_says_how_to_resume() {
    let folder = TempDir::new().unwrap();
    let arguments = ["--epochs", "8", "--seeds", "1", "--max-steps", "320"];
    let whole = train(&folder.path().join("whole"), &arguments);
    let stopped = folder.path().join("stopped");
    let mut child = program().args(["train", "digits", "--out"]).arg(&stopped).args(arguments).spawn().unwrap();
    wait_for(&stopped.join("checkpoints/last.safetensors"), &mut child);
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(text.contains("--resume") && text.contains(&stopped.display().to_string()), "{text}");
    resume(&stopped, &[]);
    assert_eq!(summary(&stopped)["steps"], 320, "it ends where it should have without the stop");
    assert_eq!(weights(&whole, 0), weights(&stopped, 0));
}

/// Accuracies of a run's networks in percent, as `eval` prints them.
fn evaluated(run: &Path, arguments: &[&str]) -> Vec<String> {
    let output = finish(program().arg("eval").arg(run).args(arguments).spawn().unwrap());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rows = text.lines().filter(|line| line.starts_with('│')).skip(1);
    rows.map(|line| line.trim_end_matches('│').rsplit('┆').next().unwrap().trim().to_owned()).collect()
}

#[test]
fn every_network_is_kept_at_its_own_best_epoch() {
    let folder = TempDir::new().unwrap();
    // Steps too large for two of the ranks: accuracy goes up and down.
    let layers = "model.layers=[{type=\"dense\",out=12},{type=\"relu\"},{type=\"dense\",out=10}]";
    let arguments = [
        "--epochs",
        "6",
        "--rank",
        "2,8",
        "--seeds",
        "2",
        "--set",
        layers,
        "--set",
        "optimizer.lr=0.06",
        "--device",
        "reference",
    ];
    let on = &arguments[arguments.len() - 2..];
    let whole = train(&folder.path().join("whole"), &arguments);
    let networks = summary(&whole)["replicas"].as_array().unwrap().clone();
    let best: Vec<u64> = networks.iter().map(|network| network["best_epoch"].as_u64().unwrap()).collect();
    println!("best epochs {best:?}");
    let distinct: std::collections::BTreeSet<u64> = best.iter().copied().collect();
    assert!(best.len() == 4 && distinct.len() >= 3, "{best:?} would not tell networks apart");
    let of_summary = |key: &str| -> Vec<String> {
        networks.iter().map(|network| format!("{:.2}", 100.0 * network[key].as_f64().unwrap())).collect()
    };
    assert_eq!(evaluated(&whole, &[&["--best"], on].concat()), of_summary("best_test_accuracy"));
    assert_eq!(evaluated(&whole, on), of_summary("last_test_accuracy"));
    assert_ne!(of_summary("best_test_accuracy"), of_summary("last_test_accuracy"));

    // Cut within every epoch: where the part of an epoch was a network's best, the whole epoch is judged anew.
    let parts = folder.path().join("parts");
    train(&parts, &[&arguments[..], &["--max-steps", "20"]].concat());
    for step in [70, 80, 110, 150, 200, 230, 264] {
        let cut = std::fs::read(parts.join("metrics.csv")).unwrap();
        resume(&parts, on);
        assert!(std::fs::read(parts.join("metrics.csv")).unwrap() == cut, "the run had ended where it should");
        assert_eq!(evaluated(&parts, &[&["--best"], on].concat()).len(), 4, "before step {step}");
        resume(&parts, &[&["--max-steps", &step.to_string()], on].concat());
        assert_eq!(summary(&parts)["steps"], step);
    }
    assert_eq!(subjects(&parts, "metrics.csv", &[0, 1, 2]), subjects(&whole, "metrics.csv", &[0, 1, 2]));
    for replica in 0..4 {
        let kept = |run| exported(run, replica, &[&["--best"], on].concat());
        assert_eq!(kept(&whole), kept(&parts), "network {replica}");
    }
    let lost = parts.join("checkpoints/best.safetensors");
    std::fs::copy(parts.join("checkpoints/last.safetensors"), &lost).unwrap();
    let refused = program().args(["eval", "--best"]).arg(&parts).args(on).output().unwrap();
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && error.contains("does not hold the best epoch of every network"), "{error}");
}

#[test]
fn weights_leave_and_come_back() {
    let folder = TempDir::new().unwrap();
    let first = train(&folder.path().join("first"), &["--epochs", "1", "--seeds", "1"]);
    let exported = weights(&first, 0);
    let file = first.join("exported-0.safetensors");
    let still = ["--epochs", "1", "--max-steps", "1", "--seeds", "1", "--set", "optimizer.lr=0", "--init"];
    let second = train(&folder.path().join("second"), &[&still[..], &[file.to_str().unwrap()]].concat());
    assert_eq!(exported, weights(&second, 0), "a step of length zero changes nothing");
}

/// A transformer of one block, of which nothing is dropped.
const TRANSFORMER: &str = "model.layers=[{type='conv',out=12,kernel=2,stride=2},{type='class-token'},{type='position'},\
    {type='residual',layer_scale=0.5,layers=[{type='layernorm'},{type='dense',out=36},{type='attention',heads=2},\
    {type='dense',out=12}]},{type='layernorm'},{type='first-token'},{type='dense',out=10}]";

/// Every rule takes the same step however the batch is cut, down to single samples; the reference
/// leaves nothing to rounding but the file's single precision.
#[test]
fn a_batch_in_parts_is_the_same_step() {
    let folder = TempDir::new().unwrap();
    let rules: [(&str, &[&str]); 7] = [
        ("oja", &["--p", "oja", "--q", "hebbian"]),
        ("labels", &["--p", "oja", "--q", "hebbian", "--set", "feedback.output_statistics=labels"]),
        ("backprop", &["--rule", "backprop"]),
        ("alignment", &["--rule", "feedback-alignment"]),
        ("normative", &["--p", "normative", "--q", "normative", "--set", "feedback.init=uniform"]),
        ("hebbian", &["--p", "fixed", "--q", "hebbian"]),
        ("kolen-pollack", &["--p", "kolen-pollack", "--q", "hebbian"]),
    ];
    let networks: [(&str, &[&str]); 2] = [("preset", &[]), ("transformer", &["--set", TRANSFORMER])];
    for ((network, layers), (rule, arguments)) in networks.iter().flat_map(|n| rules.iter().map(move |r| (n, r))) {
        let run = |parts: &str| {
            let same = ["--device", "reference", "--seeds", "1", "--max-steps", "3", "--accumulate", parts];
            let plain = ["--set", "optimizer={ type = \"sgd\", lr = 0.05 }"];
            let out = folder.path().join(format!("{network}-{rule}-{parts}"));
            weights(&train(&out, &[&same[..], &plain, layers, arguments].concat()), 0)
        };
        let (whole, single) = (run("1"), run("32"));
        for ((name, _, whole), (_, _, parts)) in [run("4"), single].iter().flat_map(|parts| whole.iter().zip(parts)) {
            let numbers = |bytes: &[u8]| -> Vec<f64> {
                bytes.chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
            };
            let (whole, parts) = (numbers(whole), numbers(parts));
            let norm = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
            let difference: Vec<f64> = whole.iter().zip(&parts).map(|(a, b)| a - b).collect();
            assert!(norm(&difference) <= 1e-6 * norm(&whole), "{network}, {rule}: {name} differs");
        }
    }
}

/// Convolutions learn, augmented and in parts: two epochs over a thousand digits.
#[test]
fn a_convolutional_network_learns_digits() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("conv.toml");
    let text = r#"
[data]
name = "digits"
crop_padding = 1

[model]
layers = [
    { type = "conv", out = 8, kernel = 3, padding = 1 },
    { type = "batchnorm" },
    { type = "relu" },
    { type = "maxpool", size = 2 },
    { type = "conv", out = 16, kernel = 3, padding = 1 },
    { type = "relu" },
    { type = "flatten" },
    { type = "dense", out = 10 },
]

[feedback]
rule = "ldfa"
p = "oja"
q = "hebbian"
rank = 8
error_clamp = 1.0

[optimizer]
type = "adam"
lr = 3e-3

[train]
batch = 32
accumulate = 2
epochs = 4
seeds = 3
"#;
    std::fs::write(&config, text).unwrap();
    let run = |name: &str, arguments: &[&str]| {
        let out = folder.path().join(name);
        finish(program().arg("train").arg(&config).arg("--out").arg(&out).args(arguments).spawn().unwrap());
        accuracy(&out)
    };
    let local = run("local", &[]);
    let backprop = run("backprop", &["--rule", "backprop"]);
    println!("convolutions on digits: local {local:.2}, backprop {backprop:.2}");
    assert!(backprop >= 90.0, "backprop {backprop}");
    assert!(local >= backprop - 5.0, "local {local}, backprop {backprop}");
}

/// A text of the user's, whose every character follows from the one or two before; the last layer has an output a character.
#[test]
fn the_next_characters_of_a_text_are_learned() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("mine.txt");
    std::fs::write(&file, "hello world\n".repeat(200)).unwrap();
    let (name, out) = (format!("data.name={}", file.display()), folder.path().join("run"));
    let settings = ["data.limit=", "data.length=12", "model.layers.3.out=9", name.as_str()];
    let settings: Vec<&str> = settings.into_iter().flat_map(|setting| ["--set", setting]).collect();
    let train = |out: &Path, more: &[&str]| {
        let mut command = program();
        command.args(["train", "text", "--epochs", "12", "--seeds", "2", "--out"]).arg(out);
        finish(command.args(&settings).args(more).spawn().unwrap());
    };
    train(&out, &[]);
    // At the first character of a window an l may be one of three.
    for network in summary(&out)["replicas"].as_array().unwrap() {
        assert!(network["last_test_accuracy"].as_f64().unwrap() > 0.95, "{network}");
    }
    // Stopped and resumed, it is the same to the bit.
    let stopped = folder.path().join("stopped");
    train(&stopped, &["--max-steps", "20"]);
    resume(&stopped, &["--max-steps", "1000"]);
    for replica in 0..2 {
        assert_eq!(weights(&stopped, replica), weights(&out, replica));
    }
}

/// Sums of two numbers of six: errors through rank 4 learn them far better than a network that always answers the mean, which is
/// right once in seven times and has a loss of 1/6.
#[test]
fn sums_are_learned_as_numbers() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    let settings = ["data.length=6", "data.limit=4000", "model.layers.1.out=32", "optimizer.lr=5e-3"];
    let mut command = program();
    command.args(["train", "adding", "--rank", "4", "--epochs", "8", "--out"]).arg(&out);
    finish(command.args(settings.into_iter().flat_map(|setting| ["--set", setting])).spawn().unwrap());
    let network = &summary(&out)["replicas"][0];
    let [loss, accuracy] = ["last_test_loss", "last_test_accuracy"].map(|key| network[key].as_f64().unwrap());
    assert!(accuracy > 0.6 && loss < 1.0 / 60.0, "{network}");
}
