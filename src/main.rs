//! `convergd`: what needs no libtorch is done here, the rest by `convergd-torch` beside this program.

use convergd_core::cli;

fn main() -> std::process::ExitCode {
    let built_against = option_env!("CONVERGD_LIBTORCH");
    cli::main(&cli::beside::Beside { built_against }).into()
}
