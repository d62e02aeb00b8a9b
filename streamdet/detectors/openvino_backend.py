"""OpenVINO on the CPU: asynchronous requests, one tile each, always one more in flight than run at once."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from streamdet.detectors.backend import Chunk, Data, Piece, chunks, refused
from streamdet.detectors.decode.layout import Raw
from streamdet.detectors.openvino_centre import centre_first_layers
from streamdet.detectors.openvino_graph import fold_rearrangement, in_bytes, turned_outputs
from streamdet.detectors.sniff import extra_inputs
from streamdet.detectors.spec import ModelFile
from streamdet.errors import DependencyError
from streamdet.inputspec import InputSpec

__all__ = ["Arithmetic", "OpenVinoBackend", "arithmetic_here", "installed"]

Arithmetic = Literal["fp32", "bf16"]

_LOG = logging.getLogger(__name__)
_SIZES_KEPT = 8


def installed() -> bool:
    """Whether the package is there, without importing it."""
    return importlib.util.find_spec("openvino") is not None


def _imported() -> Any:
    """The package, imported without its telemetry: it would tell Google Analytics of every import."""
    silenced = "openvino_telemetry" not in sys.modules
    if silenced:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # makes its import fail, which is foreseen
    try:
        import openvino

        return openvino
    except ImportError as error:
        raise DependencyError(
            f"openvino is installed but broken ({error}); run `pip install --force-reinstall openvino`"
        ) from None
    finally:
        if silenced:
            del sys.modules["openvino_telemetry"]


def arithmetic_here() -> Arithmetic:
    """What this processor is fast in, by OpenVINO's own word. Loads the package."""
    return "bf16" if "BF16" in _imported().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "fp32"


@dataclass(frozen=True, slots=True)
class _Compiled:
    """Requests for one shape and type of input; ``outputs``: by name, their number and the axes to turn them by."""

    requests: list[Any]
    outputs: dict[str, tuple[int, tuple[int, ...] | None]]


