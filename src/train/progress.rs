//! What a training shows while it runs, a bar on a terminal, one plain line an epoch elsewhere; and its curves at the end.

use std::error::Error;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

use super::curves::{Curve, draw_curves};
use super::metrics::Spread;
use super::observer::{EpochReport, Finished, Observer, RankReport};
use super::session::Session;
use super::summary::percent;
use crate::feedback::Rank;

/// Time between two updates: each costs a readback from the device, and no eye wants more.
const INTERVAL: Duration = Duration::from_millis(500);

/// Progress of one training. Output that nobody takes (a closed pipe, a full disk) is dropped, and never stops the training.
#[derive(Debug)]
pub struct Progress {
    /// On standard error, if that is a terminal.
    bar: Option<ProgressBar>,
    /// Whether epochs are written to standard output; not where the bar already tells the same reader.
    lines: bool,
    steps_per_epoch: u64,
    images_per_step: u64,
    epochs: u32,
    updated: Option<Instant>,
    /// Shown in the bar until the next epoch ends.
    last_test: String,
}

/// Set once a line could not be written to standard output, for another reason than that its reader has gone.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Whether [`tell`] could not write everything.
pub fn was_refused() -> bool {
    REFUSED.load(Ordering::Relaxed)
}

/// Writes a line to standard output for a reader who may have gone. If it cannot be written otherwise (a full disk), that is said
/// once, for what goes on does not need its output.
pub fn tell(text: impl Display) {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe && !REFUSED.swap(true, Ordering::Relaxed) => {
            warn(format!("cannot write to standard output: {error}; the training goes on without it"));
        }
        _ => {}
    }
}

/// Writes a warning to standard error.
pub fn warn(text: impl Display) {
    // There is nobody left to be told.
    let _ = writeln!(io::stderr(), "warning: {text}");
}

/// A loss for people: the usual ones with four digits, those of a network that has run away with an exponent.
pub fn loss(value: f64) -> String {
    if value.abs() < 1e5 { format!("{value:.4}") } else { format!("{value:.3e}") }
}

/// A report in lines of text, one a rank, which it names where there are several; what is of all is in the first.
fn lines(report: &EpochReport) -> Vec<String> {
    let percent = |spread: Spread| percent(spread.mean, spread.std);
    let names: Vec<String> = match &report.ranks[..] {
        [_] => vec![String::new()],
        ranks => ranks.iter().map(|own| own.rank.map_or(String::new(), |rank| format!("  rank {rank}"))).collect(),
    };
    let longest = names.iter().map(String::len).max().unwrap_or(0);
    let line = |(index, (own, name)): (usize, (&RankReport, &String))| {
        let of_all = match index {
            0 => {
                let rate = HumanCount(report.images_per_second as u64);
                format!("  {rate} images/s  lr {:.2e}", report.learning_rate)
            }
            _ => String::new(),
        };
        format!(
            "epoch {:>width$}/{}{name:<longest$}  loss {}  train {}  test loss {}  test {}{of_all}",
            report.epoch,
            report.epochs,
            loss(own.train_loss.mean),
            percent(own.train_accuracy),
            loss(own.test_loss.mean),
            percent(own.test_accuracy),
            width = report.epochs.to_string().len(),
        )
    };
    report.ranks.iter().zip(&names).enumerate().map(line).collect()
}

impl Progress {
    /// Of the training of a session.
    pub fn of(session: &Session) -> Progress {
        let train = &session.config.train;
        let images = u64::from(train.batch) * session.replicas.len() as u64;
        let (total, epoch) = (u64::from(session.last_step()), u64::from(session.horizon.steps_per_epoch));
        Progress::new(total, epoch, images, train.epochs)
    }

    /// Of a training of `total_steps` steps, `steps_per_epoch` of which make an epoch, each taking `images_per_step`
    /// images over all replicas.
    pub fn new(total_steps: u64, steps_per_epoch: u64, images_per_step: u64, epochs: u32) -> Progress {
        let to_terminal = io::stderr().is_terminal();
        Progress {
            bar: to_terminal.then(|| bar(total_steps, ProgressDrawTarget::stderr())),
            lines: !(to_terminal && io::stdout().is_terminal()),
            steps_per_epoch,
            images_per_step,
            epochs,
            updated: None,
            last_test: String::new(),
        }
    }

