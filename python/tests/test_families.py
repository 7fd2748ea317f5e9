"""Hugging Face's models of text, made tiny with random weights: the program is the model."""

import json

import pytest
import torch
import transformers

from convergd import ExportError, embedding_split, export_program

WORDS = 40
LENGTH = 9
SIZES = {
    "vocab_size": WORDS,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}


def make(family, attention="sdpa"):
    torch.manual_seed(3)
    if family == "bert":
        config = transformers.BertConfig(**SIZES, num_labels=3)
        kind = transformers.BertForSequenceClassification
    elif family == "llama":
        config = transformers.LlamaConfig(**SIZES, num_key_value_heads=1)
        kind = transformers.LlamaForCausalLM
    else:
        config = transformers.Qwen2Config(**SIZES, num_key_value_heads=1, tie_word_embeddings=True)
        kind = transformers.Qwen2ForCausalLM
    config._attn_implementation = attention
    return kind(config).eval()


def draw(family, samples, length, seed=0):
    """Samples that are not padded, padded at the left, and at the right, in turn."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, WORDS, (samples, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[1::3, : length // 2] = 0
    mask[2::3, length - length // 2 :] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if family == "bert":
        inputs["token_type_ids"] = (torch.arange(length) > 3).long().expand(samples, -1).clone()
    return inputs


def wanted(model, inputs):
    """One sample at a time, without its padding: what the trainer's own network says of it."""
    rows = []
    for sample in range(len(inputs["input_ids"])):
        there = inputs["attention_mask"][sample] == 1
        own = {name: tensor[sample : sample + 1, there] for name, tensor in inputs.items()}
        logits = model(**own).logits
        rows.append(logits[:, -1] if logits.dim() == 3 else logits)
    return torch.cat(rows)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ["bert", "llama", "qwen2"])
@torch.no_grad()
def test_the_program_is_the_model_with_and_without_padding(tmp_path, family, attention):
    model = make(family, attention)
    path = export_program(
        model,
        draw(family, 3, LENGTH),
        split=embedding_split(model),
        path=tmp_path / "program.ts",
        next_token=family != "bert",
    )
    program = torch.jit.load(path)
    for samples, length in [(1, LENGTH), (6, LENGTH), (7, 4), (5, 20)]:
        inputs = draw(family, samples, length, seed=samples)
        first, *rest = inputs.values()
        hidden = program.features(first, *rest)
        assert hidden.shape == (samples, length, 16)
        logits = program.head(hidden, *rest)
        # Rotary positions do not depend on where a sample starts; BERT's own do.
        same = inputs["attention_mask"][:, 0] == 1 if family == "bert" else slice(None)
        torch.testing.assert_close(logits[same], wanted(model, inputs)[same], atol=2e-6, rtol=1e-5)


def test_the_program_names_its_inputs_and_the_split(tmp_path):
    assert embedding_split(make("bert")) == "bert.embeddings"
    assert embedding_split(make("llama")) == "model.embed_tokens"
    model = make("qwen2")
    path = export_program(
        model,
        draw("qwen2", 2, 5),
        split=embedding_split(model),
        path=tmp_path / "program.ts",
        next_token=True,
    )
    meta = json.loads(torch.jit.load(path).attach_meta())
    assert meta["inputs"] == ["inputs", "attention_mask"]
    assert (meta["next_token"], meta["classes"]) == (True, WORDS)
    (tied,) = meta["aliases"]
    assert sorted(tied) == ["model.lm_head.weight", "model.model.embed_tokens.weight"]


def test_what_does_not_fit_a_language_model_is_said(tmp_path):
    llama, bert = make("llama"), make("bert")
    path = tmp_path / "program.ts"
    inputs = draw("llama", 2, 5)
    split = "model.embed_tokens"
    with pytest.raises(ExportError, match="needs `next_token=True`"):
        export_program(llama, inputs, split=split, path=path)
    with pytest.raises(ExportError, match="as a dict"):
        export_program(llama, tuple(inputs.values()), split=split, path=path, next_token=True)
    with pytest.raises(ExportError, match="2 tokens or more"):
        export_program(llama, draw("llama", 2, 1), split=split, path=path, next_token=True)
    with pytest.raises(ExportError, match=r"`next_token` needs logits \[B, L, K\]"):
        export_program(
            bert, draw("bert", 2, 5), split="bert.embeddings", path=path, next_token=True
        )
    with pytest.raises(ExportError, match="name the split"):
        embedding_split(torch.nn.Linear(2, 2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("family", ["Llama", "Qwen2"])
@pytest.mark.parametrize("padded", [False, True])
def test_a_classifier_that_looks_for_its_padding_in_the_ids_is_refused(tmp_path, family, padded):
    config = getattr(transformers, f"{family}Config")(
        **SIZES, num_key_value_heads=1, num_labels=3, pad_token_id=0
    )
    torch.manual_seed(3)
    model = getattr(transformers, f"{family}ForSequenceClassification")(config).eval()
    inputs = {name: own.clone() for name, own in draw("llama", 3, LENGTH).items()}
    if padded:
        inputs["input_ids"] *= inputs["attention_mask"]
    else:
        inputs["attention_mask"].fill_(1)
    with pytest.raises(ExportError, match="use its input again after it"):
        export_program(model, inputs, split=embedding_split(model), path=tmp_path / "program.ts")


@pytest.mark.parametrize("family", ["Bert", "Roberta", "DistilBert", "Electra"])
@torch.no_grad()
def test_encoders_that_know_their_padding_are_exported(tmp_path, family):
    sizes = SIZES
    if family == "DistilBert":
        sizes = {"vocab_size": WORDS, "dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 2}
    config = getattr(transformers, f"{family}Config")(**sizes, num_labels=3, pad_token_id=1)
    torch.manual_seed(3)
    model = getattr(transformers, f"{family}ForSequenceClassification")(config).eval()
    inputs = draw("llama", 5, LENGTH)
    inputs["input_ids"] = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, 1)
    path = export_program(model, inputs, embedding_split(model), tmp_path / "program.ts")
    program = torch.jit.load(path)
    ids, mask = inputs.values()
    found = program.head(program.features(ids, mask), mask)
    torch.testing.assert_close(found, model(**inputs).logits, atol=2e-6, rtol=1e-5)
