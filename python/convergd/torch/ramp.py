"""The weight λ of a loss, which moves while training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Ramp:
    """λ, 0 to 1, that moves linearly to a new value over a number of steps.

    Args:
        lambda_: the first value.
        steps: steps that a change takes unless `to` says otherwise; 0 means at once.

    Raises:
        ValueError: if a number is out of its range.
    """

    def __init__(self, lambda_: float = 0.0, steps: int = 0) -> None:
        _check_lambda(lambda_)
        _check_steps(steps)
        self.steps = steps
        self._from = self._to = float(lambda_)
        self._length = 0
        self._elapsed = 0

    @property
    def value(self) -> float:
        """λ of the last step, between the old and the new value while it moves."""
        if self._elapsed >= self._length:
            return self._to
        return self._from + (self._to - self._from) * self._elapsed / self._length

    @property
    def target(self) -> float:
        """The value that λ moves to."""
        return self._to

    @property
    def remaining(self) -> int:
        """Steps until it is reached."""
        return self._length - self._elapsed

    def to(self, lambda_: float, steps: int | None = None) -> None:
        """Move from the present value to `lambda_`; nothing if it moves there already.

        Raises:
            ValueError: if a number is out of its range.
        """
        _check_lambda(lambda_)
        length = self.steps if steps is None else steps
        _check_steps(length)
        if lambda_ == self._to:
            return
        self._from, self._to = self.value, float(lambda_)
        self._length, self._elapsed = length, 0

    def state(self) -> dict[str, Any]:
        """What `take` needs to go on from here."""
        return {"lambda": self.value, "target": self._to, "remaining": self.remaining}

    def take(self, state: Mapping[str, Any]) -> None:
        """Go on from where `state` was."""
        self._from, self._to = state["lambda"], state["target"]
        self._length, self._elapsed = state["remaining"], 0

    def step(self) -> float:
        """Go one step, and the λ of it."""
        self._elapsed = min(self._elapsed + 1, self._length)
        return self.value


class Ramped:
    """A loss whose λ moves; one evaluation of it is one step.

    Args:
        lambda_: the first value.
        ramp: steps that a change takes unless `set_lambda` says otherwise; 0 means at once.

    Raises:
        ValueError: if a number is out of its range.
    """

    def __init__(self, lambda_: float = 0.0, ramp: int = 0) -> None:
        self._ramp = Ramp(lambda_, ramp)

    @property
    def lambda_(self) -> float:
        """λ of the last step, between the old and the new value while it ramps."""
        return self._ramp.value

    def set_lambda(self, lambda_: float, ramp: int | None = None) -> None:
        """Move λ linearly from its present value to `lambda_` over `ramp` steps.

        One evaluation of the loss is one step. To ask for the value to which λ already moves
        changes nothing, so a trainer may pass on each polled decision.
        """
        self._ramp.to(lambda_, ramp)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs: λ, and where its ramp leads."""
        return {"ramp": self._ramp.state()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self._ramp.take(state_dict["ramp"])


def _check_lambda(lambda_: float) -> None:
    if not 0.0 <= lambda_ <= 1.0:
        raise ValueError(f"`lambda_` must be 0 to 1, got {lambda_!r}")


def _check_steps(steps: int) -> None:
    if steps < 0:
        raise ValueError(f"`ramp` must be 0 or more steps, got {steps!r}")
