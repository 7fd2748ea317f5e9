//! The value cache: bounded, and never believed where it is damaged.

use crate::bench::{Bench, assert_says};
use std::path::PathBuf;

fn entries(bench: &Bench) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(bench.path("state/values")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Forgets everything but the value tables.
fn forget(bench: &Bench) {
    for name in ["history.sqlite", "history.sqlite-wal", "history.sqlite-shm"] {
        // The last reader may have removed the others already.
        let _ = std::fs::remove_file(bench.path("state").join(name));
    }
    std::fs::remove_dir_all(bench.path("control")).unwrap();
}

#[test]
fn damaged_value_tables_are_computed_again() {
    let Some(bench) = Bench::with_steps(&[1, 2, 3]) else { return };
    bench.once().expect(0, &[]);
    let pairs = bench.pairs();
    let good = entries(&bench).into_iter().map(|path| (std::fs::read(&path).unwrap(), path));
    let good: Vec<(Vec<u8>, PathBuf)> = good.collect();
    assert_eq!(good.len(), 6);
    for (number, (bytes, path)) in good.iter().enumerate() {
        let mut bytes = bytes.clone();
        let last = bytes.len() - 1;
        match number % 3 {
            0 => bytes[last] ^= 0x40,
            1 => bytes.truncate(last),
            _ => bytes.clear(),
        }
        std::fs::write(path, bytes).unwrap();
    }
    forget(&bench);
    let said = bench.once();
    said.expect(0, &[]);
    assert_eq!(said.err.matches("is damaged; it is computed again").count(), 6, "{}", said.err);
    assert_eq!(bench.pairs(), pairs);
    for (bytes, path) in &good {
        assert_eq!(&std::fs::read(path).unwrap(), bytes, "{}", path.display());
    }
}

#[test]
fn the_cache_keeps_to_its_size_and_status_says_so() {
    let Some(bench) = Bench::with_steps(&[1, 2, 3]) else { return };
    bench.once().expect(0, &[]);
    let cache = |bench: &Bench| bench.status()["value_cache"].clone();
    let all = cache(&bench);
    assert_eq!((&all["tables"], &all["size"]), (&6.into(), &(10u64 << 30).into()));
    let pairs = bench.pairs();
    forget(&bench);
    std::fs::remove_dir_all(bench.path("state/values")).unwrap();
    // Room for four of them.
    let size = all["bytes"].as_u64().unwrap() * 2 / 3 / 1024 + 1;
    bench.configure(&[("compute:", &format!("cache: {{size: {size}KiB}}\ncompute:"))]);
    bench.once().expect(0, &[]);
    assert_eq!(bench.pairs(), pairs);
    let some = cache(&bench);
    let (tables, bytes) = (some["tables"].as_u64().unwrap(), some["bytes"].as_u64().unwrap());
    assert!((2..=4).contains(&tables) && bytes <= 1024 * size, "{some}");
    let status = bench.command(&["status", "-c", "run.yaml"]);
    assert_says(&status.out, &[&format!("value cache {tables} tables"), " KiB of "]);
    // Without any room only the pair at work is kept.
    forget(&bench);
    bench.configure(&[("compute:", "cache: {size: 0KiB}\ncompute:")]);
    bench.once().expect(0, &[]);
    assert_eq!(bench.pairs(), pairs);
    assert!(entries(&bench).len() <= 2, "{:?}", entries(&bench));
}
