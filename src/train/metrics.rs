//! What a training measures: rows of `metrics.csv`, `alignment.csv`, `spectrum.csv`, `depth.csv` and `lags.csv`, and the log that
//! they are appended to.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::config::Config;
use super::files::{self, FileError, append_synced, write_atomically};
use crate::feedback::Rank;

/// One replica at the end of one epoch; a line of `metrics.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricsRow {
    /// Epochs completed.
    pub epoch: u32,
    /// Training steps completed.
    pub step: u32,
    /// Index of the network among those trained side by side.
    pub replica: u32,
    /// Its seed.
    pub seed: u32,
    /// Rank of its feedback; none for rules without one.
    pub rank: Option<Rank>,
    /// Mean over the epoch's training images.
    pub train_loss: f64,
    /// Share of the epoch's training images classified correctly, 0 to 1.
    pub train_accuracy: f64,
    /// Mean over the test set.
    pub test_loss: f64,
    /// Share of the test set classified correctly, 0 to 1.
    pub test_accuracy: f64,
    /// Time since the training began, stops in between not counted.
    pub seconds: f64,
}

/// One layer of one replica at the end of one epoch; a line of `alignment.csv`. A measure that a rule has not is empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlignmentRow {
    /// Epochs completed.
    pub epoch: u32,
    /// Training steps completed.
    pub step: u32,
    /// Index of the network among those trained side by side.
    pub replica: u32,
    /// Its seed.
    pub seed: u32,
    /// Rank of its feedback; none for rules without one.
    pub rank: Option<Rank>,
    /// Name of the layer.
    pub layer: String,
    /// Angle between the feedback Q P and the transposed weights, in degrees.
    pub angle_degrees: Option<f64>,
    /// Frobenius norm of the feedback over that of the weights.
    pub norm_ratio: Option<f64>,
    /// Share of the error's energy inside the subspace that P spans, 0 to 1.
    pub captured_energy: Option<f64>,
    /// Frobenius norm of P P^T - I.
    pub orthonormality_error: Option<f64>,
}

/// The error at one layer's output of one replica at the end of one epoch; a line of `spectrum.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpectrumRow {
    /// Epochs completed.
    pub epoch: u32,
    /// Training steps completed.
    pub step: u32,
    /// Index of the network among those trained side by side.
    pub replica: u32,
    /// Its seed.
    pub seed: u32,
    /// Rank of its feedback; none for rules without one.
    pub rank: Option<Rank>,
    /// Name of the layer.
    pub layer: String,
    /// Of the error over a batch, all columns together.
    pub variance: f64,
    /// Participation ratio of its covariance's eigenvalues.
    pub effective_dimension: f64,
    /// The largest eigenvalues as shares of the variance, in descending order, with spaces between.
    pub shares: String,
}

/// A residual block or a layer with a weight of one replica at the end of one epoch; a line of `depth.csv`. A measure that such a
/// layer has not is empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DepthRow {
    /// Epochs completed.
    pub epoch: u32,
    /// Training steps completed.
    pub step: u32,
    /// Index of the network among those trained side by side.
    pub replica: u32,
    /// Its seed.
    pub seed: u32,
    /// Rank of its feedback; none for rules without one.
    pub rank: Option<Rank>,
    /// Name of the layer.
    pub layer: String,
    /// Of a block: root mean square of its output over that of its input.
    pub growth: Option<f64>,
    /// Of a block: root mean square of what its long way makes over that of its output.
    pub long_share: Option<f64>,
    /// Of a layer with a weight: root mean square of the error at its output.
    pub error_rms: Option<f64>,
    /// Of a layer with a weight: cosine between the weight's gradients from both halves of a batch.
    pub gradient_cosine: Option<f64>,
}

