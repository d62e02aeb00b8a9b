"""The noun TilePlan: which rectangles of a frame the network is shown, where they lie in its inputs, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from streamdet.arrays import F32, I32, U8

__all__ = ["WHY_ALL", "WHY_MOTION", "WHY_NAMES", "WHY_SMALL", "WHY_SWEEP", "WHY_TRACK", "TilePlan"]

WHY_NAMES = ("all", "motion", "track", "sweep", "small")
WHY_ALL, WHY_MOTION, WHY_TRACK, WHY_SWEEP, WHY_SMALL = range(5)


@dataclass(frozen=True, slots=True, eq=False)
class TilePlan:
    """Rectangles of a frame and how each maps to the network's input; the only owner of tile <-> frame mapping.

    A tile ``xyxy`` is scaled by ``scale`` (x, y) and put at the top-left of an ``input_wh`` picture; what it does not
    cover is padding. Tiles lie inside the frame.

    Attributes:
        frame_wh, input_wh: px.
        xyxy: (T,4) i32 px in the frame.
        scale: (T,2) f32 input px per frame px, in x and y (equal unless the model wants a stretched picture).
        why: (T,) u8 index into :data:`WHY_NAMES`: why this tile is run in this frame.
        of: how many tiles the full plan holds (so ``len(plan)`` run of ``of``).
    """

    frame_wh: tuple[int, int]
    input_wh: tuple[int, int]
    xyxy: I32
    scale: F32
    why: U8
    of: int

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, rows: Any) -> TilePlan:
        """The same plan with fewer tiles (`rows`: mask, slice or index array); ``of`` is kept."""
        return replace(self, xyxy=self.xyxy[rows], scale=self.scale[rows], why=self.why[rows])

    def beside(self, other: TilePlan) -> TilePlan:
        """The rows of both (of one frame and one input size), this plan's first; ``of`` grows by those of the other."""
        return replace(
            self,
            xyxy=np.concatenate([self.xyxy, other.xyxy]),
            scale=np.concatenate([self.scale, other.scale]),
            why=np.concatenate([self.why, other.why]),
            of=self.of + len(other),
        )

    def to_frame(self, xyxy: F32, tile: I32) -> F32:
        """Map (N,4) boxes from input px of tile rows `tile` (N,) to frame px. Not clipped."""
        origin = self.xyxy[tile, :2].astype(np.float32)
        scale = self.scale[tile]
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
