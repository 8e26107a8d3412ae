//! Computation to an accuracy against rank: a low rank makes a step cheap, and more of them necessary.

use std::io::{ErrorKind, Write};
use std::path::Path;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::picture::{Point, against_rank, by_classes, of_classes};
use super::verdict::CONFIDENCE;
use super::{Cell, ResultRow, Results, RuleName, with_classes};
use crate::analysis::upper_bound;
use crate::data::SearchPath;
use crate::experiment::{ExperimentError, LEAST_SEEDS, few_seeds, setting};
use crate::feedback::Rank;
use crate::files::{self, FileError, write_atomically};
use crate::model::{Network, NetworkSpec};
use crate::ops::Phase;
use crate::picture::{Axis, Frame, Sheet, encode};
use crate::plan::{Options, Plan, Profile};
use crate::train::TrainError;
use crate::train::labels::ranked;
use crate::train::metrics::Spread;
use crate::train::spec::network_spec;

/// FLOPs of a training step of one network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Classes, where they are varied.
    pub classes: Option<u32>,
    /// How errors travel back.
    pub rule: RuleName,
    /// Rank, where the rule has one.
    pub rank: Option<Rank>,
    /// Everything that a step computes, from the gather of the batch to the update.
    pub flops_per_step: u64,
}

impl Cost {
    /// Of every rank of a cell, whose networks such an adapter can train side by side.
    pub(super) fn of_cell(cell: &Cell, search: &SearchPath, profile: &Profile) -> Result<Vec<Cost>, TrainError> {
        let data = cell.config.dataset(search)?;
        let spec = network_spec(&cell.config.clone().resolved(), &data)?;
        Plan::new(Network::new(&spec)?.recording, profile, Options::default())?;
        let mut ranks = spec.ranks.clone();
        ranks.sort_unstable();
        ranks.dedup();
        let cost = |rank: Option<Rank>| -> Result<Cost, TrainError> {
            let network = Network::new(&NetworkSpec { ranks: vec![rank], ..spec.clone() })?;
            let entries = network.recording.entries(Phase::Train);
            let flops_per_step = entries.iter().map(|entry| entry.op.cost().flops).sum();
            Ok(Cost { classes: cell.classes, rule: cell.rule, rank, flops_per_step })
        };
        ranks.into_iter().map(cost).collect()
    }

    pub(super) fn write(path: &Path, costs: &[Cost]) -> Result<(), FileError> {
        write_atomically(path, |file| {
            let mut csv = csv::Writer::from_writer(file);
            for cost in costs {
                csv.serialize(cost)?;
            }
            csv.flush()
        })
    }

    /// Nothing where there is no such file.
    pub(super) fn read(path: &Path) -> Result<Vec<Cost>, ExperimentError> {
        let text = match files::read(path, files::MOST) {
            Err(error) if error.source.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            read => read?,
        };
        let wrong = |what: String| setting(format!("{}: {what}; remove it to go on without costs", path.display()));
        let mut reader = csv::Reader::from_reader(&text[..]);
        // Without rows nobody would miss the columns.
        if reader.headers().is_ok_and(|names| !names.iter().any(|name| name == "flops_per_step")) {
            return Err(wrong("there is no column flops_per_step".to_owned()));
        }
        let rows = reader.into_deserialize().collect::<Result<_, csv::Error>>();
        rows.map_err(|e| wrong(e.to_string()))
    }
}

/// What the networks of one rule and rank computed until their test accuracy was first as wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Reach {
    /// Classes, where they are varied.
    pub classes: Option<u32>,
    /// How errors travelled back.
    pub rule: RuleName,
    /// Rank, where the rule has one.
    pub rank: Option<Rank>,
    /// Networks.
    pub seeds: usize,
    /// Those of them that came so far.
    pub reached: usize,
    /// Seed and FLOPs of each of those.
    pub by_seed: Vec<(u32, f64)>,
    /// FLOPs of those.
    pub flops: Spread,
}

