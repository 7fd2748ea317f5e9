"""The losses of two networks against the formulae, plain loops and finite differences."""

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from convergd.torch import (
    Columns,
    FeatureConsistencyLoss,
    ImagePatches,
    InteractionLoss,
    Network,
    OutputConsistencyLoss,
)
from convergd.torch.batch import Batch
from convergd.torch.masking import masked
from convergd.torch.sets import draw_sets
from convergd.torch.values import interaction, log_odds

torch.set_num_threads(1)


class Cnn(nn.Module):
    """A network with normalisation and dropout above the split."""

    def __init__(self, seed, width=3):
        super().__init__()
        torch.manual_seed(seed)
        self.low = nn.Conv2d(1, width, 3, padding=1)
        self.high = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(width, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(4 * 64, 5),
        )

    def forward(self, images):
        return self.high(self.low(images))


def mlp(seed, columns=6, dtype=torch.float32, scale=1.0):
    torch.manual_seed(seed)
    layers = nn.Linear(columns, 7), nn.Tanh(), nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 3)
    return scaled(nn.Sequential(*layers), scale).to(dtype)


@torch.no_grad()
def scaled(network, scale):
    """The network with larger weights, as after some training."""
    for parameter in network.parameters():
        parameter.mul_(scale)
    return network


class Given(nn.Module):
    """A module with other parameters."""

    def __init__(self, module, parameters):
        super().__init__()
        self.run = lambda x: torch.func.functional_call(module, parameters, (x,))

    def forward(self, x):
        return self.run(x)


def images(samples=8):
    torch.manual_seed(2)
    return torch.randn(samples, 1, 8, 8), torch.randint(5, (samples,))


def vectors(samples=8, columns=6, dtype=torch.float32):
    torch.manual_seed(2)
    return torch.randn(samples, columns, dtype=dtype), torch.randint(3, (samples,))


def subsets(variables):
    return list(itertools.product([False, True], repeat=variables))


def test_loss_is_that_of_a_plain_loop_over_samples_and_sets():
    """Eq. 9, term by term: each of the four masked inputs by itself through each network."""
    networks, (inputs, labels) = (mlp(0), mlp(1)), vectors()
    result = InteractionLoss(0.3, variables=Columns(6), seed=5)(*networks, inputs, labels)
    draw = InteractionLoss(0.3, variables=Columns(6), seed=5).draw(Batch.of(inputs), labels)
    squares, entropies = [], []
    for sample, (x, y) in enumerate(zip(inputs, labels, strict=True)):
        interactions = []
        for network in networks:
            v = []
            for present in draw.present[:, sample]:
                p = network((x * present)[None]).softmax(1)[0, y]
                v.append((p / (1 - p)).log())
            interactions.append(v[0] - v[1] - v[2] + v[3])
            entropies.append(-network(x[None]).log_softmax(1)[0, y])
        squares.append((interactions[0] - interactions[1]) ** 2)
    consistency, entropy = sum(squares) / 8, sum(entropies) / 8
    assert result.consistency.item() == pytest.approx(consistency.item(), rel=1e-4)
    wanted = 0.3 * consistency + 0.7 * entropy
    assert result.loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    result.loss.backward()
    found = [p.grad.clone() for network in networks for p in network.parameters()]
    parameters = [p for network in networks for p in network.parameters()]
    for one, other in zip(found, torch.autograd.grad(wanted, parameters), strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5)


def effects(values, variables, generator):
    """AND and OR effects of a table v(S), [2^n, K], by the definition, at a random split."""
    sets = subsets(variables)
    gamma = torch.randn(values.shape, generator=generator, dtype=values.dtype)
    and_part = dict(zip(sets, 0.5 * values + gamma, strict=True))
    or_part = dict(zip(sets, 0.5 * values - gamma, strict=True))

    def sign(t, s):
        return (-1) ** (sum(t) - sum(s))

    def within(s, t):
        return all(b or not a for a, b in zip(s, t, strict=True))

    x, y = {}, {}
    for t in sets:
        below = [s for s in sets if within(s, t)]
        x[t] = sum(sign(t, s) * and_part[s] for s in below)
        y[t] = -sum(sign(t, s) * or_part[tuple(not one for one in s)] for s in below)
    return x, y


