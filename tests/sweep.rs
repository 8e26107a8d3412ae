//! Sweeps: what they find of the paper's claims, and that nothing is lost when one is stopped.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ldfa_gpu::data::SearchPath;
use ldfa_gpu::experiment::sweep::{Axes, Results, Setup, Sweep, draw_accuracies, is_sweep, open, reaches};
use ldfa_gpu::feedback::{Rank, RuleName};
use ldfa_gpu::gpu::DeviceChoice;
use ldfa_gpu::plan::Profile;
use ldfa_gpu::train::machine::Preparation;

fn rule(name: &str) -> RuleName {
    name.parse().unwrap()
}

fn axes(rules: &[&str], ranks: &[u32], classes: &[u32]) -> Axes {
    Axes {
        rules: rules.iter().map(|name| rule(name)).collect(),
        ranks: ranks.iter().map(|&rank| Rank::Of(rank)).collect(),
        classes: classes.to_vec(),
        networks: None,
    }
}

/// Of digits, with changes.
fn sweep(axes: &Axes, changes: &[(&str, &str)]) -> Sweep {
    let (mut draft, none) = open("digits").unwrap();
    assert_eq!(none, Axes::default());
    for (key, value) in changes {
        draft.set(key, value).unwrap();
    }
    Sweep::new(&draft, axes).unwrap()
}

/// Trains every cell that is left; false if asked to stop.
fn train(sweep: &Sweep, folder: &Path, stop: &AtomicBool) -> bool {
    let search = SearchPath::new(Vec::new());
    let setup = Setup { device: &DeviceChoice::Best, search: &search, preparation: Preparation::default(), stop };
    let costs = sweep.check(&search, &Profile::reference()).unwrap();
    sweep.prepare(folder, &costs).unwrap();
    sweep.cells.iter().all(|cell| sweep.train(cell, folder, &setup).unwrap())
}

