"""The network's code as one TorchScript file, for the sidecar to fill with weights.

The file has three methods:

- `features(inputs...) -> h`, the network up to its split;
- `head(h, inputs[1:]...) -> logits`, the network from the split on;
- `attach_meta() -> str`, a JSON object (see `export_program`).

Both halves are traced from the model as it is, through forward hooks at the split: for
`features` the hook ends the forward pass with the split's output, for `head` it puts `h` in the
place of that output while the model runs on an example input. That is right only if nothing
flows around the split, so the finished file is compared with the model before it gets its name.
"""

from __future__ import annotations

import copy
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ._atomic import replacing

FORMAT = 1
"""Version of the program file."""

PREFIX = "model."
"""Parameter names in the file are this followed by the name in the model's state dict."""

TOLERANCE = 1e-5
"""Largest error of the logits, for logits of size 1 or less; relative to their size above."""

CHECKED_BATCH_SIZES = (1, 2, 3, 7)
"""Sizes other than the traced one, so that a size that was baked in is found."""


class ExportError(RuntimeError):
    """The model cannot be exported at this split; nothing was written."""


def export_program(
    model: nn.Module,
    example_inputs: Tensor | Sequence[Tensor],
    split: str | None = None,
    path: str | os.PathLike[str] = "program.ts",
) -> Path:
    """Export `model`, split at the output of its submodule `split`, and check the result.

    The model is copied, put into eval mode on the CPU and traced; the caller's model does not
    change. Persistent buffers, integer ones too, become parameters that need no gradient, so
    that `named_parameters()` of the loaded file lists all that a checkpoint holds: for each name
    in the model's state dict there is the parameter `"model." + name`, and no other.

    `attach_meta()` of the file returns a JSON object:
    `format` (1), `split` (or null), `prefix` (`"model."`), `features_shape` and
    `input_shapes` (of one sample), `classes`, `aliases` (groups of parameter names that share
    one tensor), `torch` (the version that wrote the file).

    Args:
        model: any module that can be traced; its output is a tensor of logits [B, K], or has
            one as its attribute `logits`.
        example_inputs: a tensor, or several, with the batch first. Real data is best; a single
            sample is doubled, as a size of one would be baked into the trace.
        split: name of a submodule, such as `layer1`. None masks at the input: `features` is the
            identity and `head` is the whole model.
        path: the file to write; its directory is created if missing.

    Returns:
        The path of the file.

    Raises:
        ExportError: if the model cannot be traced, if the split is not found or does not run
            exactly once, or if `head(features(x))` is not `model(x)`. The message says what to
            try; nothing is left at `path`, and a file that was there before stays.
    """
    inputs = _examples(example_inputs)
    original = _evaluated(model)
    halves = _Halves(_evaluated(model), split, inputs)
    _buffers_to_parameters(halves.model)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = _trace(halves, inputs, original)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            traced.save(str(temporary))
            _check(torch.jit.load(str(temporary)), original, split, inputs)
    return path


class _Reached(Exception):
    """Carries the split's output out of the forward pass."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden


class _Halves(nn.Module):
    """The model as two methods."""

    def __init__(self, model: nn.Module, split: str | None, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self.model = model
        self._split = split
        # A buffer and no constant, so that it moves to the device with the module.
        self.register_buffer("example", inputs[0][:1].clone())
        if split is not None and split not in dict(model.named_modules()):
            near = ", ".join(f"`{name}`" for name, _ in model.named_children())
            raise ExportError(f"the model has no submodule `{split}`; at the top it has {near}")

    def features(self, *inputs: Tensor) -> Tensor:
        """[B, ...] -> the split's output [B, ...]."""
        if self._split is None:
            return inputs[0]

        def leave(_module: nn.Module, _inputs: object, output: object) -> None:
            raise _Reached(_first(output, self._split))

        with self._hook(leave):
            try:
                self.model(*inputs)
            except _Reached as reached:
                return reached.hidden
        raise ExportError(f"the forward pass does not run the submodule `{self._split}`")

    def head(self, hidden: Tensor, *rest: Tensor) -> Tensor:
        """The split's output [B, ...], and the inputs after the first -> logits [B, K]."""
        if self._split is None:
            return _logits(self.model(hidden, *rest))
        runs = 0

        def replace(_module: nn.Module, _inputs: object, output: object) -> object:
            nonlocal runs
            runs += 1
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        example = self.example.expand(hidden.shape[0], *self.example.shape[1:])
        with self._hook(replace):
            logits = _logits(self.model(example, *rest))
        if runs != 1:
            raise ExportError(f"`{self._split}` runs {runs} times in a forward pass, wanted once")
        return logits

    @contextmanager
    def _hook(self, hook: object) -> Iterator[None]:
        handle = self.model.get_submodule(self._split).register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()


