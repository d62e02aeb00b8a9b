"""What can be told of a frame before its turn comes, on another thread: how it differs from the one before it."""

from __future__ import annotations

import cv2
import numpy as np

from streamdet.motion.activity import BlockMaxima
from streamdet.motion.light import sample
from streamdet.protocols import Glimpse
from streamdet.types import U8, Frame

__all__ = ["Glimpser", "rows_together"]

_STRIPE_PX = 720


class Glimpser:
    """Sees every frame of a stream, in order, and remembers the last."""

    def __init__(self) -> None:
        self._before: U8 | None = None
        self._maxima: BlockMaxima | None = None

    def __call__(self, frame: Frame) -> Glimpse | None:
        """None of a still."""
        if frame.still:
            return None
        luma = rows_together(frame.picture.luma)
        before, self._before = self._before, luma
        if before is None or before.shape != luma.shape:
            self._maxima = BlockMaxima(frame.wh, _STRIPE_PX)
            return Glimpse(luma, None, None, sample(luma))
        assert self._maxima is not None
        return Glimpse(luma, before, self._maxima(luma, before), sample(luma))


def rows_together(luma: U8) -> U8:
    """The plane with pixels of a row side by side in memory, as OpenCV wants them (upright video is a view as it is)."""
    if luma.strides[1] == 1:
        return luma
    if luma.strides[0] == 1:
        return np.asarray(cv2.transpose(luma.T), np.uint8)
    return np.ascontiguousarray(luma)