/// The error at one step of a layer that recurs, of one replica at the end of one epoch; a line of `lags.csv`. A measure that is not
/// defined is empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LagRow {
    /// Epochs completed.
    pub epoch: u32,
    /// Training steps completed.
    pub step: u32,
    /// Index of the network among those trained side by side.
    pub replica: u32,
    /// Its seed.
    pub seed: u32,
    /// Rank of its feedback; none for rules without one.
    pub rank: Option<Rank>,
    /// Name of the layer's weight.
    pub layer: String,
    /// Steps of the sequence before the last one.
    pub lag: u32,
    /// Root mean square of the error of this step, over samples and columns.
    pub error_rms: Option<f64>,
    /// Participation ratio of its covariance's eigenvalues.
    pub effective_dimension: Option<f64>,
}

/// What a row is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subject<'a> {
    /// Epochs completed.
    pub epoch: u32,
    /// Training steps completed.
    pub step: u32,
    /// Index of the network.
    pub replica: u32,
    /// Its rank and seed.
    pub network: (Option<Rank>, u32),
    /// The layer, where the row is of one.
    pub layer: Option<&'a str>,
    /// Steps before the last one of a sequence, where the row is of one.
    pub lag: Option<u32>,
}

/// A row of a [`Log`].
pub trait Row: Serialize + DeserializeOwned {
    /// The columns, in the order of the fields.
    const HEADER: &'static str;
    /// Whether every network has a row in every epoch.
    const IS_COMPLETE: bool;
    /// What the row is of.
    fn subject(&self) -> Subject<'_>;
    /// What to do if the log is missing.
    fn when_missing(path: &Path) -> String {
        format!(
            "put a copy of it back, or give up the rows that it had and begin it anew: echo {} > {}",
            Self::HEADER,
            path.display()
        )
    }
}

impl Row for MetricsRow {
    const HEADER: &'static str =
        "epoch,step,replica,seed,rank,train_loss,train_accuracy,test_loss,test_accuracy,seconds";
    const IS_COMPLETE: bool = true;

    fn subject(&self) -> Subject<'_> {
        let &MetricsRow { epoch, step, replica, seed, rank, .. } = self;
        Subject { epoch, step, replica, network: (rank, seed), layer: None, lag: None }
    }

    fn when_missing(_: &Path) -> String {
        "put a copy of it back, or start a new run with another --out: no other file tells which epochs were best"
            .into()
    }
}

impl Row for AlignmentRow {
    const HEADER: &'static str =
        "epoch,step,replica,seed,rank,layer,angle_degrees,norm_ratio,captured_energy,orthonormality_error";
    const IS_COMPLETE: bool = false;

    fn subject(&self) -> Subject<'_> {
        let &AlignmentRow { epoch, step, replica, seed, rank, ref layer, .. } = self;
        Subject { epoch, step, replica, network: (rank, seed), layer: Some(layer), lag: None }
    }
}

impl Row for SpectrumRow {
    const HEADER: &'static str = "epoch,step,replica,seed,rank,layer,variance,effective_dimension,shares";
    const IS_COMPLETE: bool = false;

    fn subject(&self) -> Subject<'_> {
        let &SpectrumRow { epoch, step, replica, seed, rank, ref layer, .. } = self;
        Subject { epoch, step, replica, network: (rank, seed), layer: Some(layer), lag: None }
    }
}

impl Row for DepthRow {
    const HEADER: &'static str = "epoch,step,replica,seed,rank,layer,growth,long_share,error_rms,gradient_cosine";
    const IS_COMPLETE: bool = false;

    fn subject(&self) -> Subject<'_> {
        let &DepthRow { epoch, step, replica, seed, rank, ref layer, .. } = self;
        Subject { epoch, step, replica, network: (rank, seed), layer: Some(layer), lag: None }
    }
}

impl Row for LagRow {
    const HEADER: &'static str = "epoch,step,replica,seed,rank,layer,lag,error_rms,effective_dimension";
    const IS_COMPLETE: bool = false;

    fn subject(&self) -> Subject<'_> {
        let &LagRow { epoch, step, replica, seed, rank, ref layer, lag, .. } = self;
        Subject { epoch, step, replica, network: (rank, seed), layer: Some(layer), lag: Some(lag) }
    }
}

