"""A copy of a model in half precision: TensorRT's networks are strongly typed, so the precision must be in the file.

The converter is onnxruntime's own (``onnxruntime.transformers.float16``). What turns raw answers into scores and boxes stays
in fp32, and so do the outputs; the picture is fed as fp16, which halves the bytes a packer writes.
"""

from __future__ import annotations

import logging
from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from streamdet.detectors.onnx_graph import behind_the_last_weights, load, named, picture_of, save, sorted_nodes

__all__ = ["to_half"]

# sums of squares and exponents leave fp16's range (65504) or its 11 bits long before the sum is done
_SENSITIVE = (
    "LayerNormalization",
    "InstanceNormalization",
    "ReduceSum",
    "ReduceMean",
    "ReduceL2",
    "Pow",
    "Exp",
    "Softmax",
)
_FLOAT = onnx.TensorProto.FLOAT


def to_half(source: Path, target: Path, *, half_input: bool = False) -> None:
    """Write the fp16 copy of `source`; metadata stay, but the name. `half_input`: the first input takes fp16 too.

    Raises ValueError for a file that is not fp32.
    """
    model = load(source)
    picture = picture_of(model)
    if picture.type.tensor_type.elem_type not in (_FLOAT, onnx.TensorProto.UINT8):
        raise ValueError(f"{source.name} is not a model in fp32")
    named(model)
    behind, _ = behind_the_last_weights(model)
    ports = [port.name for port in (*model.graph.input, *model.graph.output)]
    if half_input:
        ports.remove(picture.name)
    logging.getLogger(convert_float_to_float16.__module__).setLevel(
        logging.WARNING
    )  # it tells of every shared constant
    half = convert_float_to_float16(
        model,
        keep_io_types=ports,
        node_block_list=behind,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_SENSITIVE],
    )
    sorted_nodes(half)
    save(half, target, name=target.stem)
