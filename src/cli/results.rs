//! What came of runs, as a table.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::train::summary::{BEST, Summary, percent};

/// The table at the end of one or several runs, each with its label: a line for each run and rank, its time on the run's first line.
pub(super) fn table(runs: &[(&str, &Summary)]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["run", "rank", "seeds", "test accuracy, last epoch", BEST, "time"]);
    for (label, summary) in runs {
        for (index, group) in summary.by_rank.iter().enumerate() {
            let seconds = format!("{:.1} s", summary.seconds);
            table.add_row([
                if index == 0 { (*label).to_owned() } else { String::new() },
                group.rank.map_or("-".to_owned(), |rank| rank.to_string()),
                group.n.to_string(),
                percent(group.mean_last, group.std_last),
                percent(group.mean_best, group.std_best),
                if index == 0 { seconds } else { String::new() },
            ]);
        }
    }
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feedback::Rank;
    use crate::train::summary::RankSummary;

    fn summary(by_rank: Vec<RankSummary>) -> Summary {
        Summary {
            rule: "normative".to_owned(),
            preset: "digits".to_owned(),
            adapter: "llvmpipe".to_owned(),
            version: "0.1.0".to_owned(),
            config_hash: "ab".to_owned(),
            steps: 20,
            epochs: 2,
            seconds: 12.34,
            test_images: Some(4),
            parameters: 42_000,
            flops_per_step: [("forward".to_owned(), 100)].into(),
            by_rank,
            replicas: Vec::new(),
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_rank() {
        let group = |rank: Option<u32>, n, last: (f64, Option<f64>), best: (f64, Option<f64>)| {
            let rank = rank.map(Rank::Of);
            RankSummary { rank, n, mean_last: last.0, std_last: last.1, mean_best: best.0, std_best: best.1 }
        };
        let other = summary(vec![group(None, 1, (0.875, None), (1.0, Some(0.0)))]);
        let four = group(Some(4), 2, (0.5, Some(0.125f64.sqrt())), (0.625, Some(0.03125f64.sqrt())));
        let ten = group(Some(10), 2, (0.875, Some(0.03125f64.sqrt())), (1.0, Some(0.0)));
        let table = table(&[("backprop", &other), ("normative", &summary(vec![four, ten]))]);
        let expected = "\
┌───────────┬──────┬───────┬───────────────────────────┬─────────────────────────────────┬────────┐
│ run       ┆ rank ┆ seeds ┆ test accuracy, last epoch ┆ own best epoch, by the test set ┆   time │
╞═══════════╪══════╪═══════╪═══════════════════════════╪═════════════════════════════════╪════════╡
│ backprop  ┆    - ┆     1 ┆                   87.50 % ┆                 100.00 ± 0.00 % ┆ 12.3 s │
│ normative ┆    4 ┆     2 ┆           50.00 ± 35.36 % ┆                 62.50 ± 17.68 % ┆ 12.3 s │
│           ┆   10 ┆     2 ┆           87.50 ± 17.68 % ┆                 100.00 ± 0.00 % ┆        │
└───────────┴──────┴───────┴───────────────────────────┴─────────────────────────────────┴────────┘";
        assert_eq!(table, expected, "\n{table}");
    }
}