/// A log that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// It should be there.
    #[error("{} is missing; {remedy}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What to do.
        remedy: String,
    },
    /// Rows of another run, or not all of this one's.
    #[error("{} does not belong to this run: {what}; put the run's own file back", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What gave it away.
        what: String,
    },
    /// Not a log of this kind.
    #[error("{}, line 1: the columns are {found:?} and should be {expected:?}; restore the file, or move it away", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// Its first line.
        found: String,
        /// What this program writes.
        expected: &'static str,
    },
    /// A line that this program did not write.
    #[error("{}, line {line}: {message}; correct or delete that line", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1, the header included.
        line: u64,
        /// What is wrong.
        message: String,
    },
}

/// More bytes than any log has.
const MOST: u64 = 1 << 34;

/// An append-only CSV file. What an append has returned for is on the disk, whole lines at a time.
///
/// To make a stop at any moment harmless, append an epoch's rows *before* saving its checkpoint: rows past the
/// checkpoint are dropped on resume and written again, whereas missing rows could not be recovered.
#[derive(Debug)]
pub struct Log<R> {
    path: PathBuf,
    file: File,
    rows: PhantomData<fn(R)>,
}

impl<R: Row> Log<R> {
    /// Starts a log with these rows, replacing an old one.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be written; an old one is then as before.
    pub fn create(path: &Path, rows: &[R]) -> Result<Log<R>, FileError> {
        write_log::<R>(path, rows)?;
        Log::open_to_append(path)
    }

    /// Adds rows, all or none of them, and syncs the file. Costs a disk access: meant for once an epoch.
    ///
    /// # Errors
    /// [`FileError`], for example of a full disk; the log is then as before.
    pub fn append(&mut self, rows: &[R]) -> Result<(), FileError> {
        append_synced(&mut self.file, &self.path, &to_csv(rows))
    }

    /// Reads the log of a run of this configuration back. A last line without its newline, left by a kill, is not counted, and of
    /// an epoch that was cut short and completed later only the later rows.
    ///
    /// # Errors
    /// [`LogError`] naming the first line that is not one of this log or this run.
    pub fn read(path: &Path, config: &Config) -> Result<Vec<R>, LogError> {
        let mut rows = read_rows::<R>(path)?;
        check(&rows, config).map_err(|what| LogError::Foreign { path: path.to_owned(), what })?;
        let mut ends: HashMap<u32, u32> = HashMap::new();
        for Subject { epoch, step, .. } in rows.iter().map(Row::subject) {
            let end = ends.entry(epoch).or_default();
            *end = step.max(*end);
        }
        rows.retain(|row| ends[&row.subject().epoch] == row.subject().step);
        Ok(rows)
    }

    fn open_to_append(path: &Path) -> Result<Log<R>, FileError> {
        let file = File::options().append(true).open(path).map_err(FileError::at(path, "write"))?;
        Ok(Log { path: path.to_owned(), file, rows: PhantomData })
    }
}

fn read_rows<R: Row>(path: &Path) -> Result<Vec<R>, LogError> {
    let bytes = match files::read(path, MOST) {
        Err(error) if error.source.kind() == ErrorKind::NotFound => {
            return Err(LogError::Missing { path: path.to_owned(), remedy: R::when_missing(path) });
        }
        read => read?,
    };
    parse(&bytes).map_err(|flaw| flaw.at(path, R::HEADER))
}

