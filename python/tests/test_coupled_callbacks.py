"""Two trainings in a process each, joined by `CoupledInteractionLoss`, with a callback each."""

import json

import pytest
import torch
from callback_checks import PHASE, STOP
from callback_training import Images, Net, decide
from test_ranks import run_ranks
from torch import nn
from torch.utils.data import DataLoader

from convergd.torch import CoupledInteractionLoss, Coupling, ImagePatches

pytestmark = pytest.mark.filterwarnings("ignore")


class Coupled(nn.Module):
    """One network of the two. Only the first has a sidecar, which decides in steps 3 and 6."""

    def __init__(self, rank, directory):
        super().__init__()
        torch.manual_seed(rank)
        self.net = Net()
        variables = ImagePatches(grid=2, select=4)
        self.interactions = CoupledInteractionLoss(
            Coupling(timeout=60), split="low", variables=variables, seed=0
        )
        self.rank, self.directory, self.lambdas = rank, directory, []

    def forward(self, images, labels):
        step = len(self.lambdas) + 1
        if self.rank == 0 and step == 3:
            decide(self.directory, **PHASE | {"ramp": 2})
        if self.rank == 0 and step == 6:
            decide(self.directory, **STOP | {"generation": 2, "lambda": 0.8})
        result = self.interactions(self.net, images, labels)
        self.lambdas.append(result.lambda_)
        return result.loss, result.logits


def arguments(rank, directory):
    """Of the callback; each has a control directory of its own."""
    own = directory / f"control-{rank}"
    own.mkdir()
    return {"control": own, "network": ("target", "baseline")[rank]}


def in_lightning(rank, directory):
    import lightning.pytorch as pl

    from convergd.lightning import ConvergenceStopping

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = Coupled(rank, directory / "control-0")

        def training_step(self, batch, _):
            return self.model(**batch)[0]

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.05)

    callback = ConvergenceStopping(**arguments(rank, directory), loss="model.interactions")
    module = Module()
    pl.Trainer(
        max_steps=20, accelerator="cpu", devices=1, callbacks=[callback], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    ).fit(module, DataLoader(Images(), batch_size=8))  # fmt: skip
    return module.model.lambdas


def test_both_follow_what_the_first_has_read(tmp_path):
    pytest.importorskip("lightning")
    first, second = run_ranks(in_lightning, tmp_path)
    assert first == second == pytest.approx([0, 0, 0, 0.4, 0.8, 0.8])
    for rank, network in enumerate(("target", "baseline")):
        ack = json.loads((tmp_path / f"control-{rank}" / f"ack-{network}.json").read_text())
        assert (ack["generation"], ack["step"]) == (2, 6)