def test_interaction_is_the_sum_of_effects_that_meet_both_sets():
    """𝓘 = AND effects within S1∪S2∪S3 that meet S1 and S2, minus OR effects that meet S1 and S2 but
    not S3, for any split of v into the two."""
    n, network = 5, mlp(3, 5, torch.float64)
    inputs, labels = vectors(40, 5, torch.float64)
    sets = subsets(n)
    tables = torch.stack([log_odds(network(inputs * torch.tensor(s)), labels) for s in sets])
    x, y = effects(tables.detach(), n, torch.Generator().manual_seed(0))
    network, loss = Network(network), InteractionLoss(1.0, variables=Columns(n), seed=1)
    draw = loss.draw(Batch.of(inputs), labels)
    _, found = loss.evaluate(network, Batch.of(inputs), draw)
    both, first, second, context = draw.present
    for sample in range(40):
        s1 = first[sample] & ~context[sample]
        s2 = second[sample] & ~context[sample]
        total = 0.0
        for t in sets:
            members = torch.tensor(t)
            if not ((members & s1).any() and (members & s2).any()):
                continue
            if not (members & ~both[sample]).any():
                total += x[t][sample]
            if not (members & context[sample]).any():
                total -= y[t][sample]
        assert found[sample].item() == pytest.approx(float(total), abs=1e-9)
    assert found.abs().max() > 0.01


def test_the_cross_terms_count():
    """v = a·b·c: with c in the context it is an interaction of S1 = {a} and S2 = {b}."""

    def network(h):
        product = h.prod(1)
        return torch.stack([torch.zeros_like(product), product], 1)

    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 1], [0, 0, 1]], dtype=torch.bool)
    hidden = torch.tensor([[2.0, 3.0, 5.0]])
    copies = masked(hidden, torch.arange(3)[None], present[:, None], "zero")
    v = log_odds(network(copies.flatten(0, 1)), torch.ones(4).long()).unflatten(0, (4, 1))
    assert interaction(v).tolist() == [30.0]


def test_two_equal_networks_have_no_loss_and_no_gradient():
    network = Cnn(1).eval()
    other = copy.deepcopy(network)
    result = InteractionLoss(1.0, split="low", seed=0)(network, other, *images())
    assert result.consistency.item() == result.loss.item() == 0
    result.loss.backward()
    assert all(p.grad.abs().max() == 0 for p in [*network.parameters(), *other.parameters()])


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_gradients_are_those_of_finite_differences(fraction):
    networks = mlp(0, dtype=torch.float64), mlp(1, dtype=torch.float64)
    inputs, labels = vectors(4, dtype=torch.float64)
    names = [name for name, _ in networks[0].named_parameters()]
    parameters = [p.detach().requires_grad_() for network in networks for p in network.parameters()]

    def loss(*values):
        halves = values[: len(names)], values[len(names) :]
        given = [
            Given(network, dict(zip(names, half, strict=True)))
            for network, half in zip(networks, halves, strict=True)
        ]
        drawn = InteractionLoss(0.6, variables=Columns(3), fraction=fraction, seed=3)
        return drawn(*given, inputs, labels).loss

    assert torch.autograd.gradcheck(loss, parameters)


def test_at_lambda_zero_each_network_runs_once_and_the_loss_is_plain():
    networks, (inputs, labels) = (Cnn(0).eval(), Cnn(1).eval()), images()
    calls = []
    for network in networks:
        network.high[6].register_forward_hook(lambda _m, _i, out: calls.append(len(out)))
    loss = InteractionLoss(split="low", seed=0)
    result = loss(*networks, inputs, labels)
    assert calls == [8, 8]
    wanted = [functional.cross_entropy(network(inputs), labels) for network in networks]
    assert torch.equal(result.loss, wanted[0] + wanted[1])
    assert torch.equal(torch.stack(result.cross_entropy), torch.stack(wanted))
    assert result.consistency.item() == 0 and result.lambda_ == 0


@pytest.mark.parametrize(("fraction", "rows"), [(1.0, 32), (0.25, 8), (0.01, 4)])
def test_the_four_copies_are_one_batch_of_a_share_of_the_samples(fraction, rows):
    networks, (inputs, labels) = (Cnn(0), Cnn(1)), images()
    low, high = [], []
    loss = InteractionLoss(0.5, split="low", fraction=fraction, seed=0)
    loss(*networks, inputs, labels)
    for network in networks:
        network.low.register_forward_hook(lambda _m, _i, out: low.append(len(out)))
        network.high.register_forward_hook(lambda _m, _i, out: high.append(len(out)))
    loss(*networks, inputs, labels)
    assert high == [8, rows] * 2
    assert low == [8, 1] * 2, "the lower layers do not run on masked copies"


