"""The SQLite file behind the event store: opening, damage, schema, and every statement that reads or writes it."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from streamdet.errors import OutputError
from streamdet.sinks.linefile import prepare_folder, unwritable
from streamdet.types import StoredEvent

__all__ = ["EventFile", "is_damage"]

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
APPLICATION_ID = 0x5344_4554  # "SDET": a file of somebody else is not touched
CHECKED_BYTES = 256 * 2**20  # larger files are not read through on opening
WAL_BYTES = 16 * 2**20
DEAD_KEPT = 10_000

_TABLES = """
CREATE TABLE event(
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, utc_ms INTEGER NOT NULL, stream TEXT NOT NULL,
    type TEXT NOT NULL, label TEXT NOT NULL, track INTEGER NOT NULL, zone TEXT, line TEXT, json BLOB NOT NULL);
CREATE INDEX event_utc ON event(utc_ms);
CREATE INDEX event_stream ON event(stream);
CREATE INDEX event_label ON event(label);
CREATE INDEX event_zone ON event(zone) WHERE zone IS NOT NULL;
CREATE INDEX event_line ON event(line) WHERE line IS NOT NULL;
CREATE INDEX event_facts ON event(stream, type, label, zone, line, track, utc_ms);
CREATE TABLE kind(stream TEXT NOT NULL, label TEXT NOT NULL, zone TEXT NOT NULL, PRIMARY KEY(stream, label, zone)) WITHOUT ROWID;
CREATE TABLE cursor(name TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE dead(
    destination TEXT NOT NULL, seq INTEGER NOT NULL, id TEXT NOT NULL, utc_ms INTEGER NOT NULL, reason TEXT NOT NULL,
    json BLOB NOT NULL);
"""
_COLUMNS = "seq, id, utc_ms, stream, type, label, track, zone, line, json"
_INSERT = f"INSERT OR IGNORE INTO event({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)"
_LAST_SEQ = "SELECT seq FROM sqlite_sequence WHERE name = 'event'"
_LAST_ID = "SELECT max(id) FROM event"
_CURSORS = "SELECT name, seq FROM cursor"
_KIND = "INSERT OR IGNORE INTO kind(stream, label, zone) VALUES (?,?,?)"
_MOVE = "INSERT INTO cursor(name, seq) VALUES (?,?) ON CONFLICT(name) DO UPDATE SET seq = excluded.seq"


class EventFile:
    """One writing connection, and reading ones as they are needed. ``write`` is for one thread at a time; reading for any.

    A file that is damaged is set aside as ``NAME.damaged-TIME`` and a new one begun with what could still be read.

    Raises:
        OutputError: it cannot be opened or written, belongs to another program, a newer streamdet, or a running process.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.set_aside: Path | None = None
        self._moved: Path | None = None  # a damaged file in whose place there is no new one yet
        self._readers: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        prepare_folder(self.path)
        self._claim = _claim(self.path)
        try:
            self._writer = self._open()
        except BaseException:
            os.close(self._claim)
            raise

    def __enter__(self) -> Self:
        return self

    def close(self) -> None:
        with self._lock:
            for connection in (*self._readers, self._writer):
                with contextlib.suppress(sqlite3.Error):
                    connection.close()
            self._readers.clear()
        if self._claim >= 0:
            os.close(self._claim)
            self._claim = -1

    # ---------------------------------------------------------------------------------------------------------- opening

    def _open(self) -> sqlite3.Connection:
        try:
            return _opened(self.path)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise _refused(self.path, error) from None
        return self._begin_anew()

    def _begin_anew(self) -> sqlite3.Connection:
        """Set the damaged file aside and take over what can still be read of it. Goes on where it failed before."""
        aside = self._moved or self.path.with_name(
            f"{self.path.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        )
        try:
            if self._moved is None:
                for tail in ("", "-wal", "-shm"):
                    with contextlib.suppress(FileNotFoundError):
                        os.replace(f"{self.path}{tail}", f"{aside}{tail}")
                self._moved = aside
            connection = _opened(self.path)
        except OSError as error:
            raise unwritable(self.path, error) from None
        except sqlite3.Error as error:
            raise _refused(self.path, error) from None
        saved = _salvage(aside, connection)
        self.set_aside, self._moved = aside, None
        log.error("event store %s was damaged: set aside as %s, %d events saved from it", self.path, aside.name, saved)
        return connection

    @property
    def down(self) -> bool:
        """Whether a ``reopen`` failed: nothing can be written before one succeeds."""
        return self._moved is not None

    def reopen(self) -> None:
        """After damage was met while running: begin a new file. Raises OutputError, and is to be called again then."""
        with self._lock:
            for connection in (*self._readers, self._writer):
                with contextlib.suppress(sqlite3.Error):
                    connection.close()
            self._readers.clear()
            self._writer = self._begin_anew()

    # ---------------------------------------------------------------------------------------------------------- writing

    def write(
        self,
        events: Sequence[StoredEvent],
        cursors: Mapping[str, int],
        dead: Sequence[tuple[str, StoredEvent, str]] = (),
    ) -> None:
        """All in one transaction, on disk when it returns. Raises sqlite3.Error."""
        with self._transaction() as run:
            run.executemany(_INSERT, events)
            run.executemany(_KIND, {(e.stream, e.label, e.zone or "") for e in events})
            run.executemany(_MOVE, list(cursors.items()))
            if dead:
                rows = [(name, e.seq, e.id, e.utc_ms, reason, e.json) for name, e, reason in dead]
                run.executemany("INSERT INTO dead VALUES (?,?,?,?,?,?)", rows)
                run.execute("DELETE FROM dead WHERE rowid <= (SELECT max(rowid) FROM dead) - ?", (DEAD_KEPT,))

    def delete(self, *, before_ms: int, first_kept: int, pinned_after: int, limit: int) -> int:
        """Delete up to `limit` events older than `before_ms`, or with a seq below `first_kept`; none after `pinned_after`."""
        with self._transaction() as run:
            deleted = run.execute(
                "DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE seq <= :pin AND seq < :first LIMIT :limit)",
                {"pin": pinned_after, "first": first_kept, "limit": limit},
            ).rowcount
            if deleted < limit:
                deleted += run.execute(
                    "DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE utc_ms < :ms AND seq <= :pin LIMIT :limit)",
                    {"ms": before_ms, "pin": pinned_after, "limit": limit - deleted},
                ).rowcount
        if deleted:
            self._writer.execute("PRAGMA incremental_vacuum(1000)").fetchall()
        return deleted

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield self._writer
            self._writer.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
            raise

    # ---------------------------------------------------------------------------------------------------------- reading

    def read(self, statement: str, values: Mapping[str, Any] | Sequence[Any] = ()) -> list[Any]:
        """All rows of a SELECT, on a connection of its own. Raises sqlite3.Error."""
        with self._lock:
            connection = self._readers.pop() if self._readers else _connect(self.path, read_only=True)
        try:
            rows = connection.execute(statement, values).fetchall()
        except BaseException:
            connection.close()
            raise
        with self._lock:
            if self._claim >= 0 and len(self._readers) < 8:
                self._readers.append(connection)
            else:
                connection.close()
        return rows

    def events(self, where: str, values: Mapping[str, Any], *, order: str, limit: int) -> list[StoredEvent]:
        """Found by what the indexes hold, then read: the JSON of rows that are only passed over is not touched."""
        found = f"SELECT seq FROM event WHERE {where} ORDER BY seq {order} LIMIT :limit"
        rows = self.read(
            f"SELECT {_COLUMNS} FROM event WHERE seq IN ({found}) ORDER BY seq {order}", {**values, "limit": limit}
        )
        return [StoredEvent._make(row) for row in rows]

    def seq_beside(self, event_id: str, *, before: bool) -> int | None:
        """The seq of the last event up to that id, or (`before`) of the first from it on; None if there is none."""
        where = "id >= ? ORDER BY id" if before else "id <= ? ORDER BY id DESC"
        rows = self.read(f"SELECT seq FROM event WHERE {where} LIMIT 1", (event_id,))
        return int(rows[0][0]) if rows else None

    def kinds(self) -> list[tuple[str, str, str | None]]:
        return [
            (stream, label, zone or None) for stream, label, zone in self.read("SELECT stream, label, zone FROM kind")
        ]

    def cursors(self) -> dict[str, int]:
        return dict(self.read(_CURSORS))

    def first_seq(self) -> int:
        """Of the oldest event kept; one past the last if there is none."""
        return int(
            self.read("SELECT coalesce((SELECT min(seq) FROM event), :next)", {"next": self.last_seq() + 1})[0][0]
        )

    def last_seq(self) -> int:
        """Of the last event ever written, also if it was deleted since."""
        rows = self.read(_LAST_SEQ)
        return int(rows[0][0]) if rows else 0

    def last_id(self) -> str | None:
        rows = self.read(_LAST_ID)
        return rows[0][0] if rows else None

    def disk_bytes(self) -> int:
        return sum(os.stat(file).st_size for file in (self.path, f"{self.path}-wal") if os.path.exists(file))


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is broken (as against full, locked, unreadable)."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    if read_only:
        uri = f"{path.resolve().as_uri()}?mode=ro"
        return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0)
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)


