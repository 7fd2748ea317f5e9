"""The batch scripts of Slurm: a real one on this machine where it is installed, and a stand-in.

The stand-in has no scheduler: its `srun` becomes the command, so it tells what the script does with
steps, signals and codes, and nothing of Slurm. The real one is Debian's (`apt-get install slurmctld
slurmd slurm-client munge`), begun by the test as root on the loopback.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from attached import ROOT, convergd

SCRIPTS = sorted((ROOT / "deploy/slurm").glob("*.sbatch"))
EXAMPLES = ROOT / "examples/pytorch"
STAND_INS = {
    "srun": """
for option in "$@"; do
    case $option in
        --job-name=*) name=${option#*=} ;;
        --output=*) output=${option#*=} ;;
        --*) ;;
        *) break ;;
    esac
    shift
done
echo "$$" > "$STEPS/$name"
exec "$@" >> "$output" 2>&1
""",
    "squeue": """
for step in "$STEPS"/*; do
    kill -0 "$(cat "$step")" 2>/dev/null && echo "$(basename "$step") $(basename "$step")"
done
""",
    "scancel": """
for option in "$@"; do
    case $option in --signal=*) signal=${option#*=} ;; *) step=$option ;; esac
done
kill -s "$signal" "$(cat "$STEPS/$step")"
""",
}


def test_the_scripts_are_in_order():
    shellcheck = shutil.which("shellcheck", path=f"{sys.prefix}/bin:{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("there is no `shellcheck`; requirements.txt has it")
    scripts = [*SCRIPTS, *(ROOT / "deploy").rglob("*.sh"), *(ROOT / "deploy").rglob("*healthcheck")]
    assert len(scripts) >= 4
    said = subprocess.run([shellcheck, *scripts], capture_output=True, text=True)
    assert said.returncode == 0, said.stdout


def wait_for(what, why):
    ends = time.monotonic() + 180
    while not what():
        assert time.monotonic() < ends, why()
        time.sleep(0.1)


class StandIn:
    """Runs a batch script as a child."""

    def __init__(self, directory, start):
        self.directory, self.start = directory, start
        self.programs = directory / "bin"
        self.programs.mkdir()
        for name, text in STAND_INS.items():
            (self.programs / name).write_text(f"#!/bin/bash{text}")
            (self.programs / name).chmod(0o755)

    def submit(self, script, log, environment):
        steps = self.directory / f"steps-of-{log.stem}"
        steps.mkdir()
        path = f"{self.programs}:{environment['PATH']}"
        own = {"SLURM_JOB_ID": "1", "STEPS": str(steps), "PATH": path}
        with open(log, "wb") as output:
            return self.start(
                ["bash", script], stdout=output, stderr=output, cwd=EXAMPLES, env=environment | own
            )

    def end_early(self, job):
        job.send_signal(signal.SIGTERM)

    def wait(self, job):
        return job.wait(180)


class Slurm:
    """A cluster of one node, which is said to have twenty processors and two GPUs."""

    def __init__(self, directory, start):
        self.directory = directory
        name = socket.gethostname().split(".")[0]
        ports = [free_port() for _ in range(2)]
        self.configuration = directory / "slurm.conf"
        self.environment = os.environ | {"SLURM_CONF": str(self.configuration)}
        for place in ("state", "spool"):
            (directory / place).mkdir()
        self.configuration.write_text(
            f"ClusterName=test\nSlurmctldHost={name}(127.0.0.1)\n"
            f"SlurmctldPort={ports[0]}\nSlurmdPort={ports[1]}\nSlurmUser=root\nSlurmdUser=root\n"
            f"AuthType=auth/munge\nCredType=cred/munge\nAuthInfo=socket={directory}/munge.socket\n"
            f"StateSaveLocation={directory}/state\nSlurmdSpoolDir={directory}/spool\n"
            f"SlurmctldPidFile={directory}/ctld.pid\nSlurmdPidFile={directory}/slurmd.pid\n"
            "ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nMpiDefault=none\n"
            "SelectType=select/cons_tres\nSelectTypeParameters=CR_CPU_Memory\n"
            "SlurmdParameters=config_overrides\nGresTypes=gpu\nReturnToService=2\n"
            f"NodeName={name} NodeAddr=127.0.0.1 CPUs=20 RealMemory=16000 Gres=gpu:2\n"
            f"PartitionName=all Nodes={name} Default=YES State=UP\n"
        )
        # Devices that are there on every machine stand for two GPUs.
        (directory / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
        key = directory / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        files = ("socket", "pid-file", "log-file", "seed-file")
        named = [f"--{file}={directory}/munge.{file.split('-')[0]}" for file in files]
        daemons = (
            ["munged", "--foreground", "--force", f"--key-file={key}", *named],
            ["slurmctld", "-D"],
            ["slurmd", "-D"],
        )
        for command in daemons:
            with open(directory / f"{command[0]}.log", "wb") as log:
                start(command, stdout=log, stderr=log, env=self.environment)
            if command[0] == "munged":
                wait_for((directory / "munge.socket").exists, self.logs)
        wait_for(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%T"), self.logs)

    def logs(self):
        return {log.name: log.read_text() for log in self.directory.glob("*.log")}

    def ask(self, *command):
        said = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60
        )
        return said.stdout + said.stderr

    def submit(self, script, log, environment):
        options = ["--parsable", "--mem-per-cpu=100M", f"--output={log}", f"--chdir={EXAMPLES}"]
        said = subprocess.run(
            ["sbatch", *options, script], env=self.environment | environment,
            cwd=EXAMPLES, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert said.returncode == 0, said.stderr
        return said.stdout.strip()

    def end_early(self, job):
        self.ask("scancel", "--batch", "--signal=TERM", job)

    def wait(self, job):
        def show():
            fields = self.ask("scontrol", "show", "job", job).split()
            return dict(field.split("=", 1) for field in fields if "=" in field)

        wait_for(lambda: show()["JobState"] in ("COMPLETED", "FAILED", "CANCELLED"), self.logs)
        return int(show()["ExitCode"].split(":")[0])


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


@pytest.fixture(params=[StandIn, Slurm])
def scheduler(request):
    programs = ("munged", "slurmctld", "slurmd")
    is_there = os.geteuid() == 0 and all(shutil.which(name) for name in programs)
    if request.param is Slurm and not is_there:
        pytest.skip("`apt-get install slurmctld slurmd slurm-client munge`, and root")
    if request.param is StandIn and is_there:
        pytest.skip("the real one is here")
    # A socket's path takes a hundred letters.
    directory = Path(tempfile.mkdtemp(prefix="slurm-"))
    started = []

    def start(command, **options):
        started.append(subprocess.Popen([str(part) for part in command], **options))
        return started[-1]

    try:
        yield request.param(directory, start)
    finally:
        for process in reversed(started):
            process.terminate()
        for process in reversed(started):
            process.wait(30)
        shutil.rmtree(directory)


@pytest.fixture
def run(tmp_path):
    """A directory with all that the run needs, and the environment of the scripts."""
    directory = tmp_path / "run"
    directory.mkdir()
    program = convergd()
    text = (ROOT / "config/demo.yaml").read_text().replace("../demo-run/", "")
    (directory / "run.yaml").write_text(text)
    environment = os.environ | {
        "RUN": str(directory),
        "PATH": f"{program.parent}:{sys.prefix}/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "python"),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    subprocess.run(
        [sys.executable, EXAMPLES / "prepare.py", "--out", directory, "--samples", "12"],
        check=True, env=environment, capture_output=True,
    )  # fmt: skip
    return directory, environment


def said(directory, log):
    return {path.name: path.read_text() for path in [log, *directory.glob("*.log")]}


def test_a_job_ends_early_and_the_next_one_is_stopped_by_convergd(scheduler, run, tmp_path):
    directory, environment = run
    job = scheduler.submit(ROOT / "deploy/slurm/run.sbatch", tmp_path / "first.out", environment)
    log = tmp_path / "first.out"
    wait_for(
        lambda: len(list((directory / "target").glob("*.safetensors"))) >= 2,
        lambda: said(directory, log),
    )
    scheduler.end_early(job)
    # The trainings of the example do not save at SIGTERM: they end by it.
    assert scheduler.wait(job) == 128 + signal.SIGTERM, said(directory, log)
    assert "convergd with 0 " in log.read_text(), said(directory, log)
    assert "the next start goes on here" in (directory / "convergd.log").read_text()

    log = tmp_path / "second.out"
    job = scheduler.submit(ROOT / "deploy/slurm/run.sbatch", log, environment)
    assert scheduler.wait(job) == 0, said(directory, log)
    assert "target ended with 0, baseline with 0, convergd with 10 " in log.read_text()
    for network in ("target", "baseline"):
        assert "told to stop" in (directory / f"{network}.log").read_text(), said(directory, log)


def test_trainings_that_save_when_they_are_asked_to_end_have_not_failed(scheduler, run, tmp_path):
    directory, environment = run
    (directory / "saves.sh").write_text(
        "trap 'echo saved; exit 0' TERM\necho begun\nwhile :; do sleep 0.1; done\n"
    )
    script = tmp_path / "saves.sbatch"
    text = (ROOT / "deploy/slurm/run.sbatch").read_text()
    for network in ("target", "baseline"):
        begin = text.index(f"{network}=(")
        end = text.index("\n", begin)
        text = text[:begin] + f'{network}=(bash "$run/saves.sh")' + text[end:]
    command = 'convergd run -c "$run/run.yaml"'
    assert text.count(command) == 1
    # It is to see no GPU, whether Slurm constrains devices or not.
    sees = "bash -c 'echo \"sees [${CUDA_VISIBLE_DEVICES-all}]\"; exec sleep 1'"
    script.write_text(text.replace(command, sees))
    log = tmp_path / "out"
    job = scheduler.submit(script, log, environment)

    def begun():
        logs = [directory / f"{network}.log" for network in ("target", "baseline")]
        return all(path.exists() and "begun" in path.read_text() for path in logs)

    wait_for(begun, lambda: said(directory, log))
    scheduler.end_early(job)
    assert scheduler.wait(job) == 0, said(directory, log)
    assert "target ended with 0, baseline with 0, convergd with" in log.read_text()
    assert "sees []" in (directory / "convergd.log").read_text(), said(directory, log)


def test_a_job_with_too_few_processors_says_so(run):
    _, environment = run
    finished = subprocess.run(
        ["bash", ROOT / "deploy/slurm/run.sbatch"], capture_output=True, text=True,
        env=environment | {"SLURM_CPUS_PER_TASK": "16"},
    )  # fmt: skip
    assert finished.returncode == 64
    assert "the steps want 18 processors and the job has 16" in finished.stderr


def test_a_mistake_in_the_file_ends_the_job_before_anything_is_trained(run):
    directory, environment = run
    with open(directory / "run.yaml", "a", encoding="utf-8") as config:
        config.write("nonsense: 1\n")
    # Without `srun`, so it comes to no step.
    finished = subprocess.run(
        ["bash", ROOT / "deploy/slurm/run.sbatch"], capture_output=True, text=True, env=environment
    )
    assert finished.returncode == 64
    assert "nonsense" in finished.stderr and "srun" not in finished.stderr


def test_trainings_begin_where_convergd_is_not_installed(run, tmp_path):
    """The command is looked at."""
    directory, environment = run
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in {"srun": 'echo "$1" >> "$RUN/begun"', "squeue": "", "scancel": ""}.items():
        (tools / name).write_text(f"#!/bin/bash\n{text}\n")
        (tools / name).chmod(0o755)
    finished = subprocess.run(
        ["bash", ROOT / "deploy/slurm/run.sbatch"], capture_output=True, text=True,
        env=environment | {"PATH": f"{tools}:/usr/bin:/bin"},
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    begun = (directory / "begun").read_text().split()
    assert sorted(begun) == [f"--job-name={name}" for name in ("baseline", "convergd", "target")]


def test_trainings_go_on_without_convergd(scheduler, run, tmp_path):
    directory, environment = run
    (directory / "probe.safetensors").write_bytes(b"torn")
    short = tmp_path / "short.sbatch"
    text = (ROOT / "deploy/slurm/run.sbatch").read_text()
    for seed in ("11", "22"):
        given = f"--seed {seed})"
        assert text.count(given) == 1
        text = text.replace(given, f"--seed {seed} --epochs 2 --min-epoch-seconds 0)")
    short.write_text(text)
    log = tmp_path / "out"
    assert scheduler.wait(scheduler.submit(short, log, environment)) == 0, said(directory, log)
    assert "target ended with 0, baseline with 0, convergd with 65 " in log.read_text()
    assert "probe.safetensors" in (directory / "convergd.log").read_text()


def test_a_task_of_the_array_asks_for_its_shard(tmp_path):
    """The command is looked at; what it does is tested where it is made."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in {"srun": 'exec "$@"', "convergd": 'printf "%s\\n" "$@"'}.items():
        (tools / name).write_text(f"#!/bin/bash\n{text}\n")
        (tools / name).chmod(0o755)
    # Of a task that is submitted again, with one other.
    task = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "2", "RUN": "/runs/a"}
    said = subprocess.run(
        ["bash", ROOT / "deploy/slurm/values.sbatch"], capture_output=True, text=True, check=True,
        env={"PATH": f"{tools}:/usr/bin:/bin"} | task,
    )  # fmt: skip
    assert said.stdout.split() == ["values", "-c", "/runs/a/run.yaml", "--shard", "3/8"]
