//! The cache on real files, shared and damaged.

use super::*;

const TABLE: usize = 1024;

fn values(seed: f64) -> ProbeValues {
    let table = |sample: usize| (0..TABLE).map(|s| seed + (sample * TABLE + s) as f64).collect();
    let logits = vec![vec![seed, f64::NEG_INFINITY]; 2];
    ProbeValues { values: (0..2).map(table).collect(), logits, reference: Vec::new() }
}

fn key(number: usize) -> blake3::Hash {
    blake3::hash(&number.to_le_bytes())
}

/// A directory with the cache, and checkpoints beside it.
struct Bench {
    root: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { root: tempfile::tempdir().expect("a directory") }
    }

    fn directory(&self) -> PathBuf {
        self.root.path().join("values")
    }

    fn cache(&self, size: u64) -> ValueCache {
        ValueCache::new(self.directory(), size)
    }

    /// A checkpoint that is there until it is removed.
    fn pin(&self, number: usize) -> PathBuf {
        let pin = self.root.path().join(format!("pin-{number}"));
        std::fs::write(&pin, "").expect("written");
        pin
    }

    /// Keeps values, whose checkpoint is then gone; used in the order of the numbers, an hour ago.
    fn fill(&self, cache: &mut ValueCache, number: usize) -> u64 {
        let pin = self.pin(number);
        let evicted = cache.keep(&key(number), &pin, &values(number as f64)).expect("kept");
        std::fs::remove_file(pin).expect("removed");
        self.date(number);
        evicted
    }

    fn date(&self, number: usize) {
        let file = File::options().write(true).open(self.entry(number)).expect("there");
        let then = SystemTime::now() - Duration::from_secs(3600 - number as u64);
        file.set_modified(then).expect("dated");
    }

    fn entry(&self, number: usize) -> PathBuf {
        self.cache(0).path(&key(number))
    }

    /// Which of the first so many are there.
    fn there(&self, count: usize) -> Vec<usize> {
        (0..count).filter(|&number| self.entry(number).exists()).collect()
    }
}

/// Bytes of one entry.
fn one() -> u64 {
    encode(&key(0), &values(0.0)).expect("encoded").len() as u64
}

fn hit(cache: &mut ValueCache, number: usize) -> Option<ProbeValues> {
    match cache.find(&key(number), Path::new("/no/checkpoint")) {
        Found::Hit(values) => Some(values),
        Found::Missed => None,
        Found::Damaged => panic!("{number} is damaged"),
    }
}

#[test]
fn what_is_kept_is_found_to_the_last_bit() {
    let bench = Bench::new();
    let mut cache = bench.cache(u64::MAX);
    assert_eq!(hit(&mut cache, 1), None);
    bench.fill(&mut cache, 1);
    assert_eq!(hit(&mut cache, 1), Some(values(1.0)));
    assert_eq!(hit(&mut bench.cache(0), 1), Some(values(1.0)), "in another process too");
    let look = |number| read(&bench.directory(), key(number).to_hex().as_str());
    assert_eq!((look(1), look(2)), (Some(values(1.0)), None));
    assert_eq!(usage(&bench.directory()).expect("listed"), Usage { tables: 1, bytes: one() });
    assert_eq!(cache.bytes(), one());
}

#[test]
fn the_least_recently_used_go_when_there_are_too_many() {
    let bench = Bench::new();
    let mut cache = bench.cache(4 * one());
    let evicted: u64 = (0..4).map(|number| bench.fill(&mut cache, number)).sum();
    assert_eq!((evicted, bench.there(9)), (0, vec![0, 1, 2, 3]));
    assert!(hit(&mut cache, 0).is_some(), "used once more");
    // Down to a sixteenth below the bound: of five, three may stay.
    assert_eq!(bench.fill(&mut cache, 4), 2);
    assert_eq!(bench.there(9), [0, 3, 4]);
    assert_eq!(cache.bytes(), 3 * one());
}

#[test]
fn one_that_is_only_filled_lets_none_go_and_keeps_no_more_than_a_run_would_leave() {
    let bench = Bench::new();
    let mut fill = [0, 1].map(|_| bench.cache(5 * one()).filled_only(2));
    // Of five, four may stay; each sees what the other has written.
    for number in 0..6 {
        let kept = fill[number % 2].keep(&key(number), Path::new("gone"), &values(0.0));
        match number {
            0..4 => assert_eq!(kept.expect("kept"), 0),
            _ => assert!(
                matches!(kept, Err(NotKept::Full { needed }) if needed == one()),
                "{kept:?}"
            ),
        }
    }
    assert_eq!(bench.there(9), [0, 1, 2, 3]);
    // One that is damaged is replaced where it was.
    std::fs::write(bench.entry(3), vec![0; one() as usize]).expect("written");
    assert!(matches!(fill[0].find(&key(3), Path::new("gone")), Found::Damaged));
    fill[0].keep(&key(3), Path::new("gone"), &values(0.0)).expect("kept");
    assert!(hit(&mut fill[0], 3).is_some());
    assert_eq!(bench.fill(&mut bench.cache(5 * one()), 0), 0, "a run leaves all of them");
    assert_eq!(bench.there(9), [0, 1, 2, 3]);
}

#[test]
fn several_that_fill_it_and_do_not_know_of_each_other_keep_to_its_bound() {
    let bench = Bench::new();
    let mut fill = [(); AT_ONCE].map(|()| bench.cache(256 * one()).filled_only(1));
    for number in 0..300 {
        let index = number % AT_ONCE;
        let _ = fill[index].keep(&key(number), Path::new("gone"), &values(0.0));
    }
    let kept = bench.there(300).len() as u64;
    assert_eq!(kept * one(), kept_bytes(256 * one()));
}

