//! The time of a run: it never goes back.
//!
//! Pairs are stored with it, and the policy counts its budgets, patience and cooldowns in it, so it must not depend
//! on a clock that somebody sets. So are decisions of persons, when a decision was delivered, from which the rungs of the
//! ladder count, and what webhooks are told. While the sidecar runs it advances by the monotonic clock, whatever happens to
//! the system's. At a start it goes on at the system's time, or where that lies before the last that was stored with it,
//! at that one's: a clock that was set back meanwhile counts as no time, one that was set forward as time that has
//! passed, since nothing here can tell that from a long pause.

use crate::clock::now;
use crate::history::{History, HistoryError};
use std::time::Instant;

/// Seconds since 1970, as the run counts them.
#[derive(Clone, Copy, Debug)]
pub struct RunClock {
    base: f64,
    since: Instant,
}

impl RunClock {
    /// Goes on at `wall`, the system's time, but not before `last`, the latest time in the history.
    pub fn new(wall: f64, last: Option<f64>, since: Instant) -> Self {
        Self { base: last.map_or(wall, |last| wall.max(last)), since }
    }

    /// That of a run, which goes on now.
    ///
    /// # Errors
    /// SQLite's.
    pub fn of(history: &History) -> Result<Self, HistoryError> {
        Ok(Self::new(now(), history.latest_time()?, Instant::now()))
    }

    /// The time now.
    pub fn now(&self) -> f64 {
        self.at(Instant::now())
    }

    /// The time at a moment.
    pub fn at(&self, moment: Instant) -> f64 {
        self.base + moment.saturating_duration_since(self.since).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_start_goes_on_where_the_last_was_stored_or_later() {
        let now = Instant::now();
        let at = |wall, last, seconds| {
            RunClock::new(wall, last, now).at(now + Duration::from_secs(seconds))
        };
        assert_eq!(at(1000.0, None, 5), 1005.0);
        assert_eq!(at(1000.0, Some(900.0), 5), 1005.0, "a pause of 100 s");
        assert_eq!(at(1000.0, Some(5000.0), 5), 5005.0, "set back by more than an hour");
        assert_eq!(at(0.0, Some(5000.0), 0), 5000.0, "before 1970");
        let before = now.checked_sub(Duration::from_secs(3)).unwrap_or(now);
        assert_eq!(RunClock::new(1000.0, None, now).at(before), 1000.0);
    }
}