fn ldfa(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ldfa-gpu")).args(arguments).current_dir(folder).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Accuracy rises with the rank and meets backprop near the number of classes; errors straight from the output do as well;
/// fixed feedback stays behind; and fewer classes need a smaller rank.
#[test]
fn accuracy_rises_with_the_rank_and_meets_backprop_near_the_number_of_classes() {
    let folder = tempfile::tempdir().unwrap();
    let rules = ["backprop", "normative", "local", "fixed", "direct:local"];
    let sweep = sweep(&axes(&rules, &[1, 3, 10], &[10]), &[("train.epochs", "12")]);
    assert!(train(&sweep, folder.path(), &AtomicBool::new(false)));
    let results = Results::read(&sweep, folder.path()).unwrap();
    assert_eq!((results.rows.len(), results.missing.len()), (3 + 4 * 9, 0));
    let groups = results.groups();
    let mean = |name: &str, rank: Option<u32>| {
        let wanted = (rule(name), rank.map(Rank::Of));
        let group = groups.iter().find(|group| (group.rule, group.rank) == wanted).unwrap();
        assert_eq!(group.n, 3);
        100.0 * group.accuracy.mean
    };
    let exact = mean("backprop", None);
    for name in &rules[1..] {
        let by_rank = [1, 3, 10].map(|rank| mean(name, Some(rank)));
        println!("{name}: {by_rank:.2?} at ranks 1, 3, 10; backprop {exact:.2}");
        assert!(by_rank[0] + 2.0 < by_rank[1] && by_rank[1] + 1.0 < by_rank[2], "{name} does not rise: {by_rank:?}");
    }
    for name in ["normative", "local", "direct:local"] {
        assert!(mean(name, Some(10)) > exact - 2.0, "{name} stays behind backprop");
    }
    for rank in [1, 3] {
        assert!(
            mean("normative", Some(rank)) > mean("fixed", Some(rank)) + 4.0,
            "learning gains nothing at rank {rank}"
        );
    }
    // Each rank costs more a step than the one below.
    let costs = sweep.check(&SearchPath::new(Vec::new()), &Profile::reference()).unwrap();
    let cost = |name: &str, rank: u32| {
        let wanted = (rule(name), Some(Rank::Of(rank)));
        costs.iter().find(|cost| (cost.rule, cost.rank) == wanted).unwrap().flops_per_step
    };
    for name in &rules[1..] {
        assert!(cost(name, 1) < cost(name, 3) && cost(name, 3) < cost(name, 10), "{name}");
    }
    let found = reaches(&results, 0.9);
    assert_eq!(found.len(), 1 + 4 * 3);
    let all = found.iter().filter(|reach| reach.reached == 3 && reach.flops.mean > 1e8).count();
    assert!(all >= 6, "{all} groups of networks came to 90 %");
    let picture = folder.path().join("accuracy.png");
    draw_accuracies(&picture, "digits", &results).unwrap();
    let picture = image::open(&picture).unwrap().to_rgb8();
    assert!(picture.pixels().filter(|pixel| pixel.0 != [255; 3]).count() > 5000, "blank");
    let nowhere = folder.path().join("none/accuracy.png");
    assert!(draw_accuracies(&nowhere, "digits", &results).unwrap_err().to_string().contains("accuracy.png"));
}

/// The networks of a sweep do not depend on how they are cut into cells, nor on stops.
#[test]
fn cells_cut_otherwise_and_stopped_find_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let whole = axes(&["backprop", "local"], &[2, 5], &[3]);
    let cut = Axes { networks: Some(2), ..whole.clone() };
    let short = [("train.epochs", "2"), ("train.seeds", "3")];
    let (whole, cut) = (sweep(&whole, &short), sweep(&cut, &short));
    let names = |sweep: &Sweep| sweep.cells.iter().map(|cell| cell.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&whole), ["3-classes-backprop", "3-classes-local"]);
    assert_eq!(cut.cells.len(), 2 + 3, "{:?}", names(&cut));
    let (one, other) = (folder.path().join("whole"), folder.path().join("cut"));
    assert!(train(&whole, &one, &AtomicBool::new(false)));

    assert!(!train(&cut, &other, &AtomicBool::new(true)), "asked to stop before the first step");
    let nothing = Results::read(&cut, &other).unwrap();
    assert_eq!((nothing.rows.len(), nothing.missing.len()), (0, 5));
    assert!(train(&cut, &other, &AtomicBool::new(false)));
    let numbers = |sweep: &Sweep, folder: &Path| {
        let mut rows = Results::read(sweep, folder).unwrap().rows;
        rows.iter_mut().for_each(|row| row.cell.clear());
        rows.sort_by_key(|row| (row.rule.to_string(), row.rank, row.seed));
        rows
    };
    assert_eq!(numbers(&whole, &one), numbers(&cut, &other));
    assert_eq!(Sweep::of_folder(&other).unwrap().cells.len(), 5);
    // A folder from when no number of networks was refused is still read: none was taken for one.
    let made = other.join("sweep.toml");
    fs::write(&made, fs::read_to_string(&made).unwrap().replace("networks = 2", "networks = 0")).unwrap();
    assert_eq!(Sweep::of_folder(&other).unwrap().cells.len(), 3 + 6);

    // What is there is not trained again, and a cell of another configuration is not taken for one of this.
    let summary = one.join("cells/3-classes-local/summary.json");
    let written = fs::metadata(&summary).unwrap().modified().unwrap();
    assert!(train(&whole, &one, &AtomicBool::new(false)));
    assert_eq!(fs::metadata(&summary).unwrap().modified().unwrap(), written);
    let config = one.join("cells/3-classes-local/config.toml");
    fs::write(&config, fs::read_to_string(&config).unwrap().replace("epochs = 2", "epochs = 3")).unwrap();
    let error = Results::read(&whole, &one).unwrap_err().to_string();
    assert!(error.contains("3-classes-local") && error.contains("another configuration"), "{error}");
}

