//! The `ldfa-gpu` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ldfa_gpu::cli::main()
}
