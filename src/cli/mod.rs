//! The command line: one file a subcommand.

mod bench;
mod compare;
mod data;
mod devices;
mod eval;
mod explain;
mod export;
mod fields;
mod flops;
mod report;
mod results;
mod sweep;
mod system;
mod theory;
mod train;
mod verify;

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};

use crate::data::SearchPath;
use crate::gpu::{Cache, DeviceChoice};
use crate::train::TrainError;
use crate::train::machine::{Kernels, Preparation};
use crate::train::progress::was_refused;

/// Trains networks through low-dimensional errors, on any GPU.
#[derive(Parser)]
#[command(version, about, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Train(train::TrainArgs),
    Eval(eval::EvalArgs),
    Export(export::ExportArgs),
    Report(report::ReportArgs),
    Explain(explain::ExplainArgs),
    Flops(flops::FlopsArgs),
    Sweep(sweep::SweepArgs),
    Theory(theory::TheoryArgs),
    Fields(fields::FieldsArgs),
    Compare(compare::CompareArgs),
    Verify(verify::VerifyArgs),
    Bench(bench::BenchArgs),
    Devices(devices::DevicesArgs),
    Data(data::DataArgs),
}

/// Where to compute.
#[derive(Args, Clone, Debug)]
struct DeviceArg {
    /// Adapter by index or part of its name (see `ldfa-gpu devices`), `best`, or `reference` for the f64 CPU executor.
    #[arg(long, value_name = "INDEX|NAME", default_value = "best")]
    device: DeviceChoice,
}

/// How kernels are chosen.
#[derive(Args, Clone, Copy, Debug)]
struct KernelsArg {
    /// Use the table of default kernels instead of measuring which are fastest on the adapter.
    #[arg(long)]
    no_tune: bool,
}

impl KernelsArg {
    fn preparation(self) -> Preparation {
        let kernels = if self.no_tune { Kernels::Defaults } else { Kernels::Measured };
        Preparation { kernels, cache: Cache::from_env() }
    }
}

/// Where data sets are.
#[derive(Args, Clone, Debug)]
struct DataDirArg {
    /// Folder that holds data sets; after it LDFA_DATA and ./datasets are searched.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

impl DataDirArg {
    fn search(&self) -> SearchPath {
        SearchPath::from_env(self.data_dir.clone())
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Train(#[from] TrainError),
    #[error(transparent)]
    Bench(#[from] crate::bench::BenchError),
    #[error(transparent)]
    Curves(#[from] crate::train::curves::CurvesError),
    #[error(transparent)]
    Experiment(#[from] crate::experiment::ExperimentError),
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
    #[error("{0}")]
    Message(String),
}

/// Lets `?` take any of the library's errors.
macro_rules! from_train_error {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for CliError {
            fn from(error: $error) -> CliError {
                CliError::Train(error.into())
            }
        })*
    };
}

from_train_error!(
    crate::data::DataError,
    crate::gpu::GpuError,
    crate::model::ModelError,
    crate::plan::ExecuteError,
    crate::plan::PlanError,
    crate::train::checkpoint::CheckpointError,
    crate::train::config::ConfigError,
    crate::train::files::FileError,
    crate::train::metrics::LogError,
    crate::train::run_dir::RunDirError,
    crate::train::summary::SummaryError,
);

/// Writes a line to standard output; unlike `println!` it does not panic when the reader has gone.
fn say(text: impl Display) -> Result<(), CliError> {
    Ok(writeln!(io::stdout(), "{text}")?)
}

/// Lines of cells, the first of which names the columns, as a table; all columns but the first hold numbers. Cells are broken
/// between words where a terminal is too narrow, never in a pipe.
fn table(lines: Vec<Vec<String>>) -> Table {
    let longest_word = |column: usize| {
        let words = lines.iter().skip(1).filter_map(|line| line.get(column)).flat_map(|cell| cell.split(' '));
        words.map(|word| word.chars().count()).max().unwrap_or(0)
    };
    let columns = lines.first().map_or(0, Vec::len);
    // With a space on either side.
    let widths: Vec<u16> = (0..columns).map(|column| longest_word(column) as u16 + 2).collect();
    let mut lines = lines.into_iter();
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(lines.next().unwrap_or_default());
    table.add_rows(lines);
    for (column, width) in table.column_iter_mut().zip(widths) {
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width)));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Parses the arguments and runs the command; 0 on success, 1 on failure, 2 for wrong usage, 130 when stopped.
pub fn main() -> ExitCode {
    system::quiet_mesa();
    system::let_writes_fail();
    let filter = tracing_subscriber::EnvFilter::try_from_env("LDFA_LOG")
        .unwrap_or_else(|_| "error,ldfa_gpu=warn,wgpu_hal=off".into());
    // Lines bear the time since the process started.
    let since_start = tracing_subscriber::fmt::time::uptime();
    let is_terminal = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_timer(since_start).with_ansi(is_terminal);
    log.with_writer(io::stderr).init();
    let command = Cli::parse().command;
    let result = system::workers().install(|| command.run());
    match result {
        Ok(code) if code == ExitCode::SUCCESS && was_refused() => ExitCode::FAILURE,
        Ok(code) => code,
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Command {
    fn run(self) -> Result<ExitCode, CliError> {
        match self {
            Command::Train(args) => args.run(),
            Command::Eval(args) => args.run().map(|()| ExitCode::SUCCESS),
            Command::Export(args) => args.run().map(|()| ExitCode::SUCCESS),
            Command::Report(args) => args.run().map(|()| ExitCode::SUCCESS),
            Command::Explain(args) => args.run().map(|()| ExitCode::SUCCESS),
            Command::Flops(args) => args.run().map(|()| ExitCode::SUCCESS),
            Command::Sweep(args) => args.run(),
            Command::Theory(args) => args.run().map(|()| ExitCode::SUCCESS),
            Command::Fields(args) => args.run().map(|()| ExitCode::SUCCESS),
            Command::Compare(args) => args.run().map(|()| ExitCode::SUCCESS),
            Command::Verify(args) => args.run(),
            Command::Bench(args) => args.run().map(|()| ExitCode::SUCCESS),
            Command::Devices(args) => args.run().map(|()| ExitCode::SUCCESS),
            Command::Data(args) => args.run().map(|()| ExitCode::SUCCESS),
        }
    }
}
