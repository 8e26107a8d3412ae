//! Hostile input against the whole program, beyond tests/cli.rs: full and read-only disks, lost and foreign checkpoints,
//! damaged logs and data, outputs that must not be replaced, networks past 32 bits. The f64 executor trains where the
//! device does not matter: nothing has to be compiled for it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use safetensors::SafeTensors;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ldfa-gpu");

/// A network that a checkpoint of a few kB holds.
const SMALL: &str = "model.layers=[{type=\"dense\",out=12},{type=\"relu\"},{type=\"dense\",out=12},{type=\"relu\"},\
                     {type=\"dense\",out=10}]";

/// A folder of its own for every test, and the program run in it.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        // Without a desktop, Mesa's words must not appear among ours.
        command.args(arguments).current_dir(self.0.path()).env_remove("LDFA_DATA").env_remove("XDG_RUNTIME_DIR");
        // Without a cache nothing is measured, and the user's is left alone.
        command.env("LDFA_CACHE", "");
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Standard output of a command that must succeed.
    fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}\n{}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// The message of a command that must fail, holding all of `words`.
    fn fails(&self, arguments: &[&str], words: &[&str]) -> String {
        check_failure(&self.run(arguments), &format!("{arguments:?}"), words)
    }

    /// The same on the f64 executor, and nothing below `harmless` may change.
    fn fails_and_spares(&self, harmless: &str, arguments: &[&str], words: &[&str]) {
        let before = snapshot(&self.path(harmless));
        self.fails(&on_cpu(arguments), words);
        assert!(snapshot(&self.path(harmless)) == before, "{arguments:?} changed {harmless}");
    }

    /// A copy of a run of two epochs.
    fn copy_of_run(&self, name: &str) {
        copy(shared_run(), &self.path(name));
    }
}

fn on_cpu<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, &["--device", "reference"]].concat()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Exit code 1, no panic, exactly one line that begins with `error: `; from there on all of `words`.
fn check_failure(output: &Output, what: &str, words: &[&str]) -> String {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{what}: {stderr}");
    assert!(!stderr.contains("panicked"), "{what}: {stderr}");
    assert_eq!(stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{what}: {stderr}");
    let message = &stderr[stderr.find("error: ").unwrap()..];
    for word in words {
        assert!(message.contains(word), "{what}: {word:?} is not in {stderr}");
    }
    message.to_owned()
}

/// Every file below a folder with its content; folders with none.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    if folder.is_file() {
        found.insert(folder.to_owned(), Some(fs::read(folder).unwrap()));
        return found;
    }
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.insert(path.clone(), None);
            found.extend(snapshot(&path));
        } else if path.file_name().unwrap() != ".lock" {
            found.insert(path.clone(), Some(fs::read(&path).unwrap()));
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// A finished run of two epochs, to be copied and damaged. Its best epoch is its last.
fn shared_run() -> &'static Path {
    static RUN: OnceLock<(Place, PathBuf)> = OnceLock::new();
    let (_, path) = RUN.get_or_init(|| {
        let place = Place::new();
        place.succeeds(&on_cpu(&["train", "digits", "--epochs", "2", "--seeds", "1", "--set", SMALL, "--out", "run"]));
        let path = place.path("run");
        (place, path)
    });
    path
}

/// All tensors of an exported file as bytes.
fn tensors(file: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(file).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter().map(|(name, view)| (name.to_owned(), view.data().to_vec())).collect()
}

fn exported(place: &Place, run: &str) -> BTreeMap<String, Vec<u8>> {
    place.succeeds(&on_cpu(&["export", run, "-o", "exported.safetensors"]));
    tensors(&place.path("exported.safetensors"))
}

#[test]
fn options_name_themselves_in_errors_and_reach_every_key() {
    let place = Place::new();
    place.fails(&["train", "digits", "--set", "train.epoch=3"], &["--set train.epoch=3", "epochs?"]);
    place.fails(&["train", "digits", "--set", "optimizer.type=sgd"], &["optimizer.amsgrad = true", "leave it out"]);
    // A value may not smuggle in another key.
    place.fails(&["train", "digits", "--set", "train.batch=8\nseeds=2"], &["train.batch", "expected a whole number"]);
    place.fails(&["train", "digits", "--set", "data.name="], &["missing field `name`"]);
    let dotted =
        ["--set", "feedback.ranks.\"layers.2\"=3", "--set", "optimizer.type=sgd", "--set", "optimizer.amsgrad="];
    let tiny = ["train", "digits", "--out", "run", "--max-steps", "3", "--epochs", "1", "--seeds", "1"];
    place.succeeds(&on_cpu(&[&tiny[..], &dotted[..]].concat()));
    let config = fs::read_to_string(place.path("run/config.toml")).unwrap();
    assert!(config.contains("\"layers.2\" = 3") && !config.contains("amsgrad"), "{config}");
}

