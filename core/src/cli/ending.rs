//! What a signal does to a command that is at work.

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// SIGINT and SIGTERM, which from here on wait until somebody takes them.
///
/// # Errors
/// Signals that cannot be handled.
pub fn caught() -> anyhow::Result<Signals> {
    let signals = Signals::new([SIGINT, SIGTERM]).context("signals cannot be handled")?;
    deliver();
    Ok(signals)
}

fn held() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM].into_iter().collect()
}

/// Has both wait until [`deliver`]: the kernel drops what comes to the first process of a container before it has a handler.
/// May be called between `fork` and `exec`.
///
/// # Errors
/// The system's.
pub fn hold() -> std::io::Result<()> {
    Ok(held().thread_block()?)
}

/// Gives the handlers what has waited. Programs that are started later have them as usual.
pub fn deliver() {
    let _ = held().thread_unblock();
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
