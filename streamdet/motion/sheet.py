"""Many small windows of a picture side by side on one sheet: every operation then costs one call instead of fifty.

Windows are whole blocks; between them lies one block in which nothing ever differs, more than any neighbourhood operation
reaches. A sheet of one window is that window: a view, nothing is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from streamdet.motion.activity import BLOCK_PX, enlarged, maxima_along
from streamdet.types import I32, I64, U8, Bool

__all__ = ["Box", "Group", "Sheet", "pooled"]

Box = tuple[int, int, int, int]
Place = tuple[slice, slice]
_WIDTH_SHARE = 1.3  # of the side of a square of the same area: room for what does not fit together


class Group(NamedTuple):
    """A rectangle of the picture, px, from block to block, and (rows, columns) which of its blocks are looked at."""

    xyxy: Box
    own: Bool

    @property
    def area_px(self) -> int:
        x1, y1, x2, y2 = self.xyxy
        return (x2 - x1) * (y2 - y1)

    @property
    def place(self) -> Place:
        """Where it is in a plane."""
        x1, y1, x2, y2 = self.xyxy
        return slice(y1, y2), slice(x1, x2)


class Sheet:
    """Lays out `groups`, to be looked at in squares of `pool` px (1, 2 or 4).

    Attributes:
        places: (G,2) px of each group's top left corner on the sheet. wh: px, whole blocks unless it is one window only.
        own: (rows, columns) of blocks that are looked at. number: the group each block belongs to.
        xyxy: (G,4) where the groups are in the frame. shift: (G,2) from px of the sheet to px of the frame.
        pooled_shape: rows and columns of (pooled) pixels. bounds: (G,4) xyxy of the groups' rectangles in those; parts: these
        as slices.
    """

    def __init__(self, groups: list[Group], pool: int) -> None:
        self.groups, self.pool = groups, pool
        blocks = np.array([group.own.shape[::-1] for group in groups])
        at, (columns, rows) = _shelves(blocks)
        self.places = at * BLOCK_PX
        x1, y1, x2, y2 = groups[0].xyxy
        self.wh = (x2 - x1, y2 - y1) if len(groups) == 1 else (columns * BLOCK_PX, rows * BLOCK_PX)
        self.own = np.zeros((rows, columns), np.bool_)
        self.number = np.zeros((rows, columns), np.int32)
        self._blocks: list[Place] = []
        for number, ((_, own), (x, y), (w, h)) in enumerate(zip(groups, at.tolist(), blocks.tolist(), strict=True)):
            where = slice(y, y + h), slice(x, x + w)
            self.own[where] = own
            self.number[where] = number
            self._blocks.append(where)
        self.pooled_shape = -(-self.wh[1] // pool), -(-self.wh[0] // pool)
        self.xyxy = np.array([group.xyxy for group in groups], np.int64)
        corner, end = self.xyxy[:, :2], self.xyxy[:, 2:]
        self.shift = corner - self.places
        low = self.places // pool
        self.bounds = np.concatenate([low, low - (corner - end) // pool], 1)
        self.parts = [(slice(y1, y2), slice(x1, x2)) for x1, y1, x2, y2 in self.bounds.tolist()]

    def gather(self, *planes: U8) -> list[U8]:
        """The windows of each of some planes; 0 between them. Of a sheet that is not pooled."""
        if len(self.groups) == 1:
            return [plane[self.groups[0].place] for plane in planes]
        sheets = [np.zeros(self.wh[::-1], np.uint8) for _ in planes]
        pairs = list(zip(planes, sheets, strict=True))
        for group, part in zip(self.groups, self.parts, strict=True):
            place = group.place
            for plane, sheet in pairs:
                sheet[part] = plane[place]
        return sheets

    def spread(self, blocks: U8, *, between: int = 0) -> U8:
        """A block map of the frame as one value per block of the sheet."""
        sheet = np.full(self.own.shape, between, np.uint8)
        for ((x1, y1, _, _), own), where in zip(self.groups, self._blocks, strict=True):
            column, row = x1 // BLOCK_PX, y1 // BLOCK_PX
            h, w = own.shape
            sheet[where] = blocks[row : row + h, column : column + w]
        return sheet

    def here(self, xyxy: Sequence[float], number: int) -> tuple[int, int, int, int]:
        """From px of the frame, in group `number`, to pixels of the sheet."""
        right, down = self.shift[number].tolist()
        x1, y1, x2, y2 = xyxy  # only the far corner of a last, partial pixel is no multiple of `pool`
        near = int(x1 - right) // self.pool, int(y1 - down) // self.pool
        return *near, -(-int(x2 - right) // self.pool), -(-int(y2 - down) // self.pool)

    def enlarged(self, blocks: U8) -> U8:
        """A block map of the sheet as one value per (pooled) pixel."""
        width, height = self.wh
        large = enlarged(blocks, BLOCK_PX // self.pool)
        return np.ascontiguousarray(large[: -(-height // self.pool), : -(-width // self.pool)], np.uint8)

    def number_at(self, x: I64, y: I64) -> I32:
        """(P,) the group that each (pooled) pixel belongs to."""
        side = BLOCK_PX // self.pool
        return np.asarray(self.number[y // side, x // side])


def _shelves(blocks: NDArray[Any]) -> tuple[NDArray[np.int64], tuple[int, int]]:
    """Where rectangles of (G,2) columns and rows go, one block apart, and the columns and rows of the whole."""
    if len(blocks) == 1:
        return np.zeros((1, 2), np.int64), (int(blocks[0, 0]), int(blocks[0, 1]))
    room = max(int(_WIDTH_SHARE * np.sqrt((blocks + 1).prod(1).sum())), int(blocks[:, 0].max()))
    at = np.zeros((len(blocks), 2), np.int64)
    x = y = tall = wide = 0
    for row in np.argsort(-blocks[:, 1], kind="stable").tolist():
        columns, rows = blocks[row].tolist()
        if x + columns > room:
            x, y, tall = 0, y + tall + 1, 0
        at[row] = x, y
        x, tall = x + columns + 1, max(tall, rows)
        wide = max(wide, x - 1)
    return at, (wide, y + tall)


def pooled(plane: U8, pool: int) -> U8:
    """Maxima of squares of `pool` x `pool` px, a power of two; the last ones may be partial."""
    if pool == 1:
        return plane
    height, width = plane.shape
    if height % pool or width % pool:
        plane = np.pad(plane, ((0, -height % pool), (0, -width % pool)))
    lines, rows = pool, cast(Any, plane)
    while lines > 1:
        rows = cv2.max(rows[::2], rows[1::2])
        lines //= 2
    return maxima_along(rows, pool)
