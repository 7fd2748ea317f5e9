"""What tracing writes into a program that belongs to the machine that traced it."""

from __future__ import annotations

from collections.abc import Iterator

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


def _graphs(program: torch.jit.ScriptModule) -> Iterator[torch._C.Graph]:
    """Those of all methods of all modules."""
    for module in program.modules():
        for name in module._c._method_names():
            yield module._c._get_method(name).graph


def _follow_inputs(graph: torch._C.Graph) -> None:
    """Replace constant devices by that of the first tensor among the inputs."""
    constants = [
        node
        for node in graph.findAllNodes("prim::Constant")
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
    for node in graph.findAllNodes(_CONVOLUTION):
        inputs = list(node.inputs())[:_OF_CONVOLUTION]
        plain = graph.create("aten::convolution", inputs, 1)
        plain.output().setType(node.output().type())
        plain.insertBefore(node)
        node.output().replaceAllUsesWith(plain.output())
        node.destroy()
