//! convergd: starts and stops; everything else is in the library.

fn main() -> std::process::ExitCode {
    // SAFETY: no other thread runs yet.
    unsafe { std::env::remove_var(convergd::network::device::TF32_OVERRIDE) };
    convergd::cli::main().into()
}
