"""The build backend: which torch it finds, what it asks for, and what an sdist holds."""

import email.parser
import os
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = Path(sysconfig.get_paths()["purelib"])
"""Where maturin is."""
SYSTEM = "/usr/bin:/bin"
"""PATH without the torch of the tests."""
WITH_MATURIN = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
"""PATH with maturin and Rust."""


def make_environment(directory, torch=None):
    """A virtual environment, with a torch of a version as far as the backend looks at it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    if torch is not None:
        write_torch(packages_of(directory), torch)
    return directory


def packages_of(environment):
    (python,) = (environment / "lib").glob("python3*")
    return python / "site-packages"


def write_torch(packages, version):
    (packages / "torch").mkdir(parents=True)
    (packages / "torch/__init__.py").touch()
    (packages / "torch/version.py").write_text(f"__version__ = '{version}'\n")


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """The environment that a frontend makes for a build: it has maturin and nothing else."""
    environment = make_environment(tmp_path_factory.mktemp("build") / "venv")
    (packages_of(environment) / "maturin").symlink_to(PACKAGES / "maturin")
    return environment


def run(build, code, directory=ROOT / "python", path=SYSTEM, **variables):
    """Python code with the backend, in the environment of the build."""
    kept = {name: os.environ[name] for name in ("HOME", "CARGO_HOME") if name in os.environ}
    return subprocess.run(
        [build / "bin/python", "-c", f"import sys; sys.path.insert(0, '.'); {code}"],
        cwd=directory,
        env=kept | {"PATH": f"{build / 'bin'}:{path}"} | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )


def asked_for(build, **environment):
    """The torch that an isolated build installs, and the one that the build then takes."""
    hooks = [f"b.get_requires_for_build_{what}()" for what in ("wheel", "editable")]
    code = f"import build_backend as b; print([r for r in {' + '.join(hooks)} if 'torch' in r])"
    required = run(build, code, **environment)
    assert required.returncode == 0, required.stderr
    code = "import os, build_backend as b; b._use_torch(); print(os.environ['LIBTORCH'])"
    return required.stdout.strip(), run(build, code, **environment)


def test_torch_is_installed_for_the_build_where_there_is_none(build, tmp_path):
    wanted, used = asked_for(build, VIRTUAL_ENV=str(tmp_path / "none"))
    assert wanted == "['torch==2.11.*', 'torch==2.11.*']"
    assert used.returncode != 0
    for part in (
        "the libtorch of PyTorch 2.11, which was not found:",
        f"{packages_of(build)}/torch: not there",
        "`pip install torch==2.11.0` first",
        "without `--no-build-isolation`",
    ):
        assert part in used.stderr, used.stderr


def test_a_torch_of_another_version_is_none(build, tmp_path):
    environment = make_environment(tmp_path / "venv", "2.12.1+cpu")
    wanted, used = asked_for(build, VIRTUAL_ENV=str(environment))
    assert "torch==2.11.*" in wanted
    assert f"{packages_of(environment)}/torch: 2.12.1+cpu" in used.stderr


@pytest.mark.parametrize("how", ["pip", "conda", "uv"])
def test_the_torch_of_the_active_environment_is_found(build, tmp_path, how):
    environment = make_environment(tmp_path / "venv", "2.11.0+cu130")
    active = {
        "pip": {"VIRTUAL_ENV": str(environment)},
        "conda": {"CONDA_PREFIX": str(environment)},
        "uv": {"VIRTUAL_ENV": str(build), "path": f"{environment / 'bin'}:{SYSTEM}"},
    }
    wanted, used = asked_for(build, **active[how])
    assert wanted == "[]"
    assert used.stdout.strip() == str(packages_of(environment) / "torch"), used.stderr


def test_a_torch_that_only_its_interpreter_knows_of_is_found(build, tmp_path):
    environment = make_environment(tmp_path / "venv")
    write_torch(tmp_path / "elsewhere", "2.11.0")
    (packages_of(environment) / "elsewhere.pth").write_text(f"{tmp_path / 'elsewhere'}\n")
    for active in ({"VIRTUAL_ENV": str(environment)}, {"path": f"{environment / 'bin'}:{SYSTEM}"}):
        wanted, used = asked_for(build, **active)
        assert wanted == "[]"
        assert used.stdout.strip() == str(tmp_path / "elsewhere/torch"), used.stderr


def test_a_torch_that_was_installed_for_the_build_is_taken(tmp_path):
    build = make_environment(tmp_path / "venv", "2.11.0")
    (packages_of(build) / "maturin").symlink_to(PACKAGES / "maturin")
    wanted, used = asked_for(build)
    assert wanted == "[]"
    assert used.stdout.strip() == str(packages_of(build) / "torch"), used.stderr


def test_what_libtorch_says_is_taken_as_it_is(build):
    wanted, used = asked_for(build, LIBTORCH="/somewhere/torch")
    assert (wanted, used.stdout.strip()) == ("[]", "/somewhere/torch")


@pytest.fixture(scope="module")
def sdist(build, tmp_path_factory):
    """An sdist, unpacked."""
    directory = tmp_path_factory.mktemp("sdist")
    code = f"import build_backend as b; print(b.build_sdist({str(directory)!r}))"
    said = run(build, code, path=WITH_MATURIN)
    assert said.returncode == 0, said.stderr
    (archive,) = directory.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(directory, filter="data")
    (unpacked,) = (path for path in directory.iterdir() if path.is_dir())
    return unpacked


def files_below(directory):
    """Their paths from there, but for what Python keeps."""
    paths = [path.relative_to(directory) for path in directory.rglob("*") if path.is_file()]
    return {str(path) for path in paths if "__pycache__" not in path.parts}


def test_an_sdist_holds_the_sources(sdist):
    crates = [(name, name) for name in ("src", "core/src", "analysis/src")]
    for ours, theirs in (*crates, ("python/convergd", "convergd")):
        names = files_below(ROOT / ours)
        assert names and names <= files_below(sdist / theirs), ours
    for name in ("Cargo.lock", "build.rs", "LICENSE-APACHE", "LICENSE-MIT", "README.md"):
        assert (sdist / name).read_bytes() == (ROOT / name).read_bytes(), name
    for name in ("PACKAGE.md", "build_backend.py"):
        assert (sdist / name).read_bytes() == (ROOT / "python" / name).read_bytes(), name
    assert not {"target", ".venv", ".git"} & {path.name for path in sdist.iterdir()}


def test_an_sdist_can_be_built_with_its_lock_file(sdist):
    command = ["cargo", "metadata", "--locked", "--offline", "--format-version", "1"]
    said = subprocess.run(command, cwd=sdist, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr


def test_a_wheel_of_an_sdist_has_the_same_metadata(build, sdist, tmp_path):
    """As far as it is known without compiling."""
    found = []
    for name, directory in (("ours", ROOT / "python"), ("theirs", sdist)):
        out = tmp_path / name
        out.mkdir()
        code = f"import build_backend as b; b.prepare_metadata_for_build_wheel({str(out)!r})"
        said = run(build, code, directory, path=WITH_MATURIN)
        assert said.returncode == 0, said.stderr
        (info,) = out.iterdir()
        found.append({name: (info / name).read_text() for name in files_below(info)})
    assert found[0] == found[1]
    metadata = email.parser.Parser().parsestr(found[1]["METADATA"])
    assert metadata.get_payload().strip() == (ROOT / "python/PACKAGE.md").read_text().strip()
