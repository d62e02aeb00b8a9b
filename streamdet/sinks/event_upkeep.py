"""Retention of the event store: what is old goes, what was not delivered stays up to a limit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from streamdet.config import StoreConfig
from streamdet.sinks.event_file import EventFile

__all__ = ["Upkeep"]

log = logging.getLogger(__name__)

EVERY_S = 30.0
AT_ONCE = 2000  # events deleted in one transaction: appended ones do not wait long for it
CLOCK_JUMP_S = 60.0
CLOCK_REST_S = 3600.0  # after a jump of the clock nothing is deleted by age for so long


class Upkeep:
    """Called by the writing thread when it has nothing to write; does a bounded piece of work every now and then."""

    def __init__(
        self,
        file: EventFile,
        config: StoreConfig,
        *,
        wall_s: Callable[[], float] = time.time,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = file
        self._config = config
        self._wall_s, self._steady_s = wall_s, steady_s
        self._due_s = steady_s()
        self._offset_s = wall_s() - steady_s()
        self._ages_from_s = steady_s()

    def __call__(self, last_seq: int, cursors: Mapping[str, int]) -> dict[str, int]:
        """Delete what may go. Returns new cursors of destinations that are overtaken: too much waited for them."""
        now_s = self._steady_s()
        if now_s < self._due_s:
            return {}
        self._due_s = now_s + EVERY_S  # also if it fails
        floor = last_seq - self._config.keep_undelivered
        overtaken = {name: floor for name, seq in cursors.items() if seq < floor}
        for name in overtaken:
            log.error(
                "destination %s: the %d oldest events it did not take are dropped: more than %d waited (store.keep_undelivered)",
                name, floor - cursors[name], self._config.keep_undelivered,
            )  # fmt: skip
        deleted = self._file.delete(
            before_ms=self._before_ms(now_s),
            first_kept=last_seq - self._config.keep_events + 1,
            pinned_after=min((max(seq, floor) for seq in cursors.values()), default=last_seq),
            limit=AT_ONCE,
        )
        self._due_s = now_s if deleted == AT_ONCE else now_s + EVERY_S
        return overtaken

    def _before_ms(self, now_s: float) -> int:
        offset_s = self._wall_s() - now_s
        if abs(offset_s - self._offset_s) > CLOCK_JUMP_S:
            log.warning(
                "the clock jumped by %.0f s: events are not deleted by age for an hour", offset_s - self._offset_s
            )
            self._ages_from_s = now_s + CLOCK_REST_S
        self._offset_s = offset_s
        if now_s < self._ages_from_s:
            return 0
        return int((self._wall_s() - self._config.keep_days * 86400) * 1000)
