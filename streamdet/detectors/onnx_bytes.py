"""ONNX files with other ports, made without the package `onnx`: their bytes are copied but for what has to change."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamdet.detectors.onnx_header import (
    DTYPES,
    GRAPH_INITIALIZER,
    GRAPH_INPUT,
    GRAPH_OUTPUT,
    MODEL_GRAPH,
    Port,
    read_port,
    tensor_name,
)
from streamdet.detectors.protobuf import Buffer, as_varint, fields, message, text
from streamdet.errors import ModelError

__all__ = ["operators", "with_free_sizes", "without_weight_inputs"]

_GRAPH_NODE, _GRAPH_VALUE_INFO = 1, 13
_NODE_OPERATOR, _NODE_DOMAIN = 4, 7
_NUMBERS = {name: number for number, name in DTYPES.items()}


def operators(path: str | Path) -> frozenset[str]:
    """The operators of the graph; those that are not ONNX's own with their domain before them."""
    with _graph(path) as (data, start, stop):
        return frozenset(_operator(data, a, b) for number, a, b in fields(data, start, stop) if number == _GRAPH_NODE)


def without_weight_inputs(path: str | Path) -> bytes | None:
    """The model with its weights no longer listed among its inputs, or None if they are not.

    Some exporters (Paddle's) list them. A runtime must then expect them to be overridden and cannot fold anything into
    them: ONNX Runtime takes 1.6 times as long.
    """
    with _graph(path) as (data, start, stop):
        parts = list(fields(data, start, stop))
        if any(b == 0 for _, _, b in parts):
            return None  # a bare number in a graph: nothing we know
        weights = _weights(data, parts)
        kept, begin, dropped = [], start, 0
        for number, a, b in parts:
            if number == GRAPH_INPUT and read_port(data, a, b).name in weights:
                dropped += 1
            else:
                kept.append(data[begin:b])
            begin = b
        return _whole(data, start, stop, b"".join(kept)) if dropped else None


def with_free_sizes(path: str | Path, picture: str, axes: tuple[int, int]) -> bytes:
    """The model whose input `picture` may be of any height and width (its `axes`), and its outputs of any size.

    What the file notes of shapes in between is dropped. Whether the graph bears it is for the caller to try. Raises ModelError
    for ports of a type that cannot be written again.
    """
    with _graph(path) as (data, start, stop):
        parts = list(fields(data, start, stop))
        weights = _weights(data, parts)
        kept, begin = [], start
        for number, a, b in parts:
            part = data[begin:b]
            begin = b
            if number == _GRAPH_VALUE_INFO:
                continue
            if number in (GRAPH_INPUT, GRAPH_OUTPUT):
                port = read_port(data, a, b)
                if port.name in weights:
                    continue
                if number == GRAPH_OUTPUT:
                    part = message(number, _freed(port, frozenset(range(len(port.shape))), path))
                elif port.name == picture:
                    part = message(number, _freed(port, frozenset(axes), path))
            kept.append(part)
        return _whole(data, start, stop, b"".join(kept))


def _freed(port: Port, axes: frozenset[int], path: str | Path) -> bytes:
    """ValueInfoProto: see `streamdet.detectors.onnx_header`. A dimension without a value is free."""
    if port.dtype not in _NUMBERS:
        raise ModelError(f"the port {port} of {path} is of a type that is not known; export the model with float32")
    sizes = (None if axis in axes else size for axis, size in enumerate(port.shape))
    shape = b"".join(message(1, b"" if size is None else b"\x08" + as_varint(size)) for size in sizes)
    tensor = b"\x08" + as_varint(_NUMBERS[port.dtype]) + (message(2, shape) if port.shape else b"")
    return message(1, port.name.encode()) + message(2, message(1, tensor))


@contextmanager
def _graph(path: str | Path) -> Iterator[tuple[mmap.mmap, int, int]]:
    """The file, and where its graph begins and ends."""
    with Path(path).open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start, stop = next((a, b) for number, a, b in fields(data, 0, len(data)) if number == MODEL_GRAPH)
        yield data, start, stop


def _whole(data: mmap.mmap, start: int, stop: int, graph: bytes) -> bytes:
    """The file with `graph` instead of what lies between `start` and `stop`."""
    before = start - 1 - len(as_varint(stop - start))  # one byte of key, then the length
    return data[:before] + message(MODEL_GRAPH, graph) + data[stop:]


def _weights(data: Buffer, parts: list[tuple[int, int, int]]) -> set[str]:
    return {tensor_name(data, a, b) for number, a, b in parts if number == GRAPH_INITIALIZER}


def _operator(data: Buffer, start: int, stop: int) -> str:
    said = {
        number: text(data, a, b)
        for number, a, b in fields(data, start, stop)
        if number in (_NODE_OPERATOR, _NODE_DOMAIN)
    }
    domain = said.get(_NODE_DOMAIN, "")
    return said.get(_NODE_OPERATOR, "") if domain in ("", "ai.onnx") else f"{domain}.{said.get(_NODE_OPERATOR, '')}"
