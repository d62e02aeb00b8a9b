"""The event store: every event of every stream, numbered, on disk, and readable while it grows."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

import msgspec

from streamdet.config import StoreConfig
from streamdet.records import encode
from streamdet.sinks.event_file import EventFile, is_damage
from streamdet.sinks.event_ids import EventIds
from streamdet.sinks.event_query import Names, Subscription, Time, counting, milliseconds, where_of
from streamdet.sinks.event_upkeep import Upkeep
from streamdet.types import Event, StoredEvent

__all__ = ["EventStore", "StoreStatus"]

log = logging.getLogger(__name__)

BATCH = 2000  # events in one transaction
CURSOR_PAUSE_S = 0.25  # cursors alone are written this often: losing one means delivering again, not losing
RETRY_S = 1.0
CROWDED_S = 5.0
REMIND_S = 60.0


class StoreStatus(msgspec.Struct, frozen=True, kw_only=True):
    """``state``: "ok", or "memory" while the file cannot be written (`reason` says why). Counts of events.

    ``lost``: never reached the disk; ``overtaken``: dropped before some destination took them, as `keep_undelivered` says.
    """

    state: str
    reason: str | None
    path: str
    events: int
    disk_bytes: int
    last_seq: int
    in_memory: int
    lost: int
    overtaken: int
    set_aside: str | None


class EventStore:
    """Events in one SQLite file (WAL), read and written by this process alone. Thread-safe.

    ``append`` numbers events and hands them to the writing thread, which commits what has come together since the last commit:
    no caller waits for a commit. ``sync`` waits until everything appended is on disk. Readers see what is on disk, and while
    the disk cannot be written also what waits in memory (at most `memory_events`, then the oldest are dropped and counted).

    Raises:
        OutputError: see EventFile; only on opening. What happens later is in ``status()`` and the log.
    """

    def __init__(self, path: str | os.PathLike[str], config: StoreConfig | None = None) -> None:
        self.config = config or StoreConfig()
        self._file = EventFile(path)
        try:
            self._last_seq = self._on_disk = self._file.last_seq()
            self._ids = EventIds(after=self._file.last_id())
            self._cursors = self._file.cursors()
        except sqlite3.Error:
            self._file.close()
            raise
        self.opened_seq = self._last_seq  # what came before belongs to an earlier process
        self._active: set[str] = set()
        self._overtaken: dict[str, int] = {}
        self._waiting: deque[StoredEvent] = deque()
        self._moved: dict[str, int] = {}
        self._dead: list[tuple[str, StoredEvent, str]] = []
        self._trouble: str | None = None
        self._lost = 0
        self._writing = 0  # so many of those waiting are in the transaction going on
        self._closing = False
        self._wakes: dict[int, Callable[[], None]] = {}
        self._wake_numbers = itertools.count()
        self._changed = threading.Condition()
        self._upkeep = Upkeep(self._file, self.config)
        self._thread = threading.Thread(target=self._run, name="event-store", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what waits and close the file. Idempotent."""
        with self._changed:
            already, self._closing = self._closing, True
            self._changed.notify_all()
        if already:
            return
        self._thread.join()
        self._file.close()
        if self._waiting:
            log.error("event store %s: %d events could not be written and are lost", self.path, len(self._waiting))

    @property
    def path(self) -> str:
        return str(self._file.path)

    # ---------------------------------------------------------------------------------------------------------- writing

    def append(self, events: Iterable[Event]) -> tuple[Event, ...]:
        """Number `events` (those that have an id keep it) and queue them for the disk.

        It waits only, and a few seconds at most, if events come so much faster than a sound disk takes them that memory is full.
        """
        with self._changed:
            room = self.config.memory_events
            if len(self._waiting) >= room and self._trouble is None:
                self._changed.wait_for(lambda: len(self._waiting) < room or self._trouble is not None, CROWDED_S)
            numbered = tuple(e if e.id else msgspec.structs.replace(e, id=self._ids()) for e in events)
            for event in numbered:
                self._last_seq += 1
                self._waiting.append(_row(self._last_seq, event))
            while len(self._waiting) > max(self.config.memory_events, self._writing + 1):
                del self._waiting[self._writing]  # the oldest that is not on its way to the disk
                self._lost += 1
            if numbered:
                self._changed.notify_all()
        if numbered and self._trouble:
            self._wake()
        return numbered

    def sync(self, timeout_s: float | None = None) -> bool:
        """Wait until all that was appended is on disk; False if that fails or takes longer than `timeout_s`."""
        with self._changed:
            until = self._last_seq
            self._changed.wait_for(lambda: self._on_disk >= until or self._trouble is not None, timeout_s)
            return self._on_disk >= until

    def _run(self) -> None:
        reminded_s = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing, CURSOR_PAUSE_S)
                events = list(itertools.islice(self._waiting, BATCH))
                self._writing = len(events)
                moved, self._moved = self._moved, {}
                dead, self._dead = self._dead, []
                closing = self._closing
            try:
                if events or moved or dead:
                    self._file.write(events, moved, dead)
                    moved, dead = {}, []  # what follows may fail: these are on disk
                    self._written(events)
                self._keep_up()
            except sqlite3.Error as error:
                reminded_s = self._failed(error, moved, dead, reminded_s)
                if closing:
                    return
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, RETRY_S)
                continue
            if closing and not self._waiting and not self._moved:
                return

    def _written(self, events: list[StoredEvent]) -> None:
        with self._changed:
            self._writing = 0
            if events:
                self._on_disk = events[-1].seq
            while self._waiting and self._waiting[0].seq <= self._on_disk:
                self._waiting.popleft()
            recovered, self._trouble = self._trouble is not None, None
            self._changed.notify_all()
        if recovered:
            log.warning("event store %s: written again, nothing waits in memory any more", self.path)
        if events:
            self._wake()

    def _failed(
        self, error: sqlite3.Error, moved: dict[str, int], dead: list[tuple[str, StoredEvent, str]], reminded_s: float
    ) -> float:
        with self._changed:
            self._moved = {**moved, **self._moved}
            self._dead = [*dead, *self._dead]
            self._writing = 0
            first, self._trouble = self._trouble is None, str(error)
            waiting = len(self._waiting)
            self._changed.notify_all()
        if is_damage(error) or self._file.down:
            with contextlib.suppress(Exception):  # told again below, tried again in a second
                self._file.reopen()
        now_s = time.monotonic()
        if first or now_s - reminded_s >= REMIND_S:
            log.error(
                "event store %s cannot be written (%s): %d events wait in memory, of %d at most (%d lost so far); make room",
                self.path, error, waiting, self.config.memory_events, self._lost,
            )  # fmt: skip
            reminded_s = now_s
        self._wake()
        return reminded_s

    def _keep_up(self) -> None:
        """Raises sqlite3.Error for damage; other trouble (a full disk) leaves deleting for later and is no trouble of writing."""
        with self._changed:
            active = {name: self._cursors[name] for name in self._active}
        try:
            overtaken = self._upkeep(self._last_seq, active)
        except sqlite3.Error as error:
            if is_damage(error):
                raise
            log.warning("event store %s: old events cannot be deleted now (%s)", self.path, error)
            return
        for name, seq in overtaken.items():
            self._overtaken[name] = self._overtaken.get(name, 0) + seq - active[name]
            self.advance(name, seq)

    # ---------------------------------------------------------------------------------------------------------- reading

    @property
    def last_seq(self) -> int:
        """Of the newest event that can be read."""
        return self._last_seq if self._trouble else self._on_disk

    @property
    def appended_seq(self) -> int:
        """Of the newest event, readable or on its way."""
        return self._last_seq

    def after(self, seq: int, limit: int = 500) -> list[StoredEvent]:
        """The events that follow `seq`, oldest first. Raises sqlite3.Error if the file cannot be read."""
        with self._changed:
            memory = [event for event in self._waiting if event.seq > seq][:limit] if self._trouble else []
            on_disk = self._on_disk
        events = self._file.events("seq > :seq", {"seq": seq}, order="ASC", limit=limit) if seq < on_disk else []
        last = events[-1].seq if events else seq
        return [*events, *(event for event in memory if event.seq > last)][:limit]

    def query(
        self,
        *,
        stream: Names = None,
        type: Names = None,
        label: Names = None,
        zone: Names = None,
        line: Names = None,
        track: int | None = None,
        since: Time = None,
        until: Time = None,
        after_id: str | None = None,
        before_id: str | None = None,
        limit: int = 100,
        newest_first: bool = True,
    ) -> list[StoredEvent]:
        """Events on disk that match: names are one or several; `since` <= time < `until` (UTC: datetime, ISO text, or ms).

        `after_id` and `before_id` page through them, not included themselves. Raises ValueError for a time that is none.
        """
        where, values = where_of(
            stream=stream, type=type, label=label, zone=zone, line=line, track=track,
            since=milliseconds(since), until=milliseconds(until),
            after_seq=None if after_id is None else self.seq_of(after_id),
            before_seq=None if before_id is None else self._file.seq_beside(before_id, before=True),
        )  # fmt: skip
        return self._file.events(where, values, order="DESC" if newest_first else "ASC", limit=limit)

    def counts(
        self,
        by: str = "type",
        *,
        stream: Names = None,
        type: Names = None,
        label: Names = None,
        zone: Names = None,
        line: Names = None,
        track: int | None = None,
        since: Time = None,
        until: Time = None,
        step_s: float = 60.0,
    ) -> dict[str, int]:
        """How many events match, by "stream", "type", "label", "zone", "line", or "time" (UTC text, one per `step_s`)."""
        where, values = where_of(
            stream=stream, type=type, label=label, zone=zone, line=line, track=track,
            since=milliseconds(since), until=milliseconds(until),
        )  # fmt: skip
        statement, named = counting(by, where, step_s)
        return {named(key): int(count) for key, count in self._file.read(statement, values)}

    def get(self, event_id: str) -> StoredEvent | None:
        """The event of that id, None if there is none (any more)."""
        found = self._file.events("id = :id", {"id": event_id}, order="ASC", limit=1)
        return found[0] if found else None

    def kinds(self) -> list[tuple[str, str, str | None]]:
        """Every (stream, label, zone) there were events of."""
        return self._file.kinds()

    def seq_of(self, event_id: str) -> int:
        """Where reading goes on after the event `event_id`, also if that one is gone."""
        return self._file.seq_beside(event_id, before=False) or 0

    def subscribe(self, after_id: str | None = None, *, wake: Callable[[], None] | None = None) -> Subscription:
        """All events after that one (None: from now on), then each as it comes: without gap or duplicate."""
        return Subscription(self, self.last_seq if after_id is None else self.seq_of(after_id), wake)

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` from the writing thread whenever there may be more to read; what is returned ends that."""
        with self._changed:
            number = next(self._wake_numbers)
            self._wakes[number] = wake

        def stop() -> None:
            self._wakes.pop(number, None)

        return stop

    def _wake(self) -> None:
        for wake in list(self._wakes.values()):
            try:
                wake()
            except Exception:  # a reader's fault must not stop the writing
                log.exception("event store: a reader failed")

    # ------------------------------------------------------------------------------------------------------ destinations

    def cursor(self, name: str) -> int:
        """Where the destination `name` goes on; a new one with the next event. From now on retention waits for it."""
        with self._changed:
            self._active.add(name)
            if name not in self._cursors:
                self._cursors[name] = self._moved[name] = self._last_seq
            return self._cursors[name]

    def rewind(self, name: str) -> None:
        """`name` begins again with the oldest event there is."""
        before_first = self._file.first_seq() - 1
        with self._changed:
            self._cursors[name] = self._moved[name] = before_first

    def advance(self, name: str, seq: int) -> None:
        """Everything up to `seq` has reached `name`."""
        with self._changed:
            if seq > self._cursors.get(name, 0):
                self._cursors[name] = self._moved[name] = seq

    def retire(self, name: str) -> None:
        """`name` is served no more for now: retention does not wait for it. Its cursor is kept."""
        with self._changed:
            self._active.discard(name)

    def bury(self, name: str, event: StoredEvent, reason: str) -> None:
        """Keep an event that `name` refused among the dead letters."""
        with self._changed:
            self._dead.append((name, event, reason))

    def dead_letters(self, limit: int = 100) -> list[tuple[str, str, str, bytes]]:
        """The last refused events: (destination, event id, reason, JSON), newest first."""
        return self._file.read("SELECT destination, id, reason, json FROM dead ORDER BY rowid DESC LIMIT ?", (limit,))

    def overtaken(self, name: str) -> int:
        """Events dropped before `name` took them, because more than `keep_undelivered` waited."""
        return self._overtaken.get(name, 0)

    def status(self) -> StoreStatus:
        events = self._file.read("SELECT count(*) FROM event")[0][0]
        with self._changed:
            return StoreStatus(
                state="memory" if self._trouble else "ok",
                reason=self._trouble,
                path=self.path,
                events=int(events),
                disk_bytes=self._file.disk_bytes(),
                last_seq=self._last_seq,
                in_memory=len(self._waiting),
                lost=self._lost,
                overtaken=sum(self._overtaken.values()),
                set_aside=str(self._file.set_aside) if self._file.set_aside else None,
            )


def _row(seq: int, event: Event) -> StoredEvent:
    now_ms = time.time_ns() // 1_000_000
    utc_ms = now_ms if event.utc is None else milliseconds(event.utc)
    return StoredEvent(
        seq, event.id or "", now_ms if utc_ms is None else utc_ms, event.stream, event.type, event.label, event.track,
        event.zone, event.line, encode(event).rstrip(b"\n"),
    )  # fmt: skip