/// Of all groups whose cost is known. Accuracy is measured after epochs, so that steps are counted in whole epochs.
pub fn reaches(results: &Results, target: f64) -> Vec<Reach> {
    let reach = |rows: Vec<usize>| {
        let &ResultRow { classes, rule, rank, .. } = &results.rows[rows[0]];
        let cost = results.costs[rows[0]]? as f64;
        let first = |row: &usize| {
            let steps = results.curves[*row].iter().filter(|(_, accuracy)| *accuracy >= target).map(|(step, _)| *step);
            steps.min()
        };
        let flops = |row: &usize| Some((results.rows[*row].seed, f64::from(first(row)?) * cost));
        let by_seed: Vec<(u32, f64)> = rows.iter().filter_map(flops).collect();
        let flops = Spread::of(&by_seed.iter().map(|(_, flops)| *flops).collect::<Vec<_>>());
        Some(Reach { classes, rule, rank, seeds: rows.len(), reached: by_seed.len(), by_seed, flops })
    };
    results.alike().into_iter().filter_map(reach).collect()
}

/// Who computes least until all its networks have come so far, in a sentence for each number of classes, and who may as well.
pub fn least_computation(target: f64, found: &[Reach]) -> Vec<String> {
    let mut classes: Vec<Option<u32>> = found.iter().map(|reach| reach.classes).collect();
    classes.sort_unstable();
    classes.dedup();
    let sentence = |classes: Option<u32>| {
        let there = found.iter().filter(|reach| reach.classes == classes && reach.reached == reach.seeds);
        let mut there: Vec<&Reach> = there.collect();
        there.sort_by(|a, b| a.flops.mean.total_cmp(&b.flops.mean));
        let (least, others) = there.split_first()?;
        let what = format!("least computation to {:.1} %{}", 100.0 * target, with_classes(classes));
        if least.seeds < LEAST_SEEDS {
            return Some(format!("{what}: unknown from {}; the means are in compute.csv", few_seeds(least.seeds)));
        }
        // As many questions as there are others share the error.
        let confidence = 1.0 - (1.0 - CONFIDENCE) / others.len().max(1) as f64;
        let near: Vec<String> = others
            .iter()
            .filter(|other| !least.is_surely_below(other, confidence))
            .map(|other| other.in_words())
            .collect();
        let near =
            if near.is_empty() { String::new() } else { format!("; not told apart from it: {}", near.join(", ")) };
        let method = if others.is_empty() {
            "; no other rule or rank comes so far with all its networks".to_owned()
        } else {
            let all = others.len();
            format!(" (Student's t of the differences, paired by seed, one-sided 95 % for all {all} together)")
        };
        Some(format!("{what}: {} (n = {}){near}{method}", least.in_words(), least.seeds))
    };
    classes.into_iter().filter_map(sentence).collect()
}

impl Reach {
    fn in_words(&self) -> String {
        format!("{} {:.2} GFLOP", ranked(&self.rule.to_string(), self.rank), self.flops.mean / 1e9)
    }

    fn is_surely_below(&self, other: &Reach, confidence: f64) -> bool {
        let difference = |&(seed, flops): &(u32, f64)| {
            let pair = other.by_seed.iter().find(|(of, _)| *of == seed)?;
            Some(flops - pair.1)
        };
        let differences: Vec<f64> = self.by_seed.iter().filter_map(difference).collect();
        differences.len() >= LEAST_SEEDS && upper_bound(&differences, confidence).is_some_and(|bound| bound < 0.0)
    }
}