def _opened(path: Path) -> sqlite3.Connection:
    """The writing connection to a sound file with our tables. Raises sqlite3.DatabaseError, OutputError."""
    connection = _connect(path)
    try:
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    def pragma(text: str) -> Any:
        row = connection.execute(f"PRAGMA {text}").fetchone()
        return row[0] if row else None

    version, owner = pragma("user_version"), pragma("application_id")
    if version > SCHEMA_VERSION and owner == APPLICATION_ID:
        raise OutputError(
            f"event store {path} was written by a newer streamdet (layout {version}, this one knows {SCHEMA_VERSION}); "
            "update streamdet or give another store.path"
        )
    empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if not empty and owner != APPLICATION_ID:
        raise OutputError(f"{path} is a database of another program; give another store.path")
    if empty:
        pragma("auto_vacuum = INCREMENTAL")
    pragma("journal_mode = WAL")
    pragma("synchronous = FULL")
    pragma(f"journal_size_limit = {WAL_BYTES}")
    if empty:
        connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        pragma(f"application_id = {APPLICATION_ID}")
        return
    if os.stat(path).st_size <= CHECKED_BYTES and (said := pragma("quick_check(1)")) != "ok":
        error = sqlite3.DatabaseError(str(said))
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error
    for statement in (_LAST_ID, _LAST_SEQ, _CURSORS):  # what we go on from must be sound in any case
        connection.execute(statement).fetchall()


