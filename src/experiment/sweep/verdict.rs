//! What a sweep's networks allow to say: how far below backprop a rule stays, and from which rank on that is little.

use super::results::order;
use super::{Group, Results, RuleName};
use crate::analysis::upper_bound;
use crate::experiment::{LEAST_SEEDS, few_seeds};
use crate::feedback::{Rank, Rule};
use crate::train::labels::ranked;
use crate::train::metrics::Spread;
use crate::train::summary::{BEST, percent};

/// How far below backprop's a rule's test accuracy may be to count as well, as a share, where nothing else is asked for.
pub const MARGIN: f64 = 0.01;

/// What a sweep's networks are judged by. Shares, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measure {
    /// Test accuracy to which computation is counted; the [usual one](Results::usual_target) if left out.
    pub target: Option<f64>,
    /// See [`MARGIN`].
    pub margin: f64,
}

impl Default for Measure {
    fn default() -> Measure {
        Measure { target: None, margin: MARGIN }
    }
}

impl Measure {
    /// The accuracy to which computation is counted; none without backprop or a wish.
    pub fn target_of(&self, results: &Results) -> Option<f64> {
        self.target.or_else(|| results.usual_target())
    }
}

/// Every group as a line of a table, beside backprop where that has ended; the first line names the columns.
pub fn table(results: &Results) -> Vec<Vec<String>> {
    let head = [
        "rule",
        "classes",
        "rank",
        "seeds",
        "test accuracy, last epoch",
        BEST,
        "points below backprop",
        "at most (95 %)",
    ];
    let gaps = results.gaps();
    let line = |group: Group| {
        let is_own = |gap: &&Gap| (gap.classes, gap.rule, gap.rank) == (group.classes, group.rule, group.rank);
        let gap = gaps.iter().find(is_own);
        let dash = || "-".to_owned();
        vec![
            group.rule.to_string(),
            group.classes.map_or("all".to_owned(), |classes| classes.to_string()),
            super::rank_name(group.rank),
            group.n.to_string(),
            percent(group.accuracy.mean, group.accuracy.std),
            percent(group.best.mean, group.best.std),
            gap.map_or_else(dash, Gap::difference_in_words),
            gap.map_or_else(dash, Gap::bound_in_words),
        ]
    };
    std::iter::once(head.map(str::to_owned).to_vec()).chain(results.groups().into_iter().map(line)).collect()
}

/// How sure bounds are, one-sided.
pub(super) const CONFIDENCE: f64 = 0.95;

/// Accuracies are shares of thousands of images: what is nearer than this is as far.
const ROUNDING: f64 = 1e-9;

/// Backprop's test accuracy after the last epoch minus a rule's, over pairs of networks of one seed, which see the same images in the
/// same order. Shares, 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Gap {
    /// Classes, where they are varied.
    pub classes: Option<u32>,
    /// How errors travelled back.
    pub rule: RuleName,
    /// Rank, where the rule has one.
    pub rank: Option<Rank>,
    /// Pairs.
    pub n: usize,
    /// Mean of the differences, and their standard deviation.
    pub difference: Spread,
    /// Upper bound of the mean, one-sided 95 %, by Student's t; none for one pair.
    pub bound: Option<f64>,
}

impl Gap {
    fn of(classes: Option<u32>, rule: RuleName, rank: Option<Rank>, differences: &[f64]) -> Gap {
        let (difference, bound) = (Spread::of(differences), upper_bound(differences, CONFIDENCE));
        Gap { classes, rule, rank, n: differences.len(), difference, bound }
    }

    /// Whether the rule is as good as backprop but for this margin; none where the seeds are too few to say.
    pub fn is_within(&self, margin: f64) -> Option<bool> {
        self.bound.filter(|_| self.n >= LEAST_SEEDS).map(|bound| bound <= margin + ROUNDING)
    }

    /// The difference in points, with its standard deviation.
    pub fn difference_in_words(&self) -> String {
        points(self.difference.mean, self.difference.std)
    }

    /// The bound in points; a dash where the seeds are too few to have one.
    pub fn bound_in_words(&self) -> String {
        self.bound.filter(|_| self.n >= LEAST_SEEDS).map_or("-".to_owned(), |bound| points(bound, None))
    }
}

fn points(share: f64, std: Option<f64>) -> String {
    let spread = std.map_or(String::new(), |std| format!(" ± {:.2}", 100.0 * std));
    format!("{:.2}{spread}", 100.0 * share)
}

/// Why a rule has no smallest rank.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NoRank {
    /// The cell of the rule or that of backprop has not ended, or there is none.
    #[error("unknown without it and backprop trained to their end")]
    Untrained,
    /// So few that there is no telling.
    #[error("unknown from {}", few_seeds(*.0))]
    FewSeeds(usize),
    /// Not even the largest rank is as good.
    #[error("none (n = {}, at r={} up to {} points below)", .0.n, super::rank_name(.0.rank), .0.bound_in_words())]
    BelowBackprop(Gap),
}