/// Writes them, a row a group.
///
/// # Errors
/// If the file cannot be written.
pub fn write_reaches(path: &Path, target: f64, found: &[Reach]) -> Result<(), ExperimentError> {
    Ok(write_atomically(path, |file| {
        let mut csv = csv::Writer::from_writer(file);
        csv.write_record([
            "classes",
            "rule",
            "rank",
            "target_accuracy",
            "seeds",
            "reached",
            "mean_flops",
            "std_flops",
        ])?;
        let number = |value: Option<f64>| value.filter(|v| v.is_finite()).map_or(String::new(), |v| format!("{v:.6e}"));
        for reach in found {
            csv.write_record([
                reach.classes.map_or(String::new(), |classes| classes.to_string()),
                reach.rule.to_string(),
                reach.rank.map_or(String::new(), |rank| rank.to_string()),
                format!("{target:.4}"),
                reach.seeds.to_string(),
                reach.reached.to_string(),
                number(Some(reach.flops.mean)),
                number(reach.flops.std),
            ])?;
        }
        csv.flush()
    })?)
}

/// Draws FLOPs to the accuracy against rank, with bars of one standard deviation, for ranks that all seeds came so far with.
///
/// # Errors
/// If the picture cannot be drawn or written.
pub fn draw_compute(path: &Path, title: &str, results: &Results, found: &[Reach]) -> Result<(), ExperimentError> {
    let png = compute_png(title, results, found)
        .map_err(|message| ExperimentError::Draw { path: path.to_owned(), message })?;
    Ok(write_atomically(path, |file| file.write_all(&png))?)
}

/// The same as the content of a PNG file.
pub(in crate::experiment) fn compute_png(title: &str, results: &Results, found: &[Reach]) -> Result<Vec<u8>, String> {
    encode(&render(title, results, found)?)
}

fn render(title: &str, results: &Results, found: &[Reach]) -> Result<RgbImage, String> {
    let rules = results.rules();
    by_classes(title, &rules, &results.classes(), |sheet, frame, classes| {
        let own: Vec<&Reach> = found.iter().filter(|reach| reach.classes == classes).collect();
        panel(sheet, frame, classes, &rules, &own)
    })
}