#[test]
fn wrong_usage_exits_with_two_and_creates_nothing() {
    let place = Place::new();
    let wrong: &[&[&str]] = &[
        &[],
        &["trian", "digits"],
        &["train"],
        &["train", "digits", "--bogus"],
        &["train", "digits", "--rank", "ten"],
        &["train", "digits", "--rank", "-3"],
        &["train", "digits", "--rank", "99999999999"],
        &["train", "digits", "--seeds", "1.5"],
        &["train", "digits", "--out", ""],
        &["train", "--resume", "run", "--rank", "3"],
        &["train", "--resume", ""],
        &["export", "run"],
        &["data"],
        &["data", "info"],
        &["explain", "digits", "--phase", "sideways"],
    ];
    for arguments in wrong {
        let output = place.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("Usage") || text(&output.stderr).contains("--help"), "{arguments:?}");
    }
    assert!(snapshot(place.0.path()).is_empty());
    place.fails(&["train", "digits", "--device", ""], &["--device \"\""]);
    for arguments in [&["--help"][..], &["--version"], &["data", "list", "--help"], &["data", "fetch", "--help"]] {
        place.succeeds(arguments);
    }
}

#[test]
fn networks_past_thirty_two_bits_are_refused() {
    let place = Place::new();
    let wide = |widths: &[u64]| {
        let layers: Vec<String> = widths.iter().map(|out| format!("{{type=\"dense\",out={out}}}")).collect();
        format!("model.layers=[{}]", layers.join(","))
    };
    // 75 * 57266231 is 29 modulo 2^32, 64 * 67108864 is 0, 70000^2 wraps to something that fits an adapter.
    for widths in [&[57_266_231, 10][..], &[67_108_864, 10], &[70_000, 70_000, 10], &[4_294_967_295, 10]] {
        let layers = wide(widths);
        let arguments = ["explain", "digits", "--seeds", "1", "--rule", "backprop", "--set", &layers];
        place.fails(&arguments, &["model.layers", "narrower"]);
        place.fails(&on_cpu(&arguments), &["model.layers", "narrower"]);
    }
    // Each tensor is possible, all replicas of it are not.
    let layers = wide(&[20_000, 20_000, 10]);
    let many = ["explain", "digits", "--seeds", "64", "--rule", "backprop", "--set", &layers];
    place.fails(&on_cpu(&many), &["weights.layers.1.weight.values", "fewer replicas"]);
    assert!(snapshot(place.0.path()).is_empty());
}

/// A small MNIST, to be damaged: 40 images of 3 x 2 to train on, 10 to test on.
fn write_mnist(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for (split, count) in [("train", 40u32), ("t10k", 10)] {
        let mut images = [0x803, count, 3, 2].map(u32::to_be_bytes).concat();
        images.extend((0..count * 6).map(|i| (i * 7) as u8));
        fs::write(folder.join(format!("{split}-images-idx3-ubyte")), images).unwrap();
        let mut labels = [0x801, count].map(u32::to_be_bytes).concat();
        labels.extend((0..count).map(|i| (i % 10) as u8));
        fs::write(folder.join(format!("{split}-labels-idx1-ubyte")), labels).unwrap();
    }
}

#[test]
fn damaged_data_is_named_by_file_and_place_before_a_run_begins() {
    let place = Place::new();
    let (images, labels) = ("mnist/train-images-idx3-ubyte", "mnist/t10k-labels-idx1-ubyte");
    let train = ["train", "digits", "--set", "data.name=mnist", "--set", SMALL, "--max-steps", "2", "--seeds", "1"];
    let train = [&train[..], &["--data-dir", ".", "--out", "run"]].concat();
    let damage = |file: &str, change: &dyn Fn(&mut Vec<u8>), words: &[&str]| {
        write_mnist(&place.path("mnist"));
        let mut bytes = fs::read(place.path(file)).unwrap();
        change(&mut bytes);
        fs::write(place.path(file), &bytes).unwrap();
        let words = [&[file, "replace the file"], words].concat();
        place.fails_and_spares("mnist", &train, &words);
        place.fails(&["data", "info", "mnist", "--data-dir", "."], &words);
        assert!(place.succeeds(&["data", "list", "--data-dir", "."]).contains("damaged"));
        assert!(!place.path("run").exists(), "a run began on damaged data");
    };
    damage(images, &|bytes| bytes.truncate(100), &["at byte 100", "256 bytes are needed"]);
    damage(images, &|bytes| bytes.clear(), &["empty"]);
    damage(images, &|bytes| bytes.push(0), &["at byte 256", "more bytes follow"]);
    damage(images, &|bytes| bytes[2] = 9, &["magic number"]);
    damage(images, &|bytes| bytes[4..8].fill(0xff), &["at byte 4", "4294967295 images"]);
    damage(labels, &|bytes| bytes[11] = 10, &["record 3 (at byte 11)", "label 10"]);
    write_mnist(&place.path("mnist"));
    place.succeeds(&on_cpu(&train));
}

#[test]
fn folders_of_images_must_agree_in_size() {
    let place = Place::new();
    let draw = |class: &str, index: u8, side: u32| {
        let folder = place.path("pictures").join(class);
        fs::create_dir_all(&folder).unwrap();
        let picture = image::GrayImage::from_fn(side, side, |x, y| image::Luma([(x * 9 + y) as u8 + index]));
        picture.save(folder.join(format!("{index}.png"))).unwrap();
    };
    for index in 0..12 {
        draw("cats", index, 4);
        draw("dogs", index + 100, 4);
    }
    let layers = "model.layers=[{type=\"dense\",out=6},{type=\"relu\"},{type=\"dense\",out=2}]";
    let train = ["train", "digits", "--set", "data.name=pictures", "--set", layers, "--set", "train.batch=4"];
    let train = [&train[..], &["--rank", "2", "--seeds", "1", "--max-steps", "2"]].concat();
    place.succeeds(&on_cpu(&[&train[..], &["--out", "run"]].concat()));
    draw("dogs", 120, 5);
    let words = ["images differ in shape", "dogs/120.png", "5 x 5 x 1", "4 x 4 x 1", "resize"];
    place.fails_and_spares("pictures", &train, &words);
    fs::write(place.path("pictures/dogs/120.png"), "not a picture").unwrap();
    place.fails_and_spares("pictures", &train, &["dogs/120.png", "replace or remove it"]);
    fs::remove_file(place.path("pictures/dogs/120.png")).unwrap();
    fs::create_dir(place.path("pictures/birds")).unwrap();
    place.fails_and_spares("pictures", &train, &["birds", "no images"]);
}

