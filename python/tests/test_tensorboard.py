"""TensorBoard reads what the program writes, also while it writes it."""

import csv
import io
import time

import pytest
from attached import processes
from recorded import BUDGET, Run

multiplexer = pytest.importorskip("tensorboard.backend.event_processing.plugin_event_multiplexer")
tensor_util = pytest.importorskip("tensorboard.util.tensor_util")

RUNS = {"target", "baseline", "pair"}
NOTIFY = "{id: told, when: {reached: {step: 20}}, then: {notify: {message: half way}}}"
STOP = "{id: end, when: {reached: {step: 30}}, then: {stop: {}}}"
PATIENCE = 60
"""Seconds."""


def read(directory):
    """Every curve as TensorBoard has it: run, tag -> (steps, wall times, values)."""
    board = multiplexer.EventMultiplexer()
    board.AddRunsFromDirectory(str(directory))
    board.Reload()
    curves = {}
    for run, kinds in board.Runs().items():
        for tag in kinds["tensors"]:
            events = board.Tensors(run, tag)
            values = [tensor_util.make_ndarray(event.tensor_proto).item() for event in events]
            times = [event.wall_time for event in events]
            curves[run, tag] = ([event.step for event in events], times, values)
    return curves


def rows(run):
    """The pairs by the other export."""
    return list(csv.DictReader(io.StringIO(run.command("export").stdout)))


def steps(curves):
    """The steps of `probe_loss` in all three runs."""
    return [curves.get((run, "probe_loss"), ([],))[0] for run in sorted(RUNS)]


def test_every_monitor_is_a_curve_and_what_both_networks_have_shares_a_chart(tmp_path):
    run = Run(tmp_path, (NOTIFY, STOP))
    run.save(10, 20, 30)
    run.command("run", "--once", code=10)
    said = run.command("export", "--format", "tensorboard", "-o", "events")
    assert said.stdout.strip() == str(tmp_path / "events")
    curves, pairs = read(tmp_path / "events"), rows(run)
    assert {name for name, _ in curves} == RUNS
    monitors = [name.removesuffix("_stderr") for name in pairs[0] if name.endswith("_stderr")]
    assert len(monitors) == 19
    for monitor in monitors:
        whose = next((role for role in RUNS if monitor.endswith(f"_{role}")), "pair")
        tag = monitor.removesuffix(f"_{whose}")
        for of, column in ((tag, monitor), (f"stderr/{tag}", f"{monitor}_stderr")):
            found, times, values = curves[whose, of]
            assert found == [10, 20, 30]
            assert times == [float(pair["time"]) for pair in pairs]
            assert values == pytest.approx([float(pair[column]) for pair in pairs], rel=1e-6)
    assert steps(curves) == 3 * [[10, 20, 30]]
    for order in range(1, 5):
        for network in ("target", "baseline"):
            found, _, values = curves[network, f"strength/order_{order}/all_positive"]
            assert found == [10, 20, 30] and min(values) >= 0
    found, _, texts = curves["pair", "decisions"]
    assert found == [30] and b"stop at step 30 by rule `end`" in texts[0]
    found, _, texts = curves["pair", "notices"]
    assert found == [20] and b"half way" in texts[0]
    # A second time there is nothing new.
    run.command("export", "--format", "tensorboard", "-o", "events")
    assert read(tmp_path / "events") == curves


def test_a_directory_is_asked_for_and_that_of_another_run_is_refused(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        run = Run(tmp_path / name)
        run.save(10)
        run.command("run", "--once")
    assert "-o events" in run.command("export", "--format", "tensorboard", code=64).stderr
    to = ("export", "--format", "tensorboard", "-o", tmp_path / "events")
    run.command(*to)
    run.directory = tmp_path / "one"
    assert "of another run" in run.command(*to, code=65).stderr
    (tmp_path / "file").write_text("")
    assert "cannot be written" in run.command(*to[:-1], tmp_path / "file", code=65).stderr


def test_files_grow_while_they_are_read_and_a_restart_writes_nothing_twice(tmp_path):
    run = Run(tmp_path, (BUDGET,), "telemetry: {tensorboard: events}\n")

    def until(wanted):
        ends = time.monotonic() + PATIENCE
        while steps(read(tmp_path / "events")) != wanted:
            assert time.monotonic() < ends, (tmp_path / "log").read_text()
            time.sleep(0.1)

    with processes() as start:
        first = start(run.line("run"), tmp_path / "log")
        run.save(10)
        until(3 * [[10]])
        run.save(20)
        until(3 * [[10, 20]])
        # As a crash does.
        first.kill()
        first.wait()
    run.save(30)
    run.command("run", "--once")
    files = list((tmp_path / "events").rglob("*tfevents*"))
    assert len(files) == 6
    assert steps(read(tmp_path / "events")) == 3 * [[10, 20, 30]]


def test_a_run_goes_on_where_event_files_cannot_be_written_and_fills_them_in_later(tmp_path):
    run = Run(tmp_path, (BUDGET,), "telemetry: {tensorboard: events}\n")
    (tmp_path / "events").write_text("in the way")
    run.save(10, 20)
    said = run.command("run", "--once").stderr
    assert said.count("event files cannot be written") == 1 and "done" in said
    (tmp_path / "events").unlink()
    run.save(30)
    run.command("run", "--once")
    assert steps(read(tmp_path / "events")) == 3 * [[10, 20, 30]]
