"""The schema of configuration files: editors accept the examples and mark what convergd refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
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


@pytest.mark.parametrize(
    "wrong",
    [
        {"polciy": {}},
        {"policy": {"rules": [{"id": "a", "when": {"peeked": {}}}]}},
        {"policy": {"rules": [{"when": {"peaked": {"metric": "loss"}}}]}},
        {"policy": {"rules": [{"when": {"peaked": {"patience": {"checks": "three"}}}}]}},
        {"policy": {"rules": [{"when": {"any": [{"reached": {"steps": 3}}]}}]}},
        {"policy": {"rules": [{"when": {"reached": {"duration": 30}}}]}},
        {"control": {"acknowledge": "30 minutes"}},
        {"control": {"escalate": [{"after": "30s", "do": {"signal": {"name": "TERM"}}}]}},
        {"control": {"escalate": [{"after": "30s", "do": {"mail": {}}}]}},
        {"notify": [{"name": "ops", "on": ["everything"]}]},
        {"networks": {"target": {"layout": "keras"}}},
    ],
    ids=str,
)
def test_a_mistake_is_marked(validator: Draft7Validator, wrong: object) -> None:
    """What convergd refuses for its form."""
    assert not validator.is_valid(wrong)