    /// Prints while the bar is out of the way.
    fn above_the_bar(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

impl Observer for Progress {
    /// The time left is judged by the steps since then alone.
    fn resumed_at(&mut self, step: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(step);
            bar.reset_eta();
        }
    }

    /// Never without a terminal, and at most every half second.
    fn wants_update(&self) -> bool {
        self.bar.is_some() && self.updated.is_none_or(|at| at.elapsed() >= INTERVAL)
    }

    fn update(&mut self, step: u64, networks: &[(Option<Rank>, f64, f64)]) {
        let Some(bar) = &self.bar else { return };
        let epoch = (step / self.steps_per_epoch.max(1) + 1).min(u64::from(self.epochs));
        bar.set_position(step);
        bar.set_prefix(format!("epoch {epoch}/{}", self.epochs));
        let rate = HumanCount((bar.per_sec() * self.images_per_step as f64) as u64);
        let ranks = || networks.chunk_by(|a, b| a.0 == b.0);
        let mean = |own: &[(Option<Rank>, f64, f64)], measure: fn(&(Option<Rank>, f64, f64)) -> f64| {
            own.iter().map(measure).sum::<f64>() / own.len() as f64
        };
        let loss = by_rank(ranks().map(|own| format!("{:.3}", mean(own, |(_, loss, _)| *loss))));
        let accuracy = by_rank(ranks().map(|own| format!("{:.1}", 100.0 * mean(own, |(.., accuracy)| *accuracy))));
        bar.set_message(format!("loss {loss}  train {accuracy} %{}  {rate} images/s", self.last_test));
        self.updated = Some(Instant::now());
    }

    /// A line a rank where there is no terminal, the test accuracy in the bar where there is one.
    fn epoch_done(&mut self, report: &EpochReport) {
        let accuracies = report.ranks.iter().map(|own| format!("{:.1}", 100.0 * own.test_accuracy.mean));
        self.last_test = format!("  test {} %", by_rank(accuracies));
        if self.lines {
            self.above_the_bar(|| lines(report).iter().for_each(tell));
        }
    }

    /// To standard error, above the bar.
    fn warn(&mut self, text: &str) {
        self.above_the_bar(|| warn(text));
    }

    /// Removes the bar, to make room for the summary. Dropping does the same.
    fn stopped(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Leaves the learning curves in the run directory.
    fn finished(&mut self, of: &Finished<'_>) -> Result<(), Box<dyn Error + Send + Sync>> {
        let curves = Curve::from_metrics(&of.summary.rule, of.rows);
        Ok(draw_curves(&of.run.curves(), &of.config.label(), &curves)?)
    }
}

/// Numbers of the ranks in a row.
fn by_rank(numbers: impl Iterator<Item = String>) -> String {
    numbers.collect::<Vec<_>>().join(" | ")
}

fn bar(total_steps: u64, target: ProgressDrawTarget) -> ProgressBar {
    // `wide_msg` is cut at the terminal's edge, where a longer line would wrap and scroll.
    let style = ProgressStyle::with_template("{prefix} {bar:10.cyan/dim} {pos}/{len}, {eta} left  {wide_msg}")
        .expect("the template is a constant")
        .progress_chars("━╸─");
    ProgressBar::with_draw_target(Some(total_steps), target).with_style(style).with_finish(ProgressFinish::AndClear)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::metrics::MetricsRow;

    fn rows() -> Vec<MetricsRow> {
        let row = |replica: u32, test_accuracy: f64| MetricsRow {
            epoch: 5,
            step: 225,
            replica,
            seed: replica,
            rank: None,
            train_loss: 0.125,
            train_accuracy: 0.5,
            test_loss: 0.25,
            test_accuracy,
            seconds: 1.0,
        };
        vec![row(0, 0.96), row(1, 0.98)]
    }

    fn with_bar() -> Progress {
        let bar = Some(bar(900, ProgressDrawTarget::hidden()));
        Progress {
            bar,
            lines: false,
            steps_per_epoch: 45,
            images_per_step: 96,
            epochs: 20,
            updated: None,
            last_test: String::new(),
        }
    }

    #[test]
    fn an_epoch_is_one_line() {
        let found = lines(&EpochReport::of(&rows(), 20, 41_234.5, 8.145e-4));
        assert_eq!(
            found,
            [
                "epoch  5/20  loss 0.1250  train 50.00 ± 0.00 %  test loss 0.2500  test 97.00 ± 1.41 %  41,234 images/s  lr 8.15e-4"
            ]
        );
        let single = lines(&EpochReport::of(&rows()[..1], 5, f64::NAN, 0.1)).concat();
        assert!(single.contains("epoch 5/5") && single.contains("test 96.00 %  0 images/s"), "{single}");
    }

    #[test]
    fn ranks_are_not_averaged_over() {
        let of = |rank, row: &MetricsRow| MetricsRow { rank: Some(rank), ..row.clone() };
        let pair = rows();
        let mut several: Vec<MetricsRow> = pair.iter().map(|row| of(Rank::Of(4), row)).collect();
        several.extend(pair.iter().map(|row| MetricsRow { test_accuracy: 0.5, ..of(Rank::Of(16), row) }));
        let report = EpochReport::of(&several, 20, 41_234.5, 8.145e-4);
        assert_eq!(
            lines(&report),
            [
                "epoch  5/20  rank 4   loss 0.1250  train 50.00 ± 0.00 %  test loss 0.2500  test 97.00 ± 1.41 %  41,234 images/s  lr 8.15e-4",
                "epoch  5/20  rank 16  loss 0.1250  train 50.00 ± 0.00 %  test loss 0.2500  test 50.00 ± 0.00 %"
            ]
        );
        let mut progress = with_bar();
        progress.epoch_done(&report);
        progress.update(226, &[(Some(Rank::Of(4)), 0.5, 0.25), (Some(Rank::Of(16)), 1.5, 0.75)]);
        let message = progress.bar.unwrap().message();
        assert!(message.starts_with("loss 0.500 | 1.500  train 25.0 | 75.0 %  test 97.0 | 50.0 %  "), "{message}");
    }

    #[test]
    fn without_a_terminal_nothing_is_read_back() {
        let mut progress = Progress {
            bar: None,
            lines: false,
            steps_per_epoch: 1,
            images_per_step: 96,
            epochs: 1,
            updated: None,
            last_test: String::new(),
        };
        assert!(!progress.wants_update());
        progress.update(1, &[(None, 0.5, 0.5)]);
        assert!(!progress.wants_update());
        progress.stopped();
    }

    #[test]
    fn updates_are_rare() {
        let mut progress = with_bar();
        assert!(progress.wants_update());
        progress.update(1, &[(None, 0.5, 0.5)]);
        assert!(!progress.wants_update());
        progress.updated = Instant::now().checked_sub(INTERVAL);
        assert!(progress.wants_update());
    }

    #[test]
    fn the_bar_names_epoch_loss_and_accuracy() {
        let mut progress = with_bar();
        progress.resumed_at(225);
        let bar = progress.bar.clone().unwrap();
        assert_eq!(bar.position(), 225);
        progress.epoch_done(&EpochReport::of(&rows(), 20, 1.0, 1.0));
        for (step, epoch) in [(225, "epoch 6/20"), (226, "epoch 6/20"), (900, "epoch 20/20")] {
            progress.update(step, &[(None, 0.125, 0.5)]);
            assert_eq!((bar.prefix().as_str(), bar.position()), (epoch, step));
        }
        let message = bar.message();
        assert!(message.starts_with("loss 0.125  train 50.0 %  test 97.0 %  ") && message.ends_with(" images/s"));
        progress.warn("nothing is wrong, this is a test");
        progress.stopped();
        assert!(bar.is_finished());
    }

    #[test]
    fn an_empty_training_divides_by_nothing() {
        let mut progress = Progress { bar: Some(bar(0, ProgressDrawTarget::hidden())), ..with_bar() };
        progress.update(0, &[(None, f64::NAN, f64::NAN)]);
        progress.update(0, &[]);
        assert_eq!(EpochReport::of(&[], 0, f64::INFINITY, 0.0).epoch, 0);
    }
}
