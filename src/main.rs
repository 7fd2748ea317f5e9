//! convergd: starts and stops; everything else is in the library.
//!
//! What needs libtorch is done by `convergd-torch` beside it, in whose place this process goes on: to load
//! libtorch takes a fifth of a second, which `status` and its like have no use for.

fn main() -> std::process::ExitCode {
    convergd::cli::front().into()
}
