"""How a stream's events get into the store: numbered where they arise, waited for where Results are written."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from streamdet.protocols import Rules
from streamdet.sinks.store import EventStore
from streamdet.types import Event, Frame, Result, Tracks

__all__ = ["Recorded", "StoreSink"]


class Recorded:
    """Rules whose events are in the store, with their ids, before anyone sees them: all sinks then know the same ids."""

    def __init__(self, rules: Rules, store: EventStore) -> None:
        self._rules = rules
        self._store = store

    def __call__(self, frame: Frame, tracks: Tracks) -> tuple[Event, ...]:
        events = self._rules(frame, tracks)
        return self._store.append(events) if events else events

    def finish(self) -> tuple[Event, ...]:
        return self._store.append(self._rules.finish())

    def counts(self) -> dict[str, object]:
        return self._rules.counts()


class StoreSink:
    """Takes a stream's Results and holds each until its events are on disk, at most `wait_s`.

    Events that have no id yet (their stream's rules are not Recorded) are appended here.
    """

    lossy = False

    def __init__(self, store: EventStore, *, wait_s: float = 1.0) -> None:
        self._store = store
        self._wait_s = wait_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Nothing: the store outlives its streams."""

    def write(self, result: Result) -> None:
        self._put(result.events)

    def finish(self, events: tuple[Event, ...]) -> None:
        self._put(events)

    def _put(self, events: Sequence[Event]) -> None:
        if events:
            self._store.append(event for event in events if event.id is None)
            self._store.sync(self._wait_s)
