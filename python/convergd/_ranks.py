"""The ranks that train one network, by `torch.distributed`."""

from __future__ import annotations

import torch
from torch import Tensor, distributed

from ._gloo import LastCollective
from .control import Decision, pack, unpack


class Ranks:
    """Several processes that train one network; rank 0 of them tells the others.

    They talk on the CPU, by gloo, so that nothing waits for a GPU. Every rank must make this
    object, and close it at its end.

    Args:
        group: the processes, a group that can gloo. None is all of them, for whom a group is made;
            for a part of them that would need the others.

    Raises:
        ValueError: if the group has another backend.
    """

    def __init__(self, group: distributed.ProcessGroup | None = None) -> None:
        if group is not None and "gloo" not in str(distributed.get_backend_config(group)):
            raise ValueError(
                "`group` must be of the backend gloo: `new_group(ranks, backend='gloo')`, got "
                f"{distributed.get_backend(group)}"
            )
        self._is_own = group is None
        self._group = distributed.new_group(backend="gloo") if group is None else group
        self.rank = distributed.get_rank(self._group)
        """Of this process within the group."""
        self._first = distributed.get_process_group_ranks(self._group)[0]
        self._shared: Decision | None = None
        self._last = LastCollective()

    @classmethod
    def of(cls, group: distributed.ProcessGroup | None = None) -> Ranks | None:
        """The ranks of this training; None where there is one alone."""
        if not distributed.is_available() or not distributed.is_initialized():
            return None
        return cls(group) if distributed.get_world_size(group) > 1 else None

    def share(self, decision: Decision) -> Decision:
        """Rank 0's decision, on every rank; what others give does not count.

        While it stays the same, one number is broadcast.
        """
        content = b""
        if self.rank == 0 and decision != self._shared:
            content = pack(decision)
        size = int(self.broadcast(torch.tensor([len(content)], device="cpu"))[0])
        if size:
            buffer = torch.frombuffer(bytearray(content or bytes(size)), dtype=torch.uint8)
            self._shared = unpack(bytes(self.broadcast(buffer).tolist()))
        if self._shared is None:
            raise AssertionError("BUG: rank 0 has sent no decision")
        return self._shared

    def broadcast(self, tensor: Tensor) -> Tensor:
        """Rank 0's values in a tensor on the CPU, which has the same shape on every rank."""
        work = distributed.broadcast(tensor, self._first, group=self._group, async_op=True)
        if work is None:
            raise AssertionError("BUG: this process is not one of the ranks")
        work.wait()
        self._last.hold(work, [tensor])
        return tensor

    def close(self) -> None:
        """End the threads of gloo, but for a group that was given; nothing can be sent after it."""
        if self._is_own:
            distributed.destroy_process_group(self._group)
        self._group = None
