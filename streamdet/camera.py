"""One camera of a station: its settings, its stream while there is one, and how it does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import quote

import msgspec

from streamdet.assemble import make_line, open_source
from streamdet.config import CameraConfig, Config, RulesConfig, reveal
from streamdet.enduring import Enduring
from streamdet.errors import ConfigError, SourceOpenError, redact
from streamdet.parts import sinks_of
from streamdet.places import SourceSpec, sources_of
from streamdet.protocols import Detector, Sink
from streamdet.sources.reconnect import Reconnecting
from streamdet.stream import Stream

if TYPE_CHECKING:
    from streamdet.media import Shelves
    from streamdet.sinks.broadcast import BroadcastSink
    from streamdet.sinks.hub import Hub
    from streamdet.sinks.store import EventStore

__all__ = ["Camera", "CameraState", "CameraStatus", "config_of_camera", "touched"]

CameraState = Literal["opening", "running", "stalled", "lost", "paused", "failed"]


class CameraStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a camera does. `uri` is redacted; times in seconds; rates and percentiles are of the last seconds.

    ``state``: "failed" is what will hardly mend itself (wrong password, unknown path, a fault in here) and is tried slowly;
    `reason` says why it is not running, `since_s` for how long it has been as it is. ``dropped`` by reason: "late" (a newer frame
    had come), "fps" (more than asked for), "tainted" (damaged by loss), "damaged" (packets that gave no picture).
    """

    name: str
    uri: str
    state: CameraState
    reason: str | None = None
    since_s: float = 0.0
    epoch: int = 0
    frame_wh: tuple[int, int] | None = None
    fps_in: float = 0.0
    fps_out: float = 0.0
    frames: int = 0
    dropped: dict[str, int] = {}
    reconnects: int = 0
    last_frame_age_s: float | None = None
    latency_p50_s: float | None = None
    latency_p95_s: float | None = None
    tiles_run: int = 0
    tiles_of: int = 0
    tiles_put_off: int = 0
    objects: int = 0
    events: int = 0
    stages: dict[str, tuple[float, float]] = {}


class Camera:
    """Not thread-safe: its station's lock guards it; ``apply_rules`` and ``open`` run on the processing thread."""

    def __init__(self, name: str, settings: CameraConfig, config: Config) -> None:
        """Raises ConfigError for a source that cannot be."""
        self.name, self.settings, self.config = name, settings, config
        self.rules: RulesConfig = config_of_camera(settings, config).rules
        self.stream: Stream | None = None
        self.broadcast: BroadcastSink | None = None
        self.paused = not settings.enabled
        self.reason: str | None = None
        self.again_s: float | None = None  # when to start again (monotonic)
        self._uri = redact(spec_of(name, settings).uri)
        self._since_s = time.monotonic()
        self._before: dict[str, int] = {}  # counts of earlier streams of this camera
        self._epoch, self._index = 0, 0
        self._engine: Any = None

    # ------------------------------------------------------------------------------------------------------------ doing

    def open(self, detector: Detector, *, store: EventStore | None, hub: Hub | None, shelves: Shelves) -> Stream:
        """A stream for it, not started. Its source connects later, on the capture thread. Raises ConfigError."""
        from streamdet.media import broadcast_of, recorder_of
        from streamdet.parts import recorded_rules

        config = msgspec.structs.replace(config_of_camera(self.settings, self.config), rules=self.rules)
        spec = spec_of(self.name, self.settings)
        recorder = recorder_of(shelves, config.record, self.name)
        source = open_source(spec, config, tap=recorder, patient=True, first_epoch=self._epoch, first_index=self._index)
        assert isinstance(source, Reconnecting)
        line = make_line(config, detector, source.info)
        self._engine = line.rules
        line.rules = recorded_rules(line.rules, recorder, store)
        sinks = sinks_of(self.name, config, source.info, store=store, hub=hub, recorder=recorder)
        alone = len(config.cameras) == 1

        def broadcast() -> BroadcastSink | None:
            self.broadcast = broadcast_of(
                shelves, config.broadcast, self.name, live=True, alone=alone, on_demand=config.serve.enabled
            )
            return self.broadcast

        if broadcast() is not None:
            sinks.append(Enduring(cast(Callable[[], Sink], broadcast), f"{self.name}: the annotated stream"))
        self.stream = Stream(source, line, sinks, fps=self.settings.fps, share=self.settings.share)
        self.reason = None
        return self.stream

    def left(self) -> None:
        """Its stream has ended: what it counted is kept."""
        assert self.stream is not None
        source = self._source
        self._before = self._counts()
        self._epoch, self._index = source.epoch + (source.index > self._index), source.index
        self.stream = self.broadcast = None
        self._since_s = time.monotonic()

    def failed(self, reason: str, *, again_s: float) -> None:
        self.reason, self.again_s, self._since_s = reason, again_s, time.monotonic()

    def pause(self) -> None:
        self.paused = True
        if self.stream is not None:
            self._source.pause()

    def resume(self) -> None:
        self.paused = False
        if self.stream is not None:
            self._source.resume()

    def check_rules(self, rules: RulesConfig, detector: Detector | None) -> None:
        """Raises ConfigError for zones and lines that cannot be."""
        from streamdet.rules.engine import RulesEngine

        if detector is not None:
            RulesEngine(rules, labels=detector.labels, stream=self.name)

    def apply_rules(self) -> None:
        if self.stream is not None:
            self._engine.change(self.rules)
            line = self.stream.line
            line.painter.change(self.rules.zones, self.rules.lines, line.detector.labels)  # type: ignore[attr-defined]

    # ---------------------------------------------------------------------------------------------------------- telling

    @property
    def _source(self) -> Reconnecting:
        assert self.stream is not None
        assert isinstance(self.stream.source, Reconnecting)
        return self.stream.source

    def _counts(self) -> dict[str, int]:
        """Totals over all streams this camera had."""
        counts = dict(self._before)
        if self.stream is None:
            return counts
        line, source = self.stream.line, self._source
        now = {
            "frames": self.stream.frames,
            "events": self.stream.events,
            "reconnects": source.reconnects,
            "tiles_run": int(line.tiles_run.sum()),
            "tiles_of": line.tiles_of,
            "tiles_put_off": line.tiles_put_off,
            "objects": sum(dict(line.rules.counts().get("objects", {})).values()),  # type: ignore[call-overload]
            **{f"dropped.{why}": count for why, count in self.stream.drops.items()},
            **{f"dropped.{why}": source.counts.get(why, 0) for why in ("tainted", "damaged")},
        }
        return {key: counts.get(key, 0) + value for key, value in now.items()}

    def status(self) -> CameraStatus:
        epoch = self._epoch if self.stream is None else self._source.epoch  # before the counts, which grow first
        counts = self._counts()
        totals: dict[str, Any] = {key: value for key, value in counts.items() if "." not in key}
        dropped = {key.removeprefix("dropped."): value for key, value in counts.items() if "." in key}
        now_s = time.monotonic()
        if self.stream is None:
            state: CameraState = "paused" if self.paused else "failed" if self.reason else "opening"
            return CameraStatus(
                name=self.name, uri=self._uri, state=state, reason=self.reason, since_s=round(now_s - self._since_s, 3),
                epoch=epoch, dropped=dropped, **totals,
            )  # fmt: skip
        stream, source = self.stream, self._source
        ages = stream.ages_s.percentiles(50, 95)
        last_s = stream.last_captured_s
        timers = {**stream.capture_timer.recent, **stream.line.timer.recent}
        stages = {name: recent.percentiles(50, 95) for name, recent in timers.items()}
        return CameraStatus(
            name=self.name,
            uri=self._uri,
            state="paused" if self.paused else _STATES[source.state],  # its thread lets go in a moment
            reason=source.reason,
            since_s=round(now_s - source.since_s, 3),
            epoch=epoch,
            frame_wh=source.info.frame_wh,
            fps_in=round(stream.arrivals.per_s(), 2),
            fps_out=round(stream.departures.per_s(), 2),
            dropped=dropped,
            last_frame_age_s=None if last_s is None else round(now_s - last_s, 3),
            latency_p50_s=round(ages[0], 4) if ages else None,
            latency_p95_s=round(ages[1], 4) if ages else None,
            stages={name: (round(both[0], 5), round(both[1], 5)) for name, both in stages.items() if both},
            **totals,
        )


