"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed to `path`.

    The name starts with `.tmp-` and ends in `.tmp`, which the sidecar ignores. If the body
    raises, the temporary file is removed and whatever was at `path` stays as it was. The file
    has the permissions of any new file, however private the body makes it: the sidecar may run
    as another user.
    """
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)
        _sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _sync(path: Path) -> None:
    """Force the content of a file to the disk, so that the rename cannot overtake it."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
