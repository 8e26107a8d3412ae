//! `explain`.

use clap::{ArgGroup, Args, ValueEnum};
use comfy_table::Table;

use super::flops::side_by_side;
use super::train::ConfigArgs;
use super::{CliError, DataDirArg, DeviceArg, KernelsArg, say};
use crate::model::Network;
use crate::ops::Phase;
use crate::plan::{Options, explain};
use crate::train::machine::{Kernels, machine};
use crate::train::spec::network_spec;
use crate::words::counted;

/// Print the plan of a step: operations, kernels, shapes, FLOPs, bytes; for a training step also its cost by layer.
#[derive(Args)]
#[command(group(ArgGroup::new("what").required(true).args(["preset"])))]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Which list of operations.
    #[arg(long, value_enum, default_value = "train")]
    phase: PhaseArg,
    /// Print the operations as recorded, before any fusion.
    #[arg(long)]
    unfused: bool,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    kernels: KernelsArg,
    #[command(flatten)]
    data: DataDirArg,
}

#[derive(Clone, Copy, ValueEnum)]
enum PhaseArg {
    Train,
    Evaluate,
    Diagnose,
}

impl ExplainArgs {
    pub(super) fn run(self) -> Result<(), CliError> {
        let config = self.config.config()?.resolved();
        let data = config.dataset(&self.data.search())?;
        let spec = network_spec(&config, &data)?;
        let network = Network::new(&spec).map_err(|error| config.at(error.into()))?;
        let options = Options { fuse: !self.unfused, ..Options::default() };
        let mut preparation = self.kernels.preparation();
        if self.unfused {
            // Nobody runs these operations, so that measuring them would gain nothing.
            preparation.kernels = Kernels::Defaults;
        }
        let machine = machine(&network.recording, &self.device.device, options, &preparation)?;
        let phase = match self.phase {
            PhaseArg::Train => Phase::Train,
            PhaseArg::Evaluate => Phase::Evaluate,
            PhaseArg::Diagnose => Phase::Diagnose,
        };
        say(format!("on {}, {}", machine.executor.device(), counted(network.replicas(), "replica")))?;
        // None where the output is no terminal.
        let columns = Table::new().width().map(usize::from);
        say(explain(&machine.plan, phase, columns).trim_end())?;
        if phase == Phase::Train {
            say("")?;
            side_by_side(&config, &spec)?;
        }
        Ok(())
    }
}
