//! What a few networks allow to say of all that could have been trained: bounds of means, trends, and several questions at once.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// The upper bound of a mean that holds with this confidence (below 1), one-sided, by Student's t; none for fewer than two values.
pub fn upper_bound(values: &[f64], confidence: f64) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let quantile = StudentsT::new(0.0, 1.0, n - 1.0).ok()?.inverse_cdf(confidence);
    Some(mean + quantile * (variance / n).sqrt())
}

/// Which way samples go from one group to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// Of all pairs of samples from two groups, the share in which that of the later group is larger (equal ones count half), less
    /// the share in which it is smaller: 1 where all rise, -1 where all fall.
    pub direction: f64,
    /// How often chance alone, which would deal the samples to the groups, comes as far to either side.
    pub p: f64,
}

/// The exact test of Jonckheere (1954) and Terpstra for a trend over ordered groups; none for fewer than two groups with samples.
///
/// Its statistic, the number of pairs in the order of their groups, is by chance a sum of independent ones of Mann and Whitney, of
/// each group against all before it, whose distributions are counted. Equal samples are dealt with as half a pair, rounded to the
/// side of chance.
pub fn trend(groups: &[Vec<f64>]) -> Option<Trend> {
    let groups: Vec<&Vec<f64>> = groups.iter().filter(|group| !group.is_empty()).collect();
    if groups.len() < 2 {
        return None;
    }
    let (mut halves, mut chance, mut before) = (0usize, vec![1.0], groups[0].len());
    for (index, later) in groups.iter().enumerate().skip(1) {
        for earlier in groups[..index].iter().flat_map(|group| group.iter()) {
            halves += later
                .iter()
                .map(|value| 1 + usize::from(value > earlier) - usize::from(value < earlier))
                .sum::<usize>();
        }
        chance = convolved(&chance, &mann_whitney(before, later.len()));
        before += later.len();
    }
    let pairs = chance.len() - 1;
    let at_least: f64 = chance[halves / 2..].iter().sum();
    let at_most: f64 = chance[..=halves.div_ceil(2)].iter().sum();
    Some(Trend { direction: halves as f64 / pairs as f64 - 1.0, p: (2.0 * at_least.min(at_most)).min(1.0) })
}

/// Chances of every number, from 0 to n m, of pairs in which one of m samples is larger than one of n, where all orders are equally
/// likely: the largest sample of all is one of the m with chance m / (n + m), and is then in n such pairs.
fn mann_whitney(n: usize, m: usize) -> Vec<f64> {
    // Of i and j samples, with i along the row.
    let mut row: Vec<Vec<f64>> = vec![vec![1.0]; n + 1];
    for j in 1..=m {
        let mut next: Vec<Vec<f64>> = vec![vec![1.0]];
        for i in 1..=n {
            let (share, mut chances) = (j as f64 / (i + j) as f64, vec![0.0; i * j + 1]);
            for (pairs, chance) in row[i].iter().enumerate() {
                chances[pairs + i] += share * chance;
            }
            for (pairs, chance) in next[i - 1].iter().enumerate() {
                chances[pairs] += (1.0 - share) * chance;
            }
            next.push(chances);
        }
        row = next;
    }
    row.swap_remove(n)
}

fn convolved(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; a.len() + b.len() - 1];
    for (i, a) in a.iter().enumerate() {
        for (j, b) in b.iter().enumerate() {
            sums[i + j] += a * b;
        }
    }
    sums
}

