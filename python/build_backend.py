"""maturin, told which libtorch convergd is compiled with: that of the environment it goes into.

A build that pip isolates cannot import what the environment has, so its torch is found by its path.
"""

from __future__ import annotations

import os
import site
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import maturin
from maturin import (  # noqa: F401 - the other hooks are maturin's
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
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


def build_editable(
    wheel_directory: str,
    config_settings: dict[str, object] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Compile both programs, and leave the package where it lies."""
    _use_torch()
    return maturin.build_editable(wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory: str, config_settings: dict[str, object] | None = None) -> str:
    """Pack what a build needs."""
    return maturin.build_sdist(sdist_directory, config_settings)


def _use_torch() -> None:
    if os.environ.get("LIBTORCH"):
        return
    if os.environ.get("LIBTORCH_USE_PYTORCH") and _has_torch():
        # torch-sys asks the interpreter itself.
        return
    os.environ.pop("LIBTORCH_USE_PYTORCH", None)
    searched = []
    for torch in _places():
        version = _version(torch)
        if version is not None and version.startswith(TORCH + "."):
            os.environ["LIBTORCH"] = str(torch)
            return
        searched.append(f"  {torch}: {version or 'not there'}")
    raise SystemExit(
        f"convergd is compiled with the libtorch of PyTorch {TORCH}, which was not found:\n"
        + "\n".join(dict.fromkeys(searched))
        + f"\n`pip install torch=={TORCH}.0` first; where it is there, build without isolation "
        "(`pip install maturin`, then `pip install --no-build-isolation`), or set LIBTORCH to its "
        "directory `torch`"
    )


def _has_torch() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.__version__.startswith(TORCH + ".")


def _places() -> Iterator[Path]:
    """Where a torch of the environment may be: a build that is isolated does not see it."""
    paths = sysconfig.get_paths()
    packages = [paths["purelib"], paths["platlib"], *site.getsitepackages()]
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if environment := os.environ.get(name):
            packages += sorted(Path(environment, "lib").glob("python3*/site-packages"))
    packages.append(site.getusersitepackages())
    yield from (Path(package) / "torch" for package in packages)
    # An interpreter is started for it, so after all that need none.
    yield from map(Path, _known_to_python())


def _known_to_python() -> list[str]:
    """What the interpreter of the active environment says, apart from the build's own."""
    environment = os.environ.get("VIRTUAL_ENV") or os.environ.get("CONDA_PREFIX")
    if not environment:
        return []
    asked = "import importlib.util as u; s = u.find_spec('torch'); "
    asked += "print(s.submodule_search_locations[0] if s else '')"
    isolating = ("PYTHONPATH", "PYTHONNOUSERSITE", "PYTHONHOME")
    own = {name: value for name, value in os.environ.items() if name not in isolating}
    command = [str(Path(environment, "bin", "python")), "-c", asked]
    try:
        said = subprocess.run(command, env=own, cwd="/", capture_output=True, text=True, timeout=60)
    except OSError:
        return []
    return [line for line in said.stdout.split("\n")[-2:] if line.startswith("/")]


def _version(torch: Path) -> str | None:
    try:
        text = (torch / "version.py").read_text()
    except OSError:
        return None
    lines = [line for line in text.splitlines() if line.startswith("__version__")]
    return lines[0].split("'")[1] if lines and "'" in lines[0] else None