class OpenVinoBackend:
    """`threads` cores in all; see `streamdet.detectors.backend.Backend`.

    `arithmetic`: bf16 is half the work on processors that have it, and rounds: `streamdet.detectors.rounding` tells which
    networks bear it. ``cache`` is a folder for compiled models (they load several times faster), or None.
    """

    def __init__(
        self, file: ModelFile, *, threads: int, cache: Path | None = None, arithmetic: Arithmetic = "fp32"
    ) -> None:
        self._file = file
        self._threads = threads
        self._cache = cache
        self._arithmetic = arithmetic
        self._step = file.picture.shape[0] or 1
        self._core: Any = None
        self._read: Any = None  # the file as it is
        self._models: dict[tuple[Any, ...], _Compiled] = {}  # by input type, shape and width
        self._bytes: InputSpec | None = None  # how a picture in bytes is normalised
        self._version = ""

    @property
    def about(self) -> str:
        return f"openvino {self._version} {self._arithmetic}, {self._threads} threads"

    def __enter__(self) -> Self:
        if not installed():
            raise DependencyError(
                "the backend openvino is not installed; run `pip install 'streamdet[openvino]'`, or use --backend onnxruntime"
            )
        openvino = _imported()
        self._version = openvino.__version__.split("-")[0]
        self._core = openvino.Core()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        for compiled in self._models.values():
            for request in compiled.requests:
                request.cancel()
        self._models.clear()
        self._core = self._read = None

    def wants(self, spec: InputSpec) -> InputSpec:
        """Pictures in bytes, where floats hold nothing more: plain ones of three colours, and what moved, in grey levels."""
        channels = spec.parsed
        plain = sorted(channel.what for channel in channels[:3]) == ["b", "g", "r"] and spec.history == 0
        differences = all(channel.signed for channel in channels[3:]) and spec.signed_scale * spec.signed_clip <= 128
        whole = spec.pad_value == round(spec.pad_value)
        as_usual = spec.dtype == "float32" and not self._file.nhwc and not self._file.unbatched
        if not (plain and differences and whole and as_usual):
            return spec
        self._bytes = spec
        zero = 128 if len(channels) > 3 else 0
        return replace(spec, dtype="uint8", layout="nhwc", mean=(0.0,), std=(1.0,), signed_zero=zero)

    def infer(self, data: Data) -> Iterator[Chunk]:
        pieces = list(chunks(data, self._step))
        shape = (self._step, *data.shape[1:])
        # tiles that would leave three quarters of the threads idle are run one by one on all threads instead; with two threads
        # never: a small network hardly splits, and the other one has frames to decode (720p with the default model: 15 % faster)
        odd = len(pieces) % self._threads
        together = len(pieces) if odd * 4 > self._threads else len(pieces) - odd
        try:
            if together:
                yield from self._run(self._compiled(shape, data.dtype, wide=False), pieces[:together])
            if together < len(pieces):
                yield from self._run(self._compiled(shape, data.dtype, wide=True), pieces[together:])
        except RuntimeError as error:
            raise refused(self._file.path, "openvino", error) from None

    def _run(self, compiled: _Compiled, pieces: list[Piece]) -> Iterator[Chunk]:
        idle = list(compiled.requests)
        running: deque[tuple[int, int, Any, NDArray[Any]]] = deque()
        try:
            for first, rows, piece in pieces:
                if not idle:
                    first_done, rows_done, done, _ = running.popleft()
                    yield first_done, rows_done, _outputs(compiled, done)
                    idle.append(done)
                request = idle.pop()
                # the tile is read where it lies, without a copy: `piece` must outlive the request
                picture = self._fed(piece)
                request.start_async({self._file.picture.name: picture}, share_inputs=True)
                running.append((first, rows, request, piece))
            while running:
                first, rows, done, _ = running.popleft()
                yield first, rows, _outputs(compiled, done)
        finally:
            for _, _, request, _ in running:
                request.wait()

    def _fed(self, piece: NDArray[Any]) -> NDArray[Any]:
        if self._takes_bytes(piece.dtype):
            return piece.reshape(*piece.shape[:2], -1)
        return piece[0] if self._file.unbatched else piece

    def _takes_bytes(self, dtype: np.dtype[Any]) -> bool:
        return self._bytes is not None and dtype == np.uint8

    def _compiled(self, shape: tuple[int, ...], dtype: np.dtype[Any], *, wide: bool) -> _Compiled:
        """For one input shape (fixed sizes run faster than free ones); `wide`: all threads on one tile."""
        key = (wide, dtype.str, *shape)
        if key not in self._models:
            if len(self._models) >= _SIZES_KEPT:
                del self._models[next(iter(self._models))]
            self._models[key] = self._compile(shape, dtype, wide)
        return self._models[key]

    def _with_cache(self, model: Any, settings: dict[Any, Any]) -> Any:
        """Compiled, or taken from the cache; one that cannot be written (a read-only home, a full disk) is done without."""
        import openvino.properties as properties

        if self._cache is not None:
            try:
                return self._core.compile_model(model, "CPU", {**settings, properties.cache_dir: str(self._cache)})
            except RuntimeError as error:
                _LOG.debug("openvino, with the cache %s: %s", self._cache, error)
                self._cache = None
        return self._core.compile_model(model, "CPU", settings)

    def _compile(self, shape: tuple[int, ...], dtype: np.dtype[Any], wide: bool) -> _Compiled:
        import openvino.properties as properties
        from openvino.properties import hint

        if self._read is None:
            self._read = self._core.read_model(str(self._file.path))
        model = self._read.clone()
        last = self._file.nhwc or self._takes_bytes(dtype)
        width, height = (shape[2], shape[1]) if last else (shape[3], shape[2])
        beside = extra_inputs(self._file.extra, (width, height), self._step)
        if last and not self._file.nhwc:
            shape = (shape[0], shape[3], height, width)
        taken = shape[1:] if self._file.unbatched else shape
        shapes = {self._file.picture.name: list(taken)} | {name: list(value.shape) for name, value in beside.items()}
        if model.is_dynamic() or list(model.input(self._file.picture.name).shape) != list(taken):
            model.reshape(shapes)
        model, outputs = self._lightened(model, dtype)
        settings = {
            hint.performance_mode: hint.PerformanceMode.LATENCY if wide else hint.PerformanceMode.THROUGHPUT,
            hint.inference_precision: {"fp32": "f32", "bf16": "bf16"}[self._arithmetic],
            properties.inference_num_threads: self._threads,
        }
        compiled = self._with_cache(model, settings)
        count = compiled.get_property(properties.optimal_number_of_infer_requests) + 1
        requests = [compiled.create_infer_request() for _ in range(count)]
        for request in requests:
            for name, value in beside.items():
                request.get_tensor(name).data[...] = value
        return _Compiled(requests, outputs)

    def _lightened(self, model: Any, dtype: np.dtype[Any]) -> tuple[Any, dict[str, tuple[int, tuple[int, ...] | None]]]:
        """The model with less work in it, and where its outputs are."""
        if self._bytes is not None and self._arithmetic == "bf16":
            centre_first_layers(self._core, model, self._file.picture.name, _one_colour(self._bytes))
        if self._takes_bytes(dtype):
            assert self._bytes is not None
            model = in_bytes(model, self._file.picture.name, self._bytes)
        elif not self._file.unbatched and not self._file.nhwc:
            fold_rearrangement(model, self._file.picture.name)
        where, names = turned_outputs(model), {port.name for port in self._file.outputs}
        return model, {name: at for name, at in where.items() if name in names}


def _one_colour(spec: InputSpec) -> list[list[float]]:
    """Values of the channels of a dark, a middling and a bright picture in which nothing moves."""
    ways = [spec.affine(index) for index in range(len(spec.channels))]
    still = [channel.signed for channel in spec.parsed]
    return [
        [0.0 if fixed else gain * grey + offset for fixed, (gain, offset) in zip(still, ways)]
        for grey in (40, 110, 200)
    ]


def _outputs(compiled: _Compiled, request: Any) -> Raw:
    request.wait()
    found: dict[str, NDArray[Any]] = {}
    for name, (index, axes) in compiled.outputs.items():
        data = request.get_output_tensor(index).data
        found[name] = data if axes is None else data.transpose(axes)
    return found
