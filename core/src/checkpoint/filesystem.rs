//! Which file systems tell of changes (DESIGN section 5).
//!
//! inotify sees what this machine does. What another machine, or a process behind FUSE, writes gives no
//! event and no error; overlay mounts give none for changes below them. There the directory is polled;
//! events still wake the watcher earlier where they come.

use std::path::Path;
use std::time::Duration;

/// Attributes of a remote file may be out of date for so long (NFS: `acregmin`, 3 s).
const REMOTE_SETTLE: Duration = Duration::from_secs(3);

/// How a watcher knows when to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Events, and a timer.
    Events,
    /// A short timer.
    Poll,
}

impl Mode {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Events, Self::Poll];

    /// The name in metrics and the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Poll => "poll",
        }
    }
}

/// How directories are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watching {
    /// The mode, or none to choose by the file system.
    pub mode: Option<Mode>,
    /// Time between two scans where there are no events.
    pub poll: Duration,
    /// Time between two scans where there are.
    pub rescan: Duration,
}

impl Default for Watching {
    fn default() -> Self {
        Self { mode: None, poll: Duration::from_secs(2), rescan: Duration::from_secs(30) }
    }
}

/// What a file system is, as far as watching goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    magic: u32,
    name: &'static str,
    /// Whether attributes may be out of date.
    is_remote: bool,
}

const fn remote(magic: u32, name: &'static str) -> Kind {
    Kind { magic, name, is_remote: true }
}

/// Those whose events are not to be trusted, by the `f_type` of statfs.
const SILENT: [Kind; 17] = [
    remote(0x6969, "NFS"),
    remote(0x517B, "SMB"),
    remote(0xFF53_4D42, "CIFS"),
    remote(0xFE53_4D42, "SMB2"),
    remote(0x6573_5546, "FUSE"),
    remote(0x0102_1997, "9p"),
    remote(0x0BD0_0BD0, "Lustre"),
    remote(0x4750_4653, "GPFS"),
    remote(0x1983_0326, "BeeGFS"),
    remote(0x00C3_6400, "Ceph"),
    remote(0x5346_414F, "AFS"),
    remote(0x7375_7245, "Coda"),
    remote(0x2003_0528, "OrangeFS"),
    remote(0x7461_636F, "OCFS2"),
    remote(0x0116_1970, "GFS2"),
    remote(0x786F_4256, "vboxsf"),
    Kind { magic: 0x794C_7630, name: "overlay", is_remote: false },
];

/// What was chosen for a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The mode.
    pub mode: Mode,
    /// Why.
    pub reason: String,
    /// How long a file there must be unchanged.
    pub settle: Duration,
}

/// Chooses for an existing directory.
pub fn choose(directory: &Path, wanted: Option<Mode>) -> Choice {
    let magic = rustix::fs::statfs(directory).map(|found| found.f_type as u32);
    decide(magic.map_err(|error| error.to_string()), wanted)
}

fn decide(magic: Result<u32, String>, wanted: Option<Mode>) -> Choice {
    let silent = |magic: &u32| SILENT.into_iter().find(|kind| kind.magic == *magic);
    let (mode, reason, is_remote) = match magic.as_ref().map(silent) {
        Err(error) => (Mode::Poll, format!("its file system is not known: {error}"), true),
        Ok(Some(kind)) => {
            let reason = format!("events of {} are not to be trusted", kind.name);
            (Mode::Poll, reason, kind.is_remote)
        }
        Ok(None) => (Mode::Events, "its file system gives events".to_owned(), false),
    };
    let settle = if is_remote { REMOTE_SETTLE } else { super::directory::SETTLE };
    match wanted {
        Some(mode) => Choice { mode, reason: "`watch.mode` says so".to_owned(), settle },
        None => Choice { mode, reason, settle },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_file_systems_are_polled_unless_the_user_knows_better() {
        for (magic, name) in [(0x6969, "NFS"), (0xFE53_4D42, "SMB2"), (0x794C_7630, "overlay")] {
            let choice = decide(Ok(magic), None);
            assert_eq!(choice.mode, Mode::Poll);
            assert!(choice.reason.contains(name), "{}", choice.reason);
            assert_eq!(decide(Ok(magic), Some(Mode::Events)).mode, Mode::Events);
        }
        assert_eq!(decide(Ok(0x6969), Some(Mode::Events)).settle, REMOTE_SETTLE);
        assert_eq!(decide(Ok(0xEF53), None).mode, Mode::Events, "ext4");
        assert_eq!(decide(Ok(0xEF53), Some(Mode::Poll)).mode, Mode::Poll);
        assert_eq!(decide(Err("gone".to_owned()), None).mode, Mode::Poll);
    }

    #[test]
    fn a_real_directory_is_judged() {
        // procfs takes watches like any other; what matters is that statfs is asked at all.
        assert_eq!(choose(Path::new("/proc"), None).mode, Mode::Events);
        assert_eq!(choose(Path::new("/not/there"), None).mode, Mode::Poll);
    }
}
