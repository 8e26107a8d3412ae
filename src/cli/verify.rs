//! `verify`.

use std::process::ExitCode;

use clap::{ArgGroup, Args};

use super::train::ConfigArgs;
use super::{CliError, DataDirArg, DeviceArg, KernelsArg, say};
use crate::plan::Options;
use crate::train::session::Session;
use crate::train::verify::{Finding, verify};
use crate::words::counted;

/// Run one step on the adapter and every operation of it on the f64 reference, and compare.
///
/// Every operation is judged on the adapter's own inputs, so that an error shows where it is made.
#[derive(Args)]
#[command(group(ArgGroup::new("what").required(true).args(["preset"])))]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    kernels: KernelsArg,
    #[command(flatten)]
    data: DataDirArg,
}

impl VerifyArgs {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let config = self.config.config()?;
        let data = config.dataset(&self.data.search())?;
        let options = Options { share_memory: false, ..Options::default() };
        let preparation = self.kernels.preparation();
        let mut session = Session::prepared(config, &data, &self.device.device, options, &preparation)?;
        let findings = verify(&mut session)?;
        say(format!(
            "{}\n{:<22} {:<15} {:<34} {:>10} {:>10} {:>7}",
            session.device, "op", "variant", "tensor", "error", "allowed", "share"
        ))?;
        for finding in &findings {
            let Finding { op, variant, tensor, error, allowed } = finding;
            let share = 100.0 * error / allowed;
            say(format!("{op:<22} {variant:<15} {tensor:<34} {error:>10.2e} {allowed:>10.2e} {share:>5.1} %"))?;
        }
        let wrong = findings.iter().filter(|f| !f.holds()).count();
        let worst = findings.iter().map(|f| f.error / f.allowed).fold(0.0, f64::max);
        say(format!(
            "{} compared, {wrong} beyond their allowance, at most {:.1} % of it used",
            counted(findings.len(), "tensor"),
            100.0 * worst
        ))?;
        Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