fn panel(
    sheet: &Sheet<'_>,
    frame: Frame,
    classes: Option<u32>,
    rules: &[RuleName],
    found: &[&Reach],
) -> Result<(), String> {
    let point = |reach: &&Reach| {
        let (mean, std) = (reach.flops.mean / 1e9, reach.flops.std.unwrap_or(0.0) / 1e9);
        // Where some seeds did not come so far there is nothing to be seen; and a bar that would end below nothing ends at a
        // tenth of the mean, as the axis is logarithmic.
        let middle = if reach.reached == reach.seeds { mean } else { f64::NAN };
        Point { rule: reach.rule, rank: reach.rank, middle, ends: [(mean - std).max(0.1 * mean), mean + std] }
    };
    let points: Vec<Point> = found.iter().map(point).collect();
    let (low, high) = Point::range(&points).unwrap_or((1.0, 10.0));
    let title = format!("GFLOP (logarithmic){}; bars: one standard deviation", of_classes(classes));
    against_rank(sheet, frame, &title, Axis::logarithmic(low / 1.15, high * 1.15), rules, &points)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        let row = |rule: &str, rank: Option<u32>, seed: u32| ResultRow {
            classes: None,
            rule: rule.parse().unwrap(),
            rank: rank.map(Rank::Of),
            seed,
            epochs: 2,
            train_loss: 1.0,
            test_loss: 1.0,
            test_accuracy: 0.9,
            best_test_accuracy: 0.9,
            cell: rule.to_owned(),
        };
        Results {
            rows: vec![
                row("backprop", None, 0),
                row("local", Some(2), 0),
                row("local", Some(2), 1),
                row("local", Some(4), 0),
            ],
            curves: vec![
                vec![(10, 0.7), (20, 0.9)],
                vec![(10, 0.8), (20, 0.9)],
                vec![(10, 0.5), (20, 0.8)],
                vec![(10, 0.1), (20, 0.2)],
            ],
            costs: vec![Some(1000), Some(100), Some(100), Some(200)],
            missing: Vec::new(),
        }
    }

    #[test]
    fn computation_is_counted_to_the_first_epoch_that_is_good_enough() {
        let found = reaches(&results(), 0.8);
        let facts: Vec<_> = found.iter().map(|r| (r.rank, r.seeds, r.reached, r.flops.mean)).collect();
        assert_eq!(facts[0], (None, 1, 1, 20_000.0));
        assert_eq!(facts[1], (Some(Rank::Of(2)), 2, 2, 1500.0));
        assert!(facts[2].2 == 0 && facts[2].3.is_nan());
        assert_eq!(found[1].flops.std, Some((2.0 * 500.0f64.powi(2)).sqrt()));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("compute.csv");
        write_reaches(&path, 0.8, &found).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.contains(",local,2,0.8000,2,2,1.500000e3,7.071068e2\n") && text.contains(",local,4,0.8000,1,0,,\n"),
            "{text}"
        );
    }

    #[test]
    fn the_least_is_named_from_five_seeds_with_those_that_may_be_it() {
        let reach = |rule: &str, rank: Option<u32>, flops: &[f64]| {
            let by_seed: Vec<(u32, f64)> = (0..).zip(flops.iter().copied()).collect();
            let (seeds, reached) = (flops.len(), flops.len());
            let (rule, rank) = (rule.parse().unwrap(), rank.map(Rank::Of));
            Reach { classes: None, rule, rank, seeds, reached, by_seed, flops: Spread::of(flops) }
        };
        let exact = reach("backprop", None, &[1.1e9, 1.2e9, 1.0e9, 1.1e9, 1.1e9]);
        let near = reach("local", Some(8), &[1.2e9, 1.1e9, 1.1e9, 1.2e9, 1.0e9]);
        let far = reach("local", Some(2), &[3.1e9, 3.0e9, 3.3e9, 3.1e9, 3.2e9]);
        let told = least_computation(0.9, &[far.clone(), near.clone(), exact.clone()]);
        assert!(
            told[0].contains("to 90.0 %: backprop 1.10 GFLOP (n = 5); not told apart from it: local r=8 1.12 GFLOP ("),
            "{told:?}"
        );
        assert!(!told[0].contains("r=2"), "{told:?}");
        let told = least_computation(0.9, &[far.clone(), exact.clone()]);
        assert!(told[0].contains("backprop 1.10 GFLOP (n = 5) ("), "{told:?}");
        // Who has not come so far with every seed is no contestant; and two seeds name nobody.
        let some = Reach { seeds: 6, ..exact };
        assert!(least_computation(0.9, &[far, some])[0].contains("local r=2"));
        let two = reach("local", Some(8), &[1.2e9, 1.1e9]);
        assert!(least_computation(0.9, &[two])[0].contains("unknown from n = 2 seeds"));
        assert!(least_computation(0.9, &[]).is_empty());
    }

    #[test]
    fn pictures_can_be_drawn_of_whatever_was_reached() {
        let results = results();
        for target in [0.0, 0.8, 2.0] {
            assert!(render("title", &results, &reaches(&results, target)).is_ok());
        }
        let unknown = Results { costs: vec![None; 4], ..results };
        assert!(reaches(&unknown, 0.5).is_empty());
    }

    #[test]
    fn costs_read_back_and_damage_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cost.csv");
        assert!(Cost::read(&path).unwrap().is_empty());
        let rule = "direct:local".parse().unwrap();
        let costs = vec![Cost { classes: Some(3), rule, rank: Some(Rank::WidthOver(8)), flops_per_step: 7 }];
        Cost::write(&path, &costs).unwrap();
        assert_eq!(Cost::read(&path).unwrap(), costs);
        std::fs::write(&path, "classes,rule,rank,flops_per_step\n3,nonsense,2,7\n").unwrap();
        assert!(Cost::read(&path).unwrap_err().to_string().contains("cost.csv"));
    }
}
