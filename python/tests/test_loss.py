"""The interaction loss against values worked out by hand and by plain loops."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from convergd import InteractionPenalty
from convergd.loss import draw_sets, interaction, log_odds, patch_indices, patch_strength
from convergd.torch import Columns, Tokens


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Small(nn.Module):
    """A network with normalisation and dropout above the split."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.low = nn.Conv2d(1, 3, 3, padding=1)
        self.high = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(4 * 36, 5),
        )


def batch(samples=8):
    torch.manual_seed(2)
    return torch.randn(samples, 1, 6, 6), torch.randint(5, (samples,))


def two_class_head(value):
    """A head with two classes whose log-odds of class 1 is `value(h)`."""

    def head(hidden):
        log_odds_one = value(hidden)
        return torch.stack([torch.zeros_like(log_odds_one), log_odds_one], 1)

    return head


def identity(inputs):
    return inputs


def test_interaction_is_the_alternating_sum():
    values = torch.tensor([[7.0, 1.0], [2.0, 1.0], [3.0, 1.0], [0.5, 4.0]])
    assert interaction(values).tolist() == [7 - 2 - 3 + 0.5, 1 - 1 - 1 + 4]


def test_log_odds_are_those_of_the_softmax():
    logits = torch.randn(6, 5, generator=generator(), dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    p = logits.softmax(-1)[torch.arange(6), labels]
    assert torch.allclose(log_odds(logits, labels), (p / (1 - p)).log(), atol=1e-12)


def test_log_odds_do_not_saturate_and_are_float32_at_least():
    logits = torch.tensor([[300.0, 0.0, 0.0]], dtype=torch.bfloat16)
    value = log_odds(logits, torch.tensor([0]))
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(300 - math.log(2), abs=1e-4)


def test_the_gradient_of_the_log_odds_is_that_of_finite_differences():
    logits = torch.randn(4, 5, generator=generator(), dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 4, 2, 2])
    assert torch.autograd.gradcheck(lambda z: log_odds(z, labels), logits)


def test_sets_are_disjoint_and_not_empty():
    full, first, second, context = draw_sets(2000, 8, generator())
    s1, s2 = first & ~context, second & ~context
    assert torch.equal(full, first | second)
    assert not (s1 & s2).any()
    assert (context & ~first).sum() == 0 and (context & ~second).sum() == 0
    assert s1.any(1).all() and s2.any(1).all()
    assert s1.sum(1).unique().tolist() == s2.sum(1).unique().tolist() == [1, 2, 3]
    assert context.sum(1).unique().tolist() == list(range(7))


def test_each_variable_is_drawn_as_often():
    s1 = (lambda sets: sets[1] & ~sets[3])(draw_sets(8000, 8, generator()))
    shares = s1.float().mean(0) / s1.float().mean()
    assert (shares - 1).abs().max() < 0.1


@pytest.mark.parametrize("variables", [2, 3, 5])
def test_few_variables_still_make_sets(variables):
    _, first, second, context = draw_sets(500, variables, generator())
    assert (first & ~context).any(1).all() and (second & ~context).any(1).all()


def test_patches_cover_the_map_row_by_row():
    assert patch_indices(torch.zeros(1, 1, 4, 4), 2).tolist() == [
        [0, 0, 1, 1],
        [0, 0, 1, 1],
        [2, 2, 3, 3],
        [2, 2, 3, 3],
    ]
    uneven = patch_indices(torch.zeros(1, 1, 7, 5), 3)
    assert uneven.unique().tolist() == list(range(9))


def test_patch_strength_is_the_norm_of_each_patch():
    hidden = torch.randn(2, 3, 4, 4, generator=generator())
    patches = patch_indices(hidden, 2)
    strength = patch_strength(hidden, patches, 2)
    assert strength[1, 2].item() == pytest.approx(hidden[1, :, 2:, :2].abs().sum().item(), abs=1e-5)


def test_features_too_small_or_of_wrong_shape_are_refused():
    with pytest.raises(ValueError, match="3×8 feature map has no 4×4 patches"):
        patch_indices(torch.zeros(1, 1, 3, 8), 4)
    with pytest.raises(ValueError, match=r"\[B, C, H, W\]"):
        patch_indices(torch.zeros(1, 8), 4)


def test_masked_copies_keep_what_is_no_variable_and_are_drawn_from_the_strongest():
    seen = []

    def value(hidden):
        seen.append(hidden)
        return hidden.flatten(1).sum(1)

    hidden = torch.tensor([[1.0, 9.0], [8.0, 7.0]]).repeat(50, 1, 1, 1)
    penalty = InteractionPenalty(variables=3, grid=2, seed=0)
    penalty.interactions(two_class_head(value), hidden, torch.ones(50, dtype=torch.int64))
    full, first, second, context = seen[0].unflatten(0, (4, 50))
    assert (seen[0][:, 0, 0, 0] == 1).all(), "the weakest patch is no variable"
    assert torch.equal((first > 0) | (second > 0), full > 0)
    assert torch.equal((first > 0) & (second > 0), context > 0)
    assert (full.flatten(1).count_nonzero(1) > context.flatten(1).count_nonzero(1)).all()


