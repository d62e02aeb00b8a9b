"""Events to a real PostgreSQL, started by the test (as a user other than root, as it demands)."""

from __future__ import annotations

import glob
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from delivery_broker import free_port, wait_for
from sample_events import event

from streamdet.config import Config, from_tree
from streamdet.delivery import Deliveries
from streamdet.sinks.store import EventStore

PROGRAMS = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(not PROGRAMS, reason="PostgreSQL is not installed (apt-get install postgresql)"),
]
PASSWORD = "s3cret/pw"


class Server:
    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="streamdet-pg-"))
        self.port = free_port()
        os.chmod(self.folder, 0o777)
        password = self.folder / "pw"
        password.write_text(PASSWORD)
        os.chmod(password, 0o644)
        data = self.folder / "data"
        self._run(
            "initdb", "-D", str(data), "-U", "sd", "-A", "scram-sha-256", f"--pwfile={password}", "-N", "-E", "UTF8"
        )
        self.data = data
        self.start()

    def _run(self, program: str, *words: str) -> None:
        words = (f"{PROGRAMS[-1]}/{program}", *words)
        if os.geteuid() == 0:
            words = ("runuser", "-u", "postgres", "--", *words)
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=90, cwd="/")
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -c fsync=off"
        self._run("pg_ctl", "-D", str(self.data), "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.data), "-m", "immediate", "stop")

    @property
    def url(self) -> str:
        return f"postgresql://sd:s3cret%2Fpw@127.0.0.1:{self.port}/postgres"

    def rows(self, statement: str) -> list[Any]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(statement).fetchall()  # type: ignore[arg-type]

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    with EventStore(tmp_path / "e.db") as opened:
        yield opened


def to(url: str, **more: Any) -> Config:
    return from_tree({"postgres": {"url": url, **more}, "store": {"drain_s": 20}})


def test_events_are_rows_once_each_also_over_a_crash_of_the_server(server: Server, store: EventStore) -> None:
    with Deliveries(to(server.url, batch=50), store) as deliveries:
        given = list(store.append(event(n, zone="goal", utc="2026-11-25T12:00:00.500Z") for n in range(300)))
        wait_for(lambda: deliveries.status()[0].pending == 0)
        server.stop()
        given += store.append(event(n, type="end") for n in range(300, 400))
        status = wait_for(lambda: [s for s in deliveries.status() if s.state == "waiting"])[0]
        assert status.pending == 100
        server.start()
        wait_for(lambda: deliveries.status()[0].pending == 0)
        store._cursors["postgres"] = 0  # a restart that had forgotten how far it was
    with Deliveries(to(server.url), store) as deliveries:
        wait_for(lambda: deliveries.status()[0].pending == 0)
    rows = server.rows("SELECT id::text, stream, event->>'frame', utc, zone FROM streamdet_events ORDER BY id")
    assert [row[0] for row in rows] == [e.id for e in given]
    assert [int(row[2]) for row in rows] == list(range(400))
    assert rows[0][3].isoformat() == "2026-11-25T12:00:00.500000+00:00"
    assert rows[0][4] == "goal"


def test_a_table_of_another_name_and_a_user_who_may_only_insert(server: Server, store: EventStore) -> None:
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS cams")
    with Deliveries(to(server.url, table="cams.Ball events"), store):
        store.append([event(1)])
    assert len(server.rows('SELECT id FROM cams."Ball events"')) == 1
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE ROLE writer LOGIN PASSWORD 'w'")
        connection.execute("GRANT USAGE ON SCHEMA cams TO writer")
        connection.execute('GRANT INSERT, SELECT ON cams."Ball events" TO writer')
    url = server.url.replace("sd:s3cret%2Fpw", "writer")
    with Deliveries(to(url, table="cams.Ball events", password="w"), store) as deliveries:
        store.append([event(2)])
        wait_for(lambda: deliveries.status()[0].pending == 0)
    assert len(server.rows('SELECT id FROM cams."Ball events"')) == 2


def test_an_event_that_cannot_be_stored_becomes_a_dead_letter(server: Server, store: EventStore) -> None:
    with Deliveries(to(server.url, table="poison"), store) as deliveries:
        store.append([event(1), event(2, label="nul\x00"), event(3)])
        status = wait_for(lambda: [s for s in deliveries.status() if s.pending == 0])[0]
        assert (status.delivered, status.dead) == (2, 1)
    assert [row[0] for row in server.rows("SELECT event->>'frame' FROM poison ORDER BY id")] == ["1", "3"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("s3cret%2Fpw", "wr0ng-pw"), "password authentication failed"),
        (("/postgres", "/nowhere"), 'database "nowhere" does not exist'),
    ],
)
def test_a_wrong_setting_is_told_without_the_secret(
    server: Server, store: EventStore, caplog: pytest.LogCaptureFixture, change: tuple[str, str], said: str
) -> None:
    config = to(server.url.replace(*change))
    with caplog.at_level(logging.DEBUG), Deliveries(config, store) as deliveries:
        store.append([event(1)])
        status = wait_for(lambda: [s for s in deliveries.status() if s.last_error])[0]
        assert said in status.last_error
        assert status.state == "refused"
        deliveries.close(abort=True)
    told = caplog.text + repr(status) + repr(config) + repr(deliveries.undelivered)
    assert "s3cret" not in told
    assert "wr0ng-pw" not in told
