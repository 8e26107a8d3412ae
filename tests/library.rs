//! The engine as a library: without the feature `cli` it brings none of the command line's crates along.

use std::collections::BTreeSet;
use std::process::Command;

/// Crates of the command line, of pictures, pages, downloads and archives.
const OF_THE_PROGRAM: [&str; 9] =
    ["clap", "comfy-table", "ctrlc", "indicatif", "minijinja", "plotters", "tar", "tracing-subscriber", "ureq"];

/// Names of all crates that the library links, on any system.
fn crates(features: &[&str]) -> BTreeSet<String> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["tree", "--edges", "normal", "--target", "all", "--prefix", "none", "--format", "{p}", "--locked"]);
    let output = command.args(features).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn the_engine_alone_needs_no_crate_of_the_program() {
    let (engine, program) = (crates(&["--no-default-features"]), crates(&[]));
    assert!(engine.contains("wgpu") && engine.is_subset(&program), "{engine:?}");
    for name in OF_THE_PROGRAM {
        assert!(program.contains(name), "{name} is not in the program either: nothing is shown");
        assert!(!engine.contains(name), "{name} comes with the engine");
    }
}