def test_an_additive_network_has_no_interaction():
    weights = torch.randn(2, 8, 8, generator=generator())
    head = two_class_head(lambda h: (h * weights).flatten(1).sum(1) + 0.3)
    hidden = torch.randn(64, 2, 8, 8, generator=generator(1))
    values = InteractionPenalty(seed=3).interactions(head, hidden, torch.ones(64).long())
    assert values.abs().max() < 1e-4


def test_a_product_of_two_variables_is_their_interaction():
    """v = a·b over two patches: S1 and S2 are these patches, and S3 is empty."""
    head = two_class_head(lambda h: h[:, 0, 0, 0] * h[:, 0, 1, 1])
    hidden = torch.tensor([[3.0, 0.0], [0.0, 5.0]]).expand(1, 1, 2, 2)
    penalty = InteractionPenalty(variables=2, grid=2, seed=0)
    assert penalty.interactions(head, hidden, torch.tensor([1])).item() == pytest.approx(15.0)
    assert penalty.interactions(head, hidden, torch.tensor([0])).item() == pytest.approx(-15.0)
    penalty.set_lambda(0.25)
    result = penalty(identity, head, hidden, torch.tensor([1]))
    assert result.penalty.item() == pytest.approx(225.0)
    cross_entropy = math.log1p(math.exp(-15))
    assert result.loss.item() == pytest.approx(0.25 * 225 + 0.75 * cross_entropy)


def test_at_lambda_zero_the_loss_is_the_plain_cross_entropy():
    net, (inputs, labels) = Small().eval(), batch()
    result = InteractionPenalty(grid=3)(net.low, net.high, inputs, labels)
    wanted = functional.cross_entropy(net.high(net.low(inputs)), labels)
    assert torch.equal(result.loss, wanted)
    assert result.penalty.item() == 0 and result.lambda_ == 0


def test_the_features_are_computed_once_and_the_copies_in_one_batch():
    net, (inputs, labels) = Small(), batch()
    sizes = {"low": [], "high": []}
    net.low.register_forward_hook(lambda _m, _i, out: sizes["low"].append(len(out)))
    net.high.register_forward_hook(lambda _m, _i, out: sizes["high"].append(len(out)))
    InteractionPenalty(0.5, grid=3)(net.low, net.high, inputs, labels)
    assert sizes == {"low": [8], "high": [8, 32]}


@pytest.mark.parametrize(("fraction", "rows"), [(1.0, 32), (0.25, 8), (0.01, 4)])
def test_the_four_copies_are_of_a_share_of_the_samples(fraction, rows):
    net, (inputs, labels) = Small(), batch()
    sizes = []
    net.high.register_forward_hook(lambda _m, _i, out: sizes.append(len(out)))
    penalty = InteractionPenalty(0.5, grid=3, seed=0, fraction=fraction)
    result = penalty(net.low, net.high, inputs, labels)
    assert sizes == [8, rows]
    assert result.logits.shape == (8, 5) and result.penalty > 0


def numbered(samples):
    """Samples whose two patches hold their number + 1, labels that alternate, and a head.

    v of class 1 is the product of both patches, so 𝓘 of sample i is ±(i + 1)².
    """
    inputs = (torch.arange(samples) + 1.0).view(-1, 1, 1, 1) * torch.eye(2)
    head = two_class_head(lambda h: h[:, 0, 0, 0] * h[:, 0, 1, 1])
    return inputs, torch.arange(samples) % 2, head


def test_the_penalty_of_a_share_is_its_mean_and_has_the_labels_of_its_samples():
    inputs, labels, head = numbered(8)
    penalty = InteractionPenalty(0.5, variables=2, grid=2, seed=1, fraction=0.5)
    seen, interactions = [], penalty.interactions

    def spy(head, hidden, labels):
        seen.append((hidden[:, 0, 0, 0].long() - 1, labels))
        return interactions(head, hidden, labels)

    penalty.interactions = spy
    result = penalty(identity, head, inputs, labels)
    ((rows, of_rows),) = seen
    assert len(rows.unique()) == 4 and torch.equal(of_rows, labels[rows])
    assert not torch.equal(of_rows, labels[:4]), "others than the first"
    assert result.penalty.item() == pytest.approx((rows + 1.0).pow(4).mean().item())
    # The cross entropy is of all.
    wanted = functional.cross_entropy(head(inputs), labels)
    assert torch.equal(result.cross_entropy, wanted)
    assert result.loss.item() == pytest.approx(0.5 * (result.penalty + wanted).item())