/// Two seeds show a difference and no verdict, five one with all that it rests on: in the terminal and on the page.
#[test]
fn a_verdict_takes_five_seeds_and_says_what_it_rests_on() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = ldfa(arguments, folder.path());
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        said(&output)
    };
    let make = |seeds: &'static str, out: &'static str| {
        let fixed = ["sweep", "digits", "--rules", "backprop,local", "--ranks", "1,10", "--epochs", "3", "--no-tune"];
        [&fixed[..], &["--seeds", seeds, "--out", out]].concat()
    };
    let two = run(&make("2", "two"));
    assert!(two.contains("smallest rank within 1 point of backprop: local unknown from n = 2 seeds"), "{two}");
    assert!(two.contains("points below backprop") && !two.contains("Student"), "{two}");
    assert!(
        two.contains("unknown from n = 2 seeds, five are needed (--seeds 5); the means are in compute.csv"),
        "{two}"
    );
    let five = run(&make("5", "five"));
    for words in ["data: digits", "local none (n = 5, at r=10 up to ", "one-sided 95 % bound", "paired by seed"] {
        assert!(five.contains(words), "{words}: {five}");
    }
    let generous = run(&["report", "five", "--margin", "90.5", "--html", "page.html"]);
    let verdict = "smallest rank within 90.5 points of backprop: local r=1 (n = 5, up to ";
    assert!(generous.contains(verdict), "{generous}");
    let page = fs::read_to_string(folder.path().join("page.html")).unwrap();
    assert!(page.contains(verdict) && page.contains("<th>points below backprop</th>") && page.contains("five: digits"));
    // The bound that is shown is the table's of Student's t for four degrees of freedom, 2.132 standard errors.
    let sweep = Sweep::of_folder(&folder.path().join("five")).unwrap();
    let results = Results::read(&sweep, &folder.path().join("five")).unwrap();
    let of = |name: &str, rank: Option<u32>| -> Vec<f64> {
        let own = results.rows.iter().filter(|row| (row.rule, row.rank) == (rule(name), rank.map(Rank::Of)));
        own.map(|row| row.test_accuracy).collect()
    };
    let differences: Vec<f64> = of("backprop", None).iter().zip(of("local", Some(10))).map(|(a, b)| a - b).collect();
    let mean = differences.iter().sum::<f64>() / 5.0;
    let variance = differences.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 4.0;
    let bound = results.gaps().into_iter().find(|gap| gap.rank == Some(Rank::Of(10))).unwrap().bound.unwrap();
    assert!((bound - mean - 2.1318 * (variance / 5.0).sqrt()).abs() < 1e-5, "{bound}: {differences:?}");
}

#[test]
fn a_killed_sweep_goes_on_and_shares_are_put_together() {
    let folder = tempfile::tempdir().unwrap();
    let make = |out: &'static str| {
        let fixed = ["sweep", "digits", "--rules", "backprop,fixed", "--ranks", "2,4", "--seeds", "2", "--epochs", "6"];
        [&fixed[..], &["--no-tune", "--out", out]].concat()
    };
    let kill_after = |milliseconds: u64| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ldfa-gpu"))
            .args(make("killed"))
            .current_dir(folder.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(milliseconds) && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = child.kill();
        child.wait().unwrap();
    };
    for milliseconds in [300, 800, 1300] {
        kill_after(milliseconds);
    }
    let output = ldfa(&make("killed"), folder.path());
    assert!(output.status.success(), "{}", said(&output));

    // Each of two processes its half; before the second, one is missing.
    let share = |cell: &'static str| ldfa(&[&make("shared")[..], &["--cell", cell]].concat(), folder.path());
    let first = share("1/2");
    assert!(first.status.success() && said(&first).contains("not ended: 1 of 2 cells"), "{}", said(&first));
    assert!(!said(&first).contains("smallest rank"), "of rules without one: {}", said(&first));
    let none = share("3/3");
    assert!(none.status.success() && said(&none).contains("nothing to do"), "{}", said(&none));
    assert!(share("2/2").status.success());
    let report = ldfa(&["report", "shared"], folder.path());
    assert!(report.status.success() && !said(&report).contains("not ended"), "{}", said(&report));
    let csv = |name: &str| fs::read_to_string(folder.path().join(name).join("results.csv")).unwrap();
    assert_eq!(csv("killed"), csv("shared"));
    assert_eq!(csv("shared").lines().count(), 1 + 2 + 4);
    for file in ["accuracy.png", "compute.csv", "compute.png"] {
        assert!(folder.path().join("shared").join(file).is_file(), "{file}");
    }
    assert!(is_sweep(&folder.path().join("shared")));

    let strict = ldfa(&["report", "shared", "--target", "100"], folder.path());
    assert!(strict.status.success() && !said(&strict).contains("least computation"), "{}", said(&strict));
    fs::write(folder.path().join("shared/cost.csv"), "nonsense").unwrap();
    let damaged = ldfa(&["report", "shared"], folder.path());
    assert!(!damaged.status.success() && said(&damaged).contains("cost.csv"), "{}", said(&damaged));
    fs::remove_file(folder.path().join("shared/cost.csv")).unwrap();

    // Another sweep does not mix with it, and a file of it makes it again.
    let other = ldfa(&[&make("shared")[..], &["--set", "optimizer.lr=1e-2"]].concat(), folder.path());
    assert!(!other.status.success() && said(&other).contains("holds another sweep"), "{}", said(&other));
    let again = ldfa(&["sweep", "shared/sweep.toml", "--no-tune", "--out", "shared"], folder.path());
    assert!(again.status.success(), "{}", said(&again));
}

