"""Carry out a Containerfile where no container engine is: each step in a clean Debian.

    python rehearse.py --file deploy/Containerfile --out target/image --build-arg VARIANT=cuda

Needs root and Debian's packages `bubblewrap` and `mmdebstrap`. The last stage lies under
`OUT/<number>/root` then, and `OUT/image.json` says how it is to be run. Three things are not
those of an engine: the bases are a minimal Debian of the release that the image's name says, with
the packages that the name stands for; Rust is that of this machine; and there are no layers. pip,
apt and cargo are set up as on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

BASES = {
    "python": ["python3", "python3-pip", "ca-certificates"],
    "rust": ["gcc", "libc6-dev", "ca-certificates"],
    "debian": [],
}
"""The packages that an image holds beyond a minimal Debian, by its name."""
RELEASES = ("bookworm", "trixie")
PATH = "/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
HOST = ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf")
"""What a step sees of this machine, to reach registries; where the base has some, certificates."""
ABOUT_THE_IMAGE = {
    "CMD", "ENTRYPOINT", "EXPOSE", "HEALTHCHECK", "LABEL", "STOPSIGNAL", "USER", "VOLUME",
}  # fmt: skip
"""What is only written down."""


@dataclass
class Stage:
    """One `FROM` and what was made of it."""

    name: str
    image: str
    root: Path
    variables: dict[str, str] = field(default_factory=dict)
    """Of ENV."""
    arguments: dict[str, str] = field(default_factory=dict)
    """Of ARG."""
    directory: str = "/"
    """Of WORKDIR."""
    about: dict[str, object] = field(default_factory=dict)
    """Of the other instructions."""

    @property
    def kind(self) -> str:
        """The name of the image, without registry and tag."""
        return self.image.rsplit("/", 1)[-1].split(":")[0].split("@")[0]


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Instruction and rest of each, with continued lines joined and comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    for line in filter(str.strip, joined.splitlines()):
        word, _, rest = line.strip().partition(" ")
        yield word.upper(), rest.strip()


def expand(text: str, values: dict[str, str]) -> str:
    """`${NAME}` and `$NAME` as a builder puts them in."""
    return re.sub(
        r"\$(?:\{(\w+)\}|(\w+))", lambda found: values.get(found[1] or found[2], ""), text
    )


class Rehearsal:
    """The stages that were made so far."""

    def __init__(self, context: Path, out: Path, given: dict[str, str]) -> None:
        self.context = context
        self.out = out
        self.given = given
        self.globals: dict[str, str] = {}
        self.stages: list[Stage] = []

    def carry_out(self, text: str) -> Stage:
        """Every instruction in turn; the last stage."""
        for word, rest in instructions(text):
            print(f"--> {word} {rest[:150]}", flush=True)
            if word == "FROM":
                self.begin(rest)
            elif not self.stages:
                self.take_argument(rest, self.globals)
            else:
                self.step(self.stages[-1], word, rest)
        return self.stages[-1]

    def take_argument(self, rest: str, into: dict[str, str]) -> None:
        """ARG: what was given, else what stands before the first FROM, else its own value."""
        name, _, default = rest.partition("=")
        into[name] = self.given.get(name, self.globals.get(name, default))

    def begin(self, rest: str) -> None:
        """FROM: a clean root."""
        image, *alias = expand(rest, self.globals).split()
        number = len(self.stages)
        name = alias[1] if alias else str(number)
        stage = Stage(name, image, self.out / str(number) / "root")
        stage.variables["PATH"] = PATH
        self.stages.append(stage)
        if stage.kind not in BASES:
            sys.exit(f"{image}: no stand-in for it; there is one for {', '.join(BASES)}")
        release = next((name for name in RELEASES if name in image), RELEASES[0])
        packages = BASES[stage.kind]
        include = [f"--include={','.join(packages)}"] if packages else []
        stage.root.mkdir(parents=True)
        # As in the slim images: no pages of manuals.
        slim = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("man", "doc", "locale")]
        slim.append("--dpkgopt=path-include=/usr/share/doc/*/copyright")
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", *slim, *include, release, stage.root],
            check=True,
        )

    def step(self, stage: Stage, word: str, rest: str) -> None:
        """Any other instruction."""
        if word == "ARG":
            self.take_argument(rest, stage.arguments)
        elif word == "ENV":
            for pair in shlex.split(expand(rest, stage.arguments | stage.variables)):
                name, _, value = pair.partition("=")
                stage.variables[name] = value
        elif word == "WORKDIR":
            stage.directory = expand(rest, stage.arguments | stage.variables)
            inside(stage.root, stage.directory).mkdir(parents=True, exist_ok=True)
        elif word == "COPY":
            self.copy(stage, shlex.split(expand(rest, stage.arguments | stage.variables)))
        elif word == "RUN":
            self.run(stage, rest)
        elif word in ABOUT_THE_IMAGE:
            stage.about[word] = expand(rest, stage.arguments | stage.variables)
        else:
            sys.exit(f"{word} is not known here")

    def copy(self, stage: Stage, words: list[str]) -> None:
        """COPY, from the context or from a stage before."""
        options = [word for word in words if word.startswith("--")]
        *sources, target = [word for word in words if not word.startswith("--")]
        origin = self.context
        for option in options:
            name, _, value = option.partition("=")
            if name != "--from":
                sys.exit(f"COPY {name} is not known here")
            origin = next(stage.root for stage in self.stages if stage.name == value)
        into = inside(stage.root, os.path.join(stage.directory, target))
        is_directory = target.endswith(("/", ".")) or len(sources) > 1
        for source in sources:
            found = origin / source.lstrip("/")
            to = into / found.name if is_directory and found.is_file() else into
            to.parent.mkdir(parents=True, exist_ok=True)
            if found.is_dir():
                shutil.copytree(found, to, symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy2(found, to)

    def run(self, stage: Stage, rest: str) -> None:
        """RUN, in the root of the stage and nothing else."""
        variables = stage.arguments | stage.variables
        kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        command = ["bwrap", "--bind", stage.root, "/", "--dev", "/dev", "--proc", "/proc"]
        command += ["--unshare-pid", "--die-with-parent", "--clearenv"]
        seen = [*HOST, CERTIFICATES] if "ca-certificates" in BASES[stage.kind] else HOST
        for path in filter(os.path.exists, seen):
            inside(stage.root, path).parent.mkdir(parents=True, exist_ok=True)
            command += ["--ro-bind", os.path.realpath(path), path]
        if stage.kind == "rust":
            command += toolchain()
            kept |= {"CARGO_HOME": "/usr/local/cargo", "RUSTUP_HOME": "/usr/local/rustup"}
        # As an engine gives it: apt changes its user, which needs all rights of root.
        command += ["--cap-add", "ALL"]
        for name, value in (kept | variables).items():
            command += ["--setenv", name, value]
        command += ["--chdir", stage.directory, "/bin/sh", "-c", rest]
        subprocess.run([str(part) for part in command], check=True)


def toolchain() -> list[str]:
    """The Rust of this machine, and the crates that it has already."""
    cargo = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    rustup = Path(os.environ.get("RUSTUP_HOME", Path.home() / ".rustup"))
    places = ["--bind", cargo, "/usr/local/cargo", "--ro-bind", rustup, "/usr/local/rustup"]
    return [str(place) for place in places]


def inside(root: Path, path: str) -> Path:
    """A path of the image, on this machine."""
    return root / path.lstrip("/")


def main() -> None:
    """Read the arguments, carry the file out, and write down what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--context", type=Path, default=Path())
    parser.add_argument("--out", type=Path, required=True, help="a directory that is not there")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    if arguments.out.exists():
        parser.error(f"{arguments.out} is there already; nothing is removed here")
    given = dict(pair.split("=", 1) for pair in arguments.build_arg)
    rehearsal = Rehearsal(arguments.context.absolute(), arguments.out.absolute(), given)
    image = rehearsal.carry_out(arguments.file.read_text(encoding="utf-8"))
    about = {"root": str(image.root), "directory": image.directory, "variables": image.variables}
    text = json.dumps(about | image.about, indent=2)
    (arguments.out / "image.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
