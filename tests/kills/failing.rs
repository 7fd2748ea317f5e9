//! The program with places at which it fails.

use crate::bench::{Bench, Running, convergd};

/// Starts a command in the directory of a run; `places` are those of `FAILPOINTS`.
pub(crate) fn start(bench: &Bench, arguments: &[&str], places: &str) -> Running {
    let mut command = convergd(arguments);
    command.env("FAILPOINTS", places).current_dir(bench.path("."));
    Running::start(&mut command, &bench.path("."))
}
