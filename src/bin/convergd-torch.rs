//! `convergd-torch`: convergd with libtorch. `convergd` starts it for the commands that need it.

fn main() -> std::process::ExitCode {
    // SAFETY: no other thread runs yet.
    unsafe {
        std::env::remove_var(convergd::network::device::TF32_OVERRIDE);
        convergd_core::cli::beside::restore_environment();
    }
    convergd::cli::main().into()
}
