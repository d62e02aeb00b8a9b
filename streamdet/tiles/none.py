"""A line without a network: nowhere to look, nothing to pack. The detector reads the motion itself."""

from __future__ import annotations

import numpy as np

from streamdet.types import Frame, Motion, TileBatch, TilePlan, Tracks

__all__ = ["NoPacker", "NoScheduler"]


class NoScheduler:
    """Always a plan of no tiles (``of`` = 0)."""

    def wanted(self, frame: Frame, motion: Motion, tracks: Tracks) -> TilePlan:
        empty = np.zeros((0, 4), np.int32)
        return TilePlan(frame.wh, frame.wh, empty, np.ones((0, 2), np.float32), np.zeros(0, np.uint8), 0)

    def most_urgent(self, tiles: TilePlan, most: int) -> TilePlan:
        return tiles

    def ran(self, frame: Frame, motion: Motion, tiles: TilePlan) -> None:
        """Nothing to remember."""


class NoPacker:
    """A batch of no tiles that hands frame and motion on."""

    collages = False

    def __call__(self, frame: Frame, motion: Motion, tiles: TilePlan) -> TileBatch:
        return TileBatch(np.zeros((0, 0, 0, 0), np.float32), tiles, frame, motion)
