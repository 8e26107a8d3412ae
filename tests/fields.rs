//! `fields` and `compare` as their users run them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn ldfa(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ldfa-gpu")).args(arguments).current_dir(folder).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn succeed(arguments: &[&str], folder: &Path) -> String {
    let output = ldfa(arguments, folder);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    said(&output)
}

fn refuse(arguments: &[&str], folder: &Path, words: &str) {
    let output = ldfa(arguments, folder);
    assert!(!output.status.success() && said(&output).contains(words), "{arguments:?}: {}", said(&output));
    assert!(!said(&output).contains("panicked"));
}

/// A table by the names of its columns.
struct Csv {
    names: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Csv {
    fn read(path: &Path) -> Csv {
        let text = fs::read_to_string(path).unwrap();
        let mut rows = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
        let names = rows.next().unwrap();
        Csv { names, rows: rows.collect() }
    }

    fn at(&self, name: &str) -> usize {
        self.names.iter().position(|known| known == name).unwrap_or_else(|| panic!("no column {name}"))
    }

    fn column(&self, name: &str) -> Vec<&str> {
        self.rows.iter().map(|row| row[self.at(name)].as_str()).collect()
    }

    fn numbers(&self, name: &str) -> Vec<f64> {
        self.column(name).iter().map(|text| text.parse().unwrap()).collect()
    }
}

fn is_drawn(path: &Path) {
    let picture = image::open(path).unwrap().to_rgb8();
    let inked = picture.pixels().filter(|pixel| pixel.0 != [255; 3]).count();
    assert!(inked > 10_000, "{}: {inked} pixels", path.display());
}

/// Backprop and a local rule at two ranks, two seeds each, and what is untrained.
#[test]
fn fields_and_representations_of_all_networks() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let short = ["--epochs", "2", "--seeds", "2", "--no-tune"];
    succeed(&[&["train", "digits", "--rule", "backprop", "--out", "exact"][..], &short].concat(), folder);
    let sweep = ["sweep", "digits", "--rules", "local", "--ranks", "6,2", "--out", "swept"];
    succeed(&[&sweep[..], &short[..4], &["--no-tune"]].concat(), folder);

