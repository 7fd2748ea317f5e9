"""Where a network is split: what runs below the split, and what must not flow around it."""

import copy
import gc
import re
import weakref
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from convergd import embedding_split, image_split
from convergd.torch import (
    Columns,
    CoupledInteractionLoss,
    ImagePatches,
    InteractionLoss,
    InteractionPenalty,
    Network,
    Tokens,
)
from convergd.torch.batch import Batch
from convergd.torch.masking import masked

torch.set_num_threads(1)


class Plain(nn.Module):
    """A split that everything passes through."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.low = nn.Conv2d(1, 4, 3, padding=1)
        self.skip = nn.Conv2d(1, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(4 * 64, 5)

    def forward(self, x):
        return self.fc(self.drop(self.norm(self.low(x).relu())).flatten(1))


class Sized(Plain):
    """Reads the number of samples from its input."""

    def forward(self, x):
        rows = x.size(0)
        return self.fc(self.low(x).relu().view(rows, -1))


class Looking(Plain):
    """Looks at its input again, for the number of samples."""

    def forward(self, x):
        return self.fc(self.low(x).relu().flatten(1))[: len(x)]


class Around(Plain):
    """A connection leads around the split."""

    def forward(self, x):
        return self.fc((self.low(x).relu() + self.skip(x)).flatten(1))


def images(samples=6):
    torch.manual_seed(2)
    return torch.randn(samples, 1, 8, 8), torch.randint(5, (samples,))


def halves(net):
    """The same network in two callables."""
    return Network(net, (net.low, lambda h: net.fc(h.relu().flatten(1))))


@pytest.mark.parametrize("one_pass", [False, True])
@pytest.mark.parametrize("kind", [Sized, Looking])
def test_a_network_that_reads_the_number_of_samples_is_as_in_two_callables(kind, one_pass):
    net, (inputs, labels) = kind().eval(), images()
    found = []
    for network in (Network(net, "low", one_pass=one_pass), halves(net)):
        net.zero_grad()
        result = InteractionPenalty(0.5, seed=0, fraction=0.5)(network, inputs, labels)
        result.loss.backward()
        found.append([result.penalty, net.low.weight.grad.clone()])
    assert found[0][0] > 0
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_what_is_needed_below_the_split_is_remembered():
    net, (inputs, labels) = Sized(), images()
    loss = InteractionPenalty(0.5, split="low", seed=0)
    loss(net, inputs, labels)
    rows = []
    net.low.register_forward_hook(lambda _m, _i, out: rows.append(len(out)))
    loss(net, inputs, labels)
    assert rows == [6, 24], "not tried again with one sample"


def test_a_batch_of_one_sample_works_too():
    inputs, labels = images(1)
    assert InteractionPenalty(0.5, split="low", seed=0)(Sized(), inputs, labels).penalty > 0


class Fixed(Plain):
    """Takes six samples, whatever comes."""

    def forward(self, x):
        return self.fc(self.low(x).relu().view(6, -1))


class Fewer(Plain):
    """Gives logits for one sample too few."""

    def forward(self, x):
        return self.fc(self.low(x).relu().flatten(1))[: len(x[:7])]


@pytest.mark.parametrize(("kind", "one_pass"), [(Fixed, False), (Fewer, False), (Fixed, True)])
def test_a_network_that_works_neither_way_is_refused_with_the_remedy(kind, one_pass):
    network = Network(kind(), "low", one_pass=one_pass)
    if one_pass:
        network.module.drop.p = 0.0
        network.module.eval()
    with pytest.raises(ValueError, match=r"`low`.*two callables, `Network\(module, split="):
        InteractionPenalty(0.5, seed=0)(network, *images())


def test_variables_that_do_not_fit_are_told_as_such_in_one_pass_too():
    network, (inputs, labels) = Network(Plain().eval(), "low", one_pass=True), images()
    with pytest.raises(ValueError, match=r"^features must be \[B, D\] with 3 columns"):
        InteractionPenalty(0.5, variables=Columns(3), seed=0)(network, inputs, labels)
    rows = []
    network.module.low.register_forward_hook(lambda _m, _i, out: rows.append(len(out)))
    InteractionPenalty(0.5, seed=0)(network, inputs, labels)
    assert rows == [6], "it is not taken for a network that needs more"


def test_a_vision_transformer_is_masked_where_its_patches_begin():
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    net = models.VisionTransformer(32, 4, 1, 2, 16, 32, num_classes=5)
    inputs, labels = torch.randn(4, 3, 32, 32), torch.randint(5, (4,))
    assert image_split(net, inputs) == "conv_proj"
    nn.init.normal_(net.heads.head.weight)
    result = InteractionLoss(0.5, split="conv_proj", seed=0)(
        net, copy.deepcopy(net), inputs, labels
    )
    assert result.loss > 0
    net = Network(net.eval(), "conv_proj")
    hidden, logits = net.plain(Batch.of(inputs))
    assert torch.allclose(net.masked(hidden[None], Batch.of(inputs))[0], logits, atol=1e-5)


def of_text(kind, **changes):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "num_labels": 3, "pad_token_id": 1, "initializer_range": 0.3}
    if kind == "GPT2":
        sizes |= {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32}
    else:
        sizes |= {
            "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 24, "max_position_embeddings": 32,
        }  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(**sizes | changes)
    return getattr(transformers, f"{kind}ForSequenceClassification")(config).eval()


def ids(padded):
    torch.manual_seed(1)
    tokens = torch.randint(3, 40, (6, 9))
    if padded:
        tokens[0, 5:] = 1
    return {"input_ids": tokens}, torch.randint(3, (6,))


@pytest.mark.parametrize("kind", ["GPT2", "Llama"])
def test_classifiers_of_language_models_take_ids_alone(kind):
    net, (inputs, labels) = of_text(kind), ids(padded=False)
    split = embedding_split(net)
    result = InteractionPenalty(0.5, variables=Tokens(4), split=split, seed=0)(net, inputs, labels)
    assert result.penalty > 0


class Gate(Plain):
    """Something of the input goes around the split, besides a second input."""

    def forward(self, x, weight):
        return self.fc((self.low(x) * x.sigmoid() * weight).flatten(1))


AROUND = "skip connection lead around `low`"


@pytest.mark.parametrize("training", [True, False])
def test_a_connection_around_the_split_is_told(training):
    inputs, labels = images()
    nets = Around(0).train(training), Around(1).train(training)
    with pytest.raises(ValueError, match=AROUND):
        InteractionLoss(0.5, split="low", seed=0)(*nets, inputs, labels)
    with pytest.raises(ValueError, match=AROUND):
        InteractionPenalty(0.5, split="low", seed=0)(nets[0], inputs, labels)
    with pytest.raises(ValueError, match=AROUND):
        CoupledInteractionLoss(SimpleNamespace(), 0.5, split="low", seed=0)(nets[0], inputs, labels)
    one_pass = Network(nets[0].eval(), "low", one_pass=True)
    with pytest.raises(ValueError, match=AROUND):
        InteractionPenalty(0.5, seed=0)(one_pass, inputs, labels)
    with pytest.raises(ValueError, match=AROUND):
        weighted = [inputs, torch.rand(6, 1, 1, 1)]
        InteractionPenalty(0.5, split="low", seed=0)(Gate(), weighted, labels)


@pytest.mark.parametrize("spread", [0.02, 0.3])
def test_positions_that_are_counted_from_the_ids_of_another_sample_are_told(spread):
    net, (inputs, labels) = of_text("Roberta", initializer_range=spread), ids(padded=True)
    given = {"variables": Tokens(4), "seed": 0}
    split = "roberta.embeddings.word_embeddings"
    with pytest.raises(ValueError, match=f"features at `{re.escape(split)}`"):
        InteractionPenalty(0.5, split=split, **given)(net, inputs, labels)
    InteractionPenalty(0.5, split="roberta.embeddings", **given)(net, inputs, labels)


@pytest.mark.parametrize("half", ["float32", "autocast", "bfloat16", "float16"])
def test_a_split_that_everything_passes_is_not_refused_in_any_precision(half):
    net, (inputs, labels) = Plain(), images()
    with torch.no_grad():
        net.fc.weight.mul_(30)
    if half in ("bfloat16", "float16"):
        net, inputs = net.to(getattr(torch, half)), inputs.to(getattr(torch, half))
    with torch.autocast("cpu", torch.bfloat16, enabled=half == "autocast"):
        result = InteractionPenalty(0.5, split="low", seed=0)(net, inputs, labels)
    result.loss.backward()
    unused = {"skip.weight", "skip.bias"}
    assert {name for name, own in net.named_parameters() if own.grad is None} == unused
    bad = Around().to(inputs.dtype)
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=half == "autocast"),
        pytest.raises(ValueError, match=AROUND),
    ):
        InteractionPenalty(0.5, split="low", seed=0)(bad, inputs, labels)


class Moving(Plain):
    """Normalises as in training whatever the mode, and draws random numbers."""

    def forward(self, x):
        low = self.low(x)
        mean, variance = self.norm.running_mean, self.norm.running_var
        high = functional.batch_norm(low, mean, variance, training=True)
        return self.fc(functional.dropout(high, 0.5).flatten(1))


@pytest.mark.parametrize("kind", [Plain, Moving])
def test_the_check_moves_no_statistics_and_draws_no_numbers(kind):
    net, (inputs, _) = kind(), images()
    before = copy.deepcopy(net.state_dict())
    state = torch.get_rng_state()
    Network(net, "low").check(Batch.of(inputs))
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(module.training for module in net.modules())
    assert all(own.grad is None for own in net.parameters())


def test_the_check_is_made_once_for_each_network_and_split_and_keeps_none_alive():
    net, (inputs, labels) = Plain(), images()
    calls = []
    net.fc.register_forward_hook(lambda _m, _i, out: calls.append(len(out)))
    loss = InteractionLoss(0.5, split="low", seed=0)
    seen = []
    for _ in range(3):
        calls.clear()
        loss(net, Plain(1), inputs, labels)
        seen.append(list(calls))
    assert seen == [[6, 6, 6, 24], [6, 24], [6, 24]]
    calls.clear()
    InteractionLoss(0.5, split="low", seed=1)(net, Plain(1), inputs, labels)
    assert calls == [6, 24], "by another loss too"
    InteractionLoss(0.5, split="norm", seed=1)(net, Plain(1), inputs, labels)
    assert calls == [6, 24, 6, 6, 6, 24], "but at another split anew"
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None


def test_a_single_sample_tells_nothing_and_the_next_batch_is_checked():
    net, loss = Around(), InteractionPenalty(0.5, split="low", seed=0)
    loss(net, *images(1))
    with pytest.raises(ValueError, match=AROUND):
        loss(net, *images(2))


class Reading(nn.Module):
    """A recurrent layer, which stays in training while masked copies pass."""

    def __init__(self, skip):
        super().__init__()
        torch.manual_seed(0)
        self.low = nn.Embedding(40, 8)
        self.skip = nn.Embedding(40, 8)
        self.mix = nn.LSTM(8, 8, num_layers=2, dropout=0.5, batch_first=True)
        self.fc = nn.Linear(8, 3)
        self.strength = skip

    def forward(self, input_ids):
        hidden = self.low(input_ids) + self.strength * self.skip(input_ids)
        return self.fc(self.mix(hidden)[0].mean(1))


def test_dropout_of_recurrent_layers_neither_hides_a_connection_nor_looks_like_one():
    inputs, labels = ids(padded=False)
    loss = InteractionPenalty(0.5, variables=Tokens(4), split="low", seed=0)
    loss(Reading(0.0), inputs, labels)
    with pytest.raises(ValueError, match=AROUND):
        loss(Reading(3.0), inputs, labels)


def test_the_mean_is_of_the_type_of_the_features(monkeypatch):
    """A GPU sums in float32 under autocast, and `lerp` takes one type."""
    features = torch.randn(2, 3, 4, 4).bfloat16()
    positions, present = torch.randint(-1, 3, (2, 4, 4)), torch.rand(4, 2, 3) < 0.5
    wanted = masked(features.float(), positions, present, "mean")
    real = torch.Tensor.sum
    monkeypatch.setattr(torch.Tensor, "sum", lambda own, *a, **k: real(own.float(), *a, **k))
    found = masked(features, positions, present, "mean")
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), wanted, atol=2e-2)


def test_patches_of_a_penalty_are_chosen_at_the_split_as_for_two_parts():
    net, (inputs, labels) = Plain().eval(), images()

    def head(hidden):
        return net.fc(net.norm(hidden.relu()).flatten(1))

    old = InteractionPenalty(0.5, fraction=0.5, seed=0, module=net)(net.low, head, inputs, labels)
    given = {"variables": ImagePatches(4, 8), "fraction": 0.5, "seed": 0}
    new = InteractionPenalty(0.5, split="low", **given)(net, inputs, labels)
    assert torch.allclose(old.loss, new.loss, rtol=1e-5) and old.penalty > 0
    net.drop.p = 0.0
    once = Network(net, "low", one_pass=True)
    assert torch.allclose(
        InteractionPenalty(0.5, **given)(once, inputs, labels).loss, old.loss, rtol=1e-5
    )
