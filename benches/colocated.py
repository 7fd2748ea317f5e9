"""What convergd takes from two trainings that it runs beside.

    python benches/colocated.py --convergd target/release/convergd --every 60 --seconds 180

Two trainings of digits, of one thread each, run at full speed and save a checkpoint every so many
seconds. The same pair of trainings runs in turn without convergd; beside it; beside it in another
session, where niceness does not count if the kernel shares processors by session; and beside it at
the priority of any other process. Prints batches a second of both trainings, and what they lose:
in the ten seconds after each checkpoint against the rest of the same round, where checkpoints are
that rare, since a machine is not the same from minute to minute; else against the round alone.
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
AFTER = 10
"""Seconds after a checkpoint in which it is evaluated, at the most."""
DEFAULT = "{threads: 1}"
EQUAL = "{threads: 1, nice: 0, io: normal}"
ARMS = {
    "alone": None,
    "beside convergd": (DEFAULT, False),
    "in another session": (DEFAULT, True),
    "at equal priority": (EQUAL, False),
}
"""What runs beside the trainings: `compute`, and whether in a session of its own."""
CONFIG = """\
state: state
program: program.ts
probe:
  file: probe.safetensors
  samples: 40
  variables: {{image_patches: {{grid: 4, select: 8}}}}
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
    parser.add_argument("--seconds", type=int, default=120, help="of a round of an arm")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    is_rare = arguments.every >= 3 * AFTER
    print(f"{os.cpu_count()} cores; a checkpoint each {arguments.every:g} s of both networks")
    lost: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for turn in range(arguments.rounds):
        # Each is the first in turn.
        arms = list(ARMS)[turn % len(ARMS) :] + list(ARMS)[: turn % len(ARMS)]
        rates = {}
        for arm in arms:
            with tempfile.TemporaryDirectory() as directory:
                batches, cpu, pairs = measure(arguments, Path(directory), ARMS[arm])
            rates[arm] = statistics.mean(batches)
            if is_rare:
                lost[arm].append(lost_after_checkpoints(batches, arguments.every))
            print(
                f"{arm:18} {rates[arm]:8.1f} batches/s  {pairs:3d} pairs  "
                f"{cpu:5.1f} s of a core for convergd",
                flush=True,
            )
        if not is_rare:
            for arm, rate in rates.items():
                lost[arm].append(1 - rate / rates["alone"])
    for arm, losses in lost.items():
        shown = ", ".join(f"{100 * loss:.1f}" for loss in losses)
        print(f"{arm:18} {100 * statistics.median(losses):6.1f} % lost ({shown})")


def lost_after_checkpoints(batches: list[int], every: float) -> float:
    """The share of a round's batches that is missing in the seconds after its checkpoints."""
    first = round(0.5 * every)
    after = {s for s in range(first, len(batches)) if (s - first) % every < AFTER}
    usual = statistics.mean(count for s, count in enumerate(batches) if s not in after)
    missing = sum(usual - batches[second] for second in after)
    return missing / (usual * len(batches))


def measure(
    arguments: argparse.Namespace, run: Path, beside: tuple[str, bool] | None
) -> tuple[list[int], float, int]:
    """Batches of both trainings by second, CPU seconds of convergd, and its pairs."""
    prepare = [sys.executable, EXAMPLES / "prepare.py", "--out", run]
    subprocess.run(prepare, check=True, stdout=subprocess.DEVNULL)
    (run / "control").mkdir()
    config, log = run / "run.yaml", run / "convergd.log"
    if beside is None:
        return train_both(arguments, run), 0.0, 0
    compute, own_session = beside
    config.write_text(CONFIG.format(compute=compute))
    command = [arguments.convergd.resolve(), "run", "-c", config]
    with open(log, "w", encoding="utf-8") as lines:
        sidecar = subprocess.Popen(command, stderr=lines, start_new_session=own_session)
    try:
        while "started" not in log.read_text():
            if sidecar.poll() is not None:
                sys.exit(log.read_text())
            time.sleep(0.05)
        batches = train_both(arguments, run)
        status = [arguments.convergd, "status", "--json", "-c", config]
        told = subprocess.run(status, check=True, capture_output=True).stdout
        pairs = json.loads(told)["pairs"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
    finally:
        sidecar.terminate()
        sidecar.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return batches, cpu, pairs


def train_both(arguments: argparse.Namespace, run: Path) -> list[int]:
    """Batches of both in each second of the time in which both train."""
    # Both are at work by then.
    start = time.time() + 10.0
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
    told = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit("a training failed")
    return [sum(both) for both in zip(*map(json.loads, told), strict=True)]


if __name__ == "__main__":
    main()
