"""OpenVINO on the CPU: asynchronous requests, one tile each, always one more in flight than run at once."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from streamdet.detectors.backend import Chunk, Data, Piece, chunks, refused
from streamdet.detectors.decode.layout import Raw
from streamdet.detectors.sniff import extra_inputs
from streamdet.detectors.spec import ModelFile
from streamdet.errors import DependencyError

__all__ = ["OpenVinoBackend", "installed"]

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


class OpenVinoBackend:
    """`threads` cores in all; see `streamdet.detectors.backend.Backend`.

    Inference is in float32 whatever the processor would like: bfloat16 moves boxes and scores. ``cache`` is a folder for
    compiled models (they load several times faster), or None.
    """

    def __init__(self, file: ModelFile, *, threads: int, cache: Path | None = None) -> None:
        self._file = file
        self._threads = threads
        self._cache = cache
        self._step = file.picture.shape[0] or 1
        self._core: Any = None
        self._requests: dict[tuple[int, ...], list[Any]] = {}  # by input shape
        self._version = ""

    @property
    def about(self) -> str:
        return f"openvino {self._version}, {self._threads} threads"

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
        for requests in self._requests.values():
            for request in requests:
                request.cancel()
        self._requests.clear()
        self._core = None

    def infer(self, data: Data) -> Iterator[Chunk]:
        pieces = list(chunks(data, self._step))
        shape = (self._step, *data.shape[1:])
        # tiles that would leave more than half of the threads idle are run one by one on all threads instead
        odd = len(pieces) % self._threads
        together = len(pieces) if odd * 2 > self._threads else len(pieces) - odd
        try:
            if together:
                yield from self._run(self._compiled(shape, wide=False), pieces[:together])
            if together < len(pieces):
                yield from self._run(self._compiled(shape, wide=True), pieces[together:])
        except RuntimeError as error:
            raise refused(self._file.path, "openvino", error) from None

    def _run(self, requests: list[Any], pieces: list[Piece]) -> Iterator[Chunk]:
        idle = list(requests)
        running: deque[tuple[int, int, Any, NDArray[Any]]] = deque()
        try:
            for first, rows, piece in pieces:
                if not idle:
                    first_done, rows_done, done, _ = running.popleft()
                    yield first_done, rows_done, self._outputs(done)
                    idle.append(done)
                request = idle.pop()
                # the tile is read where it lies, without a copy: `piece` must outlive the request
                picture = piece[0] if self._file.unbatched else piece
                request.start_async({self._file.picture.name: picture}, share_inputs=True)
                running.append((first, rows, request, piece))
            while running:
                first, rows, done, _ = running.popleft()
                yield first, rows, self._outputs(done)
        finally:
            for _, _, request, _ in running:
                request.wait()

    def _outputs(self, request: Any) -> Raw:
        request.wait()
        return {port.name: request.get_tensor(port.name).data for port in self._file.outputs}

    def _compiled(self, shape: tuple[int, ...], *, wide: bool) -> list[Any]:
        """Requests for one input shape (fixed sizes run faster than free ones); `wide`: all threads on one tile."""
        key = (wide, *shape)
        if key not in self._requests:
            if len(self._requests) >= _SIZES_KEPT:
                del self._requests[next(iter(self._requests))]
            self._requests[key] = self._compile(shape, wide)
        return self._requests[key]

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

    def _compile(self, shape: tuple[int, ...], wide: bool) -> list[Any]:
        import openvino.properties as properties
        from openvino.properties import hint

        model = self._core.read_model(str(self._file.path))
        width, height = (shape[2], shape[1]) if self._file.nhwc else (shape[3], shape[2])
        beside = extra_inputs(self._file.extra, (width, height), self._step)
        taken = shape[1:] if self._file.unbatched else shape
        shapes = {self._file.picture.name: list(taken)} | {name: list(value.shape) for name, value in beside.items()}
        if model.is_dynamic():
            model.reshape(shapes)
        settings = {
            hint.performance_mode: hint.PerformanceMode.LATENCY if wide else hint.PerformanceMode.THROUGHPUT,
            hint.inference_precision: "f32",
            properties.inference_num_threads: self._threads,
        }
        compiled = self._with_cache(model, settings)
        count = compiled.get_property(properties.optimal_number_of_infer_requests) + 1
        requests = [compiled.create_infer_request() for _ in range(count)]
        for request in requests:
            for name, value in beside.items():
                request.get_tensor(name).data[...] = value
        return requests