/// The same levels where all these questions were asked at once, by Holm (1979): of those that stay below a level, the chance that any
/// does so by chance is no larger.
pub fn corrected(levels: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..levels.len()).collect();
    order.sort_by(|&a, &b| levels[a].total_cmp(&levels[b]));
    let (mut found, mut least) = (levels.to_vec(), 0.0f64);
    for (place, &index) in order.iter().enumerate() {
        least = least.max((levels.len() - place) as f64 * levels[index]).min(1.0);
        found[index] = least;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quantiles as printed in tables of Student's t, one-sided 95 and 99 %: 6.314, 2.132 and 4.604 for 1, 4 and 4 degrees of freedom.
    #[test]
    fn bounds_are_those_of_the_tables() {
        let near =
            |found: Option<f64>, wanted: f64| assert!((found.unwrap() - wanted).abs() < 1e-3, "{found:?}, {wanted}");
        // Means 0, standard errors 1.
        near(upper_bound(&[-1.0, 1.0], 0.95), 6.314);
        let five = [-2.0, -1.0, 0.0, 1.0, 2.0].map(|value: f64| value * 2f64.sqrt());
        near(upper_bound(&five, 0.95), 2.132);
        near(upper_bound(&five, 0.99), 3.747);
        near(upper_bound(&five.map(|value| 10.0 + value), 0.95), 12.132);
        assert_eq!(upper_bound(&[0.25; 5], 0.95), Some(0.25), "nothing varies");
        assert_eq!((upper_bound(&[1.0], 0.95), upper_bound(&[], 0.95)), (None, None));
        assert!(upper_bound(&[f64::NAN, 1.0], 0.95).unwrap().is_nan());
    }

    /// All ways to deal samples to groups, counted one by one.
    fn by_enumeration(groups: &[Vec<f64>]) -> f64 {
        let statistic = |groups: &[Vec<f64>]| {
            let mut pairs = 0i64;
            for (index, later) in groups.iter().enumerate() {
                for earlier in groups[..index].iter().flatten() {
                    pairs += later.iter().filter(|value| *value > earlier).count() as i64;
                }
            }
            pairs
        };
        fn deal(rest: &[f64], sizes: &[usize], dealt: &mut Vec<Vec<f64>>, all: &mut Vec<Vec<Vec<f64>>>) {
            let Some((first, others)) = rest.split_first() else { return all.push(dealt.clone()) };
            for group in 0..sizes.len() {
                if dealt[group].len() < sizes[group] {
                    dealt[group].push(*first);
                    deal(others, sizes, dealt, all);
                    dealt[group].pop();
                }
            }
        }
        let sizes: Vec<usize> = groups.iter().map(Vec::len).collect();
        let mut all = Vec::new();
        deal(&groups.concat(), &sizes, &mut vec![Vec::new(); sizes.len()], &mut all);
        let own = statistic(groups);
        let share = |of: &dyn Fn(i64) -> bool| all.iter().filter(|dealt| of(statistic(dealt))).count() as f64;
        (2.0 * share(&|other| other >= own).min(share(&|other| other <= own)) / all.len() as f64).min(1.0)
    }

    #[test]
    fn a_trend_is_as_likely_as_enumeration_says() {
        let cases: [&[&[f64]]; 5] = [
            &[&[1.0, 2.0], &[3.0, 4.0]],
            &[&[0.1, 0.7, 0.3], &[0.2, 0.8, 0.9], &[0.5, 1.1]],
            &[&[5.0, 4.0], &[3.0], &[2.0, 1.0, 0.0]],
            &[&[1.0, 6.0, 3.0, 4.0], &[2.0, 5.0, 7.0]],
            &[&[0.3], &[0.2], &[0.4], &[0.1], &[0.6], &[0.5]],
        ];
        for case in cases {
            let groups: Vec<Vec<f64>> = case.iter().map(|group| group.to_vec()).collect();
            let (found, wanted) = (trend(&groups).unwrap().p, by_enumeration(&groups));
            assert!((found - wanted).abs() < 1e-12, "{case:?}: {found} is not {wanted}");
        }
    }

    #[test]
    fn a_trend_has_a_direction_and_ties_are_none() {
        let rising = [vec![1.0, 2.0, 3.0, 4.0, 5.0], vec![6.0, 7.0, 8.0, 9.0, 10.0]];
        let found = trend(&rising).unwrap();
        // Two of the 252 ways to deal.
        assert_eq!(found.direction, 1.0);
        assert!((found.p - 2.0 / 252.0).abs() < 1e-12);
        let [low, high] = rising;
        assert_eq!(trend(&[high, low.clone()]).unwrap().direction, -1.0);
        assert_eq!(trend(&[vec![1.0; 5], vec![1.0; 5]]), Some(Trend { direction: 0.0, p: 1.0 }));
        assert_eq!(trend(std::slice::from_ref(&low)), None);
        assert_eq!(trend(&[low, Vec::new()]), None);
        // As many networks as a run may hold, and no count overflows.
        let many: Vec<Vec<f64>> = (0..3).map(|group| (0..21).map(|at| f64::from(at * 3 + group)).collect()).collect();
        let found = trend(&many).unwrap();
        assert!(found.p > 0.3 && found.p < 1.0 && found.direction > 0.0, "{found:?}");
    }

    #[test]
    fn several_questions_need_more() {
        let near = |found: Vec<f64>, wanted: &[f64]| {
            assert!(
                found.len() == wanted.len() && found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-12),
                "{found:?}"
            );
        };
        near(corrected(&[0.03, 0.01, 0.04]), &[0.06, 0.03, 0.06]);
        near(corrected(&[0.6, 0.9]), &[1.0, 1.0]);
        near(corrected(&[0.02]), &[0.02]);
        near(corrected(&[]), &[]);
    }
}
