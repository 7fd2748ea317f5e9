//! The escalation ladder: what is done while a trainer has not acknowledged a decision.
//!
//! Pure: the time since the delivery of the control file is an argument. A rung is known by its time, so that a ladder
//! that changes between two starts, or by a reload, goes on behind the last rung that was done.
//!
//! A `stop` takes every rung. A `phase` must never end a trainer, so it takes only what cannot: webhooks, and
//! `SIGUSR2` to the process itself. Nothing else is escalated.

use super::signals::Signal;
use std::time::Duration;

/// Rungs by ascending time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ladder {
    /// Each later than the one before.
    pub rungs: Vec<Rung>,
}

/// One rung.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rung {
    /// Time since the delivery of the control file.
    pub after: Duration,
    /// What is done then.
    pub measure: Measure,
}

/// What a rung does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measure {
    /// A signal to the trainers that have not acknowledged.
    Signal {
        /// Which.
        signal: Signal,
        /// To the process group of each instead of the process alone.
        group: bool,
    },
    /// A webhook is told.
    Webhook {
        /// Its name.
        name: String,
    },
    /// A program of the user.
    Exec {
        /// Program and arguments; no shell.
        command: Vec<String>,
        /// How long it may take.
        timeout: Duration,
    },
}

impl Measure {
    /// Its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Signal { .. } => "signal",
            Self::Webhook { .. } => "webhook",
            Self::Exec { .. } => "exec",
        }
    }

    /// Whether a trainer may end by it.
    pub fn may_end(&self) -> bool {
        match self {
            Self::Signal { signal, .. } => !signal.is_nudge(),
            Self::Webhook { .. } => false,
            Self::Exec { .. } => true,
        }
    }

    fn serves(&self, action: &str) -> bool {
        match self {
            Self::Signal { signal, group } => {
                action == "stop" || (action == "phase" && *signal == Signal::Usr2 && !group)
            }
            Self::Webhook { .. } => matches!(action, "stop" | "phase"),
            Self::Exec { .. } => action == "stop",
        }
    }
}

impl std::fmt::Display for Measure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Signal { signal, group: false } => f.write_str(signal.name()),
            Self::Signal { signal, group: true } => {
                write!(f, "{} to the process group", signal.name())
            }
            Self::Webhook { name } => write!(f, "webhook `{name}`"),
            Self::Exec { command, .. } => {
                write!(f, "`{}`", command.first().map_or("", String::as_str))
            }
        }
    }
}

impl Ladder {
    /// The first rung for an action behind the time of the last one that was done.
    pub fn next(&self, action: &str, done: Option<Duration>) -> Option<&Rung> {
        let mut rungs = self.rungs.iter().filter(|rung| rung.measure.serves(action));
        rungs.find(|rung| done.is_none_or(|done| rung.after > done))
    }

    /// The time of the last rung for an action.
    pub fn end(&self, action: &str) -> Option<Duration> {
        let rungs = self.rungs.iter().filter(|rung| rung.measure.serves(action));
        rungs.map(|rung| rung.after).next_back()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ladder() -> Ladder {
        let rung = |seconds, measure| Rung { after: Duration::from_secs(seconds), measure };
        let signal = |signal, group| Measure::Signal { signal, group };
        let command = vec!["scancel".to_owned()];
        let exec = Measure::Exec { command, timeout: Duration::from_secs(1) };
        let rungs = vec![
            rung(1, signal(Signal::Term, false)),
            rung(2, exec),
            rung(3, signal(Signal::Usr2, true)),
            rung(4, signal(Signal::Usr2, false)),
            rung(5, Measure::Webhook { name: "ops".to_owned() }),
            rung(6, signal(Signal::Kill, true)),
        ];
        Ladder { rungs }
    }

    /// Seconds of all rungs that an action climbs.
    fn climbed(action: &str) -> Vec<u64> {
        let ladder = ladder();
        let mut done = None;
        let mut seconds = Vec::new();
        while let Some(rung) = ladder.next(action, done) {
            done = Some(rung.after);
            seconds.push(rung.after.as_secs());
        }
        assert_eq!(ladder.end(action), done);
        seconds
    }

    #[test]
    fn a_stop_climbs_all_rungs_and_a_phase_only_what_ends_nobody() {
        assert_eq!(climbed("stop"), [1, 2, 3, 4, 5, 6]);
        assert_eq!(climbed("phase"), [4, 5]);
        assert_eq!(climbed("continue"), [0; 0]);
    }

    #[test]
    fn another_ladder_goes_on_behind_the_last_rung_that_was_done() {
        let next = ladder();
        let next = next.next("stop", Some(Duration::from_millis(2500)));
        assert_eq!(next.map(|rung| rung.after.as_secs()), Some(3));
    }
}