/// What a rule with one constrained layer trains, and that ranks of no use to a rule are left to the others.
#[test]
fn single_layers_can_be_constrained() {
    let found = sweep(&axes(&["local", "local@layers.2", "fixed@layers.6", "direct:local"], &[4, 32], &[]), &[]);
    let configs: Vec<_> = found.cells.iter().map(|cell| (cell.name.as_str(), &cell.config.feedback)).collect();
    let told: Vec<_> = configs.iter().map(|(name, spec)| (*name, spec.rank_list().len(), spec.exact.len())).collect();
    assert_eq!(told, [("local", 2, 0), ("local-layers.2", 2, 3), ("fixed-layers.6", 1, 3), ("direct-local", 1, 0)]);
    assert_eq!(configs[1].1.exact, ["layers.0", "layers.4", "layers.6"]);
    assert_eq!(configs[2].1.exact, ["layers.0", "layers.2", "layers.4"]);
    found.check(&SearchPath::new(Vec::new()), &Profile::reference()).unwrap();
    // Networks that are too many for the adapter are refused before the first cell is trained.
    let small = Profile { max_binding_bytes: 1 << 16, ..Profile::reference() };
    let refused = found.check(&SearchPath::new(Vec::new()), &small).unwrap_err().to_string();
    assert!(refused.contains("cell local: tensor") && refused.contains("of a sweep --networks"), "{refused}");
    assert!(found.kept().is_empty(), "{:?}", found.kept());
    // What a configuration says of single layers' ranks would contradict it.
    let ranked = sweep(&axes(&["local@layers.2"], &[1], &[]), &[("feedback.ranks", "{ \"layers.2\" = 8 }")]);
    assert!(ranked.cells[0].config.feedback.ranks.is_empty() && ranked.kept().is_empty());
    // The other rules keep it, and say so.
    let pinned = [("feedback.ranks", "{ \"layers.2\" = 8 }"), ("feedback.exact", "[\"layers.6\"]")];
    let kept = sweep(&axes(&["backprop", "local", "fixed"], &[1], &[]), &pinned);
    assert_eq!(kept.cells[1].config.feedback.ranks.len(), 1);
    let rest = "layers.2 keeps r=8 (feedback.ranks), layers.6 the exact transport (feedback.exact); --ranks is the rank of layers.4";
    assert_eq!(kept.kept(), [format!("local: {rest}"), format!("fixed: {rest}")]);
    // A rank that is a multiple of the one that is varied is not kept.
    let times = sweep(&axes(&["local"], &[1], &[]), &[("feedback.ranks", "{ \"layers.2\" = \"3r\" }")]);
    assert!(times.kept().is_empty(), "{:?}", times.kept());
    // The name of a rule says where its errors come from, whatever the configuration takes.
    let direct = sweep(&axes(&["local", "direct:local"], &[1], &[]), &[("feedback.source", "\"output\"")]);
    let sources = direct.cells.iter().map(|cell| cell.config.rule().to_string()).collect::<Vec<_>>();
    assert_eq!(sources, ["local", "direct:local"]);
    let refused = |rule: &str, ranks: &[u32]| {
        let (draft, _) = open("digits").unwrap();
        Sweep::new(&draft, &axes(&[rule], ranks, &[])).unwrap_err().to_string()
    };
    assert!(
        refused("local@layers.3", &[4])
            .contains("layers.3 is not a layer that sends its error through a weight; those are layers.2, layers.4")
    );
    assert!(refused("local@layers.99", &[4]).contains("layers.99 is not a layer that sends"));
    assert!(refused("local@layers.0", &[4]).contains("layers.0 is not a layer that sends"));
    // The first weights of a recurrent network have an error to send: to the state before.
    let (rows, _) = open("digits-rows").unwrap();
    let only = &Sweep::new(&rows, &axes(&["local@layers.1"], &[4], &[])).unwrap().cells[0].config;
    assert_eq!(
        (only.rule().to_string(), &only.feedback.exact[..]),
        ("local@layers.1".into(), &["layers.3".to_owned()][..])
    );
    assert!(refused("direct:local", &[11, 12]).contains("every rank is larger than the 10 outputs"));
}

