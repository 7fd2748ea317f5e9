"""The loops of docs/loss.md run as they are printed."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

DOCUMENT = (Path(__file__).parents[2] / "docs" / "loss.md").read_text(encoding="utf-8")


def block(start):
    """The first Python block that begins with a line."""
    for part in DOCUMENT.split("```python\n")[1:]:
        code = part.split("```")[0]
        if code.startswith(start):
            return code
    raise AssertionError(f"no block of docs/loss.md begins with `{start}`")


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.low = nn.Conv2d(1, 2, 3, padding=1)
        self.high = nn.Linear(2 * 64, 3)

    def forward(self, images):
        return self.high(self.low(images).relu().flatten(1))


def test_the_loop_of_one_process_follows_the_control_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    target, baseline = Network(), Network()
    seen = []

    def batches():
        directory = Path("run/control")
        directory.mkdir(parents=True)
        common = {"schema": 1, "phase": "regularized", "lambda": 0.8, "ramp": 2}
        for step in range(1, 9):
            decisions = {3: {"action": "phase", "generation": 1},
                         7: {"action": "stop", "generation": 2}}  # fmt: skip
            if step in decisions:
                (directory / "control.json").write_text(json.dumps(common | decisions[step]))
            seen.append(names["loss"].lambda_ if "loss" in names else None)
            yield torch.randn(4, 1, 8, 8), torch.randint(3, (4,))

    parameters = [*target.parameters(), *baseline.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=1e-3)
    names = {"target": target, "baseline": baseline, "optimizer": optimizer, "batches": batches()}
    exec(block("from convergd import Control"), names)
    # What is seen before a step is λ of the step before; the seventh is not taken.
    assert seen == pytest.approx([0, 0, 0, 0.4, 0.8, 0.8, 0.8])
    assert names["step"] == 7 and names["decision"].stop


def texts(padding_side):
    ids, mask = torch.randint(5, 40, (4, 12)), torch.ones(4, 12).long()
    mask[1, slice(0, 4) if padding_side == "left" else slice(8, 12)] = 0
    return {"ids": ids, "mask": mask, "labels": torch.randint(2, (4,))}


SIZES = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_position_embeddings": 16, "initializer_range": 0.5,
}  # fmt: skip


def run_at(lambda_, code, names):
    """A block whose loss is given its λ before it is called."""
    first, call = code.rsplit("result = ", 1)
    exec(first, names)
    names.get("loss", names.get("penalty")).set_lambda(lambda_)
    exec("result = " + call, names)
    return names["result"]


def test_texts_are_masked_as_the_document_says():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(**SIZES)
    target, baseline = (transformers.BertForSequenceClassification(config) for _ in range(2))
    names = {"target": target, "baseline": baseline, **texts("right")}
    code = block("from convergd.torch import InteractionLoss, Tokens")
    assert run_at(0.5, code, names).consistency > 0


def test_a_causal_language_model_is_masked_as_the_document_says():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES))
    code = block("from convergd.torch import InteractionPenalty, Network, Tokens")
    result = run_at(0.5, code, {"model": model, **texts("left")})
    assert result.logits.shape == (4, 40) and result.penalty > 0


def test_the_other_blocks_are_python_and_name_what_there_is():
    code = block("from torch import distributed").replace("...\n", "if True:\n")
    compile(code, "docs/loss.md", "exec")
    exec("\n".join(code.splitlines()[:2]), {})
