//! What a sweep has found so far.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Cell, Cost, RuleName, Sweep, costs_of, folder_of};
use crate::experiment::{ExperimentError, setting};
use crate::feedback::{Rank, Rule};
use crate::files::write_atomically;
use crate::train::TrainError;
use crate::train::config::Config;
use crate::train::metrics::{Log, MetricsRow, Spread};
use crate::train::run_dir::RunDir;
use crate::train::summary::{ReplicaSummary, Summary};

/// One network at its end. Accuracies are shares, 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResultRow {
    /// Classes, where they are varied.
    pub classes: Option<u32>,
    /// How errors travelled back.
    pub rule: RuleName,
    /// Rank, where the rule has one.
    pub rank: Option<Rank>,
    /// Seed.
    pub seed: u32,
    /// Epochs trained.
    pub epochs: u32,
    /// Training loss of the last epoch.
    pub train_loss: f64,
    /// Test loss after it.
    pub test_loss: f64,
    /// Test accuracy after it.
    pub test_accuracy: f64,
    /// Test accuracy of the network's own best epoch; chosen on the test set, so it flatters.
    pub best_test_accuracy: f64,
    /// Folder below `cells`.
    pub cell: String,
}

/// The networks of one rule and rank, which differ in their seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Classes, where they are varied.
    pub classes: Option<u32>,
    /// How errors travelled back.
    pub rule: RuleName,
    /// Rank, where the rule has one.
    pub rank: Option<Rank>,
    /// How many.
    pub n: usize,
    /// Mean test accuracy after the last epoch, and its standard deviation.
    pub accuracy: Spread,
    /// The same of each network's own best epoch, chosen on the test set.
    pub best: Spread,
    /// Epochs trained.
    pub epochs: u32,
}

impl Group {
    /// Standard error of the mean; none for one seed.
    pub fn standard_error(&self) -> Option<f64> {
        self.accuracy.std.map(|std| std / (self.n as f64).sqrt())
    }
}

/// All networks that have been trained to their end.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// In the order of the cells.
    pub rows: Vec<ResultRow>,
    /// Of each row, test accuracy by step after every epoch.
    pub curves: Vec<Vec<(u32, f64)>>,
    /// What a step of each row's network costs, in FLOPs; none if the sweep's record is lost.
    pub costs: Vec<Option<u64>>,
    /// Folders of cells that have not ended.
    pub missing: Vec<String>,
}

impl Results {
    /// Reads every cell that has ended.
    ///
    /// # Errors
    /// If a cell is damaged, or was made by another configuration than the sweep's.
    pub fn read(sweep: &Sweep, folder: &Path) -> Result<Results, ExperimentError> {
        let mut found = Results::default();
        let costs = Cost::read(&costs_of(folder))?;
        for cell in &sweep.cells {
            let path = folder_of(folder, cell);
            if !path.join("summary.json").is_file() {
                found.missing.push(cell.name.clone());
                continue;
            }
            let (rows, curves) = of_cell(cell, &path)?;
            let cost = |row: &ResultRow| {
                let own = costs.iter().find(|c| (c.classes, c.rule, c.rank) == (row.classes, row.rule, row.rank));
                own.map(|cost| cost.flops_per_step)
            };
            found.costs.extend(rows.iter().map(cost));
            found.rows.extend(rows);
            found.curves.extend(curves);
        }
        Ok(found)
    }

    /// Indices of rows of the same classes, rule and rank, which differ in their seeds; in the order of the rows.
    pub(super) fn alike(&self) -> Vec<Vec<usize>> {
        let mut found: Vec<Vec<usize>> = Vec::new();
        let key = |row: &ResultRow| (row.classes, row.rule, row.rank);
        for (index, row) in self.rows.iter().enumerate() {
            match found.iter_mut().find(|known| key(&self.rows[known[0]]) == key(row)) {
                Some(known) => known.push(index),
                None => found.push(vec![index]),
            }
        }
        found
    }

    /// Means over the seeds, in the order of the rows.
    pub fn groups(&self) -> Vec<Group> {
        let group = |rows: Vec<usize>| {
            let &ResultRow { classes, rule, rank, epochs, .. } = &self.rows[rows[0]];
            let spread = |of: fn(&ResultRow) -> f64| {
                Spread::of(&rows.iter().map(|&row| of(&self.rows[row])).collect::<Vec<_>>())
            };
            let (accuracy, best) = (spread(|row| row.test_accuracy), spread(|row| row.best_test_accuracy));
            Group { classes, rule, rank, n: rows.len(), accuracy, best, epochs }
        };
        self.alike().into_iter().map(group).collect()
    }

