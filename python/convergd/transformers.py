"""The callback for the Trainer of Hugging Face transformers (docs/callbacks.md).

    from convergd.transformers import ConvergenceCallback

    convergence = ConvergenceCallback("run/control", "run/target", every_n_steps=100)
    trainer = transformers.Trainer(..., callbacks=[convergence])

The step is `state.global_step`, a step of the optimiser.
"""

from __future__ import annotations

import logging
import os
from typing import Any, cast

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from ._follower import Follower, SetsLambda
from ._frameworks import needs, require
from .control import Decision

_LEAST = (4, 50)

try:
    import transformers as _package
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as error:
    raise ImportError(f"transformers is not there: {needs('transformers', _LEAST)}") from error

require("transformers", _package.__version__, _LEAST)

_log = logging.getLogger("convergd")


class ConvergenceCallback(TrainerCallback):
    """Saves checkpoints for convergd, polls its control file and obeys.

    After each step of the optimiser the checkpoint that is due is written and the control file is
    polled. A decision takes effect at the first step at or after its `at_step`: λ is set, or
    `control.should_training_stop`, and the decision is acknowledged. Of several processes, the
    first reads, broadcasts, writes and acknowledges, and all act at the same step.

    `convergd/lambda` and `convergd/generation` are added to what the Trainer logs: to its
    `log_history`, and for the callbacks that stand behind this one.

    Without a sidecar, training goes on to its end.

    Args:
        control: the sidecar's `control.directory`.
        checkpoints: directory for checkpoints, `networks.<name>.checkpoints` of the YAML. None
            writes none: the Trainer's own are read with `layout: hf`.
        network: `target`, or `baseline` in the other training.
        every_n_steps: steps between checkpoints; None writes one at the end of each epoch. The
            last step always has one.
        loss: what λ is set in: an object with `set_lambda(value, ramp=)`, such as the losses of
            `convergd.torch`, or the name of such an attribute of the model.
        submodule: name of the submodule of which the weights are saved; None is the whole model.
        restore_best: at the end, load the best checkpoint that the stop has named.

    Raises:
        ValueError: if an argument is out of its range.
        TypeError: if `loss` has no `set_lambda`.
    """

    def __init__(
        self,
        control: str | os.PathLike[str],
        checkpoints: str | os.PathLike[str] | None = None,
        network: str = "target",
        *,
        every_n_steps: int | None = None,
        loss: SetsLambda | str | None = None,
        submodule: str | None = None,
        restore_best: bool = False,
    ) -> None:
        super().__init__()
        self._follower = Follower(
            control,
            checkpoints,
            network=network,
            every_n_steps=every_n_steps,
            loss=loss,
            submodule=submodule,
            restore_best=restore_best,
            say=_log.warning,
        )
        self.stopped_step: int | None = None
        """Step at which training was told to stop; None if it was not."""

    @property
    def decision(self) -> Decision:
        """The decision that holds."""
        return self._follower.decision

    @property
    def lambda_(self) -> float:
        """λ of the next step."""
        return self._follower.lambda_

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Poll before the first step; the Trainer takes one all the same."""
        follower = self._follower
        stored = _stored(state).get(self._key)
        if state.global_step > 0 and isinstance(stored, dict):
            follower.load_state(stored)
        self.stopped_step = None
        decision = follower.begin(
            state.global_step,
            _plain(kwargs["model"]),
            rank=args.process_index,
            world_size=args.world_size,
        )
        self._obey(decision, state, control)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Save and poll."""
        decision = self._follower.after_step(state.global_step, _plain(kwargs["model"]))
        self._obey(decision, state, control)

    def on_epoch_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Save, where checkpoints are written by epochs, and at the last step."""
        self._follower.after_epoch(state.global_step, _plain(kwargs["model"]))
        if control.should_training_stop or state.global_step >= state.max_steps:
            self._follower.save(state.global_step, _plain(kwargs["model"]))

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """The last checkpoint, the end, and the best weights if wanted."""
        # `load_best_model_at_end` has put other weights into the model than the last step's.
        is_last = not (args.load_best_model_at_end and state.best_model_checkpoint is not None)
        self._follower.end(state.global_step, _plain(kwargs["model"]), save=is_last)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        logs: dict[str, float] | None = None,
        **_: Any,  # noqa: ANN401
    ) -> None:
        """Add λ of the last step and the generation that holds."""
        if logs is None or not self._follower.is_following:
            return
        metrics = self._follower.metrics()
        logs.update(metrics)
        if state.log_history:
            state.log_history[-1].update(metrics)

    @property
    def _key(self) -> str:
        """Under which a checkpoint of the Trainer holds the state of this callback.

        Not the name of the class: the Trainer would make a new callback from what is stored, and
        a loss cannot be stored.
        """
        return f"convergd-{self._follower.network}"

    def _obey(self, decision: Decision, state: TrainerState, control: TrainerControl) -> None:
        if decision.stop:
            control.should_training_stop = True
            if self.stopped_step is None:
                self.stopped_step = state.global_step
        # Goes into `trainer_state.json` with the next checkpoint of the Trainer.
        _stored(state)[self._key] = self._follower.state()


def _stored(state: TrainerState) -> dict[str, Any]:
    """What the Trainer keeps of callbacks by name; it is annotated as what it is given."""
    return cast("dict[str, Any]", state.stateful_callbacks)


def _plain(model: nn.Module) -> nn.Module:
    """Without the wrappers that only add a name in front."""
    while isinstance(model, DistributedDataParallel | DataParallel):
        model = model.module
    return model
