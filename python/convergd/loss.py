"""The interaction penalty under its first name; all losses are in `convergd.torch`."""

from .torch.patches import patch_indices, patch_strength
from .torch.penalty import InteractionPenalty, PenaltyLoss
from .torch.sets import LARGEST_SET, draw_sets
from .torch.values import interaction, log_odds

__all__ = [
    "LARGEST_SET",
    "InteractionPenalty",
    "PenaltyLoss",
    "draw_sets",
    "interaction",
    "log_odds",
    "patch_indices",
    "patch_strength",
]
