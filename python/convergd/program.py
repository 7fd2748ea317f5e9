"""The network's code as one TorchScript file, for the sidecar to fill with weights.

The file has three methods:

- `features(inputs...) -> h`, the network up to its split;
- `head(h, inputs[1:]...) -> logits`, the network from the split on; of a language model, the logits
  of the token that follows the last present position;
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
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ._atomic import replacing
from ._graph import settle

Split = str | tuple[Callable[..., Tensor], Callable[..., Tensor]] | None
"""Where features are masked, see `export_program`."""

FORMAT = 2
"""Version of the program file."""

MASK = "attention_mask"
"""Name of the input that tells which tokens of a sample are there and which are padding."""

PREFIX = "model."
"""Parameter names in the file are this followed by the name in the model's state dict."""

TOLERANCE = 1e-5
"""Largest error of the logits, for logits of size 1 or less; relative to their size above."""

CHECKED_BATCH_SIZES = (1, 2, 3, 7)
"""Sizes other than the traced one, so that a size that was baked in is found."""

ENLARGED = 8.0
"""Inputs are compared at this many times their size too, so that a branch on them is found."""


class ExportError(RuntimeError):
    """The model cannot be exported at this split; nothing was written."""


def export_program(
    model: nn.Module,
    example_inputs: Tensor | Sequence[Tensor] | Mapping[str, Tensor],
    split: Split = None,
    path: str | os.PathLike[str] = "program.ts",
    next_token: bool = False,
) -> Path:
    """Export `model`, split at the output of its submodule `split`, and check the result.

    The model is copied, put into eval mode on the CPU and traced; the caller's model does not
    change. Persistent buffers, integer ones too, become parameters that need no gradient, so
    that `named_parameters()` of the loaded file lists all that a checkpoint holds: for each name
    in the model's state dict there is the parameter `"model." + name`, and no other.

    `attach_meta()` of the file returns a JSON object:
    `format` (2), `split` (or null), `prefix` (`"model."`), `features_shape` and
    `input_shapes` (of one sample), `inputs` (the tensors of the probe file that the methods take,
    in order: `inputs`, then the names of the others), `classes`, `next_token`, `aliases` (groups
    of parameter names that share one tensor), `torch` (the version that wrote the file).

    Args:
        model: any module that can be traced; its output is a tensor of logits [B, K], or has
            one as its attribute `logits`.
        example_inputs: a tensor, or several, with the batch first; the first is what is masked.
            With names, such as what a tokenizer gives, the model is called by keyword. Real data
            is best; a single sample is doubled, as a size of one would be baked into the trace,
            and an `attention_mask` without padding gets some.
        split: name of a submodule, such as `layer1`; `image_split(model, example_inputs)` finds
            one for a network of images, `embedding_split(model)` for a Hugging Face model of text.
            Or two functions that together are the model: `features(model, *inputs)` gives the
            features, `head(model, features, *inputs[1:])` the logits. None masks at the input:
            `features` is the identity and `head` is the whole model.
        path: the file to write; its directory is created if missing.
        next_token: the model is a causal language model with logits [B, L, K]: `head` gives those
            after the last position whose `attention_mask` is not 0, [B, K], whichever side is
            padded. The output embeddings are computed for that position only.

    Returns:
        The path of the file.

    Raises:
        ExportError: if the model cannot be traced, if the split is not found or does not run
            exactly once, or if `head(features(x))` is not `model(x)`. The message says what to
            try; nothing is left at `path`, and a file that was there before stays.
    """
    # Whatever `torch.set_default_device` says.
    with torch.device("cpu"):
        return _export(model, example_inputs, split, Path(path), next_token)


def _export(
    model: nn.Module,
    example_inputs: Tensor | Sequence[Tensor] | Mapping[str, Tensor],
    split: Split,
    path: Path,
    next_token: bool,
) -> Path:
    call = _Call.of(example_inputs, next_token, _padding_id(model))
    inputs = _examples(example_inputs, call)
    _check_precision(model)
    original = _evaluated(model)
    _try(original, inputs, call)
    halves = _Halves(_evaluated(model), split, inputs, call)
    _buffers_to_parameters(halves.model)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _frozen_values() as places:
            traced = _trace(halves, inputs, original)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            traced.save(str(temporary))
            try:
                _check(torch.jit.load(str(temporary)), original, split, inputs, call)
            except ExportError as error:
                raise ExportError(f"{error}{_told(places)}") from error.__cause__
    return path


