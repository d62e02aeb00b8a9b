"""MOTChallenge result file: ``frame,id,left,top,width,height,confidence,-1,-1,-1``, frames counted from 1.

Format: https://motchallenge.net/instructions. Only objects seen in the frame are listed, not coasting ones, as the
trackers people compare with do.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

import numpy as np

from streamdet.sinks.linefile import LineFile
from streamdet.types import CONFIRMED, Event, Result

__all__ = ["MotSink"]


class MotSink:
    """Raises OutputError when the file cannot be written."""

    lossy = False

    def __init__(self, target: str | os.PathLike[str]) -> None:
        self._file = LineFile(target)

    def __enter__(self) -> Self:
        self._file.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._file.close()

    def write(self, result: Result) -> None:
        tracks = result.tracks[(result.tracks.state == CONFIRMED) & np.isfinite(result.tracks.xyxy).all(axis=1)]
        if not len(tracks):
            return
        box = tracks.xyxy.astype(np.float64)
        rows = zip(tracks.id.tolist(), np.hstack([box[:, :2], box[:, 2:] - box[:, :2]]).tolist(), tracks.score.tolist())
        number = result.frame.index + 1
        text = "".join(
            f"{number},{track},{left:.2f},{top:.2f},{width:.2f},{height:.2f},{score:.4f},-1,-1,-1\n"
            for track, (left, top, width, height), score in rows
        )
        self._file.write(text.encode())

    def finish(self, events: tuple[Event, ...]) -> None:
        """Nothing: the format has no events."""
