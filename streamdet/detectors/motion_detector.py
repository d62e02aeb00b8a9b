"""No network: what moves and is small, is a detection. The classical baseline behind ``--model motion``."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np

from streamdet.inputspec import InputSpec
from streamdet.types import F32, I64, WEAK_SHARE, Detections, TileBatch

__all__ = ["MotionDetector"]

_LARGEST_SHARE = 1 / 12  # of the picture's height
_LARGEST_AT_LEAST_PX = 40.0
_MOST = 1000  # regions considered; the strongest
_REACH_PX, _REACH_SHARE = 4.0, 0.5  # pieces of one mover are nearer than this many px, or this share of the smaller
_STREAK = 3.0  # a streak may be this many times longer than `largest_px`, if it is thin


class MotionDetector:
    """Turns the motion model's regions into detections labelled "mover".

    Args:
        smallest_px: regions whose longer side is below it are noise.
        largest_px: regions larger than it are people, cars, clouds; a thin streak (a fast ball) may be three times longer.
            None: a twelfth of the picture's height, at least 40.
        threshold: the strength from which a region counts as a detection.
    """

    def __init__(self, *, smallest_px: float = 2.0, largest_px: float | None = None, threshold: float = 0.3) -> None:
        self.warnings: list[str] = []
        self.counts: dict[str, int] = {}
        self._smallest_px = smallest_px
        self._largest_px = largest_px
        self._threshold = threshold

    @property
    def input(self) -> InputSpec | None:
        return None

    @property
    def local(self) -> bool:
        return False

    @property
    def many_sizes(self) -> bool:
        return False

    @property
    def labels(self) -> tuple[str, ...]:
        return ("mover",)

    @property
    def threshold(self) -> float:
        return self._threshold

    @property
    def thresholds(self) -> F32:
        return np.array([self._threshold], np.float32)

    def describe(self) -> str:
        return "motion: no network, what moves and is small"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        return None

    def __call__(self, batch: TileBatch) -> Detections:
        """Every region of the frame's motion that is of the wanted size, whatever tiles were chosen."""
        xyxy, strength = batch.motion.regions, batch.motion.strength
        largest = self._largest_px or max(_LARGEST_AT_LEAST_PX, batch.motion.luma.shape[0] * _LARGEST_SHARE)
        side = xyxy[:, 2:] - xyxy[:, :2]
        long, short = side.max(1, initial=0), np.minimum(side[:, 0], side[:, 1])
        fits = (long <= largest) | ((long <= _STREAK * largest) & (short <= largest / 2) & (long >= 3 * short))
        keep = np.flatnonzero(fits & (long >= self._smallest_px) & (strength >= WEAK_SHARE * self._threshold))
        keep = keep[_strongest_of_each_cluster(xyxy[keep], strength[keep])]
        return Detections.of(xyxy[keep], strength[keep])

    def together(self, batches: Sequence[TileBatch]) -> list[Detections]:
        return [self(batch) for batch in batches]


def _strongest_of_each_cluster(xyxy: F32, strength: F32) -> I64:
    """Rows to keep, strongest first: pieces of one mover lie within a few pixels of its strongest piece and are dropped."""
    order = np.argsort(-strength, kind="stable")[:_MOST]
    box = xyxy[order]
    side = (box[:, 2:] - box[:, :2]).max(1, initial=0)
    reach = np.maximum(_REACH_PX, _REACH_SHARE * np.minimum(side[:, None], side[None, :]))
    gap = np.maximum(
        np.maximum(box[:, None, 0] - box[None, :, 2], box[None, :, 0] - box[:, None, 2]),
        np.maximum(box[:, None, 1] - box[None, :, 3], box[None, :, 1] - box[:, None, 3]),
    )
    near = gap < reach
    alive = np.ones(len(order), bool)
    for row in range(len(order)):
        if alive[row]:
            alive[row + 1 :] &= ~near[row, row + 1 :]
    return order[alive]