/// Runs a script in a mount namespace of its own, as root or as a user who may act as one; false where neither may be.
#[cfg(target_os = "linux")]
fn in_mount_namespace(place: &Place, script: &str) -> bool {
    [&["-m"][..], &["-r", "-m"]].iter().any(|flags| {
        let mut command = Command::new("unshare");
        command.args(*flags).args(["sh", "-c", script, "sh", PROGRAM]).current_dir(place.0.path());
        command.env_remove("LDFA_DATA").env("LDFA_CACHE", "").output().is_ok_and(|output| output.status.success())
    })
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_stops_a_run_that_goes_on_bitwise_once_there_is_space() {
    let place = Place::new();
    fs::create_dir(place.path("disk")).unwrap();
    // Space for the two checkpoints of an epoch, 1.6 MB each, but not for the third file that replaces one of them.
    let script = r#"
        mount -t tmpfs -o size=4000k tmpfs disk || exit 77
        on="--device reference"
        $1 train digits --epochs 3 --seeds 1 $on --out disk/run > out1 2> err1; echo $? > code1
        ls -A disk/run/checkpoints > left
        $1 eval disk/run $on > out2 2> err2; echo $? > code2
        mount -o remount,size=20m disk || exit 77
        $1 train --resume disk/run $on > out3 2> err3; echo $? > code3
        $1 export disk/run -o weights.safetensors $on > out4 2> err4; echo $? > code4
        mount -o remount,ro disk || exit 77
        $1 train digits $on --out disk/other > out5 2> err5; echo $? > code5
        $1 train --resume disk/run $on > out6 2> err6; echo $? > code6
        $1 export disk/run -o disk/w.safetensors $on > out7 2> err7; echo $? > code7
        $1 eval disk/run $on > out8 2> err8; echo $? > code8
    "#;
    if !in_mount_namespace(&place, script) {
        // No disk can be mounted here: /dev/full refuses a write in the same words.
        println!("no mount namespace: a full standard output stands for the full disk");
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = place.command(&["data", "info", "digits"]).stdout(full).output().unwrap();
        check_failure(&output, "full standard output", &["No space left on device"]);
        return;
    }
    let read = |name: &str| fs::read_to_string(place.path(name)).unwrap();
    let step = |number: u32| (read(&format!("code{number}")).trim().to_owned(), read(&format!("err{number}")));
    let refused = |number: u32, words: &[&str]| {
        let (code, err) = step(number);
        assert_eq!(code, "1", "{err}");
        assert_eq!(err.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{err}");
        words.iter().for_each(|word| assert!(err.contains(word), "{word} is not in {err}"));
    };
    refused(1, &["disk/run/checkpoints/", "No space left", "free space"]);
    assert!(read("out1").contains("epoch 1/3") && !read("out1").contains("epoch 2/3"), "{}", read("out1"));
    assert_eq!(read("left"), "best.safetensors\nlast.safetensors\n", "no half-written file stays");
    for number in [2, 3, 4, 8] {
        assert_eq!(step(number).0, "0", "{}", step(number).1);
    }
    refused(5, &["disk/other", "read-only", "--out"]);
    refused(6, &["disk/run", "read-only"]);
    refused(7, &["disk/w.safetensors", "read-only"]);
    place.succeeds(&on_cpu(&["train", "digits", "--epochs", "3", "--seeds", "1", "--out", "whole"]));
    assert!(tensors(&place.path("weights.safetensors")) == exported(&place, "whole"), "not bitwise the same");
}

#[test]
fn checkpoints_of_other_runs_and_of_edited_configurations_are_refused() {
    let place = Place::new();
    place.copy_of_run("run");
    let other = ["train", "digits", "--rule", "backprop", "--max-steps", "2", "--seeds", "1", "--out", "other"];
    place.succeeds(&on_cpu(&other));
    let (last, foreign) = (place.path("run/checkpoints/last.safetensors"), "other/checkpoints/last.safetensors");
    let whole = fs::read(&last).unwrap();
    let mut longer = whole.clone();
    longer.push(0);
    let mut newer = whole.clone();
    let at = newer.windows(12).position(|w| w == b"\"format\":\"2\"").unwrap();
    newer[at + 10] = b'9';
    let foreign = fs::read(place.path(foreign)).unwrap();
    for (content, words) in [
        (&foreign, &["another configuration", "--out"][..]),
        (&longer, &["damaged", "1 byte follows its end", "intact copy"]),
        (&newer, &["damaged", "checksum"]),
    ] {
        fs::write(&last, content).unwrap();
        for command in [&["train", "--resume", "run"][..], &["eval", "run"], &["export", "run", "-o", "run/w"]] {
            place.fails_and_spares("run", command, &[&["run/checkpoints/last.safetensors"], words].concat());
        }
    }
    fs::write(&last, whole).unwrap();
    let config = fs::read_to_string(place.path("run/config.toml")).unwrap();
    let edit = |from: &str, to: &str, words: &[&str]| {
        let edited = config.replacen(from, to, 1);
        assert_ne!(edited, config);
        fs::write(place.path("run/config.toml"), edited).unwrap();
        for command in [&["train", "--resume", "run"][..], &["eval", "run"]] {
            place.fails_and_spares("run", command, words);
        }
    };
    edit("lr = 0.001", "lr = 0.002", &["last.safetensors", "another configuration"]);
    edit("out = 12", "out = 13", &["last.safetensors", "another configuration"]);
    edit("lr = 0.001", "lr = = 0.001", &["run/config.toml", "TOML parse error at line", "| lr = = 0.001"]);
    edit("batch = 32", "batches = 32", &["run/config.toml", "did you mean batch?"]);
    edit("batch = 32", "batch = 0", &["train.batch = 0"]);
    fs::remove_file(place.path("run/config.toml")).unwrap();
    place.fails_and_spares("run", &["train", "--resume", "run"], &["run is not a run", "config.toml"]);
}

#[test]
fn a_lost_checkpoint_never_costs_the_metrics() {
    let place = Place::new();
    place.copy_of_run("run");
    let before = fs::read_to_string(place.path("run/metrics.csv")).unwrap();
    let weights = exported(&place, "run");
    // The best one holds networks of different epochs.
    fs::remove_file(place.path("run/checkpoints/last.safetensors")).unwrap();
    for command in [&["train", "--resume", "run"][..], &["eval", "run"]] {
        place.fails_and_spares("run", command, &["last.safetensors is missing", "step 88", "--out"]);
    }
    place.succeeds(&on_cpu(&["export", "run", "--best", "-o", "best.safetensors"]));
    assert!(tensors(&place.path("best.safetensors")) == weights, "its best epoch is its last");
    // Nor does it tell of a first epoch without rows.
    let header = before.lines().next().unwrap();
    fs::write(place.path("run/metrics.csv"), format!("{header}\n")).unwrap();
    place.fails_and_spares("run", &["train", "--resume", "run"], &["last.safetensors is missing", "best.safetensors"]);
    fs::write(place.path("run/metrics.csv"), &before).unwrap();
    fs::remove_file(place.path("run/checkpoints/best.safetensors")).unwrap();
    place.fails_and_spares("run", &["train", "--resume", "run"], &["last.safetensors is missing", "step 88", "--out"]);
    place.fails(&on_cpu(&["eval", "run", "--best"]), &["best.safetensors is missing", "step 88"]);
}

#[test]
fn lost_parts_of_a_run_are_named_with_what_to_do() {
    let place = Place::new();
    for (file, refused, words) in [
        ("metrics.csv", &["train --resume", "report", "eval --best"][..], &["put a copy of it back", "--out"][..]),
        ("alignment.csv", &["train --resume", "report --spectra s.png"], &["echo epoch,step"]),
        ("spectrum.csv", &["train --resume", "report --spectra s.png"], &["echo epoch,step"]),
        ("depth.csv", &["train --resume"], &["echo epoch,step"]),
        ("kernels.toml", &["train --resume", "eval", "export -o w"], &["intact copy", "--resume run --no-tune"]),
    ] {
        place.copy_of_run("run");
        fs::remove_file(place.path("run").join(file)).unwrap();
        let missing = format!("run/{file} is missing");
        for command in refused {
            let command: Vec<&str> = command.split(' ').chain(["run"]).collect();
            let device = if command[0] == "report" { &[][..] } else { &["--device", "reference"] };
            let before = snapshot(&place.path("run"));
            place.fails(&[&command[..], device].concat(), &[&[&missing[..]], words].concat());
            assert!(snapshot(&place.path("run")) == before, "{command:?} changed the run");
        }
        // What does not need it goes on, and says so where it shows the run as a whole.
        if !refused.contains(&"report") {
            let report = place.run(&["report", "run"]);
            assert!(report.status.success());
            assert_eq!(text(&report.stderr).contains(&format!("warning: {missing}")), file != "kernels.toml");
        }
        fs::remove_dir_all(place.path("run")).unwrap();
    }
    place.copy_of_run("run");
    let weights = exported(&place, "run");
    // The remedies do what they say.
    fs::remove_file(place.path("run/kernels.toml")).unwrap();
    place.succeeds(&on_cpu(&["train", "--resume", "run", "--no-tune"]));
    fs::remove_file(place.path("run/alignment.csv")).unwrap();
    let error = place.fails(&on_cpu(&["train", "--resume", "run"]), &["alignment.csv is missing"]);
    let (_, remedy) = error.trim_end().split_once("begin it anew: ").unwrap();
    assert!(Command::new("sh").args(["-c", remedy]).current_dir(place.0.path()).status().unwrap().success());
    place.succeeds(&on_cpu(&["train", "--resume", "run"]));
    assert!(exported(&place, "run") == weights);
    // Killed before its first checkpoint, a run begins anew.
    for file in
        ["metrics.csv", "spectrum.csv", "depth.csv", "checkpoints/last.safetensors", "checkpoints/best.safetensors"]
    {
        fs::remove_file(place.path("run").join(file)).unwrap();
    }
    place.succeeds(&on_cpu(&["train", "--resume", "run"]));
    assert!(exported(&place, "run") == weights);
}

#[test]
fn rows_of_another_run_are_refused() {
    let place = Place::new();
    place.copy_of_run("run");
    let metrics = fs::read_to_string(place.path("run/metrics.csv")).unwrap();
    let lines: Vec<&str> = metrics.lines().collect();
    let put = |lines: &[&str]| fs::write(place.path("run/metrics.csv"), lines.join("\n") + "\n").unwrap();
    let resume = ["train", "--resume", "run"];
    // Half of the run: its checkpoint and its summary tell of more.
    put(&lines[..2]);
    place.fails_and_spares(
        "run",
        &resume,
        &["metrics.csv does not belong to this run", "ends with epoch 1", "step 88"],
    );
    place.fails(&["report", "run"], &["summary.json does not tell what metrics.csv", "--resume run"]);
    let other_seed = lines[2].replacen("2,88,0,0,", "2,88,0,1,", 1);
    assert_ne!(other_seed, lines[2]);
    put(&[lines[0], lines[1], &other_seed]);
    for command in [&on_cpu(&resume)[..], &["report", "run"]] {
        place.fails(command, &["metrics.csv does not belong to this run", "line 3", "seed 1", "seed 0 here"]);
    }
    put(&lines);
    let alignment = fs::read_to_string(place.path("run/alignment.csv")).unwrap();
    fs::write(place.path("run/alignment.csv"), alignment.replacen("1,44,0,", "1,44,3,", 1)).unwrap();
    place.fails_and_spares("run", &resume, &["alignment.csv does not belong to this run", "line 2", "network 3"]);
    place.fails(&["report", "run", "--spectra", "s.png"], &["alignment.csv does not belong to this run"]);
    // What goes on is not what has ended.
    fs::write(place.path("run/alignment.csv"), alignment).unwrap();
    place.succeeds(&on_cpu(&["train", "digits", "--max-steps", "3", "--seeds", "1", "--set", SMALL, "--out", "short"]));
    let stopped = place.run(&on_cpu(&["train", "--resume", "short", "--max-steps", "2"]));
    check_failure(&stopped, "back", &["train.max_steps = 2", "has taken 3 steps"]);
    assert!(place.path("short/summary.json").exists());
}

#[test]
fn changed_images_are_told_from_a_changed_configuration() {
    let place = Place::new();
    write_mnist(&place.path("mnist"));
    let train = ["train", "digits", "--set", "data.name=mnist", "--set", SMALL, "--max-steps", "2", "--seeds", "1"];
    place.succeeds(&on_cpu(&[&train[..], &["--set", "train.batch=8", "--data-dir", ".", "--out", "run"]].concat()));
    let images = place.path("mnist/train-images-idx3-ubyte");
    let mut bytes = fs::read(&images).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&images, bytes).unwrap();
    for command in [&["train", "--resume", "run"][..], &["eval", "run"], &["eval", "run", "--best"]] {
        let words = ["another set of images", "images of mnist back"];
        let message = place.fails(&on_cpu(&[command, &["--data-dir", "."]].concat()), &words);
        assert!(!message.contains("configuration"), "{message}");
    }
}

/// Weights from a file are in no configuration: a run that ends before its first epoch must not forget them.
#[test]
fn given_weights_are_saved_before_the_first_step() {
    let place = Place::new();
    place.copy_of_run("run");
    let given = exported(&place, "run");
    fs::rename(place.path("exported.safetensors"), place.path("given.safetensors")).unwrap();
    let train = ["train", "digits", "--seeds", "1", "--set", SMALL, "--out", "new", "--init", "given.safetensors"];
    let explosive = ["--set", "optimizer={type=\"sgd\",lr=1e19}", "--set", "model.loss=mean-squared-error"];
    place.fails(&on_cpu(&[&train[..], &explosive].concat()), &["not finite", "(epoch 1)"]);
    assert!(exported(&place, "new") == given);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_ends_no_training() {
    let place = Place::new();
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    let train = on_cpu(&["train", "digits", "--epochs", "2", "--seeds", "1", "--set", SMALL, "--out", "run"]);
    let output = place.command(&train).stdout(full()).output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.matches("cannot write to standard output: No space left").count(), 1, "{stderr}");
    assert!(place.path("run/summary.json").exists(), "the training did not reach its end");
    assert!(exported(&place, "run") == exported_of_shared(&place), "nor did it train otherwise");
}

#[cfg(target_os = "linux")]
fn exported_of_shared(place: &Place) -> BTreeMap<String, Vec<u8>> {
    place.copy_of_run("shared");
    exported(place, "shared")
}

#[cfg(unix)]
#[test]
fn a_limit_on_the_size_of_files_is_said() {
    let place = Place::new();
    let script = "ulimit -f 8; exec \"$0\" train digits --epochs 1 --seeds 1 --device reference --out run";
    let mut command = Command::new("sh");
    command.args(["-c", script, PROGRAM]).current_dir(place.0.path()).env("LDFA_CACHE", "").env_remove("LDFA_DATA");
    let words = ["run/checkpoints/last.safetensors", "File too large", "ulimit -f"];
    check_failure(&command.output().unwrap(), "ulimit -f", &words);
}

/// Where the system starts no thread (here for want of memory for its stack), one computes.
#[test]
fn without_threads_one_computes() {
    let place = Place::new();
    place.copy_of_run("run");
    let expected = place.succeeds(&on_cpu(&["eval", "run"]));
    let train = ["train", "digits", "--max-steps", "2", "--seeds", "1", "--out", "new"];
    for (command, words) in [(&["eval", "run"][..], "no more threads"), (&train, "cannot catch Ctrl-C")] {
        let output = place.command(&on_cpu(command)).env("RUST_MIN_STACK", (1u64 << 50).to_string()).output().unwrap();
        assert!(output.status.success() && text(&output.stderr).contains(words), "{}", text(&output.stderr));
        if command[0] == "eval" {
            assert_eq!(text(&output.stdout), expected);
        }
    }
}

/// Pipes that nobody writes to, devices and files without end, in the place of every file of a run: an error, at once.
#[cfg(target_os = "linux")]
#[test]
fn endless_files_are_refused_at_once() {
    let place = Place::new();
    let (resume, eval, best, report) = ("train --resume run", "eval run", "eval --best run", "report run");
    for (file, readers) in [
        ("summary.json", &[report][..]),
        ("metrics.csv", &[resume, best, report]),
        ("config.toml", &[resume, eval, best, report]),
        ("kernels.toml", &[resume, eval, best]),
        ("checkpoints/last.safetensors", &[resume, eval]),
        ("checkpoints/best.safetensors", &[resume, best]),
    ] {
        for kind in ["pipe", "device", "sparse"] {
            place.copy_of_run("run");
            let path = place.path("run").join(file);
            fs::remove_file(&path).unwrap();
            match kind {
                "pipe" => assert!(Command::new("mkfifo").arg(&path).status().unwrap().success()),
                "device" => std::os::unix::fs::symlink("/dev/zero", &path).unwrap(),
                _ => fs::File::create(&path).unwrap().set_len(100 << 30).unwrap(),
            }
            for &command in readers {
                let mut arguments: Vec<&str> = command.split(' ').collect();
                if command != report {
                    arguments = on_cpu(&arguments);
                }
                let what = format!("{kind} {file}: {command}");
                let mut child = place.command(&arguments).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
                let began = std::time::Instant::now();
                while child.try_wait().unwrap().is_none() {
                    if began.elapsed() > std::time::Duration::from_secs(30) {
                        child.kill().unwrap();
                        panic!("{what}: it waits");
                    }
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                let word = if file == "config.toml" && kind != "sparse" { "run" } else { file };
                check_failure(&child.wait_with_output().unwrap(), &what, &[word]);
            }
            fs::remove_dir_all(place.path("run")).unwrap();
        }
    }
}

#[test]
fn damaged_logs_name_the_line_and_half_a_line_is_forgiven() {
    let place = Place::new();
    place.copy_of_run("run");
    let log = place.path("run/metrics.csv");
    let whole = fs::read_to_string(&log).unwrap();
    for (content, words) in [
        (format!("{whole}foo\n"), &["metrics.csv, line 4", "delete that line"][..]),
        (whole.replacen("1,44,", "1,x,", 1), &["metrics.csv, line 2", "column 2"]),
        (String::new(), &["metrics.csv, line 1", "restore the file"]),
        ("epoch,step\n".to_owned(), &["metrics.csv, line 1", "restore the file"]),
    ] {
        fs::write(&log, content).unwrap();
        place.fails_and_spares("run/metrics.csv", &["train", "--resume", "run"], words);
        place.fails(&["report", "run"], words);
    }
    // What a kill in the middle of a write leaves.
    fs::write(&log, format!("{whole}3,13")).unwrap();
    place.succeeds(&on_cpu(&["train", "--resume", "run"]));
    assert_eq!(fs::read_to_string(&log).unwrap(), whole);
    fs::write(place.path("run/summary.json"), "{\"rule\": 3").unwrap();
    place.fails(&["report", "run"], &["summary.json", "line 1", "--resume"]);
    fs::remove_file(place.path("run/summary.json")).unwrap();
    place.fails(&["report", "run"], &["the run has not ended", "--resume run"]);
    place.succeeds(&on_cpu(&["train", "--resume", "run"]));
    place.succeeds(&["report", "run", "-o", "picture.png", "--title", "ä 🎉 <b>"]);
    place.fails(&["report", "run", "-o", "missing/picture.png"], &["missing/picture.png", "check the spelling"]);
}

#[cfg(unix)]
#[test]
fn outputs_never_replace_what_is_not_a_file() {
    use std::os::unix::fs::FileTypeExt;
    let place = Place::new();
    place.copy_of_run("run");
    assert!(Command::new("mkfifo").arg(place.path("pipe")).status().unwrap().success());
    fs::create_dir(place.path("folder")).unwrap();
    fs::write(place.path("old.safetensors"), "old").unwrap();
    place.fails(&on_cpu(&["export", "run", "-o", "pipe"]), &["cannot write pipe", "not a regular file"]);
    assert!(fs::metadata(place.path("pipe")).unwrap().file_type().is_fifo(), "the pipe was replaced");
    place.fails(&on_cpu(&["export", "run", "-o", "folder"]), &["cannot write folder", "that is a folder"]);
    place.fails(&on_cpu(&["export", "run", "-o", "old.safetensors/w"]), &["old.safetensors/w", "is a file"]);
    place.fails(&on_cpu(&["export", "run", "--replica", "1", "-o", "w"]), &["--replica 1", "run is 0"]);
    assert_eq!(fs::read(place.path("old.safetensors")).unwrap(), b"old");
    place.succeeds(&on_cpu(&["export", "run", "-o", "old.safetensors"]));
    assert!(tensors(&place.path("old.safetensors")).contains_key("layers.0.weight"));
}

#[cfg(unix)]
#[test]
fn a_training_outlives_its_reader() {
    let place = Place::new();
    let train = on_cpu(&["train", "digits", "--epochs", "2", "--seeds", "1", "--set", SMALL, "--out", "run"]);
    let mut child = place.command(&train).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && !text(&output.stderr).contains("panicked"), "{}", text(&output.stderr));
    assert!(place.path("run/summary.json").exists(), "the training did not reach its end");
    assert_eq!(exported(&place, "run").len(), 10, "three layers' weights and biases, two layers' p and q");
}

#[test]
fn initial_weights_that_are_something_else_are_refused() {
    let place = Place::new();
    place.copy_of_run("run");
    exported(&place, "run");
    let good = fs::read(place.path("exported.safetensors")).unwrap();
    let tiny = ["train", "digits", "--max-steps", "1", "--seeds", "1", "--out", "new", "--init"];
    let small = [&tiny[..], &["w.safetensors", "--set", SMALL]].concat();
    let checkpoint = [&tiny[..], &["run/checkpoints/last.safetensors", "--set", SMALL]].concat();
    place.fails_and_spares("run", &checkpoint, &["last.safetensors is a checkpoint", "ldfa-gpu export"]);
    fs::write(place.path("w.safetensors"), &good[..good.len() - 3]).unwrap();
    place.fails_and_spares("w.safetensors", &small, &["w.safetensors is cut short", "intact copy"]);
    fs::write(place.path("w.safetensors"), [&good[..], b"!"].concat()).unwrap();
    place.fails_and_spares("w.safetensors", &small, &["w.safetensors", "1 byte follows"]);
    fs::write(place.path("w.safetensors"), &good).unwrap();
    place.fails_and_spares("w.safetensors", &small[..small.len() - 2], &["layers.0.weight", "[12, 64]", "[128, 64]"]);
    place.fails_and_spares("w.safetensors", &[&small[..], &["--rank", "4"]].concat(), &["feedback.p", "[12, 4]"]);
    place.fails_and_spares("w.safetensors", &[&small[..], &["--rule", "backprop"]].concat(), &["belongs to no layer"]);
    assert!(!place.path("new").exists());
    place.succeeds(&on_cpu(&small));
}

#[test]
fn a_run_that_diverges_in_its_second_epoch_keeps_the_first() {
    let place = Place::new();
    let explosive = "optimizer={type=\"sgd\",lr=0.1,schedule={type=\"exponential\",gamma=1e19}}";
    // Without a layer that could stop passing errors on.
    let linear = SMALL.replace("{type=\"relu\"},", "");
    let small = ["train", "digits", "--rule", "backprop", "--epochs", "2", "--set", &linear];
    let train = [&small[..], &["--set", explosive, "--out", "run"]].concat();
    let words = ["replica 0 (seed 5)", "at step", "(epoch 2)", "layers.", "earlier epochs are kept", "optimizer.lr"];
    place.fails(&on_cpu(&[&train[..], &["--seeds", "2", "--set", "train.seed=5"]].concat()), &words);
    let kept = snapshot(&place.path("run/checkpoints"));
    assert_eq!(kept.len(), 2, "best and last");
    let metrics = fs::read_to_string(place.path("run/metrics.csv")).unwrap();
    assert_eq!(metrics.lines().count(), 3, "two replicas of one epoch: {metrics}");
    place.succeeds(&on_cpu(&["eval", "run"]));
    assert_eq!(exported(&place, "run").len(), 6);
    place.fails(&["report", "run"], &["the run has not ended"]);
    // It diverges again: nothing random is left.
    place.fails(&on_cpu(&["train", "--resume", "run"]), &words);
    assert!(snapshot(&place.path("run/checkpoints")) == kept);
}

/// Losses past all bounds are printed for people, not with three hundred digits.
#[test]
fn enormous_losses_stay_readable() {
    let place = Place::new();
    let train = ["train", "digits", "--rule", "backprop", "--set", SMALL, "--set", "optimizer.lr=1e19"];
    let printed =
        place.succeeds(&on_cpu(&[&train[..], &["--seeds", "1", "--max-steps", "4", "--out", "run"]].concat()));
    let evaluated = place.succeeds(&on_cpu(&["eval", "run"]));
    assert!(printed.lines().chain(evaluated.lines()).all(|line| line.chars().count() < 160), "{printed}{evaluated}");
}

#[test]
fn a_software_adapter_is_named_with_a_warning() {
    let place = Place::new();
    let devices = place.run(&["devices"]);
    assert_eq!(text(&devices.stderr), "", "nothing but our own words");
    let output = place.run(&["train", "digits", "--max-steps", "1", "--seeds", "1", "--out", "run", "--set", SMALL]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let devices = text(&devices.stdout);
    let only_software =
        devices.lines().filter(|line| line.trim_start().starts_with("kind")).all(|l| l.contains("software"));
    assert_eq!(text(&output.stderr).contains("is a software adapter"), only_software, "{devices}");
}

#[test]
fn random_settings_are_refused_or_planned_but_never_panic() {
    use ldfa_gpu::data::{SearchPath, open};
    use ldfa_gpu::model::Network;
    use ldfa_gpu::plan::{Options, Plan, Profile};
    use ldfa_gpu::train::config::{Config, Draft};
    use ldfa_gpu::train::spec::network_spec;
    use proptest::prelude::*;
    use proptest::sample::select;

    let data = open("digits", &SearchPath::new(Vec::new())).unwrap();
    let plan = |config: Config| {
        // Both ways out are fine.
        let network = network_spec(&config.resolved(), &data).ok().and_then(|spec| Network::new(&spec).ok());
        network.is_some_and(|network| Plan::new(network.recording, &Profile::reference(), Options::default()).is_ok())
    };
    let list = |text: &'static str| -> Vec<&'static str> { text.split('|').map(str::trim).collect() };
    let sections = list("data|model|feedback|optimizer|feedback_optimizer|train|x|");
    let keys = list(
        "name|flip|rotation|crop_padding|autoaugment|cutout|limit|layers|loss|label_smoothing|rule|p|q|rank|init|source|refactorise_every|
        output_statistics|error_clamp|ranks|exact|type|lr|weight_decay|momentum|betas|eps|alpha|amsgrad|clamp|schedule|batch|epochs|seeds|
        seed|max_steps|ranks.\"layers.2\"|schedule.type|x|\"|[|=|a.b.c|",
    );
    let values = list(
        "0|1|2|3|-1|7|64|4294967295|4294967296|9223372036854775807|0.0|0.5|1e308|-0.0|nan|inf|true|false|[]|{}|[0]|
        [4, 10]|[4, 4]|[0.9, 0.999]|\"||'|fixed|oja|hebbian|normative|kolen-pollack|ldfa|backprop|
        direct-feedback-alignment|svd|orthonormal|uniform|layer|output|layers.2|layers.4|labels|sgd|adam|adamw|rmsprop|
        mean-squared-error|cifar10|[\"layers.2\"]|[\"layers.0\", \"layers.6\"]|{\"layers.2\" = 3}|
        {\"layers.4\" = 4294967295}|{type=\"one-cycle\"}|{type=\"warmup-cosine\", warmup_epochs=1e300}|
        [{type=\"dense\",out=10}]|[{type=\"relu\"},{type=\"dense\",out=4294967295},{type=\"dense\",out=10}]|
        [{type=\"batchnorm\"},{type=\"dropout\",p=0.999999999},{type=\"dense\",out=9999},{type=\"dense\",out=10}]|
        [{type=\"dense\",out=65536},{type=\"gelu\"},{type=\"dense\",out=65536},{type=\"dense\",out=10}]|\u{0}|é",
    );
    // Each possible alone; two or three may contradict each other.
    let sensible = list(
        "feedback.p=fixed|feedback.p=normative|feedback.p=kolen-pollack|feedback.q=fixed|feedback.q=normative|
        feedback.rank=1|feedback.rank=[3, 128]|feedback.source=output|feedback.source=layers.4|feedback.init=svd|
        feedback.init=orthonormal|feedback.refactorise_every=1|feedback.output_statistics=labels|
        feedback.error_clamp=1e-30|feedback.exact=[\"layers.0\", \"layers.6\"]|feedback.ranks={\"layers.6\" = 1}|
        optimizer={type=\"sgd\", lr=0.1, momentum=0.9}|optimizer={type=\"rmsprop\", lr=1e300}|optimizer.amsgrad=|
        optimizer.type=adamw|optimizer.lr=0|optimizer.clamp=1e-30|optimizer.schedule={type=\"one-cycle\"}|
        feedback_optimizer={type=\"adam\", lr=0}|model.loss=mean-squared-error|model.label_smoothing=0.1|model.layers=[{type=\"dense\",out=10}]|
        model.layers=[{type=\"batchnorm\"},{type=\"gelu\"},{type=\"dense\",out=1},{type=\"dense\",out=10}]|
        model.layers=[{type=\"dropout\",p=0.0},{type=\"relu\"},{type=\"dense\",out=10}]|train.batch=1|train.batch=1437|
        train.seeds=64|train.epochs=4294967295|train.seed=4294967290|data.flip=true|data.rotation=180.0|
        data.crop_padding=7|data.cutout=8|data.limit=1437",
    );
    let assignment = |text: &'static str| {
        let (key, value) = text.split_once('=').expect("an assignment");
        (key.to_owned(), value)
    };
    let wild = (select(sections), select(keys), select(values)).prop_map(|(s, k, value)| (format!("{s}.{k}"), value));
    let change = prop_oneof![3 => select(sensible).prop_map(assignment), 1 => wild];
    let mut planned = 0;
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(2000));
    let counter = std::cell::RefCell::new(&mut planned);
    runner
        .run(&proptest::collection::vec(change, 1..4), |changes| {
            let mut draft = Draft::open("digits").unwrap();
            for (key, value) in changes {
                if draft.set(&key, value).is_err() {
                    return Ok(());
                }
            }
            if draft.finish().is_ok_and(plan) {
                **counter.borrow_mut() += 1;
            }
            Ok(())
        })
        .unwrap();
    assert!(planned > 200, "{planned} of the random configurations were possible: too few to mean anything");
}