def _check_precision(model: nn.Module) -> None:
    """Raise an error for half precision, in which no comparison would tell anything."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and tensor.dtype.itemsize < 4:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ExportError(
                f"`{name}` is {kind}: a program computes in float32; export a float32 copy, "
                "`copy.deepcopy(model).float()`, with float32 inputs"
            )


def _padding_id(model: nn.Module) -> int | None:
    """The token that stands for padding, where the model's configuration tells."""
    known = getattr(getattr(model, "config", None), "pad_token_id", None)
    return known if isinstance(known, int) and known >= 0 else None


@contextmanager
def _frozen_values() -> Iterator[set[str]]:
    """The lines of code in which the tracer makes a value of a tensor a constant."""
    places: set[str] = set()

    def note(message: Warning | str, *_: object, **__: object) -> None:
        frame = sys._getframe(1)
        while frame.f_back is not None and _is_torch(frame.f_code.co_filename):
            frame = frame.f_back
        if "to a Python" in str(message):
            places.add(f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}")

    with warnings.catch_warnings():
        warnings.simplefilter("always", torch.jit.TracerWarning)
        warnings.showwarning = note
        yield places


def _is_torch(file: str) -> bool:
    return file == warnings.__file__ or file.startswith(os.path.dirname(torch.__file__) + os.sep)


def _told(places: set[str]) -> str:
    """The same as a part of a message."""
    if not places:
        return ""
    listed = ", ".join(sorted(places)[:5]) + (", ..." if len(places) > 5 else "")
    return (
        ". A trace keeps for ever what was a Python boolean or number of a tensor, such as a "
        f"branch on data; that is so in {listed}"
    )


def embedding_split(model: nn.Module) -> str:
    """The `split` of a Hugging Face model of text, at which its tokens are masked.

    It is the submodule that `get_input_embeddings()` gives (`model.embed_tokens` in Llama and
    Qwen2), or the block `embeddings` around it where there is one (`bert.embeddings`), so that
    what is masked holds the position too.

    Raises:
        ExportError: if the model does not tell.
    """
    module = getattr(model, "get_input_embeddings", lambda: None)()
    names = [name for name, other in model.named_modules() if other is module]
    if module is None or not names:
        raise ExportError("the model has no `get_input_embeddings()`: name the split")
    parent = names[0].rpartition(".")[0]
    return parent if parent.rpartition(".")[2] == "embeddings" else names[0]


def image_split(model: nn.Module, example_inputs: Tensor, side: int = 8) -> str:
    """A `split` for a network of images: the first at which the picture has become features.

    It is the first submodule that everything passes through, exactly once, whose output is a
    feature map [C, H, W] of at most a quarter of the image's height and width, or of at most half,
    and at least `side` of each, so that it can be divided into patches. A layer that only prepares
    the next one (a convolution, a normalisation, an activation) counts where no block or pooling
    does: after a block, zero means that nothing was found.

    In torchvision that is `maxpool` in ResNet, `features.7` in VGG-11 with normalisation,
    `features.2` in AlexNet, MobileNetV2 and EfficientNet, `features.pool0` in DenseNet, and
    `conv_proj` in a vision transformer.

    Args:
        model: a network of images.
        example_inputs: images [B, C, H, W] of the size that it takes.
        side: least height and width of the features, in positions; as many as the patches a side.

    Raises:
        ExportError: if there is none: name one, or give `split=None` to mask the image itself.
    """
    with torch.device("cpu"):
        return _image_split(model, example_inputs, side)


def _image_split(model: nn.Module, example_inputs: Tensor, side: int) -> str:
    call = _Call.of(example_inputs, False, None)
    inputs = _examples(example_inputs, call)
    if len(inputs) != 1 or inputs[0].dim() != 4:
        raise ExportError(f"images are [B, C, H, W], got {[tuple(own.shape) for own in inputs]}")
    original = _evaluated(model)
    height, width = inputs[0].shape[2:]
    maps = _feature_maps(original, inputs, call)
    with torch.no_grad():
        for share, leaves in ((4, False), (2, False), (4, True), (2, True), (1, False)):
            for name, (rows, columns) in maps.items():
                is_small = share * rows <= height + share and share * columns <= width + share
                is_leaf = isinstance(original.get_submodule(name), _PREPARING)
                fits = is_small and min(rows, columns) >= side and is_leaf == leaves
                # Axes in another order give another shape.
                fits &= abs(rows * width - columns * height) <= max(height, width)
                if fits and _passes(original, name, inputs, call):
                    return _outermost(name, maps)
    raise ExportError(
        f"no submodule gives all features of the image as a map of at least {side} × {side}; take "
        f"a smaller `side` (it is {side}), name one as `split`, or give None to mask the image"
    )


