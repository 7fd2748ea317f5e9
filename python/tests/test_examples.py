"""The PyTorch example as a user runs it: prepare, train, obey."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from attached import NETWORKS, run_attached, write_config
from safetensors.torch import load_file

import convergd

EXAMPLES = Path(__file__).parents[2] / "examples" / "pytorch"

pytest.importorskip("sklearn")


def run(script, *arguments):
    package = str(Path(convergd.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, EXAMPLES / script, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": package},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def train(directory, epochs):
    speed = ("--min-epoch-seconds", 0)
    return run("train.py", "--run", directory, "--network", "target", "--seed", 11,
               "--epochs", epochs, *speed)  # fmt: skip


def decide(directory, **decision):
    (directory / "control").mkdir()
    record = {"schema": 1, "generation": 1, "action": "continue", "phase": "plain", "lambda": 0.0}
    (directory / "control" / "control.json").write_text(json.dumps(record | decision))


def log(directory):
    return [json.loads(line) for line in (directory / "target" / "log.jsonl").open()]


def test_the_checkpoints_fit_the_program_and_the_probe(tmp_path):
    run("prepare.py", "--out", tmp_path)
    assert "ended after epoch 2: all 2 epochs done" in train(tmp_path, 2)
    program = torch.jit.load(tmp_path / "program.ts")
    parameters = dict(program.named_parameters())
    checkpoint = load_file(tmp_path / "target" / "step-00000002.safetensors")
    assert {"model." + name for name in checkpoint} == parameters.keys()
    probe = load_file(tmp_path / "probe.safetensors")
    with torch.no_grad():
        for name, tensor in checkpoint.items():
            parameters["model." + name].copy_(tensor)
        logits = program.head(program.features(probe["inputs"]))
    accuracy = (logits.argmax(1) == probe["labels"]).float().mean().item()
    assert accuracy > 0.3, "trained networks do better than chance on clean labels"
    assert [line["step"] for line in log(tmp_path)] == [1, 2]
    assert (tmp_path / "control" / "done-target").exists()


def test_the_trainer_stops_when_told(tmp_path):
    decide(tmp_path, action="stop", at_step=2, reason="the score has peaked")
    assert "ended after epoch 2: told to stop: the score has peaked" in train(tmp_path, 9)
    assert len(log(tmp_path)) == 2
    assert json.loads((tmp_path / "control" / "ack-target.json").read_text())["step"] == 2


def test_the_trainer_changes_the_phase_when_told(tmp_path):
    decide(tmp_path, action="phase", phase="regularized", ramp=2, **{"lambda": 0.8})
    assert "phase regularized, lambda 0.8" in train(tmp_path, 4)
    assert [line["lambda"] for line in log(tmp_path)] == pytest.approx([0, 0.4, 0.8, 0.8])


def test_both_networks_in_one_process_follow_the_control_file(tmp_path):
    decide(tmp_path, action="phase", phase="regularized", at_step=2, ramp=1, **{"lambda": 0.8})
    output = run("joint.py", "--run", tmp_path, "--epochs", 4)
    lambdas = [line.split("lambda ")[1] for line in output.splitlines()]
    assert lambdas == ["0.00", "0.00", "0.80", "0.80"]
    for name in ("target", "baseline"):
        assert len(list((tmp_path / name).glob("*.safetensors"))) == 4
        assert (tmp_path / "control" / f"done-{name}").exists()
        assert json.loads((tmp_path / "control" / f"ack-{name}.json").read_text())["step"] == 2


def test_the_plain_loop_is_ten_lines():
    text = (EXAMPLES / "plain_loop.py").read_text()
    loop = text.split("control = Control")[1].split("control.done()")[0]
    assert len(loop.splitlines()) == 10


def test_the_plain_loop_stops_when_told(tmp_path):
    decide(tmp_path, action="stop", at_step=2)
    assert run("plain_loop.py", "--run", tmp_path, "--epochs", 9) == "ended after epoch 2\n"
    assert len(list((tmp_path / "target").glob("*.safetensors"))) == 2
    assert json.loads((tmp_path / "control" / "ack-target.json").read_text())["step"] == 2
    assert json.loads((tmp_path / "control" / "done-target").read_text()) == {"step": 2}


def test_the_plain_loop_goes_on_without_a_sidecar(tmp_path):
    assert run("plain_loop.py", "--run", tmp_path, "--epochs", 2) == "ended after epoch 2\n"


def test_two_plain_loops_attached_to_convergd_are_stopped(tmp_path):
    run("prepare.py", "--out", tmp_path, "--samples", 6)
    write_config(
        tmp_path,
        "{image_patches: {grid: 4, margin: 0, select: 4}}",
        ["{id: end, when: {reached: {step: 3}}, then: {stop: {}}}"],
    )

    def command(network, seed):
        options = ["--network", network, "--seed", seed, "--epochs", 2000]
        return [sys.executable, EXAMPLES / "plain_loop.py", "--run", tmp_path, *options]

    status = run_attached(tmp_path, command)
    (stop,) = status["decisions"]
    assert stop["action"] == "stop" and stop["step"] >= 3
    for network in NETWORKS:
        epoch = int((tmp_path / f"{network}.log").read_text().split()[-1])
        assert stop["step"] <= epoch < 2000
        ack = json.loads((tmp_path / "control" / f"ack-{network}.json").read_text())
        assert ack["step"] == epoch
