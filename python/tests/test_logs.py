"""Log lines of a real run, and how far it has come."""

import csv
import io
import json
import re

import pytest
from recorded import Run
from terminals import Terminal, plain

STOP = (
    "{id: end, when: {peaked: {metric: probe_loss, patience: {checks: 1}}}, then: {stop: {}}}",
    "{id: budget, when: {reached: {step: 40}}, then: {stop: {}}}",
)
CODES = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def run(tmp_path):
    """A run with four pairs that nothing has been evaluated of."""
    run = Run(tmp_path, STOP)
    run.save(10, 20, 30, 40)
    return run


def lines(run, *arguments, **environment):
    """The log of a run as JSON, each line an object."""
    said = run.command("run", "--once", "--log-format", "json", *arguments, code=10, **environment)
    assert said.stdout == ""
    return [json.loads(line) for line in said.stderr.splitlines()]


def test_a_pair_and_a_decision_are_a_line_each_with_all_their_figures(run):
    log = lines(run)
    pairs = list(csv.DictReader(io.StringIO(run.command("export").stdout)))
    status = json.loads(run.command("status", "--json").stdout)
    told = [line for line in log if line["message"] == "pair"]
    assert [line["step"] for line in told] == [int(pair["step"]) for pair in pairs]
    monitors = [name.removesuffix("_stderr") for name in pairs[0] if name.endswith("_stderr")]
    assert len(monitors) == 19
    for line, pair in zip(told, pairs, strict=True):
        for name in (*monitors, "gap_max", "lambda", "certified", "extractions"):
            assert line[name] == float(pair[name]), name
        assert line["phase"] == pair["phase"] and line["level"] == "INFO" and line["seconds"] > 0
    (decided,) = [line for line in log if line["message"].startswith("decided")]
    (decision,) = status["decisions"]
    for name in ("id", "rule", "action", "step", "phase", "lambda", "ramp", "reason"):
        assert decided[name] == decision[name], name
    assert decided.get("best_step") == decision["best_step"]
    assert decided["generation"] > 0 and decided["dry_run"] is False
    last = pairs[-1]
    assert {name: decided[name] for name in monitors} == {n: float(last[n]) for n in monitors}


def test_text_has_the_chief_figures_in_few_digits_and_no_codes(run):
    said = run.command("run", "--once", code=10)
    assert said.stdout == "" and not CODES.search(said.stderr)
    (line,) = [line for line in said.stderr.splitlines() if "pair step=10" in line]
    assert re.search(r"convergence_score=-?\d+\.\d{4} convergent_ratio=0\.\d{4} probe_loss=", line)
    assert "interaction_cosine" not in line and "certified=12" in line
    (decided,) = [line for line in said.stderr.splitlines() if "decided" in line]
    assert "generation=" in decided and decided.count("probe") <= 4 and "reason=" not in decided


def test_the_environment_says_which_lines_there_are(tmp_path):
    found = {}
    for level in ("warn", "info", "debug"):
        (tmp_path / level).mkdir()
        run = Run(tmp_path / level, STOP)
        run.save(10, 20, 30, 40)
        found[level] = lines(run, RUST_LOG=level)
    assert {line["level"] for line in found["warn"]} <= {"WARN", "ERROR"}
    assert "INFO" in {line["level"] for line in found["info"]}
    assert "DEBUG" in {line["level"] for line in found["debug"]}


@pytest.mark.parametrize("value", ["", "1"])
def test_colours_are_for_terminals_that_want_them(run, value):
    terminal = Terminal(run.line("run", "--once"), run.directory, NO_COLOR=value)
    try:
        assert terminal.end() == 10
        said = terminal.said
    finally:
        terminal.close()
    assert bool(re.search(r"\x1b\[3\dm", said)) == (value == ""), said
    # The bar is below the lines, and is gone at the end.
    assert re.search(r"\d+%", said) and "pairs/s" in said
    for line in plain(said).replace("\r", "\n").splitlines():
        assert not ("INFO" in line and "%" in line), line
    assert "%" not in plain(said).replace("\r", "\n").splitlines()[-1]
