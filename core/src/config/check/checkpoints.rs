//! Where checkpoints come from, how they are watched and paired.

use super::Check;
use crate::checkpoint::pairing::DEFAULT_WAITING;
use crate::checkpoint::{self, Marker, Mode, Order, Watching};
use crate::config::file;
use std::path::PathBuf;
use std::time::Duration;

/// More often would keep a processor and a file server busy.
const SHORTEST_POLL: Duration = Duration::from_millis(50);

/// Where the checkpoints of a network come from.
pub(super) enum Origin {
    Training(checkpoint::Settings),
    Fixed(PathBuf),
}

impl Check {
    /// What is watched, and what is not.
    pub(super) fn sources(
        &mut self,
        target: Origin,
        baseline: Origin,
    ) -> Option<(Vec<checkpoint::Settings>, Option<PathBuf>)> {
        let Origin::Training(target) = target else { return None };
        match baseline {
            Origin::Fixed(fixed) => Some((vec![target], Some(fixed))),
            Origin::Training(baseline) => {
                if target.directory == baseline.directory {
                    let message =
                        "is the target's directory too; a network always agrees with itself";
                    self.checked.report("networks.baseline.checkpoints", message);
                }
                Some((vec![target, baseline], None))
            }
        }
    }

    pub(super) fn pairing(&mut self, pairing: &file::Pairing) -> Option<checkpoint::Pairing> {
        let order = match pairing.order.unwrap_or(file::Order::Every) {
            file::Order::Every => Order::Every,
            file::Order::Latest => Order::Latest,
            file::Order::EveryN(0) => {
                let message = "is 0; give the steps between two evaluated pairs, or `order: every`";
                self.checked.report("pairing.order.every_n", message);
                return None;
            }
            file::Order::EveryN(every) => Order::EveryN(every),
        };
        let tolerance = pairing.tolerance.unwrap_or(0);
        let at = "pairing.waiting";
        let waiting = self.count(at, pairing.waiting, 2..=100_000, DEFAULT_WAITING)?;
        Some(checkpoint::Pairing { order, tolerance, waiting })
    }

    pub(super) fn marker(&mut self, at: &str, marker: Option<String>) -> Option<Option<Marker>> {
        let Some(pattern) = marker else { return Some(None) };
        match Marker::new(&pattern) {
            Ok(marker) => Some(Some(marker)),
            Err(message) => {
                self.checked.report(at, format!("is `{pattern}`, which {message}"));
                None
            }
        }
    }

    pub(super) fn watching(&mut self, file: file::Watch) -> Option<Watching> {
        let defaults = Watching::default();
        let watching = Watching {
            mode: match file.mode.unwrap_or(file::WatchMode::Auto) {
                file::WatchMode::Auto => None,
                file::WatchMode::Events => Some(Mode::Events),
                file::WatchMode::Poll => Some(Mode::Poll),
            },
            poll: file.poll.map_or(defaults.poll, |poll| poll.0),
            rescan: file.rescan.map_or(defaults.rescan, |rescan| rescan.0),
        };
        let times = [("poll", watching.poll), ("rescan", watching.rescan)];
        let short = times.into_iter().find(|(_, time)| *time < SHORTEST_POLL);
        if let Some((name, time)) = short {
            let message = format!("is {time:?}, but must be at least {SHORTEST_POLL:?}");
            self.checked.report(&format!("watch.{name}"), message);
        }
        short.is_none().then_some(watching)
    }
}