#[test]
fn what_a_checkpoint_that_is_still_there_needs_is_never_evicted() {
    let bench = Bench::new();
    let mut cache = bench.cache(2 * one());
    let fixed = bench.pin(0);
    cache.keep(&key(0), &fixed, &values(0.0)).expect("kept");
    bench.date(0);
    for number in 1..9 {
        bench.fill(&mut cache, number);
        assert!(bench.entry(0).exists(), "evicted after {number}");
        assert!(bench.entry(number).exists(), "the newest");
    }
    std::fs::remove_file(fixed).expect("removed");
    bench.fill(&mut cache, 9);
    assert!(!bench.entry(0).exists(), "it was the oldest all the while");
}

#[test]
fn what_another_process_needs_is_not_evicted_until_it_lets_go() {
    let bench = Bench::new();
    let (mut ours, mut theirs) = (bench.cache(2 * one()), bench.cache(u64::MAX));
    let pin = bench.pin(0);
    theirs.keep(&key(0), &pin, &values(0.0)).expect("kept");
    bench.date(0);
    for number in 1..5 {
        bench.fill(&mut ours, number);
        assert!(bench.entry(0).exists(), "evicted after {number}");
    }
    // As if it had been killed.
    drop(theirs);
    bench.fill(&mut ours, 5);
    assert!(!bench.entry(0).exists());
    assert!(usage(&bench.directory()).expect("listed").bytes <= 2 * one());
}

#[test]
fn a_damaged_entry_is_no_answer_and_is_replaced() {
    let bench = Bench::new();
    let mut cache = bench.cache(u64::MAX);
    bench.fill(&mut cache, 0);
    bench.fill(&mut cache, 1);
    let good = std::fs::read(bench.entry(0)).expect("there");
    let damaged = |bytes: &[u8]| {
        std::fs::write(bench.entry(0), bytes).expect("written");
        matches!(bench.cache(0).find(&key(0), Path::new("/no/checkpoint")), Found::Damaged)
    };
    assert!(!damaged(&good));
    assert!(damaged(&good[..good.len() - 8]), "cut off");
    assert!(damaged(b""));
    for place in (0..good.len()).step_by(97).chain([good.len() - 1]) {
        let mut bytes = good.clone();
        bytes[place] ^= 1;
        assert!(damaged(&bytes), "a bit of byte {place}");
    }
    let other = std::fs::read(bench.entry(1)).expect("there");
    assert!(damaged(&other), "whole, but of another checkpoint");
    bench.fill(&mut cache, 0);
    assert_eq!(hit(&mut cache, 0), Some(values(0.0)));
}

#[test]
fn files_that_are_removed_by_hand_are_missed_and_counted_no_more() {
    let bench = Bench::new();
    let mut cache = bench.cache(4 * one());
    assert_eq!((0..3).map(|number| bench.fill(&mut cache, number)).sum::<u64>(), 0);
    std::fs::remove_file(bench.entry(1)).expect("removed");
    assert_eq!(hit(&mut cache, 1), None);
    bench.fill(&mut cache, 3);
    assert_eq!(cache.bytes(), 3 * one());
    std::fs::remove_dir_all(bench.directory()).expect("removed");
    assert_eq!(usage(&bench.directory()).expect("no error"), Usage::default());
    assert_eq!(hit(&mut cache, 3), None);
    bench.fill(&mut cache, 4);
    assert_eq!(hit(&mut cache, 4), Some(values(4.0)));
    assert_eq!(cache.bytes(), one());
}

#[test]
fn what_was_half_written_counts_for_nothing_and_goes_when_nobody_writes_it() {
    let bench = Bench::new();
    let mut cache = bench.cache(2 * one());
    bench.fill(&mut cache, 0);
    let half = |name: &str, age: u64| {
        let path = bench.directory().join(name);
        let file = File::create(&path).expect("made");
        (&file).write_all(&vec![0; 1 << 20]).expect("written");
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).expect("dated");
        (path, file)
    };
    let (abandoned, file) = half(".tmp-a.tmp", 120);
    drop(file);
    let (slow, file) = half(".tmp-b.tmp", 120);
    flock(&file, FlockOperation::LockExclusive).expect("locked, as a writer does");
    let (fresh, _file) = half(".tmp-c.tmp", 0);
    assert_eq!(bench.fill(&mut cache, 1), 0, "no room is needed for what does not count");
    assert_eq!([abandoned, slow, fresh].map(|path| path.exists()), [false, true, true]);
    assert_eq!(usage(&bench.directory()).expect("listed"), Usage { tables: 2, bytes: 2 * one() });
}

#[test]
fn many_at_once_never_read_anything_wrong() {
    let bench = Bench::new();
    std::thread::scope(|scope| {
        for turn in 0..4 {
            let bench = &bench;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(turn);
                let mut cache = bench.cache(3 * one());
                let pin = bench.pin(turn as usize);
                for _ in 0..200 {
                    let number = random.usize(0..6);
                    match cache.find(&key(number), &pin) {
                        Found::Hit(found) => assert_eq!(found, values(number as f64)),
                        Found::Missed => {
                            cache.keep(&key(number), &pin, &values(number as f64)).expect("kept");
                        }
                        Found::Damaged => panic!("{number} is damaged"),
                    }
                    if random.bool() {
                        cache.held.clear();
                    }
                }
            });
        }
    });
    let left = usage(&bench.directory()).expect("listed");
    assert!(left.tables >= 1 && left.bytes <= 6 * one(), "{left:?}");
}
