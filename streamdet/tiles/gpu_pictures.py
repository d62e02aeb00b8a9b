"""A stream's pictures on the GPU, each brought there once, for all who work with them: the motion pass and the packer.

What the decoder left on the GPU stays where it is. Host pictures go up as the decoder gives them (planar or interleaved 4:2:0,
1.5 bytes a px), or as BGR; the luma of a BGR picture apart, when it is asked for.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from streamdet.device import Device, DeviceArray
from streamdet.tiles.motion_layout import POINTS
from streamdet.tiles.staging import Staging
from streamdet.types import U8, DevicePlanes, Picture

__all__ = ["GpuPictures", "PlaneFields"]

_ALIGN = 256
PlaneFields = tuple[int, int, int, int, int]
"""``struct Plane`` of kernel.cu: address, pitch, step, wide, half."""


@dataclass(slots=True)
class _Image:
    """What of a picture is on the GPU; `buffers` are ours to give back. `pair`: u and v are interleaved."""

    picture: Picture
    planes: dict[str, PlaneFields] = field(default_factory=dict)
    buffers: list[DeviceArray] = field(default_factory=list)
    pair: bool = False


class GpuPictures:
    """Ask for planes inside ``with pictures.staging:``. They stay there as long as somebody keeps the picture."""

    def __init__(
        self, device: Device, here: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    ) -> None:
        """`here` makes the GPU's context current."""
        self._device = device
        self._here = here
        self.staging = Staging(device)
        self._images: dict[int, _Image] = {}  # by id of the picture, which is held beside it
        self._kept: dict[str, list[Picture]] = {}

    def keep(self, who: str, pictures: Iterable[Picture]) -> None:
        """`who` needs these from now on, and no others; what nobody needs is given back."""
        self._kept[who] = list(pictures)
        needed = {id(picture) for each in self._kept.values() for picture in each}
        for key in [key for key in self._images if key not in needed]:
            for buffer in self._images.pop(key).buffers:
                self._device.release(buffer)

    def close(self) -> None:
        """Give everything back to the device."""
        for who in self._kept:
            self.keep(who, ())
        self.staging.close()

    def is_pair(self, picture: Picture) -> bool:
        """Whether its u and v are interleaved on the GPU."""
        return self._image(picture).pair

    def plane(self, picture: Picture, what: str) -> PlaneFields:
        """Where plane `what` (y, u, v, b, g, r) of it lies; brought there now if it is not. Order: that of the stream."""
        image = self._image(picture)
        if what not in image.planes:
            if picture.is_yuv:
                self._put_yuv(image)
            elif what == "y":
                (at,), ((_, pitch, _),) = self._up(image, [picture.luma])
                image.planes["y"] = (at, pitch, 1, 0, 0)
            else:
                (at,), ((_, pitch, _),) = self._up(image, [picture.bgr.reshape(picture.bgr.shape[0], -1)])
                image.planes |= {name: (at + i, pitch, 3, 0, 0) for i, name in enumerate("bgr")}
        return image.planes[what]

    def _image(self, picture: Picture) -> _Image:
        image = self._images.get(id(picture))
        if image is None:
            image = self._images[id(picture)] = _Image(picture)
            if picture.on_device is not None:
                image.planes, image.pair = _left_there(picture), True
                self._device.after_default_stream()
                if hasattr(picture, "sampler"):
                    picture.sampler = functools.partial(self._sampled, picture.on_device)
            elif picture.chroma is not None:
                image.pair = _interleaved(picture.chroma) is not None
        return image

    def _sampled(self, lent: DevicePlanes, x: Any, y: Any) -> tuple[Any, Any, Any]:
        """Luma, u and v of a picture on the GPU at some px: a few kB and a wait, where the planes would be megabytes."""
        across, down = np.broadcast_arrays(x, y)
        count = across.size
        if not count:
            none = np.zeros(across.shape, np.uint8)
            return none, none, none
        head = -(-POINTS.itemsize // 16) * 16
        with self._here():
            with self.staging:
                raw = self.staging.take(head + 8 * count)
                sheet = self._device.empty((head + 11 * count,), np.uint8)
                raw[head:].view(np.int32)[:] = np.concatenate([across.ravel(), down.ravel()])
                job = raw[: POINTS.itemsize].view(POINTS)[0]
                job["x"], job["y"] = sheet.pointer + head, sheet.pointer + head + 4 * count
                job["luma"], job["chroma"], job["out"] = lent.luma, lent.chroma, sheet.pointer + head + 8 * count
                (job["pitch_luma"], job["pitch_chroma"]), job["count"], job["wide"] = lent.pitch, count, lent.bits > 8
                self._device.upload(raw, sheet[: len(raw)])
                self._device.kernel("tiles/motion", "sample_points")((-(-count // 128), 1), (128, 1, 1), sheet)
            found = np.empty((3, *across.shape), np.uint8)
            self._device.download(sheet[head + 8 * count :], found)
            self._device.synchronize()
            self._device.release(sheet)
        return found[0], found[1], found[2]

    def _put_yuv(self, image: _Image) -> None:
        picture = image.picture
        assert picture.chroma is not None
        both = _interleaved(picture.chroma)
        at, parts = self._up(image, [picture.luma, *([both] if both is not None else picture.chroma)])
        image.planes["y"] = (at[0], parts[0][1], 1, 0, 0)
        if both is not None:
            image.planes |= {"u": (at[1], parts[1][1], 2, 0, 1), "v": (at[1] + 1, parts[1][1], 2, 0, 1)}
        else:
            image.planes |= {"u": (at[1], parts[1][1], 1, 0, 1), "v": (at[2], parts[2][1], 1, 0, 1)}

    def _up(self, image: _Image, planes: list[Any]) -> tuple[list[int], list[tuple[int, int, int]]]:
        parts = _stack([plane.shape for plane in planes])
        size = parts[-1][0] + parts[-1][1] * parts[-1][2]
        raw = self.staging.take(size)
        for plane, (start, pitch, rows) in zip(planes, parts, strict=True):
            raw[start : start + pitch * rows].reshape(rows, pitch)[:, : plane.shape[1]] = plane
        buffer = self._device.empty((size,), np.uint8)
        image.buffers.append(buffer)
        self._device.upload(raw, buffer)
        return [buffer.pointer + start for start, _, _ in parts], parts


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


def _left_there(picture: Picture) -> dict[str, PlaneFields]:
    lent = picture.on_device
    assert lent is not None
    each, wide = (2, 1) if lent.bits > 8 else (1, 0)
    return {
        "y": (lent.luma, lent.pitch[0], each, wide, 0),
        "u": (lent.chroma, lent.pitch[1], 2 * each, wide, 1),
        "v": (lent.chroma + each, lent.pitch[1], 2 * each, wide, 1),
    }