def test_a_fraction_takes_other_samples_at_each_step_and_all_in_the_end():
    inputs, labels = images(16)
    loss = InteractionLoss(0.5, fraction=0.25, seed=0)
    rows = [loss.draw(Batch.of(inputs), labels).rows for _ in range(60)]
    assert all(len(r.unique()) == 4 for r in rows)
    assert torch.cat(rows).bincount().min() > 3


def test_a_split_by_name_by_halves_and_at_the_input_of_the_rest_agree():
    networks, (inputs, labels) = (Cnn(0), Cnn(1)), images()
    by_name = InteractionLoss(0.5, split="low", seed=0)(*networks, inputs, labels)
    for network in networks:
        network.high[2].reset_running_stats()
    networks = Cnn(0), Cnn(1)
    halves = [Network(network, (network.low, network.high)) for network in networks]
    by_halves = InteractionLoss(0.5, seed=0)(*halves, inputs, labels)
    assert torch.equal(by_name.consistency, by_halves.consistency)
    assert by_name.consistency > 0


def test_networks_may_differ_in_architecture_and_split():
    class Wide(Cnn):
        def forward(self, x):
            return self.high(self.low(functional.interpolate(x, scale_factor=2)[..., ::2, ::2]))

    first, second = Cnn(0).eval(), Wide(1, width=6).eval()
    result = InteractionLoss(0.5, split=("low", None), seed=0)(first, second, *images())
    assert result.consistency > 0
    result.loss.backward()
    assert all(p.grad is not None for p in [*first.parameters(), *second.parameters()])


def test_masked_copies_do_not_move_the_running_statistics():
    plain, (inputs, labels) = Cnn(0), images()
    trained = copy.deepcopy(plain)
    plain(inputs)
    InteractionLoss(0.5, split="low", seed=0)(trained, Cnn(1), inputs, labels)
    for name, buffer in plain.named_buffers():
        assert torch.equal(buffer, trained.get_buffer(name)), name
    assert all(module.training for module in trained.modules())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_v_in_float32_and_near_the_truth(dtype):
    networks = scaled(Cnn(0).eval(), 3.0), scaled(Cnn(1).eval(), 3.0)
    inputs, labels = images()
    exact = InteractionLoss(0.5, split="low", seed=0)(*networks, inputs, labels)
    loss = InteractionLoss(0.5, split="low", seed=0)
    with torch.autocast("cpu", dtype):
        result = loss(*networks, inputs, labels)
        batch = Batch.of(inputs)
        _, values = loss.evaluate(Network(networks[0]), batch, loss.draw(batch, labels))
        assert values.dtype == torch.float32
    assert result.logits[0].dtype == dtype
    assert result.consistency.dtype == result.cross_entropy[0].dtype == torch.float32
    assert result.consistency.item() == pytest.approx(exact.consistency.item(), rel=0.1)
    result.loss.backward()
    assert all(p.grad.isfinite().all() for network in networks for p in network.parameters())


def test_saturated_outputs_have_finite_gradients():
    network = mlp(0)
    with torch.no_grad():
        network[4].weight.mul_(1e4)
    result = InteractionLoss(0.5, variables=Columns(6), seed=0)(network, mlp(1), *vectors())
    result.loss.backward()
    assert result.consistency > 1e3
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_following_the_gradient_brings_two_networks_together():
    networks, (inputs, labels) = (mlp(0, scale=3.0), mlp(1, scale=3.0)), vectors(32)
    optimizer = torch.optim.Adam([*networks[0].parameters(), *networks[1].parameters()], lr=1e-2)
    loss, seen = InteractionLoss(0.8, variables=Columns(6), seed=0), []
    for _ in range(60):
        result = loss(*networks, inputs, labels)
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
        seen.append(result.consistency.item())
    assert sum(seen[-10:]) < 0.3 * sum(seen[:10])


def test_the_same_seed_draws_the_same_whatever_the_networks():
    inputs, labels = images()
    draws = [
        InteractionLoss(0.5, fraction=0.5, seed=seed).draw(Batch.of(inputs), labels)
        for seed in (4, 4, 5)
    ]
    assert torch.equal(draws[0].present, draws[1].present)
    assert torch.equal(draws[0].rows, draws[1].rows)
    assert not torch.equal(draws[0].present, draws[2].present)


def test_outputs_are_compared_by_the_squared_norm():
    networks, (inputs, labels) = (mlp(0), mlp(1)), vectors()
    result = OutputConsistencyLoss(0.03)(*networks, inputs, labels)
    z, other = networks[0](inputs), networks[1](inputs)
    wanted = sum(((a - b) ** 2).sum() for a, b in zip(z, other, strict=True)) / 8
    assert result.consistency.item() == pytest.approx(wanted.item())
    entropy = functional.cross_entropy(z, labels) + functional.cross_entropy(other, labels)
    assert result.loss.item() == pytest.approx((0.03 * wanted + 0.97 * entropy).item())