def test_a_fraction_takes_other_samples_at_each_step_and_all_in_the_end():
    inputs, labels, head = numbered(16)
    penalty = InteractionPenalty(0.5, variables=2, grid=2, seed=0, fraction=1 / 16)
    penalties = [penalty(identity, head, inputs, labels).penalty.item() for _ in range(200)]
    rows = torch.tensor(penalties).pow(0.25).round().long() - 1
    assert rows.bincount(minlength=16).min() > 3


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_gradients_are_those_of_finite_differences(fraction):
    inputs = torch.randn(4, 2, 4, 4, generator=generator(), dtype=torch.float64)
    labels = torch.tensor([0, 2, 1, 2])
    weights = [
        torch.randn(*shape, generator=generator(1), dtype=torch.float64).requires_grad_()
        for shape in ((3, 2, 3, 3), (48, 3))
    ]

    def loss(filters, last):
        penalty = InteractionPenalty(0.6, grid=2, variables=3, seed=3, fraction=fraction)
        low = functional.conv2d
        return penalty(
            lambda images: low(images, filters, padding=1),
            lambda hidden: (hidden.flatten(1) / 4).tanh() @ last,
            inputs,
            labels,
        ).loss

    assert torch.autograd.gradcheck(loss, weights)


def test_the_gradient_reaches_every_parameter_through_the_penalty():
    net, (inputs, labels) = Small().eval(), batch()
    result = InteractionPenalty(1.0, grid=3, seed=0)(net.low, net.high, inputs, labels)
    assert result.loss.item() == result.penalty.item() > 0
    result.loss.backward()
    # A shift of all logits, the mean of the last bias's gradient, cannot matter.
    for name, parameter in net.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
    assert net.high[5].bias.grad.sum().abs() < 1e-5


def test_following_the_gradient_lowers_the_penalty():
    net, (inputs, labels) = Small().eval(), batch(32)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    penalties = []
    penalty = InteractionPenalty(1.0, grid=3, seed=0)
    for _ in range(40):
        result = penalty(net.low, net.high, inputs, labels)
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
        penalties.append(result.penalty.item())
    assert sum(penalties[-5:]) < 0.3 * sum(penalties[:5])


def test_masked_copies_do_not_move_the_running_statistics():
    inputs, labels = batch()
    plain, with_penalty = Small(), Small()
    plain.high(plain.low(inputs))
    InteractionPenalty(0.5, grid=3, module=with_penalty)(
        with_penalty.low, with_penalty.high, inputs, labels
    )
    for name, buffer in plain.named_buffers():
        assert torch.equal(buffer, with_penalty.get_buffer(name)), name
    assert all(module.training for module in with_penalty.modules())


def of_parts(net):
    """A head by which its network cannot be known."""
    return lambda images: net.low(images), lambda hidden: net.high(hidden)


def test_a_head_whose_statistics_would_move_is_refused_unless_its_network_is_known():
    net, (inputs, labels) = Small(), batch()
    with pytest.raises(ValueError, match=r"statistics of a BatchNorm2d: give .*`module=`"):
        InteractionPenalty(0.5, grid=3)(*of_parts(net), inputs, labels)
    InteractionPenalty(grid=3)(*of_parts(net), inputs, labels)
    InteractionPenalty(0.5, grid=3)(*of_parts(net.eval()), inputs, labels)
    net.train()
    given = [(net.low, net.high), (net.low, net.high.forward), of_parts(net)]
    for halves, module in zip(given, [None, None, net], strict=True):
        plain, trained = copy.deepcopy(net), net
        plain.high(plain.low(inputs))
        InteractionPenalty(0.5, grid=3, module=module)(*halves, inputs, labels)
        for name, buffer in plain.named_buffers():
            assert torch.equal(buffer, trained.get_buffer(name)), name


class Whole(Small):
    def forward(self, images):
        return self.high(self.low(images))


def test_a_network_is_as_its_parts_and_its_statistics_do_not_move():
    net, (inputs, labels) = Whole(), batch()
    plain, penalties = copy.deepcopy(net), []
    torch.manual_seed(5)
    plain(inputs)
    for given in ((net,), (net.low, net.high)):
        trained = copy.deepcopy(net)
        halves = given if len(given) == 1 else (trained.low, trained.high)
        network = (trained,) if len(halves) == 1 else halves
        penalty = InteractionPenalty(0.5, grid=3, module=trained, split="low", seed=0)
        penalties.append(penalty(*network, inputs, labels).penalty.item())
        for name, buffer in plain.named_buffers():
            assert torch.equal(buffer, trained.get_buffer(name)), name
    assert penalties[0] == pytest.approx(penalties[1]) and penalties[0] > 0
    named = InteractionPenalty(grid=3)(network=net, inputs=inputs, labels=labels)
    assert named.penalty == 0
    with pytest.raises(TypeError, match="`network, inputs, labels`"):
        InteractionPenalty(grid=3)(net, inputs)


