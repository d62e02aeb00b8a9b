"""How events are asked for: filters as SQL, counting, and reading on as they come."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from streamdet.types import StoredEvent

__all__ = ["Names", "Subscription", "Time", "counting", "milliseconds", "where_of"]

Names = str | Sequence[str] | None
Time = datetime.datetime | str | int | None

COUNTED = ("stream", "type", "label", "zone", "line")


def milliseconds(moment: Time) -> int | None:
    """UTC in ms since 1970. A time without zone is UTC. Raises ValueError."""
    if moment is None or isinstance(moment, int):
        return moment
    if isinstance(moment, str):
        moment = datetime.datetime.fromisoformat(moment)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return round(moment.timestamp() * 1000)


def where_of(
    *,
    stream: Names,
    type: Names,
    label: Names,
    zone: Names,
    line: Names,
    track: int | None,
    since: int | None,
    until: int | None,
    after_seq: int | None = None,
    before_seq: int | None = None,
) -> tuple[str, dict[str, Any]]:
    """The condition and its values, all of them bound: nothing a caller says becomes SQL."""
    parts, values = ["1"], dict[str, Any]()
    for column, names in (("stream", stream), ("type", type), ("label", label), ("zone", zone), ("line", line)):
        if names is None:
            continue
        listed = [names] if isinstance(names, str) else list(names)
        keys = [f"{column}{number}" for number in range(len(listed))]
        several = f"{column} IN ({','.join(f':{key}' for key in keys)})"
        parts.append(f"{column} = :{keys[0]}" if len(keys) == 1 else several)  # equality gives rows in order of seq
        values.update(zip(keys, listed))
    for name, condition, value in (
        ("track", "track = :track", track),
        ("since", "utc_ms >= :since", since),
        ("until", "utc_ms < :until", until),
        ("after_seq", "seq > :after_seq", after_seq),
        ("before_seq", "seq < :before_seq", before_seq),
    ):
        if value is not None:
            parts.append(condition)
            values[name] = value
    return " AND ".join(parts), values


def counting(by: str, where: str, step_s: float) -> tuple[str, Callable[[Any], str]]:
    """The statement that counts by a column or by time, and how its keys are shown. Raises ValueError for another `by`."""
    if by in COUNTED:
        return f"SELECT {by}, count(*) FROM event WHERE ({where}) AND {by} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC", str
    if by != "time":
        raise ValueError(f"events cannot be counted by {by!r}; use one of {', '.join((*COUNTED, 'time'))}")
    step = max(1, round(step_s * 1000))

    def shown(bucket: Any) -> str:
        begin = datetime.datetime.fromtimestamp(bucket * step / 1000, datetime.UTC)
        return begin.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    return f"SELECT utc_ms / {step}, count(*) FROM event WHERE {where} GROUP BY 1 ORDER BY 1", shown


class _Readable(Protocol):
    def after(self, seq: int, limit: int) -> list[StoredEvent]: ...
    def listen(self, wake: Callable[[], None]) -> Callable[[], None]: ...


class Subscription:
    """Reads on from one event, without gap or duplicate: what is stored first, then what comes. One reader's own.

    ``get`` waits; a reader with an event loop uses ``poll`` and is told by `wake` (called from another thread).
    """

    def __init__(self, store: _Readable, after_seq: int, wake: Callable[[], None] | None = None) -> None:
        self._store = store
        self._seq = after_seq
        self._more = threading.Event()
        self._also = wake
        self._closed = False
        self._stop_listening = store.listen(self._wake)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[StoredEvent]:
        while not self._closed:
            yield from self.get()

    def poll(self, limit: int = 100) -> list[StoredEvent]:
        """What is there now, oldest first; empty if nothing new."""
        events = self._store.after(self._seq, limit)
        if events:
            self._seq = events[-1].seq
        return events

    def get(self, timeout_s: float | None = None, limit: int = 100) -> list[StoredEvent]:
        """Wait for the next events; empty after `timeout_s`, or when closed."""
        while not self._closed:
            self._more.clear()
            if events := self.poll(limit):
                return events
            if not self._more.wait(timeout_s):
                break
        return []

    def close(self) -> None:
        self._closed = True
        self._stop_listening()
        self._more.set()

    def _wake(self) -> None:
        self._more.set()
        if self._also is not None:
            self._also()
