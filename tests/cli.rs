//! The program as a careless or hostile user meets it: every mistake is one clear message and a failing exit code, and
//! nothing that existed is harmed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use ldfa_gpu::gpu::LimitPolicy;
use safetensors::SafeTensors;
use tempfile::TempDir;

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ldfa-gpu"));
    // Without a cache nothing is measured, and the user's is left alone.
    command.args(arguments).env_remove("LDFA_DATA").env("LDFA_CACHE", "").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    program(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeeds(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}\n{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// One error line that holds all of `words`, exit code 1, no panic.
fn check_failure(output: &Output, what: &str, words: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{what}: {stderr}");
    assert!(!stderr.contains("panicked"), "{what}: {stderr}");
    let error = stderr.find("error: ").unwrap_or_else(|| panic!("{what}: no error in {stderr}"));
    for word in words {
        assert!(stderr[error..].contains(word), "{what}: {word:?} is not in {stderr}");
    }
}

fn fails(arguments: &[&str], words: &[&str]) {
    check_failure(&run(arguments), &format!("{arguments:?}"), words);
}

/// A tiny training of digits into `out`, with more arguments.
fn tiny<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["train", "digits", "--out", out, "--epochs", "1", "--max-steps", "2", "--seeds", "1"], more].concat()
}

/// A finished run that tests copy and damage.
fn finished() -> &'static Path {
    static RUN: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = RUN.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("run");
        succeeds(&["train", "digits", "--out", path.to_str().unwrap(), "--epochs", "2", "--seeds", "2"]);
        (folder, path)
    });
    path
}

fn copy_of_finished(folder: &TempDir) -> PathBuf {
    let to = folder.path().join("copy");
    let status = Command::new("cp").arg("-r").arg(finished()).arg(&to).status().unwrap();
    assert!(status.success());
    to
}

#[test]
fn mistakes_in_names_suggest_what_was_meant() {
    fails(&["train", "digit"], &["digit", "did you mean digits?"]);
    fails(&["train", "no/such/file.toml"], &["no/such/file.toml", "presets are digits"]);
    fails(&["train", "digits", "--set", "train.epoch=3"], &["epoch", "did you mean epochs?"]);
    fails(&["train", "digits", "--set", "optimizer.learning_rate=3"], &["learning_rate", "did you mean lr?"]);
    fails(&["train", "digits", "--set", "feedbak.rank=3"], &["feedbak", "did you mean feedback?"]);
    fails(&["train", "digits", "--p", "ojja"], &["ojja", "did you mean oja?"]);
    fails(&["train", "digits", "--rule", "backpropp"], &["backpropp", "did you mean backprop?"]);
    fails(&["train", "digits", "--set", "optimizer.type=adem"], &["adem", "did you mean adam?"]);
}

/// Every command that takes a configuration takes the rules that `sweep` takes, and calls them so.
#[test]
fn a_rule_goes_by_one_name() {
    let names = [
        "backprop",
        "feedback-alignment",
        "normative",
        "local",
        "fixed",
        "oja+fixed",
        "kolen-pollack+hebbian",
        "direct:local",
        "local@layers.4",
    ];
    for name in names {
        let printed = succeeds(&["flops", "digits", "--rule", name]);
        assert!(printed.contains(&format!("one network; {name} beside backprop")), "{name}: {printed}");
    }
    let same = |one: &[&str], other: &[&str]| {
        let of = |more: &[&str]| succeeds(&[&["flops", "digits"], more].concat());
        assert_eq!(of(one), of(other));
    };
    same(&["--rule", "local"], &["--rule", "ldfa", "--p", "oja", "--q", "hebbian"]);
    same(&["--rule", "direct:fixed"], &["--p", "fixed", "--q", "fixed", "--set", "feedback.source=output"]);
    let three = r#"feedback.exact=["layers.0", "layers.2", "layers.6"]"#;
    same(&["--rule", "local@layers.4"], &["--set", three]);
    // Of layers that come with the command; and which there are shows in the message.
    let two = r#"model.layers=[{type="dense",out=20},{type="relu"},{type="dense",out=10}]"#;
    assert!(succeeds(&["flops", "digits", "--rule", "local@layers.2", "--set", two]).contains("local@layers.2 beside"));
    fails(&["flops", "digits", "--rule", "local@layers.3"], &["rule local@layers.3", "those are layers.2, layers.4"]);
    for command in ["train", "explain", "flops", "verify"] {
        fails(&[command, "digits", "--rule", "lokal"], &["there is no rule \"lokal\"", "did you mean local?"]);
    }
}

