"""The control file, as a trainer sees it.

The sidecar replaces `<directory>/control.json` atomically; the trainer polls it:

    control = Control("run/control", network="target")
    for step in range(1, steps + 1):
        train_one_step()
        decision = control.poll(step)
        if decision.stop:
            break
        penalty.set_lambda(decision.lambda_, ramp=decision.ramp)
    control.done()

The rules:

1. A decision is known by its `generation`, which only grows. A file with a generation that is
   not newer than the newest one read changes nothing.
2. A decision takes effect at the first poll with `step >= at_step`; until then the previous one
   holds. A newer decision that is read in the meantime replaces one that still waits.
3. A file that is missing, half-written, invalid or of an unknown schema changes nothing. Before
   the first valid file the decision is: continue, phase `plain`, λ = 0.
4. Training does not depend on the sidecar: nothing here raises because of what is or is not on
   the disk. What could not be written is logged as a warning; an acknowledgement is tried again at
   the next poll.

With several ranks, `Control(..., distributed=True)` reads on rank 0 and broadcasts: every rank has
the same decision at the same poll. Without it each rank that polls reads the file itself, at its
own moment. Only rank 0 acknowledges.

The first process that polls is the trainer: one that it forks after that may poll too, but reads,
and neither broadcasts nor acknowledges nor tells the end. A child that polls before its parent is
taken for the trainer, as launchers fork too, unless it is a worker of a PyTorch data loader.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeVar

from ._atomic import replacing
from ._step import step_number

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from ._ranks import Ranks

SCHEMA = 1
"""The version of the control file that this client reads and of the files that it writes."""

ACTIONS = ("continue", "stop", "phase")

NETWORKS = ("target", "baseline")

# A control file is a few hundred bytes; more than this is not one, and is not read into memory.
_LARGEST_FILE = 1 << 20

# The sidecar's numbers have 64 bits.
_LARGEST_NUMBER = (1 << 64) - 1

_log = logging.getLogger("convergd")

T = TypeVar("T")


@dataclass(frozen=True)
class Best:
    """The best pair of checkpoints so far."""

    step: int
    """Training step of the pair."""
    target: str | None
    """Path of the target's checkpoint; None if the sidecar no longer has it."""
    baseline: str | None
    """Path of the baseline's checkpoint; None if the sidecar no longer has it."""


@dataclass(frozen=True)
class Decision:
    """What the trainer is to do from now on."""

    generation: int = 0
    """Grows with every decision of the sidecar."""
    action: str = "continue"
    """`continue`, `stop` or `phase`."""
    phase: str = "plain"
    """Name of the phase that holds."""
    lambda_: float = 0.0
    """Weight λ of the interaction loss, 0 to 1 (Eq. 10)."""
    ramp: int = 0
    """Steps over which λ goes to its new value; 0 means at once."""
    at_step: int = 0
    """First step at which the decision holds."""
    best: Best | None = None
    """The best checkpoints, for a trainer that restores them."""
    reason: str = ""
    """Why, in words for people."""
    decision_id: str | None = None
    """Name of the decision in the sidecar's history."""

    @property
    def stop(self) -> bool:
        """Whether training is to end."""
        return self.action == "stop"


