"""What is changed in a model before OpenVINO compiles it: the same numbers, made with less work.

- The picture is taken in bytes, rows of ``W * C``: a quarter of the traffic, and conversion to the network's numbers is
  one fused step (measured: the reshape that follows makes channels-last cost nothing; a 4-dimensional input is transposed twice).
- YOLOX's Focus, and whatever else merely moves pixels into channels before the first convolution, is folded into that
  convolution: a 3x3 one over 12 channels of a quarter of the pixels is a 6x6 one of stride 2 over 3 channels.
- A transpose before an output is left to numpy, for which it is a view.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.inputspec import InputSpec
from streamdet.types import F32

__all__ = ["constant_of", "fold_rearrangement", "in_bytes", "named_input", "turned_outputs"]

_MOVES = {"Slice", "StridedSlice", "Concat", "Reshape", "Transpose", "SpaceToDepth", "Split", "VariadicSplit"}


@dataclass(frozen=True, slots=True)
class _Folded:
    """A convolution over the picture itself: ``kernel`` (O, C, kh, block, kw, block) covers kh x kw blocks of px."""

    convolution: Any
    kernel: F32
    block: int


def named_input(model: Any, name: str) -> Any:
    """The parameter of that name."""
    return next(node for node in model.get_parameters() if name in node.output(0).get_names())


def fold_rearrangement(model: Any, name: str) -> bool:
    """Fold what moves pixels of the input `name` into channels into the convolution behind it; False: there is nothing such.

    Its shape must be fixed.
    """
    import openvino.opset13 as op

    picture = named_input(model, name)
    folded = _folded(model, picture)
    if folded is None:
        return False
    count, channels, rows, _, columns, _ = folded.kernel.shape
    kernel = folded.kernel.reshape(count, channels, rows * folded.block, columns * folded.block)
    block = (folded.block, folded.block)
    _put(folded.convolution, op.convolution(picture, op.constant(kernel), **_window(folded.convolution, block)))
    model.validate_nodes_and_infer_types()
    return True


def in_bytes(model: Any, name: str, spec: InputSpec) -> Any:
    """A model that takes the picture `name` as (N, H, W * C) bytes, normalised inside as `spec` says. Its shape must be fixed."""
    import openvino
    import openvino.opset13 as op

    picture = named_input(model, name)
    batch, channels, height, width = picture.get_output_shape(0)
    taken = op.parameter([batch, height, width * channels], np.uint8, name=name)
    folded = _folded(model, picture)
    if (
        folded is not None
    ):  # px side by side become channels by reshape alone; those below each other stay rows of the kernel
        block = folded.block
        values = _planes(taken, [batch, height, width // block, block * channels], spec)
        kernel = folded.kernel.transpose(0, 5, 1, 2, 3, 4)
        kernel = kernel.reshape(len(kernel), block * channels, -1, kernel.shape[5])
        made = op.convolution(values, op.constant(kernel), **_window(folded.convolution, (block, 1)))
        _put(folded.convolution, made)
    for reader in list(picture.output(0).get_target_inputs()):
        reader.replace_source_output(_planes(taken, [batch, height, width, channels], spec).output(0))
    taken.output(0).set_names({name})
    others = [node for node in model.get_parameters() if node.get_friendly_name() != picture.get_friendly_name()]
    return openvino.Model(model.get_results(), [taken, *others], model.get_friendly_name())


def turned_outputs(model: Any) -> dict[str, tuple[int, tuple[int, ...] | None]]:
    """Take transposes off the outputs: by name, which output it is now, and the axes numpy has to turn it by."""
    found: dict[str, tuple[int, tuple[int, ...] | None]] = {}
    for index, result in enumerate(model.get_results()):
        names = list(model.outputs[index].get_names())
        node, axes = result.input_value(0).get_node(), None
        order = constant_of(node.input_value(1)) if node.get_type_name() == "Transpose" else None
        if order is not None and order.size:
            axes = tuple(int(axis) for axis in order)
            result.input(0).replace_source_output(node.input_value(0))
        found |= dict.fromkeys(names, (index, axes))
    model.validate_nodes_and_infer_types()
    return found


def _planes(taken: Any, shape: list[int], spec: InputSpec) -> Any:
    """(N, H, W * C) bytes as (N, C, H, W) numbers the network wants; `shape`: NHWC, of which C may hold several px."""
    import openvino.opset13 as op

    values = op.convert(taken, "f32")
    gains, offsets = zip(*(_affine(spec, index) for index in range(len(spec.channels))))
    across = taken.get_output_shape(0)[2] // len(gains)  # a row at a time: a few channels are too short for its vectors
    if any(gain != 1.0 for gain in gains):
        values = op.multiply(values, op.constant(np.tile(np.asarray(gains, np.float32), across)))
    if any(offsets):
        values = op.add(values, op.constant(np.tile(np.asarray(offsets, np.float32), across)))
    return op.transpose(op.reshape(values, shape, special_zero=False), np.asarray([0, 3, 1, 2], np.int64))


def _affine(spec: InputSpec, index: int) -> tuple[float, float]:
    """What a byte of channel `index` is multiplied by, and what is added. Differences come in levels about 128."""
    gain, offset = spec.affine(index)
    return (gain, -128 * gain) if spec.parsed[index].signed else (gain, offset)


def _put(old: Any, new: Any) -> None:
    for reader in list(old.output(0).get_target_inputs()):
        reader.replace_source_output(new.output(0))


def _window(convolution: Any, block: tuple[int, int]) -> dict[str, Any]:
    """Strides and paddings of a convolution over blocks, told in px."""
    said = convolution.get_attributes()
    scaled = {
        key: [size * times for size, times in zip(said[key], block)] for key in ("strides", "pads_begin", "pads_end")
    }
    return {**scaled, "dilations": [1, 1]}


def _folded(model: Any, picture: Any) -> _Folded | None:
    """The first convolution, if nothing but moving px lies between the picture and it."""
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Convolution":
            continue
        said, weights = node.get_attributes(), constant_of(node.input_value(1))
        moved = _moved(node.input_value(0), picture)
        plain = list(said["dilations"]) == [1, 1] and said.get("auto_pad", "explicit") in ("explicit", "notset")
        if moved is None or weights is None or weights.ndim != 4 or not plain:
            return None
        block, places = moved
        if weights.shape[1] != len(places):
            return None
        count, _, rows, columns = weights.shape
        channels = picture.get_output_shape(0)[1]
        kernel = np.zeros((count, channels, rows, block, columns, block), np.float32)
        for index, (channel, y, x) in enumerate(places):
            kernel[:, channel, :, y, :, x] += weights[:, index]
        return _Folded(node, kernel, block)
    return None


def _moved(source: Any, picture: Any) -> tuple[int, list[tuple[int, int, int]]] | None:
    """Which px of a block of the picture each channel of `source` shows: seen by sending numbered px through."""
    if not _only_moves(source.get_node(), picture):
        return None
    picture_shape, shape = tuple(picture.get_output_shape(0)), tuple(source.get_shape())
    if len(shape) != 4 or not shape[2]:
        return None
    batch, channels, height, width = picture_shape
    block = height // shape[2]
    if block < 2 or (batch, channels * block**2, height, width) != (*shape[:2], shape[2] * block, shape[3] * block):
        return None
    sent = _sent_through(source, picture, block)
    if sent is None:
        return None
    given, shown = sent
    height, width = given.shape[2:]
    places = []
    for plane in shown[0]:
        channel, rest = divmod(int(plane[0, 0]), height * width)
        y, x = divmod(rest, width)
        if y >= block or x >= block or not np.array_equal(plane, given[0, channel, y::block, x::block]):
            return None
        places.append((channel, y, x))
    return block, places


def _sent_through(source: Any, picture: Any, block: int) -> tuple[F32, F32] | None:
    """Px that bear their numbers, and what `source` makes of them: in a small picture, if it takes one (the shape is known)."""
    import openvino

    batch, channels = tuple(picture.get_output_shape(0))[:2]
    model = openvino.Model([source], [picture], "moves").clone()
    with contextlib.suppress(RuntimeError):
        model.reshape([batch, channels, block * 6, block * 8])
    if list(model.outputs[0].partial_shape.get_min_shape()) != [batch, channels * block**2, 6, 8]:
        model = openvino.Model([source], [picture], "moves")
    _, _, height, width = tuple(model.inputs[0].shape)
    if channels * height * width > 1 << 24:  # numbers that f32 tells apart
        return None
    numbers = np.arange(channels * height * width, dtype=np.float32).reshape(1, channels, height, width)
    out = openvino.Tensor(np.zeros(tuple(model.outputs[0].shape), np.float32))
    model.evaluate([out], [openvino.Tensor(np.repeat(numbers, batch, axis=0))])
    return numbers, np.asarray(out.data)


def _only_moves(node: Any, picture: Any) -> bool:
    """Whether `node` is made from the picture by slices, joins and the like, and from nothing else."""
    todo, seen = [node], set()
    if node.get_friendly_name() == picture.get_friendly_name():
        return False
    while todo:
        one = todo.pop()
        name = one.get_friendly_name()
        if name in seen or name == picture.get_friendly_name() or one.get_type_name() == "Constant":
            continue
        if one.get_type_name() not in _MOVES:
            return False
        seen.add(name)
        todo += [value.get_node() for value in one.input_values()]
    return True


def constant_of(value: Any) -> NDArray[Any] | None:
    """Its numbers; None if it is computed. Weights in half precision are told in single."""
    node = value.get_node()
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant":
        return None
    data = np.asarray(node.data)
    return data.astype(np.float32) if data.dtype.kind == "f" else data
