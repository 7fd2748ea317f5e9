//! What the fuzz targets share: bytes become a checkpoint, which is read as the product reads it.
//!
//! The readers are entered where the product enters them, at [`Layout`]. Archives have checksums that no
//! mutation gets right, so the targets `pickle` and `torchscript` put the bytes into an archive that is
//! whole.

/// The readers themselves; they need nothing else of the product.
#[path = "../../core/src/layout/mod.rs"]
pub mod layout;

use layout::{Layout, Limits, recognise};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Small, so that a file that asks for too much is told by the memory it takes (`-malloc_limit_mb`).
const LIMITS: Limits = Limits { checkpoint: 1 << 22, header: 1 << 18, objects: 10_000 };
/// Bytes of the largest tensor that is read: a program asks for tensors of its own shapes only.
const LARGEST: usize = 1 << 20;

/// A directory of this process, in memory where that can be had.
pub fn directory() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let path = parent.join(format!("convergd-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        path
    })
}

/// Writes a file into the directory.
pub fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory().join(name);
    std::fs::write(&path, bytes).expect("written");
    path
}

/// Everything that the product does with a checkpoint before libtorch sees it. What passes the check
/// must open, or say what is wrong; what is opened has as many bytes as type and shape ask for.
pub fn read(layout: Layout, path: &Path) {
    let _ = recognise(path);
    let _ = layout.step_inside(path, &LIMITS);
    let Ok(weights) = layout.open(path, &LIMITS) else { return };
    for tensor in &weights.tensors {
        let bits = tensor.shape.iter().try_fold(tensor.dtype.bitsize(), |all, &size| {
            all.checked_mul(size).filter(|&bits| bits / 8 <= LARGEST)
        });
        if let (Some(bits), Ok(bytes)) = (bits, tensor.read()) {
            assert_eq!(bytes.len(), bits.div_ceil(8), "{}: {:?}", tensor.name, tensor.shape);
        }
    }
}

/// An archive of stored entries, as `torch.save` writes it but for the alignment.
pub fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let offset = bytes.len() as u32;
        let mut common = Vec::new();
        // Version, flags, method, time and date.
        common.extend([10, 0, 0, 0, 0, 0, 0, 0, 33, 0]);
        common.extend(crc32fast::hash(data).to_le_bytes());
        common.extend((data.len() as u32).to_le_bytes());
        common.extend((data.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&common);
        bytes.extend(name.as_bytes());
        bytes.extend(*data);
        directory.extend(b"PK\x01\x02\x0a\0");
        directory.extend(&common);
        // Comment, disk, attributes.
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let count = (entries.len() as u16).to_le_bytes();
    let (start, length) = (bytes.len() as u32, directory.len() as u32);
    bytes.extend(directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend(count);
    bytes.extend(count);
    bytes.extend(length.to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}

/// Names and data of the storages that a pickle may refer to, and those around them.
pub fn entries<'a>(pickle: &'a [u8], more: &[(&'a str, &'a [u8])]) -> Vec<(&'a str, &'a [u8])> {
    const STORAGES: [&str; 8] = [
        "a/data/0", "a/data/1", "a/data/2", "a/data/3", "a/data/4", "a/data/5", "a/data/6",
        "a/data/7",
    ];
    let mut entries = vec![("a/data.pkl", pickle)];
    entries.extend(more);
    entries.extend(STORAGES.map(|name| (name, &[7u8; 256][..])));
    entries.push(("a/version", b"3\n"));
    entries
}