/// Whether these can be the rows of a run; else what cannot.
fn check<R: Row>(rows: &[R], config: &Config) -> Result<(), String> {
    let networks = config.replicas();
    let mut seen = HashSet::new();
    let mut counts: HashMap<(u32, u32), usize> = HashMap::new();
    let (mut epochs, mut steps) = (0, 0);
    // The header is the first line.
    for (subject, line) in rows.iter().map(Row::subject).zip(2..) {
        let Subject { epoch, step, replica, network, .. } = subject;
        let wrong = |what: String| Err(format!("line {line} is of {what}"));
        match networks.get(replica as usize) {
            None => return wrong(format!("network {replica}, and the run has {}, from 0 on", networks.len())),
            Some(&own) if own != network => {
                return wrong(format!("network {replica} with {}, which has {} here", name(network), name(own)));
            }
            Some(_) => {}
        }
        if !(1..=config.train.epochs).contains(&epoch) {
            return wrong(format!("epoch {epoch}, and the run has epochs 1 to {}", config.train.epochs));
        }
        if epoch < epochs || step < steps || (epoch > epochs && step == steps) {
            return wrong(format!("epoch {epoch} and step {step}, and follows on epoch {epochs} and step {steps}"));
        }
        if !seen.insert(subject) {
            return wrong(format!("network {replica} in epoch {epoch}, as one before it"));
        }
        if R::IS_COMPLETE && epoch > epochs + 1 {
            return Err(format!("there are no rows of epoch {}", epochs + 1));
        }
        (epochs, steps) = (epoch, step);
        *counts.entry((epoch, step)).or_default() += 1;
    }
    let incomplete = counts.iter().filter(|(_, count)| R::IS_COMPLETE && **count != networks.len()).min();
    match incomplete {
        Some(((epoch, step), count)) => Err(format!(
            "of epoch {epoch}, step {step}, it has {count} rows, and the run has {} networks",
            networks.len()
        )),
        None => Ok(()),
    }
}

fn name((rank, seed): (Option<Rank>, u32)) -> String {
    rank.map_or(format!("no rank and seed {seed}"), |rank| format!("rank {rank} and seed {seed}"))
}

fn write_log<R: Row>(path: &Path, rows: &[R]) -> Result<(), FileError> {
    write_atomically(path, |file| {
        writeln!(file, "{}", R::HEADER)?;
        file.write_all(&to_csv(rows))
    })
}

/// Lines without a header. Numbers are written with the fewest digits that read back exactly.
fn to_csv<R: Row>(rows: &[R]) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).expect("a row of plain fields always serialises into memory");
    }
    writer.into_inner().expect("flushing into memory cannot fail")
}

/// What is wrong with a log's text.
enum Flaw {
    Header(String),
    Line(u64, String),
}

impl Flaw {
    fn at(self, path: &Path, expected: &'static str) -> LogError {
        let path = path.to_owned();
        match self {
            Flaw::Header(found) => LogError::Header { path, found, expected },
            Flaw::Line(line, message) => LogError::Line { path, line, message },
        }
    }
}

fn parse<R: Row>(bytes: &[u8]) -> Result<Vec<R>, Flaw> {
    let whole_lines = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
    // Without any whole line, not even the header was finished; the first line is then all there is to show.
    let first = bytes[..whole_lines].split(|&byte| byte == b'\n').next().filter(|line| !line.is_empty());
    let header = first.unwrap_or(bytes).trim_ascii_end();
    if header != R::HEADER.as_bytes() {
        let shown = String::from_utf8_lossy(&header[..header.len().min(200)]);
        return Err(Flaw::Header(shown.into_owned()));
    }
    csv::Reader::from_reader(&bytes[..whole_lines])
        .into_deserialize()
        .enumerate()
        .map(|(index, row)| row.map_err(|error| Flaw::Line(line_of(&error, index), describe(&error))))
        .collect()
}

/// The line of a parse error; by the row's index where the parser does not say.
fn line_of(error: &csv::Error, index: usize) -> u64 {
    error.position().map_or(index as u64 + 2, csv::Position::line)
}

/// The parser's words without its position, which the message has already.
fn describe(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => match err.field() {
            Some(field) => format!("column {}: {}", field + 1, err.kind()),
            None => err.kind().to_string(),
        },
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => format!("{len} columns instead of {expected_len}"),
        csv::ErrorKind::Utf8 { .. } => "not text".to_owned(),
        _ => error.to_string(),
    }
}

/// Mean and spread of a measure over replicas that differ in nothing but their seed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Arithmetic mean; not a number if there are no values.
    pub mean: f64,
    /// Sample standard deviation (divided by n - 1); none for fewer than two values.
    pub std: Option<f64>,
}

