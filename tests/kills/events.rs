//! The event files of a run, as far as it matters that nothing is in them twice.

use std::path::Path;

/// Bytes before an event, of which the first eight are its length, and behind it.
const HEAD: usize = 12;
const TAIL: usize = 4;
/// The first event of each file says this.
const BEGINS: &[u8] = b"brain.Event";

/// Every event in the files of the three runs, by run and sorted.
pub(crate) fn events(directory: &Path) -> Vec<Vec<Vec<u8>>> {
    ["target", "baseline", "pair"].map(|run| of_run(&directory.join(run))).to_vec()
}

fn of_run(directory: &Path) -> Vec<Vec<u8>> {
    let mut events = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("read");
        let mut rest = bytes.as_slice();
        while let Some((head, behind)) = rest.split_at_checked(HEAD) {
            let length = u64::from_le_bytes(head[..8].try_into().expect("eight bytes")) as usize;
            // A kill may cut the last one off.
            let Some((event, behind)) = behind.split_at_checked(length) else { break };
            let Some((_, behind)) = behind.split_at_checked(TAIL) else { break };
            if !event.windows(BEGINS.len()).any(|part| part == BEGINS) {
                events.push(event.to_vec());
            }
            rest = behind;
        }
    }
    events.sort();
    events
}
