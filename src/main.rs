//! convergd: starts and stops; everything else is in the library.

fn main() -> std::process::ExitCode {
    convergd::cli::main().into()
}
