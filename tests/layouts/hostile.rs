//! Damaged and hostile files: no crash, no execution, no memory that a file has no right to.

use crate::common;
use crate::fixture::{fixture, read_all, reading};
use convergd::layout::{Layout, Limits};
use std::path::Path;

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
        let mut command = common::python();
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
    let networks = fixture.evaluator("program.ts", reading(Layout::Torch, None));
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
# A directory far beyond the limit, whose end record says that it is short; the same with a record of a large
# archive; and two such behind which stands another end record, which leads nowhere.
with zipfile.ZipFile(root / 'short.pt', 'w') as out:
    for entry in good.namelist():
        out.writestr(entry, good.read(entry))
    for number in range(2000):
        out.writestr(f'{number}' + 'x' * 20_000, b'')
long = (root / 'short.pt').read_bytes()
place = long.rindex(b'PK\\x05\\x06')
start, count = struct.unpack_from('<I', long, place + 16)[0], struct.unpack_from('<H', long, place + 8)[0]
last = long[place:place + 12] + struct.pack('<II', 16, start) + bytes(2)
(root / 'short.pt').write_bytes(long[:place] + last)
large = b'PK\\x06\\x06' + struct.pack('<QHHIIQQQQ', 44, 45, 45, 0, 0, count, count, 16, start)
locator = b'PK\\x06\\x07' + struct.pack('<IQI', 0, place, 1)
(root / 'short64.pt').write_bytes(long[:place] + large + locator + last[:16] + b'\\xff' * 4 + bytes(2))
(root / 'comment.pt').write_bytes(long + last[:20] + b'\\x05\\x00')
header, place = b'PK\\x01\\x02' + bytes(42), len(long) + 46
large = b'PK\\x06\\x06' + struct.pack('<QHHIIQQQQ', 44, 45, 45, 0, 0, 2, 2, 46, len(long))
locator = b'PK\\x06\\x07' + struct.pack('<IQI', 0, place, 1)
(root / 'nowhere.pt').write_bytes(long + header + large + locator + b'PK\\x05\\x06' + bytes(4) +
    struct.pack('<HHIIH', 2, 2, 46, len(long), 0))
# Entries of the directory that all point to the same bytes; a directory and an entry beyond the end.
plain = pathlib.Path(sys.argv[2]).read_bytes()
at = plain.rindex(b'PK\\x05\\x06')
def end(name, size, offset):
    (root / name).write_bytes(plain[:at + 12] + struct.pack('<II', size, offset) + plain[at + 20:])
end('directory.pt', 1 << 30, 0)
end('offset.pt', 1000, 1 << 30)
end('large.pt', (1 << 32) - 1, (1 << 32) - 1)
(root / 'zip64.pt').write_bytes(plain[:at] + b'PK\\x06\\x07' + bytes(4) + struct.pack('<Q', 1 << 60) +
    bytes(4) + plain[at:at + 12] + b'\\xff' * 8 + plain[at + 20:])
first = plain.index(b'PK\\x01\\x02')
shared, place = bytearray(plain), first
while plain[place:place + 4] == b'PK\\x01\\x02':
    name, extra, comment = struct.unpack_from('<HHH', plain, place + 28)
    struct.pack_into('<II', shared, place + 20, 4000, 4000)
    place += 46 + name + extra + comment
(root / 'shared.pt').write_bytes(shared)
import torch
tensor = torch.zeros(1)
torch.save({'k' * 100_000: [tensor] * 5_000}, root / 'names.pt')
twice = {'w': tensor}
for _ in range(40):
    twice = {'a': twice, 'b': twice}
torch.save(twice, root / 'doubled.pt')
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
    let made = common::python()
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
        (Layout::Torch, "directory.pt", "its two end records differ"),
        (Layout::Torch, "offset.pt", "its two end records differ"),
        (Layout::Torch, "zip64.pt", "do not follow each other"),
        (Layout::Torch, "short.pt", "has 16 bytes from"),
        (Layout::Torch, "short64.pt", "has 16 bytes from"),
        (Layout::Torch, "comment.pt", "is an archive without a directory"),
        (Layout::Torch, "nowhere.pt", "more is read of it than its directory holds"),
        (Layout::Torch, "shared.pt", "is a damaged archive"),
        (Layout::Torch, "deep.pt", "nesting exceeds"),
        (Layout::Torch, "names.pt", "the length of all names has 500"),
        (Layout::Torch, "doubled.pt", "what it holds twice has"),
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
    // The size of a large archive stands in a record of its own.
    let large = read_all(Layout::Torch, &directory.path().join("large.pt")).unwrap();
    assert_eq!(large.tensors.len(), 9);
    let small = Limits { checkpoint: 1000, ..Limits::default() };
    let message = Layout::Torch.check(&fixture.good("plain.pt"), &small).unwrap_err().to_string();
    assert!(message.contains("`limits.checkpoint`"), "{message}");
    let small = Limits { header: 100, ..Limits::default() };
    let message = Layout::Torch.check(&fixture.good("plain.pt"), &small).unwrap_err().to_string();
    assert!(
        message.contains("its directory has") && message.contains("`limits.header`"),
        "{message}"
    );
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
    let mut command = common::python();
    command.args(["-c", make]).args([&fixture.good("plain.pt"), &file]);
    assert!(command.status().unwrap().success());
    let networks = fixture.evaluator("program.ts", reading(Layout::Torch, None));
    let error = networks.evaluate(&file).unwrap_err().to_string();
    assert!(error.contains("shape [2147483648], but the program wants [3, 8]"), "{error}");
}

/// Links are followed, as caches of Hugging Face are made of them; what they lead to is read as a checkpoint
/// and as nothing else, and no message shows what is in it.
#[test]
fn links_out_of_a_directory_lead_to_checkpoints_or_nowhere() {
    let Some(fixture) = fixture() else { return };
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "root:x:0:0:a secret of more than eight bytes\n").unwrap();
    let linked = |name: &str, to: &Path| {
        let checkpoint = directory.path().join(format!("checkpoint-{name}"));
        std::fs::create_dir(&checkpoint).unwrap();
        std::os::unix::fs::symlink(to, checkpoint.join("model.safetensors")).unwrap();
        checkpoint
    };
    let good = linked("1", &fixture.good("checkpoint-7/model.safetensors"));
    let original = read_all(Layout::Hf, &fixture.good("checkpoint-7")).unwrap();
    let found = read_all(Layout::Hf, &good).unwrap();
    assert_eq!(found.tensors.len(), original.tensors.len());
    for (found, original) in found.tensors.iter().zip(&original.tensors) {
        assert_eq!(found.read().unwrap(), original.read().unwrap());
    }
    for (name, to, part) in [
        ("2", &*secret, "is no safetensors file"),
        ("3", Path::new("/nowhere"), "holds neither"),
        ("4", Path::new("/dev/zero"), "holds neither"),
        ("5", Path::new("model.safetensors"), "holds neither"),
        ("6", Path::new(".."), "holds neither"),
    ] {
        let message = read_all(Layout::Hf, &linked(name, to)).expect_err(name).to_string();
        assert!(message.contains(part) && !message.contains("root:x"), "{name}: {message}");
    }
}

#[test]
fn a_directory_of_far_too_many_files_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..=20_000 {
        std::fs::File::create(directory.path().join(format!("{number}"))).unwrap();
    }
    let message = Layout::Hf.check(directory.path(), &Limits::default()).unwrap_err().to_string();
    assert!(message.contains("more than 20000 files"), "{message}");
}
