"""Trainings with the real program attached to them."""

import json
import os
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE = 240
"""Seconds in which everything has ended."""
NETWORKS = {"target": 11, "baseline": 22}
"""The networks and their seeds."""
EARLY_STOPPED = 10


def convergd():
    """The program; the test is skipped where it is not."""
    path = Path(os.environ.get("CONVERGD", ROOT / "target" / "release" / "convergd"))
    if not path.exists():
        pytest.skip(f"{path} is not there: `make build`, or set CONVERGD")
    return path


def write_config(run, variables, rules):
    """`run.yaml` beside the program and the probe of the run."""
    networks = "".join(f"  {name}: {{checkpoints: {name}}}\n" for name in NETWORKS)
    (run / "run.yaml").write_text(
        "state: state\n"
        "program: program.ts\n"
        f"probe: {{file: probe.safetensors, samples: 6, variables: {variables}}}\n"
        f"networks:\n{networks}"
        "compute: {device: cpu, threads: 1}\n"
        f"policy:\n  rules:\n{''.join(f'    - {rule}' + chr(10) for rule in rules)}"
        "control: {directory: control, acknowledge: 60s}\n"
        "end: {idle: 2m}\n"
    )


@contextmanager
def processes():
    """Starts programs, and ends what still runs at the end."""
    started = []

    def start(command, log, **environment):
        with open(log, "wb") as output:
            started.append(
                subprocess.Popen(
                    [str(part) for part in command], stdout=output, stderr=subprocess.STDOUT,
                    cwd=log.parent, env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"} | environment,
                )
            )  # fmt: skip
        return started[-1]

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.wait()


def run_attached(run, command):
    """The program and a training for each network, until all have ended by themselves.

    Args:
        run: its directory, which has `run.yaml`.
        command: the command of a training, from the name of the network and the seed.

    Returns:
        What `convergd status --json` says.
    """
    program = convergd()
    package = os.pathsep.join([str(ROOT / "python"), str(Path(__file__).parent)])
    ends = time.monotonic() + DEADLINE
    with processes() as start:
        logs = {name: run / f"{name}.log" for name in ("convergd", *NETWORKS)}
        running = {"convergd": start([program, "run", "-c", "run.yaml"], logs["convergd"])}
        for network, seed in NETWORKS.items():
            running[network] = start(command(network, seed), logs[network], PYTHONPATH=package)
        codes = {}
        for name, process in running.items():
            try:
                codes[name] = process.wait(max(0.0, ends - time.monotonic()))
            except subprocess.TimeoutExpired:
                codes[name] = "does not end"
        said = {name: log.read_text() for name, log in logs.items()}
        assert codes == {"convergd": EARLY_STOPPED, "target": 0, "baseline": 0}, said
        status = [program, "status", "-c", "run.yaml", "--json"]
        return json.loads(
            subprocess.run(status, cwd=run, check=True, capture_output=True, timeout=60).stdout
        )
