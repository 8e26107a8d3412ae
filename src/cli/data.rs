//! `data`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use super::{CliError, DataDirArg, say};
use crate::data::{self, Contents, Dataset, Numbers, Split};

/// Look at data sets, or download them.
#[derive(Args)]
pub(super) struct DataArgs {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Subcommand)]
enum DataCommand {
    /// Sets that the program knows, and whether they are here.
    List {
        #[command(flatten)]
        data: DataDirArg,
    },
    /// Counts, shape, classes, statistics and checksum of a set, and what reading it has passed over or changed.
    Info {
        /// A known set, a folder of images by class, or a text file.
        name: String,
        /// Steps of sequences that are made, characters of the windows of a text.
        #[arg(long, value_name = "STEPS")]
        length: Option<u32>,
        #[command(flatten)]
        data: DataDirArg,
    },
    /// Download a set from its official address; goes on where it stopped, and verifies every file.
    Fetch {
        /// A known set.
        name: String,
        #[command(flatten)]
        data: DataDirArg,
    },
}

impl DataArgs {
    pub(super) fn run(self) -> Result<(), CliError> {
        match self.command {
            DataCommand::List { data } => list(&data),
            DataCommand::Info { name, length, data } => info(&data::open_cut(&name, length, &data.search())?),
            DataCommand::Fetch { name, data } => fetch(&name, &data),
        }
    }
}

fn list(arg: &DataDirArg) -> Result<(), CliError> {
    let search = arg.search();
    for set in data::known() {
        let here = match data::open(set.name, &search) {
            Ok(_) => "here".to_owned(),
            Err(data::DataError::NotFound { .. }) => format!("ldfa-gpu data fetch {}", set.name),
            Err(error) => format!("damaged: {error}"),
        };
        say(format!("{:<14} {:<60} {here}", set.name, set.description))?;
    }
    let roots: Vec<String> = search.roots().iter().map(|r| r.display().to_string()).collect();
    say(format!("searched: {}", roots.join(", ")))
}

fn info(set: &Dataset) -> Result<(), CliError> {
    let numbers = |values: &[f64]| values.iter().map(|v| format!("{v:.4}")).collect::<Vec<_>>().join(" ");
    let statistics = set.channel_statistics();
    say(format!("name      {}", set.name))?;
    say(format!(
        "{:<9} {} to train on, {} to test on, {} (height x width x channels)",
        format!("{}s", set.sample()),
        set.train.len(),
        set.test.len(),
        set.shape
    ))?;
    if set.contents == Contents::Values {
        say(format!("mean      {} (bytes, training set, by channel)", numbers(&statistics.mean)))?;
        say(format!("std       {}", numbers(&statistics.std)))?;
    }
    say(format!("checksum  {}", set.checksum))?;
    if let Some(Numbers { one, tolerance }) = set.numbers {
        let names = set.classes.join(", ");
        say(format!("numbers   {names}: label / {one}; an answer within {tolerance} / {one} counts as correct"))?;
        return Ok(());
    }
    let what = if set.train.targets == 1 { "class" } else { "next" };
    let count = |split: &Split| set.class_histogram(split);
    for (class, (train, test)) in set.classes.iter().zip(count(&set.train).into_iter().zip(count(&set.test))) {
        say(format!("{what:<9} {class:<20} {train:>7} {test:>7}"))?;
    }
    set.remark().map_or(Ok(()), |remark| say(format!("note      {remark}")))
}

fn fetch(name: &str, arg: &DataDirArg) -> Result<(), CliError> {
    let into: PathBuf = arg.search().roots().first().cloned().unwrap_or_else(|| "datasets".into());
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{msg:28} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}") {
        bar.set_style(style);
    }
    let fetched = data::fetch(name, &into, &mut |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        bar.set_message(progress.file.to_owned());
    });
    bar.finish_and_clear();
    say(format!("{name} is in {}", fetched?.display()))
}