/// A rank for every layer of digits that sends its error back.
const PINNED: &str = r#"{ "layers.2" = 2, "layers.4" = 2, "layers.6" = 2 }"#;

#[test]
fn impossible_sweeps_are_refused_before_anything_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thing.txt"), "mine").unwrap();
    fs::write(folder.path().join("typo.toml"), "[sweep]\nrules = [\"backprob\"]\n[data]\nname = \"digits\"\n").unwrap();
    let cases: [(&[&str], &str); 20] = [
        (&["digits", "--out", "x"], "needs rules"),
        (&["digits", "--rules", "local", "--out", "x"], "needs ranks"),
        (&["digits", "--rules", "local,oja+hebbian", "--ranks", "2", "--out", "x"], "rule local is listed twice"),
        (&["digits", "--rules", "local", "--ranks", "2,2", "--out", "x"], "rank 2 is listed twice"),
        (&["digits", "--rules", "lokal", "--ranks", "2", "--out", "x"], "there is no rule \"lokal\""),
        (&["digits", "--rules", "local", "--ranks", "0", "--out", "x"], "a rank must be at least 1"),
        (&["digits", "--rules", "direct:normative", "--ranks", "2", "--out", "x"], "has no weight to compare with"),
        (&["digits", "--rules", "direct:local", "--ranks", "99", "--out", "x"], "rule direct:local: every rank"),
        (
            &["digits", "--rules", "local", "--ranks", "999", "--out", "x"],
            "cell local: feedback.rank: rank 999 is more",
        ),
        (&["digits", "--rules", "backprop", "--classes", "11", "--out", "x"], "digits has only 10 classes"),
        (&["digits", "--rules", "backprop", "--classes", "1", "--out", "x"], "data.classes = 1: must be at least 2"),
        (&["digits", "--rules", "backprop", "--cell", "3/2", "--out", "x"], "K from 1 to N"),
        (&["digits", "--rules", "backprop", "--target", "101", "--out", "x"], "a number from 0 to 100"),
        (&["digits", "--rules", "backprop", "--set", "lr", "--out", "x"], "--set section.key=value"),
        (&["digits", "--rules", "backprop", "--margin=-1", "--out", "x"], "a number from 0 to 100"),
        (
            &["digits", "--rules", "backprop", "--networks", "0", "--out", "x"],
            "--networks 0: a cell holds from 1 to 64",
        ),
        (
            &["digits", "--rules", "backprop", "--networks", "65", "--out", "x"],
            "--networks 65: a cell holds from 1 to 64",
        ),
        (
            &["digits", "--rules", "local", "--ranks", "2", "--set", &format!("feedback.ranks={PINNED}"), "--out", "x"],
            "--ranks changes nothing",
        ),
        (&["digits", "--rules", "backprop", "--out", "."], "is not empty"),
        (&["typo.toml", "--out", "x"], "missing field"),
    ];
    for (arguments, words) in cases {
        let output = ldfa(&[&["sweep"], arguments].concat(), folder.path());
        assert!(!output.status.success() && said(&output).contains(words), "{arguments:?}: {}", said(&output));
        assert!(!said(&output).contains("panicked"));
    }
    assert!(!folder.path().join("x").exists(), "a refused sweep leaves nothing");
    let report = ldfa(&["report", "."], folder.path());
    assert!(!report.status.success() && said(&report).contains("is not a run"), "{}", said(&report));
}

/// The stop of a sweep is the stop of its run: after the step, with a checkpoint.
#[test]
fn a_sweep_that_is_asked_to_stop_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = sweep(&axes(&["backprop"], &[], &[]), &[("train.epochs", "500"), ("train.seeds", "1")]);
    static STOP: AtomicBool = AtomicBool::new(false);
    let waiter = std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(2));
        STOP.store(true, Ordering::Relaxed);
    });
    assert!(!train(&sweep, folder.path(), &STOP));
    waiter.join().unwrap();
    assert!(folder.path().join("cells/backprop/checkpoints/last.safetensors").is_file());
    let error = ldfa(&["report", &folder.path().to_string_lossy()], folder.path());
    assert!(said(&error).contains("no cell of the sweep"), "{}", said(&error));
}