class Control:
    """Reads decisions of the sidecar and acknowledges them.

    Args:
        directory: where the sidecar writes `control.json`. It need not exist.
        network: name of this trainer's network, `target` or `baseline`; part of file names.
        rank: rank of this process; only rank 0 acknowledges by itself.
        distributed: rank 0 of `torch.distributed` reads and broadcasts, and `rank` is taken from
            there. Every rank must then make this object and call `poll` equally often. Where
            `torch.distributed` is not initialised, or torch is not there, this changes nothing.
        group: the ranks that train this network, a group of the backend gloo that the caller
            destroys at the end; None is all of them.

    Raises:
        ValueError: if `network` is neither of them, or `group` has another backend.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        network: str = "target",
        rank: int = 0,
        *,
        distributed: bool = False,
        group: ProcessGroup | None = None,
    ) -> None:
        if network not in NETWORKS:
            raise ValueError(f"`network` must be `target` or `baseline`, got {network!r}")
        self.directory = Path(directory)
        self.network = network
        self.ranks: Ranks | None = None
        """The ranks that poll together."""
        if distributed:
            self.ranks = _ranks(group)
        self.rank = rank if self.ranks is None else self.ranks.rank
        self._path = os.fspath(self.directory / "control.json")
        self._signature: tuple[int, int, int] | None = None
        self._effective = Decision()
        self._waiting: Decision | None = None
        self._newest = -1
        self._unacknowledged = False
        self._warned: set[str] = set()
        self._step: int | None = None
        self._trainer: int | None = None
        if self.rank == 0 and not _is_data_worker():
            self._remove_old_end()

    @property
    def decision(self) -> Decision:
        """The decision that holds since the last poll."""
        return self._effective

    def poll(self, step: SupportsIndex, acknowledge: bool = True) -> Decision:
        """The decision that holds at `step`.

        Costs one `os.stat` while the file is unchanged, so it may be called at every step; between
        ranks, also a broadcast of one number on the CPU.

        Args:
            step: the trainer's step, in the unit in which its checkpoints are numbered.
            acknowledge: on rank 0, write the acknowledgement when a generation takes effect.

        Raises:
            ValueError: if `step` is no whole number of 0 or more.
        """
        step = self._step = step_number(step)
        ranks = self.ranks if self._is_trainer() else None
        if ranks is None or ranks.rank == 0:
            self._read_if_changed()
            if self._waiting is not None and step >= self._waiting.at_step:
                self._effective, self._waiting = self._waiting, None
                self._unacknowledged = True
        if ranks is not None:
            self.adopt(ranks.share(self._effective))
        if acknowledge and self.unacknowledged:
            self.ack(step)
        return self._effective

    @property
    def unacknowledged(self) -> bool:
        """Whether the sidecar waits for this process to acknowledge the decision that holds."""
        return self._unacknowledged and self.rank == 0 and self._is_trainer()

    def adopt(self, decision: Decision) -> None:
        """Take a decision that another rank or the partner has read, if it is another one."""
        if decision == self._effective:
            return
        self._effective = decision
        self._newest = max(self._newest, decision.generation)
        self._unacknowledged = decision != Decision()

    def ack(self, step: SupportsIndex) -> None:
        """Write `ack-<network>.json` for the decision that holds; nothing in a forked process."""
        if not self._is_trainer():
            return
        record = {
            "schema": SCHEMA,
            "generation": self._effective.generation,
            "step": step_number(step),
            "rank": self.rank,
            "pid": os.getpid(),
            "process": _process(),
            "time": time.time(),
        }
        if self._write(f"ack-{self.network}.json", record):
            self._unacknowledged = False

    def done(self, step: SupportsIndex | None = None) -> None:
        """Write `done-<network>`: this training has ended, nothing more is to come.

        Only rank 0 writes, but with `distributed=True` every rank must call this, which ends their
        communication. A forked process does nothing.

        Args:
            step: the last step; the last polled one if None.
        """
        step = self._step if step is None else step_number(step)
        if not self._is_trainer():
            return
        if self.ranks is not None:
            self.ranks.close()
            self.ranks = None
        if self.rank == 0:
            self._write(f"done-{self.network}", {"step": step})

    def _is_trainer(self) -> bool:
        """Whether this process trains, and is not one that the trainer has forked.

        It is the first that polls, not the one that made this object: launchers fork too.
        """
        if self._trainer is None and not _is_data_worker():
            self._trainer = os.getpid()
        return self._trainer == os.getpid()

    def _remove_old_end(self) -> None:
        """A `done` file of an earlier training would end the sidecar's run at once."""
        try:
            (self.directory / f"done-{self.network}").unlink(missing_ok=True)
        except OSError as error:
            _log.warning("convergd: an old `done-%s` could not be removed: %s", self.network, error)

    def _read_if_changed(self) -> None:
        try:
            status = os.stat(self._path)
            signature = (status.st_ino, status.st_mtime_ns, status.st_size)
            if signature == self._signature:
                return
            with open(self._path, "rb") as file:
                content = file.read(_LARGEST_FILE)
        except OSError:
            return
        # Taken before the file was read: if it was replaced in between, it is read once more.
        self._signature = signature
        decision = _parse(content)
        if decision is not None and decision.generation > self._newest:
            self._newest = decision.generation
            self._waiting = decision

    def _write(self, name: str, record: dict[str, Any]) -> bool:
        try:
            with replacing(self.directory / name) as temporary:
                temporary.write_text(json.dumps(record) + "\n", encoding="utf-8")
        except OSError as error:
            if name not in self._warned:
                _log.warning("convergd: `%s` could not be written: %s", name, error)
            self._warned.add(name)
            return False
        self._warned.discard(name)
        return True


