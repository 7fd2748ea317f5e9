"""A small run for the real program: two networks that learn a little, program and probe."""

import os
import subprocess

import torch
from attached import NETWORKS, convergd
from torch import nn

from convergd import export_program, make_probe, save_checkpoint

COLUMNS, CLASSES, SAMPLES = 8, 3, 6
BUDGET = "{id: budget, when: {reached: {step: 1000}}, then: {stop: {}}}"
"""A rule that never fires here."""


class Net(nn.Module):
    """One hidden layer; its input is masked."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(COLUMNS, 16), nn.ReLU(), nn.Linear(16, CLASSES))

    def forward(self, x):
        """[B, 8] -> [B, 3]."""
        return self.layers(x)


class Training:
    """One network on its way."""

    def __init__(self, directory, seed, inputs, labels):
        torch.manual_seed(seed)
        self.directory, self.inputs, self.labels, self.net = directory, inputs, labels, Net()
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=0.02)

    def save(self, step):
        """Learns a little and saves the checkpoint of a step."""
        for _ in range(10):
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.net(self.inputs), self.labels).backward()
            self.optimizer.step()
        save_checkpoint(self.net, self.directory, step)


class Run:
    """A directory with a run and its two trainings."""

    def __init__(self, directory, rules=(BUDGET,), more=""):
        self.directory = directory
        torch.manual_seed(0)
        inputs = torch.randn(64, COLUMNS)
        labels = (inputs[:, 0] * inputs[:, 1] > 0).long() + (inputs[:, 2] > 0.5).long()
        export_program(Net(), inputs[:2], path=directory / "program.ts")
        make_probe(directory / "probe.safetensors", inputs[:SAMPLES], labels[:SAMPLES])
        self.configure(rules, more)
        self.trainings = [
            Training(directory / name, seed, inputs, labels) for name, seed in NETWORKS.items()
        ]

    def configure(self, rules=(BUDGET,), more=""):
        """Writes `run.yaml` with these rules and further lines."""
        listed = "".join(f"    - {rule}\n" for rule in rules)
        (self.directory / "run.yaml").write_text(
            "state: state\nprogram: program.ts\n"
            "probe: {file: probe.safetensors, variables: {columns: {groups: 4}}}\n"
            "networks: {target: {checkpoints: target}, baseline: {checkpoints: baseline}}\n"
            f"compute: {{device: cpu}}\ncontrol: {{directory: control}}\n{more}"
            f"policy:\n  rules:\n{listed}"
        )

    def save(self, *steps):
        """Saves checkpoints of both networks."""
        for step in steps:
            for training in self.trainings:
                training.save(step)

    def line(self, *arguments):
        """A command of the program for this run."""
        return [str(convergd()), *map(str, arguments), "-c", "run.yaml"]

    def command(self, *arguments, code=0, **environment):
        """What a command leaves, which must end with this code."""
        result = subprocess.run(
            self.line(*arguments), cwd=self.directory, capture_output=True, text=True, timeout=120,
            env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"} | environment,
        )  # fmt: skip
        assert result.returncode == code, result.stdout + result.stderr
        return result
