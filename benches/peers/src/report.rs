//! Ratios as a table and as JSON.

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::timing::{Entry, quantile};

/// One engine's times in one group.
#[derive(Serialize)]
pub(crate) struct Row {
    engine: String,
    /// How many were timed.
    timings: usize,
    /// Milliseconds for one step or product.
    median_ms: Option<f64>,
    /// The shortest of the same, which other programs on the machine disturb least.
    fastest_ms: Option<f64>,
    /// Lower and upper quartile of the same.
    quartiles_ms: Option<[f64; 2]>,
    /// Median over the median of the group's first row.
    ratio: Option<f64>,
    /// What the engine computed in its first and last advance before the timing.
    observed: Option<[f64; 2]>,
    /// Why there are no times.
    error: Option<String>,
}

/// Rows of engines that do the same work.
#[derive(Serialize)]
pub(crate) struct Group {
    work: String,
    rows: Vec<Row>,
}

impl Group {
    /// Sums up what was timed; the first entry is what the others are compared with.
    pub(crate) fn new(work: impl Into<String>, entries: &[Entry]) -> Group {
        let median = |entry: &Entry| entry.state.as_ref().ok().and(quantile(&entry.times, 0.5));
        let base = entries.first().and_then(median);
        let row = |entry: &Entry| Row {
            engine: entry.label.clone(),
            timings: entry.times.len(),
            median_ms: median(entry),
            fastest_ms: quantile(&entry.times, 0.0),
            quartiles_ms: quantile(&entry.times, 0.25).zip(quantile(&entry.times, 0.75)).map(|(low, high)| [low, high]),
            ratio: median(entry).zip(base).map(|(own, base)| own / base),
            observed: entry.observed.first().zip(entry.observed.last()).map(|(&first, &last)| [first, last]),
            error: entry.state.as_ref().err().map(ToString::to_string),
        };
        Group { work: work.into(), rows: entries.iter().map(row).collect() }
    }
}

/// Everything that was measured, and on what.
#[derive(Serialize)]
pub(crate) struct Report {
    /// Name, backend and driver.
    pub(crate) adapter: String,
    /// Crates by name.
    pub(crate) versions: Vec<(&'static str, String)>,
    /// What burn calls its runtime; it names the shader compiler.
    pub(crate) burn_runtime: Option<String>,
    /// Threads that the processor runs at once.
    pub(crate) threads: usize,
    /// In the order of the table.
    pub(crate) groups: Vec<Group>,
}

impl Report {
    /// The lines above the table.
    pub(crate) fn header(&self) -> String {
        let versions: Vec<String> = self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        format!(
            "{}, {} CPU threads\n{}\nmedians of timings in interleaved rounds; ratio = row / first row of its group, \
             above 1 is slower",
            self.adapter,
            self.threads,
            versions.join(", ")
        )
    }

    /// All groups in one table.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([
            "work",
            "engine",
            "timings",
            "median ms",
            "ratio",
            "fastest ms",
            "quartiles",
            "first and last before timing",
        ]);
        for at in 2..8 {
            if let Some(column) = table.column_mut(at) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for group in &self.groups {
            for (at, row) in group.rows.iter().enumerate() {
                let work = if at == 0 { group.work.clone() } else { String::new() };
                let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.2}"));
                let pair = |values: Option<[f64; 2]>, digits: usize, between: &str| {
                    let text = |[low, high]: [f64; 2]| format!("{low:.digits$}{between}{high:.digits$}");
                    values.map_or_else(|| "-".to_owned(), text)
                };
                let observed = pair(row.observed, 4, "  ");
                table.add_row([
                    work,
                    row.engine.clone(),
                    row.timings.to_string(),
                    number(row.median_ms),
                    number(row.ratio),
                    number(row.fastest_ms),
                    pair(row.quartiles_ms, 2, " to "),
                    observed,
                ]);
            }
        }
        table
    }

    /// One line for every engine that has no times.
    pub(crate) fn failures(&self) -> Vec<String> {
        let rows = self.groups.iter().flat_map(|group| group.rows.iter().map(move |row| (&group.work, row)));
        rows.filter_map(|(work, row)| row.error.as_ref().map(|e| format!("{work}: {} did not run: {e}", row.engine)))
            .collect()
    }
}