#[test]
fn contradictory_or_impossible_settings_are_refused() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["--rank", "0"], &["rank", "at least 1"]),
        (&["--rank", "100000"], &["100000", "largest useful rank here is 128"]),
        (&["--rank", "4,4"], &["rank", "twice"]),
        (&["--rank", "4,5,6", "--seeds", "40"], &["--seeds 40: train.seeds = 40", "3 ranks", "120", "at most 64"]),
        (&["--seeds", "0"], &["train.seeds", "at least 1"]),
        (&["--epochs", "0"], &["train.epochs", "at least 1"]),
        (&["--max-steps", "0"], &["train.max_steps"]),
        (&["--rule", "backprop", "--rank", "4"], &["feedback.rank", "backprop"]),
        (&["--p", "kolen-pollack", "--q", "fixed"], &["kolen-pollack", "hebbian"]),
        (&["--p", "normative", "--set", "feedback.source=output"], &["source", "no weight to compare with"]),
        (&["--set", "feedback.source=layers.1"], &["layers.1", "layers.0, layers.2"]),
        (&["--set", "feedback.refactorise_every=0"], &["refactorise_every", "at least 1"]),
        (&["--set", "feedback.exact=[\"layers.3\"]"], &["layers.3", "not a layer with a weight"]),
        (&["--set", "feedback.error_clamp=-1"], &["error_clamp", "positive"]),
        (&["--set", "optimizer.momentum=0.9"], &["momentum", "adam has no such setting"]),
        (&["--set", "optimizer.lr=-1"], &["optimizer.lr", "-1"]),
        (&["--set", "optimizer.lr=nan"], &["optimizer.lr", "NaN"]),
        (&["--set", "optimizer.lr=inf"], &["optimizer.lr", "inf"]),
        (&["--set", "optimizer.lr=fast"], &["lr", "expected"]),
        (&["--set", "optimizer.lr"], &["section.key=value"]),
        (&["--set", "data.name.x=1"], &["name is a value"]),
        (&["--set", "train.batch=5000"], &["1437 images", "train.batch"]),
        (&["--set", "train.batch=0"], &["train.batch", "at least 1"]),
        (&["--set", "model.layers=[]"], &["last layer must be dense"]),
        (&["--set", "model.layers=[{type=\"dense\",out=9}]"], &["9 outputs", "10 classes"]),
        (&["--set", "model.layers=[{type=\"dense\",out=0},{type=\"dense\",out=10}]"], &["layers[0]", "at least 1"]),
        (&["--set", "model.layers=[{type=\"dropout\",p=1.0},{type=\"dense\",out=10}]"], &["dropout", "[0, 1)"]),
        (&["--set", "model.layers=[{type=\"conv\",out=8}]"], &["missing field", "kernel"]),
        (&["--set", "model.layers=[{type=\"convolve\",out=8}]"], &["unknown variant", "did you mean conv"]),
        (
            &["--set", "model.layers=[{type=\"conv\",out=8,kernel=9},{type=\"dense\",out=10}]"],
            &["layers[0]", "9 x 9 is larger than an image of 8 x 8"],
        ),
        (
            &["--set", "model.layers=[{type=\"conv\",out=8,kernel=3},{type=\"dense\",out=10}]"],
            &["layers[1]", "6 x 6", "flatten"],
        ),
        (
            &[
                "--set",
                "model.layers=[{type=\"residual\",layers=[{type=\"conv\",out=2,kernel=3}]},{type=\"dense\",out=10}]",
            ],
            &["layers[0]", "6 x 6 x 2", "8 x 8 x 1", "alike"],
        ),
        (&["--set", "model.layers=[{type=\"relu\",out=8}]"], &["unknown field `out`"]),
        (&["--set", "data.rotation=400"], &["data.rotation", "180"]),
        (&["--set", "data.crop_padding=8"], &["crop_padding", "less than the images' side"]),
        (&["--set", "data.autoaugment=cifar10"], &["data.autoaugment = cifar10", "three channels, these have 1"]),
        (&["--set", "data.autoaugment=cifar"], &["unknown variant `cifar`", "did you mean cifar10?"]),
        (
            &["--set", "data.autoaugment=cifar10", "--set", "data.rotation=5"],
            &["data.autoaugment = cifar10", "after data.rotation"],
        ),
        (&["--set", "model.label_smoothing=1"], &["model.label_smoothing = 1", "must lie in [0, 1)"]),
        (&["--set", "model.label_smoothing=-0.1"], &["model.label_smoothing = -0.1", "must lie in [0, 1)"]),
        (
            &["--set", "model.label_smoothing=0.1", "--set", "model.loss=mean-squared-error"],
            &["model.label_smoothing = 0.1", "belongs to the loss cross-entropy"],
        ),
        (&["--set", "data.cutout=9"], &["data.cutout = 9", "at most the images' longer side, 8"]),
        (&["--set", "data.limit=0"], &["data.limit = 0", "at least 1"]),
        (&["--set", "data.limit=1438"], &["data.limit = 1438", "digits has only 1437 images"]),
        (&["--set", "data.limit=20"], &["20 images", "train.batch = 32"]),
    ];
    let folder = TempDir::new().unwrap();
    for (index, (arguments, words)) in cases.iter().enumerate() {
        let out = folder.path().join(index.to_string());
        fails(&[&["train", "digits", "--out", out.to_str().unwrap()], *arguments].concat(), words);
        assert!(!out.exists(), "{arguments:?} left a run directory behind");
    }
    let batchnorm = "model.layers=[{type=\"dense\",out=8},{type=\"batchnorm\"},{type=\"dense\",out=10}]";
    fails(&["train", "digits", "--set", batchnorm, "--set", "train.batch=1"], &["batchnorm", "at least 2"]);
}

/// What the program does with at most so many megabytes of address space.
#[cfg(target_os = "linux")]
fn within_memory(megabytes: u32, arguments: &[&str]) -> Output {
    let mut command = Command::new("sh");
    let limited = format!("ulimit -v {}; exec \"$@\"", 1024 * megabytes);
    command.args(["-c", &limited, "sh", env!("CARGO_BIN_EXE_ldfa-gpu")]).args(arguments);
    command.env_remove("LDFA_DATA").env("LDFA_CACHE", "").stdin(Stdio::null()).output().unwrap()
}

