"""What the regularised phase does: the same plain phase, and then each loss from there on.

    python phase.py --convergd target/release/convergd --out target/experiments

Two networks of a task are trained plainly from different seeds. convergd evaluates their
checkpoints and says when `convergent_ratio` has peaked. From that epoch on each arm goes on
from the same weights, with the same batches, for as many epochs as the plain one. convergd
then extracts the interactions of the networks at the end. Printed is a table in Markdown, means
over the pairs of seeds; `results.json` has the numbers of each.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
import subprocess
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from arms import ARMS, PLAIN, Arm, Loss, logits, loss_of
from convergd import export_program, make_probe, save_checkpoint
from tasks import Task, load

TASKS = ("digits", "fashion", "sentences")
MONITORS = ("convergent_ratio", "high_order_share", "offsetting_share")

CONFIG = """\
name: {name}
state: state
program: {program}
probe:
  file: {probe}
  variables: {variables}
  baseline: {baseline}
networks:
  target: {{checkpoints: target}}
  baseline: {{checkpoints: baseline}}
compute: {{device: auto, threads: 1}}
policy:
  rules:
    - id: onset
      phase: plain
      when:
        peaked: {{metric: convergent_ratio, patience: {{checks: 3}}}}
      warmup: {{min_output_scale: 0.25}}
      then:
        phase: {{to: regularized, lambda: 0.8}}
    - id: budget
      when:
        reached: {{step: 1000}}
      then:
        stop: {{}}
