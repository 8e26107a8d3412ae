//! What the program says and learns of a folder of images.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use image::{Rgb, RgbImage};
use tempfile::TempDir;

/// A configuration for a folder of images in two classes.
fn config(data: &Path) -> String {
    format!(
        r#"
[data]
name = '{}'
[model]
layers = [{{ type = "dense", out = 2 }}]
[optimizer]
type = "adam"
lr = 1e-2
[train]
batch = 8
epochs = 8
"#,
        data.display()
    )
}

fn run(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ldfa-gpu"));
    command.args(args).current_dir(folder).env("LDFA_CACHE", "").env_remove("LDFA_LOG").output().unwrap()
}

fn text(output: &Output) -> (String, String) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8(output.stdout.clone()).unwrap(), String::from_utf8(output.stderr.clone()).unwrap())
}

/// Last test loss and accuracy of a run's networks.
fn end(folder: &Path, run: &str) -> Vec<(f64, f64)> {
    let mut rows = csv::Reader::from_path(folder.join(run).join("metrics.csv")).unwrap();
    let header = rows.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|own| own == name).unwrap();
    let (epoch, loss, accuracy) = (column("epoch"), column("test_loss"), column("test_accuracy"));
    let rows: Vec<_> = rows.records().map(Result::unwrap).filter(|row| &row[epoch] == "8").collect();
    rows.iter().map(|row| (row[loss].parse().unwrap(), row[accuracy].parse().unwrap())).collect()
}

/// `<part>/<class>/<index>.png`, each image with noise in red and green about its class's level, and `blue` in blue.
fn set(folder: &Path, parts: &[(&str, u8)], images: u32) {
    for &(part, blue) in parts {
        for (class, level) in [("a", 60), ("b", 160)] {
            let path = folder.join(part).join(class);
            fs::create_dir_all(&path).unwrap();
            for index in 0..images {
                let noise = |x: u32, y: u32| ((x * 37 + y * 59 + index * 101) % 53) as u8;
                let image = RgbImage::from_fn(4, 4, |x, y| Rgb([level + noise(x, y), level + noise(y, x + 1), blue]));
                image.save(path.join(format!("{index:02}.png"))).unwrap();
            }
        }
    }
}

fn prepared(parts: &[(&str, u8)], images: u32) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    set(&folder.path().join("my set"), parts, images);
    fs::write(folder.path().join("net.toml"), config(&folder.path().join("my set"))).unwrap();
    folder
}

const TRAIN: [&str; 3] = ["train", "net.toml", "--no-tune"];

/// Blue is 255 in training and 0 in the test: nothing has been learned of it, so that nothing may come of it.
#[test]
fn a_channel_that_is_constant_in_training_is_no_input() {
    let folder = prepared(&[("train", 255), ("test", 0)], 20);
    let folder = folder.path();
    let (_, said) = text(&run(folder, &TRAIN));
    let remark = "warning: data set my-set: channel 3 of 3 has one value in all training images";
    assert_eq!(said.matches(remark).count(), 1, "{said}");
    let [(loss, accuracy)] = end(folder, "runs/my-set-backprop")[..] else { panic!("one network") };
    assert!(loss < 0.3 && accuracy == 1.0, "loss {loss}, accuracy {accuracy}");
}

#[test]
fn what_was_passed_over_is_said_once_by_every_command_that_reads() {
    let folder = prepared(&[("", 7)], 20);
    let folder = folder.path();
    fs::write(folder.join("my set/a/labels.csv"), "1,2").unwrap();
    let remark = "data set my-set: passed over 1 file without an image (a/labels.csv); channel 3 of 3 has one value";
    let (info, _) = text(&run(folder, &["data", "info", "my set/"]));
    assert!(info.lines().last().unwrap().contains(remark), "{info}");
    let (_, said) = text(&run(folder, &TRAIN));
    assert_eq!(said.matches(&format!("warning: {remark}")).count(), 1, "{said}");
    // A sweep reads the data for every cell.
    let sweep = ["sweep", "net.toml", "--rules", "backprop,feedback-alignment", "--out", "swept", "--no-tune"];
    let (_, said) = text(&run(folder, &[&sweep[..], &["--epochs", "1"]].concat()));
    assert_eq!(said.matches(remark).count(), 1, "{said}");
}

/// Files lie sorted by class, so that the first ones are all of one.
#[test]
fn a_limit_takes_images_of_every_class() {
    let folder = prepared(&[("train", 0), ("test", 0)], 40);
    let folder = folder.path();
    text(&run(folder, &[&TRAIN[..], &["--set", "data.limit=40", "--out", "few"]].concat()));
    text(&run(
        folder,
        &[&TRAIN[..], &["--set", "data.limit=40", "--set", "data.limit_order=first", "--out", "one"]].concat(),
    ));
    let (few, one) = (end(folder, "few")[0].1, end(folder, "one")[0].1);
    assert!(few == 1.0 && one == 0.5, "{few} with both classes, {one} with one");
    let config = |run: &str| fs::read_to_string(folder.join(run).join("config.toml")).unwrap();
    assert!(!config("few").contains("limit_order") && config("one").contains("limit_order = \"first\""));
}

#[test]
fn a_run_is_called_after_the_folder_whichever_way_leads_to_it() {
    let folder = prepared(&[("", 0)], 20);
    let inside = folder.path().join("my set");
    for name in ["", "/", "/."] {
        let set = format!("data.name={}{name}", inside.display());
        text(&run(folder.path(), &[&TRAIN[..], &["--epochs", "1", "--set", &set]].concat()));
    }
    let mut runs: Vec<_> =
        fs::read_dir(folder.path().join("runs")).unwrap().map(|run| run.unwrap().file_name()).collect();
    runs.sort();
    assert_eq!(runs, ["my-set-backprop", "my-set-backprop-2", "my-set-backprop-3"]);
}
