//! What a training measures: rows of `metrics.csv`, `alignment.csv` and `spectrum.csv`, and the log that they are appended to.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::files::{FileError, append_synced, write_atomically};
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

/// A row of a [`Log`].
pub trait Row: Serialize + DeserializeOwned {
    /// The columns, in the order of the fields.
    const HEADER: &'static str;
    /// Training steps completed when the row was written; a resumed run drops the rows past its checkpoint.
    fn step(&self) -> u32;
}

impl Row for MetricsRow {
    const HEADER: &'static str =
        "epoch,step,replica,seed,rank,train_loss,train_accuracy,test_loss,test_accuracy,seconds";

    fn step(&self) -> u32 {
        self.step
    }
}

impl Row for AlignmentRow {
    const HEADER: &'static str =
        "epoch,step,replica,seed,rank,layer,angle_degrees,norm_ratio,captured_energy,orthonormality_error";

    fn step(&self) -> u32 {
        self.step
    }
}

impl Row for SpectrumRow {
    const HEADER: &'static str = "epoch,step,replica,seed,rank,layer,variance,effective_dimension,shares";

    fn step(&self) -> u32 {
        self.step
    }
}

/// A log that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system refused.
    #[error(transparent)]
    File(#[from] FileError),
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
    /// Starts an empty log, replacing an old one.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be written.
    pub fn create(path: &Path) -> Result<Log<R>, FileError> {
        write_log::<R>(path, &[])?;
        Log::open_to_append(path)
    }

    /// Continues a log after a checkpoint of `step` steps: rows past it, and a last line cut short, are dropped. A
    /// missing log is started.
    ///
    /// # Errors
    /// [`LogError`] when the file holds something else, or cannot be written; it is then unchanged.
    pub fn resume(path: &Path, step: u32) -> Result<Log<R>, LogError> {
        let mut rows = match Log::<R>::read(path) {
            Err(LogError::File(error)) if error.source.kind() == ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        rows.retain(|row| row.step() <= step);
        write_log(path, &rows)?;
        Ok(Log::open_to_append(path)?)
    }

    /// Adds rows, all or none of them, and syncs the file. Costs a disk access: meant for once an epoch.
    ///
    /// # Errors
    /// [`FileError`], for example of a full disk; the log is then as before.
    pub fn append(&mut self, rows: &[R]) -> Result<(), FileError> {
        append_synced(&mut self.file, &self.path, &to_csv(rows))
    }

    /// Reads a log back. A last line without its newline, left by a kill, is not counted.
    ///
    /// # Errors
    /// [`LogError`] naming the first line that is not one of this log.
    pub fn read(path: &Path) -> Result<Vec<R>, LogError> {
        let bytes = fs::read(path).map_err(FileError::at(path, "read"))?;
        parse(&bytes).map_err(|flaw| flaw.at(path, R::HEADER))
    }

    fn open_to_append(path: &Path) -> Result<Log<R>, FileError> {
        let file = File::options().append(true).open(path).map_err(FileError::at(path, "write"))?;
        Ok(Log { path: path.to_owned(), file, rows: PhantomData })
    }
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
    use proptest::prelude::*;

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

    #[test]
    fn the_columns_are_the_published_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let mut log = Log::create(&path).unwrap();
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
    }

    #[test]
    fn alignment_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alignment.csv");
        let rows = [alignment(1), alignment(2)];
        Log::create(&path).unwrap().append(&rows).unwrap();
        assert_eq!(Log::<AlignmentRow>::read(&path).unwrap(), rows);
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
    fn resuming_drops_what_the_checkpoint_has_not_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let mut log = Log::create(&path).unwrap();
        for step in [10, 20, 30] {
            log.append(&[row(step, 0), row(step, 1)]).unwrap();
        }
        drop(log);
        // The kill came in the middle of the next line.
        File::options().append(true).open(&path).unwrap().write_all(b"4,40,0,7,,0.2").unwrap();
        let mut log = Log::resume(&path, 20).unwrap();
        assert_eq!(Log::<MetricsRow>::read(&path).unwrap(), [row(10, 0), row(10, 1), row(20, 0), row(20, 1)]);
        log.append(&[row(30, 0)]).unwrap();
        assert_eq!(Log::<MetricsRow>::read(&path).unwrap().last(), Some(&row(30, 0)));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_log_is_started_on_resume() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        Log::<MetricsRow>::resume(&path, 5).unwrap().append(&[row(6, 0)]).unwrap();
        assert_eq!(Log::<MetricsRow>::read(&path).unwrap(), [row(6, 0)]);
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
            let error = Log::<MetricsRow>::resume(&path, 100).unwrap_err().to_string();
            assert!(error.contains("metrics.csv") && error.contains(place) && error.contains(reason), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        for text in ["", "epoch,step", "a,b\n1,2\n"] {
            fs::write(&path, text).unwrap();
            let error = Log::<MetricsRow>::read(&path).unwrap_err();
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
