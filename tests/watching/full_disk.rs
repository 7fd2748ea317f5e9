//! Pins that cannot be made are tried again, and nothing is lost.

use crate::common::disk::SmallDisk;
use crate::world::settings;
use convergd::checkpoint::{Directory, Event, Moment};
use convergd::layout::Layout;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// A complete file of so many bytes of weights.
fn complete(bytes: usize) -> Vec<u8> {
    let header =
        format!(r#"{{"w":{{"dtype":"U8","shape":[{bytes}],"data_offsets":[0,{bytes}]}}}}"#);
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![7; bytes]].concat()
}

struct Looks {
    directory: Directory,
    start: Instant,
    number: u32,
}

impl Looks {
    fn new(directory: &Path, pins: PathBuf) -> Self {
        let settings = settings(Layout::Safetensors, directory);
        let directory = Directory::new(settings, pins, HashSet::new());
        Self { directory, start: Instant::now(), number: 0 }
    }

    /// Steps that become ready in three looks, a second apart.
    fn ready(&mut self) -> Vec<(u64, PathBuf)> {
        let mut ready = Vec::new();
        for _ in 0..3 {
            self.number += 1;
            let monotonic = self.start + Duration::from_secs(u64::from(self.number));
            let moment = Moment { monotonic, wall: SystemTime::now() };
            for event in self.directory.look(moment) {
                if let Event::Ready { checkpoint, .. } = event {
                    ready.push((checkpoint.step, checkpoint.pin));
                }
            }
        }
        ready
    }
}

#[test]
fn a_directory_for_pins_that_cannot_be_made_is_tried_again() {
    let home = tempfile::tempdir().unwrap();
    let (run, pins) = (home.path().join("run"), home.path().join("pins"));
    std::fs::create_dir(&run).unwrap();
    std::fs::write(run.join("step-1.safetensors"), complete(100)).unwrap();
    std::fs::write(&pins, "a file where the directory would be").unwrap();
    let mut looks = Looks::new(&run, pins.clone());
    assert!(looks.ready().is_empty());
    assert!(looks.ready().is_empty(), "later than the patience with damaged files");
    std::fs::remove_file(&pins).unwrap();
    let ready = looks.ready();
    assert_eq!(ready.len(), 1);
    assert_eq!(std::fs::read(&ready[0].1).unwrap(), complete(100));
}

#[test]
fn a_full_disk_is_tried_again_and_loses_nothing() {
    let home = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(home.path().join("state"), "256k") else {
        return;
    };
    let (run, pins) = (home.path().join("run"), disk.0.join("pins"));
    std::fs::create_dir(&run).unwrap();
    std::fs::create_dir(&pins).unwrap();
    std::fs::write(disk.0.join("something else"), vec![1; 150_000]).unwrap();
    // The second fits, the first does not: another file system, so these are copies. Nor does the third.
    std::fs::write(run.join("step-1.safetensors"), complete(150_000)).unwrap();
    std::fs::write(run.join("step-2.safetensors"), complete(10_000)).unwrap();
    std::fs::write(run.join("step-3.safetensors"), complete(150_000)).unwrap();
    let mut looks = Looks::new(&run, pins.clone());
    let steps =
        |ready: Vec<(u64, PathBuf)>| ready.into_iter().map(|(step, _)| step).collect::<Vec<_>>();
    assert_eq!(steps(looks.ready()), [2]);
    assert!(looks.ready().is_empty());
    assert_eq!(std::fs::read_dir(&pins).unwrap().count(), 1, "no part of the first is left");
    std::fs::remove_file(disk.0.join("something else")).unwrap();
    // Room for one of the two, which is the earlier one.
    let ready = looks.ready();
    assert_eq!(ready.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [1]);
    assert_eq!(std::fs::read(&ready[0].1).unwrap(), complete(150_000));
}
