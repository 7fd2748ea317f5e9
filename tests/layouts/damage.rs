//! Small files of every layout, cut at every byte and with bits flipped: refused, or a number is another
//! one and no more.

use crate::fixture::{fixture, read_all};
use convergd::layout::{Layout, Limits};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Flips tried of a file, about: every bit of one of up to 500 bytes, of larger ones a sample.
const MOST_FLIPS: usize = 4000;
/// Memory that a reader of these files of some kilobytes may ask for, used or not, in bytes.
const MEMORY: u64 = 128 << 20;
/// Tells the process that it is the one with little memory, and where the fixtures lie.
const FIXTURES: &str = "CONVERGD_TEST_FIXTURES";

/// A file that is damaged, and the checkpoint that it is or belongs to.
struct Case {
    layout: Layout,
    name: &'static str,
    /// What of it has a checksum, so that no change of a tensor passes.
    has_checksums: bool,
    bytes: Vec<u8>,
    directory: tempfile::TempDir,
    /// In a directory of Hugging Face.
    file_inside: Option<&'static str>,
}

/// One of each reader.
const CASES: [(Layout, &str, Option<&str>, bool); 8] = [
    (Layout::Torch, "plain.pt", None, true),
    (Layout::Torch, "legacy.pt", None, false),
    (Layout::Torch, "nested_legacy.pth", None, false),
    (Layout::Torchscript, "traced-7.pt", None, true),
    (Layout::Lightning, "last.ckpt", None, true),
    (Layout::Safetensors, "checkpoint-8/model-00004-of-00004.safetensors", None, false),
    (Layout::Hf, "checkpoint-8", Some("model.safetensors.index.json"), true),
    (Layout::Hf, "checkpoint-8", Some("model-00004-of-00004.safetensors"), false),
];

impl Case {
    fn all(good: &Path) -> impl Iterator<Item = Self> {
        CASES.into_iter().map(|(layout, name, file_inside, has_checksums)| {
            let directory = tempfile::tempdir().unwrap();
            let from = good.join(name);
            let original = match file_inside {
                None => from,
                Some(damaged) => {
                    for entry in std::fs::read_dir(&from).unwrap() {
                        let entry = entry.unwrap();
                        std::fs::copy(entry.path(), directory.path().join(entry.file_name()))
                            .unwrap();
                    }
                    from.join(damaged)
                }
            };
            let bytes = std::fs::read(original).unwrap();
            Self { layout, name, has_checksums, bytes, directory, file_inside }
        })
    }

    fn checkpoint(&self) -> PathBuf {
        match self.file_inside {
            None => self.directory.path().join("damaged"),
            Some(_) => self.directory.path().to_owned(),
        }
    }

    fn write(&self, bytes: &[u8]) {
        let name = self.file_inside.unwrap_or("damaged");
        std::fs::write(self.directory.path().join(name), bytes).unwrap();
    }

    /// Names and bytes of all tensors.
    fn tensors(&self) -> Result<Vec<(String, Vec<u8>)>, String> {
        let weights = read_all(self.layout, &self.checkpoint()).map_err(|flaw| flaw.to_string())?;
        Ok(weights.tensors.iter().map(|t| (t.name.clone(), t.read().unwrap())).collect())
    }
}

/// What is cut is refused, or is the whole: an index of shards may lack the line's end after its brace.
#[test]
fn every_truncation_is_refused_by_every_reader_or_lacks_nothing() {
    let Some(fixture) = fixture() else { return };
    for case in Case::all(&fixture.good("")) {
        case.write(&case.bytes);
        let whole = case.tensors().unwrap();
        let needed = case.bytes.trim_ascii_end().len();
        let is_text = case.file_inside.is_some_and(|name| name.ends_with(".json"));
        for length in 0..case.bytes.len() {
            case.write(&case.bytes[..length]);
            match case.layout.check(&case.checkpoint(), &Limits::default()) {
                Err(_) => {}
                Ok(()) if is_text && length >= needed => assert_eq!(case.tensors().unwrap(), whole),
                Ok(()) => panic!("{}: {length} of {} bytes pass", case.name, case.bytes.len()),
            }
        }
    }
}

/// A flipped bit may change a number and no more; where there is a checksum it is seen. Nothing has a
/// checksum in safetensors and in the legacy form of `torch.save`: there a changed number, name or type
/// passes as long as the file is a whole one. The program then wants names and shapes of its own.
#[test]
fn no_flipped_bit_crashes_a_reader_or_costs_memory_and_checksums_are_compared() {
    match std::env::var_os(FIXTURES) {
        Some(good) => flip_all(Path::new(&good)),
        None => flip_all_in_a_process_with_little_memory(),
    }
}

fn flip_all_in_a_process_with_little_memory() {
    let Some(fixture) = fixture() else { return };
    let name = "damage::no_flipped_bit_crashes_a_reader_or_costs_memory_and_checksums_are_compared";
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(FIXTURES, fixture.good(""))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    eprintln!("{said}");
    assert!(output.status.success(), "{}: {said}", output.status);
    assert_eq!(said.matches("flips refused").count(), CASES.len(), "{said}");
}

fn flip_all(good: &Path) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let kilobytes: u64 = own.trim().trim_end_matches(" kB").parse().unwrap();
    let most = Some((kilobytes << 10) + MEMORY);
    let maximum = getrlimit(Resource::As).maximum;
    setrlimit(Resource::As, Rlimit { current: most, maximum }).unwrap();
    for case in Case::all(good) {
        flip(&case);
    }
}

fn flip(case: &Case) {
    case.write(&case.bytes);
    let wanted = case.tensors().unwrap();
    let bits = 8 * case.bytes.len();
    // An odd step comes to every bit of a byte.
    let step = (bits / MOST_FLIPS) | 1;
    let (mut refused, mut changed, mut tried) = (0, 0, 0);
    for bit in (0..bits).step_by(step) {
        let mut flipped = case.bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        case.write(&flipped);
        tried += 1;
        match case.tensors() {
            Err(_) => refused += 1,
            Ok(found) => changed += usize::from(found != wanted),
        }
    }
    let same = tried - refused - changed;
    eprintln!(
        "{} {}: {bits} bits; of {tried} tried {refused} flips refused, {changed} change a tensor, \
         {same} nothing",
        case.name,
        case.file_inside.unwrap_or_default()
    );
    assert!(!case.has_checksums || changed == 0, "{}: {changed} changes pass", case.name);
    assert!(refused > 0, "{}: nothing is ever refused", case.name);
}