/// Operations are counted, never the images or the memory that they would take.
#[cfg(target_os = "linux")]
#[test]
fn counting_takes_no_memory_by_the_batch() {
    let of_batch = |batch: &str, more: &[&str]| {
        let batch = format!("train.batch={batch}");
        within_memory(1000, &[&["flops", "digits", "--set", &batch], more].concat())
    };
    let printed = |output: Output| {
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let table = printed(of_batch("10000000", &[]));
    assert!(table.contains("of 10000000 samples") && table.contains("layers.6"), "{table}");
    assert!(printed(of_batch("1000000000", &["--accumulate", "1000"])).contains("layers.6"));
    assert!(printed(of_batch("1", &["--rule", "normative"])).contains("a step of 1 sample,"), "one is not many");
    let too_large = of_batch("1000000000", &[]);
    check_failure(
        &too_large,
        "a billion",
        &["--set train.batch=1000000000", "too many to be counted", "lower train.batch"],
    );
    check_failure(
        &of_batch("1000000000", &["--accumulate", "1000000"]),
        "parts",
        &["train.accumulate", "at most 1024"],
    );
    let bench = within_memory(4000, &["bench", "steps", "digits", "--batch", "1000000000", "--quick"]);
    check_failure(&bench, "bench", &["train.batch = 1000000000", "lower it"]);
}

/// The ends of types and numbers that are none, for every key: a result or an error that names the option or says what is wrong.
#[test]
fn extreme_numbers_end_in_a_result_or_an_error() {
    let numbers = ["-1", "0", "4294967295", "4294967296", "9223372036854775808", "1e308", "1e-320", "nan"];
    let keys = [
        "data.shrink",
        "data.rotation",
        "data.crop_padding",
        "data.cutout",
        "data.limit",
        "model.label_smoothing",
        "train.batch",
        "train.accumulate",
        "train.epochs",
        "train.seeds",
        "train.seed",
        "train.max_steps",
        "optimizer.lr",
        "optimizer.weight_decay",
        "optimizer.eps",
        "optimizer.clamp",
        "optimizer.schedule.gamma",
        "feedback.error_clamp",
        "feedback.rank",
        "feedback.refactorise_every",
    ];
    let mut refused = 0;
    for key in keys {
        for number in numbers {
            let setting = format!("{key}={number}");
            let output = run(&["flops", "digits", "--set", &setting]);
            if !output.status.success() {
                check_failure(&output, &setting, &[&format!("--set {setting}: ")]);
                assert_eq!(text(&output.stderr).lines().count(), 1, "{}", text(&output.stderr));
                refused += 1;
            }
        }
    }
    assert!(refused > keys.len() * numbers.len() / 2, "only {refused} were refused");
    let widths = ["0", "4000000000", "4294967296", "-1"];
    for layer in [
        "{type=\"dense\",out=N}",
        "{type=\"conv\",out=N,kernel=3},{type=\"flatten\"}",
        "{type=\"conv\",out=2,kernel=N,padding=N},{type=\"flatten\"}",
        "{type=\"maxpool\",size=N},{type=\"flatten\"}",
    ] {
        for width in widths {
            let layers = format!("model.layers=[{},{{type=\"dense\",out=10}}]", layer.replace('N', width));
            fails(&["flops", "digits", "--set", &layers], &["--set model.layers=", "model.layers"]);
        }
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("deep.toml");
    let deep = format!("{}{}", "{type=\"residual\",layers=[".repeat(10_000), "]}".repeat(10_000));
    std::fs::write(&file, format!("[data]\nname = \"digits\"\n[model]\nlayers = [{deep}]\n")).unwrap();
    fails(&["flops", file.to_str().unwrap()], &["deep.toml", "recurse"]);
    let deep = format!("{}x=1", "a.".repeat(20_000));
    fails(&["flops", "digits", "--set", &deep], &["is no key"]);
}

#[test]
fn numbers_are_judged_in_single_precision() {
    let cases = [
        ("optimizer.eps=1e-50", "optimizer.eps = 1e-50: is zero in single precision"),
        ("optimizer.weight_decay=1e30", "optimizer.weight_decay = 1e30: has no finite square"),
        ("optimizer.lr=1e-320", "is zero in single precision"),
        ("optimizer.betas=[0.9,0.99999999]", "must lie in [0, 1), in single precision too"),
        ("optimizer.schedule.gamma=1e308", "optimizer.schedule.gamma = 1e308"),
        ("optimizer.schedule.gamma=20", "without bounds in train.epochs = 20"),
        ("feedback.error_clamp=1e-320", "feedback.error_clamp"),
        ("data.rotation=1e-50", "data.rotation"),
        ("model.label_smoothing=0.99999999", "must lie in [0, 1), in single precision too"),
        (
            "optimizer.schedule={type=\"warmup-cosine\",warmup_epochs=1,start_divisor=0.5}",
            "start_divisor = 0.5: must be at least 1",
        ),
        ("model.layers=[{type=\"dropout\",p=0.99999999},{type=\"dense\",out=10}]", "model.layers[0]: dropout"),
        (
            "optimizer.schedule={type=\"warmup-cosine\",warmup_epochs=21}",
            "not be longer than the run, train.epochs = 20",
        ),
    ];
    for (setting, word) in cases {
        fails(&["flops", "digits", "--set", setting], &["--set ", word]);
    }
    let cycle = "optimizer.schedule={type=\"one-cycle\",rise=0.3}";
    let short = ["verify", "digits", "--set", "train.batch=1400", "--epochs", "2", "--set", cycle];
    fails(&short, &["optimizer.schedule.rise = 0.3", "2 steps no step to rise", "at least 7"]);
    fails(&["train", "digits", "--epochs", "4294967295"], &["--epochs 4294967295", "4294967295 steps"]);
}

#[test]
fn what_is_left_out_must_be_known() {
    fails(&["flops", "digits", "--set", "optimizer.shedule="], &["shedule", "did you mean schedule?"]);
    fails(&["flops", "digits", "--set", "optimiser.lr="], &["optimiser", "did you mean optimizer?"]);
    for setting in ["=", "=1", "a..b=1", ".lr=1", "optimizer.=1", "optimizer lr=1", "a\nb=1"] {
        fails(&["flops", "digits", "--set", setting], &["is no key", "section.key=value"]);
    }
    fails(
        &["flops", "digits", "--set", "optimizer.schedule.gamma="],
        &["--set optimizer.schedule.gamma=", "missing field"],
    );
    for known in
        ["optimizer.schedule=", "feedback.error_clamp=", "feedback_optimizer.lr=", "feedback_optimizer=", "name="]
    {
        succeeds(&["flops", "digits", "--set", known]);
    }
}

#[test]
fn ranks_of_single_layers_are_refused_by_name() {
    let layers = "model.layers=[{type=\"dense\",out=64},{type=\"relu\"},{type=\"dense\",out=32},{type=\"relu\"},{type=\"dense\",out=16},{type=\"relu\"},{type=\"dense\",out=10}]";
    let flops = |ranks: &str| run(&["flops", "digits", "--rank", "8", "--set", layers, "--set", ranks]);
    let refused = |ranks: &str, words: &[&str]| check_failure(&flops(ranks), ranks, words);
    for rank in ["40", "20", "\"n/1\""] {
        let setting = format!("feedback.ranks={{\"layers.4\"={rank}, \"layers.2\"=30}}");
        let passes = rank == "\"n/1\"";
        if passes {
            assert!(flops(&setting).status.success(), "the whole width is 16");
        } else {
            let words = ["feedback.ranks.\"layers.4\"", rank, "more than layers.4 can use", "is 16"];
            refused(&setting, &words);
        }
    }
    refused("feedback.ranks={\"layers.2\"=33}", &["feedback.ranks.\"layers.2\"", "is 32"]);
    refused("feedback.ranks.\"layers.4\"=0", &["feedback.ranks.\"layers.4\"", "at least 1"]);
    refused("feedback.ranks={\"layers.0\"=4}", &["layers.0 is not a layer with feedback", "did you mean layers.2?"]);
    refused("feedback.ranks={\"layer.4\"=4}", &["layer.4", "did you mean layers.4?"]);
    refused("feedback.exact=[\"layers.5\"]", &["layers.5 is not a layer with a weight", "did you mean layers.4?"]);
    let common = succeeds(&["flops", "digits", "--rank", "30", "--set", layers]);
    assert!(
        common.contains(" 30 ") && common.contains(" 16 "),
        "one rank for all is cut where a layer is smaller: {common}"
    );
}

#[test]
fn errors_name_the_file_or_the_option() {
    let folder = TempDir::new().unwrap();
    let run_folder = copy_of_finished(&folder);
    let (path, file) = (run_folder.to_str().unwrap(), run_folder.join("config.toml"));
    let whole = std::fs::read_to_string(&file).unwrap();
    for (from, to, words) in [
        ("batch = 32", "batch = 0", &["train.batch = 0", "at least 1"][..]),
        ("batch = 32", "batch = 1438", &["1437 images", "train.batch"]),
        ("crop_padding = 0", "crop_padding = 8", &["data.crop_padding = 8"]),
        ("crop_padding = 0", "classes = 11", &["data.classes = 11", "10 classes"]),
        ("rank = 10", "rank = 200", &["feedback.rank", "200"]),
        ("lr = 0.001", "lr = -1.0", &["optimizer.lr = -1", "positive"]),
        ("gamma = 0.95", "gamma = 0.0", &["schedule.gamma = 0"]),
        ("out = 10", "out = 9", &["model.layers[6]", "9 outputs"]),
    ] {
        assert!(whole.contains(from), "{from} is not in {whole}");
        std::fs::write(&file, whole.replace(from, to)).unwrap();
        let words = [&["copy/config.toml: "], words].concat();
        fails(&["eval", path], &words);
        fails(&["train", "--resume", path], &words);
    }
    fails(&["train", "digits", "--seeds", "65"], &["--seeds 65: train.seeds = 65", "at most 64"]);
    fails(&["train", "digits", "--rank", "400"], &["--rank 400: feedback.rank: ", "128"]);
    fails(&["train", "digits", "--set", "train.batch=4294967296"], &["--set", "whole number from 0 to 4294967295"]);
    fails(
        &["sweep", "digits", "--rules", "backprop", "--epochs", "0", "--out", path],
        &["--epochs 0: train.epochs = 0"],
    );
}

/// A pipe has no width; a terminal of 80 columns breaks cells between words.
#[test]
fn tables_in_pipes_are_not_broken() {
    let printed = succeeds(&["explain", "digits", "--no-tune", "--seeds", "1"]);
    assert!(printed.contains(", 1 replica\n"), "{printed}");
    let rows: Vec<&str> = printed.lines().filter(|line| line.starts_with('│')).collect();
    assert_eq!(rows.len(), 10, "a line each for the header, four layers, four other kinds and their sum: {printed}");
    assert!(rows[0].contains("weight gradient") && rows[0].contains("sum / backprop"), "{printed}");
}

#[test]
fn damaged_configuration_files_show_the_line() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("config.toml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "[data]\nname = \"digits\"\n[model]\nlayers = [\n").unwrap();
    fails(&["train", path], &["config.toml", "TOML parse error", "line"]);
    std::fs::write(&file, [0xff, 0xfe, 0x00]).unwrap();
    fails(&["train", path], &["config.toml", "UTF-8"]);
    std::fs::write(&file, "").unwrap();
    fails(&["train", path], &["config.toml", "missing field"]);
}

#[test]
fn impossible_devices_and_places_are_refused() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fails(&tiny(&path("a"), &["--device", "nonsense"]), &["nonsense", "there are: 0:"]);
    fails(&tiny(&path("b"), &["--device", "99"]), &["99", "there are: 0:"]);
    std::fs::write(path("file"), "mine").unwrap();
    fails(&tiny(&path("file/run"), &[]), &["file/run"]);
    fails(&tiny("/proc/no-run", &[]), &["/proc/no-run"]);
    std::fs::create_dir(path("full")).unwrap();
    std::fs::write(path("full/thesis.tex"), "mine").unwrap();
    fails(&tiny(&path("full"), &[]), &["full", "--out"]);
    assert_eq!(std::fs::read_to_string(path("full/thesis.tex")).unwrap(), "mine");
    let run = copy_of_finished(&folder);
    let before = std::fs::read(run.join("metrics.csv")).unwrap();
    fails(&tiny(run.to_str().unwrap(), &[]), &["copy", "--resume"]);
    assert_eq!(std::fs::read(run.join("metrics.csv")).unwrap(), before);
}

