"""Nouns of the motion folder: the planes of a frame, a window of it that was looked at, and the regions found.

All of them are columns or planes; nothing here computes anything.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from streamdet.motion.sheet import Box
from streamdet.types import F32, I32, U8

__all__ = ["SPLIT_BELOW_PX", "STILL_BELOW", "Planes", "Shapes", "Window"]

STILL_BELOW = 0.4  # share of moving pixels from which on a region is not asked whether it is a ghost
SPLIT_BELOW_PX = 4000  # area of the box up to which it may be one in part


@dataclass(frozen=True, slots=True)
class Planes:
    """The aligned planes of one frame; `tolerant`: compare with a pixel of slack, because the camera moves."""

    luma: U8
    previous: U8
    background: U8
    tolerant: bool = False


class Window(NamedTuple):
    """A rectangle that was looked at: `labels` say which region each pixel belongs to, `mask` which pixels differ.

    In a large window a "pixel" is a square of `pool` px.
    """

    xyxy: Box
    labels: I32
    mask: U8
    pool: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Shapes:
    """R regions, column by column.

    xyxy (R,4) f32 px, tight; area: px above half the threshold; core: px above the threshold; contrast: grey levels, near the
    peak; ratio: contrast in thresholds; moving: share of its pixels that also differ from the preceding frame; sign: mean
    sign of the difference to the background, -1..1, where a part may be a ghost, 1 elsewhere; prominence: contrast over the
    level at which it comes apart from a larger region (its ratio, if it stands alone); rank: 0 the strongest detail of its
    parent, -1 stands alone; parent: area of the larger region it is a detail of, 0 if it stands alone; around, around_now:
    shares of a ring round its box that differ from the background, and from the preceding frame; window, label: where its
    pixels are (label 0: a detail).
    """

    xyxy: F32
    area: F32
    core: F32
    contrast: F32
    ratio: F32
    moving: F32
    sign: F32
    prominence: F32
    rank: I32
    parent: F32
    around: F32
    around_now: F32
    window: I32
    label: I32

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, rows: Any) -> Shapes:
        return Shapes(*(getattr(self, f.name)[rows] for f in fields(self)))

    @staticmethod
    def concat(parts: list[Shapes]) -> Shapes:
        if not parts:
            none, index = np.zeros(0, np.float32), np.zeros(0, np.int32)
            return Shapes(
                xyxy=np.zeros((0, 4), np.float32),
                area=none,
                core=none,
                contrast=none,
                ratio=none,
                moving=none,
                sign=none,
                prominence=none,
                rank=index,
                parent=none,
                around=none,
                around_now=none,
                window=index,
                label=index,
            )
        return Shapes(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Shapes)))
