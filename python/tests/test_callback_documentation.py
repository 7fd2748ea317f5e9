"""The examples of docs/callbacks.md run as they are printed."""

import json
from pathlib import Path

import pytest
import torch
from callback_training import Images, Model, decide
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DOCUMENT = (Path(__file__).parents[2] / "docs" / "callbacks.md").read_text(encoding="utf-8")
STOP = {"action": "stop", "at_step": 3}

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def stopped_at_step_3(tmp_path, monkeypatch):
    """The examples run in a directory of their own, and are to stop at step 3."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    (tmp_path / "run").mkdir()
    decide(tmp_path / "run" / "control", **STOP)
    yield
    assert json.loads((tmp_path / "run" / "control" / "ack-target.json").read_text())["step"] == 3
    assert json.loads((tmp_path / "run" / "control" / "done-target").read_text()) == {"step": 3}
    assert (tmp_path / "run" / "target" / "step-00000003.safetensors").exists()


def block(heading):
    return DOCUMENT.split(f"## {heading}\n")[1].split("```python\n")[1].split("```")[0]


class Net(nn.Module):
    """With a feature map large enough for the default grid."""

    def __init__(self):
        super().__init__()
        self.low = nn.Conv2d(1, 2, 3, padding=1)
        self.high = nn.Linear(2 * 64, 3)

    def head(self, hidden):
        return self.high(hidden.relu().flatten(1))

    def forward(self, images):
        return self.head(self.low(images))


def batches():
    data = TensorDataset(torch.randn(16, 1, 8, 8), torch.randint(3, (16,)))
    return DataLoader(data, batch_size=8)


def test_lightning():
    pytest.importorskip("lightning")
    exec(block("Lightning"), {"Net": Net, "loader": batches()})


def test_hugging_face():
    transformers = pytest.importorskip("transformers")
    arguments = transformers.TrainingArguments(
        "own", max_steps=9, use_cpu=True, report_to="none", disable_tqdm=True,
        save_strategy="no", remove_unused_columns=False,
    )  # fmt: skip
    exec(block("Hugging Face"), {"model": Model(), "arguments": arguments, "data": Images()})


def test_a_loop_of_your_own():
    from convergd import Control, save_checkpoint

    net = Net()
    names = {
        "Control": Control, "save_checkpoint": save_checkpoint, "epochs": 9, "net": net,
        "loader": batches(), "optimizer": torch.optim.SGD(net.parameters(), lr=0.1),
        "cross_entropy": nn.functional.cross_entropy,
    }  # fmt: skip
    exec(block("A loop of your own"), names)
    assert names["epoch"] == 3
