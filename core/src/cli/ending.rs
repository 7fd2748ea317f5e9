//! What a signal does to a command that is at work.

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// SIGINT and SIGTERM, which from here on wait until somebody takes them.
///
/// # Errors
/// Signals that cannot be handled.
pub fn caught() -> anyhow::Result<Signals> {
    Signals::new([SIGINT, SIGTERM]).context("signals cannot be handled")
}

/// Has the first of them end the process at once, after `tidy`: also where it is the first process of a container, which the
/// kernel spares without a handler.
pub fn end_on(mut signals: Signals, tidy: impl FnOnce() + Send + 'static) {
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            tidy();
            signal_hook::low_level::exit(128 + signal);
        }
    });
}
