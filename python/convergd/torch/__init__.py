"""Losses of the regularised phase for PyTorch (docs/loss.md).

- `InteractionLoss`: two networks in one process (Eq. 9).
- `CoupledInteractionLoss` with a `Coupling`: the same with each network in a process of its own.
- `InteractionPenalty`: one network without a partner.
- `OutputConsistencyLoss`, `FeatureConsistencyLoss`: what the paper compares with (Eq. 11, 12).

`ImagePatches`, `Tokens` and `Columns` say what the variables of a sample are, `Network` where a
network is split.
"""

from .consistency import FeatureConsistencyLoss, OutputConsistencyLoss
from .coupling import Coupling, PartnerError
from .interaction import CoupledInteractionLoss, InteractionLoss, PairLoss
from .network import Network
from .penalty import InteractionPenalty, PenaltyLoss
from .variables import Columns, ImagePatches, Tokens, Variables

__all__ = [
    "Columns",
    "CoupledInteractionLoss",
    "Coupling",
    "FeatureConsistencyLoss",
    "ImagePatches",
    "InteractionLoss",
    "InteractionPenalty",
    "Network",
    "OutputConsistencyLoss",
    "PairLoss",
    "PartnerError",
    "PenaltyLoss",
    "Tokens",
    "Variables",
]