impl Results {
    /// Every group but backprop's own whose classes backprop was trained with, in the order of the groups.
    pub fn gaps(&self) -> Vec<Gap> {
        let exact = RuleName::Whole(Rule::Backprop);
        let gap = |rows: Vec<usize>| {
            let own = &self.rows[rows[0]];
            let differences: Vec<f64> = rows
                .iter()
                .filter_map(|&row| {
                    let row = &self.rows[row];
                    let mut pairs =
                        self.rows.iter().filter(|other| other.rule == exact && other.classes == row.classes);
                    Some(pairs.find(|other| other.seed == row.seed)?.test_accuracy - row.test_accuracy)
                })
                .collect();
            let is_other = own.rule != exact && !differences.is_empty();
            is_other.then(|| Gap::of(own.classes, own.rule, own.rank, &differences))
        };
        self.alike().into_iter().filter_map(gap).collect()
    }

    /// The smallest rank from which on, up to the largest, a rule is at most `margin` below backprop. Ranks are tested from the
    /// largest down, and no further than the first that fails: each bound then keeps its confidence, however many ranks there are.
    ///
    /// # Errors
    /// Why there is none.
    pub fn smallest_rank(&self, classes: Option<u32>, rule: RuleName, margin: f64) -> Result<Gap, NoRank> {
        let mut gaps = self.gaps();
        gaps.retain(|gap| gap.classes == classes && gap.rule == rule && gap.rank.is_some());
        gaps.sort_by_key(|gap| order(gap.rank));
        let largest = gaps.last().cloned().ok_or(NoRank::Untrained)?;
        let is_within = |gap: &Gap| gap.is_within(margin) == Some(true);
        match gaps.into_iter().rev().take_while(is_within).last() {
            Some(smallest) => Ok(smallest),
            None if largest.is_within(margin).is_none() => Err(NoRank::FewSeeds(largest.n)),
            None => Err(NoRank::BelowBackprop(largest)),
        }
    }

    /// The smallest ranks in a sentence for each number of classes, with all that they rest on; nothing where no rule has a rank.
    pub fn verdicts(&self, margin: f64) -> Vec<String> {
        let sentence = |classes: Option<u32>| {
            let rules: Vec<RuleName> = self.rules().into_iter().filter(|rule| rule.has_rank()).collect();
            let found: Vec<_> = rules.iter().map(|&rule| self.smallest_rank(classes, rule, margin)).collect();
            let is_judged = found.iter().any(|found| matches!(found, Ok(_) | Err(NoRank::BelowBackprop(_))));
            let told = rules.iter().zip(found).map(|(rule, found)| match found {
                Ok(gap) => {
                    let (name, bound) = (ranked(&rule.to_string(), gap.rank), gap.bound_in_words());
                    format!("{name} (n = {}, up to {bound} points below)", gap.n)
                }
                Err(why) => format!("{rule} {why}"),
            });
            let told = told.collect::<Vec<_>>().join(", ");
            let (margin, classes) = (in_points(margin), super::with_classes(classes));
            let method = if is_judged { METHOD } else { "" };
            (!told.is_empty()).then(|| format!("smallest rank within {margin} of backprop{classes}: {told}{method}"))
        };
        self.classes().into_iter().filter_map(sentence).collect()
    }
}

/// How a smallest rank is found, in words.
const METHOD: &str = " (one-sided 95 % bound by Student's t of the difference backprop - rule, paired by seed; ranks tested from the \
                      largest down)";