#[test]
fn data_that_is_missing_or_damaged_is_named() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().to_str().unwrap();
    let train = ["train", "fashion-mnist", "--data-dir", root];
    fails(&train, &["fashion-mnist", "data fetch fashion-mnist"]);
    let set = folder.path().join("fashion-mnist");
    std::fs::create_dir(&set).unwrap();
    for name in
        ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]
    {
        std::fs::write(set.join(name), [0, 0, 8, 3, 0, 0, 0, 9]).unwrap();
    }
    fails(&train, &["train-", "idx"]);
    fails(&["data", "info", "no-such-set"], &["no-such-set"]);
    fails(&["data", "fetch", "no-such-set"], &["no-such-set"]);
    assert!(succeeds(&["data", "list", "--data-dir", root]).contains("damaged"));
}

#[cfg(target_os = "linux")]
#[test]
fn sequences_have_a_length_and_none_of_what_images_have() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("mine.txt");
    std::fs::write(&file, "one two three four. ".repeat(100)).unwrap();
    let file = file.to_str().unwrap();
    let info = succeeds(&["data", "info", file, "--length", "9"]);
    assert!(info.contains("sequences 199 to train on, 22 to test on, 9 x 1 x 1"), "{info}");
    assert!(info.contains("next      f ") && !info.contains("mean"), "{info}");
    let info = succeeds(&["data", "info", "adding", "--length", "30"]);
    assert!(info.contains("30 x 1 x 2") && info.contains("label / 255"), "{info}");
    assert!(succeeds(&["data", "list"]).contains("arithmetic"));

    fails(&["data", "info", "digits", "--length", "9"], &["digits", "data.length"]);
    fails(&["data", "info", "adding", "--length", "1"], &["sequences of 1", "2 to 2000"]);
    fails(&["data", "info", file, "--length", "400"], &["mine.txt", "2000 characters", "4010"]);
    let nowhere = folder.path().join("run");
    let out = nowhere.to_str().unwrap();
    let train = |set: &str, words: &[&str]| fails(&["train", "text", "--out", out, "--set", set], words);
    train("data.flip=true", &["data.flip", "arithmetic has sequences"]);
    train("data.classes=3", &["data.classes", "arithmetic has sequences"]);
    train("data.limit=1000000", &["data.limit", "sequences to train on"]);
    train("model.layers.3.out=7", &["model.layers[3]", "7 outputs", "24 classes", "--set model.layers.3.out=24"]);
    train("model.layers.7.out=7", &["7 is no entry of layers", "0 to 3"]);
    train("model.layers.x.out=7", &["x is no entry of layers"]);
    fails(&["train", "adding", "--out", out, "--set", "model.loss=cross-entropy"], &["model.loss", "numbers"]);
    std::fs::write(file, [0xff; 100]).unwrap();
    fails(&["train", "text", "--out", out, "--set", &format!("data.name={file}")], &["mine.txt", "byte 0", "UTF-8"]);
    assert!(!nowhere.exists());
}

