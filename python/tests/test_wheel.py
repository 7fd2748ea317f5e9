"""The wheel as it is installed: the console command, and the libtorch that it finds."""

import email.parser
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import convergd

WHEEL = os.environ.get("CONVERGD_WHEEL_FILE")
SITE = Path(sysconfig.get_paths()["purelib"])
"""Where torch is."""
ROOT = Path(__file__).parents[2]

if WHEEL is None:
    pytest.skip("no wheel; `make test-python` builds one", allow_module_level=True)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A virtual environment with the wheel and nothing else."""
    directory = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    pip = [sys.executable, "-m", "pip", "--python", directory / "bin/python", "install", "--quiet"]
    # What these tests import must not count as installed.
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([*pip, "--no-deps", "--no-index", WHEEL], check=True, env=alone)
    return directory


def run(environment, *arguments, **variables):
    """The command as a shell would find it in that environment alone."""
    kept = {name: os.environ[name] for name in ("HOME", "OMP_WAIT_POLICY") if name in os.environ}
    path = f"{environment / 'bin'}:/usr/bin:/bin"
    return subprocess.run(
        arguments,
        env=kept | {"PATH": path} | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )


def torch_of(environment):
    (python,) = (environment / "lib").glob("python3*")
    return python / "site-packages/torch"


@pytest.fixture
def torch(environment):
    """The torch of the tests, for as long as one lasts."""
    link = torch_of(environment)
    link.symlink_to(SITE / "torch")
    yield link
    link.unlink()


def test_these_tests_are_of_the_wheel():
    assert Path(convergd.__file__).parent.parent != Path(__file__).parents[1]
    assert (Path(convergd.__file__).parent / "py.typed").exists()


def test_the_command_is_there_and_has_the_version_of_the_package(environment):
    said = run(environment, "convergd", "--version")
    assert (said.returncode, said.stdout) == (0, f"convergd {convergd.__version__}\n")
    asked = "import importlib.metadata as m; print(m.version('convergd'))"
    assert run(environment, "python", "-c", asked).stdout == f"{convergd.__version__}\n"


@pytest.fixture(scope="module")
def information():
    """What the wheel holds beside package and programs: content by name, without `.dist-info`."""
    with zipfile.ZipFile(WHEEL) as wheel:
        parts = ((name, name.partition(".dist-info/")) for name in wheel.namelist())
        return {after: wheel.read(name) for name, (_, mark, after) in parts if mark}


@pytest.fixture(scope="module")
def metadata(information):
    return email.parser.Parser().parsestr(information["METADATA"].decode())


def test_the_wheel_has_the_licence_of_the_crate_and_its_texts(information, metadata):
    licence = re.search(r'^license = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    assert metadata["License-Expression"] == licence == "MIT OR Apache-2.0"
    names = ["LICENSE-APACHE", "LICENSE-MIT"]
    assert metadata.get_all("License-File") == names
    for name in names:
        assert information[f"licenses/{name}"] == (ROOT / name).read_bytes()
    # Where there is an expression, an index refuses classifiers of licences.
    assert not [one for one in metadata.get_all("Classifier") if one.startswith("License ::")]


def test_the_long_description_stands_by_itself(metadata):
    assert metadata["Description-Content-Type"].startswith("text/markdown")
    text = metadata.get_payload()
    assert text.strip() == (ROOT / "python/PACKAGE.md").read_text().strip()
    targets = re.findall(
        r"\]\(([^)]*)\)|^\[[^]]+\]: *(\S+)|(?:src|href)=[\"']([^\"']*)", text, re.M
    )
    relative = [one for of in targets for one in of if one and not one.startswith("https://")]
    assert not relative, "an index would not find them"
    # The loop of the first step is that of the README.
    readme = (ROOT / "README.md").read_text()
    blocks = re.findall(r"^```python\n.+?^```$", text, re.M | re.S)
    assert len(blocks) == 2 and all(block in readme for block in blocks)


def test_classifiers_begin_with_the_python_that_is_required(metadata):
    start = "Programming Language :: Python :: 3."
    classifiers = metadata.get_all("Classifier")
    minors = [int(one.removeprefix(start)) for one in classifiers if one.startswith(start)]
    assert metadata["Requires-Python"] == f">=3.{minors[0]}"
    assert minors == list(range(minors[0], minors[-1] + 1))


def test_the_wheel_does_not_name_where_it_was_built(information):
    assert {"METADATA", "RECORD", "WHEEL"} <= information.keys()
    for name, content in information.items():
        for place in (str(ROOT), "file://"):
            assert place.encode() not in content, f"{name} names {place}"


def test_python_m_convergd_is_the_program_of_the_same_environment(environment, tmp_path):
    other = tmp_path / "convergd"
    other.write_text("#!/bin/sh\necho another\n")
    other.chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    python = environment / "bin/python"
    said = run(python.parent, python, "-m", "convergd", "--version", PATH=path)
    assert (said.returncode, said.stdout) == (0, f"convergd {convergd.__version__}\n")
    # Arguments and exit codes are the program's.
    missing = tmp_path / "with space.yaml"
    said = run(environment, python, "-m", "convergd", "status", "-c", missing, PATH=path)
    assert said.returncode == 64 and "with space.yaml" in said.stderr


def test_python_m_convergd_finds_what_was_installed_into_a_directory():
    """As these tests have it: `pip install --target`."""
    package = Path(convergd.__file__).parents[1]
    command = [sys.executable, "-m", "convergd", "--version"]
    alone = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(package)}
    said = subprocess.run(command, env=alone, capture_output=True, text=True, cwd="/")
    assert said.stdout == f"convergd {convergd.__version__}\n", said.stderr


def test_python_m_convergd_tells_the_program_where_its_interpreter_is(environment, tmp_path):
    """It has the package by a path alone, and a torch of its own."""
    user = tmp_path / "user"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", user], check=True)
    torch_of(user).symlink_to(SITE / "torch")
    (torch_of(user).parent / "it.pth").write_text(f"{torch_of(environment).parent}\n")
    said = run(tmp_path, user / "bin/python", "-m", "convergd", "doctor", PATH="/usr/bin:/bin")
    assert said.returncode == 0, said.stdout + said.stderr


def test_python_m_convergd_without_the_program_tells_every_place(environment, tmp_path):
    program = environment / "bin/convergd"
    aside = program.rename(program.with_suffix(".aside"))
    (tmp_path / "convergd").symlink_to(aside)
    try:
        python = environment / "bin/python"
        said = run(environment, python, "-m", "convergd", "--version", PATH=f"{tmp_path}:/usr/bin")
        program.touch(mode=0o755)
        damaged = run(environment, python, "-m", "convergd", "--version")
    finally:
        aside.rename(program)
    assert said.returncode == damaged.returncode == 69
    assert "the program `convergd` was not found; looked for:" in said.stderr
    for place in (torch_of(environment).parent / "bin/convergd", program):
        assert f"\n  {place}\n" in said.stderr, said.stderr
    assert f"`{program}` cannot be started: Exec format error" in damaged.stderr, damaged.stderr


def test_the_client_needs_no_torch(environment):
    code = (
        "import sys, convergd; c = convergd.Control('nowhere', network='target'); "
        "assert not c.poll(1).stop; assert 'torch' not in sys.modules; print('fine')"
    )
    said = run(environment, "python", "-c", code)
    assert said.stdout == "fine\n", said.stderr


def test_without_torch_every_place_that_was_searched_is_told(environment, tmp_path):
    said = run(environment, "convergd", "doctor", VIRTUAL_ENV=str(tmp_path), LIBTORCH="/nowhere")
    assert said.returncode == 69
    for part in (
        "no libtorch of PyTorch 2.11 was found",
        "/nowhere/lib (LIBTORCH): not there",
        f"environment {environment}: no lib/python3.*/site-packages/torch there",
        f"environment {tmp_path}: no lib/python3.*/site-packages/torch there",
        f"torch of {environment / 'bin/python3'}: it has none",
    ):
        assert part in said.stdout, said.stdout
    # The rest of it is done.
    assert "inotify" in said.stdout


def test_commands_that_need_no_torch_work_without(environment, tmp_path):
    said = run(environment, "convergd", "check", "--schema")
    assert said.returncode == 0 and '"$schema"' in said.stdout
    said = run(environment, "convergd", "status", "-c", str(tmp_path / "none.yaml"))
    assert said.returncode == 64 and "none.yaml" in said.stderr


def test_run_without_torch_is_an_error_but_mistakes_in_its_file_come_first(environment, tmp_path):
    said = run(environment, "convergd", "run", "-c", str(tmp_path / "none.yaml"))
    assert said.returncode == 64 and "none.yaml" in said.stderr


def test_the_python_of_its_environment_is_asked_also_from_outside(environment):
    (python,) = (environment / "lib").glob("python3*")
    path = python / "site-packages/elsewhere.pth"
    path.write_text(f"{SITE}\n")
    try:
        said = run(environment, environment / "bin/convergd", "doctor", PATH="/usr/bin:/bin")
    finally:
        path.unlink()
    assert said.returncode == 0, said.stdout + said.stderr


def test_extraction_needs_no_torch_unless_a_gpu_is_asked_for(environment, tmp_path):
    tables, out = tmp_path / "values.safetensors", tmp_path / "out.safetensors"
    save_file({"values": np.arange(8.0).reshape(1, 8)}, tables)
    for device, code in (("cpu", 0), ("auto", 0), ("cuda", 69)):
        files = ("--values", str(tables), "--out", str(out))
        said = run(environment, "convergd", "extract", *files, "--device", device)
        assert said.returncode == code, said.stderr
    assert "no libtorch of PyTorch 2.11 was found" in said.stderr


def test_the_torch_of_its_own_environment_is_found(environment, torch):
    said = run(environment, "convergd", "doctor")
    assert said.returncode == 0, said.stdout + said.stderr
    assert "libtorch_cpu.so" in said.stdout and str(SITE) in said.stdout


def test_a_torch_that_only_python_knows_of_is_found(environment):
    (python,) = (environment / "lib").glob("python3*")
    path = python / "site-packages/elsewhere.pth"
    path.write_text(f"{SITE}\n")
    try:
        said = run(environment, "convergd", "doctor")
    finally:
        path.unlink()
    assert said.returncode == 0, said.stdout + said.stderr


def test_another_version_of_torch_is_refused_with_its_number(environment, tmp_path):
    torch = tmp_path / "lib/python3.11/site-packages/torch"
    (torch / "lib").mkdir(parents=True)
    (torch / "lib/libtorch_cpu.so").touch()
    (torch / "version.py").write_text("__version__ = '2.7.1+cpu'\n")
    said = run(environment, "convergd", "doctor", VIRTUAL_ENV=str(tmp_path))
    assert said.returncode == 69 and "PyTorch 2.7.1+cpu" in said.stdout, said.stdout


def test_a_program_that_is_not_there_is_told_with_its_places(environment, torch):
    program = environment / "bin/convergd-torch"
    aside = program.rename(program.with_suffix(".aside"))
    try:
        said = run(environment, "convergd", "doctor")
    finally:
        aside.rename(program)
    assert said.returncode == 69 and f"`{program}`" in said.stdout, said.stdout
