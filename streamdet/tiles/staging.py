"""The way up: host planes through page-locked memory onto the GPU, without waiting for it.

Two sets of page-locked buffers take turns: while the GPU still copies from one, the next frame is put into the other. A set is
used again only after the GPU has come by the mark left behind it.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from streamdet.device import Device, DeviceArray, Event
from streamdet.types import U8

__all__ = ["Staging"]

_ALIGN = 256
_SETS = 2


class Staging:
    """``with staging:`` around the copies of one frame; inside, :meth:`take` gives page-locked bytes for them."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._sets: list[NDArray[np.uint8] | None] = [None] * _SETS
        self._marks: list[Event | None] = [None] * _SETS
        self._turn = 0
        self._used = 0
        self._wanted = 0
        self._outgrown: list[NDArray[np.uint8]] = []

    def __enter__(self) -> Self:
        self._turn = (self._turn + 1) % _SETS
        mark, self._marks[self._turn] = self._marks[self._turn], None
        if mark is not None:
            mark.wait()
        self._used = self._wanted = 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._marks[self._turn] = self._device.mark()

    def take(self, size: int) -> NDArray[np.uint8]:
        """(size,) u8 to fill and upload before the block ends."""
        self._wanted += -(-size // _ALIGN) * _ALIGN
        buffer = self._sets[self._turn]
        if buffer is None or self._used + size > len(buffer):
            if buffer is not None:
                self._outgrown.append(
                    buffer
                )  # copies from it may be on their way; this happens for a frame or two only
            buffer = self._sets[self._turn] = self._device.pinned((max(self._wanted * 2, 1 << 16),), np.uint8)
            self._used = 0
        piece: NDArray[np.uint8] = buffer[self._used : self._used + size]
        self._used += -(-size // _ALIGN) * _ALIGN
        return piece

    def close(self) -> None:
        """Give the page-locked memory back, after waiting for the copies from it."""
        for mark in self._marks:
            if mark is not None:
                mark.wait()
        for buffer in [*self._sets, *self._outgrown]:
            if buffer is not None:
                self._device.unpin(buffer)
        self._sets, self._marks, self._outgrown = [None] * _SETS, [None] * _SETS, []

    def rows(self, host: U8, to: DeviceArray, reach: tuple[int, int]) -> None:
        """Rows `reach` of a (H, W) plane into the same rows of a (H, pitch) buffer."""
        first, last = reach
        pitch = to.shape[1]
        raw = self.take((last - first) * pitch)
        raw.reshape(last - first, pitch)[:, : host.shape[1]] = host[first:last]
        self._device.upload(raw, DeviceArray(to.pointer + first * pitch, raw.shape, raw.dtype))
