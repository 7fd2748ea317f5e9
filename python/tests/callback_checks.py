"""What every callback must do, whatever the framework; a test file for each inherits this."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import callback_training
import pytest
import torch
from attached import NETWORKS, run_attached, write_config
from callback_training import MAX_STEPS, Images, Net, decide
from safetensors.torch import load_file

import convergd
from convergd import export_program, make_probe, save_checkpoint

TESTS = Path(__file__).parent
PACKAGE = Path(convergd.__file__).parents[1]
DEADLINE = 180

STOP = {"action": "stop", "phase": "plain"}
PHASE = {"action": "phase", "phase": "regularized", "lambda": 0.8}


def saved(directory):
    """Steps of the checkpoints."""
    return [int(path.stem.removeprefix("step-")) for path in sorted(directory.glob("*"))]


def told(directory, name):
    return json.loads((directory / "control" / name).read_text())


def assert_weights(net, path):
    state = net.state_dict()
    stored = load_file(path)
    assert stored.keys() == state.keys()
    for name, tensor in stored.items():
        assert torch.equal(tensor, state[name]), name


def differs(net, path):
    return any(not torch.equal(t, net.state_dict()[name]) for name, t in load_file(path).items())


def run_in_processes(framework, command, directory, **arguments):
    """Runs the training as programs; the end of the command is the end of all its processes."""
    package = os.pathsep.join([str(PACKAGE), str(TESTS)])
    own = {"PYTHONPATH": package, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, callback_training.__file__, framework,
         json.dumps({"directory": str(directory)} | arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | own,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, output
    return output


class CallbackChecks:
    """Subclasses say how to train, and how the framework resumes."""

    framework: str

    @staticmethod
    def own_checkpoint(directory, step):
        raise NotImplementedError

    @property
    def train(self):
        return callback_training.FRAMEWORKS[self.framework]

    def test_it_stops_at_the_step_of_the_decision_and_says_so(self, tmp_path, messages):
        stop = STOP | {"at_step": 6, "generation": 4}
        outcome = self.train(tmp_path, decisions={3: stop}, every_n_steps=4)
        assert outcome.step == outcome.callback.stopped_step == 6
        ack = told(tmp_path, "ack-target.json")
        assert (ack["generation"], ack["step"], ack["pid"]) == (4, 6, os.getpid())
        assert told(tmp_path, "done-target") == {"step": 6}
        assert "told to stop at step 6: it has peaked" in messages()

    def test_checkpoints_are_due_every_n_steps_and_at_the_end(self, tmp_path):
        outcome = self.train(tmp_path, steps=10, every_n_steps=4)
        assert saved(tmp_path / "target") == [4, 8, 10]
        assert_weights(outcome.model.net, tmp_path / "target" / "step-00000010.safetensors")
        assert differs(outcome.model.net, tmp_path / "target" / "step-00000008.safetensors")

    def test_without_a_number_of_steps_each_epoch_has_a_checkpoint(self, tmp_path):
        self.train(tmp_path, steps=10)
        assert saved(tmp_path / "target") == [4, 8, 10]

    def test_without_a_sidecar_training_goes_on(self, tmp_path, messages):
        outcome = self.train(tmp_path, checkpoints=None, submodule=None)
        assert outcome.step == MAX_STEPS and outcome.callback.stopped_step is None
        assert outcome.model.lambdas == [0.0] * MAX_STEPS
        assert not (tmp_path / "control").exists() and not (tmp_path / "target").exists()
        assert "convergd: phase" not in messages() and "told to stop" not in messages()

    def test_a_checkpoint_that_cannot_be_written_is_a_warning(self, tmp_path, messages):
        (tmp_path / "target").write_text("a file where a directory is to be")
        outcome = self.train(tmp_path, every_n_steps=4)
        assert outcome.step == MAX_STEPS
        assert "the checkpoint of step 4 could not be written" in messages()

    def test_lambda_follows_the_control_file(self, tmp_path, messages):
        decisions = {
            3: PHASE | {"ramp": 4, "at_step": 4},
            10: {"generation": 2, "action": "phase", "at_step": 10},
        }
        outcome = self.train(tmp_path, decisions=decisions)
        ramp = [0.2, 0.4, 0.6, 0.8]
        assert outcome.model.lambdas == pytest.approx([0] * 4 + ramp + [0.8] * 2 + [0] * 2)
        assert "phase `regularized` from step 4 on, λ goes to 0.8 over 4 steps" in messages()
        assert told(tmp_path, "ack-target.json")["step"] == 10

    def test_a_ramp_that_is_not_done_turns_where_it_is(self, tmp_path):
        decisions = {
            2: PHASE | {"ramp": 4},
            4: {"generation": 2, "action": "phase", "ramp": 2},
        }
        outcome = self.train(tmp_path, decisions=decisions, steps=8)
        assert outcome.model.lambdas == pytest.approx([0, 0, 0.2, 0.4, 0.2, 0, 0, 0])

    def test_a_step_is_one_of_the_optimiser(self, tmp_path):
        decisions = {2: PHASE | {"ramp": 2, "at_step": 3}, 5: STOP | {"generation": 2}}
        outcome = self.train(tmp_path, decisions=decisions, accumulate=2, every_n_steps=2)
        assert outcome.step == 5
        assert outcome.model.lambdas == pytest.approx([0] * 6 + [0.4] * 2 + [0.8] * 2)
        assert saved(tmp_path / "target") == [2, 4, 5]

    def test_a_loss_is_found_by_name_or_given(self, tmp_path, messages):
        class Loss:
            def __init__(self):
                self.values = []

            def set_lambda(self, lambda_, ramp=0):
                self.values.append(lambda_)

        loss = Loss()
        self.train(tmp_path, decisions={2: PHASE}, steps=4, loss=loss)
        assert loss.values == [0.8]
        self.train(tmp_path, steps=2, loss=None)
        assert "λ is to be 0.8, but there is no loss" in messages()
        with pytest.raises(TypeError, match=r"net.* has no `set_lambda"):
            self.train(tmp_path, steps=2, loss=self.not_a_loss)
        for name in ("no_loss", f"{self.not_a_loss}.no_loss"):
            there = f"has no `{name}`; what has `set_lambda` there: `{self.a_loss}`"
            with pytest.raises(ValueError, match=re.escape(there)):
                self.train(tmp_path, steps=2, loss=name)

    def test_lambda_and_generation_are_logged(self, tmp_path):
        decisions = {5: PHASE | {"generation": 7}}
        outcome = self.train(tmp_path, decisions=decisions, steps=8)
        lines = [line for line in outcome.logged if "convergd/lambda" in line][:8]
        assert [line["convergd/lambda"] for line in lines] == pytest.approx([0] * 5 + [0.8] * 3)
        lambdas = pytest.approx(outcome.model.lambdas)
        assert [line["convergd/lambda"] for line in lines] == lambdas, "that of the step itself"
        assert [line["convergd/generation"] for line in lines] == [0] * 4 + [7] * 4

    @pytest.mark.parametrize("has_file", [True, False], ids=["control file", "no sidecar"])
    def test_a_resumed_training_goes_on_where_it_was(self, tmp_path, has_file):
        decisions = {3: PHASE | {"ramp": 5}}
        whole = self.train(tmp_path, decisions=decisions, save=5, every_n_steps=100)
        assert whole.model.lambdas[:8] == pytest.approx([0, 0, 0, 0.16, 0.32, 0.48, 0.64, 0.8])
        if not has_file:
            (tmp_path / "control" / "control.json").unlink()
        for path in (tmp_path / "target").iterdir():
            path.unlink()
        resumed = self.train(
            tmp_path, first=5, resume=self.own_checkpoint(tmp_path, 5), every_n_steps=4
        )
        assert resumed.step == MAX_STEPS
        assert resumed.model.lambdas == pytest.approx(whole.model.lambdas[5:])
        assert saved(tmp_path / "target") == [8, 12]

    def test_the_best_checkpoint_is_loaded_where_wanted(self, tmp_path, messages):
        best = tmp_path / "target" / "step-00000002.safetensors"
        stop = STOP | {"best": {"step": 2, "target": str(best), "baseline": "/nowhere"}}
        kept = self.train(tmp_path, decisions={5: stop}, every_n_steps=2)
        assert differs(kept.model.net, best)
        assert f"the best checkpoint is of step 2, {best}; the weights stay" in messages()
        (tmp_path / "control" / "control.json").unlink()
        restored = self.train(tmp_path, decisions={5: stop}, every_n_steps=2, restore_best=True)
        assert_weights(restored.model.net, best)
        assert f"the weights are those of step 2, the best: {best}" in messages()
        last = tmp_path / "target" / "step-00000005.safetensors"
        assert_weights(kept.model.net, last)
        assert differs(restored.model.net, last), "written before the best was loaded"

    @pytest.mark.parametrize("damage", ["missing", "no safetensors", "another network"])
    def test_a_best_checkpoint_that_does_not_fit_changes_nothing(self, tmp_path, messages, damage):
        best = tmp_path / "best.safetensors"
        if damage == "no safetensors":
            best.write_bytes(b"PK")
        if damage == "another network":
            best = save_checkpoint(torch.nn.Linear(2, 2), tmp_path / "other", 1)
        stop = STOP | {"best": {"step": 2, "target": str(best), "baseline": None}}
        outcome = self.train(tmp_path, decisions={3: stop}, restore_best=True)
        assert "the best checkpoint was not loaded, the weights stay" in messages()
        assert_weights(outcome.model.net, tmp_path / "target" / "step-00000003.safetensors")

    def test_the_name_of_the_network_is_that_of_the_files(self, tmp_path):
        (tmp_path / "control").mkdir()
        best = {"step": 2, "target": None, "baseline": str(tmp_path / "target" / "no")}
        self.train(tmp_path, network="baseline", decisions={2: STOP | {"best": best}})
        assert told(tmp_path, "ack-baseline.json")["step"] == 2
        assert told(tmp_path, "done-baseline") == {"step": 2}

    @pytest.mark.parametrize(
        "wrong",
        [
            {"every_n_steps": 0},
            {"every_n_steps": 2.5},
            {"network": "a/b"},
            {"restore_best": True, "checkpoints": None},
        ],
        ids=str,
    )
    def test_a_wrong_argument_is_an_error(self, tmp_path, wrong):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            self.train(tmp_path, **wrong)

    def test_a_submodule_that_is_not_there_is_an_error_at_the_start(self, tmp_path):
        net = self.not_a_loss
        for name, said in (
            ("nothing", f"`nothing`; at the top it has `{net.split('.')[0]}`"),
            ("", f"``; at the top it has `{net.split('.')[0]}`"),
            (f"{net}.nothing", f"`{net}.nothing`; `{net}` has `{net}.low`, `{net}."),
            (f"{net}.low.nothing", f"`{net}.low.nothing`; `{net}.low` has "),
            # An attribute, but no module.
            ("training", f"`training`; at the top it has `{net.split('.')[0]}`"),
        ):
            with pytest.raises(ValueError, match=re.escape(f"has no submodule {said}")):
                self.train(tmp_path, submodule=name)
        assert not (tmp_path / "target").exists()

    def test_an_old_stop_is_obeyed_at_the_start(self, tmp_path):
        decide(tmp_path / "control", **STOP)
        outcome = self.train(tmp_path)
        assert outcome.step == self.steps_after_an_old_stop
        assert told(tmp_path, "ack-target.json")["step"] == 0

    def test_a_framework_that_is_missing_or_old_is_said(self):
        package = {"lightning": "lightning", "transformers": "transformers"}[self.framework]
        for code, expected in (
            (f"sys.modules['{package}'] = None", "is not there: convergd needs"),
            (f"import {package}; {package}.__version__ = '1.9.4'", "1.9.4 is too old: convergd"),
        ):
            result = subprocess.run(
                [sys.executable, "-c", f"import sys; {code}; import convergd.{self.framework}"],
                capture_output=True, text=True, timeout=DEADLINE,
                env=os.environ | {"PYTHONPATH": str(PACKAGE)},
            )  # fmt: skip
            assert result.returncode != 0
            assert "ImportError" in result.stderr and expected in result.stderr
            assert f"pip install '{package}>=" in result.stderr

    def test_two_trainings_attached_to_convergd_switch_and_stop(self, tmp_path):
        probe = Images(6)
        export_program(Net(), probe.images, split="low", path=tmp_path / "program.ts")
        make_probe(tmp_path / "probe.safetensors", probe.images, probe.labels)
        phase = "{to: regularized, lambda: 0.8, ramp: 3}"
        write_config(
            tmp_path, "{image_patches: {grid: 2, margin: 0, select: 4}}",
            [f"{{id: switch, phase: plain, when: {{reached: {{step: 10}}}}, "
             f"then: {{phase: {phase}}}}}",
             "{id: end, when: {reached: {step: 30}}, then: {stop: {}}}"],
        )  # fmt: skip

        def command(network, seed):
            arguments = {
                "directory": str(tmp_path), "network": network, "seed": seed, "steps": 5000,
                "checkpoints": str(tmp_path / network), "every_n_steps": 5, "pause": 0.03,
            }  # fmt: skip
            return [sys.executable, callback_training.__file__, self.framework,
                    json.dumps(arguments)]  # fmt: skip

        status = run_attached(tmp_path, command)
        switch, stop = status["decisions"]
        assert (switch["action"], stop["action"]) == ("phase", "stop")
        assert switch["step"] >= 10 and stop["step"] >= 30
        for network in NETWORKS:
            report = json.loads((tmp_path / f"report-{network}-0.json").read_text())
            assert report["stopped_step"] == report["step"] > stop["step"]
            assert saved(tmp_path / network)[-1] == report["step"]
            ack = told(tmp_path, f"ack-{network}.json")
            assert ack["step"] == report["step"]
            lambdas = report["lambdas"]
            first = next(step for step, value in enumerate(lambdas, 1) if value > 0)
            assert first > switch["step"]
            ramp = [0.8 / 3, 1.6 / 3]
            rest = len(lambdas) - first - 1
            assert lambdas == pytest.approx([0] * (first - 1) + ramp + [0.8] * rest)

    def assert_ranks_agree(self, directory):
        """Two ranks of which only the first has a sidecar."""
        first, second = (
            json.loads((directory / f"report-target-{rank}.json").read_text()) for rank in (0, 1)
        )
        assert first["step"] == second["step"] == first["stopped_step"] == 7
        assert second["stopped_step"] == 7
        ramp = [0.4, 0.8]
        for report in (first, second):
            assert report["lambdas"] == pytest.approx([0] * 3 + ramp + [0.8] * 2)
        assert saved(directory / "target") == [4, 7]
        assert json.loads((directory / "control-0" / "ack-target.json").read_text())["step"] == 7
        assert not (directory / "control-1").exists(), "only rank 0 reads and writes"
        best = load_file(directory / "target" / "step-00000004.safetensors")
        for report in (first, second):
            assert report["weights"] == float(best["high.weight"].double().sum())

    def two_ranks(self, directory):
        """Arguments for the trainings that `assert_ranks_agree` looks at."""
        best = str(directory / "target" / "step-00000004.safetensors")
        stop = {"generation": 2, "at_step": 7, "best": {"step": 4, "target": best,
                "baseline": None}}  # fmt: skip
        return {
            "decisions": {3: PHASE | {"ramp": 2}, 5: STOP | {"lambda": 0.8} | stop},
            "every_n_steps": 4, "restore_best": True, "control_of_each_rank": True,
        }  # fmt: skip
