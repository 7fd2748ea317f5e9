//! What a signal does to a command that is at work.

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// SIGINT, SIGTERM and `others`, which from here on wait until somebody takes them; and what of [`hold`] has waited.
///
/// # Errors
/// Signals that cannot be handled.
pub fn caught(others: &[i32]) -> anyhow::Result<Signals> {
    let all = [&[SIGINT, SIGTERM], others].concat();
    let signals = Signals::new(all).context("signals cannot be handled")?;
    // Programs that are started later have them as usual.
    let_through();
    Ok(signals)
}

/// The end of [`hold`].
pub fn let_through() {
    let _ = held().thread_unblock();
}

fn held() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM].into_iter().collect()
}

/// Has SIGINT and SIGTERM wait until they are [`caught`], also by the program that this process becomes: the kernel drops what comes to the first process of a
/// container before it has a handler.
///
/// # Errors
/// The system's.
pub fn hold() -> std::io::Result<()> {
    Ok(held().thread_block()?)
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
