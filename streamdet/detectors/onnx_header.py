"""What an ONNX file says of itself (inputs, outputs, metadata), read in a millisecond without any runtime.

Only the few fields needed are walked in the protobuf encoding of ``ModelProto`` (github.com/onnx/onnx, onnx.proto);
weights are skipped, never loaded, so the cost does not grow with the file.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

from streamdet.detectors.protobuf import Buffer, fields, text
from streamdet.errors import ModelError

__all__ = [
    "DTYPES",
    "GRAPH_INITIALIZER",
    "GRAPH_INPUT",
    "GRAPH_OUTPUT",
    "MODEL_GRAPH",
    "Header",
    "Port",
    "read_header",
    "read_port",
    "tensor_name",
]

DTYPES = {
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
MODEL_GRAPH = 7
GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT = 5, 11, 12
_MODEL_PRODUCER, _MODEL_METADATA = 2, 14
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


def _model(data: Buffer, file: Path) -> Header:
    if data[:32].startswith(b"version https://git-lfs"):
        raise ModelError(f"{file} is a Git LFS pointer, not the model itself; run `git lfs pull` and try again")
    graph: tuple[int, int] | None = None
    metadata: dict[str, str] = {}
    producer = ""
    try:
        for number, start, stop in fields(data, 0, len(data)):
            if number == MODEL_GRAPH:
                graph = start, stop
            elif number == _MODEL_PRODUCER:
                producer = text(data, start, stop)
            elif number == _MODEL_METADATA:
                pair = {n: text(data, a, b) for n, a, b in fields(data, start, stop)}
                metadata[pair.get(1, "")] = pair.get(2, "")
        if graph is None:
            raise ValueError("no graph")
        inputs, outputs = _graph(data, *graph)
    except (ValueError, IndexError, UnicodeDecodeError):
        raise ModelError(f"{file} is not an ONNX model, or it is cut off or damaged; export or copy it again") from None
    if not inputs or not outputs:
        raise ModelError(f"the ONNX file {file} has no inputs or no outputs; export the whole detector")
    return Header(inputs, outputs, metadata, producer)


def _graph(data: Buffer, start: int, stop: int) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    inputs: list[Port] = []
    outputs: list[Port] = []
    weights: set[str] = set()
    for number, a, b in fields(data, start, stop):
        if number == GRAPH_INPUT:
            inputs.append(read_port(data, a, b))
        elif number == GRAPH_OUTPUT:
            outputs.append(read_port(data, a, b))
        elif number == GRAPH_INITIALIZER:
            weights.add(tensor_name(data, a, b))
    # files of IR version 3 list their weights among the inputs
    return tuple(port for port in inputs if port.name not in weights), tuple(outputs)


def tensor_name(data: Buffer, start: int, stop: int) -> str:
    for number, a, b in fields(data, start, stop):
        if number == 8:  # TensorProto.name
            return text(data, a, b)
    return ""


def read_port(data: Buffer, start: int, stop: int) -> Port:
    """ValueInfoProto: name = 1, type = 2 > tensor_type = 1 > (elem_type = 1, shape = 2 > dim = 1)."""
    name, dtype, shape = "", "float32", []
    for number, a, b in fields(data, start, stop):
        if number == 1:
            name = text(data, a, b)
        elif number == 2:
            for kind, c, d in fields(data, a, b):
                if kind != 1:
                    continue
                for part, e, f in fields(data, c, d):
                    if part == 1:
                        dtype = DTYPES.get(e, f"type{e}")
                    elif part == 2:
                        shape = [_dimension(data, g, h) for n, g, h in fields(data, e, f) if n == 1]
    return Port(name, tuple(shape), dtype)


def _dimension(data: Buffer, start: int, stop: int) -> int | None:
    for number, value, _ in fields(data, start, stop):
        if number == 1 and 0 < value < 1 << 31:  # -1, as some exporters write, is a huge unsigned number here
            return value
    return None
