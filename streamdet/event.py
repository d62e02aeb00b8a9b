"""The noun Event: what a person wants to know, as one flat JSON object."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

__all__ = ["SCHEMA", "Event", "EventType", "StoredEvent"]

EventType = Literal["new", "update", "end", "enter", "leave", "cross", "dwell"]
SCHEMA = 1


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One flat JSON object; keys that do not apply are absent.

    ``bbox`` px, ``velocity`` px/s, ``path`` rows [pts_s, cx, cy]. ``clip``, ``snapshot``: relative addresses of film and picture,
    known from the first event of a track on; the files appear when they are ready. ``id``: of this
    event alone, over all streams and restarts, and sorting as they happened; absent where there is no event store.
    ``ended``: of a "leave", true where the track ended inside the zone: it is there no more, and nobody saw it go out.
    """

    schema: int = msgspec.field(default_factory=lambda: SCHEMA)
    id: str | None = None
    type: EventType
    stream: str
    frame: int
    pts_s: float
    epoch: int = msgspec.field(default_factory=lambda: 0)
    pts: int | None = None
    time_base: str | None = None
    utc: str | None = None
    latency_s: float | None = None
    dropped: int | None = None  # of a live stream: frames skipped so far because newer ones had come
    track: int
    label: str
    score: float
    top_score: float | None = None
    bbox: tuple[float, float, float, float]
    velocity: tuple[float, float] | None = None
    speed_px_s: float | None = None
    speed_m_s: float | None = None
    zone: str | None = None
    line: str | None = None
    direction: str | None = None
    dwell_s: float | None = None
    ended: bool | None = None
    start_s: float | None = None
    end_s: float | None = None
    path: list[tuple[float, float, float]] | None = None
    clip: str | None = None
    snapshot: str | None = None


class StoredEvent(NamedTuple):
    """An event as the store keeps it. ``seq``: its place in the order of all streams, from 1; ``json``: the whole event."""

    seq: int
    id: str
    utc_ms: int
    stream: str
    type: str
    label: str
    track: int
    zone: str | None
    line: str | None
    json: bytes

    @property
    def event(self) -> Event:
        return _EVENT_DECODER.decode(self.json)


_EVENT_DECODER = msgspec.json.Decoder(Event)
