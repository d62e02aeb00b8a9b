"""The motion model of one stream: Frame -> Motion.

A frame goes through this once: is it a repeat, another scene, other light, another view (settle that first); which blocks
differ from the background; what regions their differing pixels form; which of those are ghosts; how sure is each, by its
looks and by what it did before. The background is brought up to date at the beginning of the *next* call, so what is handed
out is the background before this frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from streamdet.config import MotionConfig
from streamdet.motion.activity import BLOCK_PX, BlockMaxima, BlockNoise, tolerant_difference
from streamdet.motion.align import warp
from streamdet.motion.background import Background, Patch
from streamdet.motion.camera import Camera
from streamdet.motion.glimpse import Glimpser, rows_together
from streamdet.motion.history import History
from streamdet.motion.judge import judge
from streamdet.motion.light import Relight, Spectrum, another_scene, fit_light, sample
from streamdet.motion.regions import find_regions
from streamdet.motion.repeats import Repeats
from streamdet.motion.shapes import Planes, Shapes
from streamdet.motion.strength import describe, strength_of
from streamdet.protocols import Glimpse
from streamdet.types import F32, I16, U8, Bool, Frame, Motion, MotionState

__all__ = ["MotionModel", "Scene"]

_HOLD = 5.0  # background time constants after which what stands still is part of the scene
_SIGMAS_PER_LEVEL = 3.0  # the largest of 256 noisy pixels lies about three sigma out
_HIGHEST_THRESHOLD = 48.0
_BUSY_SHARE = 0.08  # of the blocks; below it nobody asks whether the camera moves
_AGREE = 0.9  # share of pixels that agree with the preceding frame in an ordinary picture
_CUT_BELOW, _DOUBTFUL = 0.4, 0.75
_LARGEST_GAP_S = 5.0
_USUAL_DT_S = 1 / 30
_DETAIL_AT_LEAST_PX, _DETAIL_SHARE = 40.0, 1 / 12


class MotionModel:
    """Stateful, one per stream: call it with every frame, in order. A new epoch or picture size starts afresh."""

    def __init__(self, config: MotionConfig | None = None) -> None:
        self._config = config or MotionConfig()
        self._scene: Scene | None = None
        self._glimpser = Glimpser()

    def glimpse(self, frame: Frame) -> Glimpse | None:
        """Ahead of the call with `frame`, on whatever thread, in order. None of a still."""
        return self._glimpser(frame)

    def __call__(self, frame: Frame, glimpse: Glimpse | None = None) -> Motion:
        """What changed in `frame`. The planes are valid until the next call."""
        if frame.still:
            self._scene = None
            windowed = frame.picture.windows is not None
            return Motion(luma=np.zeros((0, 0), np.uint8) if windowed else frame.picture.luma)
        scene = self._scene
        if scene is not None and scene.epoch == frame.epoch and scene.wh == frame.wh:
            motion = scene.look(frame, glimpse)
            if motion is not None:
                return motion
        self._scene = self._begin(frame)
        return self._scene.first("first" if scene is None or scene.epoch != frame.epoch else "cut")

    def _begin(self, frame: Frame) -> Scene:
        return Scene(frame, self._config)


@dataclass(frozen=True, slots=True)
class Update:
    """What the background has yet to learn from the frame it was last compared with."""

    luma: U8
    dt_s: float
    frozen: Bool
    patches: list[Patch]


class Scene:
    """Everything known of one continuous shot. What touches whole planes is apart, below: `on_device` does that elsewhere."""

    def __init__(self, frame: Frame, config: MotionConfig) -> None:
        self.wh, self.epoch = frame.wh, frame.epoch
        self._config = config
        self._limit_px = config.largest_px or max(_DETAIL_AT_LEAST_PX, _DETAIL_SHARE * frame.wh[1])
        self._pts_s, self._dt_s = frame.pts_s, _USUAL_DT_S
        self._picture = frame.picture
        self._maxima = BlockMaxima(frame.wh)
        self._noise = BlockNoise(self._maxima.shape)
        self._camera = Camera(frame.wh)
        self._usual_noise = 2.0
        self._repeats = Repeats()
        self._history = History(self._maxima.shape)
        self._standing_s = np.zeros(self._maxima.shape, np.float32)
        self._change = np.zeros(self._maxima.shape, np.uint8)
        self._update: Update | None = None
        self._last: Motion | None = None
        self._before_previous: U8 | None = None
        self._sample = self._open(frame)

    def first(self, state: MotionState) -> Motion:
        """The Motion of the frame it began with."""
        return Motion(luma=self._picture.luma, state=state)

    def look(self, frame: Frame, glimpse: Glimpse | None = None) -> Motion | None:
        """The Motion of `frame`, or None if it begins another scene."""
        luma, dt_s = self._bring(frame, glimpse), self._elapsed(frame)
        change, now = self._glimpsed(glimpse) or (self._changed(luma), self._sampled(luma))
        since = Spectrum(now, self._sample)
        if self._last is not None and self._repeats(since.mean(), change, self._last, dt_s):
            return replace(self._last, luma=self._shown(frame), state="repeat")
        self._learn()
        noise = since.spread()  # about its median: light that changes is no noise
        state: MotionState = "steady"
        light = self._light(now, since)
        if light is not None:
            state = "exposure"
            self._relight(light)
            change = self._changed(luma)
        threshold = self._threshold()
        moving = self._follow_camera(luma, change > threshold, dt_s)
        agree = since.within(max(12.0, 4 * self._usual_noise)) if light is None else light.after
        if not moving and not self._camera.agreeing and self._is_cut(now, agree, noise, light):
            return None
        if not moving:
            self._follow_light(now)
        planes = self._planes(luma, moving)
        if moving:
            change = self._maxima.of(tolerant_difference(planes.luma, planes.previous))
            away = self._maxima.of(tolerant_difference(planes.luma, planes.background))
            state = "moving" if state == "steady" else state
        else:
            away = self._away(planes)
        active = np.asarray(away > threshold, np.bool_)
        shapes, frozen, patches = self._regions(planes, active, threshold, dt_s)
        features = describe(shapes, active, self._change, self._noise.level)
        self._noise.update(np.minimum(change, away), dt_s)
        shift_xy = self._camera.shift_xy if moving else (0.0, 0.0)
        self._last = replace(
            self._shown_planes(frame, planes, moving),
            regions=shapes.xyxy,
            strength=self._history(shapes, strength_of(features), dt_s, shift_xy),
            state=state,
            shift_xy=shift_xy,
            dt_s=dt_s,
            noise=noise,
        )
        if state == "steady":
            self._usual_noise += 0.1 * (min(noise, 3 * self._usual_noise) - self._usual_noise)
        self._update = Update(planes.luma, dt_s, frozen, patches)
        self._sample, self._change, self._pts_s = now, change, frame.pts_s
        self._remember(frame, planes)
        return self._last

    def _is_cut(self, now: I16, agree: float, spread: float, light: Relight | None) -> bool:
        """Little agrees with the preceding frame; or half does, by tone alone."""
        if agree < _CUT_BELOW:
            return True
        return agree < _DOUBTFUL and light is None and another_scene(now, self._sample, self.wh[::-1], spread)

    def _elapsed(self, frame: Frame) -> float:
        """Media seconds since the preceding distinct frame; the usual step where the file's clock stands or runs backwards."""
        dt_s = frame.pts_s - self._pts_s
        if not dt_s > 0:
            return self._dt_s
        self._dt_s = min(dt_s, _LARGEST_GAP_S)
        return dt_s

    def _threshold(self) -> F32:
        config = self._config
        level = self._noise.level * np.float32(config.threshold_sigma / _SIGMAS_PER_LEVEL)
        return np.asarray(np.clip(level, config.min_level, max(_HIGHEST_THRESHOLD, config.min_level)), np.float32)

    def _light(self, now: I16, since: Spectrum) -> Relight | None:
        """A jump in brightness of the whole picture that explains why little agrees with the preceding frame."""
        tolerance = max(4.0, 2.0 * self._usual_noise)
        if since.within(tolerance) > _AGREE:
            return None
        light = fit_light(now, self._sample, tolerance)
        explains = light.after > 0.6 and light.after > light.before + 0.25
        return light if explains and light.shift >= 3.0 else None

    def _relight(self, light: Relight) -> None:
        self._relight_all(light.table)
        self._sample = light.table[self._sample].astype(np.int16)

    def _follow_light(self, now: I16) -> None:
        """A slow change of the whole picture: the background goes along."""
        background = self._background_sampled()
        difference = now - background
        half = len(now) // 2
        if np.count_nonzero(difference <= -2) < half and np.count_nonzero(difference >= 2) < half:
            return  # the median lies between
        if abs(Spectrum(now, background).median()) < 2.0:
            return
        light = fit_light(now, background, 4.0)
        if light.after > light.before + 0.1:
            self._relight_background(light.table)

    def _follow_camera(self, luma: U8, changed: Bool, dt_s: float) -> bool:
        if self._config.compensate == "off":
            return False
        busy = bool(np.count_nonzero(changed) > _BUSY_SHARE * changed.size)
        luma, background = self._whole(luma) if self._camera.asks(busy) else (luma, luma)
        return self._camera.follow(background, luma, busy, dt_s)

    def _regions(self, planes: Planes, active: Bool, threshold: F32, dt_s: float) -> tuple[Shapes, Bool, list[Patch]]:
        shapes, windows = find_regions(planes, active, threshold, self._limit_px)
        verdict = judge(planes, shapes, windows, self._standing_s, self._config.background_s * _HOLD, dt_s)
        shapes = shapes[verdict.keep]
        frozen = np.zeros(active.shape, bool)
        for x1, y1, x2, y2 in (shapes.xyxy[shapes.parent == 0] // BLOCK_PX).astype(int).tolist():
            frozen[y1 : y2 + 1, x1 : x2 + 1] = True
        frozen &= active
        return shapes, frozen, verdict.patches

    # ------------------------------------------------------------------------------------------------- whole planes

    def _open(self, frame: Frame) -> I16:
        """The first frame is all that is known of the scene; a sample of it."""
        luma = rows_together(frame.picture.luma)
        self._previous = luma
        self._background = Background(luma, self._config.background_s)
        return sample(luma)

    def _bring(self, frame: Frame, glimpse: Glimpse | None) -> U8:
        return rows_together(frame.picture.luma) if glimpse is None else glimpse.luma

    def _glimpsed(self, glimpse: Glimpse | None) -> tuple[U8, I16] | None:
        """Change and sample, if they were taken ahead against the very frame that is the preceding one here."""
        if glimpse is None or glimpse.change is None or glimpse.before is not self._previous:
            return None
        return glimpse.change, glimpse.sample

    def _changed(self, luma: U8) -> U8:
        return self._maxima(luma, self._previous)

    def _away(self, planes: Planes) -> U8:
        return self._maxima(planes.luma, planes.background)

    def _sampled(self, luma: U8) -> I16:
        return sample(luma)

    def _background_sampled(self) -> I16:
        return sample(self._background.plane)

    def _whole(self, luma: U8) -> tuple[U8, U8]:
        """This frame and the background, all of their pixels."""
        return luma, self._background.plane

    def _relight_all(self, table: U8) -> None:
        """Background and earlier frames look as if they had been taken in today's light."""
        self._relight_background(table)
        self._previous = np.asarray(cv2.LUT(self._previous, table), np.uint8)
        if self._before_previous is not None:
            self._before_previous = np.asarray(cv2.LUT(self._before_previous, table), np.uint8)

    def _relight_background(self, table: U8) -> None:
        self._background.relight(table)

    def _planes(self, luma: U8, moving: bool) -> Planes:
        """As they are seen from here."""
        if not moving:
            return Planes(luma, self._previous, self._background.plane)
        previous = warp(self._previous, self._camera.step, luma)
        return Planes(luma, previous, self._camera.seen_now(self._background.plane, luma), tolerant=True)

    def _shown(self, frame: Frame) -> U8:
        return frame.picture.luma

    def _shown_planes(self, frame: Frame, planes: Planes, moving: bool) -> Motion:
        """What is handed out, so far only its planes."""
        before = self._before_previous
        if moving and before is not None:
            before = warp(before, self._camera.step, planes.previous)
        return Motion(
            luma=frame.picture.luma,
            previous=planes.previous,
            before_previous=before,
            background=planes.background,
        )

    def _remember(self, frame: Frame, planes: Planes) -> None:
        self._before_previous = planes.previous  # aligned onto this frame, so both are in this frame's view
        self._previous = planes.luma

    def _learn(self) -> None:
        """Bring the background up to date with the frame before."""
        update, self._update = self._update, None
        if update is None:
            return
        camera, background = self._camera, self._background
        if not camera.moving:
            background.heal(update.luma, update.patches)
            background.update(update.luma, update.dt_s, update.frozen)
            return
        if camera.wants_new_anchor():
            background.replace(camera.seen_now(background.plane, update.luma))
            camera.anchor_here()
        seen = camera.seen_from_anchor(update.luma, background.plane)
        background.update(seen, 3 * update.dt_s, np.zeros_like(update.frozen))  # resampling blurs: follow faster
