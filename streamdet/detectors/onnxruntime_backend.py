"""ONNX Runtime on the CPU: tiles side by side on one-thread runs, the odd ones out on all threads together.

A small network does not split well over threads: on two cores, two one-thread runs side by side take about 1/1.4 of the
time of one two-thread run after another. A session may be run by several threads at once, so one serves them all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from streamdet.detectors.backend import Chunk, Data, Piece, chunks, refused
from streamdet.detectors.decode.layout import Raw
from streamdet.detectors.onnx_bytes import with_free_sizes, without_weight_inputs
from streamdet.detectors.sniff import extra_inputs
from streamdet.detectors.spec import ModelFile
from streamdet.inputspec import InputSpec

__all__ = ["OnnxRuntimeBackend"]


class OnnxRuntimeBackend:
    """`threads` cores in all; see `streamdet.detectors.backend.Backend`."""

    def __init__(self, file: ModelFile, *, threads: int) -> None:
        self._file = file
        self._threads = threads
        self._step = file.picture.shape[0] or 1
        self._outputs = [port.name for port in file.outputs]
        self._sessions: dict[tuple[int, bool], Any] = {}  # by threads, and whether for any input size
        self._pool: ThreadPoolExecutor | None = None

    @property
    def about(self) -> str:
        return f"onnxruntime {onnxruntime.__version__}, {self._threads} threads"

    def __enter__(self) -> Self:
        self._session(1)
        if self._threads > 1:
            self._pool = ThreadPoolExecutor(self._threads, "onnxruntime")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None
        self._sessions.clear()

    def wants(self, spec: InputSpec) -> InputSpec:
        return spec

    def infer(self, data: Data) -> Iterator[Chunk]:
        width, height = (data.shape[2], data.shape[1]) if self._file.nhwc else (data.shape[3], data.shape[2])
        beside = extra_inputs(self._file.extra, (width, height), self._step)
        pieces = list(chunks(data, self._step))
        free = self._is_other_size(width, height)
        one = self._session(1, free=free)
        if self._pool is None:
            for first, rows, piece in pieces:
                yield first, rows, self._run(one, piece, beside)
            return
        # tiles that would leave more than half of the threads idle are run one by one on all threads instead
        odd = len(pieces) % self._threads
        side_by_side = len(pieces) if odd * 2 > self._threads else len(pieces) - odd
        yield from self._side_by_side(one, pieces[:side_by_side], beside)
        for first, rows, piece in pieces[side_by_side:]:
            yield first, rows, self._run(self._session(self._threads, free=free), piece, beside)

    def _is_other_size(self, width: int, height: int) -> bool:
        """Whether the file takes one size only, and this is another one."""
        sizes = self._file.picture.shape[1:3] if self._file.nhwc else self._file.picture.shape[2:4]
        return any(size is not None and size != wanted for size, wanted in zip(sizes, (height, width)))

    def _side_by_side(self, one: Any, pieces: list[Piece], beside: dict[str, NDArray[Any]]) -> Iterator[Chunk]:
        """A few runs ahead of the reader, no more: outputs of hundreds of tiles are not kept."""
        assert self._pool is not None
        waiting: deque[tuple[int, int, Future[Raw]]] = deque()
        for first, rows, piece in pieces:
            if len(waiting) >= 2 * self._threads:
                ahead_first, ahead_rows, done = waiting.popleft()
                yield ahead_first, ahead_rows, done.result()
            waiting.append((first, rows, self._pool.submit(self._run, one, piece, beside)))
        for first, rows, done in waiting:
            yield first, rows, done.result()

    def _run(self, session: Any, piece: NDArray[Any], beside: dict[str, NDArray[Any]]) -> Raw:
        try:
            picture = piece[0] if self._file.unbatched else piece
            values = session.run(self._outputs, {self._file.picture.name: picture, **beside})
        except Exception as error:  # its exception classes share no base but Exception
            raise refused(self._file.path, "onnxruntime", error) from None
        return dict(zip(self._outputs, (np.asarray(value) for value in values)))

    def _session(self, threads: int, *, free: bool = False) -> Any:
        """One for `threads` cores, made when it is first needed; `free`: of the file with its input size freed."""
        if (threads, free) not in self._sessions:
            self._sessions[threads, free] = self._load(threads, free)
        return self._sessions[threads, free]

    def _load(self, threads: int, free: bool) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4 if free else 3  # another size is only tried; see streamdet.detectors.local
        # waiting threads may spin inside a run, but never after it: decoding and tracking need the cores
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if threads > 1 else "0")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            axes = (1, 2) if self._file.nhwc else (2, 3)
            if free:
                source: bytes | str = with_free_sizes(self._file.path, self._file.picture.name, axes)
            else:
                source = without_weight_inputs(self._file.path) or str(self._file.path)
            return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise refused(self._file.path, "onnxruntime", error) from None
