"""The callback for Lightning (docs/callbacks.md).

    from convergd.lightning import ConvergenceStopping

    stopping = ConvergenceStopping("run/control", "run/target", every_n_steps=100, loss="penalty")
    trainer = lightning.Trainer(callbacks=[stopping])

The step is `trainer.global_step`, as in Lightning's own checkpoints.
"""

from __future__ import annotations

import os
from typing import Any

from torch import nn

from ._follower import Follower, SetsLambda
from ._frameworks import needs, require
from ._weights import is_sharded
from .control import Decision

_LEAST = (2, 5)

try:
    import lightning as _package
    import lightning.pytorch as pl
    from lightning.pytorch.utilities import rank_zero_info
except ImportError as error:
    raise ImportError(f"Lightning is not there: {needs('lightning', _LEAST)}") from error

require("lightning", _package.__version__, _LEAST)


class ConvergenceStopping(pl.Callback):
    """Saves checkpoints for convergd, polls its control file and obeys.

    After each step of the optimiser the checkpoint that is due is written and the control file is
    polled. A decision takes effect at the first step at or after its `at_step`: λ is set, or
    `trainer.should_stop`, and the decision is acknowledged. Lightning's `min_epochs` and
    `min_steps` still count. Of several processes (DDP, FSDP), the first reads, broadcasts, writes
    and acknowledges, and all act at the same step. `convergd/lambda` and `convergd/generation` are
    logged.

    Without a sidecar, training goes on to its end. The callback does nothing in a `fast_dev_run`.

    Args:
        control: the sidecar's `control.directory`.
        checkpoints: directory for checkpoints, `networks.<name>.checkpoints` of the YAML. None
            writes none: Lightning's own are read with `layout: lightning`.
        network: `target`, or `baseline` in the other training.
        every_n_steps: steps between checkpoints; None writes one at the end of each training epoch.
            The last step always has one.
        loss: what λ is set in: an object with `set_lambda(value, ramp=)`, such as the losses of
            `convergd.torch`, or the name of such an attribute of the module.
        submodule: name of the submodule of which the weights are saved; None is the whole module.
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
            say=rank_zero_info,
        )
        self._step = 0
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

    @property
    def state_key(self) -> str:
        """One for each network, so that a trainer may have two of these callbacks."""
        return self._generate_state_key(network=self._follower.network)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs."""
        return self._follower.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self._follower.load_state(state_dict)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Poll before the first step: a resumed training may be told to stop."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._step, self.stopped_step = trainer.global_step, None
        decision = self._follower.begin(
            self._step, pl_module, rank=trainer.global_rank, world_size=trainer.world_size
        )
        self._obey(trainer, decision)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        *_: Any,  # noqa: ANN401
    ) -> None:
        """Save and poll, where the batch was the last of a step."""
        follower = self._follower
        if not follower.is_following or trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        self._obey(trainer, follower.after_step(self._step, _whole(trainer, pl_module)))
        pl_module.log_dict(follower.metrics(), on_step=True, on_epoch=False, batch_size=1)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, where checkpoints are written by epochs."""
        if self._follower.is_following:
            self._follower.after_epoch(trainer.global_step, _whole(trainer, pl_module))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The last checkpoint, the end, and the best weights if wanted."""
        self._follower.end(trainer.global_step, _whole(trainer, pl_module))

    def _obey(self, trainer: pl.Trainer, decision: Decision) -> None:
        if decision.stop and self.stopped_step is None:
            trainer.should_stop = True
            self.stopped_step = self._step


def _whole(trainer: pl.Trainer, pl_module: pl.LightningModule) -> nn.Module:
    """The module that has all weights: FSDP's root knows how to gather them."""
    wrapped = trainer.strategy.model
    return wrapped if wrapped is not None and is_sharded(wrapped) else pl_module
