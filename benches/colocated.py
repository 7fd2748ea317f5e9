"""What convergd takes from two trainings that it runs beside.

    python benches/colocated.py --convergd target/release/convergd --every 60 --seconds 180

Two trainings of digits, of one thread each, run at full speed and save a checkpoint every so many
seconds. The same pair of trainings runs in turn without convergd, beside it, and beside it at the
priority of any other process. Prints the batches a second of both trainings, and what they lose.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples" / "pytorch"
SEEDS = {"target": 11, "baseline": 22}
EQUAL = "{threads: 1, nice: 0, io: normal}"
ARMS = {"alone": None, "beside convergd": "{threads: 1}", "at equal priority": EQUAL}
"""What runs beside the trainings: `compute` of its configuration."""
CONFIG = """\
state: state
program: program.ts
probe: {{file: probe.safetensors, samples: 40, variables: {{image_patches: {{grid: 4, select: 8}}}}}}
networks: {{target: {{checkpoints: target}}, baseline: {{checkpoints: baseline}}}}
compute: {compute}
policy: {{rules: [{{id: budget, when: {{reached: {{step: 1000000}}}}, then: {{stop: {{}}}}}}]}}
control: {{directory: control}}
"""


def main() -> None:
    """Measure all arms in turn, some rounds long."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--convergd", type=Path, required=True, help="the program")
    parser.add_argument("--every", type=float, default=60.0, help="seconds between checkpoints")
    parser.add_argument("--seconds", type=float, default=180.0, help="of a round of an arm")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores; a checkpoint each {arguments.every:g} s of both networks")
    rates: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for turn in range(arguments.rounds):
        # Each is the first in turn: a machine is not the same from minute to minute.
        arms = list(ARMS)[turn % len(ARMS) :] + list(ARMS)[: turn % len(ARMS)]
        for arm in arms:
            with tempfile.TemporaryDirectory() as directory:
                rate, cpu, pairs = measure(arguments, Path(directory), ARMS[arm])
            rates[arm].append(rate)
            print(
                f"{arm:18} {rate:8.1f} batches/s  {pairs:3d} pairs  "
                f"{cpu:5.1f} s of a core for convergd",
                flush=True,
            )
    for arm in ARMS:
        losses = [1 - own / alone for own, alone in zip(rates[arm], rates["alone"], strict=True)]
        shown = ", ".join(f"{100 * loss:.1f}" for loss in losses)
        print(f"{arm:18} {100 * statistics.median(losses):6.1f} % slower ({shown})")


def measure(
    arguments: argparse.Namespace, run: Path, compute: str | None
) -> tuple[float, float, int]:
    """Batches a second of both trainings, CPU seconds of convergd, and the pairs it evaluated."""
    prepare = [sys.executable, EXAMPLES / "prepare.py", "--out", run]
    subprocess.run(prepare, check=True, stdout=subprocess.DEVNULL)
    (run / "control").mkdir()
    config, log = run / "run.yaml", run / "convergd.log"
    sidecar = None
    if compute is not None:
        config.write_text(CONFIG.format(compute=compute))
        with open(log, "w", encoding="utf-8") as lines:
            sidecar = subprocess.Popen(
                [arguments.convergd.resolve(), "run", "-c", config], stderr=lines
            )
        while "started" not in log.read_text():
            if sidecar.poll() is not None:
                sys.exit(log.read_text())
            time.sleep(0.05)
    rate = train_both(arguments, run)
    if sidecar is None:
        return rate, 0.0, 0
    status = [arguments.convergd, "status", "--json", "-c", config]
    pairs = json.loads(subprocess.run(status, check=True, capture_output=True).stdout)["pairs"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    sidecar.terminate()
    sidecar.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return rate, cpu, pairs


def train_both(arguments: argparse.Namespace, run: Path) -> float:
    """Batches a second of both, over the time in which both train."""
    # Both are at work by then.
    start = time.time() + 8.0
    worker = [sys.executable, Path(__file__).parent / "common" / "train_for.py"]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    options = ["--run", run, "--start", start]
    options += ["--every", arguments.every, "--seconds", arguments.seconds]
    processes = [
        subprocess.Popen(
            [str(part) for part in [*worker, "--network", network, "--seed", seed, *options]],
            stdout=subprocess.PIPE,
            env=environment,
        )
        for network, seed in SEEDS.items()
    ]
    batches = [int(process.communicate()[0]) for process in processes]
    if any(process.returncode for process in processes):
        sys.exit("a training failed")
    return sum(batches) / arguments.seconds


if __name__ == "__main__":
    main()
