"""What an ONNX file says of itself (inputs, outputs, metadata), read in a millisecond without any runtime.

Only the few fields needed are walked in the protobuf encoding of ``ModelProto`` (github.com/onnx/onnx, onnx.proto);
weights are skipped, never loaded, so the cost does not grow with the file.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from streamdet.errors import ModelError

__all__ = ["Header", "Port", "read_header", "without_weight_inputs"]

_DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    16: "bfloat16",
}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MODEL_PRODUCER, _MODEL_GRAPH, _MODEL_METADATA = 2, 7, 14
_GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 5, 11, 12
_OTHER_FORMATS = {
    ".pt": "PyTorch weights",
    ".pth": "PyTorch weights",
    ".engine": "a TensorRT engine, of one GPU and version (streamdet makes its own)",
    ".tflite": "a TensorFlow Lite model",
    ".xml": "an OpenVINO model",
    ".pb": "a TensorFlow graph",
    ".safetensors": "bare weights",
}


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output: ``shape`` holds None where the size is free, and is () if the file does not say."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def __str__(self) -> str:
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name} {self.dtype} [{sizes}]"


@dataclass(frozen=True, slots=True)
class Header:
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    metadata: dict[str, str]
    producer: str


def read_header(path: str | Path) -> Header:
    """Read the ONNX file at `path`. Raises ModelError if it is missing, empty, cut off or no ONNX file."""
    file = Path(path)
    kind = _OTHER_FORMATS.get(file.suffix.lower())
    if kind is not None:
        raise ModelError(f"{file} is {kind}; export the model to ONNX and give the .onnx file")
    try:
        with file.open("rb") as handle:
            if handle.seek(0, 2) == 0:
                raise ModelError(f"the model file {file} is empty; copy or export it again")
            with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _model(data, file)
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise ModelError(f"the model file {file} {reason}; give the path of an .onnx file") from None


def without_weight_inputs(path: str | Path) -> bytes | None:
    """The model with its weights no longer listed among its inputs, or None if they are not.

    Some exporters (Paddle's) list them. A runtime must then expect them to be overridden and cannot fold anything into
    them: ONNX Runtime takes 1.6 times as long.
    """
    with Path(path).open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start, stop = next((a, b) for number, a, b in _fields(data, 0, len(data)) if number == _MODEL_GRAPH)
        parts = list(_fields(data, start, stop))
        if any(b == 0 for _, _, b in parts):
            return None  # a bare number in a graph: nothing we know
        weights = {_name(data, a, b) for number, a, b in parts if number == _GRAPH_INITIALIZER}
        kept, begin, dropped = [], start, 0
        for number, a, b in parts:
            if number == _GRAPH_INPUT and _port(data, a, b).name in weights:
                dropped += 1
            else:
                kept.append(data[begin:b])
            begin = b
        if not dropped:
            return None
        graph = b"".join(kept)
        before = start - 1 - len(_as_varint(stop - start))  # one byte of key, then the length
        return data[:before] + data[before : before + 1] + _as_varint(len(graph)) + graph + data[stop:]


def _as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _model(data: mmap.mmap, file: Path) -> Header:
    if data[:32].startswith(b"version https://git-lfs"):
        raise ModelError(f"{file} is a Git LFS pointer, not the model itself; run `git lfs pull` and try again")
    graph: tuple[int, int] | None = None
    metadata: dict[str, str] = {}
    producer = ""
    try:
        for number, start, stop in _fields(data, 0, len(data)):
            if number == _MODEL_GRAPH:
                graph = start, stop
            elif number == _MODEL_PRODUCER:
                producer = _text(data, start, stop)
            elif number == _MODEL_METADATA:
                pair = {n: _text(data, a, b) for n, a, b in _fields(data, start, stop)}
                metadata[pair.get(1, "")] = pair.get(2, "")
        if graph is None:
            raise ValueError("no graph")
        inputs, outputs = _graph(data, *graph)
    except (ValueError, IndexError, UnicodeDecodeError):
        raise ModelError(f"{file} is not an ONNX model, or it is cut off or damaged; export or copy it again") from None
    if not inputs or not outputs:
        raise ModelError(f"the ONNX file {file} has no inputs or no outputs; export the whole detector")
    return Header(inputs, outputs, metadata, producer)


def _graph(data: mmap.mmap, start: int, stop: int) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    inputs: list[Port] = []
    outputs: list[Port] = []
    weights: set[str] = set()
    for number, a, b in _fields(data, start, stop):
        if number == _GRAPH_INPUT:
            inputs.append(_port(data, a, b))
        elif number == _GRAPH_OUTPUT:
            outputs.append(_port(data, a, b))
        elif number == _GRAPH_INITIALIZER:
            weights.add(_name(data, a, b))
    # files of IR version 3 list their weights among the inputs
    return tuple(port for port in inputs if port.name not in weights), tuple(outputs)


def _name(data: mmap.mmap, start: int, stop: int) -> str:
    for number, a, b in _fields(data, start, stop):
        if number == 8:  # TensorProto.name
            return _text(data, a, b)
    return ""


def _port(data: mmap.mmap, start: int, stop: int) -> Port:
    """ValueInfoProto: name = 1, type = 2 > tensor_type = 1 > (elem_type = 1, shape = 2 > dim = 1)."""
    name, dtype, shape = "", "float32", []
    for number, a, b in _fields(data, start, stop):
        if number == 1:
            name = _text(data, a, b)
        elif number == 2:
            for kind, c, d in _fields(data, a, b):
                if kind != 1:
                    continue
                for part, e, f in _fields(data, c, d):
                    if part == 1:
                        dtype = _DTYPES.get(e, f"type{e}")
                    elif part == 2:
                        shape = [_dimension(data, g, h) for n, g, h in _fields(data, e, f) if n == 1]
    return Port(name, tuple(shape), dtype)


def _dimension(data: mmap.mmap, start: int, stop: int) -> int | None:
    for number, value, _ in _fields(data, start, stop):
        if number == 1 and 0 < value < 1 << 31:  # -1, as some exporters write, is a huge unsigned number here
            return value
    return None


def _fields(data: mmap.mmap, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield (field number, start, stop) of byte fields and (field number, value, 0) of integer ones."""
    position = start
    while position < stop:
        key, position = _varint(data, position)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise ValueError("field number 0")
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield number, value, 0
        elif wire == _BYTES:
            size, position = _varint(data, position)
            if position + size > stop:
                raise ValueError("field beyond its message")
            yield number, position, position + size
            position += size
        elif wire in (_FIXED64, _FIXED32):
            position += 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire}")
    if position != stop:
        raise ValueError("message ends inside a field")


def _varint(data: mmap.mmap, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("varint too long")


def _text(data: mmap.mmap, start: int, stop: int) -> str:
    return data[start:stop].decode("utf-8")