#[test]
fn a_full_disk_is_said_and_the_run_goes_on_later() {
    let folder = TempDir::new().unwrap();
    let run = copy_of_finished(&folder);
    let config = std::fs::read_to_string(run.join("config.toml")).unwrap();
    std::fs::write(run.join("config.toml"), config.replace("epochs = 2", "epochs = 3")).unwrap();
    // Another number of epochs is another run: the checkpoint no longer belongs to it.
    fails(&["train", "--resume", run.to_str().unwrap()], &["last.safetensors", "config"]);
    // A limit on the size of files stands for a full disk where none can be mounted: the kernel refuses the write.
    let out = folder.path().join("limited");
    let command = format!(
        "trap '' XFSZ; ulimit -f 200; exec {} {}",
        env!("CARGO_BIN_EXE_ldfa-gpu"),
        tiny(out.to_str().unwrap(), &[]).join(" ")
    );
    let output = Command::new("sh").args(["-c", &command]).env("LDFA_CACHE", "").output().unwrap();
    check_failure(&output, "limited", &["safetensors"]);
    let leftovers = std::fs::read_dir(out.join("checkpoints")).unwrap().count();
    assert_eq!(leftovers, 0, "a failed save leaves nothing behind");
    succeeds(&["train", "--resume", out.to_str().unwrap(), "--max-steps", "3"]);
}

#[test]
fn damaged_checkpoints_are_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    let run = copy_of_finished(&folder);
    let path = run.to_str().unwrap();
    let last = run.join("checkpoints/last.safetensors");
    let whole = std::fs::read(&last).unwrap();
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 4;
    for damaged in [&flipped[..], &whole[..whole.len() / 3], &[], b"not a checkpoint at all"] {
        std::fs::write(&last, damaged).unwrap();
        fails(&["eval", path], &["last.safetensors"]);
        fails(&["train", "--resume", path], &["last.safetensors"]);
        assert_eq!(std::fs::read(&last).unwrap(), damaged);
    }
    std::fs::remove_file(&last).unwrap();
    fails(&["eval", path], &["last.safetensors is missing", "put a copy of it back"]);
    std::fs::create_dir(&last).unwrap();
    fails(&["eval", path], &["last.safetensors"]);
    std::fs::remove_dir(&last).unwrap();
    std::fs::write(&last, whole).unwrap();
    succeeds(&["eval", path]);
    fails(&["train", "--resume", folder.path().to_str().unwrap()], &["config.toml"]);
    fails(&["eval", "/no/such/run"], &["/no/such/run"]);
}

#[test]
fn a_finished_run_can_be_read_in_every_way() {
    let folder = TempDir::new().unwrap();
    let run = copy_of_finished(&folder);
    let path = run.to_str().unwrap();
    let first_line = std::fs::read_to_string(run.join("metrics.csv")).unwrap().lines().next().unwrap().to_owned();
    assert_eq!(first_line, "epoch,step,replica,seed,rank,train_loss,train_accuracy,test_loss,test_accuracy,seconds");
    for file in ["config.toml", "alignment.csv", "summary.json", "curves.png", "checkpoints/best.safetensors"] {
        assert!(run.join(file).metadata().is_ok_and(|m| m.len() > 0), "{file}");
    }
    let evaluated = succeeds(&["eval", path]);
    let summary: serde_json::Value = serde_json::from_slice(&std::fs::read(run.join("summary.json")).unwrap()).unwrap();
    let last = 100.0 * summary["replicas"][1]["last_test_accuracy"].as_f64().unwrap();
    assert!(evaluated.contains(&format!("{last:.2}")), "{last} is not in {evaluated}");
    for role in ["forward", "transport", "weight_gradient", "feedback"] {
        assert!(summary["flops_per_step"][role].as_u64().unwrap() > 0, "{role}");
    }
    let picture = folder.path().join("all.png");
    succeeds(&["report", path, path, "-o", picture.to_str().unwrap()]);
    assert_eq!(&std::fs::read(&picture).unwrap()[1..4], b"PNG");
    let file = folder.path().join("weights.safetensors");
    succeeds(&["export", path, "--replica", "1", "-o", file.to_str().unwrap()]);
    let bytes = std::fs::read(&file).unwrap();
    let weights = SafeTensors::deserialize(&bytes).unwrap();
    let shape = |name: &str| weights.tensor(name).unwrap().shape().to_vec();
    assert_eq!(shape("layers.0.weight"), [128, 64]);
    assert_eq!(shape("layers.0.bias"), [128]);
    assert_eq!(shape("layers.2.feedback.p"), [128, 10]);
    assert_eq!(shape("layers.6.feedback.q"), [10, 128]);
    fails(&["export", path, "--replica", "9", "-o", file.to_str().unwrap()], &["9", "counted from 0"]);
    fails(&["export", path, "-o", "/proc/weights"], &["/proc/weights"]);
    assert!(succeeds(&["train", "--resume", path]).contains("│ local "), "nothing is left to do");
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("w.safetensors");
    let (path, out) = (file.to_str().unwrap(), folder.path().join("run"));
    let init = |words: &[&str]| fails(&tiny(out.to_str().unwrap(), &["--init", path]), words);
    init(&["w.safetensors"]);
    std::fs::write(&file, "nonsense").unwrap();
    init(&["w.safetensors"]);
    let write = |tensors: &[(&str, Vec<usize>, f32)]| {
        let bytes: Vec<Vec<u8>> = tensors.iter().map(|(_, s, v)| v.to_le_bytes().repeat(s.iter().product())).collect();
        let views = tensors.iter().zip(&bytes).map(|((name, shape, _), data)| {
            (
                name.to_string(),
                safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), data).unwrap(),
            )
        });
        std::fs::write(&file, safetensors::serialize(views, None).unwrap()).unwrap();
    };
    write(&[("layers.0.weight", vec![128, 64], 0.1)]);
    init(&["w.safetensors", "layers.0.bias"]);
    write(&[("layers.0.weight", vec![64, 128], 0.1)]);
    init(&["w.safetensors", "layers.0.weight", "[64, 128]", "[128, 64]"]);
    write(&[("layers.0.weight", vec![128, 64], f32::NAN)]);
    init(&["w.safetensors", "layers.0.weight"]);
    write(&[("encoder.weight", vec![2, 2], 0.1)]);
    init(&["w.safetensors", "encoder.weight", "belongs to no layer"]);
    assert!(!out.exists(), "no run directory for a run that never began");
}