impl Spread {
    /// Of these values, in two passes so that a large mean costs no digits.
    pub fn of(values: &[f64]) -> Spread {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Spread { mean, std: (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::config::Draft;
    use proptest::prelude::*;
    use std::fs;

    /// A run that [`row`] gives the first two networks of.
    fn config(networks: u32, epochs: u32) -> Config {
        let mut draft = Draft::open("digits").unwrap();
        draft.set_rule("backprop").unwrap();
        draft.set("train.seeds", &networks.to_string()).unwrap();
        draft.set("train.seed", "7").unwrap();
        draft.set("train.epochs", &epochs.to_string()).unwrap();
        draft.finish().unwrap()
    }

    fn of_seed(step: u32, replica: u32) -> MetricsRow {
        MetricsRow { epoch: step.div_ceil(10), seed: 7 + replica, rank: None, ..row(step, replica) }
    }

    fn row(step: u32, replica: u32) -> MetricsRow {
        MetricsRow {
            epoch: step / 10,
            step,
            replica,
            seed: 7,
            rank: (replica > 0).then_some(Rank::Of(10)),
            train_loss: 0.1 + 0.2,
            train_accuracy: 1.0 / 3.0,
            test_loss: 1e-300,
            test_accuracy: 359.0 / 360.0,
            seconds: 12.5,
        }
    }

    fn alignment(step: u32) -> AlignmentRow {
        AlignmentRow {
            epoch: 1,
            step,
            replica: 0,
            seed: 1,
            rank: Some(Rank::Of(10)),
            layer: "layers.2, \"the odd\" one".to_owned(),
            angle_degrees: Some(std::f64::consts::PI),
            norm_ratio: None,
            captured_energy: Some(0.1),
            orthonormality_error: None,
        }
    }

    fn lag(lag: u32) -> LagRow {
        LagRow {
            epoch: 1,
            step: 9,
            replica: 0,
            seed: 7,
            rank: None,
            layer: "layers.1.hh".to_owned(),
            lag,
            error_rms: Some(0.0),
            effective_dimension: None,
        }
    }

    #[test]
    fn the_columns_are_the_published_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let mut log = Log::create(&path, &[]).unwrap();
        log.append(&[row(10, 0)]).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let mut lines = text.lines();
        assert_eq!(
            lines.next(),
            Some("epoch,step,replica,seed,rank,train_loss,train_accuracy,test_loss,test_accuracy,seconds")
        );
        assert_eq!(
            lines.next(),
            Some("1,10,0,7,,0.30000000000000004,0.3333333333333333,1e-300,0.9972222222222222,12.5")
        );
    }

    /// The header is a constant; this holds it to the fields and their order.
    #[test]
    fn headers_name_the_fields() {
        fn header_of(row: &impl Row) -> String {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.serialize(row).unwrap();
            let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            text.lines().next().unwrap().to_owned()
        }
        assert_eq!(header_of(&row(1, 0)), MetricsRow::HEADER);
        assert_eq!(header_of(&alignment(1)), AlignmentRow::HEADER);
        let depth = DepthRow {
            epoch: 1,
            step: 10,
            replica: 0,
            seed: 1,
            rank: None,
            layer: "layers.2".to_owned(),
            growth: None,
            long_share: None,
            error_rms: Some(0.5),
            gradient_cosine: None,
        };
        assert_eq!(header_of(&depth), DepthRow::HEADER);
        assert_eq!(header_of(&lag(0)), LagRow::HEADER);
    }

    #[test]
    fn alignment_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alignment.csv");
        let rows = [alignment(1), alignment(2)];
        Log::create(&path, &[]).unwrap().append(&rows).unwrap();
        assert_eq!(read_rows::<AlignmentRow>(&path).unwrap(), rows);
    }

    proptest! {
        #[test]
        fn numbers_read_back_exactly(a: f64, b: f64, rank: Option<u32>, part: bool, seed: u32) {
            let rank = rank.map(|rank| if part { Rank::WidthOver(rank) } else { Rank::Of(rank) });
            let written = MetricsRow { train_loss: a, seconds: b, rank, seed, ..row(3, 1) };
            let mut text = MetricsRow::HEADER.as_bytes().to_vec();
            text.push(b'\n');
            text.extend(to_csv(std::slice::from_ref(&written)));
            let read: Vec<MetricsRow> = parse(&text).ok().unwrap();
            prop_assert_eq!(read[0].train_loss.to_bits(), a.to_bits());
            prop_assert_eq!(read[0].seconds.to_bits(), b.to_bits());
            prop_assert_eq!((read[0].rank, read[0].seed), (rank, seed));
        }

        #[test]
        fn garbage_is_an_error_and_no_panic(garbage: Vec<u8>) {
            let _ = parse::<MetricsRow>(&garbage);
            let mut text = MetricsRow::HEADER.as_bytes().to_vec();
            text.push(b'\n');
            text.extend(garbage);
            let _ = parse::<MetricsRow>(&text);
        }

        #[test]
        fn a_cut_anywhere_keeps_the_whole_lines(cut in 0usize..400) {
            let rows = [row(10, 0), row(10, 1), row(20, 0), row(20, 1)];
            let mut text = format!("{}\n", MetricsRow::HEADER).into_bytes();
            let header = text.len();
            text.extend(to_csv(&rows));
            let cut = cut.min(text.len());
            let whole = text[..cut].iter().filter(|&&byte| byte == b'\n').count();
            match parse::<MetricsRow>(&text[..cut]) {
                Ok(read) => prop_assert_eq!(&read[..], &rows[..whole.saturating_sub(1)]),
                Err(_) => prop_assert!(cut < header),
            }
        }
    }

    #[test]
    fn not_a_number_is_kept() {
        let mut text = format!("{}\n", MetricsRow::HEADER).into_bytes();
        text.extend(to_csv(&[MetricsRow { train_loss: f64::NAN, test_loss: f64::INFINITY, ..row(1, 0) }]));
        let read: Vec<MetricsRow> = parse(&text).ok().unwrap();
        assert!(read[0].train_loss.is_nan() && read[0].test_loss == f64::INFINITY);
    }

    #[test]
    fn rows_of_another_run_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let rows = [(10, 0), (10, 1), (20, 0), (20, 1)].map(|(step, replica)| of_seed(step, replica));
        let read = |rows: &[MetricsRow], networks, epochs| {
            Log::create(&path, rows).unwrap();
            Log::<MetricsRow>::read(&path, &config(networks, epochs)).map_err(|error| error.to_string())
        };
        assert_eq!(read(&rows, 2, 2).unwrap(), rows);
        let edited = |index: usize, edit: fn(&mut MetricsRow)| {
            let mut rows = rows.clone();
            edit(&mut rows[index]);
            rows
        };
        for (rows, networks, epochs, words) in [
            (&rows[..], 1, 2, "line 3 is of network 1, and the run has 1"),
            (&rows, 3, 2, "of epoch 1, step 10, it has 2 rows, and the run has 3 networks"),
            (&rows, 2, 1, "line 4 is of epoch 2, and the run has epochs 1 to 1"),
            (&rows[2..], 2, 2, "no rows of epoch 1"),
            (&rows[..3], 2, 2, "of epoch 2, step 20, it has 1 rows"),
            (
                &edited(1, |row| row.seed = 9),
                2,
                2,
                "network 1 with no rank and seed 9, which has no rank and seed 8 here",
            ),
            (&edited(0, |row| row.rank = Some(Rank::Of(3))), 2, 2, "line 2 is of network 0 with rank 3 and seed 7"),
            (&edited(1, |row| *row = of_seed(10, 0)), 2, 2, "line 3 is of network 0 in epoch 1, as one before it"),
            (
                &edited(3, |row| row.step = 5),
                2,
                2,
                "line 5 is of epoch 2 and step 5, and follows on epoch 2 and step 20",
            ),
            (&edited(2, |row| row.step = 10), 2, 2, "line 4 is of epoch 2 and step 10"),
        ] {
            let error = read(rows, networks, epochs).unwrap_err();
            assert!(error.contains("metrics.csv does not belong to this run") && error.contains(words), "{error}");
            assert!(error.contains("put the run's own file back"), "{error}");
        }
        // Layers have no fixed number of rows.
        let path = folder.path().join("alignment.csv");
        let config = config(1, 1);
        let of = |layer: &str, replica| AlignmentRow {
            layer: layer.to_owned(),
            replica,
            seed: 7,
            rank: None,
            ..alignment(9)
        };
        Log::create(&path, &[of("a", 0), of("b", 0)]).unwrap();
        assert_eq!(Log::<AlignmentRow>::read(&path, &config).unwrap().len(), 2);
        Log::create(&path, &[of("a", 0), of("a", 0)]).unwrap();
        Log::<AlignmentRow>::read(&path, &config).unwrap_err();
        Log::create(&path, &[of("a", 1)]).unwrap();
        Log::<AlignmentRow>::read(&path, &config).unwrap_err();
        // Nor have steps of a sequence, each of which has a row.
        let path = folder.path().join("lags.csv");
        Log::create(&path, &[lag(0), lag(1)]).unwrap();
        assert_eq!(Log::<LagRow>::read(&path, &config).unwrap(), [lag(0), lag(1)]);
        Log::create(&path, &[lag(1), lag(1)]).unwrap();
        Log::<LagRow>::read(&path, &config).unwrap_err();
    }

