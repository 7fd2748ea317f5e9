//! The commands of convergd that need libtorch, and all others too. `convergd` starts it.

fn main() -> std::process::ExitCode {
    // SAFETY: no other thread runs yet.
    unsafe { std::env::remove_var(convergd::network::device::TF32_OVERRIDE) };
    convergd::cli::main().into()
}