def _examples(example_inputs: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The inputs as a tuple on the CPU with a batch of at least two."""
    if isinstance(example_inputs, Tensor):
        example_inputs = (example_inputs,)
    inputs = tuple(tensor.detach().cpu() for tensor in example_inputs)
    sizes = {tensor.shape[0] if tensor.dim() else 0 for tensor in inputs}
    if len(sizes) != 1 or sizes == {0}:
        raise ExportError("`example_inputs` must be tensors with the same, non-empty batch first")
    return tuple(torch.cat([t, t]) if len(t) == 1 else t for t in inputs)


def _evaluated(model: nn.Module) -> nn.Module:
    """A copy of the model in eval mode on the CPU, out of its training wrappers."""
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(model, wrappers):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod
        else:
            return copy.deepcopy(model).cpu().eval()


def _buffers_to_parameters(model: nn.Module) -> None:
    """Register persistent buffers as parameters under the same names.

    `named_parameters()` is all that a reader of TorchScript gets, and it lists no buffers.
    """
    for module in model.modules():
        for name, buffer in list(module._buffers.items()):
            if buffer is not None and name not in module._non_persistent_buffers_set:
                del module._buffers[name]
                module.register_parameter(name, nn.Parameter(buffer, requires_grad=False))


def _trace(
    halves: _Halves, inputs: tuple[Tensor, ...], original: nn.Module
) -> torch.jit.ScriptModule:
    hidden = halves.features(*inputs)
    logits = halves.head(hidden, *inputs[1:])
    if logits.dim() != 2:
        raise ExportError(f"logits must be [B, K], the model gives {tuple(logits.shape)}")
    calls = {"features": inputs, "head": (hidden, *inputs[1:])}
    try:
        traced = torch.jit.trace_module(halves, calls, check_trace=False)
    except Exception as error:
        raise ExportError(f"the model cannot be traced: {error}") from error
    meta = {
        "format": FORMAT,
        "split": halves._split,
        "prefix": PREFIX,
        "features_shape": list(hidden.shape[1:]),
        "input_shapes": [list(tensor.shape[1:]) for tensor in inputs],
        "classes": logits.shape[1],
        "aliases": _aliases(original),
        "torch": torch.__version__,
    }
    literal = json.dumps(json.dumps(meta))
    traced.define(f"def attach_meta(self) -> str:\n    return {literal}\n")
    return traced


def _aliases(model: nn.Module) -> list[list[str]]:
    """Groups of parameter names in the file that share one tensor (tied weights)."""
    groups: dict[int, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        groups.setdefault(id(tensor), []).append(PREFIX + name)
    return [names for names in groups.values() if len(names) > 1]


def _first(output: object, split: str | None) -> Tensor:
    output = output[0] if isinstance(output, tuple) and output else output
    if not isinstance(output, Tensor):
        raise ExportError(f"`{split}` gives {type(output).__name__}, wanted a tensor")
    return output


def _logits(output: object) -> Tensor:
    output = getattr(output, "logits", output)
    if not isinstance(output, Tensor):
        raise ExportError(
            f"the model gives {type(output).__name__}, wanted logits: wrap it in a module that "
            "returns them"
        )
    return output


def _check(
    program: torch.jit.ScriptModule,
    model: nn.Module,
    split: str | None,
    inputs: tuple[Tensor, ...],
) -> None:
    """Compare the file with the model, as exported and again after the weights changed."""
    parameters = dict(program.named_parameters(remove_duplicate=False))
    wanted = {PREFIX + name for name in model.state_dict()}
    if wanted != set(parameters):
        names = ", ".join(sorted(wanted ^ set(parameters))[:5])
        raise ExportError(f"the names in the file are not those of the state dict: {names}")
    generator = torch.Generator().manual_seed(0)
    _compare(program, model, split, inputs, generator, changed=False)
    _disturb(model, generator)
    for name, tensor in model.state_dict().items():
        parameters[PREFIX + name].copy_(tensor)
    _compare(program, model, split, inputs, generator, changed=True)


def _compare(
    program: torch.jit.ScriptModule,
    model: nn.Module,
    split: str | None,
    inputs: tuple[Tensor, ...],
    generator: torch.Generator,
    changed: bool,
) -> None:
    """Compare logits on random inputs; `changed` says whether the weights were replaced."""
    for batch in CHECKED_BATCH_SIZES:
        drawn = _draw(inputs, batch, generator)
        wanted = _logits(model(*drawn))
        try:
            logits = program.head(program.features(*drawn), *drawn[1:])
        except RuntimeError as error:
            raise ExportError(
                f"the program fails for {batch} samples, so a size was baked in: {error}"
            ) from error
        error = (logits - wanted).abs().max().item() if logits.shape == wanted.shape else None
        if error is None or not error <= TOLERANCE * max(1.0, wanted.abs().max().item()):
            raise ExportError(_mismatch(split, batch, error, changed))


def _mismatch(split: str | None, batch: int, error: float | None, changed: bool) -> str:
    found = "logits have another shape" if error is None else f"logits differ by {error:.3g}"
    if changed:
        return (
            f"with other weights the program is not the model: {found} for {batch} samples. Does "
            "the model turn a weight into a Python number, or keep a copy outside its state dict?"
        )
    if split is None:
        return f"the traced program is not the model: {found} for {batch} samples"
    return (
        f"`head(features(x))` is not `model(x)`: {found} for {batch} samples. Does a skip "
        f"connection lead around `{split}`, or does the model use its input again after it? Try "
        "a split that everything passes through, or None to mask at the input"
    )


def _draw(inputs: tuple[Tensor, ...], batch: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Random inputs like the examples: the first of new values, the others of example rows."""
    first = inputs[0]
    shape = (batch, *first.shape[1:])
    if first.is_floating_point():
        spread = first.std().clamp(min=0.1)
        drawn = torch.randn(shape, generator=generator, dtype=first.dtype) * spread + first.mean()
    else:
        drawn = first.flatten()[torch.randint(first.numel(), shape, generator=generator)]
    rows = torch.randint(len(first), (batch,), generator=generator)
    return (drawn, *(tensor[rows] for tensor in inputs[1:]))


def _disturb(model: nn.Module, generator: torch.Generator) -> None:
    """Change each floating parameter and buffer, but keep positive ones (variances) positive."""
    for tensor in {id(t): t for t in model.state_dict(keep_vars=True).values()}.values():
        if not tensor.is_floating_point():
            continue
        noise = 0.1 * torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
        if tensor.numel() and tensor.min() > 0:
            tensor.mul_(noise.exp())
        else:
            tensor.add_(noise)
