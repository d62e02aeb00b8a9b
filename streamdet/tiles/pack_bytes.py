"""Packing of plain colours for networks that take bytes: the definition of `streamdet.tiles.pack_cpu`, computed in 8 bits.

Each step rounds once, so a colour is within 3 grey levels of the definition, a third of one on average; a BGR picture that is
not scaled is copied as it is. What falls between samples in an unusual way (a scaled tile whose chroma begins between two px)
is left to the float path. A difference is taken between planes sampled in 8 bits, 128 added.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streamdet.tiles.sample import by_area, same_size
from streamdet.types import F32, U8, Picture

__all__ = ["ByteWriter"]

Box = tuple[int, int, int, int]
Size = tuple[int, int]


class ByteWriter:
    """Keeps the planes it works in: fresh ones of this size come from the system page by page, which took most of the time."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, Size], U8] = {}

    def write_bgr(self, out: U8, crop: NDArray[Any], *, swapped: bool) -> None:
        """`crop` (h,w,3) BGR into `out` (oh,ow,3), as RGB if `swapped`."""
        size = out.shape[1], out.shape[0]
        if (crop.shape[1], crop.shape[0]) != size:
            scale = size[0] / crop.shape[1], size[1] / crop.shape[0]
            crop = self._resized("bgr", crop, size, scale)
        np.copyto(out, crop[..., ::-1] if swapped else crop)

    def write_yuv(self, out: U8, picture: Picture, box: Box, matrix: F32) -> bool:
        """One tile into `out` (oh,ow,3); `matrix` (3,4): from Y, U, V, 1 to the channels. False: nothing was written."""
        assert picture.chroma is not None
        x1, y1, x2, y2 = box
        size = out.shape[1], out.shape[0]
        scale = size[0] / (x2 - x1), size[1] / (y2 - y1)
        luma = self._sampled("y", picture.luma[y1:y2, x1:x2], size, scale, (0.0, 0.0))
        crops = [plane[y1 // 2 : (y2 + 1) // 2, x1 // 2 : (x2 + 1) // 2] for plane in picture.chroma]
        shift, doubled = (x1 % 2 / 2, y1 % 2 / 2), (scale[0] * 2, scale[1] * 2)
        u, v = (self._sampled(name, crop, size, doubled, shift) for name, crop in zip("uv", crops))
        if luma is None or u is None or v is None:
            return False
        mixed, whole = self._room("yuv", size, 3), out.flags.c_contiguous
        colours = out if whole else self._room("colours", size, 3)
        cv2.merge([luma, u, v], dst=mixed)
        cv2.transform(mixed, matrix, dst=colours)
        if not whole:
            np.copyto(out, colours)
        return True

    def differences(self, pairs: list[tuple[U8 | None, U8 | None]], box: Box, size: Size, most: int) -> list[U8] | None:
        """Of each pair one less the other, at most `most`, about 128, of one tile brought to `size`; 128 if one is missing."""
        sampled: dict[int, U8] = {}
        for plane in (plane for pair in pairs for plane in pair if plane is not None):
            if id(plane) not in sampled:  # the pairs share planes
                scale = size[0] / (box[2] - box[0]), size[1] / (box[3] - box[1])
                crop = plane[box[1] : box[3], box[0] : box[2]]
                there = self._sampled(f"motion {len(sampled)}", crop, size, scale, (0.0, 0.0))
                if there is None:
                    return None
                sampled[id(plane)] = there
        found = []
        for number, (now, before) in enumerate(pairs):
            levels = self._room(f"difference {number}", size, 1)
            if now is None or before is None:
                levels[:] = 128
            else:
                cv2.addWeighted(sampled[id(now)], 1.0, sampled[id(before)], -1.0, 128.0, dst=levels)
                if most < 128:
                    np.clip(levels, 128 - most, 128 + most, out=levels)
            found.append(levels)
        return found

    def colours_of(self, size: Size) -> U8:
        """Room for (h,w,3) colours that are joined with other channels."""
        return self._room("joined", size, 3)

    def join(self, out: U8, parts: list[U8]) -> None:
        """Write (h,w,3) and (h,w) `parts` side by side into `out` (h,w,C)."""
        whole = out.flags.c_contiguous
        joined = out if whole else self._room("all", (out.shape[1], out.shape[0]), out.shape[2])
        cv2.merge(parts, dst=joined)
        if not whole:
            np.copyto(out, joined)

    def _sampled(
        self, name: str, crop: U8, size: Size, scale: tuple[float, float], shift: tuple[float, float]
    ) -> U8 | None:
        """As `streamdet.tiles.sample.sample` does it; None where that takes weights of its own."""
        crop = np.ascontiguousarray(crop)
        if shift == (0.0, 0.0) and same_size(crop, size, scale):
            return crop if (crop.shape[1], crop.shape[0]) == size else self._resized(name, crop, size, scale)
        if scale == (2.0, 2.0) and all(part in (0.0, 0.5) for part in shift):
            doubled = self._resized(name, crop, (crop.shape[1] * 2, crop.shape[0] * 2), scale)
            x, y = (int(part * 2) for part in shift)
            return np.ascontiguousarray(doubled[y : y + size[1], x : x + size[0]])
        return None

    def _resized(self, name: str, crop: NDArray[Any], size: Size, scale: tuple[float, float]) -> U8:
        method = cv2.INTER_AREA if by_area(scale) else cv2.INTER_LINEAR
        out = self._room(name, size, crop.shape[2] if crop.ndim == 3 else 1)
        cv2.resize(np.ascontiguousarray(crop), size, dst=out, interpolation=method)
        return out

    def _room(self, name: str, size: Size, channels: int) -> U8:
        key = name, size
        if key not in self._kept:
            if len(self._kept) > 24:  # tiles of a few sizes, or pieces of collages of any
                self._kept.clear()
            self._kept[key] = np.empty((size[1], size[0]) if channels == 1 else (size[1], size[0], channels), np.uint8)
        return self._kept[key]
