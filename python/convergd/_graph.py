"""What tracing writes into a program that belongs to the machine that traced it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

_CONVOLUTION, _OF_CONVOLUTION = "aten::_convolution", 9
"""Of its 13 inputs the last four are flags of cuDNN; `aten::convolution` has the others."""


def settle(program: torch.jit.ScriptModule) -> None:
    """Let a traced program run as the process that loads it says.

    New tensors are made on the device of the inputs, not on the CPU of the trace, and convolutions
    take cuDNN's flags (TF32, determinism) from the process and not from the trace.

    Raises:
        ValueError: if a tensor is made on a device where no input tells another.
    """
    for graph in _graphs(program):
        _follow_inputs(graph)
        _forget_flags(graph)


def _graphs(program: torch.jit.ScriptModule) -> Iterator[Any]:
    """Those of all methods of all modules."""
    for module in program.modules():
        # PyTorch's stubs know little of what a script is made of.
        compiled: Any = module._c
        for name in compiled._method_names():
            yield compiled._get_method(name).graph


def _follow_inputs(graph: torch._C.Graph) -> None:
    """Replace constant devices by that of the first tensor among the inputs."""
    constants = [
        node
        for node in graph.findAllNodes("prim::Constant")  # type: ignore[attr-defined]
        if node.output().type().kind() == "DeviceObjType"
    ]
    if not constants:
        return
    tensors = [own for own in graph.inputs() if own.type().kind() == "TensorType"]
    if not tensors:
        raise ValueError("a tensor is made on a fixed device, in a part without inputs")
    device = graph.create("prim::device", [tensors[0]], 1)
    device.output().setType(torch._C.DeviceObjType.get())
    device.insertBefore(next(graph.nodes()))
    for node in constants:
        node.output().replaceAllUsesWith(device.output())
        node.destroy()


def _forget_flags(graph: torch._C.Graph) -> None:
    """Replace convolutions by those without flags."""
    for node in graph.findAllNodes(_CONVOLUTION):  # type: ignore[attr-defined]
        inputs = list(node.inputs())[:_OF_CONVOLUTION]
        plain = graph.create("aten::convolution", inputs, 1)
        plain.output().setType(node.output().type())
        plain.insertBefore(node)
        node.output().replaceAllUsesWith(plain.output())
        node.destroy()