def _salvage(damaged: Path, into: sqlite3.Connection) -> int:
    """Copy cursors and events, newest first, up to where reading fails. Returns how many events."""
    saved = 0
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_connect(damaged)) as old, into:
        into.execute("BEGIN")
        for order in ("DESC", "ASC"):  # from both ends towards the damage
            try:
                for row in old.execute(f"SELECT {_COLUMNS} FROM event ORDER BY seq {order}"):
                    saved += into.execute(_INSERT, row).rowcount
                    into.execute(_KIND, (row[3], row[5], row[7] or ""))
            except sqlite3.Error:
                continue
            break
        into.executemany(_MOVE, old.execute(_CURSORS).fetchall())
    return saved


def _refused(path: Path, error: sqlite3.Error) -> OutputError:
    return OutputError(
        f"cannot open event store {path}: {error}; make room and check its rights, or give another store.path"
    )


def _claim(path: Path) -> int:
    """Hold the store for this process alone, however it ends. Raises OutputError."""
    lock = path.with_name(f"{path.name}.lock")
    try:
        claim = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise unwritable(lock, error) from None
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(claim, 32, 0).decode(errors="replace").strip()
        os.close(claim)
        raise OutputError(
            f"event store {path} is in use by process {holder or '(unknown)'}; stop that one or give another store.path"
        ) from None
    with contextlib.suppress(OSError):  # who holds it is only told; a full disk must not stop us here
        os.ftruncate(claim, 0)
        os.pwrite(claim, f"{os.getpid()}\n".encode(), 0)
    return claim