    /// 95 % of backprop's mean test accuracy, of the least where classes are varied; none without backprop.
    pub fn usual_target(&self) -> Option<f64> {
        let exact = self.groups().into_iter().filter(|group| group.rule == RuleName::Whole(Rule::Backprop));
        exact.map(|group| 0.95 * group.accuracy.mean).filter(|mean| mean.is_finite()).min_by(f64::total_cmp)
    }

    /// Numbers of classes, in their order; one `None` where they are not varied.
    pub fn classes(&self) -> Vec<Option<u32>> {
        let mut all: Vec<Option<u32>> = self.rows.iter().map(|row| row.classes).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Rules, in the order of the cells.
    pub fn rules(&self) -> Vec<RuleName> {
        let mut all: Vec<RuleName> = Vec::new();
        for row in &self.rows {
            if !all.contains(&row.rule) {
                all.push(row.rule);
            }
        }
        all
    }

    /// Writes `results.csv`, a row a network.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ExperimentError> {
        Ok(write_atomically(path, |file| {
            let mut csv = csv::Writer::from_writer(file);
            for row in &self.rows {
                csv.serialize(row)?;
            }
            csv.flush()
        })?)
    }
}

/// Ranks from the smallest on; parts of a width by the part, after all numbers.
pub(in crate::experiment) fn order(rank: Option<Rank>) -> (bool, i64) {
    match rank {
        None => (false, 0),
        Some(Rank::Of(rank)) => (false, i64::from(rank)),
        Some(Rank::WidthOver(divisor)) => (true, -i64::from(divisor)),
    }
}

/// Accuracy by step.
type Curve = Vec<(u32, f64)>;

/// Opens a cell's run, which must be of the cell's configuration.
pub(super) fn check_cell(cell: &Cell, path: &Path) -> Result<RunDir, ExperimentError> {
    let run = RunDir::open(path).map_err(TrainError::from)?;
    let found = Config::load(&run.config()).map_err(TrainError::from)?;
    if found.resolved() != cell.config.clone().resolved() {
        return Err(setting(format!(
            "{}: this run was made by another configuration than the sweep's; remove its folder to train it again",
            path.display()
        )));
    }
    Ok(run)
}

fn of_cell(cell: &Cell, path: &Path) -> Result<(Vec<ResultRow>, Vec<Curve>), ExperimentError> {
    let run = check_cell(cell, path)?;
    let summary = Summary::read(&run.summary()).map_err(TrainError::from)?;
    let row = |replica: &ReplicaSummary| ResultRow {
        classes: cell.classes,
        rule: cell.rule,
        rank: replica.rank,
        seed: replica.seed,
        epochs: replica.last_epoch,
        train_loss: replica.last_train_loss,
        test_loss: replica.last_test_loss,
        test_accuracy: replica.last_test_accuracy,
        best_test_accuracy: replica.best_test_accuracy,
        cell: cell.name.clone(),
    };
    let metrics = Log::<MetricsRow>::read(&run.metrics(), &cell.config).map_err(TrainError::from)?;
    let curve = |replica: &ReplicaSummary| {
        let own = metrics.iter().filter(|row| row.replica == replica.replica);
        own.map(|row| (row.step, row.test_accuracy)).collect()
    };
    Ok((summary.replicas.iter().map(row).collect(), summary.replicas.iter().map(curve).collect()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::experiment::sweep) fn row(rule: &str, rank: Option<u32>, seed: u32, test_accuracy: f64) -> ResultRow {
        ResultRow {
            classes: None,
            rule: rule.parse().unwrap(),
            rank: rank.map(Rank::Of),
            seed,
            epochs: 1,
            train_loss: 1.0,
            test_loss: 1.0,
            test_accuracy,
            best_test_accuracy: test_accuracy,
            cell: rule.to_owned(),
        }
    }

    #[test]
    fn groups_are_networks_that_differ_in_their_seeds() {
        let rows = vec![
            row("backprop", None, 0, 0.9),
            row("local", Some(8), 0, 0.84),
            row("local", Some(8), 1, 0.74),
            row("fixed", Some(8), 1, 0.4),
        ];
        let results = Results { rows, ..Results::default() };
        let groups = results.groups();
        assert_eq!(groups.iter().map(|group| group.n).collect::<Vec<_>>(), [1, 2, 1]);
        assert!((groups[1].accuracy.mean - 0.79).abs() < 1e-12);
        assert!((groups[1].standard_error().unwrap() - 0.05).abs() < 1e-12);
        assert_eq!((results.rules().len(), results.classes()), (3, vec![None]));
    }

    #[test]
    fn ranks_are_in_order() {
        let mut ranks = [Rank::WidthOver(1), Rank::Of(10), Rank::WidthOver(8), Rank::Of(2)].map(Some);
        ranks.sort_by_key(|rank| order(*rank));
        assert_eq!(ranks, [Rank::Of(2), Rank::Of(10), Rank::WidthOver(8), Rank::WidthOver(1)].map(Some));
    }
}
