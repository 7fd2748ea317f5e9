//! Places where a test may end the process as a power cut would, or turn its clock. Without the feature
//! `failpoints` they are nothing.
//!
//! `FAILPOINTS='committed=1*off->return'` lets the place `committed` be passed once, and ends the process there
//! the second time; `FAILPOINTS='clock=return(FILE)'` adds the seconds in FILE to the clock.

/// Every place, in the order of a pair's way through the daemon.
pub const PLACES: [&str; 33] = [
    "settings-kept",
    "control-begun",
    "pins-recovered",
    "pinned",
    "arrival-recorded",
    "variables-kept",
    "table-written",
    "table-kept",
    "target-valued",
    "baseline-valued",
    "extracted",
    "best-kept",
    "pair-inserted",
    "committed",
    "bests-released",
    "file-written",
    "control-written",
    "delivery-recorded",
    "skip-recorded",
    "target-unpinned",
    "pair-unpinned",
    "acknowledged",
    "request-taken",
    "intervention-recorded",
    "request-answered",
    "rung-begun",
    "rung-ended",
    "notification-added",
    "notification-ended",
    "events-written",
    "end-recorded",
    "stop-released",
    "failure-recorded",
];

/// Passes a place; where a test says so, nothing comes after it.
#[cfg(feature = "failpoints")]
pub fn reach(place: &'static str) {
    debug_assert!(PLACES.contains(&place), "BUG: `{place}` is no place");
    fail::fail_point!(place, |_| die());
}

/// Passes a place.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn reach(_place: &'static str) {}

/// Whether a test lets something fail here: `FAILPOINTS='device=1*return'` the first device that is asked.
#[cfg(feature = "failpoints")]
pub fn fails(place: &'static str) -> bool {
    fail::fail_point!(place, |_| true);
    false
}

/// Nothing fails.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn fails(_place: &'static str) -> bool {
    false
}

/// SIGKILL: nothing is flushed, dropped or tidied up.
#[cfg(feature = "failpoints")]
fn die() {
    let own = rustix::process::getpid();
    let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    // It may come a moment later.
    loop {
        std::thread::park();
    }
}

/// Seconds that a test adds to the clock.
#[cfg(feature = "failpoints")]
pub fn clock_offset() -> f64 {
    let read = |file: Option<String>| -> Option<f64> {
        std::fs::read_to_string(file?).ok()?.trim().parse().ok()
    };
    let offset = || -> f64 {
        fail::fail_point!("clock", |file| read(file).unwrap_or_default());
        0.0
    };
    offset()
}

/// Nobody turns the clock.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn clock_offset() -> f64 {
    0.0
}

/// Takes the places from the environment, for as long as the value given lives.
#[cfg(feature = "failpoints")]
pub fn arm() -> impl Drop {
    fail::FailScenario::setup()
}
