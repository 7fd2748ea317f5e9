"""maturin, told which libtorch convergd is compiled with: that of the environment it goes into.

A build that pip isolates cannot import what the environment has, so its torch is found by its path.
"""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

import maturin
from maturin import (  # noqa: F401 - the other hooks are maturin's
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_wheel,
)

TORCH = "2.11"
"""The PyTorch that convergd is compiled for."""


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, object] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Compile both programs and pack them with the package."""
    _use_torch()
    return maturin.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory: str, config_settings: dict[str, object] | None = None) -> str:
    """Pack what a build needs."""
    return maturin.build_sdist(sdist_directory, config_settings)


def _use_torch() -> None:
    # The place of this libtorch is no business of the machines that a wheel goes to.
    os.environ["CONVERGD_WHEEL"] = "1"
    if "LIBTORCH" in os.environ or "LIBTORCH_USE_PYTORCH" in os.environ:
        return
    paths = sysconfig.get_paths()
    searched = [Path(paths[name]) / "torch" for name in ("purelib", "platlib")]
    for torch in searched:
        version = _version(torch)
        if version is not None and version.startswith(TORCH + "."):
            os.environ["LIBTORCH"] = str(torch)
            return
    found = "; ".join(f"{torch}: {_version(torch) or 'not there'}" for torch in searched[:1])
    raise SystemExit(
        f"convergd is compiled with the libtorch of PyTorch {TORCH}, which this environment lacks "
        f"({found}); `pip install torch=={TORCH}.0` first, or set LIBTORCH to its directory `torch`"
    )


def _version(torch: Path) -> str | None:
    try:
        text = (torch / "version.py").read_text()
    except OSError:
        return None
    lines = [line for line in text.splitlines() if line.startswith("__version__")]
    return lines[0].split("'")[1] if lines and "'" in lines[0] else None
