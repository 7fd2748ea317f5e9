"""The trainer's side of convergd.

convergd runs beside two training runs, compares the inference patterns of the two networks,
and tells the trainers through a control file when to stop or to change the phase. A trainer
needs from this package:

- `Control`, to obey the sidecar (standard library only);
- `save_checkpoint`, to write checkpoints that the sidecar never sees half-written;
- `export_program` and `make_probe`, once before the run, to describe the network and the data;
- `InteractionPenalty`, the loss of the regularised phase.

`convergd.lightning` and `convergd.transformers` have callbacks that do all of this in the trainers
of these frameworks.

`Control` and `Decision` import without torch; every other name imports its module on first use, and
so do the modules `torch`, `loss`, `lightning` and `transformers`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from .control import Best, Control, Decision

if TYPE_CHECKING:
    from .checkpoint import save_checkpoint
    from .loss import InteractionPenalty
    from .probe import ProbeError, make_probe
    from .program import ExportError, embedding_split, export_program, image_split

__version__ = "0.1.0"

__all__ = [
    "Best",
    "Control",
    "Decision",
    "ExportError",
    "InteractionPenalty",
    "ProbeError",
    "embedding_split",
    "export_program",
    "image_split",
    "make_probe",
    "save_checkpoint",
]

_LAZY = {
    "ExportError": "program",
    "InteractionPenalty": "loss",
    "ProbeError": "probe",
    "embedding_split": "program",
    "export_program": "program",
    "image_split": "program",
    "make_probe": "probe",
    "save_checkpoint": "checkpoint",
}

_MODULES = ("lightning", "loss", "torch", "transformers")


def __getattr__(name: str) -> object:
    """Import the module behind a name that needs torch or numpy when it is first asked for."""
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _LAZY:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    value = getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