def _ranks(group: ProcessGroup | None) -> Ranks | None:
    """The ranks of `torch.distributed`; None where there is one alone, or no torch."""
    try:
        from ._ranks import Ranks
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return None
    return Ranks.of(group)


def _is_data_worker() -> bool:
    """Whether this is a worker process of a PyTorch data loader."""
    data = sys.modules.get("torch.utils.data")
    return data is not None and data.get_worker_info() is not None


def _process() -> dict[str, Any] | None:
    """This process, told from a later one with its number; None where there is no `/proc`.

    The sidecar takes the end of both processes for the end of the training.
    """
    try:
        # The name, second and in brackets, may hold anything; the start is the 22nd.
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        namespace = os.stat("/proc/self/ns/pid").st_ino
        return {"pid": os.getpid(), "start": int(fields[19]), "boot": boot, "namespace": namespace}
    except (OSError, ValueError, IndexError):
        return None


def pack(decision: Decision) -> bytes:
    """A decision as it is sent between processes."""
    return json.dumps(asdict(decision)).encode()


def unpack(content: bytes) -> Decision:
    """The decision that `pack` made these bytes of."""
    record = json.loads(content)
    best = record.pop("best")
    return Decision(**record, best=None if best is None else Best(**best))


def _parse(content: bytes) -> Decision | None:
    """The decision in a control file, or None if the file is not a valid one."""
    try:
        record = json.loads(content)
        return _decision(record) if isinstance(record, dict) else None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _decision(record: dict[str, Any]) -> Decision:
    if _whole(record["schema"]) != SCHEMA:
        raise ValueError("unknown schema")
    return Decision(
        generation=_whole(record["generation"]),
        action=_one_of(ACTIONS, record["action"]),
        phase=_text(record["phase"]),
        lambda_=_weight(record["lambda"]),
        ramp=_whole(record.get("ramp", 0)),
        at_step=_whole(record.get("at_step", 0)),
        best=_optional(_best, record.get("best")),
        reason=_text(record.get("reason", "")),
        decision_id=_optional(_text, record.get("decision_id")),
    )


def _best(record: dict[str, Any]) -> Best:
    return Best(
        step=_whole(record["step"]),
        target=_optional(_text, record.get("target")),
        baseline=_optional(_text, record.get("baseline")),
    )


def _optional(read: Callable[[Any], T], value: Any) -> T | None:  # noqa: ANN401
    return None if value is None else read(value)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"not a whole number: {value!r}")
    if not 0 <= value <= _LARGEST_NUMBER:
        raise ValueError("a whole number out of range")
    return value


def _weight(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"not a number: {value!r}")
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise ValueError(f"not within 0 and 1: {value!r}")
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"not a string: {value!r}")
    return value


def _one_of(allowed: tuple[str, ...], value: object) -> str:
    if value not in allowed:
        raise ValueError(f"not one of {allowed}: {value!r}")
    return _text(value)