#[test]
fn a_loss_that_is_not_finite_ends_the_run_and_names_its_place() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    let path = out.to_str().unwrap();
    let schedule = "optimizer.schedule={type=\"warmup-cosine\",warmup_epochs=4}";
    let arguments = ["--rule", "backprop", "--seeds", "2", "--epochs", "4", "--set", schedule];
    let lr = ["--set", "optimizer.type=sgd", "--set", "optimizer.amsgrad=", "--set", "optimizer.lr=1e19"];
    fails(
        &[&["train", "digits", "--out", path], &arguments[..], &lr[..]].concat(),
        &["not finite", "step", "seed", "layers."],
    );
}

#[test]
fn every_rule_passes_its_own_verification() {
    let layers = "model.layers=[{type=\"dense\",out=30},{type=\"batchnorm\"},{type=\"gelu\"},{type=\"dropout\",p=0.2},\
                  {type=\"dense\",out=20},{type=\"relu\"},{type=\"dense\",out=10}]";
    let images = "model.layers=[{type=\"conv\",out=6,kernel=[3,2],padding=1},{type=\"batchnorm\"},{type=\"relu\"},\
                  {type=\"maxpool\",size=2},{type=\"residual\",layers=[{type=\"conv\",out=8,kernel=3,padding=1}],\
                  shortcut=[{type=\"conv\",out=8,kernel=1}]},{type=\"avgpool\",size=3,stride=1,padding=1},\
                  {type=\"flatten\"},{type=\"dense\",out=10}]";
    let rules: &[&[&str]] = &[
        &["--rule", "backprop"],
        &["--rule", "feedback-alignment"],
        &["--rule", "direct-feedback-alignment"],
        &["--p", "normative", "--q", "normative"],
        &["--p", "oja", "--q", "hebbian", "--rank", "3,9"],
        &["--p", "kolen-pollack", "--q", "hebbian"],
        &["--p", "oja", "--q", "hebbian", "--set", "feedback.source=output", "--set", "feedback.error_clamp=0.01"],
        &["--p", "oja", "--set", "feedback.output_statistics=labels", "--set", "model.loss=mean-squared-error"],
        &["--set", layers, "--set", "data.flip=true", "--set", "data.rotation=20.0", "--set", "data.crop_padding=2"],
        &["--set", images, "--set", "data.cutout=3", "--rank", "n/2", "--p", "normative", "--q", "normative"],
        &["--set", images, "--p", "oja", "--q", "hebbian", "--rank", "2,n/1", "--set", "feedback.exact=[\"layers.7\"]"],
        &["--set", images, "--rule", "feedback-alignment"],
        &["--set", "data.cutout=5", "--set", "data.limit=40", "--set", "model.label_smoothing=0.1"],
    ];
    for rule in rules {
        let printed = succeeds(&[&["verify", "digits"], *rule].concat());
        assert!(printed.contains(" 0 beyond their allowance"), "{rule:?}: {printed}");
    }
}

/// Half precision works where the adapter computes in it, and is refused with a way out where it does not, as under the
/// limits of WebGPU.
#[test]
fn half_precision_is_verified_or_refused() {
    let command = ["verify", "digits", "--set", "train.precision=f16"];
    let printed = succeeds(&["devices"]);
    let offered = printed.contains("f16 yes") && LimitPolicy::from_env() == LimitPolicy::Adapter;
    if offered {
        let printed = succeeds(&command);
        assert!(printed.contains(" 0 beyond their allowance") && printed.contains("half-"), "{printed}");
    } else {
        fails(&command, &["16 bits", "train.precision"]);
    }
    fails(&["verify", "digits", "--set", "train.precision=f8"], &["f8", "f32", "f16"]);
}

#[test]
fn plans_and_devices_are_printed() {
    let plan = succeeds(&["explain", "digits"]);
    for word in [
        "MFLOP",
        "kB",
        "layers.2",
        "transport",
        "weight-gradient",
        "3*32x128",
        "adam",
        "operations",
        "by backprop",
        "break-even",
    ] {
        assert!(plan.contains(word), "{word}: {plan}");
    }
    assert!(succeeds(&["explain", "digits", "--phase", "evaluate", "--unfused"]).contains("activate"));
    let devices = succeeds(&["devices"]);
    assert!(devices.contains("0: ") && devices.contains("limits") && devices.contains("features"), "{devices}");
    assert!(succeeds(&["data", "info", "digits"]).contains("1437"));
}

#[test]
fn a_limited_set_makes_short_epochs_and_another_configuration() {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    let path = run.to_str().unwrap();
    succeeds(&["train", "digits", "--out", path, "--epochs", "1", "--seeds", "1", "--set", "data.limit=70"]);
    let metrics = std::fs::read_to_string(run.join("metrics.csv")).unwrap();
    assert!(metrics.lines().nth(1).unwrap().starts_with("1,2,"), "two batches of 32: {metrics}");
    let config = std::fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(config.contains("limit = 70"), "{config}");
    succeeds(&["eval", path]);
    std::fs::write(run.join("config.toml"), config.replace("limit = 70", "limit = 71")).unwrap();
    fails(&["eval", path], &["belongs to another configuration"]);
}