def test_features_that_are_no_map_are_told_what_there_is_for_them():
    with pytest.raises(ValueError, match=r"features \[B, C, H, W\].*`variables=Tokens"):
        InteractionPenalty(0.5)(nn.Identity(), nn.Linear(16, 4), torch.ones(2, 16), torch.ones(2))


def test_columns_and_tokens_are_variables_too():
    """v = a·b of two columns, and of the sums of two tokens."""

    class Product(nn.Module):
        def forward(self, h):
            return two_class_head(lambda h: h.prod(1))(h)

    hidden, ones = torch.tensor([[3.0, 5.0]] * 4), torch.ones(4).long()
    columns = InteractionPenalty(0.5, variables=Columns(2), seed=0)
    assert columns(Product(), hidden, ones).penalty.item() == pytest.approx(225)
    assert columns(identity, Product(), hidden, ones).penalty.item() == pytest.approx(225)

    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.low = nn.Embedding.from_pretrained(torch.tensor([[1.0], [3.0], [5.0]]))
            self.high = Product()

        def forward(self, ids):
            return self.high(self.low(ids).squeeze(2))

    ids = torch.tensor([[1, 2]] * 4)
    tokens = InteractionPenalty(0.5, variables=Tokens(2), split="low", seed=0)
    assert tokens(Text(), {"ids": ids}, ones).penalty.item() == pytest.approx(225)
    mean = InteractionPenalty(0.5, variables=Tokens(2), split="low", baseline="mean", seed=0)
    assert mean(Text(), (ids,), ones).penalty.item() == pytest.approx((15 - 12 - 20 + 16) ** 2)
    with pytest.raises(ValueError, match="`Tokens` are chosen by the ids"):
        tokens(identity, Product(), hidden, ones)


def test_a_seed_makes_the_sets_repeatable():
    net, (inputs, labels) = Small().eval(), batch()
    one, two, other = (
        InteractionPenalty(0.5, grid=3, seed=seed)(net.low, net.high, inputs, labels).loss.item()
        for seed in (4, 4, 5)
    )
    assert one == two != other


def test_the_loss_works_under_autocast():
    net, (inputs, labels) = Small().eval(), batch()
    with torch.autocast("cpu", torch.bfloat16):
        result = InteractionPenalty(0.5, grid=3, seed=0)(net.low, net.high, inputs, labels)
    assert result.logits.dtype == torch.bfloat16
    assert result.penalty.dtype == result.cross_entropy.dtype == torch.float32
    result.loss.backward()
    assert net.low.weight.grad.isfinite().all()


def lambdas(penalty, count):
    net, (inputs, labels) = Small().eval(), batch(2)
    return [penalty(net.low, net.high, inputs, labels).lambda_ for _ in range(count)]


def test_lambda_ramps_linearly_from_the_change_on():
    penalty = InteractionPenalty(ramp=4, grid=3)
    assert lambdas(penalty, 2) == [0, 0]
    penalty.set_lambda(0.8)
    assert lambdas(penalty, 6) == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_the_same_lambda_again_does_not_restart_the_ramp():
    penalty = InteractionPenalty(grid=3)
    seen = []
    for _ in range(4):
        penalty.set_lambda(0.8, ramp=4)
        seen += lambdas(penalty, 1)
    assert seen == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_a_change_in_the_middle_starts_from_the_present_value():
    penalty = InteractionPenalty(grid=3)
    penalty.set_lambda(0.8, ramp=4)
    lambdas(penalty, 2)
    penalty.set_lambda(0.0, ramp=2)
    assert lambdas(penalty, 3) == pytest.approx([0.2, 0.0, 0.0])


def test_without_a_ramp_lambda_changes_at_once():
    penalty = InteractionPenalty(0.3, grid=3)
    assert penalty.lambda_ == 0.3
    penalty.set_lambda(0.8)
    assert lambdas(penalty, 1) == [0.8]


@pytest.mark.parametrize(
    "arguments",
    [
        {"lambda_": -0.1},
        {"lambda_": 1.1},
        {"lambda_": math.nan},
        {"ramp": -1},
        {"variables": 1},
        {"variables": 17},
        {"fraction": 0.0},
        {"fraction": 1.5},
        {"fraction": math.nan},
    ],
)
def test_numbers_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        InteractionPenalty(**arguments)