_PREPARING = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.ReLU,
    nn.ReLU6,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.Identity,
    nn.modules.dropout._DropoutNd,
)
"""Layers after which features are not done."""


def _feature_maps(
    model: nn.Module, inputs: tuple[Tensor, ...], call: _Call
) -> dict[str, tuple[int, int]]:
    """Height and width of what submodules give that run once, in the order in which they end."""
    maps: dict[str, tuple[int, int]] = {}
    several: set[str] = set()

    def watch(name: str) -> Callable[..., None]:
        def note(_module: nn.Module, _inputs: object, output: object) -> None:
            if name in maps:
                several.add(name)
            elif isinstance(output, Tensor) and output.dim() == 4:
                maps[name] = (output.shape[2], output.shape[3])

        return note

    handles = [
        module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name
    ]
    try:
        _try(model, inputs, call)
    finally:
        for handle in handles:
            handle.remove()
    return {name: size for name, size in maps.items() if name not in several}


def _outermost(name: str, maps: dict[str, tuple[int, int]]) -> str:
    """The block around a submodule whose features are as large, as its last layer gives them."""
    above = name.rpartition(".")[0]
    return _outermost(above, maps) if maps.get(above) == maps[name] else name


def _passes(model: nn.Module, name: str, inputs: tuple[Tensor, ...], call: _Call) -> bool:
    """Whether nothing flows around the submodule: other images give what the model gives."""
    halves = _Halves(model, name, inputs, call)
    drawn = _draw(inputs, 3, call, torch.Generator().manual_seed(0))
    try:
        logits = halves.head(halves.features(*drawn))
    except (ExportError, RuntimeError):
        return False
    wanted = call.logits(model, drawn)
    limit = TOLERANCE * max(1.0, wanted.abs().max().item())
    return logits.shape == wanted.shape and (logits - wanted).abs().max().item() <= limit


