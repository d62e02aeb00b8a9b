"""What the motion pass tells the host of a frame: its way down, and planes that are right where it counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.device import Device, DeviceArray
from streamdet.protocols import Seen
from streamdet.types import U8

__all__ = ["Readback"]

_BLOCK_PX = 16
_PIXELS = 3 * _BLOCK_PX * _BLOCK_PX  # bytes of a listed block: of three planes
_ROOM_SHARE = 8  # of the blocks may be listed; of more, whole planes are fetched
_SENT = 512  # listed blocks that come with every read-back


class Readback:
    """For pictures of one size. ``mirrors``: this frame, the one before, the background, in whole blocks."""

    def __init__(self, device: Device, wh: tuple[int, int], grid: tuple[int, int]) -> None:
        columns, rows = (-(-side // _BLOCK_PX) for side in wh)
        self.shape = rows, columns
        self.grid = tuple(len(range(grid[0], side, grid[1])) for side in (wh[1], wh[0]))
        blocks, samples = rows * columns, self.grid[0] * self.grid[1]
        self.most = min(blocks, max(64, blocks // _ROOM_SHARE))
        self.sent = min(self.most, _SENT)
        self._at, size = {}, 0
        sizes = {"count": 4, "change": blocks, "away": blocks, "sample": 2 * samples, "listed": 4 * self.most}
        for name, length in {**sizes, "pixels": self.most * _PIXELS}.items():
            self._at[name], size = (size, length), size + -(-length // 16) * 16
        self._device_bytes = device.empty((size,), np.uint8)
        self._bytes: U8 = device.pinned((size,), np.uint8)
        self.mirrors = [np.zeros((rows * _BLOCK_PX, columns * _BLOCK_PX), np.uint8) for _ in range(3)]
        self.filled: NDArray[np.int32] | None = np.zeros(0, np.int32)  # blocks that show something; None: all may

    @property
    def counter(self) -> DeviceArray:
        return self._device_bytes[:4]

    @property
    def count(self) -> int:
        """Blocks that were listed, or would have been."""
        return int(self._part("count").view(np.int32)[0])

    def describe(self, job: Any) -> None:
        for name, (start, _) in self._at.items():
            job[name] = self._device_bytes.pointer + start
        (job["grid_rows"], job["grid_columns"]), job["room"], job["reserved"] = self.grid, self.most, 0

    def read(self, device: Device) -> Seen:
        """Down with it: maps, samples and the first of the listed blocks. The one wait of a frame's motion."""
        size = self._at["pixels"][0] + self.sent * _PIXELS
        device.download(self._device_bytes[:size], self._bytes[:size])
        device.synchronize()
        luma, background = self._part("sample").reshape(2, -1).astype(np.int16)
        change, away = (self._part(name).reshape(self.shape).copy() for name in ("change", "away"))
        return Seen(change, away, luma, background)

    def fetch(self, device: Device, count: int) -> None:
        """The pixels of the listed blocks that did not come with the rest."""
        start = self._at["pixels"][0]
        first, last = start + self.sent * _PIXELS, start + count * _PIXELS
        device.download(self._device_bytes[first:last], self._bytes[first:last])
        device.synchronize()

    def mirror(self, count: int) -> None:
        """Put the listed blocks where they belong; all else is 0, in all three planes alike."""
        rows, columns = self.shape
        listed = self._part("listed").view(np.int32)[:count].copy()
        pixels = self._part("pixels")[: count * _PIXELS].reshape(count, 3, _BLOCK_PX, _BLOCK_PX)
        for number, mirror in enumerate(self.mirrors):
            by_block = mirror.reshape(rows, _BLOCK_PX, columns, _BLOCK_PX)
            if self.filled is None:
                mirror[:] = 0
            elif len(self.filled):
                by_block[self.filled // columns, :, self.filled % columns] = 0
            by_block[listed // columns, :, listed % columns] = pixels[:, number]
        self.filled = listed

    def close(self, device: Device) -> None:
        device.release(self._device_bytes)
        device.unpin(self._bytes)

    def _part(self, name: str) -> U8:
        start, length = self._at[name]
        return self._bytes[start : start + length]