/// 64-128-128-128-10, batch 32: the error of a hidden layer sent exactly costs 2 * 32 * 128 * 128 FLOPs, through rank 10
/// 2 * 32 * 10 * 256. The set need not be there.
#[test]
fn flops_are_counted_by_layer() {
    let printed = succeeds(&["flops", "digits", "--p", "fixed", "--q", "fixed", "--rank", "10"]);
    let row = printed.lines().find(|line| line.contains("layers.2")).unwrap();
    let cells: Vec<&str> = row.split('┆').map(|cell| cell.trim_matches([' ', '│'])).collect();
    assert_eq!(&cells[1..8], ["128 x 128", "10", "1.05", "1.05", "0.16", "1.05", "0.00"], "{row}");
    assert_eq!(cells[10], "63", "at 64 both cost the same: {row}");
    assert!(succeeds(&["flops", "vgg-cifar10"]).contains("512 x 4608"));
    let transformer = succeeds(&["flops", "vit-cifar10"]);
    for line in ["attention", "norms", "activations", "pools, tokens, sums", "loss", "updates", "all"] {
        assert!(
            transformer.lines().any(|found| found.trim_start_matches([' ', '│']).starts_with(line)),
            "no {line} in {transformer}"
        );
    }
    assert!(succeeds(&["flops", "resnet20-cifar10", "--rule", "backprop"]).contains("layers.9.shortcut.0"));
    let refused = run(&["flops", "digits", "--rank", "n/x"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("no rank"), "{}", text(&refused.stderr));
}

/// 16 networks of width 4096 need 256 KiB a sample, and a binding holds 128 MiB under the limits of WebGPU.
#[test]
fn a_batch_too_large_for_the_device_names_the_largest() {
    let layers = "model.layers=[{type=\"dense\",out=4096},{type=\"relu\"},{type=\"dense\",out=10}]";
    let command = ["verify", "digits", "--seeds", "16", "--set", "train.batch=1400", "--set", layers];
    let output = program(&command).env("LDFA_LIMITS", "webgpu").output().unwrap();
    let message = text(&output.stderr);
    assert!(!output.status.success() && message.contains("512 samples at once"), "{message}");
    assert!(message.contains("--accumulate 4"), "{message}");
    let mut parts = program(&["explain", "digits", "--accumulate", "4", "--seeds", "16"]);
    let parts = parts.args(["--set", "train.batch=1400", "--set", layers, "--no-tune"]).env("LDFA_LIMITS", "webgpu");
    let printed = parts.output().unwrap();
    assert!(text(&printed.stdout).contains("accumulate"), "{}", text(&printed.stderr));
    fails(&["train", "digits", "--accumulate", "3"], &["train.accumulate = 3", "divide train.batch = 32"]);
}

#[test]
fn a_configuration_of_every_key_trains() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("mine.toml");
    std::fs::write(
        &file,
        r#"
[data]
name = "digits"
flip = true
rotation = 5.0
crop_padding = 1
cutout = 3
limit = 1000

[model]
loss = "cross-entropy"
label_smoothing = 0.1
layers = [
    { type = "dense", out = 24 },
    { type = "batchnorm" },
    { type = "gelu" },
    { type = "dropout", p = 0.1 },
    { type = "dense", out = 16 },
    { type = "relu" },
    { type = "dense", out = 16 },
    { type = "relu" },
    { type = "dense", out = 10 },
]

[feedback]
rule = "ldfa"
p = "normative"
q = "normative"
rank = [3, 8]
init = "svd"
source = "layer"
refactorise_every = 2
error_clamp = 0.5
ranks = { "layers.4" = 5 }
exact = ["layers.6"]

[optimizer]
type = "adamw"
lr = 1e-3
weight_decay = 0.1
betas = [0.9, 0.99]
eps = 1e-8
amsgrad = true
schedule = { type = "warmup-cosine", warmup_epochs = 1, start_divisor = 25.0, final_lr = 1e-6 }

[feedback_optimizer]
type = "rmsprop"
lr = 1e-3
alpha = 0.9
clamp = 0.1
schedule = { type = "one-cycle", rise = 0.2 }

[train]
batch = 48
epochs = 1
seeds = 2
seed = 7
max_steps = 5
"#,
    )
    .unwrap();
    let out = folder.path().join("run");
    let output = run(&["train", file.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("below the 10 classes"), "a rank too small is warned of");
    let printed = text(&output.stdout);
    assert!(printed.contains("epoch 1/1") && printed.contains("│ normative "), "{printed}");
    let resolved = std::fs::read_to_string(out.join("config.toml")).unwrap();
    assert!(resolved.contains("feedback_optimizer") && resolved.contains("mine"), "{resolved}");
    succeeds(&["eval", out.to_str().unwrap(), "--device", "reference"]);
}

#[test]
fn a_folder_of_images_in_colour_goes_with_a_policy() {
    let folder = TempDir::new().unwrap();
    for (class, name) in ["bright", "dark"].into_iter().enumerate() {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        for at in 0..20u32 {
            let byte = |x: u32, y: u32, c: u32| (120 - 80 * class as u32 + (x * y + 7 * at + 13 * c) % 97) as u8;
            let image = image::RgbImage::from_fn(16, 18, |x, y| image::Rgb([0, 1, 2].map(|c| byte(x, y, c))));
            image.save(folder.path().join(name).join(format!("{at}.png"))).unwrap();
        }
    }
    let name = format!("data.name={}", folder.path().display());
    let layers = "model.layers=[{type=\"dense\",out=2}]";
    let own = ["--rule", "backprop", "--set", &name, "--set", layers, "--set", "data.autoaugment=cifar10"];
    let more = ["--set", "data.flip=true", "--set", "data.crop_padding=2", "--set", "model.label_smoothing=0.1"];
    let all = |command| [&[command, "digits"], &own[..], &more[..]].concat();
    let printed = succeeds(&all("verify"));
    assert!(printed.contains(" 0 beyond their allowance"), "{printed}");
    let plan = succeeds(&all("explain"));
    for word in ["[flip crop 2 autoaugment cifar10]", "[smoothing 0.1]"] {
        assert!(plan.contains(word), "{word}: {plan}");
    }
    fails(
        &[&all("verify")[..], &["--set", "data.grey=true"]].concat(),
        &["data.autoaugment = cifar10", "these have 1"],
    );
}

#[test]
fn two_processes_never_write_one_run() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    let path = out.to_str().unwrap();
    let mut first = program(&["train", "digits", "--out", path, "--epochs", "200", "--seeds", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !out.join("checkpoints/last.safetensors").exists() {
        assert!(first.try_wait().unwrap().is_none(), "the first run must last");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    fails(&["train", "--resume", path], &["run"]);
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn a_reader_that_leaves_is_no_reason_to_panic() {
    for arguments in [&["explain", "digits"][..], &["data", "info", "digits"], &["devices"]] {
        let mut child = program(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(!text(&output.stderr).contains("panicked"), "{arguments:?}: {}", text(&output.stderr));
    }
    for command in ["train", "eval", "export", "report", "explain", "flops", "verify", "devices", "data"] {
        assert!(succeeds(&[command, "--help"]).contains("Usage"), "{command}");
    }
    assert_eq!(run(&["no-such-command"]).status.code(), Some(2));
    for incomplete in ["train", "explain", "verify", "eval", "report"] {
        assert_eq!(run(&[incomplete]).status.code(), Some(2), "{incomplete}");
    }
    assert_eq!(run(&["train", "digits", "--resume", "runs/x"]).status.code(), Some(2));
}

#[test]
fn random_changes_to_a_configuration_never_panic() {
    use ldfa_gpu::train::config::Draft;
    use proptest::prelude::*;
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("seed");
    succeeds(&tiny(out.to_str().unwrap(), &[]));
    let whole = std::fs::read(out.join("config.toml")).unwrap();
    let file = folder.path().join("mutated.toml");
    proptest!(ProptestConfig::with_cases(300), |(at in 0..whole.len(), byte: u8, cut in 0..whole.len(), short: bool)| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        if short {
            bytes.truncate(cut);
        }
        std::fs::File::create(&file).unwrap().write_all(&bytes).unwrap();
        // Either outcome is fine; what must not happen is a panic.
        if let Ok(draft) = Draft::open(file.to_str().unwrap()) {
            let _ = draft.finish().map(|config| config.replicas().len());
        }
    });
}

/// A bench that only shows that it runs.
fn quick(arguments: &[&str]) -> String {
    succeeds(&[&["bench"], arguments, &["--quick"]].concat())
}

#[test]
fn the_headline_is_one_object_with_every_number() {
    let text = quick(&["headline", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let mut ratios = vec!["gemm512_over_yardstick", "fused_over_unfused_time", "fused_over_split_time", "control"]
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    for prefix in ["", "cifar10_mlp_"] {
        for part in ["step", "step_flops", "backward", "backward_flops"] {
            ratios.extend(["local", "normative"].map(|rule| format!("{prefix}{part}_{rule}_over_backprop")));
        }
    }
    for prefix in ["vgg_", "vit_"] {
        for part in ["step", "step_flops"] {
            ratios.extend(["local", "normative"].map(|rule| format!("{prefix}{part}_{rule}_over_backprop")));
        }
    }
    ratios.push("convolution_rate_over_product".to_owned());
    ratios.extend(["record_us_per_op", "first_step_seconds", "fma_gflops", "copy_gbs"].map(str::to_owned));
    for name in ratios {
        let value = found[&name].as_f64().unwrap_or_else(|| panic!("{name} is not a number in {text}"));
        assert!(value > 0.0 && value.is_finite(), "{name} = {value}");
    }
    assert_eq!(found["memory_growth_bytes"].is_i64(), cfg!(target_os = "linux"), "{text}");
    let half = succeeds(&["devices"]).contains("f16 yes") && LimitPolicy::from_env() == LimitPolicy::Adapter;
    assert_eq!(found["gemm_f16_over_f32_time"].is_f64(), half, "{text}");
    assert_eq!(found["version"], env!("CARGO_PKG_VERSION"));
    assert!(found["adapter"].as_str().is_some_and(|name| !name.is_empty()) && found["driver"].is_string(), "{text}");
    // Of the digits' step, which stands in for cifar10-mlp here: rank 10 saves operations.
    assert!(found["cifar10_mlp_step_flops_local_over_backprop"].as_f64().unwrap() < 1.0);

    let part: serde_json::Value = serde_json::from_str(&quick(&["headline", "--json", "--only", "gru"])).unwrap();
    assert!(part["gru_backward_local_over_backprop"].is_f64() && part["control"].is_null(), "{part}");
}

#[test]
fn kernels_are_tabulated_and_written_as_json() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("kernels.json");
    let table = quick(&["kernels", "--json", file.to_str().unwrap()]);
    for word in ["ceilings:", "control", "gemm", "tile", "stream", "transport", "unfused", "fused", "adam", "gather"] {
        assert!(table.contains(word), "{word} is not in\n{table}");
    }
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows[0]["family"], "control");
    for row in rows {
        for time in row["times"].as_array().unwrap() {
            assert!(time["microseconds"].as_f64().unwrap() > 0.0, "{row}");
        }
        assert_eq!(row["times"][0]["ratio"], 1.0, "{row}");
    }
    let some = quick(&["kernels", "--only", "transport"]);
    assert!(some.contains("transport") && !some.contains("column-sum"), "{some}");
    let nowhere = folder.path().join("no/folder.json");
    fails(&["bench", "kernels", "--quick", "--only", "oja", "--json", nowhere.to_str().unwrap()], &["no/folder.json"]);
}

#[test]
fn steps_are_timed_by_rule() {
    let text = quick(&["steps", "digits", "--batch", "8", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let rules: Vec<_> = rows.iter().map(|row| row["rule"].as_str().unwrap()).collect();
    let expected = ["backprop", "backprop again", "local", "normative", "feedback-alignment"];
    assert_eq!(rules, expected);
    assert!(rows.iter().all(|row| row["batch"] == 8 && row["milliseconds"].as_f64().unwrap() > 0.0), "{text}");
    assert_eq!((&rows[1]["flops_over_backprop"], &rows[4]["flops_over_backprop"]), (&1.0.into(), &1.0.into()));
    fails(&["bench", "steps", "digit"], &["did you mean digits?"]);
    fails(&["bench", "steps", "digits", "--batch", "0"], &["train.batch", "at least 1"]);
    fails(&["bench", "kernels", "--quick", "--only", "none"], &["none", "there are", "transport"]);
    fails(&["bench", "kernels", "--device", "reference"], &["reference has none"]);
    fails(&["bench", "headline", "--device", "99"], &["no adapter matches", "99"]);
}

#[test]
fn a_profile_is_printed_and_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let (plain, profiled) = (folder.path().join("plain"), folder.path().join("profiled"));
    succeeds(&tiny(plain.to_str().unwrap(), &[]));
    for device in ["best", "reference"] {
        let _ = std::fs::remove_dir_all(&profiled);
        let table = succeeds(&tiny(profiled.to_str().unwrap(), &["--profile", "--device", device]));
        for word in [
            "GFLOP/s",
            "layers.2",
            "weight-gradient",
            "softmax-cross-entropy",
            "sum        transport",
            "sum        all",
        ] {
            assert!(table.contains(word), "{word} is not in\n{table}");
        }
        if device == "best" {
            let weights = |run: &Path| {
                let file = folder.path().join("weights.safetensors");
                succeeds(&["export", run.to_str().unwrap(), "-o", file.to_str().unwrap()]);
                std::fs::read(file).unwrap()
            };
            assert_eq!(weights(&plain), weights(&profiled), "profiling changed the weights");
        }
    }
}

#[test]
fn the_theory_is_tabulated_and_filed() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("theory");
    let printed = succeeds(&["theory", "--ranks", "2", "--iterations", "30", "--out", out.to_str().unwrap()]);
    for word in ["backprop", "learned", "fixed", "distance", "theory.csv"] {
        assert!(printed.contains(word), "{word}: {printed}");
    }
    assert!(out.join("theory.csv").is_file() && out.join("modes.png").is_file());
    fails(&["theory", "--ranks", "65"], &["rank 65", "between 1 and 64"]);
    fails(&["theory", "--iterations", "0"], &["at least 1"]);
}
