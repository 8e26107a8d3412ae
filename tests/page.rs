//! The page of a report: every part is there, nothing comes from elsewhere, and a browser shows it.

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

/// Two runs, one of a network with published numbers, and a sweep.
fn make(folder: &Path) {
    let short = ["--epochs", "2", "--seeds", "2", "--no-tune"];
    succeed(&[&["train", "digits", "--rule", "backprop", "--out", "exact"][..], &short].concat(), folder);
    succeed(&[&["train", "digits", "--rank", "3,6", "--out", "local"][..], &short].concat(), folder);
    // As if it were that network: only the page looks at what the run was made with.
    let lenet = include_str!("../src/train/presets/lenet.toml").replace("fashion-mnist", "cifar10");
    let feedback = lenet.find("[feedback]").unwrap()..lenet.find("[optimizer]").unwrap();
    let exact = [&lenet[..feedback.start], "[feedback]\nrule = \"backprop\"\n\n", &lenet[feedback.end..]].concat();
    let exact = exact.replacen("[train]", "[train]\nseeds = 2", 1);
    fs::write(folder.join("exact/config.toml"), format!("name = \"lenet\"\n{exact}")).unwrap();
    let sweep =
        ["sweep", "digits", "--rules", "backprop,fixed", "--ranks", "2,5", "--classes", "3,4", "--out", "swept"];
    succeed(&[&sweep[..], &short].concat(), folder);
}

#[test]
fn a_page_holds_every_part_and_a_browser_shows_it() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path());
    let title = "Errors & <script>alert('ranks')</script>";
    let report = ["report", "exact", "local", "swept", "--html", "page.html", "--title", title];
    // The first is said to be of other images by now.
    let refused = said(&ldfa(&report, folder.path()));
    assert!(refused.contains("tested on cifar10") && refused.contains("--mix-data"), "{refused}");
    assert!(!folder.path().join("page.html").exists());
    let report = [&report[..], &["--mix-data"]].concat();
    let told = succeed(&report, folder.path());
    assert!(told.contains("page written to page.html"), "{told}");
    let page = fs::read_to_string(folder.path().join("page.html")).unwrap();

    let parts =
        ["runs", "curves", "spectra", "alignment", "cost", "published", "accuracy-1", "compute-1", "configurations"];
    for id in parts {
        assert_eq!(page.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
    }
    assert_eq!(page.matches("<img ").count(), 4);
    assert_eq!(page.matches("src=\"data:image/png;base64,iVBOR").count(), 4, "a PNG each");
    // Nothing is loaded, and what a user types stays text.
    for foreign in ["http://", "https://", "<script", "<link", "@import", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(page.contains("Errors &amp; &lt;script&gt;"));
    for text in
        ["backprop", "<td>local, ", "own best epoch, by the test set", "84.08", "59.33", "weight gradient", "rank = ["]
    {
        assert!(page.contains(text), "{text}");
    }
    // Both ranks have a row of accuracy, and of every pathway.
    assert!(page.matches("<td>6</td>").count() > 3, "rows of rank 6");

    let Some(browser) = browser() else {
        println!("no headless Chromium is installed: the page is not opened");
        return;
    };
    let address = format!("file://{}", folder.path().join("page.html").display());
    let picture = folder.path().join("screen.png");
    let shot = format!("--screenshot={}", picture.display());
    let quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"];
    let run = |more: &[&str]| Command::new(browser).args(quiet).args(more).arg(&address).output().unwrap();
    let dom = String::from_utf8_lossy(&run(&["--dump-dom"]).stdout).into_owned();
    for id in parts {
        assert!(dom.contains(&format!("id=\"{id}\"")), "the browser lost {id}");
    }
    let output = run(&[&shot, "--window-size=1250,3000"]);
    assert!(picture.is_file(), "{}", said(&output));
    let picture = image::open(&picture).unwrap().to_rgb8();
    // The colours of the first two curves can only come from the pictures.
    for color in [[0, 114, 178], [213, 94, 0]] {
        let near = |pixel: &image::Rgb<u8>| pixel.0.iter().zip(color).all(|(a, b): (&u8, u8)| a.abs_diff(b) < 12);
        assert!(picture.pixels().filter(|pixel| near(pixel)).count() > 300, "{color:?} is not to be seen");
    }
}

fn browser() -> Option<&'static str> {
    let names = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];
    names.into_iter().find(|name| Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success()))
}

