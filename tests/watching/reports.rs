//! What is said of a directory whose checkpoints cannot be read.

use crate::world::settings;
use convergd::checkpoint::{Directory, Event, Moment};
use convergd::layout::Layout;
use std::collections::HashSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// What ten looks report, a second apart.
fn reports(layout: Layout, run: &Path) -> Vec<Event> {
    let pins = run.with_extension("pins");
    let mut directory = Directory::new(settings(layout, run), pins, HashSet::new());
    let start = Instant::now();
    let looks = (0..10u64).map(|second| Moment {
        monotonic: start + Duration::from_secs(second),
        wall: SystemTime::now(),
    });
    let reported: Vec<Event> = looks.flat_map(|now| directory.look(now)).collect();
    assert!(!directory.is_unsettled(), "all that is there has been said");
    reported
}

#[test]
fn a_checkpoint_whose_files_cannot_be_listed_is_quarantined_once_with_the_reason() {
    let home = tempfile::tempdir().unwrap();
    let run = home.path().join("run");
    for name in ["checkpoint-7", "logs"] {
        std::fs::create_dir_all(run.join(name)).unwrap();
        for number in 0..=20_000 {
            std::fs::File::create(run.join(name).join(format!("{number}"))).unwrap();
        }
    }
    let closed = run.join("checkpoint-8");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
    // The superuser may list it, and finds it empty.
    let is_listed = std::fs::read_dir(&closed).is_ok();
    let of_closed = if is_listed { "holds neither" } else { "Permission denied" };
    let quarantined: Vec<_> = reports(Layout::Hf, &run)
        .into_iter()
        .filter_map(|event| match event {
            Event::Quarantined { step, path, reason, .. } => Some((step, path, reason)),
            _ => None,
        })
        .collect();
    let [(7, full, too_many), (8, closed_too, denied)] = &quarantined[..] else {
        panic!("{quarantined:?}")
    };
    assert_eq!((full, closed_too), (&run.join("checkpoint-7"), &closed));
    assert!(too_many.contains("more than 20000 files"), "{too_many}");
    assert!(denied.contains(of_closed), "{denied}");
    std::fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
}
