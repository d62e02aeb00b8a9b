"""Does the camera move, and how do earlier planes look from where it is now?"""

from __future__ import annotations

import numpy as np

from streamdet.motion.align import Transform, compose, estimate, identity, inverse, warp
from streamdet.types import U8

__all__ = ["Camera"]

_MOVED_PX = 0.5
_SETTLED_PX = 0.3
_SETTLE_S = 0.5
_ASK_AGAIN = 4  # frames after which a still camera with much activity is looked at again
_REANCHOR = 0.08  # of the picture's longer side


class Camera:
    """Follows the pose of the camera relative to the background plane (its anchor).

    Every frame of a moving camera is laid onto the background itself, not chained from frame to frame, so a shaking camera
    does not drift and its background is resampled never; a panning one re-anchors it every few per cent of the width.
    """

    def __init__(self, wh: tuple[int, int]) -> None:
        self._wh = wh
        self.moving = False
        self.pose = identity()  # background px -> px of the present frame
        self.before = identity()  # the same for the preceding frame
        self.agreeing = False
        self._rest = 0
        self._settled_s = 0.0

    def asks(self, busy: bool) -> bool:
        """Whether :meth:`follow` would look at the planes."""
        return self.moving or (busy and self._rest <= 1)

    def follow(self, background: U8, luma: U8, busy: bool, dt_s: float) -> bool:
        """Update the pose; True if the camera moves, so that planes must be aligned. `busy`: much of the picture changed.

        A still camera with little activity costs nothing here.
        """
        self.before = self.pose
        self._rest -= 1
        if not self.moving and (not busy or self._rest > 0):
            return False
        found = estimate(background, luma)
        self.agreeing = found is not None
        if found is None:
            self._settled_s += dt_s if self.moving else 0.0  # nothing to hold on to any more: let it be still
            return self.moving
        if not self.moving and self._reach(found.transform) < _MOVED_PX:
            self._rest = _ASK_AGAIN
            return False
        self.moving, self.pose = True, found.transform
        step = self._reach(self.step)
        self._settled_s = self._settled_s + dt_s if step < _SETTLED_PX else 0.0
        return True

    @property
    def step(self) -> Transform:
        """Px of the preceding frame -> px of the present one."""
        return compose(self.pose, inverse(self.before))

    @property
    def shift_xy(self) -> tuple[float, float]:
        """How far the middle of the picture moved since the preceding frame, px."""
        centre = np.array(self._wh) / 2
        moved = self.step[:, :2] @ centre + self.step[:, 2] - centre
        return float(moved[0]), float(moved[1])

    def seen_now(self, background: U8, luma: U8) -> U8:
        return warp(background, self.pose, luma)

    def seen_from_anchor(self, luma: U8, background: U8) -> U8:
        return warp(luma, inverse(self.pose), background)

    def wants_new_anchor(self) -> bool:
        """The camera has settled, or moved so far that the background plane no longer covers the picture."""
        far = self._reach(self.pose) > _REANCHOR * max(self._wh)
        return self.moving and (far or self._settled_s > _SETTLE_S)

    def anchor_here(self) -> None:
        """The background has been redrawn as seen from here."""
        self.pose = identity()
        if self._settled_s > _SETTLE_S:
            self.moving, self._settled_s, self._rest = False, 0.0, 0

    def _reach(self, transform: Transform) -> float:
        """The largest displacement of a corner, px."""
        width, height = self._wh
        corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], float)
        moved = corners @ transform[:, :2].T + transform[:, 2] - corners
        return float(np.abs(moved).max())
