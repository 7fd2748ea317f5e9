//! What is free of the machine's memory, and of the limits that this process is under.

use std::path::Path;

/// Bytes that this process could have now; nothing where the system does not tell.
pub(super) fn free() -> Option<u64> {
    let free = free_under(Path::new("/"))?;
    Some(addressable().map_or(free, |left| left.min(free)))
}

/// What the limit of this process's addresses leaves (`ulimit -v`), where there is one.
fn addressable() -> Option<u64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current?;
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = pages.split_whitespace().next()?.parse().ok()?;
    Some(limit.saturating_sub(pages * rustix::param::page_size() as u64))
}

/// The same of a system whose files lie under a root.
fn free_under(root: &Path) -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).ok();
    let available = field(&read("proc/meminfo")?, "MemAvailable:")?.checked_mul(1 << 10)?;
    let groups = read("proc/self/cgroup").unwrap_or_default();
    let limits = groups.lines().flat_map(|line| limits(root, line));
    Some(limits.fold(available, u64::min))
}

/// What the limits of a control group leave, its own and those of the groups that it is in. `line` is one of
/// `/proc/self/cgroup`: number, controllers (none in version 2), path.
fn limits(root: &Path, line: &str) -> Vec<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { return Vec::new() };
    let (mount, limit, used, reclaimable) = match controllers {
        "" => (
            "sys/fs/cgroup",
            "memory.max",
            "memory.current",
            ["inactive_file", "active_file", "slab_reclaimable"],
        ),
        named if named.split(',').any(|name| name == "memory") => (
            "sys/fs/cgroup/memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            ["total_inactive_file", "total_active_file", "slab_reclaimable"],
        ),
        _ => return Vec::new(),
    };
    let mount = root.join(mount);
    // A container sees its own group as the mount, whatever its path is outside.
    let group = mount.join(path.trim_start_matches('/'));
    let number = |path: &Path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let left = |group: &Path| {
        // `max` is no number, and no limit.
        let limit = number(&group.join(limit))?;
        let stat = std::fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let back: u64 = reclaimable.iter().filter_map(|name| field(&stat, name)).sum();
        let used = number(&group.join(used))?.saturating_sub(back);
        Some(limit.saturating_sub(used))
    };
    group.ancestors().take_while(|group| group.starts_with(&mount)).filter_map(left).collect()
}

/// The number behind a name, at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| (words.next()? == name).then(|| words.next()?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A system with 8 GiB free, and these files.
    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        let meminfo = "MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:    8388608 kB\n";
        for (path, text) in [("proc/meminfo", meminfo)].iter().chain(files) {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        root
    }

    #[test]
    fn without_limits_it_is_what_the_machine_has() {
        assert_eq!(free_under(system(&[]).path()), Some(8 << 30));
        let unlimited = system(&[
            ("proc/self/cgroup", "0::/user.slice\n"),
            ("sys/fs/cgroup/user.slice/memory.max", "max\n"),
            ("sys/fs/cgroup/user.slice/memory.current", "1024\n"),
        ]);
        assert_eq!(free_under(unlimited.path()), Some(8 << 30));
        let nothing = tempfile::tempdir().expect("a directory");
        assert_eq!(free_under(nothing.path()), None);
    }

    #[test]
    fn the_tightest_of_all_limits_above_counts() {
        // A unit of 4 GiB, of which 1 GiB is used and half of that could go, in a slice of which 2 GiB are left.
        let unit = [
            ("proc/self/cgroup", "0::/a.slice/b.service\n"),
            ("sys/fs/cgroup/a.slice/b.service/memory.max", "4294967296\n"),
            ("sys/fs/cgroup/a.slice/b.service/memory.current", "1073741824\n"),
            (
                "sys/fs/cgroup/a.slice/b.service/memory.stat",
                "anon 1\ninactive_file 536870000\nactive_file 912\n",
            ),
        ];
        assert_eq!(free_under(system(&unit).path()), Some((4 << 30) - (1 << 29)));
        let slice = [
            ("sys/fs/cgroup/a.slice/memory.max", "6442450944\n"),
            ("sys/fs/cgroup/a.slice/memory.current", "4294967296\n"),
        ];
        assert_eq!(free_under(system(&[&unit[..], &slice[..]].concat()).path()), Some(2 << 30));
    }

    #[test]
    fn a_container_whose_group_is_the_mount_and_the_first_version_of_groups_are_understood() {
        let container = system(&[
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "1073741824\n"),
            ("sys/fs/cgroup/memory.current", "0\n"),
        ]);
        assert_eq!(free_under(container.path()), Some(1 << 30));
        let first = system(&[
            ("proc/self/cgroup", "12:cpu,cpuacct:/job\n4:memory:/docker/abc\n"),
            // Seen from inside, the path of the host does not exist.
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "1073741824\n"),
            ("sys/fs/cgroup/memory/memory.stat", "cache 7\ntotal_inactive_file 1024\n"),
        ]);
        assert_eq!(free_under(first.path()), Some((1 << 30) + 1024));
    }

    #[test]
    fn more_used_than_is_allowed_leaves_nothing() {
        let full = system(&[
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "10\n"),
            ("sys/fs/cgroup/memory.current", "20\n"),
        ]);
        assert_eq!(free_under(full.path()), Some(0));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_tells() {
        assert!(free().is_some_and(|free| free > 1 << 20), "{:?}", free());
    }
}
