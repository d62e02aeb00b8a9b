"""A picture too large to be held: rows are read from the top down, once, and only as many kept as a row of tiles needs.

Memory is that of a band: 30,000 px by 480 rows are 43 MB where the picture is 2.7 GB. While the rows pass, an overview of a few
thousand px is made of them: the whole-frame tile and the annotated picture are taken from it, so nothing is decoded twice.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np

from streamdet.types import U8

__all__ = ["HELD_PX", "OVERVIEW_PX", "BandWindows", "Bands"]

HELD_PX = 1 << 26  # up to this area a still is held whole: 200 MB of BGR
OVERVIEW_PX = 4096  # longest side of an overview
_CHUNK_ROWS = 64


class Bands(Protocol):
    """Rows of a picture as (y2 - y1, W, 3) u8 BGR. `y1` is where the last call ended, or 0 to begin again.

    Raises SourceLostError where the file is damaged.
    """

    @property
    def wh(self) -> tuple[int, int]: ...
    def rows(self, y1: int, y2: int) -> U8: ...


class BandWindows:
    """`streamdet.types.Windows` over Bands. Thread-safe. Reading above what was forgotten begins again (``passes`` grows)."""

    def __init__(self, bands: Bands) -> None:
        self._bands = bands
        width, height = bands.wh
        self._shrink = max(1, math.ceil(max(width, height) / OVERVIEW_PX))
        self._overview: U8 = np.zeros((math.ceil(height / self._shrink), math.ceil(width / self._shrink), 3), np.uint8)
        self._seen = 0  # rows that are in the overview
        self._chunks: deque[U8] = deque()  # the rows from _top to _bottom
        self._top = self._bottom = 0
        self._lock = threading.Lock()
        self.passes = 1

    @property
    def wh(self) -> tuple[int, int]:
        return self._bands.wh

    def read(self, xyxy: Sequence[int]) -> U8:
        """(h, w, 3) u8 BGR of an int box inside the picture."""
        x1, y1, x2, y2 = xyxy
        with self._lock:
            if y1 < self._top:
                self._chunks.clear()
                self._top = self._bottom = 0
                self.passes += 1
            self._forget_above(y1)
            while self._bottom < y2:
                self._take()
                self._forget_above(y1)
            parts, top = [], self._top
            for chunk in self._chunks:
                if top < y2:
                    parts.append(chunk[max(0, y1 - top) : y2 - top, x1:x2])
                top += len(chunk)
            return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def overview(self) -> U8:
        """(h, w, 3) u8 BGR of all of it, shrunk by area; do not write into it."""
        with self._lock:
            while self._seen < self.wh[1]:
                self._take()
                self._forget_above(self._bottom)
            return self._overview

    def _forget_above(self, y: int) -> None:
        while self._chunks and self._top + len(self._chunks[0]) <= y:
            self._top += len(self._chunks.popleft())

    def _take(self) -> None:
        """Read the next few rows, and put them into the overview if they are new there."""
        shrink, y1 = self._shrink, self._bottom
        y2 = min(self.wh[1], y1 + shrink * math.ceil(_CHUNK_ROWS / shrink))
        rows = self._bands.rows(y1, y2)
        self._chunks.append(rows)
        self._bottom = y2
        if y2 > self._seen:
            out = self._overview[y1 // shrink : math.ceil(y2 / shrink)]
            size = out.shape[1], out.shape[0]
            out[:] = rows if shrink == 1 else cv2.resize(rows, size, interpolation=cv2.INTER_AREA)
            self._seen = y2
