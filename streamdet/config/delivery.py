"""Where events are kept and to whom they are told."""

from __future__ import annotations

from streamdet.config.tree import Node, NonNegative, Positive, Size

__all__ = ["StoreConfig"]


class StoreConfig(Node, frozen=True):
    """The event store: one SQLite file. An event takes about 0.5 kB, one with a long path up to 10 kB."""

    path: str | None = None  # None: streamdet-events.db for `serve`, a temporary one for `run`
    keep_days: Positive = 30.0
    keep_events: Size = 1_000_000
    keep_undelivered: Size = 1_000_000  # not yet delivered events are never dropped below this many, whatever their age
    memory_events: Size = 20_000  # held in memory while the file cannot be written (disk full); beyond it the oldest go
    drain_s: NonNegative = 10.0  # at the end, wait so long for destinations to take what is left
