"""`python -m convergd`: the program `convergd` of the same installation as this package."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

PROGRAM = "convergd"
NOT_THERE = 69
"""The exit code of `convergd` where something of its installation is missing."""
REMEDY = "install convergd anew, or in a checkout build it with `make build`"


def places() -> Iterator[Path]:
    """Where it may be, the nearest to this package first; PATH may have another version."""
    packages = Path(__file__).absolute().parent.parent
    # `pip install --target` makes `bin` beside the package.
    yield packages / "bin"
    # lib/python3.N/site-packages: of an environment, of `--user`, of `--prefix`.
    if packages.parent.parent.name in ("lib", "lib64"):
        yield packages.parents[2] / "bin"
    # The package as it lies in a checkout.
    if (packages / "build_backend.py").is_file():
        yield packages.parent / "target" / "release"
    # An editable installation, and wherever else this interpreter has its commands.
    yield Path(sysconfig.get_path("scripts"))


def main() -> None:
    """Become the program; exit with 69 where it is not there."""
    searched = list(dict.fromkeys(place / PROGRAM for place in places()))
    for program in searched:
        if program.is_file() and os.access(program, os.X_OK):
            if sys.prefix != sys.base_prefix:
                # Where it looks for libtorch, after its own environment.
                os.environ.setdefault("VIRTUAL_ENV", sys.prefix)
            try:
                os.execv(program, [str(program), *sys.argv[1:]])
            except OSError as error:
                end(f"`{program}` cannot be started: {error.strerror}; {REMEDY}")
    listed = "".join(f"  {program}\n" for program in searched)
    end(f"the program `{PROGRAM}` was not found; looked for:\n{listed}{REMEDY}")


def end(message: str) -> NoReturn:
    """Say why there is no program."""
    print(message, file=sys.stderr)
    sys.exit(NOT_THERE)


if __name__ == "__main__":
    main()
