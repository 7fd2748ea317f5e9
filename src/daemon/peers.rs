//! Whether one network has fallen silent while the other goes on: told, never decided upon.
//!
//! A network is stale when the other has brought two checkpoints or more since its last one, the newest of
//! them at least `pairing.stale` later. Two, because trainings that save in turn bring one. It is stale no
//! longer with its next checkpoint.

use crate::role::Role;
use std::time::{Duration, Instant};

/// Arrivals of both networks.
pub(super) struct Peers {
    patience: Duration,
    /// Of the last checkpoint, or the start.
    last: [Instant; 2],
    /// Checkpoints of the other since.
    missed: [u32; 2],
    stale: [bool; 2],
}

impl Peers {
    pub(super) fn new(patience: Duration, now: Instant) -> Self {
        Self { patience, last: [now; 2], missed: [0; 2], stale: [false; 2] }
    }

    /// Takes an arrival: whose staleness has changed, and to what.
    pub(super) fn arrived(&mut self, role: Role, now: Instant) -> Vec<(Role, bool)> {
        let (own, other) = (role.index(), 1 - role.index());
        let mut changes = Vec::new();
        (self.last[own], self.missed[own]) = (now, 0);
        if std::mem::replace(&mut self.stale[own], false) {
            changes.push((role, false));
        }
        self.missed[other] += 1;
        let is_late = now.saturating_duration_since(self.last[other]) >= self.patience;
        if self.missed[other] >= 2 && is_late && !std::mem::replace(&mut self.stale[other], true) {
            changes.push((Role::BOTH[other], true));
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_silent_one_is_stale_until_its_next_checkpoint() {
        let start = Instant::now();
        let at = |minutes: u64| start + Duration::from_secs(60 * minutes);
        let mut peers = Peers::new(Duration::from_secs(600), start);
        assert!(peers.arrived(Role::Target, at(1)).is_empty());
        assert!(peers.arrived(Role::Baseline, at(2)).is_empty());
        assert!(peers.arrived(Role::Target, at(11)).is_empty(), "9 minutes");
        assert_eq!(peers.arrived(Role::Target, at(12)), [(Role::Baseline, true)]);
        assert!(peers.arrived(Role::Target, at(20)).is_empty(), "said once");
        assert_eq!(peers.arrived(Role::Baseline, at(21)), [(Role::Baseline, false)]);
    }

    #[test]
    fn trainings_that_save_in_turn_are_not_stale() {
        let start = Instant::now();
        let mut peers = Peers::new(Duration::from_secs(600), start);
        for turn in 1..20 {
            let now = start + Duration::from_secs(900 * turn);
            assert!(peers.arrived(Role::BOTH[(turn % 2) as usize], now).is_empty());
        }
    }
}
