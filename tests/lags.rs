//! How errors change on their way back through time: the measures against the errors themselves, the log, the picture.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use ldfa_gpu::data::{self, SearchPath};
use ldfa_gpu::gpu::DeviceChoice;
use ldfa_gpu::plan::Options;
use ldfa_gpu::train::config::Draft;
use ldfa_gpu::train::session::Session;

/// Rows of digits through two cells, the first with more columns of gates than a batch has samples. Errors go back two steps.
const LAYERS: &str = "[{type='sequence',of='rows'},{type='recurrent',cell='gru',out=6,window=3},\
                      {type='recurrent',cell='rnn',out=5,window=3},{type='last-token'},{type='dense',out=10}]";

/// Size, variance and participation ratio of samples, from the covariance of their columns.
fn by_hand(samples: &[&[f64]]) -> (f64, f64, f64) {
    let (count, width) = (samples.len() as f64, samples[0].len());
    let mean: Vec<f64> = (0..width).map(|j| samples.iter().map(|row| row[j]).sum::<f64>() / count).collect();
    let covariance =
        |i: usize, j: usize| samples.iter().map(|row| (row[i] - mean[i]) * (row[j] - mean[j])).sum::<f64>() / count;
    let variance: f64 = (0..width).map(|i| covariance(i, i)).sum();
    let squares: f64 =
        (0..width).flat_map(|i| (0..width).map(move |j| (i, j))).map(|(i, j)| covariance(i, j).powi(2)).sum();
    let energy: f64 = samples.iter().flat_map(|row| row.iter()).map(|value| value * value).sum();
    ((energy / (count * width as f64)).sqrt(), variance, variance * variance / squares)
}

#[test]
fn measures_are_those_of_the_errors_of_each_step() {
    const STEPS: usize = 8;
    let mut draft = Draft::open("digits-rows").unwrap();
    for (key, value) in
        [("model.layers", LAYERS), ("train.batch", "16"), ("train.seeds", "2"), ("feedback.rank", "[2, 3]")]
    {
        draft.set(key, value).unwrap();
    }
    let digits = data::open("digits", &SearchPath::from_env(None)).unwrap();
    let mut session =
        Session::new(draft.finish().unwrap(), &digits, &DeviceChoice::Reference, Options::default()).unwrap();
    session.shuffle(0).unwrap();
    let found = session.diagnosis(0).unwrap().lags;
    let mut measured = found.iter();
    for error in session.network.diagnosis.errors.clone() {
        if error.name == "layers.4" {
            // It does not recur.
            continue;
        }
        let (values, width) = (session.executor().read(error.delta).unwrap(), error.delta.cols() as usize);
        for (replica, values) in values.chunks(values.len() / 4).enumerate() {
            let rows: Vec<&[f64]> = values.chunks(width).collect();
            assert_eq!(rows.len(), 16 * STEPS);
            for lag in 0..STEPS {
                let samples: Vec<&[f64]> = (0..16).map(|sample| rows[sample * STEPS + STEPS - 1 - lag]).collect();
                let (size, variance, dimension) = by_hand(&samples);
                let (of, layer, own) = measured.next().unwrap();
                assert_eq!((*of, layer, own.lag as usize), (replica, &error.name, lag));
                let is_close = |found: Option<f64>, expected: f64| (found.unwrap() - expected).abs() < 1e-9 * expected;
                // The window lets no error further back.
                if lag < 3 {
                    assert!(size > 0.0 && variance > 0.0 && is_close(own.error_rms, size), "{layer}: {own:?}, {size}");
                    assert!(is_close(own.effective_dimension, dimension), "{layer}: {own:?}, {dimension}");
                } else {
                    assert_eq!((own.error_rms, own.effective_dimension), (Some(0.0), None), "{layer}: {own:?}");
                }
            }
        }
    }
    assert!(measured.next().is_none());
    let layers: BTreeSet<&str> = found.iter().map(|(_, layer, _)| layer.as_str()).collect();
    assert_eq!(layers, BTreeSet::from(["layers.1.ih", "layers.1.hh", "layers.2.ih", "layers.2.hh"]));
}

fn ldfa(arguments: &[&str], folder: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ldfa-gpu"));
    let output = command.env("LDFA_CACHE", "").args(arguments).current_dir(folder).output().unwrap();
    let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

/// A row an epoch, weight, network and step; the same after stops within an epoch. On the page and in the picture of errors.
#[test]
fn every_step_is_logged_and_drawn_the_same_after_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let layers = "model.layers=[{type='sequence',of='rows'},{type='recurrent',cell='gru',out=6},{type='last-token'},\
                  {type='dense',out=10}]";
    let train = |preset: &str, out: &str, more: &[&str]| {
        let base =
            ["train", preset, "--rank", "4", "--epochs", "2", "--seeds", "2", "--device", "reference", "--out", out];
        ldfa(&[&base[..], more].concat(), folder);
    };
    let log = |run: &str| fs::read_to_string(folder.join(run).join("lags.csv")).unwrap();
    train("digits-rows", "whole", &["--set", layers]);
    train("digits-rows", "parts", &["--set", layers, "--max-steps", "30"]);
    assert_eq!(log("parts").lines().count(), 1 + 2 * 2 * 8, "the epoch that was cut has its rows");
    for steps in ["60", "88"] {
        ldfa(&["train", "--resume", "parts", "--device", "reference", "--max-steps", steps], folder);
    }
    assert_eq!(log("parts"), log("whole"));

    let mut expected = Vec::new();
    for epoch in ["1", "2"] {
        for layer in ["layers.1.ih", "layers.1.hh"] {
            for replica in ["0", "1"] {
                expected.extend((0..8).map(|lag| [epoch, replica, layer, &lag.to_string()].map(str::to_owned)));
            }
        }
    }
    let mut found = Vec::new();
    for line in log("whole").lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        found.push([0, 2, 5, 6].map(|column| cells[column].to_owned()));
        let [size, dimension] = [7, 8].map(|column| cells[column].parse::<f64>().unwrap());
        // Of a state of 6, three gates.
        assert!(size > 0.0 && (1.0..=18.0).contains(&dimension), "{line}");
    }
    assert_eq!(found, expected);

    // Nothing recurs in it.
    train("digits", "plain", &[]);
    assert!(!folder.join("plain/lags.csv").exists());
    let height = |runs: &[&str]| {
        let told = ldfa(&[&["report"], runs, &["--spectra", "errors.png", "--html", "page.html"]].concat(), folder);
        assert!(told.contains("errors drawn to errors.png"), "{told}");
        image::open(folder.join("errors.png")).unwrap().height()
    };
    // Three layers and two with feedback, then two of each measure by step.
    let before = height(&["whole"]);
    fs::write(folder.join("whole/lags.csv"), log("whole").lines().next().unwrap()).unwrap();
    assert_eq!(before, height(&["whole"]) + 290, "nine panels in rows of three, and five");
    assert!(fs::read_to_string(folder.join("page.html")).unwrap().contains("id=\"spectra\""));
}
