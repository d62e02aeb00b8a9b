"""Widening the first layers of an ONNX graph: more input channels, the same answer (L4; the only reader of `onnx`).

From the picture input the graph is followed through everything that only rearranges or scales pixels (the *stem*: Focus
slices, space-to-depth, Transpose, normalisation, Pad, Resize, a swap of colours) to the convolutions behind it. Each of them
gets the extra channels, brought to its grid by the same rearrangements but not by the normalisation, appended to what it had,
with weights of zero. The colours go the way they went before, so nothing they touch changes.

A convolution with more channels may sum in another order, and a deep network makes 1e-4 of that. `apart` therefore gives the
extra channels a convolution of their own, whose result (zero) is added: the same arithmetic to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from streamdet.errors import ModelError

__all__ = ["widen_graph"]

_POINTWISE = {"Mul", "Div", "Add", "Sub", "BatchNormalization", "Clip", "Identity", "Dropout", "Cast"}
_SPATIAL = {"Slice", "Pad", "Resize", "Upsample", "SpaceToDepth", "MaxPool", "AveragePool"}
_QUANTISED = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "DynamicQuantizeLinear"}


class _NotRearranged(Exception):
    """The way to a convolution holds something that does more than rearrange pixels."""


@dataclass(slots=True)
class _Stem:
    """What is known while the graph is followed. ``axis``: of the channels, by tensor of the stem."""

    graph: Any
    opset: int
    picture: str
    colours: int
    extra: int
    apart: bool
    axis: dict[str, int]
    maker: dict[str, Any]  # tensor -> the node that makes it
    constants: dict[str, NDArray[Any]]
    made: dict[str, str] = field(default_factory=dict)  # tensor of the stem -> the extra channels on its grid
    nodes: list[Any] = field(default_factory=list)  # new nodes, in order

    def name(self, text: str) -> str:
        return f"streamdet_wide_{text}_{len(self.nodes)}"

    def add(self, kind: str, inputs: list[str], text: str, **attributes: Any) -> str:
        out = self.name(text)
        self.nodes.append(helper.make_node(kind, inputs, [out], name=out, **attributes))
        return out

    def constant(self, value: NDArray[Any], text: str) -> str:
        name = f"streamdet_wide_{text}_{len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(value, name))
        return name


def widen_graph(model: Any, *, picture: str, colours: int, extra: int, nhwc: bool, apart: bool = False) -> list[str]:
    """Give the input `picture` of `model` (changed in place) `extra` more channels behind its `colours`.

    Returns the names of the convolutions that were widened. Raises ModelError if there is none in reach, or the network is
    quantised.
    """
    graph = model.graph
    if any(node.op_type in _QUANTISED for node in graph.node):
        raise ModelError(
            "the network is quantised (int8), and zero weights would shift its scales; widen the float one"
        )
    _constants_out_of_inputs(model)
    stem = _Stem(
        graph=graph,
        opset=max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=13),
        picture=picture,
        colours=colours,
        extra=extra,
        apart=apart,
        axis={picture: 3 if nhwc else 1},
        maker={name: node for node in graph.node for name in node.output},
        constants=_constants(graph),
    )
    reached = _follow(stem)
    names = {id(node): node.name or node.output[0] for node in graph.node}
    widened = [
        node for node in graph.node if node.op_type == "Conv" and node.input[0] in reached and _widen(stem, node)
    ]
    if not widened:
        raise ModelError(
            f"no convolution is in reach of the input '{picture}' (what comes first is {_first(graph, picture)}); "
            "export the network with a convolution as its first layer"
        )
    _feed_colours(stem, set() if apart else {id(node) for node in widened})
    _reorder(stem)
    dimensions = next(port for port in graph.input if port.name == picture).type.tensor_type.shape.dim
    dimensions[3 if nhwc else 1].dim_value = colours + extra
    del graph.value_info[:]
    return [names[id(node)] for node in widened]


def _constants_out_of_inputs(model: Any) -> None:
    """Files of IR version 3 list their weights among the inputs."""
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = [port for port in model.graph.input if port.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.ir_version = max(model.ir_version, 4)


def _constants(graph: Any) -> dict[str, NDArray[Any]]:
    known = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            known[node.output[0]] = node.attribute[0].t
    return {
        name: numpy_helper.to_array(tensor)
        for name, tensor in known.items()
        if tensor.data_type != TensorProto.BFLOAT16 and tensor.data_location != TensorProto.EXTERNAL
    }


def _first(graph: Any, picture: str) -> str:
    kinds = dict.fromkeys(node.op_type for node in graph.node if picture in node.input)
    return ", ".join(kinds) or "nothing"


def _follow(stem: _Stem) -> set[str]:
    """Tensors that are the picture, rearranged: ``stem.axis`` says where their channels are."""
    for node in stem.graph.node:
        data = [name for name in node.input if name in stem.axis]
        if not data or node.op_type == "Conv":
            continue
        axis = _axis_after(stem, node, data)
        if axis is not None:
            for name in node.output:
                stem.axis[name] = axis
    return set(stem.axis)


def _axis_after(stem: _Stem, node: Any, data: list[str]) -> int | None:
    """The channel axis of what `node` makes of a tensor of the stem; None where the stem ends."""
    axis = stem.axis[data[0]]
    if node.op_type == "Concat":
        same = len(data) == len(node.input) and len({stem.axis[name] for name in data}) == 1
        return axis if same and _attribute(node, "axis", 0) % 4 == axis else None
    if node.input[0] != data[0] and node.op_type not in ("Mul", "Add"):
        return None
    if node.op_type == "Transpose":
        return list(_attribute(node, "perm", [3, 2, 1, 0])).index(axis)
    if node.op_type in _POINTWISE and len(data) == 1:
        return axis
    if node.op_type in ("Gather", "Split") and _attribute(node, "axis", 0) % 4 == axis:
        return axis
    if node.op_type in _SPATIAL and (axis == 1 or node.op_type in ("Slice", "Pad", "Resize")):
        return axis
    return None


def _attribute(node: Any, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(found) for found in node.attribute if found.name == name), default)


def _extra_of(stem: _Stem, tensor: str) -> str:
    """The name of the extra channels on the grid of `tensor`, of the stem; its nodes are added where they are missing."""
    if tensor in stem.made:
        return stem.made[tensor]
    if tensor == stem.picture:
        made = _slice_channels(stem, tensor, stem.colours, stem.colours + stem.extra)
    else:
        node = stem.maker[tensor]
        data = [name for name in node.input if name in stem.axis]
        before = [_extra_of(stem, name) for name in data]
        if node.op_type == "Cast":
            made = stem.add("Cast", before[:1], "cast", to=_attribute(node, "to", TensorProto.FLOAT))
        elif node.op_type == "Concat":
            parts = list(dict.fromkeys(before))  # a swap of colours joins what came from one tensor
            made = parts[0] if len(parts) == 1 else stem.add("Concat", before, "concat", axis=stem.axis[tensor])
        elif node.op_type in _POINTWISE or node.op_type in ("Gather", "Split") or _slices_channels(stem, node):
            made = before[0]
        else:
            made = _clone(stem, node, tensor, before[0])
    stem.made[tensor] = made
    return made


def _slice_channels(stem: _Stem, tensor: str, first: int, end: int) -> str:
    axis = stem.axis[tensor]
    if stem.opset < 10:
        return stem.add("Slice", [tensor], "channels", starts=[first], ends=[end], axes=[axis])
    bounds = [stem.constant(np.array([value], np.int64), "bound") for value in (first, end, axis)]
    return stem.add("Slice", [tensor, *bounds], "channels")


def _slices_channels(stem: _Stem, node: Any) -> bool:
    """A Slice along the channels chooses colours, which is of no account for the others. Raises _NotRearranged if unclear."""
    if node.op_type not in ("Slice", "Pad"):
        return False
    channels = stem.axis[node.input[0]]
    if node.op_type == "Pad":
        pads = _attribute(node, "pads", None)
        if pads is None and len(node.input) > 1:
            pads = stem.constants.get(node.input[1])
        if pads is None or pads[channels] or pads[channels + 4]:
            raise _NotRearranged
        return False
    axes = _attribute(node, "axes", None)
    if axes is None and len(node.input) > 3 and node.input[3]:
        axes = stem.constants.get(node.input[3])
    if axes is None:
        raise _NotRearranged
    along = {int(axis) % 4 for axis in axes}
    if channels in along and len(along) > 1:
        raise _NotRearranged
    return channels in along


def _clone(stem: _Stem, node: Any, tensor: str, source: str) -> str:
    """`node` once more, for the extra channels."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[0] = source
    if node.op_type == "Resize" and len(node.input) > 3 and node.input[3]:
        sizes = stem.constants.get(node.input[3])
        if sizes is None:
            raise _NotRearranged
        sizes = sizes.copy()
        sizes[stem.axis[node.input[0]]] = stem.extra
        copy.input[3] = stem.constant(sizes, "sizes")
    out = stem.name(node.op_type.lower())
    del copy.output[:]
    copy.output.append(out)
    copy.name = out
    stem.nodes.append(copy)
    return out


