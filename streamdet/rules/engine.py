"""Tracks in, events out: the life of every object, zones and lines."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np

from streamdet.config import RulesConfig
from streamdet.errors import ConfigError
from streamdet.rules.lines import LineWatch
from streamdet.rules.lives import Lives
from streamdet.rules.zones import ZoneWatch
from streamdet.types import Event, EventType, Frame, Tracks

__all__ = ["RulesEngine"]

Watch = TypeVar("Watch", ZoneWatch, LineWatch)


class RulesEngine:
    """The `Rules` of one stream.

    - "new" when a track is confirmed: ``start_s`` and ``path`` go back to its first hit, however tentative.
    - "update" every ``update_s`` of media time, at a hit. "end" when the track ceased to exist, a new epoch begins, or the stream
      ends: ``end_s`` is the last real hit, ``path`` the whole way, short gaps filled linearly.
    - "enter", "leave", "dwell" (see ZoneWatch) and "cross" (see LineWatch), judged on real hits only. What happens while a track
      is tentative is told, with the frame it happened in, right after its "new"; a track that ends inside a zone leaves it
      first (``ended``: nobody saw it go out). A track that is never confirmed produces nothing.

    A change of label moves the object's count to the new label. Memory is that of the live tracks.
    """

    def __init__(self, config: RulesConfig, *, labels: tuple[str, ...], stream: str) -> None:
        """Raises ConfigError for a zone or line that cannot be, two of one name, or a class the model does not know."""
        self._config = config
        self._labels = labels
        self._stream = stream
        self._zones = [ZoneWatch(zone, labels) for zone in config.zones]
        self._lines = [LineWatch(line, labels) for line in config.lines]
        _refuse_twins("zone", [zone.name for zone in config.zones])
        _refuse_twins("line", [line.name for line in config.lines])
        self._watches: list[ZoneWatch | LineWatch] = [*self._zones, *self._lines]
        self._lives = Lives(config.path_points)
        self._waiting: dict[int, list[tuple[Event, int]]] = {}  # slot: what happened while it was tentative
        self._objects: Counter[int] = Counter()
        self._frame_wh = (0, 0)
        self._stamp: dict[str, Any] = {}  # of the last frame, in an Event's words
        self._captured_s: float | None = None  # of the last frame, if it is live

    def change(self, config: RulesConfig) -> None:
        """Other zones and lines, from the next frame on. What stays as it is keeps its visits and counts.

        Raises as the constructor, and then changes nothing.
        """
        fresh = RulesEngine(config, labels=self._labels, stream=self._stream)
        zones = {watch.zone.name: watch for watch in self._zones}
        lines = {watch.line.name: watch for watch in self._lines}
        self._zones = [_kept(zones.get(new.zone.name), new, "zone") for new in fresh._zones]
        self._lines = [_kept(lines.get(new.line.name), new, "line") for new in fresh._lines]
        self._watches = [*self._zones, *self._lines]
        self._config = config
        for watch in self._watches:
            watch.reserve(self._lives.capacity)
            if self._frame_wh != (0, 0):
                watch.resolve(self._frame_wh)

    def __call__(self, frame: Frame, tracks: Tracks) -> tuple[Event, ...]:
        """Take one frame's tracks. Events stand in the order: ends, then per kind new, zones, lines, updates.

        What is in a still picture is counted; nothing happens in it, so there are no events.
        """
        if frame.still:
            self._objects.update(tracks.label.tolist())
            return ()
        events: list[Event] = []
        if self._stamp and self._stamp["epoch"] != frame.epoch:
            events += self.finish()
        self._begin(frame)
        lives = self._lives
        for key in tracks.ended.tolist():
            if (slot := lives.slot_of.get(key)) is not None:
                events += self._end(slot)
        tracks = tracks[tracks.detection_row >= 0]  # predicted positions are nobody's evidence
        hits = self._slots(tracks)
        changed = (lives.hits[hits] > 0) & (lives.label[hits] != tracks.label) & (lives.id[hits] > 0)
        self._recount(hits[changed], tracks.label[changed])
        lives.record(hits, tracks, frame.pts_s)
        confirmed = hits[(tracks.id > 0) & (lives.id[hits] == 0)]
        lives.id[hits] = np.maximum(lives.id[hits], tracks.id)

        for slot in confirmed.tolist():
            events += self._new(slot, frame.pts_s)
        events += self._watch(hits, tracks, frame.pts_s)
        due = hits[(lives.id[hits] > 0) & (frame.pts_s >= lives.next_update_s[hits] - 1e-9)]
        for slot in due.tolist():
            lives.next_update_s[slot] = frame.pts_s + self._config.update_s
            events.append(self._event("update", slot))
        return tuple(events)

    def finish(self) -> tuple[Event, ...]:
        """The ends of all tracks still alive, stamped with the last frame seen."""
        events = [event for slot in list(self._lives.slot_of.values()) for event in self._end(slot)]
        return tuple(events)

    def counts(self) -> dict[str, Any]:
        """Plain totals so far: ``objects`` {label: n}, ``zones`` {name: {enter, leave, occupancy: {label: n}}}, ``lines``
        {name: {in, out: {label: n}}}."""
        live = np.array(list(self._lives.slot_of.values()), np.int64)
        live = live[self._lives.id[live] > 0]
        zones = {
            watch.zone.name: {
                "enter": self._named(watch.enters),
                "leave": self._named(watch.leaves),
                "occupancy": self._named(Counter(self._lives.label[live[watch.occupied(live)]].tolist())),
            }
            for watch in self._zones
        }
        lines = {
            watch.line.name: {way: self._named(total) for way, total in watch.crossings.items()}
            for watch in self._lines
        }
        return {"objects": self._named(self._objects), "zones": zones, "lines": lines}

    # ------------------------------------------------------------------------------------------------------ one frame

    def _begin(self, frame: Frame) -> None:
        if frame.wh != self._frame_wh:
            self._frame_wh = frame.wh
            for watch in self._watches:
                watch.resolve(frame.wh)
        base = frame.time_base
        self._stamp = {
            "stream": self._stream,
            "frame": frame.index,
            "pts": frame.pts,
            "time_base": None if base is None else f"{base.numerator}/{base.denominator}",
            "pts_s": round(float(frame.pts_s), 6),
            "epoch": frame.epoch,
            "utc": frame.utc,
            "dropped": frame.dropped or None,
        }
        # a file's frame waits for the machine, not the other way round: latency means something for live frames only
        self._captured_s = None if frame.utc is None else frame.captured_s

    def _slots(self, tracks: Tracks) -> Any:
        slots = self._lives.slots(tracks.key)
        for watch in self._watches:
            watch.reserve(self._lives.capacity)
        return slots

    def _watch(self, hits: Any, tracks: Tracks, pts_s: float) -> Iterable[Event]:
        """Zone and line events of this frame's hits, kept back for tracks that are tentative."""
        if not len(hits):
            return
        for zone in self._zones:
            for row, kind, dwell_s in zone.step(hits, tracks.xyxy, tracks.label, pts_s):
                stayed = None if dwell_s is None else round(dwell_s, 3)
                yield from self._tell(int(hits[row]), kind, zone=zone.zone.name, dwell_s=stayed)
        for line in self._lines:
            for row, direction in line.step(hits, tracks.xyxy, tracks.label):
                yield from self._tell(int(hits[row]), "cross", line=line.line.name, direction=direction)

    def _tell(self, slot: int, kind: EventType, **more: Any) -> Iterable[Event]:
        event, label = self._event(kind, slot, **more), int(self._lives.label[slot])
        if event.track == 0:
            self._waiting.setdefault(slot, []).append((event, label))
            return
        self._count(event, label)
        yield event

    def _new(self, slot: int, pts_s: float) -> Iterable[Event]:
        lives = self._lives
        lives.next_update_s[slot] = pts_s + self._config.update_s
        self._objects[int(lives.label[slot])] += 1
        yield self._event("new", slot, path=lives.path(slot))
        for event, label in self._waiting.pop(slot, []):
            self._count(event, label)
            yield msgspec.structs.replace(event, track=int(lives.id[slot]))

    def _end(self, slot: int) -> list[Event]:
        """Forget a track; its last events, none if it was never confirmed."""
        lives, label = self._lives, int(self._lives.label[slot])
        events: list[Event] = []
        told = bool(lives.id[slot] > 0)
        for zone in self._zones:
            stayed_s = zone.forget(slot)
            if told and stayed_s is not None:
                events.append(self._event("leave", slot, zone=zone.zone.name, dwell_s=round(stayed_s, 3), ended=True))
                self._count(events[-1], label)
        for line in self._lines:
            line.forget(slot)
        if told:
            end_s = round(float(lives.last_s[slot]), 6)
            events.append(self._event("end", slot, end_s=end_s, path=lives.path(slot)))
        self._waiting.pop(slot, None)
        lives.forget(slot)
        return events

    # ---------------------------------------------------------------------------------------------------------- words

    def _event(self, kind: EventType, slot: int, **more: Any) -> Event:
        state = self._lives.summary(slot)
        if self._config.px_per_m is not None:
            state["speed_m_s"] = round(state["speed_px_s"] / self._config.px_per_m, 3)
        captured_s = self._captured_s
        latency_s = None if captured_s is None else round(time.monotonic() - captured_s, 4)
        label = self._name(int(self._lives.label[slot]))
        return Event(type=kind, label=label, latency_s=latency_s, **self._stamp, **state, **more)

    def _count(self, event: Event, label: int) -> None:
        for zone in self._zones:
            if event.zone == zone.zone.name and event.type != "dwell":
                (zone.enters if event.type == "enter" else zone.leaves)[label] += 1
        for line in self._lines:
            if event.line == line.line.name:
                line.crossings["in" if event.direction == "in" else "out"][label] += 1

    def _recount(self, slots: Any, labels: Any) -> None:
        """Tracks counted under one label now have another."""
        for slot, label in zip(slots.tolist(), labels.tolist()):
            self._objects[int(self._lives.label[slot])] -= 1
            self._objects[label] += 1

    def _named(self, total: Counter[int]) -> dict[str, int]:
        named: Counter[str] = Counter()
        for label, count in sorted(total.items()):
            named[self._name(label)] += count
        return {name: count for name, count in named.items() if count > 0}

    def _name(self, label: int) -> str:
        return self._labels[label] if 0 <= label < len(self._labels) else str(label)


def _kept(old: Watch | None, new: Watch, what: str) -> Watch:
    """The watch that was there before, if it is for the very same thing."""
    return old if old is not None and getattr(old, what) == getattr(new, what) else new


def _refuse_twins(kind: str, names: Sequence[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ConfigError(f"{count} {kind}s are called '{name}'; give each a name of its own")
