//! Event files on a real directory; that TensorBoard reads them is tested in Python.

use super::event::What;
use super::*;
use crate::history::invented::{history, notice, pair, stop, store};
use std::fs::OpenOptions;

/// Everything in the files of a run, in the order in which TensorBoard reads it.
fn events(directory: &Path, run: &str) -> Vec<event::Event> {
    files(directory, run)
        .iter()
        .flat_map(|path| record::events(&std::fs::read(path).expect("read")).collect::<Vec<_>>())
        .collect()
}

fn files(directory: &Path, run: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory.join(run)).expect("a directory");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// The steps of the pairs in the files of a run.
fn steps(directory: &Path, run: &str) -> Vec<i64> {
    let all = events(directory, run);
    let is_pair = |event: &&event::Event| {
        event.values().is_some_and(|values| values[0].tag != curves::DECISIONS)
    };
    all.iter().filter(is_pair).map(|event| event.step).collect()
}

fn append(directory: &Path, history: &History) -> Result<(), EventError> {
    EventFiles::open(directory, history)?.append(history)
}

#[test]
fn a_start_goes_on_in_a_new_file_and_writes_no_pair_twice() {
    let [state, place] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let (mut history, place) = (history(state.path(), &[10, 20]), place.path());
    let mut files_of_first = EventFiles::open(place, &history).expect("opened");
    files_of_first.append(&history).expect("written");
    store(&mut history, &pair(30), Some(&stop(30)), &[notice(30)]);
    files_of_first.append(&history).expect("written");
    files_of_first.append(&history).expect("written");
    drop(files_of_first);
    for run in ["target", "baseline", "pair"] {
        assert_eq!((steps(place, run), files(place, run).len()), (vec![10, 20, 30], 1), "{run}");
    }
    append(place, &history).expect("nothing is new");
    assert_eq!(files(place, "pair").len(), 1);
    store(&mut history, &pair(40), None, &[]);
    append(place, &history).expect("written");
    let all = events(place, "pair");
    let begins = all.iter().filter(|event| matches!(event.what, Some(What::FileVersion(_))));
    assert_eq!((begins.count(), files(place, "pair").len()), (2, 2));
    assert_eq!(steps(place, "pair"), [10, 20, 30, 40]);
    let tagged = |tag: &str| {
        let values = all.iter().filter_map(event::Event::values).flatten();
        values.filter(|value| value.tag == tag).count()
    };
    assert_eq!((tagged(curves::DECISIONS), tagged("notices"), tagged("probe_loss")), (1, 1, 4));
}

#[test]
fn what_a_crash_has_cut_off_is_written_again() {
    let [state, place] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let (history, place) = (history(state.path(), &[10, 20, 30]), place.path());
    append(place, &history).expect("written");
    let file = files(place, "target").remove(0);
    let length = std::fs::metadata(&file).expect("there").len();
    OpenOptions::new().write(true).open(&file).and_then(|f| f.set_len(length - 1)).expect("cut");
    assert_eq!(steps(place, "target"), [10, 20]);
    append(place, &history).expect("written");
    for run in ["target", "baseline", "pair"] {
        assert_eq!(steps(place, run), [10, 20, 30], "{run}");
    }
    assert_eq!(files(place, "baseline").len(), 1);
}

#[test]
fn files_that_are_removed_meanwhile_are_written_anew() {
    let [state, place] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let mut history = history(state.path(), &[10]);
    let place = place.path().join("events");
    let mut open = EventFiles::open(&place, &history).expect("opened");
    open.append(&history).expect("written");
    std::fs::remove_dir_all(&place).expect("removed");
    store(&mut history, &pair(20), None, &[]);
    let said = open.append(&history).expect_err("they are gone").to_string();
    assert!(said.contains("removed") && said.contains("events"), "{said}");
    drop(open);
    append(&place, &history).expect("written");
    assert_eq!(steps(&place, "pair"), [10, 20]);
}

#[test]
fn nobody_else_writes_there_and_no_other_run() {
    let [state, other, place] = [(); 3].map(|()| tempfile::tempdir().expect("a directory"));
    let own = history(state.path(), &[10, 20]);
    let mut open = EventFiles::open(place.path(), &own).expect("opened");
    assert!(matches!(EventFiles::open(place.path(), &own), Err(EventError::Held { .. })));
    open.append(&own).expect("written");
    drop(open);
    let mut later = pair(20);
    later.time += 0.5;
    let mut others = history(other.path(), &[10]);
    store(&mut others, &later, None, &[]);
    let refused = append(place.path(), &others).expect_err("not its files");
    assert!(matches!(refused, EventError::Foreign { step: 20, .. }), "{refused}");
    assert_eq!(steps(place.path(), "pair"), [10, 20]);
}

#[test]
fn a_pair_that_is_not_finite_is_written_without_monitors() {
    let [state, place] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let mut history = history(state.path(), &[10]);
    let (monitors, strengths) = Default::default();
    let broken = crate::history::PairRow { finite: false, monitors, strengths, ..pair(20) };
    store(&mut history, &broken, None, &[]);
    append(place.path(), &history).expect("written");
    store(&mut history, &pair(30), None, &[]);
    append(place.path(), &history).expect("written");
    for run in ["target", "baseline", "pair"] {
        let all = events(place.path(), run);
        let all: Vec<i64> = all.iter().filter(|e| e.values().is_some()).map(|e| e.step).collect();
        assert_eq!(all, [10, 20, 30], "{run}");
    }
}
