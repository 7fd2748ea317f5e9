"""The schema of configuration files: editors accept the examples and mark what convergd refuses."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path

import pytest
import yaml
from attached import convergd
from jsonschema import Draft7Validator

CONFIG = Path(__file__).parents[2] / "config"
EXAMPLES = sorted(CONFIG.glob("*.yaml"))


class Loader(yaml.SafeLoader):
    """YAML 1.2, as convergd and editors read it: `on` is a word, not a truth."""


Loader.yaml_implicit_resolvers = {
    first: resolvers
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    if first not in "oO"
}


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    """Of the committed schema."""
    schema = json.loads((CONFIG / "convergd.schema.json").read_text())
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


def test_there_are_examples() -> None:
    """Otherwise the next test tests nothing."""
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_valid(validator: Draft7Validator, example: Path) -> None:
    """As editors see it."""
    content = yaml.load(example.read_text(), Loader)
    errors = [error.message for error in validator.iter_errors(content)]
    assert errors == []


MISSING = ...
RULE = ["policy", "rules", 0]
PEAKED = [*RULE, "when", "peaked"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["polciy"], {}),
        (["state"], MISSING),
        (["policy"], MISSING),
        ([*RULE, "when"], {"peeked": {}}),
        ([*PEAKED, "metric"], "loss"),
        ([*PEAKED, "patience", "checks"], "three"),
        ([*RULE, "when"], {"any": [{"reached": {"steps": 3}}]}),
        ([*RULE, "when"], {"reached": {"duration": 30}}),
        (["control", "acknowledge"], "30 minutes"),
        (["control", "escalate"], [{"after": "30s", "do": {"signal": {"name": "TERM"}}}]),
        (["control", "escalate"], [{"after": "30s", "do": {"mail": {}}}]),
        (["notify"], [{"name": "ops", "url": "http://localhost/", "on": ["everything"]}]),
        (["networks", "target", "layout"], "keras"),
        (["pairing", "waiting"], 1),
        (["probe", "file"], MISSING),
        (["networks", "target"], MISSING),
        (["control", "directory"], MISSING),
        ([*RULE, "id"], MISSING),
        ([*RULE, "id"], ""),
        ([*RULE, "when"], MISSING),
        ([*RULE, "then"], MISSING),
        ([*RULE, "then"], {"phase": {"lambda": 0.5}}),
        ([*RULE, "then"], {"phase": {"to": "b", "lambda": 1.5}}),
        ([*PEAKED, "metric"], MISSING),
        ([*PEAKED, "patience", "checks"], 0),
        ([*PEAKED, "min_drop"], {"absolute": -0.1}),
        ([*PEAKED, "smooth"], {"median": 0}),
        ([*RULE, "when"], {"all": []}),
        ([*RULE, "when"], {"any": [None]}),
        ([*RULE, "when"], {"k_of": {"of": [{"not_finite": {}}]}}),
        ([*RULE, "when"], {"declined": {"metric": "probe_loss"}}),
        ([*RULE, "when"], {"below": {"metric": "probe_loss", "threshold": 1, "confirm": 0}}),
        ([*RULE, "warmup", "min_output_scale"], -1),
        (["policy", "rules"], []),
        (["policy", "rules", 1], None),
        (["policy", "steps_per_epoch"], 0),
        (["probe", "samples"], 0),
        (["probe", "variables", "image_patches", "select"], 17),
        (["compute", "threads"], 0),
        (["compute", "nice"], 20),
        (["compute", "devices"], []),
        (["compute", "io"], "last"),
        (["compute", "precision"], "fp16"),
        (["interactions", "largest_basis"], 5000),
        (["pairing", "order"], {"every_n": 0}),
        (["notify"], [{"url": "http://localhost/"}]),
        (["notify"], [{"name": "a", "url": "http://localhost/", "retries": 11}]),
        (["control", "escalate"], [{"do": {"signal": {"name": "SIGTERM"}}}]),
    ],
    ids=str,
)
def test_what_is_marked_is_refused(
    validator: Draft7Validator, tmp_path: Path, path: list[str | int], value: object
) -> None:
    """One mistake in a good file: editors mark it, and convergd names its place."""
    content = yaml.load((CONFIG / "demo.yaml").read_text(), Loader)
    assert validator.is_valid(content)
    broken = copy.deepcopy(content)
    *parents, last = path
    place = broken
    for key in parents:
        place = place[key]
    if value is MISSING:
        del place[last]
    else:
        place[last] = value
    assert not validator.is_valid(broken)
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(broken))
    command = [convergd(), "check", "-c", file]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 64, result.stdout
    named = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    assert f"`{named.removeprefix('.')}" in result.stderr
