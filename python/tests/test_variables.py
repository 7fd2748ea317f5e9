"""Which parts of a sample are masked, and by what."""

import pytest
import torch
from torch import nn

from convergd.torch import Columns, ImagePatches, InteractionLoss, Network, Tokens
from convergd.torch.batch import Batch
from convergd.torch.masking import masked
from convergd.torch.patches import patch_indices

torch.set_num_threads(1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_brightest_inner_patches_are_chosen_by_the_image():
    image = torch.arange(16.0).view(1, 1, 4, 4) - 3.0
    rule = ImagePatches(grid=4, select=2, margin=1)
    chosen = rule.choose(Batch.of(image), generator())
    assert chosen.count == 2
    positions = rule.of_positions(chosen, torch.zeros(1, 7, 8, 8))[0]
    patches = patch_indices(torch.zeros(1, 1, 8, 8), 4)
    assert (positions[patches == 10] == 0).all() and (positions[patches == 9] == 1).all()
    assert (positions[(patches != 10) & (patches != 9)] == -1).all()


def test_all_patches_of_any_input_can_be_variables():
    rule = ImagePatches(grid=3, select=None, margin=0)
    chosen = rule.choose(Batch.of(torch.zeros(2, 5)), generator())
    assert chosen.count == 9
    assert torch.equal(
        rule.of_positions(chosen, torch.zeros(2, 1, 7, 5))[1],
        patch_indices(torch.zeros(1, 1, 7, 5), 3),
    )
    with pytest.raises(ValueError, match="`select=None` takes all patches"):
        ImagePatches().choose(Batch.of(torch.zeros(2, 5)), generator())


def test_tokens_are_drawn_among_those_that_are_present_and_not_excluded():
    ids = torch.tensor([[101, 5, 6, 7, 102, 0, 0], [101, 5, 8, 9, 4, 3, 102]])
    batch = Batch.of({"input_ids": ids, "attention_mask": (ids != 0).long()})
    rule, seen = Tokens(select=3, exclude_ids=[101, 102, 7]), [set(), set()]
    for seed in range(50):
        chosen = rule.choose(batch, generator(seed))
        assert chosen.counts.tolist() == [2, 3]
        positions = rule.of_positions(chosen, torch.zeros(2, 7, 4))
        for sample in (0, 1):
            at = (positions[sample] >= 0).nonzero().flatten().tolist()
            seen[sample].add(tuple(at))
            assert sorted(positions[sample][at].tolist()) == list(range(len(at)))
    assert seen[0] == {(1, 2)}
    assert len(seen[1]) == 10, "all triples of the five words"


def test_columns_are_dealt_in_turn():
    rule = Columns(3)
    positions = rule.of_positions(
        rule.choose(Batch.of(torch.zeros(2, 7)), generator()), torch.zeros(2, 7)
    )
    assert positions.tolist() == [[0, 1, 2, 0, 1, 2, 0]] * 2


@pytest.mark.parametrize("shape", [(3, 4, 4), (5, 3), (6,)], ids=["image", "sequence", "columns"])
@pytest.mark.parametrize("baseline", ["zero", "mean"])
def test_masking_is_that_of_a_plain_loop(shape, baseline):
    torch.manual_seed(0)
    hidden = torch.randn(2, *shape)
    place = {3: shape[1:], 2: shape[:1], 1: shape}[len(shape)]
    positions = torch.randint(-1, 3, (2, *place))
    present = torch.rand(4, 2, 3) < 0.5
    copies = masked(hidden, positions, present, baseline)
    for sample in (0, 1):
        columns = hidden[sample].T if len(shape) == 2 else hidden[sample]
        flat = columns.reshape(-1, positions[sample].numel())
        variable = positions[sample].flatten().tolist()
        kept = [at for at, one in enumerate(variable) if one >= 0]
        base = flat[:, kept].mean(1) if baseline == "mean" else torch.zeros(len(flat))
        for copy in range(4):
            wanted = flat.clone()
            for at, one in enumerate(variable):
                if one >= 0 and not present[copy, sample, one]:
                    wanted[:, at] = base
            found = copies[copy, sample].T if len(shape) == 2 else copies[copy, sample]
            assert torch.allclose(found.reshape(wanted.shape), wanted, atol=1e-6)


def encoder(seed):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=16, initializer_range=0.5,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config)


def texts():
    torch.manual_seed(4)
    ids = torch.randint(5, 40, (6, 9))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    mask[2, 1:] = 0
    return {"input_ids": ids, "attention_mask": mask}, torch.randint(2, (6,))


def test_an_encoder_is_masked_at_its_embeddings_and_padding_stays_out():
    networks, (inputs, labels) = (encoder(0), encoder(1)), texts()
    rule = Tokens(select=4, exclude_ids=[5])
    given = {"split": "bert.embeddings", "variables": rule, "baseline": "mean", "seed": 0}
    result = InteractionLoss(0.5, **given)(*networks, inputs, labels)
    assert result.logits[0].shape == (6, 2)
    result.loss.backward()
    for network in networks:
        assert network.bert.embeddings.word_embeddings.weight.grad.abs().sum() > 0

    loss, network = InteractionLoss(0.5, **given), Network(networks[0].eval(), "bert.embeddings")
    draw = loss.draw(Batch.of(inputs), labels)
    batch = Batch.of(inputs)
    found = loss.evaluate(network, batch, draw)[1]
    assert found[2].item() == pytest.approx(0, abs=1e-5), "one token has no partner"
    assert found[[0, 1, 3, 4, 5]].abs().min() > 1e-3
    noisy = inputs | {"input_ids": (inputs["input_ids"] + 7 * (1 - inputs["attention_mask"])) % 40}
    assert not torch.equal(noisy["input_ids"], inputs["input_ids"])
    other = draw._replace(batch=Batch.of(noisy))
    assert torch.allclose(loss.evaluate(network, Batch.of(noisy), other)[1], found, atol=1e-5)


def test_what_is_present_everywhere_is_the_network_itself():
    network, (inputs, _) = encoder(0).eval(), texts()
    split = Network(network, "bert.embeddings")
    hidden, logits = split.plain(Batch.of(inputs))
    assert torch.allclose(logits, network(**inputs).logits)
    copies = split.masked(hidden.expand(3, *hidden.shape), Batch.of(inputs))
    assert torch.allclose(copies, logits.expand(3, -1, -1), atol=1e-6)


def test_features_without_a_vector_for_each_token_are_refused():
    with pytest.raises(ValueError, match=r"needs ids \[B, L\]"):
        Tokens().choose(Batch.of(torch.zeros(2, 5)), generator())
    rule = Tokens(2)
    chosen = rule.choose(Batch.of(torch.ones(2, 5).long()), generator())
    with pytest.raises(ValueError, match=r"must be \[B, 5, D\]"):
        rule.of_positions(chosen, torch.zeros(2, 4, 3))
    with pytest.raises(ValueError, match="layers"):
        Network(nn.Linear(1, 1), "layers")