/// A margin with as many digits as it needs.
fn in_points(margin: f64) -> String {
    let text = format!("{:.4}", 100.0 * margin);
    let digits = text.trim_end_matches('0').trim_end_matches('.');
    format!("{digits} point{}", if digits == "1" { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::row;
    use super::*;

    /// Backprop and `local` at one rank, pair by pair in percent.
    fn pairs(exact: &[f64], own: &[f64]) -> Results {
        let of = |rule: &'static str, rank, values: &[f64]| {
            let one = move |(seed, value): (usize, &f64)| row(rule, rank, seed as u32, value / 100.0);
            values.iter().enumerate().map(one).collect::<Vec<_>>()
        };
        Results { rows: [of("backprop", None, exact), of("local", Some(4), own)].concat(), ..Results::default() }
    }

    fn told(results: &Results) -> Result<Option<Rank>, NoRank> {
        results.smallest_rank(None, "local".parse().unwrap(), MARGIN).map(|gap| gap.rank)
    }

    /// The two that rounding decided: their means are apart by less than 1e-14 from what their errors allowed.
    #[test]
    fn two_seeds_give_no_verdict_however_close_they_are() {
        let (more, less) = (100.0 * 354.0 / 360.0, 100.0 * 351.0 / 360.0);
        for exact in [[more, less], [less, more]] {
            let results = pairs(&exact, &[less; 2]);
            assert_eq!(told(&results), Err(NoRank::FewSeeds(2)));
            let said = results.verdicts(MARGIN).join("\n");
            assert!(said.contains("local unknown from n = 2 seeds, five are needed (--seeds 5)"), "{said}");
            // The difference is shown all the same, without a bound.
            let gap = &results.gaps()[0];
            assert!(gap.n == 2 && gap.difference_in_words().contains(" ± ") && gap.bound_in_words() == "-");
        }
        assert_eq!(told(&pairs(&[99.0; 4], &[99.0; 4])), Err(NoRank::FewSeeds(4)));
        // Only networks of the same seed are a pair.
        let mut results = pairs(&[99.0; 5], &[99.0; 5]);
        results.rows.last_mut().unwrap().seed = 17;
        assert_eq!(told(&results), Err(NoRank::FewSeeds(4)));
    }

    /// 88.8 ± 15.9 beside 95.0: the noise that used to widen what was allowed now widens the bound. 99.6 ± 0.6 beside 100 is within a point.
    #[test]
    fn noise_is_no_merit() {
        let exact = [95.1, 94.8, 95.3, 94.9, 94.9];
        let noisy = pairs(&exact, &[98.7, 97.3, 95.1, 92.2, 60.7]);
        let own: Vec<f64> = noisy.rows[5..].iter().map(|row| row.test_accuracy).collect();
        let Spread { mean, std } = Spread::of(&own);
        assert!((mean - 0.888).abs() < 5e-4 && (std.unwrap() - 0.159).abs() < 1e-3, "{mean} ± {std:?}");
        assert!(matches!(told(&noisy), Err(NoRank::BelowBackprop(gap)) if gap.bound.unwrap() > 0.2));

        let steady = pairs(&[100.0; 5], &[98.7, 99.3, 100.0, 100.0, 100.0]);
        let own: Vec<f64> = steady.rows[5..].iter().map(|row| row.test_accuracy).collect();
        let Spread { mean, std } = Spread::of(&own);
        assert!((mean - 0.996).abs() < 1e-6 && (std.unwrap() - 0.006).abs() < 5e-4, "{mean} ± {std:?}");
        assert_eq!(told(&steady), Ok(Some(Rank::Of(4))));
        let said = steady.verdicts(MARGIN).join("\n");
        for word in [
            "within 1 point of backprop",
            "local r=4 (n = 5, up to 0.96 points below)",
            "95 % bound",
            "Student's t",
            "paired by seed",
        ] {
            assert!(said.contains(word), "{word} is not in {said}");
        }
        assert!(steady.smallest_rank(None, "local".parse().unwrap(), 0.005).is_err(), "another margin");
    }

    /// A point is a point, whichever way it was rounded.
    #[test]
    fn ties_are_ties() {
        for exact in [0.9, 0.91, 0.97, 0.98] {
            let results = pairs(&[100.0 * exact; 5], &[100.0 * (exact - 0.01); 5]);
            assert_eq!(told(&results), Ok(Some(Rank::Of(4))), "{exact}");
        }
        assert!(told(&pairs(&[97.0; 5], &[95.99; 5])).is_err());
    }

    /// Ranks are tested from the largest down, so that a rank that is good by luck, below one that is not, is not called the smallest.
    #[test]
    fn the_smallest_rank_is_one_from_which_on_all_are_good() {
        let of = |rule: &str, rank: Option<u32>, accuracy: f64, seeds: u32| {
            (0..seeds).map(|seed| row(rule, rank, seed, accuracy + 0.001 * f64::from(seed % 2))).collect::<Vec<_>>()
        };
        let local = |by_rank: [f64; 4]| {
            let ranks = [2, 8, 16, 32].into_iter().zip(by_rank);
            let mut rows: Vec<_> = ranks.flat_map(|(rank, accuracy)| of("local", Some(rank), accuracy, 5)).collect();
            rows.extend(of("backprop", None, 0.95, 6));
            Results { rows, ..Results::default() }
        };
        assert_eq!(told(&local([0.8, 0.945, 0.95, 0.96])), Ok(Some(Rank::Of(8))));
        assert_eq!(told(&local([0.95, 0.9, 0.95, 0.96])), Ok(Some(Rank::Of(16))));
        assert!(
            matches!(told(&local([0.95, 0.95, 0.95, 0.9])), Err(NoRank::BelowBackprop(gap)) if gap.rank == Some(Rank::Of(32)))
        );
        let results = local([0.95; 4]);
        assert_eq!(results.smallest_rank(None, "fixed".parse().unwrap(), MARGIN), Err(NoRank::Untrained));
        assert_eq!(results.smallest_rank(Some(3), "local".parse().unwrap(), MARGIN), Err(NoRank::Untrained));
        let without = Results { rows: of("local", Some(2), 0.9, 5), ..Results::default() };
        assert_eq!(told(&without), Err(NoRank::Untrained));
        assert!(Results { rows: of("backprop", None, 0.9, 5), ..Results::default() }.verdicts(MARGIN).is_empty());
    }
}
