//! `bench`.

use std::io::Write;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};

use super::{CliError, DeviceArg, say};
use crate::bench::{self, Effort};
use crate::train::files::write_atomically;

/// Time kernels and training steps, as ratios within one run.
#[derive(Args)]
pub(super) struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Args)]
struct Common {
    /// Small sizes and few rounds: shows that everything runs; the numbers say nothing.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    device: DeviceArg,
}

impl Common {
    fn effort(&self) -> Effort {
        if self.quick { Effort::Quick } else { Effort::Full }
    }
}

#[derive(Subcommand)]
enum BenchCommand {
    /// Every kernel variant by shape, beside the adapter's own ceilings.
    Kernels {
        /// Only operations whose name contains this, such as gemm or transport.
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
        /// Write the table as JSON, too.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
    /// Whole training steps by rule, beside their FLOPs; made-up images of the right shape.
    Steps {
        /// Presets or configuration files; without any, all presets.
        #[arg(value_name = "PRESET")]
        presets: Vec<String>,
        /// Images of a step in place of the preset's.
        #[arg(long, value_name = "N")]
        batch: Option<u32>,
        /// Print JSON in place of a table.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// The few numbers that sum the engine up.
    Headline {
        /// Only this part of it.
        #[arg(long, value_name = "PART", value_parser = PossibleValuesParser::new(bench::PARTS))]
        only: Option<String>,
        /// Print one JSON object in place of a table.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
}

impl BenchArgs {
    pub(super) fn run(self) -> Result<(), CliError> {
        match self.command {
            BenchCommand::Kernels { only, json, common } => {
                let report = bench::kernels(&common.device.device, only.as_deref(), common.effort())?;
                say(&report)?;
                // Last, so that minutes of measuring are not lost to a folder that is not there.
                if let Some(path) = json {
                    let text = as_json(&report)?;
                    write_atomically(&path, |file| file.write_all(text.as_bytes()))?;
                }
                Ok(())
            }
            BenchCommand::Steps { presets, batch, json, common } => {
                let report = bench::steps(&common.device.device, &presets, batch, common.effort())?;
                if json { say(as_json(&report)?) } else { say(report) }
            }
            BenchCommand::Headline { only, json, common } => {
                let found = bench::headline(&common.device.device, only.as_deref(), common.effort())?;
                if json { say(as_json(&found.json())?) } else { say(found) }
            }
        }
    }
}

fn as_json(report: &impl serde::Serialize) -> Result<String, CliError> {
    serde_json::to_string_pretty(report).map_err(|e| CliError::Message(format!("the report as JSON: {e}")))
}
