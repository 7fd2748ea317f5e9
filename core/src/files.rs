//! Files that appear whole or not at all.

use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Reads a file that others write, of `most` bytes at most. Nothing is waited for, as a pipe in its place would have it.
///
/// # Errors
/// What the file system says, and what is no regular file or too large.
pub fn read_small(path: &Path, most: u64) -> Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > most {
        return Err(Error::new(ErrorKind::InvalidData, "it is no small regular file"));
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Replaces `path` by `bytes`: written beside it, synchronised, renamed. A reader sees the old file or
/// the new one. Directories above it are made.
///
/// # Errors
/// Whatever the file system says; `path` is unchanged then.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let replacement = Replacement::beside(path)?;
    replacement.file().write_all(bytes)?;
    replacement.commit()
}

/// A file that is written piece by piece beside the one that it replaces. It is removed when it is
/// dropped without [`Replacement::commit`].
#[derive(Debug)]
pub struct Replacement {
    temporary: NamedTempFile,
    path: PathBuf,
    directory: PathBuf,
}

impl Replacement {
    /// An empty file in the directory of `path`, which is made.
    ///
    /// # Errors
    /// A directory that cannot be made or written, or a `path` that is there and no regular file: a
    /// directory, a device, a pipe, a socket.
    pub fn beside(path: &Path) -> Result<Self> {
        let directory = match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => return Err(Error::other("a file needs a directory")),
        };
        if path.is_dir() {
            // The rename would say so too, but at the end of the work.
            return Err(Error::from(ErrorKind::IsADirectory));
        }
        // The rename would put a file in the place of the device or pipe.
        if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            let message = "it is a device, pipe or socket, which a file would replace";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        std::fs::create_dir_all(directory)?;
        let temporary =
            tempfile::Builder::new().prefix(".tmp-").suffix(".tmp").tempfile_in(directory)?;
        Ok(Self { temporary, path: path.to_owned(), directory: directory.to_owned() })
    }

    /// The file to write to.
    pub fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// Where it lies until it is committed.
    pub fn temporary(&self) -> &Path {
        self.temporary.path()
    }

    /// Synchronises it and gives it its name.
    ///
    /// # Errors
    /// Whatever the file system says; the file that was to be replaced is unchanged then.
    pub fn commit(self) -> Result<()> {
        let Self { temporary, path, directory } = self;
        // Other users' trainers read the control file; tempfile makes files for their owner alone.
        temporary.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
        temporary.as_file().sync_all()?;
        crate::failpoint::reach("file-written");
        temporary.persist(path).map_err(|error| error.error)?;
        File::open(directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::net::UnixListener;

    #[test]
    fn what_is_no_regular_file_is_not_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let _listener = UnixListener::bind(&path).expect("a socket");
        assert!(write_atomically(&path, b"data").is_err());
        let kind = std::fs::metadata(&path).expect("it is still there").file_type();
        assert!(kind.is_socket());
        assert_eq!(std::fs::read_dir(directory.path()).expect("a listing").count(), 1);
    }
}