def _widen(stem: _Stem, node: Any) -> bool:
    """Give `node` (a Conv on a tensor of the stem) the extra channels; False if it cannot take them."""
    weights = stem.constants.get(node.input[1])
    tensor = node.input[0]
    if weights is None or weights.dtype.kind != "f" or _attribute(node, "group", 1) != 1 or stem.axis[tensor] != 1:
        return False
    try:
        extra = _extra_of(stem, tensor)
    except _NotRearranged:
        return False
    more = _extra_channels(stem, tensor)
    zeros = np.zeros((weights.shape[0], more, *weights.shape[2:]), weights.dtype)
    if stem.apart:
        _add_beside(stem, node, extra, zeros)
        return True
    node.input[1] = stem.constant(np.concatenate([weights, zeros], axis=1), "weights")
    if tensor != stem.picture:  # else the input itself has them in the right order
        node.input[0] = stem.add("Concat", [tensor, extra], "all", axis=1)
    return True


def _add_beside(stem: _Stem, node: Any, extra: str, zeros: NDArray[Any]) -> None:
    """A convolution of the extra channels alone, added to what `node` gives."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    del copy.input[:]
    copy.input.extend([extra, stem.constant(zeros, "weights")])
    before, copy.output[0] = stem.name("before"), stem.name("beside")
    copy.name = copy.output[0]
    out, node.output[0] = node.output[0], before
    stem.nodes += [copy, helper.make_node("Add", [before, copy.output[0]], [out], name=f"{copy.name}_add")]


def _extra_channels(stem: _Stem, tensor: str) -> int:
    """How many extra channels there are on the grid of `tensor` (Focus and space-to-depth multiply them)."""
    if tensor == stem.picture:
        return stem.extra
    node = stem.maker[tensor]
    data = [name for name in node.input if name in stem.axis]
    count = _extra_channels(stem, data[0])
    if node.op_type == "SpaceToDepth":
        return count * int(_attribute(node, "blocksize", 1)) ** 2
    if node.op_type == "Concat":
        parts = dict.fromkeys(stem.made[name] for name in data)
        return sum(_extra_channels(stem, next(n for n in data if stem.made[n] == part)) for part in parts)
    return count


def _feed_colours(stem: _Stem, widened: set[int]) -> None:
    """Whoever read the picture before reads its colours now, but for the widened convolutions on it and the extra channels."""
    readers = [
        node
        for node in stem.graph.node
        if stem.picture in node.input and not (id(node) in widened and node.input[0] == stem.picture)
    ]
    if not readers:
        return
    colours = _slice_channels(stem, stem.picture, 0, stem.colours)
    for node in readers:
        for number, name in enumerate(node.input):
            if name == stem.picture:
                node.input[number] = colours


def _reorder(stem: _Stem) -> None:
    """New and old nodes in an order in which each comes after what it reads."""
    nodes = [*stem.nodes, *stem.graph.node]
    made = {name for node in nodes for name in node.output}
    ready: set[str] = set()
    ordered: list[Any] = []
    while nodes:
        rest = []
        for node in nodes:
            if all(name in ready or name not in made for name in _read(node)):
                ordered.append(node)
                ready.update(node.output)
            else:
                rest.append(node)
        if len(rest) == len(nodes):
            raise ModelError("the graph of the model has a circle; export it again")
        nodes = rest
    copies = [onnx.NodeProto() for _ in ordered]
    for copy, node in zip(copies, ordered):
        copy.CopyFrom(node)
    del stem.graph.node[:]
    stem.graph.node.extend(copies)


def _read(node: Any) -> Iterable[str]:
    """What `node` reads, also inside its branches."""
    yield from node.input
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            for inner in graph.node:
                yield from _read(inner)