def test_features_are_compared_by_the_squared_norm():
    networks, (inputs, labels) = (Cnn(0).eval(), Cnn(1).eval()), images()
    result = FeatureConsistencyLoss(0.2, split="high.1")(*networks, inputs, labels)
    features = [network.high[:2](network.low(inputs)) for network in networks]
    wanted = (features[0] - features[1]).square().sum((1, 2, 3)).mean()
    assert result.consistency.item() == pytest.approx(wanted.item(), rel=1e-5)
    result.loss.backward()
    assert all(network.low.weight.grad.abs().sum() > 0 for network in networks)


@pytest.mark.parametrize("loss", [OutputConsistencyLoss, FeatureConsistencyLoss])
def test_consistency_of_equal_networks_is_zero_and_lambda_ramps(loss):
    network = mlp(0)
    given = {"split": "2"} if loss is FeatureConsistencyLoss else {}
    loss = loss(ramp=2, **given)
    loss.set_lambda(0.5)
    results = [loss(network, copy.deepcopy(network), *vectors()) for _ in range(3)]
    assert [result.lambda_ for result in results] == [0.25, 0.5, 0.5]
    assert all(result.consistency.item() == 0 for result in results)


def test_lambda_ramps_from_the_change_on():
    loss = InteractionLoss(variables=Columns(3), ramp=4, seed=0)
    networks, batch = (mlp(0), mlp(1)), vectors()
    assert loss(*networks, *batch).lambda_ == 0
    seen = []
    for _ in range(6):
        loss.set_lambda(0.8)
        seen.append(loss(*networks, *batch).lambda_)
    assert seen == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


@pytest.mark.parametrize("kind", [InteractionLoss, OutputConsistencyLoss])
def test_a_loss_goes_on_from_its_state_in_the_middle_of_a_ramp(kind, tmp_path):
    given = {"variables": Columns(3), "fraction": 0.5} if kind is InteractionLoss else {}
    networks, batch = (mlp(0), mlp(1)), vectors()
    first = kind(**given)
    first.set_lambda(0.8, ramp=4)
    first(*networks, *batch)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = kind(**given)
    second.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert second.lambda_ == pytest.approx(0.2)
    second.set_lambda(0.8, ramp=4)
    for lambda_ in (0.4, 0.6, 0.8, 0.8):
        one, other = (loss(*networks, *batch) for loss in (first, second))
        assert other.lambda_ == pytest.approx(lambda_) and torch.allclose(one.loss, other.loss)


