"""What every camera of a station is given beside its line: event store, clips, viewers. Each is imported if it is wanted."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from streamdet.config import Config
from streamdet.enduring import Enduring
from streamdet.protocols import Rules, Sink
from streamdet.types import SourceInfo

if TYPE_CHECKING:
    from streamdet.camera import CameraStatus
    from streamdet.delivery import Deliveries
    from streamdet.recording.recorder import Recorder
    from streamdet.sinks.hub import Hub
    from streamdet.sinks.store import EventStore

__all__ = ["open_deliveries", "open_store", "recorded_rules", "sinks_of"]

log = logging.getLogger(__name__)

STORE = "streamdet-events.db"


def open_store(config: Config, stack: contextlib.ExitStack) -> EventStore | None:
    """The event store, open until `stack` is left. Raises OutputError."""
    from streamdet.sinks.store import EventStore

    return stack.enter_context(EventStore(config.store.path or STORE, config.store))


def open_deliveries(
    config: Config, store: EventStore | None, cameras: Callable[[], Sequence[CameraStatus]], stack: contextlib.ExitStack
) -> Deliveries | None:
    """Those whom events are told, served until `stack` is left, which drains. Raises ConfigError, DependencyError."""
    if store is None:
        return None
    from streamdet.delivery import Deliveries

    def statuses() -> dict[str, dict[str, Any]]:
        return {status.name: msgspec.to_builtins(status) for status in cameras()}

    def facts() -> dict[str, Any]:
        status = store.status()
        return {"store": {"state": status.state, "events": status.events, "lost": status.lost}}

    return stack.enter_context(Deliveries(config, store, cameras=statuses, facts=facts))


def recorded_rules(rules: Rules, recorder: Recorder | None, store: EventStore | None) -> Rules:
    """Rules whose events have the names of their clips, then their ids, before anybody sees them."""
    from streamdet.media import NamingRules
    from streamdet.sinks.store_sink import Recorded

    named = rules if recorder is None else NamingRules(rules, recorder)
    return named if store is None else Recorded(named, store)


def sinks_of(
    name: str,
    config: Config,
    info: SourceInfo,
    *,
    store: EventStore | None,
    hub: Hub | None,
    recorder: Recorder | None,
) -> list[Sink]:
    """Everything a camera's Results go to. A sink that fails is told of and tried again; it never stops its camera."""
    sinks: list[Sink] = []
    if store is not None:
        from streamdet.sinks.store_sink import StoreSink

        sinks.append(StoreSink(store))
    if hub is not None:
        sinks.append(hub.sink(name))
    if recorder is not None:
        sinks.append(Enduring(recorder.sink, f"{name}: clips and snapshots"))
    if config.output.events == "-":
        from streamdet.sinks.jsonl import EventsSink

        sinks.append(Enduring(lambda: EventsSink("-"), f"{name}: events on standard output"))
    if config.output.frames == "-":
        from streamdet.sinks.jsonl import FramesSink

        sinks.append(Enduring(lambda: FramesSink("-"), f"{name}: frames on standard output"))
    return sinks
