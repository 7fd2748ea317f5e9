"""The way from one training to its partner in another process, by `torch.distributed`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributed

from .._gloo import LastCollective
from ..control import Decision, pack, unpack

if TYPE_CHECKING:
    from torch._C._distributed_c10d import AllgatherOptions

# What a message is about: its first number.
_VALUES, _DECISION = 0, 1

_HINTS = {
    "call": "each must call the loss and `share` in the same order",
    "number of samples": "give both batches of the same size",
    "step": "each must call the loss once for each batch",
    "λ": "take λ from the same decision, with `Coupling.share`",
    "draw": "give both the same batches in the same order and type, the same seed, `variables`, "
    "`baseline` and `fraction`",
}
"""The numbers that must be equal, and what to do if they are not."""


class PartnerError(RuntimeError):
    """The other process has died, is silent, or is not at the same step of the same training.

    The process group cannot be used after it. A training can go on alone, with
    `InteractionPenalty` for example, or from a checkpoint with a new partner.
    """


class Coupling:
    """Exchanges numbers with the one other process of a group.

    All collectives are called in the same order on both sides, with any backend: gloo, or nccl
    where each process has a GPU of its own.

    Args:
        group: a process group of two; None is the default group.
        timeout: seconds to wait for the partner, more than what a step of it can take; compilation
            and evaluation count.

    Raises:
        PartnerError: if there is no such group.
    """

    def __init__(
        self, group: distributed.ProcessGroup | None = None, timeout: float = 300.0
    ) -> None:
        if not distributed.is_available() or not distributed.is_initialized():
            raise PartnerError(
                "no process group: call `torch.distributed.init_process_group` in both processes"
            )
        size = distributed.get_world_size(group)
        if size != 2:
            raise PartnerError(f"a group of 2 processes is needed, this one has {size}")
        self.group = _group(group)
        self.timeout = timeout
        self.rank = distributed.get_rank(group)
        """0 or 1, of this process within the group."""
        backend = str(distributed.get_backend(group))
        self._device = torch.device("cuda" if "nccl" in backend else "cpu")
        self.lambda_ = 0.0
        """λ of the last step of the loss, for a message where the processes differ in it."""
        self._shared: Decision | None = None
        self._last = LastCollective()

    def exchange(self, own: Tensor, step: int, lambda_: float, draw: int) -> Tensor:
        """The partner's values for one's own, [B].

        Args:
            own: this network's 𝓘, [B], without a gradient.
            step: number of the step.
            lambda_: λ of the step.
            draw: a number that tells two draws apart.

        Raises:
            PartnerError: if the partner does not answer in time, or answers for something else.
        """
        self._agree([_VALUES, len(own), step, lambda_, draw])
        # A copy: what is waited for at the end is in nobody's hands.
        return self._gather(own.cpu().double())[1 - self.rank].to(own, copy=True)

    def share(self, decision: Decision) -> Decision:
        """The decision of rank 0, for both: call it on both sides after each poll.

        Each process reads the control file at its own moment. One that acts on a decision a step
        before the other is out of step with it, so what rank 0 has read holds for both.

        Raises:
            PartnerError: if the partner does not answer in time, or does something else.
        """
        content = pack(decision)
        known = self._shared is not None and decision.generation == self._shared.generation
        size = 0 if known or self.rank != 0 else len(content)
        head = self._gather(
            torch.tensor([_DECISION, size, 0, self.lambda_, 0], dtype=torch.float64, device="cpu")
        )
        _check_call(head, self.rank)
        size = int(head[0][1])
        if size == 0 and self._shared is not None:
            return self._shared
        buffer = torch.zeros(size, dtype=torch.uint8, device="cpu")
        if self.rank == 0:
            buffer = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        self._shared = unpack(bytes(self._gather(buffer)[0].tolist()))
        return self._shared

    def _agree(self, head: list[float]) -> None:
        """Raise an error unless both processes are about to do the same.

        gloo ends the whole process where the two tensors of a collective differ in size. So this
        goes before, and always has the same size.
        """
        both = self._gather(torch.tensor(head, dtype=torch.float64, device="cpu"))
        _check_call(both, self.rank)
        for name, one, other in zip(_HINTS, both[0].tolist(), both[1].tolist(), strict=True):
            _check_equal(name, one, other, self.rank)

    def _gather(self, own: Tensor) -> list[Tensor]:
        """The tensors of both, by rank; they pass on the device of the backend."""
        own = own.to(self._device, copy=True)
        both = [torch.empty_like(own), torch.empty_like(own)]
        timeout = timedelta(seconds=self.timeout)
        try:
            work = self.group.allgather([both], [own], _options(timeout))
            self._last.hold(work, [own, *both])
            # gloo ends the collective itself in time, and is to be done with it; nccl does not.
            work.wait(timeout if self._device.type == "cuda" else 2 * timeout)
        except RuntimeError as error:
            raise PartnerError(
                f"the other process of the pair has died or did not answer within {self.timeout:g} "
                f"s: {error}"
            ) from error
        return both


def _group(group: distributed.ProcessGroup | None) -> distributed.ProcessGroup:
    group = distributed.group.WORLD if group is None else group
    if group is None:
        raise AssertionError("BUG: an initialised process group that is not there")
    return group


def _options(timeout: timedelta) -> AllgatherOptions:
    """A timeout of the collective itself: one that only the waiting gives up would hold the process
    at its end."""
    # Not every build of torch has it, and the other losses do without.
    from torch.distributed import distributed_c10d

    options: AllgatherOptions = distributed_c10d.AllgatherOptions()
    options.timeout = timeout
    return options


def _check_call(both: list[Tensor], rank: int) -> None:
    """Raise an error if one sends values and the other a decision.

    At λ = 0 the loss sends nothing, so a process whose partner is at another λ may be a step ahead.
    """
    if both[0][0] != both[1][0] and 0.0 in (both[0][3], both[1][3]):
        _check_equal("λ", both[0][3].item(), both[1][3].item(), rank)
    _check_equal("call", both[0][0].item(), both[1][0].item(), rank)


def _check_equal(name: str, first: float, second: float, rank: int) -> None:
    if first != second:
        here, there = (first, second) if rank == 0 else (second, first)
        raise PartnerError(
            f"the two processes are not in step: {name} is {here:.10g} here and {there:.10g} "
            f"there; {_HINTS[name]}"
        )
