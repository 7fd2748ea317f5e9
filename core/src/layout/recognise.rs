//! What something in a checkpoint directory looks like, for messages to whoever chose another layout.

use super::{Layout, archive};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A checkpoint of this layout.
    Layout(Layout),
    /// A directory of torch.distributed.checkpoint.
    Distributed,
    /// A directory of Orbax.
    Orbax,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout(layout) => {
                let what = match layout {
                    Layout::Safetensors => "a safetensors file",
                    Layout::Torch => "a file of `torch.save`",
                    Layout::Lightning => "a Lightning checkpoint",
                    Layout::Hf => "a directory of Hugging Face",
                    Layout::Torchscript => "a TorchScript file",
                };
                write!(f, "{what}; write `layout: {}`", layout.name())
            }
            Self::Distributed => f.write_str(
                "a directory of torch.distributed.checkpoint, which is not read; convert it with `python -m \
                 torch.distributed.checkpoint.format_utils dcp_to_torch DIRECTORY step-N.pt` and write \
                 `layout: torch`",
            ),
            Self::Orbax => f.write_str(
                "a directory of Orbax, which is not read; restore it in Python with \
                 `orbax.checkpoint.PyTreeCheckpointer().restore(DIRECTORY)`, save its arrays with \
                 `safetensors.flax.save_file` under the names of the program, and write \
                 `layout: safetensors`",
            ),
        }
    }
}

/// Looks at the first bytes of a file, or at the names in a directory; nothing where it looks like no
/// checkpoint.
pub fn recognise(path: &Path) -> Option<Found> {
    if path.is_dir() { directory(path) } else { file(path) }
}

fn directory(path: &Path) -> Option<Found> {
    let has = |name: &str| path.join(name).exists();
    if has(".metadata") && has_ending(path, ".distcp") {
        return Some(Found::Distributed);
    }
    // What Orbax and its handlers write, of several versions.
    let orbax =
        ["_CHECKPOINT_METADATA", "_METADATA", "_sharding", "manifest.ocdbt", "commit_success.txt"];
    if orbax.into_iter().any(has) {
        return Some(Found::Orbax);
    }
    super::hf::has_weights(path).then_some(Found::Layout(Layout::Hf))
}

fn has_ending(path: &Path, ending: &str) -> bool {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().ends_with(ending))
}

fn file(path: &Path) -> Option<Found> {
    // A pipe would wait for a writer.
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut start = Vec::new();
    File::open(path).ok()?.take(64).read_to_end(&mut start).ok()?;
    let is_safetensors = start.get(8) == Some(&b'{');
    let layout = match &start[..] {
        start if start.starts_with(&archive::MAGIC) => torch_file(path)?,
        start if is_legacy(start) => Layout::Torch,
        _ if is_safetensors => Layout::Safetensors,
        _ => return None,
    };
    Some(Found::Layout(layout))
}

/// Which of the layouts that share the archive.
fn torch_file(path: &Path) -> Option<Layout> {
    let archive = archive::Archive::open(path, &super::Limits::default()).ok()?;
    let is_lightning = path.extension().is_some_and(|extension| extension == "ckpt");
    Some(match (archive.is_torchscript(), is_lightning) {
        (true, _) => Layout::Torchscript,
        (false, true) => Layout::Lightning,
        (false, false) => Layout::Torch,
    })
}

/// Whether a file begins with the magic number of the legacy form, as protocol 2 and later write it.
pub(super) fn is_legacy(start: &[u8]) -> bool {
    const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
    let start = &start[..start.len().min(64)];
    start.windows(MAGIC.len()).any(|bytes| bytes == MAGIC)
}
