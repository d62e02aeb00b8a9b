"""The way up: host planes through page-locked memory onto the GPU, without waiting for it.

Two sets of page-locked buffers take turns: while the GPU still copies from one, the next frame is put into the other. A set is
used again only after the GPU has come by the mark left behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from streamdet.device import Device, DeviceArray, Event
from streamdet.types import U8, Picture

__all__ = ["Image", "Staging"]

_ALIGN = 256
_SETS = 2
PlaneFields = tuple[int, int, int, int, int]


@dataclass(slots=True)
class Image:
    """A picture on the GPU: `planes` as fields of `struct Plane`; `buffer` is ours to give back, None if the decoder's."""

    planes: dict[str, PlaneFields]
    buffer: DeviceArray | None
    picture: Picture
    luma: DeviceArray | None = None
    pair: bool = False

    def release(self, device: Device) -> None:
        for array in (self.buffer, self.luma):
            if array is not None:
                device.release(array)
        self.buffer = self.luma = None


class Staging:
    """``with staging:`` around the copies of one frame; inside, :meth:`take` gives page-locked bytes for them."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._sets: list[NDArray[np.uint8] | None] = [None] * _SETS
        self._marks: list[Event | None] = [None] * _SETS
        self._turn = 0
        self._used = 0
        self._wanted = 0

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
            # what was taken before stays where it is: the device frees it in the end, and this happens for a frame or two only
            buffer = self._sets[self._turn] = self._device.pinned((max(self._wanted * 2, 1 << 16),), np.uint8)
            self._used = 0
        piece: NDArray[np.uint8] = buffer[self._used : self._used + size]
        self._used += -(-size // _ALIGN) * _ALIGN
        return piece

    def rows(self, host: U8, to: DeviceArray, reach: tuple[int, int]) -> None:
        """Rows `reach` of a (H, W) plane into the same rows of a (H, pitch) buffer."""
        first, last = reach
        pitch = to.shape[1]
        raw = self.take((last - first) * pitch)
        raw.reshape(last - first, pitch)[:, : host.shape[1]] = host[first:last]
        self._device.upload(raw, DeviceArray(to.pointer + first * pitch, raw.shape, raw.dtype))

    def image(self, picture: Picture) -> Image:
        """Put a picture's planes up: where the decoder left them, planar, or interleaved as they are on the host; else BGR."""
        if picture.on_device is not None:
            return _on_device(picture)
        if picture.chroma is None:
            return self._bgr(picture)
        both = _interleaved(picture.chroma)
        chroma = [both] if both is not None else list(picture.chroma)
        parts = _stack([picture.luma.shape, *(plane.shape for plane in chroma)])
        buffer, at = self._up([picture.luma, *chroma], parts)
        planes: dict[str, PlaneFields] = {"y": (at[0], parts[0][1], 1, 0, 0)}
        if both is not None:
            planes |= {"u": (at[1], parts[1][1], 2, 0, 1), "v": (at[1] + 1, parts[1][1], 2, 0, 1)}
        else:
            planes |= {"u": (at[1], parts[1][1], 1, 0, 1), "v": (at[2], parts[2][1], 1, 0, 1)}
        return Image(planes, buffer, picture, pair=both is not None)

    def plane(self, image: Image, what: str) -> PlaneFields:
        """One plane's fields; the luma of a BGR picture goes up when it is asked for."""
        if what == "y" and "y" not in image.planes:
            parts = _stack([image.picture.luma.shape])
            image.luma, at = self._up([image.picture.luma], parts)
            image.planes["y"] = (at[0], parts[0][1], 1, 0, 0)
        return image.planes[what]

    def _bgr(self, picture: Picture) -> Image:
        flat = picture.bgr.reshape(picture.bgr.shape[0], -1)
        parts = _stack([flat.shape])
        buffer, at = self._up([flat], parts)
        return Image({what: (at[0] + i, parts[0][1], 3, 0, 0) for i, what in enumerate("bgr")}, buffer, picture)

    def _up(self, planes: list[Any], parts: list[tuple[int, int, int]]) -> tuple[DeviceArray, list[int]]:
        size = parts[-1][0] + parts[-1][1] * parts[-1][2]
        raw = self.take(size)
        for plane, (start, pitch, rows) in zip(planes, parts, strict=True):
            raw[start : start + pitch * rows].reshape(rows, pitch)[:, : plane.shape[1]] = plane
        buffer = self._device.empty((size,), np.uint8)
        self._device.upload(raw, buffer)
        return buffer, [buffer.pointer + start for start, _, _ in parts]


def _stack(shapes: list[tuple[int, ...]]) -> list[tuple[int, int, int]]:
    """(start, pitch, rows) of planes one after the other: rows begin at 16 bytes, planes at 256."""
    parts, start = [], 0
    for rows, width in shapes:
        pitch = -(-width // 16) * 16
        parts.append((start, pitch, rows))
        start += -(-rows * pitch // _ALIGN) * _ALIGN
    return parts


def _interleaved(chroma: tuple[U8, U8]) -> U8 | None:
    """The (H, 2 W) plane of which u and v are every second column (NV12), or None."""
    u, v = chroma
    if u.strides != v.strides or u.strides[1] != 2 or v.ctypes.data - u.ctypes.data != 1:
        return None
    shape = u.shape[0], u.shape[1] * 2
    return np.lib.stride_tricks.as_strided(u, shape, (u.strides[0], 1), writeable=False)


def _on_device(picture: Picture) -> Image:
    lent = picture.on_device
    assert lent is not None
    each, wide = (2, 1) if lent.bits > 8 else (1, 0)
    planes: dict[str, PlaneFields] = {
        "y": (lent.luma, lent.pitch[0], each, wide, 0),
        "u": (lent.chroma, lent.pitch[1], 2 * each, wide, 1),
        "v": (lent.chroma + each, lent.pitch[1], 2 * each, wide, 1),
    }
    return Image(planes, None, picture, pair=True)
