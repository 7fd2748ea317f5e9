"""A training that follows the control file: what the callbacks of all frameworks do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import nn

from ._ranks import Ranks
from ._weights import WeightsError, check_weights, load_weights, whole_state
from .checkpoint import save_checkpoint
from .control import Control, Decision
from .torch.ramp import Ramp


@runtime_checkable
class SetsLambda(Protocol):
    """A loss whose weight λ can be set, such as every loss of `convergd.torch`."""

    def set_lambda(self, lambda_: float, ramp: int = 0) -> object:
        """Move λ to `lambda_` over `ramp` evaluations; 0 means at once."""


class Follower:
    """Saves, polls, sets λ, acknowledges and restores, at the calls of a framework's hooks.

    A step is one step of the optimiser, and λ moves by steps, however often the loss is evaluated.

    Args:
        control: the sidecar's `control.directory`.
        checkpoints: where checkpoints are written; None writes none.
        network: `target` or `baseline`.
        every_n_steps: steps between checkpoints; None is one at each end of an epoch.
        loss: an object with `set_lambda`, or the name of one in the module.
        submodule: of which the weights are saved; None is the whole module.
        restore_best: at the end, load the best checkpoint that a `stop` has named.
        say: shows a line to the user; called on rank 0 only.

    Raises:
        ValueError: if an argument is out of its range.
        TypeError: if `loss` has no `set_lambda`.
    """

    def __init__(
        self,
        control: str | os.PathLike[str],
        checkpoints: str | os.PathLike[str] | None,
        *,
        network: str,
        every_n_steps: int | None,
        loss: SetsLambda | str | None,
        submodule: str | None,
        restore_best: bool,
        say: Callable[[str], None],
    ) -> None:
        if every_n_steps is not None and (not isinstance(every_n_steps, int) or every_n_steps < 1):
            raise ValueError(
                f"`every_n_steps` must be a whole number, 1 or more, or None, got {every_n_steps!r}"
            )
        if restore_best and checkpoints is None:
            raise ValueError("`restore_best` needs `checkpoints`: it loads what was written there")
        if loss is not None and not isinstance(loss, str):
            _check_loss(loss, "`loss`")
        self.directory = Path(control)
        self.checkpoints = None if checkpoints is None else Path(checkpoints)
        self.network = network
        self.every_n_steps = every_n_steps
        self.submodule = submodule
        self.restore_best = restore_best
        self.decision = Decision()
        """The decision that holds."""
        self._loss = loss
        self._found: SetsLambda | None = None
        self._say = say
        self._control: Control | None = None
        self._rank = 0
        self._ramp: Ramp | None = None
        self._phase = self.decision.phase
        self._used = 0.0
        self._lacks_loss = False
        self._first = self._last = 0
        self._saved: int | None = None

    @property
    def is_following(self) -> bool:
        """Whether training is between its begin and its end."""
        return self._control is not None

    @property
    def lambda_(self) -> float:
        """λ of the next step."""
        return 0.0 if self._ramp is None else self._ramp.value

    def metrics(self) -> dict[str, float]:
        """For the framework's log: λ of the last step, and the generation that holds."""
        return {
            "convergd/lambda": self._used,
            "convergd/generation": float(self.decision.generation),
        }

    def begin(self, step: int, module: nn.Module, *, rank: int, world_size: int) -> Decision:
        """Before the first step; every rank must call it.

        Args:
            step: steps done before, by the training that this one resumes.
            module: where a loss is found by its name.
            rank: of this process.
            world_size: number of processes that train this network.

        Raises:
            ValueError: if the module has no loss, or no submodule, of that name.
            TypeError: if the loss has no `set_lambda`.
            WeightsError: if the weights cannot be saved.
        """
        self._found = self._find_loss(module)
        if self.checkpoints is not None:
            check_weights(module, self.submodule)
        self._rank = rank
        # Two coupled trainings share a process group, but each is a world of its own.
        self._control = Control(
            self.directory, network=self.network, rank=rank, distributed=world_size > 1
        )
        self.decision = self._control.decision
        self._first = self._last = step
        if self._saved is not None and self._saved > step:
            self._saved = None
        target = None
        if self._ramp is not None:
            target = self._ramp.target
            self._set_lambda()
        decision = self._poll(step)
        # A ramp that was under way has taken the step that comes now before it was stored.
        if self._ramp is not None and self._ramp.target != target:
            self._advance()
        return decision

    def after_step(self, step: int, module: nn.Module) -> Decision:
        """After a step of the optimiser; every rank must call it."""
        every = self.every_n_steps
        # A step may count for several: those of more than one optimiser.
        if every is not None and step // every > self._last // every:
            self.save(step, module)
        self._last = step
        self._used = self.lambda_
        decision = self._poll(step)
        self._advance()
        return decision

    def after_epoch(self, step: int, module: nn.Module) -> None:
        """At the end of an epoch; every rank must call it."""
        if self.every_n_steps is None:
            self.save(step, module)

    def save(self, step: int, module: nn.Module) -> None:
        """Write a checkpoint, unless the step has one; every rank must call it.

        What cannot be written is a warning: training does not depend on the sidecar.
        """
        if self.checkpoints is None or step == self._saved:
            return
        self._saved = step
        state = whole_state(module, self.submodule)
        if self._rank != 0:
            return
        try:
            save_checkpoint(state, self.checkpoints, step)
        except OSError as error:
            self._say(f"convergd: the checkpoint of step {step} could not be written: {error}")

    def end(self, step: int, module: nn.Module, *, save: bool = True) -> None:
        """After the last step: the last checkpoint, the end, and the best weights if wanted."""
        control = self._control
        if control is None:
            return
        if save and step > self._first:
            self.save(step, module)
        if self.decision.stop and self.restore_best:
            self._restore(module, control.ranks)
        control.done(step)
        self._control = None

    def state(self) -> dict[str, Any]:
        """What a resumed training needs: numbers and strings, by name."""
        ramp = self._ramp or Ramp()
        return {
            "phase": self._phase,
            "lambda": ramp.value,
            "lambda_target": ramp.target,
            "ramp_remaining": ramp.remaining,
            "is_lambda_set": self._ramp is not None,
            "saved": self._saved,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave; before `begin`."""
        self._phase, self._saved = state["phase"], state["saved"]
        if state["is_lambda_set"]:
            self._ramp = Ramp(state["lambda"])
            self._ramp.to(state["lambda_target"], state["ramp_remaining"])

    def _poll(self, step: int) -> Decision:
        control = self._control
        if control is None:
            raise AssertionError("BUG: polled outside of a training")
        decision = control.poll(step, acknowledge=False)
        coupling = getattr(self._found, "coupling", None)
        if coupling is not None:
            decision = coupling.share(decision)
            control.adopt(decision)
        if decision != self.decision:
            self.decision = decision
            self._act(decision, step)
        if control.unacknowledged:
            control.ack(step)
        return decision

    def _act(self, decision: Decision, step: int) -> None:
        """Set λ, and tell the user; ending the loop is the callback's."""
        if self._ramp is None:
            self._ramp = Ramp(getattr(self._found, "lambda_", 0.0))
        if decision.lambda_ != self._ramp.target:
            self._ramp.to(decision.lambda_, decision.ramp)
        self._set_lambda()
        if decision.stop:
            self._tell(f"told to stop at step {step}: {decision.reason or 'no reason given'}")
            self._tell_best(decision)
        elif decision.phase != self._phase:
            ramp = f" over {decision.ramp} steps" if decision.ramp else ""
            self._tell(
                f"phase `{decision.phase}` from step {step} on, λ goes to "
                f"{decision.lambda_:g}{ramp}: {decision.reason}"
            )
        self._phase = decision.phase

    def _advance(self) -> None:
        """Take the step of the ramp that is the next one of the training."""
        if self._ramp is not None and self._ramp.remaining:
            self._ramp.step()
            self._set_lambda()

    def _set_lambda(self) -> None:
        if self._found is not None:
            self._found.set_lambda(self.lambda_, ramp=0)
        elif self._ramp is not None and self._ramp.target > 0 and not self._lacks_loss:
            self._lacks_loss = True
            self._tell(
                f"λ is to be {self._ramp.target:g}, but there is no loss to set it in: give the "
                "callback `loss=`"
            )

    def _find_loss(self, module: nn.Module) -> SetsLambda | None:
        if not isinstance(self._loss, str):
            return self._loss
        found: object = module
        for name in self._loss.split("."):
            if not hasattr(found, name):
                there = ", ".join(f"`{one}`" for one in _losses_of(module))
                raise ValueError(
                    f"`loss`: {type(module).__name__} has no `{self._loss}`; what has "
                    f"`set_lambda` there: {there or 'nothing'}"
                )
            found = getattr(found, name)
        return _check_loss(found, f"`{self._loss}` of the module")

    def _best(self, decision: Decision) -> str | None:
        """Path of this network's best checkpoint."""
        return None if decision.best is None else getattr(decision.best, self.network, None)

    def _tell_best(self, decision: Decision) -> None:
        path = self._best(decision)
        if path is not None and decision.best is not None and not self.restore_best:
            self._tell(
                f"the best checkpoint is of step {decision.best.step}, {path}; the weights stay "
                "those of the last step (`restore_best=True` loads the best)"
            )

    def _restore(self, module: nn.Module, ranks: Ranks | None) -> None:
        path = self._best(self.decision)
        if path is None or self.decision.best is None:
            self._tell("the decision names no best checkpoint: the weights stay as they are")
            return
        try:
            load_weights(module, Path(path), self.submodule, ranks)
        except WeightsError as error:
            self._tell(f"the best checkpoint was not loaded, the weights stay: {error}")
            return
        self._tell(f"the weights are those of step {self.decision.best.step}, the best: {path}")

    def _tell(self, text: str) -> None:
        if self._rank == 0:
            self._say(f"convergd: {text}")


def _losses_of(module: nn.Module) -> list[str]:
    """The names by which a loss can be found in a module."""
    names = []
    for prefix, one in module.named_modules():
        attributes = vars(one) | dict(one.named_children())
        found = (name for name, value in attributes.items() if isinstance(value, SetsLambda))
        names += [f"{prefix}.{name}" if prefix else name for name in found]
    return names


def _check_loss(loss: object, name: str) -> SetsLambda:
    if not isinstance(loss, SetsLambda):
        raise TypeError(f"{name} has no `set_lambda(value, ramp=)`: {type(loss).__name__}")
    return loss
