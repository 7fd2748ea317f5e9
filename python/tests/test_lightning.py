"""The callback in the Trainer of Lightning."""

import logging
import sys

import pytest
import torch
from callback_checks import PHASE, STOP, CallbackChecks, run_in_processes, saved, told

pytest.importorskip("lightning")

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def quiet():
    torch.set_num_threads(1)


@pytest.fixture
def messages(caplog):
    """What the user is shown so far."""
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addHandler(caplog.handler)
    yield lambda: caplog.text
    logger.removeHandler(caplog.handler)


class TestLightning(CallbackChecks):
    framework = "lightning"
    a_loss = "model.penalty"
    not_a_loss = "model.net"
    steps_after_an_old_stop = 0

    @staticmethod
    def own_checkpoint(directory, step):
        return directory / "own" / f"step={step}.ckpt"

    def test_min_steps_still_counts(self, tmp_path):
        outcome = self.train(tmp_path, decisions={2: STOP}, min_steps=6)
        assert outcome.callback.stopped_step == 2
        assert outcome.step == 6
        assert saved(tmp_path / "target") == [4, 6]

    def test_a_fast_dev_run_leaves_no_trace(self, tmp_path):
        outcome = self.train(tmp_path, decisions={1: STOP}, fast_dev_run=2)
        assert outcome.step == 2
        assert [path.name for path in (tmp_path / "control").iterdir()] == ["control.json"]
        assert not (tmp_path / "target").exists()

    def test_two_processes_act_at_the_same_step(self, tmp_path):
        run_in_processes("lightning", [sys.executable], tmp_path, devices=2,
                         **self.two_ranks(tmp_path))  # fmt: skip
        self.assert_ranks_agree(tmp_path)

    def test_two_networks_in_one_module_have_a_callback_each(self, tmp_path):
        import lightning.pytorch as pl
        from callback_training import Images, Net, decide
        from torch.utils.data import DataLoader

        from convergd.lightning import ConvergenceStopping
        from convergd.torch import ImagePatches, InteractionLoss

        class Joint(pl.LightningModule):
            def __init__(self):
                super().__init__()
                self.target, self.baseline = Net(), Net()
                variables = ImagePatches(grid=2, select=4)
                self.interactions = InteractionLoss(split="low", variables=variables, seed=0)
                self.lambdas = []

            def training_step(self, batch, _):
                if len(self.lambdas) == 2:
                    decide(tmp_path / "control", **PHASE)
                images, labels = batch["images"], batch["labels"]
                result = self.interactions(self.target, self.baseline, images, labels)
                self.lambdas.append(result.lambda_)
                return result.loss

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), lr=0.05)

        networks = ("target", "baseline")
        callbacks = [
            ConvergenceStopping(tmp_path / "control", tmp_path / name, network=name,
                                submodule=name, loss="interactions", every_n_steps=4)
            for name in networks
        ]  # fmt: skip
        module = Joint()
        pl.Trainer(
            max_steps=6, accelerator="cpu", devices=1, callbacks=callbacks, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        ).fit(module, DataLoader(Images(), batch_size=8))  # fmt: skip
        assert module.lambdas == pytest.approx([0] * 3 + [0.8] * 3)
        for name in networks:
            assert saved(tmp_path / name) == [4, 6]
            assert told(tmp_path, f"ack-{name}.json")["step"] == 3
            assert told(tmp_path, f"done-{name}") == {"step": 6}
