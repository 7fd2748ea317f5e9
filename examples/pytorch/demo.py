"""The demo: two trainings of digits and a sidecar that attaches to them, as three processes.

    python demo.py --convergd target/release/convergd --config config/demo.yaml --run demo-run

Prints what was decided and why, and where the report is.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SEEDS = {"target": 11, "baseline": 22}
EARLY_STOPPED = 10
MARKER = ".convergd-demo"
"""Tells a directory that the demo may empty from one that it must not."""


def main() -> int:
    """Run the demo; 0 when training and sidecar did what they should."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--convergd", type=Path, required=True, help="the binary")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="directory; emptied first")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--min-epoch-seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    started = time.monotonic()
    empty(arguments.run)
    subprocess.run([sys.executable, HERE / "prepare.py", "--out", arguments.run], check=True)
    codes = run_all(arguments)
    print(f"\nall three ended after {time.monotonic() - started:.0f} s")
    return conclude(arguments, codes)


def empty(run: Path) -> None:
    """Remove an earlier run, and nothing that is not one."""
    if run.exists() and any(run.iterdir()) and not (run / MARKER).exists():
        sys.exit(f"{run} is not empty and holds no earlier demo; give another --run")
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    (run / MARKER).touch()


def run_all(arguments: argparse.Namespace) -> dict[str, int]:
    """Start the sidecar and both trainings, wait for all; their exit codes."""
    sidecar = [arguments.convergd, "run", "-c", arguments.config]
    processes = {"convergd": subprocess.Popen(sidecar)}
    try:
        for network, seed in SEEDS.items():
            options = ["--run", arguments.run, "--network", network, "--seed", str(seed)]
            pace = ["--min-epoch-seconds", str(arguments.min_epoch_seconds)]
            epochs = ["--epochs", str(arguments.epochs)]
            command = [sys.executable, HERE / "train.py", *options, *pace, *epochs]
            with open(arguments.run / f"{network}.log", "w", encoding="utf-8") as log:
                processes[network] = subprocess.Popen(command, stdout=log, stderr=log)
        # A sidecar that cannot start says why; then there is nothing to wait for.
        while processes["convergd"].poll() is None:
            time.sleep(0.1)
        if processes["convergd"].returncode not in (0, EARLY_STOPPED):
            sys.exit(f"convergd ended with exit code {processes['convergd'].returncode}")
        return {name: process.wait() for name, process in processes.items()}
    finally:
        for process in processes.values():
            if process.poll() is None:
                process.terminate()
                process.wait()


def conclude(arguments: argparse.Namespace, codes: dict[str, int]) -> int:
    """Print the outcome from the sidecar's own status, and the report's path."""
    report = arguments.run / "report.html"
    base = [arguments.convergd]
    config = ["-c", arguments.config]
    subprocess.run([*base, "report", *config, "-o", report], check=True, stdout=subprocess.DEVNULL)
    status = subprocess.run([*base, "status", *config, "--json"], check=True, capture_output=True)
    status = json.loads(status.stdout)
    print(f"pairs evaluated: {status['pairs']}, checkpoints skipped: {status['skipped']}")
    for decision in status["decisions"]:
        describe(decision)
    for network in SEEDS:
        lines = log_of(arguments.run, network)
        print(f"{network}: {(arguments.run / f'{network}.log').read_text().splitlines()[-1]}")
        best = status["decisions"][-1]["best_step"] if status["decisions"] else None
        for name, line in (("best step", find(lines, best)), ("end", lines[-1])):
            if line:
                print(
                    f"  at the {name} ({line['step']}): test loss {line['test_loss']:.3f}, "
                    f"test accuracy {line['test_accuracy']:.3f}"
                )
    print_probe(status)
    print(f"report: {report.resolve()}")
    print(f"exit codes: {codes}")
    fine = codes["convergd"] == EARLY_STOPPED and codes["target"] == codes["baseline"] == 0
    # Every epoch up to the decision was evaluated; one training may be an epoch ahead at its end.
    kept_up = bool(status["decisions"]) and status["pairs"] >= status["decisions"][-1]["step"]
    return 0 if fine and kept_up else 1


def describe(decision: dict) -> None:
    """One decision with its reason."""
    print(f"\ndecided: {decision['action']} at step {decision['step']}, rule `{decision['rule']}`")
    print(f"  why: {decision['reason']}")
    if decision["best_step"] is not None:
        print(f"  best step: {decision['best_step']}")
    if decision["action"] == "phase":
        print(f"  phase {decision['phase']}, lambda {decision['lambda']}")


def print_probe(status: dict) -> None:
    """Probe loss and accuracy, mean of both networks."""
    ends = [("the end", status["step"], status["monitors"])]
    if status["best"]:
        ends.insert(0, ("the best step", status["best"]["step"], status["best"]["monitors"]))
    for name, step, monitors in ends:
        loss, accuracy = monitors["probe_loss"]["value"], monitors["probe_accuracy"]["value"]
        print(f"probe at {name} ({step}): loss {loss:.3f}, accuracy {accuracy:.3f}")
    print(
        f"extractions certified at the last pair: {status['certified']} of {status['extractions']}"
    )


def log_of(run: Path, network: str) -> list[dict]:
    """The lines that a trainer wrote, one an epoch."""
    text = (run / network / "log.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def find(lines: list[dict], step: int | None) -> dict | None:
    """The line of a step."""
    return next((line for line in lines if line["step"] == step), None)


if __name__ == "__main__":
    sys.exit(main())
