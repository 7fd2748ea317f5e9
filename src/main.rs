//! convergd: starts and stops; everything else is in the library.

fn main() -> std::process::ExitCode {
    let (name, value) = convergd::network::device::FORBID_TF32;
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var(name, value) };
    convergd::cli::main().into()
}
