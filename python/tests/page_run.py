"""A run whose page is looked at: two small networks of images, saved step by step."""

import json
import math
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager

import torch
from attached import NETWORKS, convergd
from torch import nn

from convergd import export_program, make_probe, save_checkpoint

SIDE = 8
CLASSES = 3
SAMPLES = 12
PATIENCE = 60
"""Seconds; far more than anything takes."""


class Net(nn.Module):
    """Images [B, 1, 8, 8] -> logits [B, 3]."""

    def __init__(self):
        super().__init__()
        self.low = nn.Conv2d(1, 4, 3, padding=1)
        self.high = nn.Linear(4 * SIDE * SIDE, CLASSES)

    def forward(self, x):
        return self.high(torch.relu(self.low(x)).flatten(1))


def network(seed, step):
    """Both grow alike up to step 6, and apart after it."""
    torch.manual_seed(1)
    common = [torch.randn_like(p) for p in Net().parameters()]
    torch.manual_seed(seed)
    own = [torch.randn_like(p) for p in Net().parameters()]
    net = Net()
    share = 0.25 + 0.03 * max(0, step - 6)
    with torch.no_grad():
        for parameter, ours, mine in zip(net.parameters(), common, own, strict=True):
            parameter.copy_((1 - math.exp(-step / 3)) * 0.3 * ((1 - share) * ours + share * mine))
    return net


def images():
    """A bright bar in each, at another place for each sample."""
    torch.manual_seed(2)
    inputs = 0.2 * torch.rand(SAMPLES, 1, SIDE, SIDE)
    for sample in range(SAMPLES):
        inputs[sample, 0, sample % SIDE, 1:7] += 0.8
        inputs[sample, 0, 2:6, (3 * sample) % SIDE] += 0.6
    return inputs


class Run:
    """One run in a directory, with a port of its own."""

    def __init__(self, directory):
        self.directory = directory
        self.process = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        inputs = images()
        labels = network(7, 6)(inputs).argmax(1)
        export_program(Net().eval(), inputs[:2], split="low", path=directory / "program.ts")
        make_probe(directory / "probe.safetensors", inputs, labels)
        networks = "".join(f"  {name}: {{checkpoints: {name}}}\n" for name in NETWORKS)
        (directory / "run.yaml").write_text(
            "name: bars\nstate: state\nprogram: program.ts\n"
            "probe:\n  file: probe.safetensors\n"
            "  variables: {image_patches: {grid: 4, margin: 0, select: 6}}\n"
            f"networks:\n{networks}"
            "compute: {device: cpu, threads: 1}\n"
            "policy:\n  rules:\n"
            "    - id: peaked\n"
            "      when: {peaked: {metric: convergent_ratio, patience: {checks: 40}}}\n"
            "      then: {stop: {}}\n"
            "    - {id: turn, when: {reached: {step: 4}}, then: {phase: {to: regularized}}}\n"
            "    - {id: note, when: {reached: {step: 2}}, then: {notify: {message: two steps}}}\n"
            "    - {id: budget, when: {reached: {step: 1000}}, then: {stop: {}}}\n"
            "  phases: {plain: {lambda: 0}, regularized: {lambda: 0.5}}\n"
            "control: {directory: control}\n"
            f"telemetry: {{listen: '127.0.0.1:{self.port}'}}\n"
        )

    def save(self, *steps):
        """Both trainings write a checkpoint of each step."""
        for step in steps:
            for name, seed in NETWORKS.items():
                save_checkpoint(network(seed, step), self.directory / name, step)

    def start(self):
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                [convergd(), "run", "-c", "run.yaml"], cwd=self.directory, stdout=log, stderr=log,
                env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
            )  # fmt: skip
        self.until(lambda: self.get("/readyz") == "ready\n")

    def end(self, how=signal.SIGTERM):
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(PATIENCE)
            self.process = None

    def get(self, path):
        """The text of an answer; nothing where there is none yet."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=PATIENCE) as answer:
                return answer.read().decode()
        except OSError:
            return None

    def json(self, path):
        return json.loads(self.get(path))

    def until(self, is_so):
        ends = time.monotonic() + PATIENCE
        while not is_so():
            assert self.process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < ends, (self.directory / "log").read_text()
            time.sleep(0.02)

    def evaluated(self, step):
        """Waits until the pair of a step is stored."""
        found = re.compile(rf"^convergd_pair_step {step}$", re.M)
        self.until(lambda: found.search(self.get("/metrics") or ""))


@contextmanager
def running(directory, *steps):
    """A run at work that has evaluated the steps."""
    run = Run(directory)
    run.save(*steps)
    try:
        run.start()
        if steps:
            run.evaluated(steps[-1])
        yield run
    finally:
        run.end(signal.SIGKILL)
