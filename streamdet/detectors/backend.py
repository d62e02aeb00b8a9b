"""The seam between a network and whatever runs it: tiles in, raw outputs out, in chunks and in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from streamdet.detectors.decode.layout import Raw
from streamdet.errors import ModelError
from streamdet.inputspec import InputSpec

__all__ = ["Backend", "Chunk", "Data", "Piece", "Rows", "chunks", "first_answer", "joined", "refused"]

Chunk = tuple[int, int, Raw]
"""First tile row, number of tiles, outputs by name. With a fixed batch the outputs may hold rows beyond that number."""

Piece = tuple[int, int, NDArray[Any]]
"""First tile row, number of tiles, (step, ...) tiles."""


class Rows:
    """Tiles of several arrays of one shape (but for their number) as if they lay in one, without copying them together.

    A slice within one of them is a view; one over a border is copied.
    """

    def __init__(self, parts: Sequence[NDArray[Any]]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts]).tolist()
        self.shape = (self._ends[-1], *parts[0].shape[1:])
        self.dtype = parts[0].dtype

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        first, last, _ = rows.indices(len(self))
        pieces = []
        for part, end in zip(self._parts, self._ends):
            start = end - len(part)
            if first < end and last > start:
                pieces.append(part[max(first - start, 0) : last - start])
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


Data = NDArray[Any] | Rows


def first_answer(backend: Backend, data: Data) -> Raw:
    """Outputs of the first chunk, copied; all is run, which warms the runtime up."""
    answers = [{name: np.array(array) for name, array in raw.items()} for _, _, raw in backend.infer(data)]
    return answers[0] if answers else {}


def joined(parts: Sequence[NDArray[Any]]) -> Data:
    """One (T, ...) thing to run; a single part is handed on as it is."""
    return parts[0] if len(parts) == 1 else Rows(parts)


class Backend(Protocol):
    """Runs one model file. Nothing is loaded before ``__enter__`` (ModelError, DependencyError).

    Outputs are valid until the next chunk is asked for. ``about``: one short phrase for people.
    """

    @property
    def about(self) -> str: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def wants(self, spec: InputSpec) -> InputSpec:
        """How tiles should be packed that are worth the same as those of `spec`: whatever runs fastest here."""
        ...

    def infer(self, data: Data) -> Iterator[Chunk]:
        """Run (T, ...) tiles; chunks come in order and cover every row once."""
        ...


def chunks(data: Data, step: int) -> Iterator[Piece]:
    """(first row, rows, (step, ...) array) pieces; the last one is filled up by repeating its last tile."""
    for first in range(0, len(data), step):
        piece = data[first : first + step]
        rows = len(piece)
        if rows < step:
            piece = np.concatenate([piece, np.repeat(piece[-1:], step - rows, axis=0)])
        yield first, rows, np.ascontiguousarray(piece)


def refused(path: object, runtime: str, error: Exception) -> ModelError:
    """A runtime's own words, first line only: they run on."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return ModelError(f"{runtime} cannot run the model {path}: {text[:300]}; export it again, or try another backend")
