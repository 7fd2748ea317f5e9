"""Random draws, and 𝓘 of one network on them (Eq. 10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .batch import Batch
from .masking import BASELINES, Baseline, masked
from .network import Network
from .ramp import Ramped
from .sets import check_fraction, draw_rows, draw_sets, seeded
from .values import interaction, log_odds
from .variables import Chosen, ImagePatches, Variables


class Draw(NamedTuple):
    """What the interaction term of a step is taken on; the same for both networks."""

    rows: Tensor
    """The samples, indices into the batch, int64 [B']."""
    batch: Batch
    """Their inputs."""
    labels: Tensor
    """Their labels, int64 [B']."""
    chosen: Chosen
    """Their variables."""
    present: Tensor
    """S1∪S2∪S3, S1∪S3, S2∪S3 and S3 of each, bool [4, B', n]."""


class Interactions(Ramped):
    """λ, the random draws, and 𝓘 of one network: what the losses of interactions share."""

    def __init__(
        self,
        lambda_: float = 0.0,
        *,
        variables: Variables | None = None,
        baseline: Baseline = "zero",
        fraction: float = 1.0,
        ramp: int = 0,
        seed: int | None = None,
    ) -> None:
        if baseline not in BASELINES:
            raise ValueError(f"`baseline` must be one of {BASELINES}, got {baseline!r}")
        check_fraction(fraction)
        super().__init__(lambda_, ramp)
        self.variables = ImagePatches() if variables is None else variables
        self.baseline: Baseline = baseline
        self.fraction = fraction
        self._generator = seeded(seed)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs: λ, its ramp, and the random numbers to come."""
        return super().state_dict() | {"generator": self._generator.get_state()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        super().load_state_dict(state_dict)
        self._generator.set_state(state_dict["generator"].cpu())

    def draw(self, batch: Batch, labels: Tensor) -> Draw:
        """Draw samples, variables and sets for a batch: what the next numbers of the seed give."""
        rows = draw_rows(len(batch), self.fraction, self._generator)
        if rows is None:
            rows = torch.arange(len(batch), device="cpu")
        else:
            batch, labels = batch.rows(rows), labels[rows.to(labels.device)]
        chosen = self._choose(batch)
        present = draw_sets(len(batch), chosen.count, self._generator, chosen.counts)
        return Draw(rows, batch, labels, chosen, present)

    def _choose(self, batch: Batch) -> Chosen:
        return self.variables.choose(batch, self._generator)

    def _positions(self, chosen: Chosen, hidden: Tensor) -> Tensor:
        return self.variables.of_positions(chosen, hidden)

    def evaluate(self, network: Network, batch: Batch, draw: Draw) -> tuple[Tensor, Tensor]:
        """Logits of the plain batch, [B, K], and 𝓘 of one network (Eq. 10), [B']."""
        network.check(batch)
        if network.one_pass:
            logits, outputs = network.together(
                batch, draw.batch, len(draw.present), lambda hidden: self._mask(hidden, draw)
            )
        else:
            hidden, logits = network.plain(batch)
            outputs = network.masked(self._mask(hidden, draw), draw.batch)
        return logits, interaction(log_odds(outputs, draw.labels.expand(4, -1)))

    def _mask(self, hidden: Tensor, draw: Draw) -> Tensor:
        """The four masked copies [4, B', ...] of the drawn samples, from features [B, ...]."""
        if len(draw.rows) < len(hidden):
            hidden = hidden[draw.rows.to(hidden.device)]
        return masked(hidden, self._positions(draw.chosen, hidden), draw.present, self.baseline)
