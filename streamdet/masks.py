"""Masks of objects, as large as the objects: where the crop lies in the frame, and its runs of zeros and ones.

A :class:`Mask` holds run lengths column by column, zeros first, as COCO does, but of the crop round the object only: memory
follows objects, not pixels. :func:`coco_rle` writes the whole frame's run lengths (the text pycocotools reads and writes),
:func:`polygons` the outlines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Mask", "coco_rle", "polygons", "union"]

Bool = NDArray[np.bool_]
I64 = NDArray[np.int64]
SIMPLER_PX = 0.8  # by how much an outline may be off where that saves a corner ...
SIMPLER_SHARE = 0.02  # ... but by no more than this share of the object's narrower side


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """``xy``: the crop's first column and row in the frame; ``wh``: its size, px; ``counts`` (R,) u32 run lengths."""

    xy: tuple[int, int]
    wh: tuple[int, int]
    counts: NDArray[np.uint32]

    @staticmethod
    def of(pixels: Bool, xy: tuple[int, int] = (0, 0)) -> Mask:
        """From (h, w) bool whose first pixel is at `xy`; rows and columns without an object are cut away."""
        rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
        if len(rows) == 0:
            return Mask(xy, (0, 0), np.zeros(0, np.uint32))
        top, left = int(rows[0]), int(columns[0])
        inside = pixels[top : rows[-1] + 1, left : columns[-1] + 1]
        height, width = inside.shape
        return Mask((xy[0] + left, xy[1] + top), (width, height), _runs(inside.T.reshape(-1)))

    def pixels(self) -> Bool:
        """(h, w) bool of the crop."""
        ones = np.arange(len(self.counts)) % 2 == 1
        return np.asarray(np.repeat(ones, self.counts).reshape(self.wh[0], self.wh[1]).T)

    def scaled(self, x: float, y: float) -> Mask:
        """The mask in a picture `x` times as wide and `y` times as high (nearest px; nothing vanishes wholly)."""
        if self.area == 0:
            return self
        low = [int(self.xy[axis] * factor) for axis, factor in enumerate((x, y))]
        wh = [max(1, round(self.wh[axis] * factor)) for axis, factor in enumerate((x, y))]
        columns = ((np.arange(wh[0]) + 0.5) * self.wh[0] / wh[0]).astype(int)
        rows = ((np.arange(wh[1]) + 0.5) * self.wh[1] / wh[1]).astype(int)
        pixels = self.pixels()[rows][:, columns]
        return Mask.of(pixels if pixels.any() else np.ones_like(pixels), (low[0], low[1]))

    @property
    def area(self) -> int:
        """px that belong to the object."""
        return int(self.counts[1::2].sum())

    def __repr__(self) -> str:
        return f"Mask({self.wh[0]}x{self.wh[1]} at {self.xy}, {self.area} px)"


def _runs(flat: Bool) -> NDArray[np.uint32]:
    change = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], change, [len(flat)]])
    lengths = np.diff(edges)
    return (np.concatenate([[0], lengths]) if flat[0] else lengths).astype(np.uint32)


def union(masks: Iterable[Mask | None]) -> Mask | None:
    """All of what is in any of them; None if there is none."""
    parts = [mask for mask in masks if mask is not None and mask.area]
    if len(parts) < 2:
        return parts[0] if parts else None
    low = [min(mask.xy[axis] for mask in parts) for axis in (0, 1)]
    high = [max(mask.xy[axis] + mask.wh[axis] for mask in parts) for axis in (0, 1)]
    whole = np.zeros((high[1] - low[1], high[0] - low[0]), np.bool_)
    for mask in parts:
        x, y = mask.xy[0] - low[0], mask.xy[1] - low[1]
        whole[y : y + mask.wh[1], x : x + mask.wh[0]] |= mask.pixels()
    return Mask.of(whole, (low[0], low[1]))


def coco_rle(mask: Mask, frame_wh: tuple[int, int]) -> dict[str, Any]:
    """``{"size": [height, width], "counts": text}`` of the whole frame, compressed as pycocotools does."""
    return {"size": [frame_wh[1], frame_wh[0]], "counts": _compressed(_whole_counts(mask, frame_wh).tolist())}


def _whole_counts(mask: Mask, frame_wh: tuple[int, int]) -> I64:
    """Run lengths over all columns of the frame."""
    width, height = frame_wh
    if mask.area == 0:
        return np.array([width * height], np.int64)
    pixels = mask.pixels()
    closed = np.zeros((mask.wh[1] + 2, mask.wh[0]), np.int8)
    closed[1:-1] = pixels
    step = np.diff(closed, axis=0).T  # (columns, rows + 1): +1 where a run begins, -1 one past its end
    column, row = np.nonzero(step == 1)
    begin = (mask.xy[0] + column) * height + mask.xy[1] + row
    column, row = np.nonzero(step == -1)
    end = (mask.xy[0] + column) * height + mask.xy[1] + row
    apart = begin[1:] != end[:-1]  # a run down to the bottom goes on at the top of the next column
    begin, end = begin[np.concatenate([[True], apart])], end[np.concatenate([apart, [True]])]
    edges = np.stack([begin, end], axis=1).reshape(-1)
    tail = [width * height] if edges[-1] < width * height else []
    return np.asarray(np.diff(np.concatenate([[0], edges, tail])), np.int64)


def _compressed(counts: Sequence[int]) -> str:
    """Each count from the fourth on as the difference to the one two before; 5 bits a character (COCO's rleToString)."""
    text = bytearray()
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != -1 if bits & 16 else value != 0
            text.append((bits | 32 if more else bits) + 48)
    return text.decode("ascii")


def polygons(mask: Mask) -> list[list[float]]:
    """Outer outlines, each ``[x1, y1, x2, y2, ...]`` px of the frame, along the outer edges of the pixels; holes are left out.

    Large shapes are simplified a little, small ones hardly: there a fraction of a pixel is much of the object.
    """
    import cv2

    if mask.area == 0:
        return []
    # a pixel is a square, and so is its double: the halves 2i and 2i + 1 lie at its edges i and i + 1
    fine: NDArray[np.uint8] = mask.pixels().astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    outlines, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    found = []
    for outline in outlines:
        edges = (outline + 1) // 2
        spread = float(min(np.ptp(edges.reshape(-1, 2), axis=0)))
        corners = cv2.approxPolyDP(edges, min(SIMPLER_PX, SIMPLER_SHARE * spread), closed=True).reshape(-1, 2)
        if len(corners) >= 3:
            places = corners + np.asarray(mask.xy)
            found.append([float(value) for value in places.reshape(-1).tolist()])
    return found
