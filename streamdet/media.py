"""Config -> recorder of clips and snapshots, and the annotated stream going out, for whoever opens streams."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamdet.config import BroadcastConfig, Config, RecordConfig
from streamdet.errors import ConfigError, redact
from streamdet.protocols import Rules
from streamdet.types import Event, Frame, Tracks

if TYPE_CHECKING:
    from streamdet.recording.archive import Archive
    from streamdet.recording.recorder import Recorder
    from streamdet.sinks.broadcast import BroadcastSink, Outlet

__all__ = ["NamingRules", "Shelves", "broadcast_of", "check_broadcast", "open_shelves", "recorder_of"]


@dataclass(frozen=True, slots=True)
class Shelves:
    """The folders that all streams share: of clips and snapshots, of films; None where nothing of the kind is kept."""

    clips: Archive | None = None
    films: Archive | None = None

    def sweep(self) -> None:
        """What is too old goes, also while nothing new comes. Costs nothing until it is time again."""
        for shelf in (self.clips, self.films):
            if shelf is not None:
                shelf.sweep()


def open_shelves(config: Config, opened: contextlib.ExitStack) -> Shelves:
    """Raises OutputError for a folder that cannot be written, ConfigError for one folder for both."""
    record, broadcast = config.record, config.broadcast
    clips = record.dir if record.clips or record.snapshots else None
    if clips is None and broadcast.segments is None:
        return Shelves()
    if clips and broadcast.segments and Path(clips).resolve() == Path(broadcast.segments).resolve():
        raise ConfigError(f"record.dir and broadcast.segments are both {clips}; give each a folder of its own")
    from streamdet.recording.archive import Archive

    return Shelves(
        opened.enter_context(Archive(clips, record.keep)) if clips is not None else None,
        opened.enter_context(Archive(broadcast.segments, broadcast.keep)) if broadcast.segments is not None else None,
    )


def recorder_of(shelves: Shelves, config: RecordConfig, stream: str) -> Recorder | None:
    """The recorder of one stream: its source's ``tap``; goes into its rules (:class:`NamingRules`) and its sinks."""
    if shelves.clips is None:
        return None
    from streamdet.recording.recorder import Recorder

    return Recorder(shelves.clips, config, stream=stream)


def broadcast_of(
    shelves: Shelves,
    config: BroadcastConfig,
    stream: str,
    *,
    live: bool,
    alone: bool = True,
    on_demand: bool = False,
) -> BroadcastSink | None:
    """What sends the annotated stream out; None: nowhere. ``{stream}`` in an address is replaced by the stream's name.

    `alone`: it is the only stream, so that an address without ``{stream}`` is unambiguous. `on_demand`: HLS is written only while
    somebody looks (:func:`look_at_hls`). Raises ConfigError.
    """
    check_broadcast(config, alone=alone)
    outlets: list[Outlet] = []
    for url in config.push:
        from streamdet.sinks.push import PushOutlet

        outlets.append(PushOutlet(url.replace("{stream}", stream), stream=stream))
    if config.hls is not None:
        from streamdet.sinks.hls import HlsOutlet

        asked = on_demand and not config.hls_always
        outlets.append(HlsOutlet(Path(config.hls) / stream, segment_s=config.hls_segment_s, on_demand=asked))
    if shelves.films is not None:
        from streamdet.sinks.segments import SegmentsOutlet

        outlets.append(SegmentsOutlet(shelves.films, stream=stream, segment_s=config.segment_s, patient=not live))
    if not outlets:
        return None
    from streamdet.coded.encoder import Encoder
    from streamdet.sinks.broadcast import BroadcastSink

    encoder = Encoder(crf=config.crf, preset=config.preset, key_every_s=config.key_s, max_height=config.max_height)
    real_time = bool(config.push) or config.hls is not None
    return BroadcastSink(outlets, encoder, live=live, real_time=real_time)


def look_at_hls(sink: BroadcastSink) -> None:
    """Somebody wants the HLS of this stream: it is written from now on, for a while."""
    from streamdet.sinks.hls import HlsOutlet

    for outlet in sink.outlets:
        if isinstance(outlet, HlsOutlet):
            outlet.wake()


def check_broadcast(config: BroadcastConfig, *, alone: bool) -> None:
    """Raises ConfigError for an address that nothing can be pushed to, or one for several streams."""
    for url in config.push:
        from streamdet.sinks.push import PushOutlet

        PushOutlet(url, stream="")
        if not alone and "{stream}" not in url:
            raise ConfigError(f"several streams cannot be pushed to {redact(url)}; put {{stream}} into the address")


class NamingRules:
    """Rules whose events have the names of their clips and snapshots before anyone sees them."""

    def __init__(self, rules: Rules, recorder: Recorder) -> None:
        self._rules = rules
        self._recorder = recorder

    def __call__(self, frame: Frame, tracks: Tracks) -> tuple[Event, ...]:
        events = self._rules(frame, tracks)
        return self._recorder.record(events) if events else events

    def finish(self) -> tuple[Event, ...]:
        return self._recorder.record(self._rules.finish())

    def counts(self) -> dict[str, object]:
        return self._rules.counts()