    let told = succeed(&["fields", "exact", "swept", "--out", "fields"], folder);
    let rows = Csv::read(&folder.join("fields/fields.csv"));
    assert_eq!(rows.rows.len(), 4 * 2 * 128, "families, seeds, units");
    let families: BTreeSet<(&str, &str)> = rows.column("rule").into_iter().zip(rows.column("rank")).collect();
    let expected = [("backprop", ""), ("local", "2"), ("local", "6"), ("untrained", "")];
    assert_eq!(families, BTreeSet::from(expected));
    for name in ["orientedness", "center_surround_r2", "gabor_r2"] {
        assert!(rows.numbers(name).iter().any(|value| *value > 0.1), "{name}");
    }
    // Two networks of one family differ, and so do a network before and after.
    let of = |rule: &str, seed: &str| -> Vec<String> {
        let own = rows.rows.iter().filter(|row| row[rows.at("rule")] == rule && row[rows.at("seed")] == seed);
        own.map(|row| row[rows.at("orientedness")].clone()).collect()
    };
    assert!(of("backprop", "0") != of("backprop", "1") && of("backprop", "0") != of("untrained", "0"));
    assert!(
        told.contains("local: orientedness r=2 ")
            && told.contains(", r=6 ")
            && told.contains("no verdict from n = 2 seeds")
    );
    // The accuracy of what is looked at stands beside it.
    assert!(told.contains("test accuracy %") && told.contains("n = 2), r=6"), "{told}");
    let accuracies: BTreeSet<(&str, &str)> =
        rows.column("rule").into_iter().zip(rows.column("test_accuracy")).collect();
    let of_rule =
        |rule: &str| accuracies.iter().filter(|(own, _)| *own == rule).map(|(_, value)| *value).collect::<Vec<_>>();
    assert_eq!((of_rule("untrained"), of_rule("backprop").len(), of_rule("local").len()), (vec![""], 2, 4));
    let summary: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.join("exact/summary.json")).unwrap()).unwrap();
    for network in summary["replicas"].as_array().unwrap() {
        let last = network["last_test_accuracy"].as_f64().unwrap();
        assert!(of_rule("backprop").iter().any(|value| (value.parse::<f64>().unwrap() - last).abs() < 1e-6), "{last}");
    }
    for name in ["fields.png", "distribution.png"] {
        is_drawn(&folder.join("fields").join(name));
    }

    let told = succeed(&["compare", "exact", "swept", "--images", "100", "--out", "compared"], folder);
    assert!(told.contains("test accuracy: backprop ") && told.contains("local r=2 "), "{told}");
    let rows = Csv::read(&folder.join("compared/compare.csv"));
    // In four layers, of four families: a pair within each, two between each two.
    assert_eq!(rows.rows.len(), 4 * (4 + 6 * 2));
    assert!(rows.column("seed_a").iter().zip(rows.column("seed_b")).all(|(a, b)| *a != b));
    for name in ["cka", "svcca"] {
        let found = rows.numbers(name);
        assert!(found.iter().all(|value| *value > 0.0 && *value < 1.0), "{name}: {found:?}");
    }
    // What learning makes alike: at the output two trained networks are nearer to each other than untrained ones.
    let at_output = |rule: &str| -> f64 {
        let own = rows.rows.iter().find(|row| {
            row[rows.at("layer")] == "layers.6" && row[rows.at("rule_a")] == rule && row[rows.at("rule_b")] == rule
        });
        own.unwrap()[rows.at("cka")].parse().unwrap()
    };
    assert!(at_output("backprop") > at_output("untrained") + 0.2);
    is_drawn(&folder.join("compared/compare.png"));

    // On the page of a report, both beside the sweep.
    let told = succeed(&["report", "swept", "fields", "compared", "--html", "page.html"], folder);
    assert!(told.contains("page written"), "{told}");
    let page = fs::read_to_string(folder.join("page.html")).unwrap();
    for id in ["fields-1", "distribution-1", "compare-2", "accuracy-1"] {
        assert_eq!(page.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
    }
    assert!(page.contains("Lindsey") && page.contains("orientedness") && page.contains("no verdict from n = 2 seeds"));
    assert!(succeed(&["report", "fields"], folder).contains("--html"));
    // Cells that have not ended are left out, which is said.
    let sweep = ["sweep", "digits", "--rules", "local,fixed", "--ranks", "3", "--out", "halved", "--cell", "1/2"];
    succeed(&[&sweep[..], &short].concat(), folder);
    let told = succeed(&["fields", "halved", "--out", "half"], folder);
    assert!(told.contains("not ended: 1 of 2 cells of halved") && told.contains("local r=3"), "{told}");
    // Networks that are configured otherwise are another family, whatever their seeds.
    let other = [
        "train",
        "digits",
        "--rule",
        "backprop",
        "--set",
        "train.seed=7",
        "--set",
        "optimizer.lr=2e-3",
        "--max-steps",
        "50",
        "--out",
        "fast",
    ];
    succeed(&[&other[..], &short].concat(), folder);
    let told = succeed(&["compare", "exact", "fast", "--layers", "layers.6", "--out", "rates"], folder);
    for label in ["backprop, optimizer.lr = 0.001", "backprop, optimizer.lr = 0.002"] {
        assert!(told.contains(label), "{label}: {told}");
    }
    assert!(told.contains("fast stopped after 50 of 88 steps") && !told.contains("exact stopped"), "{told}");
    assert!(page.contains("linear CKA with backprop"));
    fs::write(folder.join("compared/compare.png"), "no picture").unwrap();
    refuse(&["report", "compared", "--html", "other.html"], folder, "is no PNG file");
    fs::write(folder.join("fields/fields.csv"), "rule,rank\nlocal\n").unwrap();
    refuse(&["report", "fields", "--html", "other.html"], folder, "fields.csv");
    assert!(!folder.join("other.html").exists());
}

/// The same training twice is the same network: a likeness of 1, and of a layer's order nothing depends.
#[test]
fn a_network_is_like_itself() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for out in ["one", "two"] {
        let train =
            ["train", "digits", "--rule", "backprop", "--epochs", "1", "--seeds", "1", "--no-tune", "--out", out];
        succeed(&train, folder);
    }
    let told = succeed(&["compare", "one", "two", "--layers", "layers.5,layers.1", "--out", "compared"], folder);
    assert!(
        told.contains("backprop (one)")
            && told.contains("backprop (two)")
            && told.contains("of one seed, which begin alike"),
        "{told}"
    );
    let rows = Csv::read(&folder.join("compared/compare.csv"));
    let same = rows
        .rows
        .iter()
        .filter(|row| row[rows.at("rule_a")] == "backprop (one)" && row[rows.at("rule_b")] != "backprop (one)");
    let same: Vec<_> = same.filter(|row| row[rows.at("rule_b")] != "untrained").collect();
    assert_eq!(same.len(), 2);
    for row in same {
        for name in ["cka", "svcca"] {
            let value: f64 = row[rows.at(name)].parse().unwrap();
            assert!((value - 1.0).abs() < 1e-9, "{name} of {row:?}");
        }
    }
}

