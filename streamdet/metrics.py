"""Where the time goes: per-stage timers with percentiles, and counters. Memory is bounded whatever the length of a run."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

__all__ = ["Distribution", "Rate", "Recent", "StageTimer"]

RECENT = 512  # values


class Recent:
    """The latest values of a stream of numbers, and their percentiles. One thread adds, others may read."""

    def __init__(self, size: int = RECENT) -> None:
        self._kept: deque[float] = deque(maxlen=size)

    def add(self, value: float) -> None:
        self._kept.append(value)

    def percentiles(self, *q: float) -> tuple[float, ...] | None:
        """None when nothing was added."""
        kept = list(self._kept)
        return tuple(float(value) for value in np.percentile(kept, q)) if kept else None


class Rate:
    """How often something happened per second, lately."""

    def __init__(self, window_s: float = 5.0) -> None:
        self._times_s: deque[float] = deque(maxlen=2048)
        self._window_s = window_s
        self._since_s = time.monotonic()

    def add(self) -> None:
        self._times_s.append(time.monotonic())

    def per_s(self) -> float:
        now_s = time.monotonic()
        first_s = max(self._since_s, now_s - self._window_s)
        count = sum(time_s > first_s for time_s in list(self._times_s))
        return count / max(now_s - first_s, 1e-3)


class Distribution:
    """Count, sum, maximum and (by reservoir sampling, at most `size` values kept) percentiles of a stream of numbers."""

    def __init__(self, size: int = 4096) -> None:
        self._kept: list[float] = []
        self._size = size
        self._random = random.Random(0)
        self.count = 0
        self.total = 0.0
        self.maximum = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value
        self.maximum = max(self.maximum, value)
        if len(self._kept) < self._size:
            self._kept.append(value)
        elif (slot := self._random.randrange(self.count)) < self._size:
            self._kept[slot] = value

    def percentile(self, q: float) -> float:
        """The `q`-th percentile, 0 when nothing was added."""
        return float(np.percentile(self._kept, q)) if self._kept else 0.0

    def summary(self) -> dict[str, float]:
        mean = self.total / self.count if self.count else 0.0
        return {
            "count": self.count,
            "mean": mean,
            "p50": self.percentile(50),
            "p95": self.percentile(95),
            "p99": self.percentile(99),
            "max": self.maximum,
        }


class StageTimer:
    """Times the stages of one frame after another; a stage entered twice in a frame adds up."""

    def __init__(self) -> None:
        self.stages: dict[str, Distribution] = {}
        self.recent: dict[str, Recent] = {}
        self._frame: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - start)

    def add(self, stage: str, seconds: float) -> None:
        """A stage of this frame that ran elsewhere."""
        self._frame[stage] = self._frame.get(stage, 0.0) + seconds

    def take(self) -> dict[str, float]:
        """Seconds per stage of the frame just done; the next one starts with an empty record."""
        done, self._frame = self._frame, {}
        for stage, spent in done.items():
            self.stages.setdefault(stage, Distribution()).add(spent)
            self.recent.setdefault(stage, Recent(128)).add(spent)
        return done

    def summary_ms(self) -> dict[str, dict[str, float]]:
        """Per stage: count, and mean/p50/p95/p99/max in milliseconds."""
        return {
            stage: {k: (v if k == "count" else round(v * 1e3, 3)) for k, v in d.summary().items()}
            for stage, d in self.stages.items()
        }
