//! What the process at work tells who looks on: that something has changed, and what is in no history.

use std::sync::Arc;
use tokio::sync::watch;

/// What only the process at work knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The devices of the networks that are in use.
    pub device: String,
    /// Newest checkpoint of (target, baseline), a training step.
    pub newest: [Option<u64>; 2],
    /// Checkpoints that wait to be evaluated.
    pub waiting: usize,
    /// The step of the pair that is evaluated.
    pub evaluating: Option<u64>,
    /// Whether the run is over, and its end is all that is served.
    pub is_over: bool,
}

/// The latest of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bulletin {
    /// Grows with every change.
    pub number: u64,
    /// The step of the last pair that was stored.
    pub pair: Option<u64>,
    /// The generation of the last decision.
    pub decision: Option<u64>,
    /// Where the process stands.
    pub standing: Standing,
    /// Whether nothing more comes.
    pub is_last: bool,
}

/// A board with the latest bulletin. Who tells never waits, and who is slow misses what has become old.
#[derive(Clone, Debug, Default)]
pub struct News(Arc<watch::Sender<Bulletin>>);

impl News {
    /// Something in the history is another.
    pub fn changed(&self) {
        self.tell(|_| {});
    }

    /// A pair was stored.
    pub fn pair(&self, step: u64) {
        self.tell(|bulletin| bulletin.pair = Some(step));
    }

    /// A decision was taken.
    pub fn decision(&self, generation: u64) {
        self.tell(|bulletin| bulletin.decision = Some(generation));
    }

    /// The process stands elsewhere; nothing is told where it does not.
    pub fn stand(&self, change: impl FnOnce(&mut Standing)) {
        self.0.send_if_modified(|bulletin| {
            let before = bulletin.standing.clone();
            change(&mut bulletin.standing);
            let is_other = bulletin.standing != before;
            bulletin.number += u64::from(is_other);
            is_other
        });
    }

    /// Nothing more comes.
    pub fn end(&self) {
        self.tell(|bulletin| bulletin.is_last = true);
    }

    /// The latest bulletin.
    pub fn latest(&self) -> Bulletin {
        self.0.borrow().clone()
    }

    /// Follows them from the latest one on, which counts as seen.
    pub fn follow(&self) -> watch::Receiver<Bulletin> {
        self.0.subscribe()
    }

    fn tell(&self, change: impl FnOnce(&mut Bulletin)) {
        self.0.send_modify(|bulletin| {
            bulletin.number += 1;
            change(bulletin);
        });
    }
}