def test_mistakes_are_named():
    networks, (inputs, labels) = (Cnn(0), Cnn(1)), images()
    with pytest.raises(ValueError, match="no submodule `lo`; at the top it has `low`, `high`"):
        InteractionLoss(0.5, split="lo")(*networks, inputs, labels)
    with pytest.raises(ValueError, match=r"features must be \[B, D\] with 3 columns"):
        InteractionLoss(0.5, split="low", variables=Columns(3))(*networks, inputs, labels)
    with pytest.raises(ValueError, match="`split` must name the layer"):
        FeatureConsistencyLoss(0.5)(*networks, inputs, labels)
    with pytest.raises(ValueError, match="layers of the same shape"):
        FeatureConsistencyLoss(0.5, split=("low", "high"))(*networks, inputs, labels)
    with pytest.raises(ValueError, match="same batch first"):
        Batch.of([inputs, labels[:3]])
    for arguments in ({"fraction": 0.0}, {"fraction": 1.5}, {"baseline": "max"}, {"lambda_": 2.0}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            InteractionLoss(**arguments)
    with pytest.raises(ValueError, match="select"):
        ImagePatches(grid=3, select=2, margin=1)


def test_samples_with_few_variables_have_sets_among_those_and_none_below_two():
    counts = torch.tensor([0, 1, 2, 3, 6]).repeat_interleave(300)
    sets = draw_sets(len(counts), 6, torch.Generator().manual_seed(0), counts)
    full, first, second, context = sets
    assert not (full & (torch.arange(6) >= counts[:, None])).any()
    s1, s2 = first & ~context, second & ~context
    assert s1[counts >= 1].any(1).all() and s2[counts >= 2].any(1).all()
    assert not s2[counts < 2].any()


class Attentive(nn.Module):
    """Dropout as a function, and a mask that goes around the split."""

    def __init__(self, seed, dropout=0.5):
        super().__init__()
        torch.manual_seed(seed)
        self.low = nn.Linear(6, 8)
        self.high = nn.Linear(8, 3)
        self.dropout = dropout

    def forward(self, inputs, weight):
        hidden = self.low(inputs) * weight
        return self.high(functional.dropout(hidden.tanh(), self.dropout, self.training))


def test_dropout_that_is_a_function_is_off_for_masked_copies_alone():
    network, (inputs, labels) = Network(Attentive(0), "low"), vectors()
    loss, batch = (
        InteractionLoss(0.5, variables=Columns(4), seed=0),
        Batch.of([inputs, torch.rand(8, 8)]),
    )
    draw = loss.draw(batch, labels)
    (first, values), (second, others) = (loss.evaluate(network, batch, draw) for _ in range(2))
    assert torch.equal(values, others)
    assert not torch.equal(first, second), "the plain batch has its dropout"
    assert network.module.training


@pytest.mark.parametrize("fraction", [1.0, 0.25])
@pytest.mark.parametrize("split", ["low", "halves", None])
def test_one_pass_gives_the_same_numbers(split, fraction):
    inputs, labels = vectors()
    batch = Batch.of([inputs, torch.rand(8, 8)])
    network = Attentive(0, dropout=0.0)

    def halves(module):
        return lambda x, _: module.low(x), lambda h, weight: module.high((h * weight).tanh())

    found = []
    for one_pass in (False, True):
        at = halves(network) if split == "halves" else split
        network.zero_grad()
        loss = InteractionLoss(0.5, variables=Columns(4), fraction=fraction, seed=0)
        logits, values = loss.evaluate(
            Network(network, at, one_pass=one_pass), batch, loss.draw(batch, labels)
        )
        (values.square().sum() + logits.square().sum()).backward()
        found.append([logits, values, *(p.grad.clone() for p in network.parameters())])
    assert len(found[0][1]) == round(8 * fraction)
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_one_pass_runs_a_network_once_and_the_lower_layers_on_the_batch_alone():
    networks, (inputs, labels) = (Cnn(0).eval(), Cnn(1).eval()), images()
    InteractionLoss(0.5, split="low", seed=0)(*networks, inputs, labels)
    calls = []
    for name in ("low", "high"):
        for network in networks:
            network.get_submodule(name).register_forward_hook(
                lambda _m, _i, out, name=name: calls.append((name, len(out)))
            )
    halves = [Network(network, "low", one_pass=True) for network in networks]
    InteractionLoss(0.5, fraction=0.5, seed=0)(*halves, inputs, labels)
    assert calls == [("low", 8), ("high", 24)] * 2
    with pytest.raises(ValueError, match=r"`one_pass` is not for a network with `high\.2`"):
        networks[0].train()
        InteractionLoss(0.5, seed=0)(*halves, inputs, labels)


@pytest.mark.parametrize("variables", [ImagePatches(), Columns(6)])
def test_the_default_device_does_not_matter(variables):
    made = (Cnn(0), Cnn(1)) if isinstance(variables, ImagePatches) else (mlp(0), mlp(1))
    inputs, labels = images() if isinstance(variables, ImagePatches) else vectors()
    results = []
    for device in ("cpu", "meta"):
        networks = [copy.deepcopy(network).eval() for network in made]
        with torch.device(device):
            loss = InteractionLoss(0.5, variables=variables, fraction=0.5, seed=0)
            result = loss(*networks, inputs, labels)
        results.append(result.loss)
    assert torch.equal(*results) and results[0] > 0


def test_one_pass_is_found_out_for_networks_of_known_layers_alone():
    def at(*layers):
        return Network(nn.Sequential(nn.Linear(4, 4), *layers, nn.Linear(4, 3))).one_pass

    class Own(nn.Linear):
        """Whatever it does."""

    assert at(nn.ReLU(), nn.Sequential(nn.LayerNorm(4), nn.GELU()))
    for layer in (nn.BatchNorm1d(4), nn.Dropout(0.0), Own(4, 4), nn.MultiheadAttention(4, 1)):
        assert not at(layer), layer
    assert not Network(Attentive(0, dropout=0.0), "low").one_pass
    assert Network(mlp(0)).one_pass and not Network(mlp(0), one_pass=False).one_pass
    halves = nn.Linear(4, 4), nn.Linear(4, 3)
    assert not Network(nn.Sequential(*halves), halves).one_pass
