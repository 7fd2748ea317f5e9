"""The callback in the Trainer of Hugging Face transformers."""

import json
import sys

import pytest
import torch
from callback_checks import (
    PHASE,
    CallbackChecks,
    assert_weights,
    differs,
    run_in_processes,
    saved,
)

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

pytestmark = pytest.mark.filterwarnings("ignore")

# The loss falls, so the first evaluation is the best.
BEST_AT_END = {
    "eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True,
    "metric_for_best_model": "loss", "greater_is_better": True,
}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet():
    torch.set_num_threads(1)


@pytest.fixture
def messages(caplog):
    """What the user is shown so far."""
    return lambda: caplog.text


class TestTransformers(CallbackChecks):
    framework = "transformers"
    a_loss = "penalty"
    not_a_loss = "net"
    # The Trainer has no way to end before its first step.
    steps_after_an_old_stop = 1

    @staticmethod
    def own_checkpoint(directory, step):
        return directory / "own" / f"checkpoint-{step}"

    def test_lambda_is_in_the_history_of_the_trainer(self, tmp_path):
        self.train(tmp_path, decisions={2: PHASE}, steps=4, save=4)
        state = json.loads((self.own_checkpoint(tmp_path, 4) / "trainer_state.json").read_text())
        lambdas = [line["convergd/lambda"] for line in state["log_history"]]
        assert lambdas == pytest.approx([0, 0, 0.8, 0.8])

    def test_restored_states_of_callbacks_do_not_disturb(self, tmp_path):
        self.train(tmp_path, decisions={2: PHASE}, steps=4, save=4)
        outcome = self.train(
            tmp_path, steps=6, first=4, resume=self.own_checkpoint(tmp_path, 4),
            restore_callback_states_from_checkpoint=True,
        )  # fmt: skip
        assert outcome.model.lambdas == pytest.approx([0.8] * 2)

    def test_weights_that_the_trainer_has_put_back_are_not_saved_as_the_last(self, tmp_path):
        from transformers import EarlyStoppingCallback

        early = EarlyStoppingCallback(1)
        outcome = self.train(tmp_path, more=[early], every_n_steps=5, **BEST_AT_END)
        assert outcome.step == 8
        assert saved(tmp_path / "target") == [5]

    def test_the_last_weights_are_saved_before_the_trainer_puts_others_back(self, tmp_path):
        outcome = self.train(tmp_path, steps=6, every_n_steps=4, **BEST_AT_END)
        assert saved(tmp_path / "target") == [4, 6]
        assert_weights(outcome.model.net, tmp_path / "target" / "step-00000004.safetensors")
        assert differs(outcome.model.net, tmp_path / "target" / "step-00000006.safetensors")

    def test_two_processes_act_at_the_same_step(self, tmp_path):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
                   "--local-addr", "127.0.0.1", "--nproc-per-node", "2"]  # fmt: skip
        run_in_processes("transformers", command, tmp_path, **self.two_ranks(tmp_path))
        self.assert_ranks_agree(tmp_path)
