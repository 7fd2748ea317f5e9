//! How far long work has come: a bar on a terminal, elsewhere a line now and then. Both go to standard error.

use super::duration::readable;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt::{Display, Formatter};
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Redraws of the bar a second.
const REDRAWS: u8 = 10;
/// Parts that a bar moves by.
const PARTS: u64 = 1000;
const TEMPLATE: &str = "{bar:12} {percent:>3}% {wide_msg} {prefix}";
/// No two lines come closer after each other; work that takes less says nothing.
const LEAST_TIME: Duration = Duration::from_secs(5);
/// Nor before such a share more is done, unless [`LONGEST_TIME`] has passed.
const LEAST_SHARE: f64 = 0.1;
const LONGEST_TIME: Duration = Duration::from_secs(60);

/// Long work that is shown. Clones show the same.
#[derive(Clone)]
pub struct Progress {
    /// What is counted, such as `tables`.
    unit: &'static str,
    since: Instant,
    shown: Shown,
}

#[derive(Clone)]
enum Shown {
    Bar(ProgressBar),
    Lines(Arc<Mutex<Last>>, fn(&Stand)),
    Nothing,
}

/// When a line was said last after the start, and at how much.
#[derive(Clone, Copy, Default)]
struct Last {
    elapsed: Duration,
    done: f64,
}

/// Where work stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Stand {
    /// What is counted.
    pub unit: &'static str,
    /// So many of them are done; the one at work in part.
    pub done: f64,
    /// Of so many.
    pub total: f64,
    /// Units a second.
    pub rate: f64,
    /// How long the rest takes at this rate, where there is one.
    pub left: Option<Duration>,
    /// What is done now.
    pub doing: String,
}

impl Progress {
    /// A bar where standard error is a terminal, else lines there.
    pub fn of_terminal(unit: &'static str) -> Self {
        match std::io::stderr().is_terminal() {
            true => Self::bar(unit),
            false => Self::lines(unit, |stand| {
                let _ = writeln!(std::io::stderr(), "{stand}");
            }),
        }
    }

    /// A bar on standard error.
    pub fn bar(unit: &'static str) -> Self {
        let target = ProgressDrawTarget::stderr_with_hz(REDRAWS);
        let bar = ProgressBar::with_draw_target(Some(PARTS), target);
        // The template is a constant of this file; without it the default one serves.
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.progress_chars("━━─"));
        }
        Self { unit, since: Instant::now(), shown: Shown::Bar(bar) }
    }

    /// Lines now and then, given to `say`.
    pub fn lines(unit: &'static str, say: fn(&Stand)) -> Self {
        let shown = Shown::Lines(Arc::default(), say);
        Self { unit, since: Instant::now(), shown }
    }

    /// Nothing.
    pub fn nothing() -> Self {
        Self { unit: "", since: Instant::now(), shown: Shown::Nothing }
    }

    /// Whether anything is shown at all.
    pub fn is_shown(&self) -> bool {
        !matches!(self.shown, Shown::Nothing)
    }

    /// Shows that so many of so many units are done, and what is done now.
    pub fn show(&self, done: f64, total: f64, doing: String) {
        let elapsed = self.since.elapsed();
        let stand = Stand::of(self.unit, elapsed, [done, total], doing);
        match &self.shown {
            Shown::Bar(bar) => {
                bar.set_position((stand.share() * PARTS as f64) as u64);
                bar.set_prefix(stand.pace());
                bar.set_message(stand.doing);
            }
            Shown::Lines(last, say) => {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if last.is_over(elapsed, &stand) {
                    *last = Last { elapsed, done };
                    say(&stand);
                }
            }
            Shown::Nothing => {}
        }
    }

    /// Takes the bar away: the work is done or given up.
    pub fn end(&self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }

    /// Writes something else to the terminal: the bar makes room for it, and comes back below.
    pub fn beside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.shown {
            Shown::Bar(bar) => bar.suspend(write),
            _ => write(),
        }
    }
}

impl Stand {
    fn of(unit: &'static str, elapsed: Duration, [done, total]: [f64; 2], doing: String) -> Self {
        let rate = done / elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        let left = Duration::try_from_secs_f64((total - done).max(0.0) / rate).ok();
        Self { unit, done, total, rate, left, doing }
    }

    /// From 0 to 1.
    fn share(&self) -> f64 {
        (self.done / self.total.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0)
    }

    fn pace(&self) -> String {
        let Self { unit, rate, left, .. } = self;
        let Some(left) = left else { return String::new() };
        let left = readable(left.as_secs_f64());
        let digits = match *rate {
            rate if rate < 0.1 => 3,
            rate if rate < 10.0 => 2,
            _ => 0,
        };
        format!("{rate:.digits$} {unit}/s, {left} left")
    }
}

impl Display for Stand {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let share = format!("{:.0} %", 100.0 * self.share());
        let parts = [share, self.doing.clone(), self.pace()];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        f.write_str(&parts.join(", "))
    }
}

impl Last {
    /// Whether another line may come.
    fn is_over(self, elapsed: Duration, stand: &Stand) -> bool {
        let waited = elapsed.saturating_sub(self.elapsed);
        let more = stand.done - self.done;
        stand.done < stand.total
            && waited >= LEAST_TIME
            && (more >= LEAST_SHARE * stand.total || (more > 0.0 && waited >= LONGEST_TIME))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stand(elapsed: u64, done: f64, total: f64, doing: &str) -> Stand {
        Stand::of("tables", Duration::from_secs(elapsed), [done, total], doing.to_owned())
    }

    /// After how many units a line is said, where each takes so long.
    fn said(each: Duration, total: u32) -> Vec<u32> {
        let mut last = Last::default();
        let mut said = Vec::new();
        for done in 1..=total {
            let elapsed = each * done;
            if last.is_over(elapsed, &stand(1, f64::from(done), f64::from(total), "")) {
                last = Last { elapsed, done: f64::from(done) };
                said.push(done);
            }
        }
        said
    }

    #[test]
    fn lines_come_every_tenth_and_seldom_and_never_for_short_work() {
        assert_eq!(said(Duration::from_millis(49), 100), [0; 0]);
        // Each tenth takes five seconds.
        let tenths: Vec<u32> = (1..10).map(|tenth| 10 * tenth).collect();
        assert_eq!(said(Duration::from_millis(500), 100), tenths);
        // A tenth each second: a line each five.
        assert_eq!(said(Duration::from_secs(1), 10), [5]);
        // A tenth takes ten minutes: a line each.
        assert_eq!(said(Duration::from_secs(6), 1000).len(), 99);
    }

    #[test]
    fn a_line_tells_share_rate_and_rest() {
        let line = stand(10, 50.0, 200.0, "the second file").to_string();
        assert_eq!(line, "25 %, the second file, 5.00 tables/s, 30 s left");
        assert_eq!(stand(10, 500.0, 1000.0, "").to_string(), "50 %, 50 tables/s, 10 s left");
        assert_eq!(stand(10, 0.0, 200.0, "").to_string(), "0 %");
        assert_eq!(stand(0, 0.0, 0.0, "").to_string(), "0 %");
    }
}