/// Whatever differs between two rows is in their labels, in the terminal and on the page; and runs of old have the names of today.
#[test]
fn runs_are_called_by_what_differs_between_them() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let train = |out: &str, more: &[&str]| {
        let base = ["train", "digits", "--epochs", "1", "--seeds", "1", "--no-tune", "--out", out];
        succeed(&[&base[..], more].concat(), folder);
    };
    for (out, lr) in [("slow", "1e-3"), ("middle", "3e-3"), ("fast", "1e-2")] {
        train(out, &["--rule", "backprop", "--set", &format!("optimizer.lr={lr}")]);
    }
    train("local", &[]);
    let told = succeed(&["report", "slow", "middle", "fast", "--html", "page.html"], folder);
    let page = fs::read_to_string(folder.join("page.html")).unwrap();
    assert!(told.contains("data: digits, 360 test images"), "{told}");
    for lr in ["0.001", "0.003", "0.01"] {
        let label = format!("backprop, optimizer.lr = {lr} ");
        assert_eq!(told.matches(&label).count(), 1, "{label}: {told}");
        // Rows of the runs and of their cost, and the configuration.
        assert_eq!(page.matches(&format!("<td>backprop, optimizer.lr = {lr}</td>")).count(), 2, "{lr}");
        assert_eq!(page.matches(&format!("<summary>backprop, optimizer.lr = {lr}:")).count(), 1, "{lr}");
    }
    assert!(told.contains("own best epoch, by the test set") && page.contains("own best epoch, by the test set"));

    // A summary from before the names of today, and before test images were counted.
    let path = folder.join("local/summary.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"rule\": \"local\"") && text.contains("\"test_images\": 360"), "{text}");
    let old =
        text.replace("\"rule\": \"local\"", "\"rule\": \"ldfa-oja-hebbian\"").replace("  \"test_images\": 360,\n", "");
    assert!(!old.contains("test_images"));
    fs::write(&path, old).unwrap();
    let told = succeed(&["report", "slow", "local"], folder);
    assert!(told.contains("│ local ") && !told.contains("ldfa-oja") && told.contains("│ backprop "), "{told}");

    // Other images are not compared, whether by name, classes or number.
    train(
        "three",
        &["--rule", "backprop", "--set", "data.classes=3", "--set", "model.layers=[{type=\"dense\",out=3}]"],
    );
    let refused = said(&ldfa(&["report", "slow", "three"], folder));
    for words in ["three on digits, the first 3 classes", "slow was tested on digits, 360 test images", "--mix-data"] {
        assert!(refused.contains(words), "{words}: {refused}");
    }
    assert!(succeed(&["report", "slow", "three", "--mix-data"], folder).contains("data.classes = 3"));
    let path = folder.join("middle/summary.json");
    let other = fs::read_to_string(&path).unwrap().replace("\"test_images\": 360", "\"test_images\": 361");
    fs::write(&path, other).unwrap();
    assert!(said(&ldfa(&["report", "slow", "middle"], folder)).contains("361 test images"));
}

#[test]
fn pages_of_what_is_not_there_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    succeed(&["train", "digits", "--epochs", "1", "--seeds", "1", "--no-tune", "--out", "run"], folder.path());
    fs::create_dir(folder.path().join("empty")).unwrap();
    let refused = |arguments: &[&str], words: &str| {
        let output = ldfa(&[&["report"], arguments].concat(), folder.path());
        assert!(!output.status.success() && said(&output).contains(words), "{arguments:?}: {}", said(&output));
        assert!(!said(&output).contains("panicked"));
    };
    refused(&["run", "none", "--html", "page.html"], "none");
    refused(&["empty", "--html", "page.html"], "is not a run");
    refused(&["run", "--html", "none/page.html"], "none/page.html");
    fs::remove_file(folder.path().join("run/spectrum.csv")).unwrap();
    refused(&["run", "--spectra", "spectra.png"], "spectrum.csv");
    succeed(&["report", "run", "--html", "page.html"], folder.path());
    let page = fs::read_to_string(folder.path().join("page.html")).unwrap();
    assert!(page.contains("id=\"curves\"") && !page.contains("id=\"spectra\"") && !page.contains("id=\"published\""));
    fs::write(folder.path().join("run/metrics.csv"), "epoch\n").unwrap();
    refused(&["run", "--html", "page.html"], "metrics.csv");
    fs::remove_file(folder.path().join("run/summary.json")).unwrap();
    refused(&["run", "--html", "other.html"], "the run has not ended");
    assert!(!folder.path().join("other.html").exists());
}