@dataclass(frozen=True)
class _Call:
    """How the model is called: by which names, and what is asked of its logits."""

    names: tuple[str, ...] | None
    next_token: bool
    padding: int | None
    """The token that stands for padding, if it is known."""

    @classmethod
    def of(cls, example_inputs: object, next_token: bool, padding: int | None) -> _Call:
        names = tuple(example_inputs) if isinstance(example_inputs, Mapping) else None
        several = isinstance(example_inputs, Sequence) and len(example_inputs) > 1
        if next_token and several:
            raise ExportError(
                "`next_token` must know the attention mask: give `example_inputs` as a dict"
            )
        return cls(names, next_token, padding)

    def run(self, model: nn.Module, inputs: Sequence[Tensor]) -> object:
        """The model's output."""
        if self.names is None:
            return model(*inputs)
        return model(**dict(zip(self.names, inputs, strict=True)))

    def logits(self, model: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
        """The model's logits [B, K] by its ordinary forward pass."""
        logits = _logits(self.run(model, inputs))
        return self.at_last(logits, inputs[1:])[:, 0] if self.next_token else logits

    def at_last(self, sequence: Tensor, rest: Sequence[Tensor]) -> Tensor:
        """The last present position [B, 1, D] of a sequence [B, L, D]."""
        if sequence.dim() != 3:
            raise ExportError(
                f"`next_token` needs logits [B, L, K], the model gives {tuple(sequence.shape)}"
            )
        at = self.mask_at()
        if at is None:
            return sequence[:, -1:]
        # The count of present positions first reaches its largest value at the last of them.
        last = (rest[at - 1] != 0).long().cumsum(1).argmax(1)
        return sequence.gather(1, last[:, None, None].expand(-1, 1, sequence.shape[2]))

    def mask_at(self) -> int | None:
        """The index of the attention mask among the inputs."""
        names = self.names or ()
        return names.index(MASK) if MASK in names[1:] else None

    def tensor_names(self, count: int) -> list[str]:
        """Names of the inputs in the probe file."""
        names = self.names or tuple(f"inputs.{index}" for index in range(count))
        return ["inputs", *names[1:]]


class _Reached(Exception):
    """Carries the split's output out of the forward pass."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden


class _Halves(nn.Module):
    """The model as two methods."""

    example: Tensor

    def __init__(
        self, model: nn.Module, split: Split, inputs: Sequence[Tensor], call: _Call
    ) -> None:
        super().__init__()
        self.model = model
        self._split = split
        self._call = call
        self._is_text = _is_text(inputs)
        # A buffer and no constant, so that it moves to the device with the module.
        self.register_buffer("example", inputs[0][:1].clone())
        if isinstance(split, str) and split not in dict(model.named_modules()):
            near = ", ".join(f"`{name}`" for name, _ in model.named_children())
            raise ExportError(f"the model has no submodule `{split}`; at the top it has {near}")

    def features(self, *inputs: Tensor) -> Tensor:
        """[B, ...] -> the split's output [B, ...]."""
        if self._split is None:
            return inputs[0]
        if not isinstance(self._split, str):
            return _first(self._split[0](self.model, *inputs), "features")

        def leave(_module: nn.Module, _inputs: object, output: object) -> None:
            raise _Reached(_first(output, _name(self._split)))

        with self._hook(leave):
            try:
                self._call.run(self.model, inputs)
            except _Reached as reached:
                return reached.hidden
        raise ExportError(f"the forward pass does not run the submodule `{self._split}`")

    def head(self, hidden: Tensor, *rest: Tensor) -> Tensor:
        """The split's output [B, ...], and the inputs after the first -> logits [B, K]."""
        if self._split is None:
            return self._run(hidden, rest)
        if not isinstance(self._split, str):
            logits = _logits(self._split[1](self.model, hidden, *rest))
            return self._call.at_last(logits, rest)[:, 0] if self._call.next_token else logits
        runs = 0

        def replace(_module: nn.Module, _inputs: object, output: object) -> object:
            nonlocal runs
            runs += 1
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        with self._hook(replace):
            logits = self._run(self._dummy(hidden), rest)
        if runs != 1:
            raise ExportError(f"`{self._split}` runs {runs} times in a forward pass, wanted once")
        return logits

    def _dummy(self, hidden: Tensor) -> Tensor:
        """An input for the forward pass whose hidden layer is replaced: the example, or for text
        its first token at every position, as samples may be shorter or longer than the example."""
        if self._is_text and hidden.dim() == 3:
            return self.example[:, :1].expand(hidden.shape[0], hidden.shape[1])
        return self.example.expand(hidden.shape[0], *self.example.shape[1:])

    def _run(self, first: Tensor, rest: Sequence[Tensor]) -> Tensor:
        """Logits [B, K]; of a language model at the last present position."""
        if not self._call.next_token:
            return _logits(self._call.run(self.model, (first, *rest)))
        output = getattr(self.model, "get_output_embeddings", lambda: None)()
        if output is None:
            return self._call.logits(self.model, (first, *rest))

        def keep_last(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (self._call.at_last(inputs[0], rest), *inputs[1:])

        handle = output.register_forward_pre_hook(keep_last)
        try:
            return _logits(self._call.run(self.model, (first, *rest)))[:, 0]
        finally:
            handle.remove()

    @contextmanager
    def _hook(self, hook: Callable[..., object]) -> Iterator[None]:
        handle = self.model.get_submodule(str(self._split)).register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()


def _examples(
    example_inputs: Tensor | Sequence[Tensor] | Mapping[str, Tensor], call: _Call
) -> tuple[Tensor, ...]:
    """The inputs as a tuple on the CPU with a batch of at least two, padded somewhere."""
    given: Sequence[Any]
    if hasattr(example_inputs, "shape"):
        # One tensor, or an array of NumPy.
        given = (example_inputs,)
    elif isinstance(example_inputs, Mapping):
        given = tuple(example_inputs.values())
    else:
        given = tuple(example_inputs)
    inputs = [torch.as_tensor(own).detach().cpu() for own in given]
    sizes = {tensor.shape[0] if tensor.dim() else 0 for tensor in inputs}
    if len(sizes) != 1 or sizes == {0}:
        raise ExportError("`example_inputs` must be tensors with the same, non-empty batch first")
    inputs = [torch.cat([t, t]) if len(t) == 1 else t for t in inputs]
    if _is_text(inputs) and inputs[0].shape[1] < 2:
        raise ExportError("`example_inputs` needs 2 tokens or more: a length of 1 is baked in")
    at = call.mask_at()
    if at is not None and inputs[at].all():
        inputs[at] = inputs[at].clone()
        inputs[at][0, -1] = 0
    return tuple(inputs)


def _try(model: nn.Module, inputs: tuple[Tensor, ...], call: _Call) -> None:
    """Run the model on the examples, so that a mistake in them is told as one."""
    try:
        with torch.no_grad():
            call.run(model, inputs)
    except Exception as error:
        shapes = ", ".join(str(list(own.shape)) for own in inputs)
        raise ExportError(
            f"the model does not run on `example_inputs` of shape {shapes} (a single sample is "
            f"doubled): {error}; give a batch as the training does, samples first"
        ) from error


def _is_text(inputs: Sequence[Tensor]) -> bool:
    """Whether the first input is token ids [B, L]."""
    return inputs[0].dim() == 2 and not inputs[0].is_floating_point()


def _evaluated(model: nn.Module) -> nn.Module:
    """A copy of the model in eval mode on the CPU, out of its training wrappers."""
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        inner = model.module if isinstance(model, wrappers) else getattr(model, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            break
        model = inner
    model = copy.deepcopy(model).cpu().eval()
    # A language model that keeps keys and values for the next token does so in vain.
    config: Any = getattr(model, "config", None)
    if hasattr(config, "use_cache"):
        config.use_cache = False
    return model


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
        raise ExportError(
            f"logits must be [B, K], the model gives {tuple(logits.shape)}; a language model needs "
            "`next_token=True`"
        )
    calls = {"features": inputs, "head": (hidden, *inputs[1:])}
    try:
        traced = torch.jit.trace_module(halves, calls, check_trace=False)
    except Exception as error:
        raise ExportError(f"the model cannot be traced: {error}") from error
    meta = {
        "format": FORMAT,
        "split": _name(halves._split),
        "prefix": PREFIX,
        "features_shape": list(hidden.shape[1:]),
        "input_shapes": [list(tensor.shape[1:]) for tensor in inputs],
        "inputs": halves._call.tensor_names(len(inputs)),
        "classes": logits.shape[1],
        "next_token": halves._call.next_token,
        "aliases": _aliases(original),
        "torch": torch.__version__,
    }
    try:
        settle(traced)
    except ValueError as error:
        raise ExportError(f"the model cannot be moved to another device: {error}") from error
    literal = json.dumps(json.dumps(meta))
    traced.define(f"def attach_meta(self) -> str:\n    return {literal}\n")
    return traced


def _aliases(model: nn.Module) -> list[list[str]]:
    """Groups of parameter names in the file that share one tensor (tied weights)."""
    groups: dict[int, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        groups.setdefault(id(tensor), []).append(PREFIX + name)
    return [names for names in groups.values() if len(names) > 1]


def _name(split: Split) -> str | None:
    """How the split is called in messages and in the file."""
    if split is None or isinstance(split, str):
        return split
    return ", ".join(getattr(part, "__name__", type(part).__name__) for part in split)


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
    split: Split,
    inputs: tuple[Tensor, ...],
    call: _Call,
) -> None:
    """Compare the file with the model, as exported and again after the weights changed."""
    parameters = dict(program.named_parameters(remove_duplicate=False))
    wanted = {PREFIX + name for name in model.state_dict()}
    if wanted != set(parameters):
        names = ", ".join(sorted(wanted ^ set(parameters))[:5])
        raise ExportError(f"the names in the file are not those of the state dict: {names}")
    generator = torch.Generator().manual_seed(0)
    _compare(program, model, split, inputs, call, generator, changed=False)
    _disturb(model, generator)
    for name, tensor in model.state_dict().items():
        parameters[PREFIX + name].copy_(tensor)
    _compare(program, model, split, inputs, call, generator, changed=True)


def _compare(
    program: torch.jit.ScriptModule,
    model: nn.Module,
    split: Split,
    inputs: tuple[Tensor, ...],
    call: _Call,
    generator: torch.Generator,
    changed: bool,
) -> None:
    """Compare logits on random inputs; `changed` says whether the weights were replaced."""
    for batch in CHECKED_BATCH_SIZES:
        drawn = _draw(inputs, batch, call, generator)
        try:
            wanted = call.logits(model, drawn)
        except RuntimeError:
            # A model of text that takes one length only.
            drawn = _draw(inputs, batch, call, generator, shorter=False)
            wanted = call.logits(model, drawn)
        try:
            logits = program.head(program.features(*drawn), *drawn[1:])
        except RuntimeError as error:
            raise ExportError(
                f"the program fails for {_size(drawn)}, so a size was baked in: {error}"
            ) from error
        _same(logits, wanted, split, drawn, changed)
    _compare_enlarged(program, model, split, drawn, call, changed)


def _compare_enlarged(
    program: torch.jit.ScriptModule,
    model: nn.Module,
    split: Split,
    drawn: tuple[Tensor, ...],
    call: _Call,
    changed: bool,
) -> None:
    """The same for inputs several times as large, where the model takes them."""
    if not drawn[0].is_floating_point():
        return
    drawn = tuple(own[:2] for own in drawn)
    for scale in (ENLARGED, -ENLARGED):
        # Of one sign, so that sums are large too.
        large = (drawn[0].abs() * scale, *drawn[1:])
        try:
            wanted = call.logits(model, large)
        except Exception:
            # They may be out of what the model is for; then nothing is known of it.
            continue
        if wanted.isfinite().all():
            logits = program.head(program.features(*large), *large[1:])
            _same(logits, wanted, split, large, changed, ENLARGED)


def _same(
    logits: Tensor,
    wanted: Tensor,
    split: Split,
    drawn: tuple[Tensor, ...],
    changed: bool,
    scale: float = 1.0,
) -> None:
    """Raise an error for logits that are not those that were wanted."""
    error = (logits - wanted).abs().max().item() if logits.shape == wanted.shape else None
    if error is None or not error <= scale * TOLERANCE * max(1.0, wanted.abs().max().item()):
        size = _size(drawn) if scale == 1.0 else f"{_size(drawn)} {scale:g} times as large"
        raise ExportError(_mismatch(_name(split), size, error, changed))


def _mismatch(split: str | None, size: str, error: float | None, changed: bool) -> str:
    found = "logits have another shape" if error is None else f"logits differ by {error:.3g}"
    if changed:
        return (
            f"with other weights the program is not the model: {found} for {size}. Does "
            "the model turn a weight into a Python number, or keep a copy outside its state dict?"
        )
    if split is None:
        return f"the traced program is not the model: {found} for {size}"
    return (
        f"`head(features(x))` is not `model(x)`: {found} for {size}. Does a skip "
        f"connection lead around `{split}`, or does the model use its input again after it? Try "
        "a split that everything passes through, or None to mask at the input"
    )


def _size(drawn: tuple[Tensor, ...]) -> str:
    length = f" of {drawn[0].shape[1]} tokens" if _is_text(drawn) else ""
    return f"{len(drawn[0])} samples{length}"


def _draw(
    inputs: tuple[Tensor, ...],
    batch: int,
    call: _Call,
    generator: torch.Generator,
    shorter: bool = True,
) -> tuple[Tensor, ...]:
    """Random inputs like the examples: the first of new values, the others of example rows.

    Samples of text are shorter than the examples by up to a third, and padded at the left, at the
    right and not at all where there is a mask.
    """
    first = inputs[0]
    rows = torch.randint(len(first), (batch,), generator=generator)
    rest = [tensor[rows] for tensor in inputs[1:]]
    shape = (batch, *first.shape[1:])
    if first.is_floating_point():
        spread = first.std().clamp(min=0.1)
        drawn = torch.randn(shape, generator=generator, dtype=first.dtype) * spread + first.mean()
        return (drawn, *rest)
    drawn = first.flatten()[torch.randint(first.numel(), shape, generator=generator)]
    if not _is_text(inputs):
        return (drawn, *rest)
    longest = first.shape[1]
    length = max(2, longest - batch % (1 + longest // 3)) if shorter else longest
    at = call.mask_at()
    if at is not None:
        mask = rest[at - 1]
        mask.fill_(1)
        mask[0::3, : longest // 3] = 0
        mask[1::3, length - length // 3 :] = 0
        if call.padding is not None:
            drawn = drawn.masked_fill(mask == 0, call.padding)
    along = [t[:, :length] if t.dim() > 1 and t.shape[1] == longest else t for t in rest]
    return (drawn[:, :length], *along)


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
