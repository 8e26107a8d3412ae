//! What a training shows while it runs: a bar on a terminal, one plain line an epoch elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

use super::metrics::{MetricsRow, Spread};
use super::summary::percent;

/// Time between two updates: each costs a readback from the device, and no eye wants more.
const INTERVAL: Duration = Duration::from_millis(500);

/// Progress of one training. Output that nobody takes (a closed pipe) is dropped, and never stops the training.
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

/// All replicas at the end of an epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochReport {
    /// Epochs completed.
    pub epoch: u32,
    /// Epochs of the whole training.
    pub epochs: u32,
    /// Mean training loss.
    pub train_loss: Spread,
    /// Training accuracy, 0 to 1.
    pub train_accuracy: Spread,
    /// Test loss.
    pub test_loss: Spread,
    /// Test accuracy, 0 to 1.
    pub test_accuracy: Spread,
    /// Training images of all replicas per second.
    pub images_per_second: f64,
    /// Learning rate of the weights, of the first replica.
    pub learning_rate: f64,
}

impl EpochReport {
    /// Mean and spread over the rows of one epoch, one a replica.
    pub fn of(rows: &[MetricsRow], epochs: u32, images_per_second: f64, learning_rate: f64) -> EpochReport {
        let spread = |measure: fn(&MetricsRow) -> f64| Spread::of(&rows.iter().map(measure).collect::<Vec<_>>());
        EpochReport {
            epoch: rows.first().map_or(0, |row| row.epoch),
            epochs,
            train_loss: spread(|row| row.train_loss),
            train_accuracy: spread(|row| row.train_accuracy),
            test_loss: spread(|row| row.test_loss),
            test_accuracy: spread(|row| row.test_accuracy),
            images_per_second,
            learning_rate,
        }
    }

    /// The report as one line of text, without its newline.
    fn line(&self) -> String {
        let percent = |spread: Spread| percent(spread.mean, spread.std);
        format!(
            "epoch {:>width$}/{}  loss {}  train {}  test loss {}  test {}  {} images/s  lr {:.2e}",
            self.epoch,
            self.epochs,
            loss(self.train_loss.mean),
            percent(self.train_accuracy),
            loss(self.test_loss.mean),
            percent(self.test_accuracy),
            HumanCount(self.images_per_second as u64),
            self.learning_rate,
            width = self.epochs.to_string().len(),
        )
    }
}

/// A loss for people: the usual ones with four digits, those of a network that has run away with an exponent.
pub fn loss(value: f64) -> String {
    if value.abs() < 1e5 { format!("{value:.4}") } else { format!("{value:.3e}") }
}

impl Progress {
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

    /// Of a training that goes on after `step` steps, so that the time left is judged by the steps since then alone.
    pub fn resumed_at(self, step: u64) -> Progress {
        if let Some(bar) = &self.bar {
            bar.set_position(step);
            bar.reset_eta();
        }
        self
    }

    /// Whether it is time to read loss and accuracy back and call [`update`](Progress::update): never without a
    /// terminal, and at most every half second.
    pub fn wants_update(&self) -> bool {
        self.bar.is_some() && self.updated.is_none_or(|at| at.elapsed() >= INTERVAL)
    }

    /// Shows `step` completed steps, with the mean loss and accuracy (0 to 1) of the epoch so far over all replicas.
    pub fn update(&mut self, step: u64, loss: f64, accuracy: f64) {
        let Some(bar) = &self.bar else { return };
        let epoch = (step / self.steps_per_epoch.max(1) + 1).min(u64::from(self.epochs));
        bar.set_position(step);
        bar.set_prefix(format!("epoch {epoch}/{}", self.epochs));
        let rate = HumanCount((bar.per_sec() * self.images_per_step as f64) as u64);
        let accuracy = 100.0 * accuracy;
        bar.set_message(format!("loss {loss:.3}  train {accuracy:.1} %{}  {rate} images/s", self.last_test));
        self.updated = Some(Instant::now());
    }

    /// Reports an epoch: one line where there is no terminal, the test accuracy in the bar where there is one.
    pub fn epoch_done(&mut self, report: &EpochReport) {
        self.last_test = format!("  test {:.1} %", 100.0 * report.test_accuracy.mean);
        if self.lines {
            self.above_the_bar(|| writeln!(io::stdout(), "{}", report.line()));
        }
    }

    /// Prints a warning to standard error, above the bar.
    pub fn warn(&self, text: &str) {
        self.above_the_bar(|| writeln!(io::stderr(), "warning: {text}"));
    }

    /// Removes the bar, to make room for the summary. Dropping does the same.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Prints while the bar is out of the way. A reader that has gone (`| head`) must not end the training.
    fn above_the_bar(&self, print: impl FnOnce() -> io::Result<()>) {
        let _ = match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        };
    }
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
        let line = EpochReport::of(&rows(), 20, 41_234.5, 8.145e-4).line();
        assert_eq!(
            line,
            "epoch  5/20  loss 0.1250  train 50.00 ± 0.00 %  test loss 0.2500  test 97.00 ± 1.41 %  41,234 images/s  lr 8.15e-4"
        );
        let single = EpochReport::of(&rows()[..1], 5, f64::NAN, 0.1).line();
        assert!(single.contains("epoch 5/5") && single.contains("test 96.00 %  0 images/s"), "{single}");
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
        progress.update(1, 0.5, 0.5);
        assert!(!progress.wants_update());
        progress.finish();
    }

    #[test]
    fn updates_are_rare() {
        let mut progress = with_bar();
        assert!(progress.wants_update());
        progress.update(1, 0.5, 0.5);
        assert!(!progress.wants_update());
        progress.updated = Instant::now().checked_sub(INTERVAL);
        assert!(progress.wants_update());
    }

    #[test]
    fn the_bar_names_epoch_loss_and_accuracy() {
        let mut progress = with_bar().resumed_at(225);
        let bar = progress.bar.clone().unwrap();
        assert_eq!(bar.position(), 225);
        progress.epoch_done(&EpochReport::of(&rows(), 20, 1.0, 1.0));
        for (step, epoch) in [(225, "epoch 6/20"), (226, "epoch 6/20"), (900, "epoch 20/20")] {
            progress.update(step, 0.125, 0.5);
            assert_eq!((bar.prefix().as_str(), bar.position()), (epoch, step));
        }
        let message = bar.message();
        assert!(message.starts_with("loss 0.125  train 50.0 %  test 97.0 %  ") && message.ends_with(" images/s"));
        progress.warn("nothing is wrong, this is a test");
        progress.finish();
        assert!(bar.is_finished());
    }

    #[test]
    fn an_empty_training_divides_by_nothing() {
        let mut progress = Progress { bar: Some(bar(0, ProgressDrawTarget::hidden())), ..with_bar() };
        progress.update(0, f64::NAN, f64::NAN);
        assert_eq!(EpochReport::of(&[], 0, f64::INFINITY, 0.0).epoch, 0);
    }
}