_STATES: dict[str, CameraState] = {
    "opening": "opening",
    "running": "running",
    "stalled": "stalled",
    "lost": "lost",
    "refused": "failed",
    "paused": "paused",
    "closed": "opening",
}


def spec_of(name: str, settings: CameraConfig) -> SourceSpec:
    """Where a camera is, its secrets filled in. Raises ConfigError."""
    origin = f"cameras.{name}"
    try:
        specs = sources_of([reveal(settings.source, f"{origin}.source")])
    except SourceOpenError as error:  # a folder or pattern without films
        raise ConfigError(f"{origin}.source: {error}") from None
    if len(specs) != 1 or specs[0].kind == "images":
        raise ConfigError(
            f"{origin}.source: {redact(settings.source)} is no camera; give an address, a device or a film"
        )
    uri = specs[0].uri
    if settings.username is not None or settings.password is not None:
        scheme, _, rest = uri.partition("://")
        if not rest or "@" in rest.split("/", 1)[0]:
            raise ConfigError(f"{origin}: username and password go with an address that holds none")
        login = [reveal(text or "", f"{origin}.{part}") for part, text in
                 (("username", settings.username), ("password", settings.password))]  # fmt: skip
        uri = f"{scheme}://{quote(login[0], safe='')}:{quote(login[1], safe='')}@{rest}"
    return SourceSpec(specs[0].kind, uri, name)


def config_of_camera(settings: CameraConfig, config: Config) -> Config:
    """The tree as it holds for one camera."""
    replace = msgspec.structs.replace
    rules, tiles, source = config.rules, config.tiles, config.source
    if settings.zones is not None:
        rules = replace(rules, zones=settings.zones)
    if settings.lines is not None:
        rules = replace(rules, lines=settings.lines)
    if settings.roi is not None:
        tiles = replace(tiles, roi=settings.roi)
    if settings.ignore is not None:
        tiles = replace(tiles, ignore=settings.ignore)
    if settings.transport is not None:
        source = replace(source, rtsp_transport=settings.transport)
    return replace(config, rules=rules, tiles=tiles, source=source)


_OF_EVERY_CAMERA = ("source", "motion", "tiles", "merge", "tracker", "draw", "output", "record", "broadcast", "live")


def touched(name: str, before: Config, after: Config) -> str | None:
    """What a camera gets to feel of a changed configuration, in words; None: nothing."""
    old, new = before.cameras[name], after.cameras[name]
    changed = [field for field in new.__struct_fields__ if getattr(old, field) != getattr(new, field)]
    globally = [node for node in _OF_EVERY_CAMERA if getattr(before, node, None) != getattr(after, node, None)]
    rules = before.rules != after.rules and (new.zones is None or new.lines is None)
    if not changed and not globally:
        return "zones and lines" if rules else None
    if not globally and set(changed) <= {"zones", "lines"}:
        return "zones and lines"
    return f"{', '.join([*changed, *globally])} changed, started anew"
