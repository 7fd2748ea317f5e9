"""The container file: what it says must agree with the repository, and its check of health."""

import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
import time

import pytest
from attached import ROOT, convergd, processes, write_config

FILE = ROOT / "deploy/Containerfile"
HEALTHCHECK = ROOT / "deploy/container/convergd-healthcheck"
EXAMPLES = ROOT / "examples/pytorch"


@pytest.fixture(scope="module")
def steps():
    """The instructions, as the rehearsal reads them."""
    rehearse = runpy.run_path(str(ROOT / "deploy/container/rehearse.py"))
    return list(rehearse["instructions"](FILE.read_text()))


def default(steps, name):
    """That of an ARG, which all stages must give alike."""
    given = {rest.partition("=")[2] for word, rest in steps if rest.startswith(f"{name}=")}
    assert len(given) == 1, f"{name}: {given}"
    return given.pop()


def test_the_linter_agrees():
    hadolint = shutil.which("hadolint", path=f"{sys.prefix}/bin:{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("there is no `hadolint`; requirements.txt has it")
    said = subprocess.run([hadolint, FILE], capture_output=True, text=True)
    assert said.returncode == 0, said.stdout


def test_versions_are_those_of_the_repository(steps):
    cargo = (ROOT / "Cargo.toml").read_text()
    requirements = (ROOT / "requirements.txt").read_text()
    pyproject = (ROOT / "python/pyproject.toml").read_text()
    assert f'\nversion = "{default(steps, "VERSION")}"' in cargo
    torch = default(steps, "TORCH")
    assert f"\ntorch=={torch}\n" in requirements
    assert f"torch>={torch.rpartition('.')[0]}," in pyproject
    least = re.search(r'rust-version = "1\.(\d+)"', cargo)[1]
    rust = re.search(r"rust:1\.(\d+)-", default(steps, "RUST_IMAGE"))[1]
    assert int(rust) >= int(least)


def test_what_is_copied_is_in_the_context(steps):
    allowed = [
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if "!" in line
    ]
    copied = []
    for word, rest in steps:
        if word == "COPY" and "--from" not in rest:
            copied += rest.split()[:-1]
    members = re.search(r"\nmembers = \[(.*)\]", (ROOT / "Cargo.toml").read_text())[1]
    crates = re.findall(r'"([^"]+)"', members)
    assert {"src", *crates} <= set(copied) and "deploy/container/convergd-healthcheck" in copied
    for name in copied:
        assert (ROOT / name).exists(), name
        stem = name.rpartition("-")[0] + "-*" if name.startswith("LICENSE") else name
        assert any(stem == one or stem.startswith(f"{one}/") for one in allowed), name


def test_it_runs_as_nobody_in_particular(steps):
    last = steps[max(number for number, step in enumerate(steps) if step[0] == "FROM") :]
    users = [rest for word, rest in last if word == "USER"]
    assert users and all(re.fullmatch(r"[1-9]\d*:[1-9]\d*", user) for user in users)
    words = {word for word, _ in last}
    assert {"HEALTHCHECK", "LABEL", "ENTRYPOINT"} <= words


def test_health_is_that_of_a_run(tmp_path):
    program = convergd()
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "python"), "CONVERGD_HEALTH": address}
    prepare = [sys.executable, EXAMPLES / "prepare.py", "--out", tmp_path, "--samples", "6"]
    subprocess.run(prepare, check=True, env=environment, capture_output=True)
    rule = "{id: budget, when: {reached: {step: 1000}}, then: {stop: {}}}"
    write_config(tmp_path, "{image_patches: {grid: 4, select: 4}}", [rule])
    with open(tmp_path / "run.yaml", "a", encoding="utf-8") as config:
        config.write(f"telemetry: {{listen: '{address}'}}\n")

    def is_healthy():
        return subprocess.run([HEALTHCHECK], env=environment, capture_output=True).returncode == 0

    assert not is_healthy()
    with processes() as start:
        log = tmp_path / "log"
        sidecar = start([program, "run", "-c", "run.yaml"], log)
        ends = time.monotonic() + 60
        while not is_healthy():
            assert sidecar.poll() is None and time.monotonic() < ends, log.read_text()
            time.sleep(0.1)
        sidecar.terminate()
        assert sidecar.wait(60) == 0, log.read_text()
    assert not is_healthy()
