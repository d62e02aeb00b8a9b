"""What is told over MQTT beside the events themselves: topics, how many of what are there, and Home Assistant's discovery."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from streamdet import __version__
from streamdet.types import Event, StoredEvent

__all__ = ["Message", "Objects", "Presence", "Topics", "discovery"]

_TAKEN = frozenset({"events", "status", "stats", "available", "all"})


class Message(NamedTuple):
    topic: str
    payload: bytes
    retain: bool = False


class Topics:
    """The names under one prefix. What a name must not hold in a topic (``/ + #`` and control characters) becomes ``_``."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix.strip("/")
        self.available = f"{self.prefix}/available"
        self.stats = f"{self.prefix}/stats"
        self.objects = f"{self.prefix}/events"

    def events(self, stream: str) -> str:
        return f"{self.prefix}/{level(stream)}/events"

    def status(self, stream: str) -> str:
        return f"{self.prefix}/{level(stream)}/status"

    def count(self, stream: str, zone: str | None, label: str | None) -> str:
        """How many of `label` (None: of all) are in the picture, or in `zone`."""
        parts = [level(stream)] + ([level(zone)] if zone else []) + [level(label) if label else "all"]
        return "/".join([self.prefix, *parts])


def level(name: str) -> str:
    clean = re.sub(r"[/+#\x00-\x1f\x7f]", "_", name) or "_"
    return f"{clean}_" if clean in _TAKEN else clean


class Presence:
    """Which tracks are alive now and in which zones, from the events that went by; tells counts that changed.

    Seeing an event twice changes nothing. With a new epoch of a stream the tracks of the one before are over, even if the
    event that said so was lost. Tracks of an earlier process are unknown here, so what it may have left at the
    broker is set to 0 at first (`known`: the streams, labels and zones there were).
    """

    def __init__(self, topics: Topics, known: Iterable[tuple[str, str, str | None]] = ()) -> None:
        self._topics = topics
        self._alive: dict[tuple[str, int, int], tuple[str, frozenset[str]]] = {}
        self._epochs: dict[str, int] = {}
        self.seen: dict[str, tuple[set[str], set[str]]] = {}  # stream -> labels, zones
        self._told: dict[str, int] = {}
        self._all: set[str] = set()
        for stream, label, zone in known:
            self._note(stream, label, zone)

    def take(self, event: StoredEvent, epoch: int) -> None:
        self._note(event.stream, event.label, event.zone)
        key = (event.stream, epoch, event.track)
        if event.type != "end" and self._epochs.get(event.stream) != epoch:
            self._epochs[event.stream] = epoch
            self._alive = {one: how for one, how in self._alive.items() if one[0] != event.stream or one[1] == epoch}
        zones = self._alive.get(key, ("", frozenset[str]()))[1]
        if event.zone and event.type in ("enter", "dwell"):
            zones |= {event.zone}
        elif event.zone and event.type == "leave":
            zones -= {event.zone}
        if event.type == "end":
            self._alive.pop(key, None)
        else:
            self._alive[key] = (event.label, zones)

    def changes(self) -> list[Message]:
        """The counts that are not as they were told last."""
        now: Counter[str] = Counter()
        for (stream, _, _), (label, zones) in self._alive.items():
            for zone in (None, *zones):
                now[self._topics.count(stream, zone, label)] += 1
                now[self._topics.count(stream, zone, None)] += 1
        changed = {topic: now[topic] for topic in self._all | now.keys() if self._told.get(topic) != now[topic]}
        self._told.update(changed)
        return [Message(topic, str(count).encode(), retain=True) for topic, count in sorted(changed.items())]

    def forget_told(self) -> None:
        """After a new connection everything is told again."""
        self._told.clear()

    def _note(self, stream: str, label: str, zone: str | None) -> None:
        labels, zones = self.seen.setdefault(stream, (set(), set()))
        labels.add(label)
        self._all |= {self._topics.count(stream, None, label), self._topics.count(stream, None, None)}
        if zone:
            zones.add(zone)
            self._all |= {self._topics.count(stream, zone, label), self._topics.count(stream, zone, None)}


class Objects:
    """The life of each object as Frigate tells it: `type` new, update or end, with its state before and after."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int], dict[str, Any]] = {}

    def message(self, row: StoredEvent, event: Event) -> bytes:
        key = (event.stream, event.epoch, event.track)
        before = self._known.get(key)
        after = self._after(row, event, before)
        self._known[key] = after
        if event.type == "end":
            del self._known[key]
        while len(self._known) > 10_000:  # ends that never came
            del self._known[next(iter(self._known))]
        kind = event.type if event.type in ("new", "end") else "update"
        return msgspec.json.encode({"type": kind, "before": before or after, "after": after})

    def _after(self, row: StoredEvent, event: Event, before: dict[str, Any] | None) -> dict[str, Any]:
        now_s = row.utc_ms / 1000
        start_s = now_s - max(0.0, event.pts_s - event.start_s) if event.start_s is not None else now_s
        end_s = now_s - max(0.0, event.pts_s - event.end_s) if event.end_s is not None else now_s
        if before is not None:
            start_s = before["start_time"]
        x1, y1, x2, y2 = event.bbox
        width, height = x2 - x1, y2 - y1
        current, entered = (list(before["current_zones"]), list(before["entered_zones"])) if before else ([], [])
        if event.zone:
            if event.type in ("enter", "dwell") and event.zone not in current:
                current.append(event.zone)
            elif event.type == "leave" and event.zone in current:
                current.remove(event.zone)
            if event.zone not in entered:
                entered.append(event.zone)
        return {
            "id": before["id"] if before else _object_id(event, start_s),
            "camera": event.stream,
            "frame_time": round(now_s, 3),
            "label": event.label,
            "sub_label": None,
            "score": event.score,
            "top_score": event.top_score if event.top_score is not None else event.score,
            "false_positive": False,
            "start_time": round(start_s, 3),
            "end_time": round(end_s, 3) if event.type == "end" else None,
            "box": [round(x1), round(y1), round(x2), round(y2)],
            "area": round(width * height),
            "ratio": round(width / height, 4) if height > 0 else None,
            "region": None,
            "active": event.type != "end",
            "stationary": False,
            "current_zones": current,
            "entered_zones": entered,
            "has_clip": event.clip is not None,
            "has_snapshot": event.snapshot is not None,
            "event_id": row.id,
        }


def _object_id(event: Event, start_s: float) -> str:
    name = f"{event.stream}/{event.epoch}/{event.track}"
    return f"{start_s:.3f}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def discovery(
    topics: Topics, stream: str, labels: Iterable[str], zones: Iterable[str], *, discovery_prefix: str
) -> Message:
    """Home Assistant's device discovery (its 2024.11 and later): one device per stream with all its entities."""
    node = re.sub(r"[^A-Za-z0-9_-]", "_", f"{topics.prefix}_{stream}")

    def entity(name: str, platform: str, **more: Any) -> tuple[str, dict[str, Any]]:
        key = re.sub(r"[^A-Za-z0-9_-]", "_", name)
        return key, {"platform": platform, "unique_id": f"{node}_{key}", "name": name.replace("_", " "), **more}

    status = topics.status(stream)
    entities = [
        entity(
            "running", "binary_sensor", device_class="running", state_topic=status,
            value_template="{{ 'ON' if value_json.state == 'running' else 'OFF' }}", entity_category="diagnostic",
        ),
        entity(
            "last_event", "event", state_topic=topics.events(stream),
            event_types=["new", "update", "end", "enter", "leave", "cross", "dwell"],
            value_template="{{ {'event_type': value_json.type, 'label': value_json.label, 'track': value_json.track} | tojson }}",
        ),
    ]  # fmt: skip
    entities += [
        entity(
            f"{label or 'all'}_count", "sensor", state_topic=topics.count(stream, None, label),
            state_class="measurement", unit_of_measurement="objects",
        )
        for label in (None, *sorted(labels))
    ]  # fmt: skip
    entities += [
        entity(
            f"{zone}_occupancy", "binary_sensor", device_class="occupancy",
            state_topic=topics.count(stream, zone, None), value_template="{{ 'ON' if value | int > 0 else 'OFF' }}",
        )
        for zone in sorted(zones)
    ]  # fmt: skip
    payload = {
        "device": {
            "identifiers": [node], "name": stream, "manufacturer": "streamdet", "model": "camera", "sw_version": __version__,
        },
        "origin": {"name": "streamdet", "sw_version": __version__},
        "availability": [{"topic": topics.available}],
        "components": dict(entities),
        "qos": 1,
    }  # fmt: skip
    return Message(f"{discovery_prefix}/device/{node}/config", msgspec.json.encode(payload), retain=True)
