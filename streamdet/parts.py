"""What every camera of a station is given beside its line: event store, clips, viewers. Each is imported if it is wanted."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

from streamdet.config import Config
from streamdet.enduring import Enduring
from streamdet.protocols import Rules, Sink
from streamdet.types import SourceInfo

if TYPE_CHECKING:
    from streamdet.sinks.hub import Hub
    from streamdet.sinks.store import EventStore

__all__ = ["open_store", "recorded_rules", "recorder_of", "sinks_of"]

log = logging.getLogger(__name__)

STORE = "streamdet-events.db"


def open_store(config: Config, stack: contextlib.ExitStack) -> EventStore | None:
    """The event store, open until `stack` is left. Raises OutputError."""
    from streamdet.sinks.store import EventStore

    return stack.enter_context(EventStore(config.store.path or STORE, config.store))


def recorder_of(name: str, config: Config) -> Any:
    """What cuts clips for a camera's events; None: nothing does."""
    return None


def recorded_rules(rules: Rules, recorder: Any, store: EventStore | None) -> Rules:
    """Rules whose events have the names of their clips, then their ids, before anybody sees them."""
    from streamdet.sinks.store_sink import Recorded

    return rules if store is None else Recorded(rules, store)


def sinks_of(
    name: str, config: Config, info: SourceInfo, *, store: EventStore | None, hub: Hub | None, recorder: Any
) -> list[Sink]:
    """Everything a camera's Results go to. A sink that fails is told of and tried again; it never stops its camera."""
    sinks: list[Sink] = []
    if store is not None:
        from streamdet.sinks.store_sink import StoreSink

        sinks.append(StoreSink(store))
    if hub is not None:
        sinks.append(hub.sink(name))
    if config.output.events == "-":
        from streamdet.sinks.jsonl import EventsSink

        sinks.append(Enduring(lambda: EventsSink("-"), f"{name}: events on standard output"))
    if config.output.frames == "-":
        from streamdet.sinks.jsonl import FramesSink

        sinks.append(Enduring(lambda: FramesSink("-"), f"{name}: frames on standard output"))
    return sinks
