"""Ids of events: unique everywhere, and sorting in the order they were given."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

__all__ = ["EventIds"]

COUNTER_MAX = 0xFFF


class EventIds:
    """UUID version 7 (RFC 9562, method 1): 48 bits of wall clock in ms, a 12-bit counter, 62 random bits.

    Each id is greater than the one before, as text too, and greater than `after` (the last one given before a restart), also
    when the clock is set back: then the counter and, past it, the ms go on from there. Not thread-safe.
    """

    def __init__(
        self, after: str | None = None, *, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        self._now_ms = now_ms
        self._ms, self._counter = (0, 0) if after is None else _parts(after)

    def __call__(self) -> str:
        ms = self._now_ms()
        if ms > self._ms:
            self._ms, self._counter = ms, 0
        elif self._counter < COUNTER_MAX:
            self._counter += 1
        else:
            self._ms, self._counter = self._ms + 1, 0
        chance = int.from_bytes(os.urandom(8)) & 0x3FFF_FFFF_FFFF_FFFF
        text = f"{(self._ms << 80) | (0x7 << 76) | (self._counter << 64) | (0b10 << 62) | chance:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _parts(event_id: str) -> tuple[int, int]:
    try:
        value = int(event_id.replace("-", ""), 16)
    except ValueError:
        return 0, 0
    return value >> 80, (value >> 64) & COUNTER_MAX
