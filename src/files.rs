//! Files that appear whole or not at all.

use std::io::{Error, Result, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Replaces `path` by `bytes`: written beside it, synchronised, renamed. A reader sees the old file or
/// the new one. Directories above it are made.
///
/// # Errors
/// Whatever the file system says; `path` is unchanged then.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let directory = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Err(Error::other("a file needs a directory")),
    };
    std::fs::create_dir_all(directory)?;
    let mut file =
        tempfile::Builder::new().prefix(".tmp-").suffix(".tmp").tempfile_in(directory)?;
    file.write_all(bytes)?;
    // Other users' trainers read the control file; tempfile makes files for their owner alone.
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    std::fs::File::open(directory)?.sync_all()
}
