"""The control client against every state in which the directory may be."""

import json
import logging
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from convergd import Best, Control, Decision


def record(**changes):
    return {
        "schema": 1,
        "generation": 3,
        "action": "continue",
        "phase": "plain",
        "lambda": 0.0,
        "ramp": 0,
        "at_step": 0,
        "best": None,
        "reason": "",
        "decision_id": None,
    } | changes


def write(directory, content):
    """Replace the control file as the sidecar does."""
    text = content if isinstance(content, str) else json.dumps(content)
    temporary = directory / "new"
    temporary.write_text(text)
    os.replace(temporary, directory / "control.json")


def read_ack(directory, network="target"):
    return json.loads((directory / f"ack-{network}.json").read_text())


def test_without_a_directory_training_goes_on(tmp_path):
    control = Control(tmp_path / "nowhere")
    assert control.poll(1) == Decision()
    assert not control.poll(2).stop
    assert not (tmp_path / "nowhere").exists()


def test_every_field_is_read(tmp_path):
    best = {"step": 96, "target": "/a/t", "baseline": "/a/b"}
    write(
        tmp_path,
        record(
            generation=7,
            action="phase",
            phase="regularized",
            ramp=5,
            at_step=12,
            best=best,
            reason="peaked",
            decision_id="d-7",
            **{"lambda": 0.8},
        ),
    )
    assert Control(tmp_path).poll(12) == Decision(
        generation=7,
        action="phase",
        phase="regularized",
        lambda_=0.8,
        ramp=5,
        at_step=12,
        best=Best(step=96, target="/a/t", baseline="/a/b"),
        reason="peaked",
        decision_id="d-7",
    )


def test_stop_is_seen_when_the_file_appears(tmp_path):
    control = Control(tmp_path)
    assert not control.poll(1).stop
    write(tmp_path, record(action="stop"))
    assert control.poll(2).stop


@pytest.mark.parametrize("end", [0, 1, 20, -1, -2])
def test_a_half_written_file_keeps_the_last_decision(tmp_path, end):
    control = Control(tmp_path)
    write(tmp_path, record(generation=3, phase="first"))
    control.poll(1)
    whole = json.dumps(record(generation=4, action="stop"))
    write(tmp_path, whole[:end])
    assert control.poll(2).generation == 3
    write(tmp_path, whole)
    assert control.poll(3).stop


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2},
        {"schema": "1"},
        {"schema": True},
        {"generation": -1},
        {"generation": 4.0},
        {"action": "explode"},
        {"action": ["stop"]},
        {"phase": None},
        {"lambda": 1.5},
        {"lambda": float("nan")},
        {"lambda": "0.8"},
        {"at_step": "now"},
        {"at_step": None},
        {"ramp": -1},
        {"best": 5},
        {"best": {"target": "/a"}},
        {"reason": 3},
        {"lambda": 10**400},
        {"lambda": -(10**400)},
        {"at_step": 10**400},
        {"ramp": 10**400},
        {"generation": 10**400},
        {"best": {"step": 10**400}},
    ],
)
def test_an_invalid_file_keeps_the_last_decision(tmp_path, changes):
    control = Control(tmp_path)
    write(tmp_path, record(generation=3))
    before = control.poll(1)
    write(tmp_path, record(generation=4, action="stop") | changes)
    assert control.poll(2) == before
    write(tmp_path, record(generation=5, action="stop"))
    assert control.poll(3).stop


@pytest.mark.parametrize("content", ["[]", "null", "3", "[" * 100_000, "\ufeff{}"])
def test_other_json_is_no_decision(tmp_path, content):
    write(tmp_path, content)
    assert Control(tmp_path).poll(1) == Decision()


@pytest.mark.parametrize("missing", ["schema", "generation", "action", "phase", "lambda"])
def test_a_missing_field_is_invalid(tmp_path, missing):
    content = record(action="stop")
    del content[missing]
    write(tmp_path, content)
    assert Control(tmp_path).poll(1) == Decision()


def test_an_old_generation_never_replaces_a_newer_one(tmp_path):
    control = Control(tmp_path)
    write(tmp_path, record(generation=5, action="stop"))
    assert control.poll(1).stop
    write(tmp_path, record(generation=4, action="continue"))
    assert control.poll(2).stop
    write(tmp_path, record(generation=5, action="continue"))
    assert control.poll(3).stop
    write(tmp_path, record(generation=6, action="continue"))
    assert not control.poll(4).stop


def test_an_old_generation_does_not_replace_one_that_waits(tmp_path):
    control = Control(tmp_path)
    write(tmp_path, record(generation=5, action="stop", at_step=10))
    control.poll(1)
    write(tmp_path, record(generation=4, phase="old"))
    assert control.poll(2).phase == "plain"
    assert control.poll(10).stop


def test_a_decision_waits_for_its_step(tmp_path):
    control = Control(tmp_path)
    write(tmp_path, record(generation=1, phase="first"))
    control.poll(1)
    write(tmp_path, record(generation=2, action="stop", at_step=10))
    assert control.poll(9).phase == "first"
    assert not control.poll(9).stop
    assert control.poll(10).stop
    assert control.poll(8).stop, "a decision that took effect stays"


def test_a_newer_decision_replaces_one_that_waits(tmp_path):
    control = Control(tmp_path)
    write(tmp_path, record(generation=2, action="stop", at_step=10))
    control.poll(1)
    write(tmp_path, record(generation=3, action="continue", at_step=0))
    assert control.poll(2).generation == 3
    assert not control.poll(10).stop


