"""The noun TilePlan: which rectangles of a frame the network is shown, where they lie in its inputs, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from streamdet.arrays import F32, I32, U8

__all__ = ["WHY_ALL", "WHY_MOTION", "WHY_NAMES", "WHY_SMALL", "WHY_SWEEP", "WHY_TRACK", "TilePlan"]

WHY_NAMES = ("all", "motion", "track", "sweep", "small")
WHY_ALL, WHY_MOTION, WHY_TRACK, WHY_SWEEP, WHY_SMALL = range(5)
INPUTS_AT_ONCE = 64
PX_AT_ONCE = INPUTS_AT_ONCE * 416 * 416  # 133 MB of three float channels


@dataclass(frozen=True, slots=True, eq=False)
class TilePlan:
    """Rectangles of a frame and how each maps to the network's input; the only owner of tile <-> frame mapping.

    A tile ``xyxy`` is scaled by ``scale`` (x, y) and put at ``at`` of an ``input_wh`` picture; what no tile covers is padding.
    Tiles lie inside the frame. Usually every tile has an input of its own and lies at its top-left. In a *collage* several
    small ones (pieces) share an input, a *slot*, side by side.

    Attributes:
        frame_wh, input_wh: px.
        xyxy: (T,4) i32 px in the frame.
        scale: (T,2) f32 input px per frame px, in x and y (equal unless the model wants a stretched picture).
        why: (T,) u8 index into :data:`WHY_NAMES`: why this tile is run in this frame.
        of: how many tiles the full plan holds: ``slots`` inputs are run instead of so many.
        slot: (T,) i32 which input each row lies in: 0, 1, ... without a gap, not descending. None: row by row.
        at: (T,2) i32 px of the input where its top-left corner lies. None: 0, 0.
    """

    frame_wh: tuple[int, int]
    input_wh: tuple[int, int]
    xyxy: I32
    scale: F32
    why: U8
    of: int
    slot: I32 | None = None
    at: I32 | None = None

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, rows: Any) -> TilePlan:
        """The same plan with fewer tiles (`rows`: mask, slice or ascending index array); ``of`` is kept, slots close up."""
        if self.slot is None or self.at is None:
            return replace(self, xyxy=self.xyxy[rows], scale=self.scale[rows], why=self.why[rows])
        slot = np.unique(self.slot[rows], return_inverse=True)[1].astype(np.int32)
        return replace(
            self, xyxy=self.xyxy[rows], scale=self.scale[rows], why=self.why[rows], slot=slot, at=self.at[rows]
        )

    @property
    def slots(self) -> int:
        """How many inputs the network is given: what a plan costs."""
        if self.slot is None:
            return len(self.xyxy)
        return int(self.slot[-1]) + 1 if len(self.slot) else 0

    @property
    def at_once(self) -> int:
        """How many of its inputs to pack in one batch at most: a huge picture must not become a huge tensor. Even."""
        return max(2, min(INPUTS_AT_ONCE, PX_AT_ONCE // (self.input_wh[0] * self.input_wh[1])) // 2 * 2)

    @property
    def everywhere(self) -> bool:
        """Whether it is the full plan."""
        return self.slot is None and len(self.xyxy) == self.of

    @property
    def slot_rows(self) -> I32:
        """(T,) the input of every row, also where ``slot`` is not told."""
        return np.arange(len(self.xyxy), dtype=np.int32) if self.slot is None else self.slot

    @property
    def corner(self) -> I32:
        """(T,2) where in its input every row lies, also where ``at`` is not told."""
        return np.zeros((len(self.xyxy), 2), np.int32) if self.at is None else self.at

    @property
    def slot_why(self) -> U8:
        """(S,) of each input the first reason (in the order of :data:`WHY_NAMES`) among those of its rows."""
        if self.slot is None:
            return self.why
        first = np.full(self.slots, len(WHY_NAMES), np.uint8)
        np.minimum.at(first, self.slot, self.why)
        return first

    def between(self, first: int, last: int) -> TilePlan:
        """The rows that lie in inputs ``first`` up to, not including, ``last``."""
        if self.slot is None:
            return self[first:last]
        begin, end = np.searchsorted(self.slot, [first, last]).tolist()
        return self[begin:end]

    def beside(self, other: TilePlan, *, counted: bool = True) -> TilePlan:
        """The rows of both (of one frame and one input size), this plan's first, inputs of their own.

        `counted`: ``of`` grows by the inputs of the other.
        """
        told = self.slot is not None or other.slot is not None
        return replace(
            self,
            xyxy=np.concatenate([self.xyxy, other.xyxy]),
            scale=np.concatenate([self.scale, other.scale]),
            why=np.concatenate([self.why, other.why]),
            of=self.of + other.slots * counted,
            slot=np.concatenate([self.slot_rows, other.slot_rows + np.int32(self.slots)]) if told else None,
            at=np.concatenate([self.corner, other.corner]) if told else None,
        )

    def rows_at(self, xy: F32, slot: I32) -> I32:
        """(N,) which row lies under each (N,2) place, px of the inputs `slot` (N,); -1: padding.

        With an input of its own every tile has all of it, so that what lies beyond it stays for the caller to judge.
        """
        if self.slot is None or self.at is None:
            return np.asarray(slot, np.int32)
        row = np.full(len(xy), -1, np.int32)
        begin, end = (np.searchsorted(self.slot, slot, side=side) for side in ("left", "right"))
        covered = self.at + np.round((self.xyxy[:, 2:] - self.xyxy[:, :2]) * self.scale)
        for turn in range(int((end - begin).max(initial=0))):
            tile = np.minimum(begin + turn, len(self) - 1)
            inside = ((xy >= self.at[tile]) & (xy < covered[tile])).all(1) & (begin + turn < end)
            row = np.where(inside & (row < 0), tile, row).astype(np.int32)
        return row

    def to_frame(self, xyxy: F32, tile: I32) -> F32:
        """Map (N,4) boxes from input px of tile rows `tile` (N,) to frame px. Not clipped."""
        origin = self.xyxy[tile, :2].astype(np.float32)
        scale = self.scale[tile]
        if self.at is not None:
            xyxy = xyxy - np.tile(self.at[tile], 2)
        return np.asarray(xyxy / np.tile(scale, 2) + np.tile(origin, 2), np.float32)

    def truncated(self, xyxy: F32, tile: I32, margin_px: float = 2.0) -> U8:
        """(N,) u8 bits: which edges of (N,4) frame boxes lie at an *inner* edge of their tile.

        1 left, 2 top, 4 right, 8 bottom; 0 = whole. The frame's own border does not truncate. "At" is within `margin_px`; a
        margin that grew with the box (3 % of its side) made whole people yield to their pieces and lost more than it mended.
        """
        box = self.xyxy[tile].astype(np.float32)
        width, height = self.frame_wh
        left = (xyxy[:, 0] <= box[:, 0] + margin_px) & (box[:, 0] > 0)
        top = (xyxy[:, 1] <= box[:, 1] + margin_px) & (box[:, 1] > 0)
        right = (xyxy[:, 2] >= box[:, 2] - margin_px) & (box[:, 2] < width)
        bottom = (xyxy[:, 3] >= box[:, 3] - margin_px) & (box[:, 3] < height)
        return np.asarray(left * 1 + top * 2 + right * 4 + bottom * 8, np.uint8)
