"""Events to a PostgreSQL table; acknowledged is what was committed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from streamdet.config import PostgresConfig, secret_of
from streamdet.delivery.outcome import Refused, Unreachable
from streamdet.errors import DependencyError, redact
from streamdet.protocols import EventLog
from streamdet.types import StoredEvent

if TYPE_CHECKING:
    import psycopg

__all__ = ["PostgresDestination"]

CONNECT_S = 10
STATEMENT_MS = 15_000


class PostgresDestination:
    """One table: ``id`` (uuid, primary key: what comes twice is there once), the columns one asks by, and ``event`` as jsonb."""

    def __init__(self, config: PostgresConfig, events: EventLog, *, name: str) -> None:
        """Raises DependencyError, ConfigError."""
        try:
            import psycopg  # noqa: F401
        except ImportError:
            raise DependencyError("PostgreSQL needs the package psycopg: pip install 'streamdet[postgres]'") from None
        secret_of(config.password, config.password_file, "postgres.password")
        self._config, self._log, self._name = config, events, name
        self.window = config.batch
        self._connection: psycopg.Connection[Any] | None = None
        self._settled = self._dead = 0

    @property
    def address(self) -> str:
        return str(self._config.url)

    @property
    def settled(self) -> int:
        return self._settled

    @property
    def dead(self) -> int:
        return self._dead

    def open(self, wake: Callable[[], None]) -> None:
        import psycopg

        password = secret_of(self._config.password, self._config.password_file, "postgres.password")
        given = {} if password is None else {"password": password}
        try:
            self._connection = psycopg.connect(
                self._config.url.reveal(),
                connect_timeout=CONNECT_S,
                keepalives_idle=30,
                tcp_user_timeout=STATEMENT_MS,
                **given,  # type: ignore[arg-type]
            )
            self._connection.execute(f"SET statement_timeout = {STATEMENT_MS}")
            self._make_table(self._connection)
            self._connection.commit()
        except psycopg.Error as error:
            raise self._trouble(error) from None

    def send(self, events: Sequence[StoredEvent]) -> None:
        import psycopg

        try:
            try:
                self._insert(events)
            except psycopg.DataError:  # one of them cannot be stored, such as a name with a NUL in it
                for event in events:
                    self._insert_or_bury(event)
        except psycopg.Error as error:
            raise self._trouble(error) from None
        self._settled = events[-1].seq

    def attend(self, *, caught_up: bool) -> None:
        """Nothing: what is sent is committed at once."""

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    # ----------------------------------------------------------------------------------------------------------- inside

    def _table(self) -> Any:
        from psycopg import sql

        return sql.Identifier(*self._config.table.split("."))

    def _make_table(self, connection: psycopg.Connection[Any]) -> None:
        """Only if it is not there: who may write into a table need not be allowed to make one."""
        from psycopg import sql

        name = self._table()
        there = connection.execute("SELECT to_regclass(%s)", (name.as_string(connection),)).fetchone()
        if there is not None and there[0] is not None:
            return
        connection.execute(
            sql.SQL(
                "CREATE TABLE IF NOT EXISTS {} (id uuid PRIMARY KEY, utc timestamptz NOT NULL, stream text NOT NULL,"
                " type text NOT NULL, label text NOT NULL, track bigint NOT NULL, zone text, line text, event jsonb NOT NULL)"
            ).format(name)
        )
        connection.execute(sql.SQL("CREATE INDEX ON {} (stream, utc)").format(name))

    def _insert(self, events: Sequence[StoredEvent]) -> None:
        from psycopg import sql

        statement = sql.SQL(
            "INSERT INTO {} (id, utc, stream, type, label, track, zone, line, event)"
            " VALUES (%s, to_timestamp(%s), %s, %s, %s, %s, %s, %s, %s::jsonb) ON CONFLICT (id) DO NOTHING"
        ).format(self._table())
        rows = [
            (e.id, e.utc_ms / 1000, e.stream, e.type, e.label, e.track, e.zone, e.line, e.json.decode()) for e in events
        ]
        if self._connection is None:
            raise Unreachable("not connected")
        try:
            with self._connection.cursor() as cursor:
                cursor.executemany(statement, rows)
            self._connection.commit()
        except BaseException:
            with contextlib.suppress(Exception):
                self._connection.rollback()
            raise

    def _insert_or_bury(self, event: StoredEvent) -> None:
        import psycopg

        try:
            self._insert([event])
        except psycopg.DataError as error:
            self._log.bury(self._name, event, _words(error))
            self._dead += 1
        self._settled = event.seq

    def _trouble(self, error: psycopg.Error) -> Unreachable:
        import psycopg

        words = _words(error)
        wrong = not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        refused = wrong or any(
            w in words for w in ("authentication failed", "does not exist", "no pg_hba.conf", "no password")
        )
        return (Refused if refused else Unreachable)(f"{self.address}: {words}")


def _words(error: Exception) -> str:
    return redact(" ".join(str(error).split()))[:300]