def test_the_first_decision_may_have_generation_zero(tmp_path):
    write(tmp_path, record(generation=0, action="stop"))
    assert Control(tmp_path).poll(1).stop
    assert read_ack(tmp_path)["generation"] == 0


def test_an_unchanged_file_is_not_read_again(tmp_path, monkeypatch):
    control = Control(tmp_path)
    write(tmp_path, record())
    control.poll(1)
    monkeypatch.setattr("builtins.open", lambda *_: pytest.fail("the file was opened"))
    assert control.poll(2).generation == 3


def test_a_file_that_cannot_be_opened_is_tried_again(tmp_path, monkeypatch):
    control = Control(tmp_path)
    write(tmp_path, record(action="stop"))

    def refuse(*_):
        raise PermissionError("busy")

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refuse)
        assert not control.poll(1).stop
    assert control.poll(2).stop


def test_a_deleted_file_keeps_the_decision(tmp_path):
    control = Control(tmp_path)
    write(tmp_path, record(action="stop"))
    control.poll(1)
    (tmp_path / "control.json").unlink()
    assert control.poll(2).stop


def test_a_step_of_any_whole_type_is_acknowledged(tmp_path):
    write(tmp_path, record(generation=4, at_step=10))
    control = Control(tmp_path)
    control.poll(np.int64(10))
    assert read_ack(tmp_path)["step"] == 10
    control.ack(torch.tensor(11))
    assert read_ack(tmp_path)["step"] == 11
    control.done()
    assert json.loads((tmp_path / "done-target").read_text()) == {"step": 10}


@pytest.mark.parametrize("step", [1.0, -1, "1", None, True])
def test_what_the_sidecar_could_not_read_as_a_step_is_refused_at_once(tmp_path, step):
    control = Control(tmp_path)
    for call in (control.poll, control.ack, *([control.done] if step is not None else [])):
        with pytest.raises(ValueError, match=f"`step` must be an integer .* got {step!r}"):
            call(step)
    assert list(tmp_path.iterdir()) == []


def test_a_generation_is_acknowledged_once_when_it_takes_effect(tmp_path):
    control = Control(tmp_path, network="baseline")
    write(tmp_path, record(generation=4, at_step=10))
    control.poll(9)
    assert not (tmp_path / "ack-baseline.json").exists()
    control.poll(11)
    control.poll(12)
    ack = read_ack(tmp_path, "baseline")
    assert ack.pop("time") > 1.6e9
    process = ack.pop("process")
    assert ack == {"schema": 1, "generation": 4, "step": 11, "rank": 0, "pid": os.getpid()}
    assert process["pid"] == os.getpid()
    # The start in clock ticks since the boot; this process is younger than the machine's uptime.
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    assert 0 < process["start"] / os.sysconf("SC_CLK_TCK") <= uptime


def test_nothing_is_acknowledged_before_the_first_decision(tmp_path):
    Control(tmp_path).poll(1)
    assert list(tmp_path.iterdir()) == []


def test_other_ranks_obey_but_do_not_acknowledge(tmp_path):
    write(tmp_path, record(action="stop"))
    assert Control(tmp_path, rank=1).poll(1).stop
    assert not (tmp_path / "ack-target.json").exists()


def test_acknowledging_can_be_left_to_the_trainer(tmp_path):
    control = Control(tmp_path)
    write(tmp_path, record())
    control.poll(1, acknowledge=False)
    assert not (tmp_path / "ack-target.json").exists()
    control.ack(2)
    assert read_ack(tmp_path)["step"] == 2
    control.poll(3)
    assert read_ack(tmp_path)["step"] == 2


def test_a_failed_acknowledgement_is_a_warning_and_tried_again(tmp_path, monkeypatch, caplog):
    control = Control(tmp_path)
    write(tmp_path, record(action="stop"))

    def refuse(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "convergd"):
        patch.setattr("os.replace", refuse)
        assert control.poll(1).stop
        assert control.poll(2).stop
    assert caplog.text.count("ack-target.json") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["control.json"]
    control.poll(3)
    assert read_ack(tmp_path)["step"] == 3


def test_done_marks_the_end(tmp_path):
    control = Control(tmp_path)
    control.poll(41)
    control.done()
    assert json.loads((tmp_path / "done-target").read_text()) == {"step": 41}
    control.done(42)
    assert json.loads((tmp_path / "done-target").read_text()) == {"step": 42}


def test_done_without_a_directory_is_a_warning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "convergd"):
        Control(tmp_path / "nowhere").done(1)
    assert "done-target" in caplog.text


def test_a_decision_can_be_sent_to_other_ranks(tmp_path):
    write(tmp_path, record(action="stop", best={"step": 1, "target": "a", "baseline": None}))
    decision = Control(tmp_path).poll(1)
    assert pickle.loads(pickle.dumps(decision)) == decision


@pytest.mark.parametrize("network", ["", "a/b", "../x", "a\0b"])
def test_a_network_must_be_usable_in_a_file_name(tmp_path, network):
    with pytest.raises(ValueError, match="network"):
        Control(tmp_path, network=network)


def test_a_new_training_removes_the_end_of_an_earlier_one(tmp_path: Path) -> None:
    Control(tmp_path, network="target").done(7)
    assert (tmp_path / "done-target").exists()
    Control(tmp_path, network="target", rank=1)
    assert (tmp_path / "done-target").exists()
    Control(tmp_path, network="target")
    assert not (tmp_path / "done-target").exists()
