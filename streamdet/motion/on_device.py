"""The motion model of a stream whose pictures lie on a GPU: the same frames, the same answers, and no plane comes to the host.

Differences by block, background and light are worked out there (`streamdet.protocols.DeviceScene`); down come two figures a
block, a coarse sample, and the pixels of blocks in which something differs. From these the regions are found as on the CPU, by
the same code. A camera that moves is followed on the CPU: while it does, the planes come down and everything is done there;
when it has settled they go up again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np

from streamdet.config import MotionConfig
from streamdet.motion.background import Background, Turns
from streamdet.motion.light import grid_of
from streamdet.motion.model import MotionModel, Scene
from streamdet.motion.shapes import Planes
from streamdet.protocols import DeviceScene, Glimpse, Seen
from streamdet.types import I16, U8, Bool, Frame, Motion, MotionState

__all__ = ["DeviceMotionModel"]

_NOTHING = np.zeros((0, 0), np.uint8)  # stands for a plane that is not on the host


class DeviceMotionModel(MotionModel):
    """`streamdet.motion.model.MotionModel` with its planes in `device`. `here` makes the GPU's context current."""

    def __init__(
        self,
        config: MotionConfig,
        device: DeviceScene,
        here: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        super().__init__(config)
        self._device = device
        self._here = here

    def glimpse(self, frame: Frame) -> None:
        """Nothing: the planes are not here."""

    def __call__(self, frame: Frame, glimpse: Glimpse | None = None) -> Motion:
        """What changed in `frame`. Its planes are ``on_device``, but while the camera moves."""
        with self._here():
            return super().__call__(frame)

    def _begin(self, frame: Frame) -> Scene:
        return _OnDevice(frame, self._config, self._device)


class _OnDevice(Scene):
    """A Scene whose planes lie in `device`, or, while the camera moves, on the host (`_down`)."""

    def __init__(self, frame: Frame, config: MotionConfig, device: DeviceScene) -> None:
        self._device = device
        self._down = False
        self._turns = Turns(frame.wh[::-1], config.background_s)
        self._seen: Seen
        self._fetched = _NOTHING, _NOTHING  # this frame and the background, whole
        super().__init__(frame, config)

    def first(self, state: MotionState) -> Motion:
        return Motion(luma=_NOTHING, state=state)

    def _open(self, frame: Frame) -> I16:
        return self._device.begin(frame.picture, grid_of(frame.wh[::-1]))

    def _bring(self, frame: Frame, glimpse: Glimpse | None) -> U8:
        """The picture is seen, and the background has learnt from the frame before, which no decision could stop."""
        if self._down:
            return super()._bring(frame, None)
        update, self._update = self._update, None
        self._seen = self._device.see(
            frame.picture,
            levels=self._turns.levels(update.dt_s) if update else np.zeros(-(-self.wh[1] // 64), np.uint8),
            frozen=update.frozen if update else np.zeros(self._maxima.shape, np.bool_),
            patches=update.patches if update else (),
            limit=np.minimum(self._threshold(), 255).astype(np.uint8),  # whole levels: above it is above its whole part
        )
        return _NOTHING

    def _changed(self, luma: U8) -> U8:
        return super()._changed(luma) if self._down else self._seen.change

    def _sampled(self, luma: U8) -> I16:
        return super()._sampled(luma) if self._down else self._seen.luma

    def _background_sampled(self) -> I16:
        return super()._background_sampled() if self._down else self._seen.background

    def _relight_all(self, table: U8) -> None:
        if self._down:
            super()._relight_all(table)
        else:
            self._seen = self._device.relight(table, earlier=True)

    def _relight_background(self, table: U8) -> None:
        if self._down:
            super()._relight_background(table)
        else:
            self._seen = self._device.relight(table, earlier=False)

    def _whole(self, luma: U8) -> tuple[U8, U8]:
        if self._down:
            return super()._whole(luma)
        self._fetched = self._device.whole()
        return self._fetched

    def _follow_camera(self, luma: U8, changed: Bool, dt_s: float) -> bool:
        moving = super()._follow_camera(luma, changed, dt_s)
        if moving and not self._down:
            self._down = True
            self._previous, self._before_previous = self._device.earlier()
            self._background = Background(self._fetched[1], self._config.background_s, self._turns)
        return moving

    def _planes(self, luma: U8, moving: bool) -> Planes:
        if self._down:
            return super()._planes(luma if luma.size else self._fetched[0], moving)
        return Planes(*self._device.active())

    def _away(self, planes: Planes) -> U8:
        return super()._away(planes) if self._down else self._seen.away

    def _shown(self, frame: Frame) -> U8:
        return super()._shown(frame) if self._down else _NOTHING

    def _shown_planes(self, frame: Frame, planes: Planes, moving: bool) -> Motion:
        if self._down:
            return super()._shown_planes(frame, planes, moving)
        return Motion(luma=_NOTHING, on_device=self._device.planes())

    def _remember(self, frame: Frame, planes: Planes) -> None:
        if not self._down:
            self._device.remember()
            return
        super()._remember(frame, planes)
        if not self._camera.moving:
            assert self._before_previous is not None
            self._device.resume(frame.picture, self._before_previous, self._background.plane)
            self._down = False
