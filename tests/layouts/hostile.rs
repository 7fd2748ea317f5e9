//! Damaged and hostile files: no crash, no execution, no memory that a file has no right to.

use crate::fixture::{fixture, python, read_all, reading};
use convergd::layout::{Layout, Limits};
use std::path::Path;
use std::process::Command;

/// One small file for each reader.
const READERS: [(Layout, &str); 6] = [
    (Layout::Torch, "plain.pt"),
    (Layout::Torch, "legacy.pt"),
    (Layout::Torch, "nested_legacy.pth"),
    (Layout::Torchscript, "traced-7.pt"),
    (Layout::Lightning, "last.ckpt"),
    (Layout::Safetensors, "checkpoint-8/model-00004-of-00004.safetensors"),
];

/// Flips tried of a file: of larger ones not every byte.
const MOST_FLIPS: usize = 4000;

#[test]
fn every_truncation_is_refused_by_every_reader() {
    let Some(fixture) = fixture() else { return };
    let directory = tempfile::tempdir().unwrap();
    for (layout, name) in READERS {
        let bytes = std::fs::read(fixture.good(name)).unwrap();
        let file = directory.path().join("truncated");
        for length in 0..bytes.len() {
            std::fs::write(&file, &bytes[..length]).unwrap();
            let checked = layout.check(&file, &Limits::default());
            assert!(checked.is_err(), "{name}: {length} of {} bytes pass", bytes.len());
        }
        std::fs::write(&file, &bytes).unwrap();
        layout.check(&file, &Limits::default()).expect(name);
    }
}

/// A flipped bit may change a number and no more; where there is a checksum it is seen.
#[test]
fn no_flipped_bit_crashes_a_reader_and_in_archives_a_changed_tensor_is_refused() {
    let Some(fixture) = fixture() else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("flipped");
    for (layout, name) in READERS {
        let bytes = std::fs::read(fixture.good(name)).unwrap();
        let data = |layout: Layout, path: &Path| -> Result<Vec<_>, String> {
            let weights = read_all(layout, path).map_err(|flaw| flaw.to_string())?;
            Ok(weights.tensors.iter().map(|t| (t.name.clone(), t.read().unwrap())).collect())
        };
        let wanted = data(layout, &fixture.good(name)).unwrap();
        let (mut refused, mut changed) = (0, 0);
        for at in (0..bytes.len()).step_by(1 + bytes.len() / MOST_FLIPS) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            std::fs::write(&file, flipped).unwrap();
            match data(layout, &file) {
                Err(_) => refused += 1,
                Ok(found) => changed += usize::from(found != wanted),
            }
        }
        eprintln!(
            "{name}: {} bytes, {refused} flips refused, {changed} change a tensor",
            bytes.len()
        );
        let has_checksums = bytes.starts_with(b"PK");
        assert!(!has_checksums || changed == 0, "{name}: {changed} changes pass a checksum");
        assert!(refused > 0, "{name}: nothing is ever refused");
    }
}

#[test]
fn nothing_in_a_pickle_is_run() {
    let Some(fixture) = fixture() else { return };
    for name in ["evil.pt", "evil_legacy.pt", "evil_top.pt"] {
        let path = fixture.bad(name);
        let _ = Layout::Torch.check(&path, &Limits::default());
        let _ = read_all(Layout::Torch, &path);
        let _ = Layout::Torch.step_inside(&path, &Limits::default());
        assert!(!fixture.mark.exists(), "{name} was run");
    }
    // It would be: PyTorch runs it where it is told to trust the file.
    let load = "import sys, torch; torch.load(sys.argv[1], weights_only=False)";
    let mark = tempfile::tempdir().unwrap();
    let evil = mark.path().join("evil.pt");
    let save = "\
import os, sys, torch
class Evil:
    def __reduce__(self): return os.system, ('touch ' + sys.argv[2],)
torch.save(Evil(), sys.argv[1])";
    let run = |code: &str| {
        let mut command = Command::new(python());
        command.args(["-c", code]).arg(&evil).arg(mark.path().join("mark"));
        assert!(command.status().unwrap().success());
    };
    run(save);
    assert!(read_all(Layout::Torch, &evil).is_err());
    assert!(!mark.path().join("mark").exists());
    run(load);
    assert!(mark.path().join("mark").exists(), "the file is harmless: it shows nothing");
}

#[test]
fn a_damaged_checkpoint_leaves_the_network_as_it_was() {
    let Some(fixture) = fixture() else { return };
    let networks = fixture.worker("program.ts", reading(Layout::Torch, None));
    let good = networks.evaluate(&fixture.good("plain.pt")).unwrap();
    let mut bytes = std::fs::read(fixture.good("plain.pt")).unwrap();
    // In the data of the last tensor but one, behind tensors that are good.
    let at = bytes.windows(6).rposition(|name| name == b"data/4").unwrap();
    let storage = bytes.windows(6).position(|name| name == b"data/4").unwrap();
    assert!(storage < at, "the name stands before the data and in the directory");
    let data = (storage + 64) / 64 * 64;
    bytes[data] ^= 0x10;
    let directory = tempfile::tempdir().unwrap();
    let damaged = directory.path().join("step-1.pt");
    std::fs::write(&damaged, bytes).unwrap();
    let error = networks.evaluate(&damaged).unwrap_err();
    assert!(error.is_of_checkpoint() && error.to_string().contains("checksum"), "{error}");
    let again = networks.evaluate(&fixture.good("plain.pt")).unwrap();
    assert_eq!((good.values, good.logits), (again.values, again.logits));
}