control: {{directory: control}}
"""


class Pair:
    """Both networks with their optimisers."""

    def __init__(self, task: Task, seeds: tuple[int, int]) -> None:
        self.task = task
        self.networks = []
        for seed in seeds:
            torch.manual_seed(seed)
            self.networks.append(task.network())
        self.optimizers = [
            torch.optim.Adam(network.parameters(), lr=task.rate) for network in self.networks
        ]
        self.order = torch.Generator().manual_seed(seeds[0])

    def epoch(self, loss: Loss) -> None:
        """Every training sample once."""
        task = self.task
        for batch in torch.randperm(len(task.training), generator=self.order).split(task.batch):
            value = loss(*self.networks, task.training.rows(batch))
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            value.backward()
            for optimizer in self.optimizers:
                optimizer.step()

    def save(self, directory: Path, epoch: int) -> None:
        """Checkpoints of both."""
        for name, network in zip(("target", "baseline"), self.networks, strict=True):
            save_checkpoint(network, directory / name, epoch)

    def losses(self) -> dict[str, float]:
        """Mean of both networks: cross entropy in nats, and accuracy on the test part."""
        both = [self._losses(network) for network in self.networks]
        return {name: (both[0][name] + both[1][name]) / 2 for name in both[0]}

    @torch.no_grad()
    def _losses(self, network: nn.Module) -> dict[str, float]:
        network.eval()
        found = {}
        for name, part in (("train", self.task.training), ("test", self.task.test)):
            z = logits(network, part)
            found[name] = functional.cross_entropy(z, part.labels).item()
            found["accuracy"] = (z.argmax(1) == part.labels).float().mean().item()
        network.train()
        return found


class Sidecar:
    """The program, and what it needs of a task."""

    def __init__(self, program: Path, task: Task, out: Path) -> None:
        self.program, self.task, self.out = program.resolve(), task, out.resolve()
        network = task.network()
        examples = task.probe.rows(slice(0, 4)).inputs
        export_program(network, examples, split=task.split, path=self.out / "program.ts")
        make_probe(self.out / "probe.safetensors", task.probe.inputs, task.probe.labels)

    def look(self, directory: Path) -> dict:
        """What convergd finds in the checkpoints of a directory."""
        text = CONFIG.format(
            name=self.task.name,
            program=self.out / "program.ts",
            probe=self.out / "probe.safetensors",
            variables=self.task.probe_variables,
            baseline=self.task.baseline,
        )
        config = directory / "run.yaml"
        config.write_text(text)
        subprocess.run([self.program, "run", "--once", "-c", config], check=True, stderr=-3)
        said = subprocess.run(
            [self.program, "status", "--json", "-c", config], check=True, stdout=-1
        )
        return json.loads(said.stdout)


def run_pair(task: Task, seeds: tuple[int, int], sidecar: Sidecar, out: Path) -> dict:
    """All arms from one plain phase."""
    pair, kept, history = Pair(task, seeds), {}, []
    plain = loss_of(PLAIN, task, 0, seeds[0])
    for epoch in range(1, task.epochs + 1):
        pair.epoch(plain)
        pair.save(out / "plain", epoch)
        history.append(pair.losses())
        kept[epoch] = copy.deepcopy((pair.networks, pair.optimizers, pair.order.get_state()))
    found = sidecar.look(out / "plain")
    switches = [one for one in found["decisions"] if one["action"] == "phase"]
    if not switches:
        raise SystemExit(f"{task.name}: `convergent_ratio` has not peaked in {task.epochs} epochs")
    onset = switches[0]["step"]
    results = {PLAIN.name: result(history, onset, found)}
    for arm in ARMS[1:]:
        one = go_on(task, arm, seeds, kept[onset], onset, out, sidecar)
        if one is not None:
            results[arm.name] = one
    return {"seeds": seeds, "onset": onset, "arms": results}


def go_on(
    task: Task,
    arm: Arm,
    seeds: tuple[int, int],
    start: tuple,
    onset: int,
    out: Path,
    sidecar: Sidecar,
) -> dict | None:
    """One arm, from the weights and the optimisers of the plain phase."""
    steps = -(-len(task.training) // task.batch)
    loss = loss_of(arm, task, steps, seeds[0])
    if loss is None:
        return None
    pair = Pair(task, seeds)
    networks, optimizers, order = start
    for i in range(2):
        pair.networks[i].load_state_dict(networks[i].state_dict())
        pair.optimizers[i].load_state_dict(optimizers[i].state_dict())
        for group in pair.optimizers[i].param_groups:
            group["lr"] = task.rate * arm.rate
    pair.order.set_state(order)
    history = []
    for _ in range(onset, task.epochs):
        pair.epoch(loss)
        history.append(pair.losses())
    directory = out / arm.name.replace(" ", "_").replace("/", "-")
    pair.save(directory, task.epochs)
    return result(history, 0, sidecar.look(directory))


def result(history: list[dict], since: int, found: dict) -> dict:
    """What is printed of an arm: from the switch on."""
    after = history[since:]
    monitors = {name: found["monitors"][name]["value"] for name in MONITORS}
    certified = f"{found['certified']} of {found['extractions']}"
    best = min(one["test"] for one in after)
    return after[-1] | {"best": best, "certified": certified} | monitors


def table(task: Task, pairs: list[dict]) -> str:
    """Means over the pairs, as Markdown."""
    columns = ["best", "test", "train", "accuracy", *MONITORS]
    onsets = ", ".join(str(pair["onset"]) for pair in pairs)
    lines = [
        f"**{task.name}**: {len(task.training)} training samples, {task.epochs} epochs, switched "
        f"at epoch {onsets}",
        "",
        "| after the plain phase | best test loss | at the end | gap | accuracy | convergent "
        "| high order | offsetting |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm in ARMS:
        if arm.name not in pairs[0]["arms"]:
            continue
        value = {name: mean(pairs, arm.name, name) for name in columns}
        lines.append(
            f"| {arm.name} | {value['best']:.3f} | {value['test']:.3f} | "
            f"{value['test'] - value['train']:.3f} | {100 * value['accuracy']:.1f} % | "
            f"{value['convergent_ratio']:.3f} | {value['high_order_share']:.3f} | "
            f"{value['offsetting_share']:.3f} |"
        )
    return "\n".join(lines)


def mean(pairs: list[dict], arm: str, name: str) -> float:
    """Over the pairs of seeds."""
    return sum(pair["arms"][arm][name] for pair in pairs) / len(pairs)


def main() -> None:
    """Read the arguments, run, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--convergd", type=Path, required=True, help="the program")
    parser.add_argument(
        "--out", type=Path, required=True, help="directory; `phase` in it is emptied"
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=3, help="pairs of networks for each task")
    parser.add_argument("--sentences", type=Path, help="movieReviewSnippets_GroundTruth.txt")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    root = arguments.out / "phase"
    shutil.rmtree(root, ignore_errors=True)
    results = {}
    for name in arguments.tasks:
        task = load(name, arguments.sentences)
        if isinstance(task, str):
            print(f"{name} is left out: {task}\n")
            continue
        out = root / name
        out.mkdir(parents=True)
        sidecar = Sidecar(arguments.convergd, task, out)
        pairs = []
        for index in range(arguments.seeds):
            seeds = (11 + index, 22 + index)
            pairs.append(run_pair(task, seeds, sidecar, out / f"{seeds[0]}-{seeds[1]}"))
        results[name] = pairs
        print(table(task, pairs), end="\n\n", flush=True)
    (root / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
