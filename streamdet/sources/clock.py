"""Time stamps of a container -> media seconds that always move forward."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction

__all__ = ["MediaClock", "utc_now"]

_JUMP_BACK_S = 1.0
_LEAST_STEP_S = 1e-4
_MOST_REPEATS = 3  # in a row, of stamps that are behind


def utc_now() -> str:
    """Wall clock to the millisecond, ISO 8601 with ``Z``."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class MediaClock:
    """Gives each frame its media time: seconds since the first frame, strictly increasing.

    A sound time stamp is taken as it is, also after a gap or at a changing rate. What is assumed where it is not sound:

    - presentation stamps that go backward more often than the decoding stamps do (AVI stores none, they are guessed):
      the decoding stamp is taken instead, as FFmpeg's own best-effort rule does;
    - none at all: the frame follows the preceding one after its duration (`step_s` of :meth:`__call__`);
    - repeated, or a little backward: half a duration after the preceding frame, so that sound stamps catch up again;
    - backward by more than a second, or still behind after a few frames (joined recordings, a restarted encoder, a stamp
      that never changes): a new origin; the frame follows after one duration, and differences between stamps count from there.

    Attributes:
        stamp: the container's stamp that was trusted for the latest frame, or None.
        last_s: media time of the latest frame, 0 before the first.
    """

    def __init__(self, *, trust_pts: bool = True) -> None:
        self.stamp: int | None = None
        self.last_s = 0.0
        self._started = False
        self._origin: Fraction | None = None
        self._pts_faults = 0 if trust_pts else 1
        self._dts_faults = 0
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._behind = 0  # frames in a row

    def __call__(self, pts: int | None, dts: int | None, time_base: Fraction | None, *, step_s: float) -> float:
        """Media seconds of the next frame; `step_s` is the time a frame is expected to last."""
        self.stamp = self._trusted(pts, dts)
        seconds = None if self.stamp is None or not time_base else self.stamp * time_base
        self.last_s = self._next(seconds, max(step_s, _LEAST_STEP_S))
        self._started = True
        return self.last_s

    def _trusted(self, pts: int | None, dts: int | None) -> int | None:
        if pts is not None:
            self._pts_faults += self._last_pts is not None and pts <= self._last_pts
            self._last_pts = pts
        if dts is not None:
            self._dts_faults += self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        pts_is_sound = self._pts_faults <= self._dts_faults or self._last_dts is None
        return pts if pts is not None and pts_is_sound else dts

    def _next(self, stamp: Fraction | None, step_s: float) -> float:
        follows_s = self.last_s + step_s if self._started else 0.0
        if stamp is None:
            return follows_s
        if self._origin is None:
            self._origin = stamp - Fraction(follows_s)
        now_s = float(stamp - self._origin)
        if not self._started or now_s > self.last_s:
            self._behind = 0
            return now_s
        self._behind += 1
        if self.last_s - now_s > _JUMP_BACK_S or self._behind > _MOST_REPEATS:
            self._origin = stamp - Fraction(follows_s)
            return follows_s
        return self.last_s + step_s / 2
