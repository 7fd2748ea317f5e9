"""The unit of systemd: that it is one, how much it can do, and that it knows the exit codes."""

import json
import re
import shutil
import subprocess

import pytest
from attached import ROOT

DIRECTORY = ROOT / "deploy/systemd"
UNIT = DIRECTORY / "convergd@.service"
MOST_EXPOSED = 1.5
"""What `systemd-analyze security` may say, of 10; the figure itself is in docs/deploy.md."""


def analyze(*arguments):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no `systemd-analyze`; `apt-get install systemd` brings it")
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True)


def settings(file=UNIT):
    """Values by name, as lists."""
    found = {}
    for line in file.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def installed(tmp_path):
    """The unit with a program that is there, and each drop-in."""
    program = tmp_path / "convergd"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/convergd", str(program)))
    return unit


@pytest.mark.parametrize("drop_in", [None, "gpu.conf", "network.conf"])
def test_systemd_understands_the_unit(installed, drop_in):
    if drop_in:
        place = installed.parent / f"{installed.name}.d"
        place.mkdir()
        shutil.copy(DIRECTORY / drop_in, place)
    said = analyze("verify", "--man=no", str(installed))
    assert (said.returncode, said.stdout + said.stderr) == (0, "")
    # A word that it does not know is told.
    with open(installed, "a", encoding="utf-8") as unit:
        unit.write("[Service]\nPrivateTemp=yes\n")
    assert "PrivateTemp" in analyze("verify", "--man=no", str(installed)).stderr


def test_it_is_confined(installed):
    said = analyze("security", "--offline=true", "--json=short", str(installed))
    exposed = [one["name"] for one in json.loads(said.stdout) if one["set"] is False]
    figure = analyze("security", "--offline=true", str(installed)).stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", figure)
    assert float(found[1]) <= MOST_EXPOSED, exposed


def test_the_exit_codes_are_those_of_the_program():
    source = (ROOT / "core/src/cli/mod.rs").read_text()
    codes = dict(re.findall(r"^    (\w+) = (\d+),$", source, re.M))
    found = settings()
    assert found["SuccessExitStatus"] == [codes["Stopped"]]
    final = [codes["Usage"], codes["Data"], codes["Later"]]
    assert found["RestartPreventExitStatus"] == [" ".join(final)]
    assert found["Restart"] == ["on-failure"]


def test_what_is_said_not_to_work_is_not_there():
    """Tried under systemd: no kernels of oneDNN, no trainers seen, no boot id."""
    assert not settings().keys() & {"MemoryDenyWriteExecute", "PrivateUsers", "ProcSubset"}
    assert settings()["ReadWritePaths"] == settings()["WorkingDirectory"] == ["/srv/convergd/%i"]
