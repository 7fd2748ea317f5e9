"""`convergd top` in a real terminal."""

import re
import signal

import pytest
from recorded import Run
from terminals import Terminal, plain

STOP = "{id: end, when: {reached: {step: 30}}, then: {stop: {}}}"
ALTERNATE, ORDINARY = "\x1b[?1049h", "\x1b[?1049l"
"""What switches to the screen of a full-screen program, and back."""
SHOW_CURSOR = "\x1b[?25h"


@pytest.fixture
def terminal():
    """Opens terminals, and ends what still runs in them."""
    opened = []

    def open_one(run, **options):
        opened.append(Terminal(run.line("top"), run.directory, **options))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that a rule has stopped."""
    run = Run(tmp_path_factory.mktemp("run"), (STOP,))
    run.save(10, 20, 30)
    run.command("run", "--once", code=10)
    return run


def test_keys_choose_and_end_and_the_terminal_is_as_before(run, terminal):
    top = terminal(run)
    first = top.until("q quit")
    assert ALTERNATE in first and "stopped early" in plain(first)
    assert "convergence_score ↑ better" in plain(first)
    assert "stop at step 30 by rule `end`" in plain(first)
    assert not top.is_restored(), "keys come one by one"
    top.press("\x1b[C")
    top.shows("disagreement ↓ better")
    top.press("?")
    top.shows("another monitor")
    top.size = (15, 60)
    top.shows("another monitor")
    top.press("?")
    top.press("\t")
    assert "another monitor" not in plain(top.shows("convergent_ratio ↑ better"))
    top.press("q")
    assert top.end() == 0 and top.is_restored()
    assert ORDINARY in top.said and SHOW_CURSOR in top.said


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_restores_the_terminal(run, terminal, end):
    top = terminal(run)
    top.until("q quit")
    top.program.send_signal(end)
    assert top.end() == 128 + end
    assert top.is_restored() and ORDINARY in top.said and SHOW_CURSOR in top.said


@pytest.mark.parametrize("key", ["\x03", "\x1b"])
def test_control_c_and_escape_end_it(run, terminal, key):
    top = terminal(run)
    top.until("q quit")
    top.press(key)
    assert top.end() == 0 and top.is_restored()


def test_no_color_is_heard(run, terminal):
    coloured = re.compile(r"\x1b\[(3[0-8]|9[0-7])[;m]")
    top = terminal(run, NO_COLOR="")
    assert coloured.search(top.until("q quit"))
    top = terminal(run, NO_COLOR="1")
    assert not coloured.search(top.until("q quit"))


def test_new_pairs_appear(tmp_path, terminal):
    run = Run(tmp_path)
    top = terminal(run)
    assert "There is no history in" in plain(top.until("q quit"))
    run.save(10)
    run.command("run", "--once")
    top.shows("step 10,")
    run.save(20)
    run.command("run", "--once")
    top.shows("step 20,")


def test_without_a_terminal_it_names_the_command_for_that(run):
    said = run.command("top", code=64).stderr
    assert "needs a terminal" in said and "convergd status" in said