/// Archives and directories that ask for far more than they are.
#[test]
fn bombs_and_lies_are_refused_with_their_limit() {
    let Some(fixture) = fixture() else { return };
    let directory = tempfile::tempdir().unwrap();
    let make = "\
import io, json, pathlib, struct, sys, zipfile
root = pathlib.Path(sys.argv[1])
good = zipfile.ZipFile(sys.argv[2])
def archive(name, change={}, method=zipfile.ZIP_STORED, more={}):
    with zipfile.ZipFile(root / name, 'w', method) as out:
        for entry in good.namelist():
            out.writestr(entry, change.get(entry.split('/', 1)[1], good.read(entry)))
        for entry, data in more.items():
            out.writestr(entry, data)
archive('compressed.pt', {'data/0': bytes(1 << 28)}, zipfile.ZIP_DEFLATED)
archive('objects.pt', {'data.pkl': b'\\x80\\x02' + b'N' * 5_000_000 + b'.'})
archive('pickle.pt', {'data.pkl': b'\\x80\\x02X' + struct.pack('<I', 17 << 20) + bytes(17 << 20) + b'.'})
archive('twice.pt', more={'data.pkl': b'}.', 'x/data.pkl': b'}.'})
archive('outside.pt', more={'../../outside': b'x', '/etc/outside': b'x'})
archive('deep.pt', {'data.pkl': b'\\x80\\x02' + b'}' + b'X\\x01\\x00\\x00\\x00a' + b')' + b'\\x85' * 100_000 + b's.'})
import torch
tensor = torch.zeros(1)
torch.save({'k' * 100_000: [tensor] * 5_000}, root / 'names.pt')
legacy = open(sys.argv[3], 'rb').read()
(root / 'legacy_objects.pt').write_bytes(legacy[:19] + b'N' * 5_000_000 + b'.')
header = b'{\"w\":{\"dtype\":\"F32\",\"shape\":[1099511627776],\"data_offsets\":[0,4398046511104]}}'
(root / 'lie.safetensors').write_bytes(struct.pack('<Q', len(header)) + header + bytes(64))
(root / 'header.safetensors').write_bytes(struct.pack('<Q', 1 << 40) + b'{' * 64)
for name, text in {
    'up': {'weight_map': {'a': '../secret.safetensors'}},
    'absolute': {'weight_map': {'a': '/etc/passwd'}},
    'missing': {'weight_map': {'a': 'model-00001-of-00001.safetensors'}},
    'odd': {'weight_map': [1, 2]},
    'empty': None,
}.items():
    (root / name).mkdir()
    if text is not None:
        (root / name / 'model.safetensors.index.json').write_text(json.dumps(text))
(root / 'secret.safetensors').write_bytes(struct.pack('<Q', 2) + b'{}')";
    let made = Command::new(python())
        .args(["-c", make])
        .arg(directory.path())
        .args([fixture.good("plain.pt"), fixture.good("legacy.pt")])
        .status();
    assert!(made.unwrap().success());
    for (layout, name, part) in [
        (Layout::Torch, "compressed.pt", "has a compressed entry"),
        (Layout::Torch, "objects.pt", "`limits.objects`"),
        (Layout::Torch, "pickle.pt", "`limits.header`"),
        (Layout::Torch, "twice.pt", "3 entries `data.pkl`"),
        (Layout::Torch, "deep.pt", "nesting exceeds"),
        (Layout::Torch, "names.pt", "the length of all names has 500"),
        (Layout::Torch, "legacy_objects.pt", "`limits.objects`"),
        (Layout::Safetensors, "lie.safetensors", "truncated or still being written"),
        (Layout::Safetensors, "header.safetensors", "`limits.header`"),
        (Layout::Hf, "up", "shards stand beside their index"),
        (Layout::Hf, "absolute", "shards stand beside their index"),
        (Layout::Hf, "missing", "lacks `model-00001-of-00001.safetensors`"),
        (Layout::Hf, "odd", "cannot be understood"),
        (Layout::Hf, "empty", "holds neither"),
    ] {
        let found = read_all(layout, &directory.path().join(name));
        let message = found.expect_err(name).to_string();
        assert!(message.contains(part), "{name}: {message}");
    }
    // Names that lead outside are names and no more: nothing is ever unpacked.
    let outside = read_all(Layout::Torch, &directory.path().join("outside.pt")).unwrap();
    assert_eq!(outside.tensors.len(), 9);
    let small = Limits { checkpoint: 1000, ..Limits::default() };
    let message = Layout::Torch.check(&fixture.good("plain.pt"), &small).unwrap_err().to_string();
    assert!(message.contains("`limits.checkpoint`"), "{message}");
}

#[test]
fn tensors_of_another_shape_are_refused_before_they_are_read() {
    let Some(fixture) = fixture() else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("wide.pt");
    // 8 GB out of 4 bytes: a view with a stride of 0.
    let make = "\
import sys, torch
state = torch.load(sys.argv[1])
state['last.weight'] = torch.zeros(1).expand(1 << 31)
torch.save(state, sys.argv[2])";
    let mut command = Command::new(python());
    command.args(["-c", make]).args([&fixture.good("plain.pt"), &file]);
    assert!(command.status().unwrap().success());
    let networks = fixture.worker("program.ts", reading(Layout::Torch, None));
    let error = networks.evaluate(&file).unwrap_err().to_string();
    assert!(error.contains("shape [2147483648], but the program wants [3, 8]"), "{error}");
}