/// Steps of a sequence side by side: the state after the last one is what the layer behind takes.
#[test]
fn networks_are_compared_step_by_step() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let train = |preset: &str, out: &str, more: &[&str]| {
        let base = ["train", preset, "--epochs", "1", "--seeds", "2", "--no-tune", "--out", out];
        succeed(&[&base[..], more].concat(), folder);
    };
    train("digits-rows", "exact", &["--rule", "backprop"]);
    train("digits-rows", "local", &[]);
    let compare = ["compare", "exact", "local", "--layers", "layers.1,layers.2"];
    let told = succeed(&[&compare[..], &["--by-position", "--out", "steps"]].concat(), folder);
    for words in ["networks of", "layers.1 at 0 ", "layers.1 at 7 ", "layers.2 ", "linear CKA with backprop"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let rows = Csv::read(&folder.join("steps/compare.csv"));
    // Of three families: a pair within each, two between each two.
    let pairs = 3 + 3 * 2;
    assert_eq!(rows.rows.len(), 9 * pairs);
    let (layers, positions) = (rows.column("layer"), rows.column("position"));
    let places: Vec<(&str, &str)> = layers.iter().copied().zip(positions.iter().copied()).step_by(pairs).collect();
    let steps = ["0", "1", "2", "3", "4", "5", "6", "7"].map(|step| ("layers.1", step));
    assert_eq!(places, [&steps[..], &[("layers.2", "")]].concat());
    for name in ["cka", "svcca"] {
        let found = rows.column(name);
        let (last, behind) = found[7 * pairs..].split_at(pairs);
        assert_eq!(last, behind, "{name}");
        assert!(found[..pairs] != *last && found[6 * pairs..7 * pairs] != *last, "{name} changes from step to step");
    }
    is_drawn(&folder.join("steps/compare.png"));
    succeed(&["report", "steps", "--html", "page.html"], folder);
    let page = fs::read_to_string(folder.join("page.html")).unwrap();
    assert!(page.contains("layers.1 at 7") && page.contains("id=\"compare-1\""));

    // All positions together: no line has one, as in files from before there were any.
    let told = succeed(&[&compare[..], &["--out", "together"]].concat(), folder);
    assert!(!told.contains(" at 7"), "{told}");
    let path = folder.join("together/compare.csv");
    assert!(Csv::read(&path).column("position").iter().all(|position| position.is_empty()));
    let without = |line: &str| line.replacen(",position", "", 1).replacen(",,", ",", 1);
    let old: Vec<String> = fs::read_to_string(&path).unwrap().lines().map(without).collect();
    assert!(old[0].starts_with("layer,rule_a") && old[1].starts_with("layers.1,untrained,"), "{old:?}");
    fs::write(&path, old.join("\n") + "\n").unwrap();
    succeed(&["report", "together", "--html", "page.html"], folder);

    // Positions of an image are pixels.
    let layers = r#"model.layers=[{type="conv",out=4,kernel=3},{type="flatten"},{type="dense",out=10}]"#;
    train("digits", "image", &["--rule", "backprop", "--max-steps", "2", "--set", layers]);
    succeed(&["compare", "image", "--layers", "layers.0", "--by-position", "--out", "pixels"], folder);
    let rows = Csv::read(&folder.join("pixels/compare.csv"));
    let positions: Vec<u32> = rows.column("position").iter().map(|position| position.parse().unwrap()).collect();
    let different: BTreeSet<u32> = positions.iter().copied().collect();
    assert_eq!((different.len(), positions[0], positions.last()), (16, 0, Some(&35)));
    let flat = ["compare", "image", "--layers", "layers.1,layers.2", "--by-position", "--out", "o"];
    refuse(&flat, folder, "layers.1, layers.2 have no positions to compare by: leave --by-position out");
    assert!(!folder.join("o").exists());
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let train = |more: &[&str], out: &str| {
        let base =
            ["train", "digits", "--rule", "backprop", "--epochs", "1", "--seeds", "1", "--no-tune", "--out", out];
        succeed(&[&base[..], more].concat(), folder);
    };
    train(&[], "run");
    let narrow = r#"model.layers=[{type="dense",out=20},{type="relu"},{type="dense",out=10}]"#;
    train(&["--set", narrow], "narrow");
    fs::create_dir(folder.join("empty")).unwrap();
    fs::write(folder.join("file"), "").unwrap();
    for command in ["fields", "compare"] {
        refuse(
            &[command, "run", "narrow", "--out", "o"],
            folder,
            "narrow does not match: its networks have other layers",
        );
        refuse(&[command, "none", "--out", "o"], folder, "there is no run in none");
        refuse(&[command, "run", "./run", "--out", "o"], folder, "is given twice");
        refuse(&[command, "run", "--out", "run"], folder, "run holds a run; choose another --out");
        refuse(&[command, "empty", "--out", "o"], folder, "is not a run");
        refuse(&[command, "run", "--out", "file/o"], folder, "file/o");
        refuse(&[command, "run", "--device", "reference2", "--out", "o"], folder, "reference2");
    }
    refuse(&["fields", "run", "--layer", "layers.7", "--out", "o"], folder, "layers.7 is not a layer of this network");
    refuse(
        &["compare", "run", "--layers", "layers.1,relu", "--out", "o"],
        folder,
        "relu is not a layer of this network",
    );
    for images in ["0", "1", "361", "100000"] {
        let words = format!("{images} images cannot be compared on: use --images with 2 to 360");
        refuse(&["compare", "run", "--images", images, "--out", "o"], folder, &words);
    }
    for (shrink, words) in [("3", "must divide both sides of the images, 8 and 8"), ("0", "must be at least 1")] {
        let setting = format!("data.shrink={shrink}");
        refuse(&["train", "digits", "--set", &setting, "--out", "o"], folder, words);
    }
    // A sweep none of whose cells has ended, and a run without a checkpoint.
    let sweep =
        ["sweep", "digits", "--rules", "backprop", "--out", "swept", "--epochs", "1", "--seeds", "1", "--no-tune"];
    succeed(&sweep, folder);
    fs::remove_file(folder.join("swept/cells/backprop/summary.json")).unwrap();
    refuse(&["fields", "swept", "--out", "o"], folder, "no cell of the sweep in swept has ended");
    fs::remove_dir_all(folder.join("run/checkpoints")).unwrap();
    refuse(&["fields", "run", "--out", "o"], folder, "has no checkpoint yet");
    assert!(!folder.join("o").exists(), "nothing is left");
}

