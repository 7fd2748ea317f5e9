"""How far `extract` has come, on a terminal and elsewhere."""

import json
import subprocess

import numpy as np
import pytest
from attached import convergd
from safetensors.numpy import save_file
from terminals import Terminal, plain

TABLES, VARIABLES = 200, 4
CLEAR_LINE = "\x1b[2K"


@pytest.fixture
def command(tmp_path):
    """Extracts tables of a few interactions each, in several blocks."""
    random = np.random.default_rng(0)
    masks = np.arange(2**VARIABLES)
    values = np.zeros((TABLES, len(masks)))
    for row in values:
        for subset in random.integers(1, len(masks), 4):
            row += random.normal() * ((masks & subset) == subset)
    save_file({"values": values}, tmp_path / "values.safetensors")
    files = ("--values", tmp_path / "values.safetensors", "--out", tmp_path / "out.safetensors")
    return [str(part) for part in (convergd(), "extract", *files, "--json")]


def test_short_work_says_nothing_where_no_terminal_is(command):
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0 and result.stderr == ""
    assert json.loads(result.stdout)["samples"] == TABLES


def test_a_bar_on_the_terminal_leaves_standard_output_alone_and_is_gone_at_the_end(command):
    terminal = Terminal(command, stdout=subprocess.PIPE)
    try:
        assert terminal.end() == 0
        assert json.loads(terminal.program.stdout.read())["samples"] == TABLES
    finally:
        terminal.close()
    *_, last = terminal.said.rpartition("%")
    assert (
        "%" in terminal.said and CLEAR_LINE in last and plain(last.rpartition(CLEAR_LINE)[2]) == ""
    )


def test_an_error_stands_on_a_line_of_its_own(command, tmp_path):
    values = np.ones((TABLES, 2**VARIABLES))
    values[-1, 5] = np.nan
    save_file({"values": values}, tmp_path / "values.safetensors")
    terminal = Terminal(command)
    try:
        assert terminal.end() == 65
    finally:
        terminal.close()
    lines = plain(terminal.said).replace("\r", "\n").splitlines()
    (error,) = [line.strip() for line in lines if "table 199" in line]
    assert error.startswith("error: ") and "%" not in error