    /// Runs from before such rows were dropped have them.
    #[test]
    fn an_epoch_has_one_row_a_network() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let rows = [10, 15, 20].map(|step| of_seed(step, 0));
        Log::create(&path, &rows).unwrap();
        assert_eq!(Log::<MetricsRow>::read(&path, &config(1, 2)).unwrap(), [rows[0].clone(), rows[2].clone()]);
    }

    #[test]
    fn a_missing_log_is_said_to_be_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        let error = Log::<MetricsRow>::read(&path, &config(1, 1)).unwrap_err().to_string();
        assert!(error.contains("x.csv is missing; put a copy of it back") && error.contains("--out"), "{error}");
        let error = Log::<SpectrumRow>::read(&path, &config(1, 1)).unwrap_err().to_string();
        let (_, command) = error.split_once("begin it anew: ").unwrap();
        // What is said to help does.
        assert!(std::process::Command::new("sh").args(["-c", command]).status().unwrap().success());
        assert!(Log::<SpectrumRow>::read(&path, &config(1, 1)).unwrap().is_empty());
    }

    #[test]
    fn errors_name_the_line_and_leave_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        for (lines, place, reason) in [
            (
                "1,10,0,7,,0.3,0.3,0.1,0.9,12.5\n1,10,0,7,ten,0.3,0.3,0.1,0.9,12.5\n",
                "line 3",
                "\"ten\", expected a rank",
            ),
            ("1,ten,0,7,,0.3,0.3,0.1,0.9,12.5\n", "line 2", "column 2"),
            ("1,10,0,7\n", "line 2", "4 columns"),
            ("1,10,0,7,,0.3,0.3,\u{fffd},0.9,12.5\n", "line 2", "column 8"),
        ] {
            let text = format!("{}\n{lines}", MetricsRow::HEADER);
            fs::write(&path, &text).unwrap();
            let error = read_rows::<MetricsRow>(&path).unwrap_err().to_string();
            assert!(error.contains("metrics.csv") && error.contains(place) && error.contains(reason), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        for text in ["", "epoch,step", "a,b\n1,2\n"] {
            fs::write(&path, text).unwrap();
            let error = read_rows::<MetricsRow>(&path).unwrap_err();
            assert!(matches!(error, LogError::Header { .. }), "{error}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error() {
        let mut log = Log::<MetricsRow>::open_to_append(Path::new("/dev/full")).unwrap();
        assert!(log.append(&[row(1, 0)]).unwrap_err().to_string().contains("free space"));
    }

    #[test]
    fn spread_by_hand() {
        let spread = Spread::of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert_eq!(spread.mean, 5.0);
        assert!((spread.std.unwrap() - (32.0f64 / 7.0).sqrt()).abs() < 1e-15);
        assert_eq!(Spread::of(&[3.0]), Spread { mean: 3.0, std: None });
        assert!(Spread::of(&[]).mean.is_nan());
    }
}
