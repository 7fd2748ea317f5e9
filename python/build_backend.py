"""maturin, told which libtorch convergd is compiled with: that of the environment it goes into.

An isolated build cannot import what the environment has, so its torch is found by its path. Where
it is not found, torch is one more requirement of the build. Any torch of the version will do: the
programs take nothing of it along, nor do they need CUDA where it has it.
"""

from __future__ import annotations

import os
import site
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

import maturin
from maturin import (  # noqa: F401 - the other hooks are maturin's
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

TORCH = "2.11"
"""The PyTorch that convergd is compiled for."""

Settings = Mapping[str, object] | None
"""What the user gives a hook."""


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """What an isolated build installs first: torch where there is none."""
    return [*maturin.get_requires_for_build_wheel(config_settings), *_torch_to_install()]


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    """The same."""
    return [*maturin.get_requires_for_build_editable(config_settings), *_torch_to_install()]


def build_wheel(
    wheel_directory: str,
    config_settings: Settings = None,
    metadata_directory: str | None = None,
) -> str:
    """Compile both programs and pack them with the package."""
    _use_torch()
    return maturin.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str,
    config_settings: Settings = None,
    metadata_directory: str | None = None,
) -> str:
    """Compile both programs, and leave the package where it lies."""
    _use_torch()
    return maturin.build_editable(wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    """Pack what a build needs."""
    return maturin.build_sdist(sdist_directory, config_settings)


def _torch_to_install() -> list[str]:
    if _is_torch_given() or _find_torch([]) is not None:
        return []
    return [f"torch=={TORCH}.*"]


def _use_torch() -> None:
    if _is_torch_given():
        return
    os.environ.pop("LIBTORCH_USE_PYTORCH", None)
    searched: list[str] = []
    torch = _find_torch(searched)
    if torch is None:
        raise SystemExit(
            f"convergd is compiled with the libtorch of PyTorch {TORCH}, which was not found:\n"
            + "\n".join(dict.fromkeys(searched))
            + "\nwithout `--no-build-isolation` the build brings it along; or "
            f"`pip install torch=={TORCH}.0` first, or set LIBTORCH to the directory `torch` of it"
        )
    os.environ["LIBTORCH"] = str(torch)


def _is_torch_given() -> bool:
    if os.environ.get("LIBTORCH"):
        return True
    # torch-sys asks the interpreter itself.
    return bool(os.environ.get("LIBTORCH_USE_PYTORCH")) and _has_torch()


def _find_torch(searched: list[str]) -> Path | None:
    """The directory of the first torch of the version; what else was looked at is noted."""
    for torch in _places():
        version = _version(torch)
        if version is not None and version.startswith(TORCH + "."):
            return torch
        searched.append(f"  {torch}: {version or 'not there'}")
    return None


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
    environments = _environments()
    for environment in environments:
        packages += sorted(Path(environment, "lib").glob("python3*/site-packages"))
    packages.append(site.getusersitepackages())
    yield from (Path(package) / "torch" for package in packages)
    # An interpreter is started for each, so after all that need none.
    for environment in environments:
        yield from map(Path, _known_to_python(environment))


def _environments() -> list[str]:
    """The active ones. uv names that of the build, but leaves the user's in PATH."""
    named = [os.environ.get(name) for name in ("VIRTUAL_ENV", "CONDA_PREFIX")]
    on_path = [Path(place) for place in os.environ.get("PATH", "").split(os.pathsep) if place]
    with_python = [str(place.parent) for place in on_path if (place / "python").is_file()]
    return list(dict.fromkeys(filter(None, [*named, *with_python])))


def _known_to_python(environment: str) -> list[str]:
    """What the interpreter of an environment says, apart from the build's own."""
    asked = "import importlib.util as u; s = u.find_spec('torch'); "
    asked += "print(s.submodule_search_locations[0] if s else '')"
    isolating = ("PYTHONPATH", "PYTHONNOUSERSITE", "PYTHONHOME")
    own = {name: value for name, value in os.environ.items() if name not in isolating}
    command = [str(Path(environment, "bin", "python")), "-c", asked]
    try:
        said = subprocess.run(command, env=own, cwd="/", capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line for line in said.stdout.split("\n")[-2:] if line.startswith("/")]


def _version(torch: Path) -> str | None:
    try:
        text = (torch / "version.py").read_text()
    except OSError:
        return None
    lines = [line for line in text.splitlines() if line.startswith("__version__")]
    return lines[0].split("'")[1] if lines and "'" in lines[0] else None