/// On the full data sets, which LDFA_DATA names.
mod real {
    use super::*;

    /// What the retina learns, little as it is, looks like a field: a model of either kind explains far more of it than of what
    /// chance has put there.
    #[test]
    fn a_retina_learns_fields() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let quick = [
            "--set",
            "data.limit=4000",
            "--set",
            "data.limit_order=first",
            "--epochs",
            "2",
            "--seeds",
            "2",
            "--no-tune",
        ];
        succeed(&[&["train", "retina-small", "--rank", "16", "--out", "run"][..], &quick].concat(), folder);
        succeed(&["fields", "run", "--layer", "layers.2", "--out", "fields"], folder);
        let rows = Csv::read(&folder.join("fields/fields.csv"));
        let explained = |rule: &str| {
            let own = rows.rows.iter().filter(|row| row[rows.at("rule")] == rule);
            let best = |row: &Vec<String>| -> Option<f64> {
                let [surround, gabor] = ["center_surround_r2", "gabor_r2"].map(|name| row[rows.at(name)].parse().ok());
                Some(f64::max(surround?, gabor?))
            };
            let found: Vec<f64> = own.filter_map(best).collect();
            assert!(found.len() > 16, "{rule}: {} units have a field", found.len());
            found.iter().sum::<f64>() / found.len() as f64
        };
        let (before, after) = (explained("untrained"), explained("local"));
        println!("a model explains {before:.3} of untrained fields, {after:.3} of trained ones");
        assert!(after > before + 0.15, "{before} before, {after} after");
        is_drawn(&folder.join("fields/fields.png"));
    }
}
