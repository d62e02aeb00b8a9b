"""What a stream did so far, in numbers: histograms for Prometheus, ten minutes of seconds for charts. Memory is bounded."""

from __future__ import annotations

import bisect
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

from streamdet.types import WHY_NAMES, Event, Result

__all__ = ["BUCKETS_S", "Histogram", "Second", "Tally"]

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_KEPT_S = 600


class Histogram:
    """Counts per bucket of :data:`BUCKETS_S` (upper bounds, seconds; one more for what lies above), and their sum."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect.bisect_left(BUCKETS_S, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        return sum(self.counts)

    def copy(self) -> Histogram:
        other = Histogram()
        other.counts, other.total = list(self.counts), self.total
        return other


@dataclass(slots=True)
class Second:
    """One second of wall time: `at` is its Unix time; sums over its frames, so that a mean is sum / frames."""

    at: int
    frames: int = 0
    objects: int = 0  # the most seen at once
    latency_s: float = 0.0  # sum over the live frames
    tiles_run: int = 0
    tiles_of: int = 0
    events: int = 0


@dataclass(slots=True)
class Totals:
    """A copy of what was counted, safe to read at leisure."""

    frames: int = 0
    events: dict[str, int] = field(default_factory=dict)
    tiles: dict[str, int] = field(default_factory=dict)
    tiles_of: int = 0
    stages: dict[str, Histogram] = field(default_factory=dict)
    latency: Histogram = field(default_factory=Histogram)


class Tally:
    """Counts the Results of one stream; written by its sink thread, read by any other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frames = 0
        self._objects = 0
        self._events: Counter[str] = Counter()
        self._tiles = np.zeros(len(WHY_NAMES), np.int64)
        self._tiles_of = 0
        self._stages: dict[str, Histogram] = {}
        self._latency = Histogram()
        self._seconds: deque[Second] = deque(maxlen=_KEPT_S)

    def add(self, result: Result) -> None:
        latency_s = None if result.frame.utc is None else max(0.0, time.monotonic() - result.frame.captured_s)
        with self._lock:
            second = self._second()
            self._frames += 1
            second.frames += 1
            self._objects = len(result.tracks.shown)
            second.objects = max(second.objects, self._objects)
            for stage, spent_s in result.timings_s.items():
                self._stages.setdefault(stage, Histogram()).add(spent_s)
            if latency_s is not None:
                self._latency.add(latency_s)
                second.latency_s += latency_s
            if result.tiles is not None:
                self._tiles += np.bincount(result.tiles.slot_why, minlength=len(WHY_NAMES))
                self._tiles_of += result.tiles.of
                second.tiles_run += result.tiles.slots
                second.tiles_of += result.tiles.of
            self._note(result.events, second)

    def add_events(self, events: tuple[Event, ...]) -> None:
        with self._lock:
            self._note(events, self._second())

    @property
    def objects(self) -> int:
        """In the newest frame."""
        return self._objects

    def totals(self) -> Totals:
        with self._lock:
            return Totals(
                frames=self._frames,
                events=dict(self._events),
                tiles={name: int(count) for name, count in zip(WHY_NAMES, self._tiles, strict=True)},
                tiles_of=self._tiles_of,
                stages={name: histogram.copy() for name, histogram in self._stages.items()},
                latency=self._latency.copy(),
            )

    def seconds(self, last: int = _KEPT_S) -> list[Second]:
        """The seconds in which something was processed, oldest first, of the `last` ones; the running one is left out."""
        now = int(time.time())
        with self._lock:
            return [second for second in self._seconds if now - last <= second.at < now]

    def _note(self, events: tuple[Event, ...], second: Second) -> None:
        self._events.update(event.type for event in events)
        second.events += len(events)

    def _second(self) -> Second:
        at = int(time.time())
        if not self._seconds or self._seconds[-1].at != at:
            self._seconds.append(Second(at))
        return self._seconds[-1]
