"""Who is in a zone: enter, leave and dwell, believed only after `inertia` frames."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamdet.config import Zone
from streamdet.errors import ConfigError
from streamdet.rules.geometry import allowed_labels, anchors, inside, to_px

__all__ = ["ZoneWatch"]

Found = tuple[int, Literal["enter", "leave", "dwell"], float | None]


class ZoneWatch:
    """Watches one zone. Tracks are known by a slot number; only real hits are shown to it, never predicted positions.

    A visit begins with the first of `inertia` consecutive hits inside and ends with the last hit inside before `inertia`
    consecutive ones outside: ``dwell_s`` of "leave" is the time between the two.
    """

    def __init__(self, zone: Zone, labels: tuple[str, ...]) -> None:
        if len(zone.polygon) < 3:
            raise ConfigError(f"zone '{zone.name}' has {len(zone.polygon)} points; a polygon needs at least 3")
        self.zone = zone
        self.enters: Counter[int] = Counter()
        self.leaves: Counter[int] = Counter()
        self._allowed = allowed_labels(zone.classes, labels, f"zone '{zone.name}'")
        self._polygon = np.zeros((3, 2))
        self._dwell_s = sorted(zone.dwell_s)
        self._believed = np.zeros(0, np.bool_)
        self._streak = np.zeros(0, np.int64)  # consecutive hits that contradict what is believed
        self._since_s = np.zeros(0)  # first hit inside of the visit
        self._seen_s = np.zeros(0)  # last hit inside
        self._told = np.zeros(0, np.int64)  # how many of `dwell_s` were reported in this visit

    def resolve(self, frame_wh: tuple[int, int]) -> None:
        """Take the size of the picture: relative coordinates become px."""
        self._polygon = to_px(self.zone.polygon, frame_wh)

    def reserve(self, slots: int) -> None:
        """Make room for slot numbers below `slots`."""
        for name in ("_believed", "_streak", "_since_s", "_seen_s", "_told"):
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.zeros(slots - len(old), old.dtype)]))

    def step(self, slots: NDArray[np.int64], xyxy: NDArray[Any], label: NDArray[Any], pts_s: float) -> list[Found]:
        """Look at the hits of one frame; returns (position in `slots`, type, dwell_s) of what happened."""
        now = inside(anchors(xyxy, self.zone.anchor), self._polygon)
        if self._allowed is not None:
            now &= np.isin(label, self._allowed)
        before = self._believed[slots]
        streak = np.where(now != before, self._streak[slots] + 1, 0)
        self._since_s[slots[now & ~before & (streak == 1)]] = pts_s
        self._seen_s[slots[now]] = pts_s
        turned = streak >= self.zone.inertia
        self._streak[slots] = np.where(turned, 0, streak)
        self._believed[slots] = before ^ turned
        self._told[slots[turned]] = 0
        found: list[Found] = []
        for row in np.flatnonzero(turned).tolist():
            slot = int(slots[row])
            found.append((row, "leave", self._stayed_s(slot)) if before[row] else (row, "enter", None))
        return found + self._dwelling(slots, pts_s)

    def _dwelling(self, slots: NDArray[np.int64], pts_s: float) -> list[Found]:
        if not self._dwell_s:
            return []
        stayed_s = pts_s - self._since_s[slots]
        due = np.searchsorted(np.array(self._dwell_s) - 1e-9, stayed_s, side="right")
        late = self._believed[slots] & (self._streak[slots] == 0) & (due > self._told[slots])
        found: list[Found] = [(row, "dwell", float(stayed_s[row])) for row in np.flatnonzero(late).tolist()]
        self._told[slots[late]] = due[late]
        return found

    def _stayed_s(self, slot: int) -> float:
        return float(self._seen_s[slot] - self._since_s[slot])

    def forget(self, slot: int) -> float | None:
        """The track of `slot` is no more: its dwell_s if it ended inside, else None."""
        stayed_s = self._stayed_s(slot) if self._believed[slot] else None
        self._believed[slot], self._streak[slot], self._told[slot] = False, 0, 0
        return stayed_s

    def occupied(self, slots: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of `slots` are inside now."""
        return np.asarray(self._believed[slots])
