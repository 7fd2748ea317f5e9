//! How a thread that works for long stands back behind a training on the same machine.

use rustix::process::{getpriority_process, setpriority_process};

/// Gives the calling thread a niceness, which on Linux is its own and that of those that it will start; elsewhere it is
/// the process's. One that stands further back already stays there.
///
/// # Errors
/// What the system refuses.
pub fn stand_back_to(nice: i32) -> std::io::Result<()> {
    match getpriority_process(None)? {
        now if now >= nice => Ok(()),
        _ => Ok(setpriority_process(None, nice)?),
    }
}

/// Of the threads that evaluate, extract and read checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priority {
    /// As of nice(1), 0 to 19: at 10 a thread gets a tenth of what one at 0 gets, where both want the same core.
    pub nice: u8,
    /// For the disk.
    pub io: IoPriority,
}

impl Default for Priority {
    fn default() -> Self {
        Self { nice: 10, io: IoPriority::Low }
    }
}

/// As of ionice(1); not every scheduler of a disk heeds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoPriority {
    /// As any other process.
    Normal,
    /// Best effort, after all others: level 7.
    Low,
    /// Only while nobody else wants the disk.
    Idle,
}

/// A text that names no priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write `normal`, `low` or `idle`")]
pub struct UnknownIoPriority;

impl std::str::FromStr for IoPriority {
    type Err = UnknownIoPriority;

    fn from_str(text: &str) -> Result<Self, UnknownIoPriority> {
        let all = [Self::Normal, Self::Low, Self::Idle];
        all.into_iter().find(|priority| priority.name() == text).ok_or(UnknownIoPriority)
    }
}

impl IoPriority {
    /// The name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Low => "low",
            Self::Idle => "idle",
        }
    }
}
