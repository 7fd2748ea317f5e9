"""Makes what the fuzz targets start from, one directory a target, with the libraries of trainers.

    python make_seeds.py LAYOUTS CORPUS

LAYOUTS is what `tests/fixtures/make_layouts.py` made.
"""

from __future__ import annotations

import hashlib
import shutil
import struct
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

LARGEST = 1 << 16
"""Bytes of a seed: small ones are mutated faster."""


def pickles(files: Iterable[Path]) -> Iterable[bytes]:
    """The pickles of the archives among the files, under the names that `archive()` gives."""
    for file in files:
        if zipfile.is_zipfile(file):
            archive = zipfile.ZipFile(file)
            names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            yield from (archive.read(name) for name in names)


def is_torchscript(file: Path) -> bool:
    """Whether it is an archive with constants."""
    if not zipfile.is_zipfile(file):
        return False
    return any(name.endswith("/constants.pkl") for name in zipfile.ZipFile(file).namelist())


def main() -> None:
    """Make all of them."""
    layouts, corpus = map(Path, sys.argv[1:])
    files = [file for file in sorted(layouts.rglob("*")) if file.is_file()]
    torch = [file for file in files if file.suffix in (".pt", ".pth", ".bin", ".ckpt")]
    script = [file for file in files if is_torchscript(file)]
    safetensors = [file for file in files if file.suffix == ".safetensors"]
    header = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    index = b'{"weight_map":{"w":"model-00001-of-00001.safetensors"}}\0{"global_step":12}'
    seeds = {
        "safetensors": [
            struct.pack("<Q", len(header)) + header + bytes(8),
            *(file.read_bytes() for file in safetensors),
        ],
        "torch": [file.read_bytes() for file in torch],
        "pickle": pickles(file for file in torch if file not in script),
        "torchscript": pickles(script),
        "hf": [index, *(f.read_bytes() + b"\0{}" for f in files if f.suffix == ".json")],
    }
    for target, contents in seeds.items():
        directory = corpus / target
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        small = [content for content in contents if len(content) <= LARGEST]
        if not small:
            raise SystemExit(f"no seed for {target}")
        for content in small:
            (directory / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)


if __name__ == "__main__":
    main()
