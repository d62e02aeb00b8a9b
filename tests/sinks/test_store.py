"""Events on disk: numbered, durable, queried, kept as long as they should be, whatever happens to the disk or the process."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamdet.config import StoreConfig
from streamdet.errors import OutputError
from streamdet.sinks.event_file import EventFile
from streamdet.sinks.event_ids import EventIds
from streamdet.sinks.event_upkeep import Upkeep
from streamdet.sinks.store import EventStore
from streamdet.sinks.store_sink import StoreSink
from streamdet.types import Event, EventType


def event(
    number: int = 1,
    *,
    type: EventType = "new",
    stream: str = "court",
    label: str = "ball",
    zone: str | None = None,
    utc: str | None = None,
) -> Event:
    return Event(
        type=type, stream=stream, frame=number, pts_s=number / 25, track=number, label=label, score=0.5,
        bbox=(0, 0, 1, 1), zone=zone, utc=utc,
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    with EventStore(tmp_path / "events.db") as opened:
        yield opened


# ------------------------------------------------------------------------------------------------------------------ ids


def test_ids_sort_as_given_also_when_the_clock_steps_back() -> None:
    clock = iter([1_000_000] * 6000 + [400_000] * 6000 + [1_000_001] * 10)
    ids = EventIds(now_ms=lambda: next(clock))
    given = [ids() for _ in range(12_010)]
    assert given == sorted(given)
    assert len(set(given)) == len(given)
    later = EventIds(after=given[-1], now_ms=lambda: 5)  # restarted with a clock from long ago
    assert later() > given[-1]


def test_ids_are_version_7_uuids() -> None:
    import uuid

    parsed = uuid.UUID(EventIds()())
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    assert abs((parsed.int >> 80) / 1000 - time.time()) < 60


# ------------------------------------------------------------------------------------------------------ writing, reading


def test_what_is_appended_is_read_again_after_a_restart(tmp_path: Path) -> None:
    with EventStore(tmp_path / "e.db") as store:
        first = store.append([event(1, utc="2026-11-25T12:00:00.000Z"), event(2, zone="goal")])
        assert store.sync(10)
    with EventStore(tmp_path / "e.db") as store:
        second = store.append([event(3)])
        assert store.sync(10)
        rows = store.query(newest_first=False)
        assert [row.event for row in rows] == [*first, *second]
        assert [row.seq for row in rows] == [1, 2, 3]
        ids = [row.id for row in rows]
        assert ids == sorted(set(ids))
        assert all(json.loads(row.json)["id"] == row.id for row in rows)
        assert store.get(ids[1]) == rows[1]
        assert store.get("nonsense") is None


def test_filters_and_paging(store: EventStore) -> None:
    base = datetime.datetime(2026, 11, 25, 12, tzinfo=datetime.UTC)
    kinds: list[EventType] = ["new", "update", "end", "enter"]
    for number in range(40):
        moment = (base + datetime.timedelta(seconds=number)).isoformat().replace("+00:00", "Z")
        store.append(
            [
                event(
                    number,
                    type=kinds[number % 4],
                    stream=f"cam{number % 2}",
                    label=("ball", "bird", "drone")[number % 3],
                    zone="goal" if number % 4 == 3 else None,
                    utc=moment,
                )
            ]
        )
    store.sync(10)

    def frames(**wanted: object) -> list[int]:
        return [row.event.frame for row in store.query(newest_first=False, **wanted)]  # type: ignore[arg-type]

    assert frames(stream="cam1") == list(range(1, 40, 2))
    assert frames(type=["new", "end"], label="ball") == [n for n in range(40) if n % 4 in (0, 2) and n % 3 == 0]
    assert frames(zone="goal") == list(range(3, 40, 4))
    assert frames(track=7) == [7]
    assert frames(since="2026-11-25T12:00:10Z", until="2026-11-25T12:00:12Z") == [10, 11]
    assert frames(since=base + datetime.timedelta(seconds=38)) == [38, 39]
    assert frames(label=[]) == []
    assert frames(stream="cam1' OR 1=1 --") == []
    with pytest.raises(ValueError, match="isoformat"):
        frames(since="yesterday")
    newest = store.query(limit=5)
    assert [row.event.frame for row in newest] == [39, 38, 37, 36, 35]
    page = store.query(limit=5, before_id=newest[-1].id)
    assert [row.event.frame for row in page] == [34, 33, 32, 31, 30]
    assert store.counts("type") == {"new": 10, "update": 10, "end": 10, "enter": 10}
    assert store.counts("label", stream="cam0") == {"ball": 7, "bird": 6, "drone": 7}
    assert store.counts("zone") == {"goal": 10}
    assert store.counts("time", step_s=30, since=base) == {
        "2026-11-25T12:00:00.000Z": 30,
        "2026-11-25T12:00:30.000Z": 10,
    }
    with pytest.raises(ValueError, match="cannot be counted by 'json'"):
        store.counts("json")
    assert ("cam1", "bird", "goal") in store.kinds()


@pytest.mark.parametrize("wanted", [{}, {"stream": "a"}, {"label": "x"}, {"zone": "z"}, {"line": "l"}])
def test_the_newest_of_one_kind_are_found_without_sorting(store: EventStore, wanted: dict[str, str]) -> None:
    """At a million events, sorting or passing over the others takes a second."""
    plans: list[str] = []
    read = store._file.read

    def noted(statement: str, values: object = ()) -> list[object]:
        plans.extend(row[3] for row in read(f"EXPLAIN QUERY PLAN {statement}", values))  # type: ignore[arg-type]
        return read(statement, values)  # type: ignore[arg-type]

    store._file.read = noted  # type: ignore[method-assign]
    store.query(**wanted)  # type: ignore[arg-type]
    assert not any("TEMP B-TREE" in step for step in plans), plans
    assert not wanted or not any(step.startswith("SCAN") for step in plans), plans


def test_threads_append_and_a_subscriber_sees_all_in_order_once(store: EventStore) -> None:
    per_thread, threads = 300, 6
    before = store.append([event(0)])
    store.sync(10)
    with store.subscribe(after_id="0") as reader:

        def work(stream: str) -> None:
            for number in range(per_thread):
                store.append([event(number, stream=stream)])

        workers = [threading.Thread(target=work, args=(f"s{n}",)) for n in range(threads)]
        for worker in workers:
            worker.start()
        seen = []
        while len(seen) < per_thread * threads + 1:
            got = reader.get(timeout_s=20)
            assert got, f"only {len(seen)} arrived"
            seen += got
        for worker in workers:
            worker.join()
        assert reader.get(timeout_s=0.1) == []
    assert seen[0].id == before[0].id
    assert [row.seq for row in seen] == list(range(1, len(seen) + 1))
    assert [row.id for row in seen] == sorted({row.id for row in seen})
    for n in range(threads):
        assert [row.event.frame for row in seen if row.stream == f"s{n}"] == list(range(per_thread))
    with store.subscribe(after_id=seen[99].id) as resumed:
        assert [row.seq for row in resumed.get(timeout_s=5, limit=3)] == [101, 102, 103]


def test_a_subscriber_from_now_on_is_woken(store: EventStore) -> None:
    store.append([event(1)])
    store.sync(10)
    woken = threading.Event()
    with store.subscribe(wake=woken.set) as reader:
        assert reader.poll() == []
        store.append([event(2)])
        assert woken.wait(10)
        assert [row.event.frame for row in reader.poll()] == [2]


def test_the_sink_gives_ids_to_events_that_have_none(store: EventStore) -> None:
    from types import SimpleNamespace

    numbered = store.append([event(1)])
    sink = StoreSink(store)
    with sink:
        sink.write(SimpleNamespace(events=(*numbered, event(2))))  # type: ignore[arg-type]
        sink.write(SimpleNamespace(events=()))  # type: ignore[arg-type]
        sink.finish((event(3, type="end"),))
    assert [row.event.frame for row in store.query(newest_first=False)] == [1, 2, 3]


# ---------------------------------------------------------------------------------------------- processes that die, twins


APPENDER = """
import sys
from streamdet.sinks.store import EventStore
from streamdet.types import Event
store = EventStore(sys.argv[1])
number = 0
while True:
    number += 1
    store.append([Event(type="new", stream="s", frame=number, pts_s=0, track=1, label="x", score=1, bbox=(0, 0, 1, 1))])
    if store.sync(10):
        print(number, flush=True)
"""


def test_what_was_said_to_be_on_disk_survives_kill(tmp_path: Path) -> None:
    path = tmp_path / "e.db"
    for round_number in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", APPENDER, str(path)], stdout=subprocess.PIPE, text=True, bufsize=1
        ) as process:
            assert process.stdout is not None
            said = [int(process.stdout.readline()) for _ in range(20 + 30 * round_number)]
            process.send_signal(signal.SIGKILL)
            said += [int(line) for line in process.stdout if line.endswith("\n")]
        with EventStore(path) as store:
            rows = store.query(limit=10_000, newest_first=False)
            ids = [row.id for row in rows]
            assert ids == sorted(set(ids))
            last_round = [row.event.frame for row in rows if row.seq > rows[-1].seq - rows[-1].event.frame]
            assert last_round == list(range(1, len(last_round) + 1))
            assert len(last_round) >= said[-1]


def test_two_processes_on_one_store_are_refused(store: EventStore) -> None:
    done = subprocess.run(
        [sys.executable, "-c", APPENDER, store.path], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode != 0
    assert f"is in use by process {os.getpid()}; stop that one or give another store.path" in done.stderr
    store.append([event(1)])
    assert store.sync(10)


# ------------------------------------------------------------------------------------------------------- files in trouble


@pytest.mark.parametrize("damage", ["header", "middle", "cut", "text"])
def test_a_damaged_file_is_set_aside(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "e.db"
    with EventStore(path) as store:
        given = store.append(event(number) for number in range(2000))
        store.sync(30)
        assert store.cursor("mqtt") == 2000
    data = bytearray(path.read_bytes())
    if damage == "header":
        data[:100] = os.urandom(100)
    elif damage == "middle":
        data[len(data) // 2 : len(data) // 2 + 20_000] = os.urandom(20_000)
    elif damage == "cut":
        del data[len(data) // 2 :]
    path.write_bytes(b"not a database at all" * 50 if damage == "text" else data)
    with EventStore(path) as store:
        aside = store.status().set_aside
        assert aside is not None
        assert Path(aside).exists()
        kept = store.query(limit=5000, newest_first=False)
        assert {row.id for row in kept} <= {e.id for e in given}
        if damage == "middle":
            assert len(kept) > 500, "what could be read should have been saved"
        new = store.append([event(9999)])
        assert store.sync(10)
        assert store.query(limit=1)[0].id == new[0].id
    assert f"event store {path} was damaged: set aside as" in caplog.text


@pytest.mark.parametrize("while_open", [True, False])
def test_damage_met_only_later_loses_nothing_appended_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, while_open: bool
) -> None:
    monkeypatch.setattr("streamdet.sinks.event_file.CHECKED_BYTES", 0)  # as if too large to be read through on opening
    path = tmp_path / "e.db"
    with EventStore(path) as store:
        store.append(event(number) for number in range(3000))
        store.sync(30)

    def damage() -> None:
        with path.open("r+b") as file:
            for page in range(4096 * 8, path.stat().st_size, 4096):  # all but the schema and the first pages
                file.seek(page)
                file.write(os.urandom(64))

    if not while_open:
        damage()
    with EventStore(path) as store:
        if while_open:
            damage()
        later = store.append(event(number) for number in range(3000, 3100))
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not store.sync(1):
            time.sleep(0.1)
        assert store.status().set_aside
        assert {e.id for e in later} <= {row.id for row in store.query(limit=10_000)}
    with EventStore(path) as store:
        assert {e.id for e in later} <= {row.id for row in store.query(limit=10_000)}


def test_damage_on_a_disk_that_is_full_just_then_is_mended_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamdet.sinks import event_file

    path, opened, tries = tmp_path / "e.db", event_file._opened, []

    def opened_later(file: Path) -> sqlite3.Connection:
        tries.append(file)
        if len(tries) < 3:
            raise sqlite3.OperationalError("database or disk is full")
        return opened(file)

    with EventStore(path) as store:
        early = store.append(event(number) for number in range(100))
        assert store.sync(30)
        monkeypatch.setattr(event_file, "_opened", opened_later)
        broken = sqlite3.DatabaseError("database disk image is malformed")
        broken.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        write = store._file.write

        def once(*given: Any) -> None:
            store._file.write = write  # type: ignore[method-assign]
            raise broken

        store._file.write = once  # type: ignore[method-assign]
        later = store.append(event(number) for number in range(100, 200))
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not store.sync(1):
            time.sleep(0.1)
        assert store.status().state == "ok"
        assert store.status().set_aside
        assert len(tries) == 3
        assert {e.id for e in (*early, *later)} == {row.id for row in store.query(limit=10_000)}
    assert len(list(tmp_path.glob("*.damaged-*"))) >= 1


def test_deleting_that_fails_neither_doubles_dead_letters_nor_is_called_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any, **__: Any) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    with EventStore(tmp_path / "e.db") as store:
        store._upkeep._due_s = 0.0
        monkeypatch.setattr(store._file, "delete", full)
        given = store.append([event(1)])
        assert store.sync(10)
        (row,) = store.query()
        store.bury("hook", row, "no")
        store.append([event(2)])
        assert store.sync(10)
        time.sleep(1.5)
        assert store.status().state == "ok"
        assert [letter[1] for letter in store.dead_letters()] == [given[0].id]
    assert caplog.text.count("cannot be deleted now") == 1


def test_foreign_and_newer_files_are_left_alone(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE precious(x)")
    connection.close()
    before = foreign.read_bytes()
    with pytest.raises(OutputError, match=r"database of another program; give another store\.path"):
        EventStore(foreign)
    assert foreign.read_bytes() == before
    newer = tmp_path / "newer.db"
    EventStore(newer).close()
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(OutputError, match="written by a newer streamdet"):
        EventStore(newer)
    with pytest.raises(OutputError, match="it is a folder"):
        EventStore(tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB where we may mount one; else a limit on the size of files."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
    )
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if not mounted:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        yield folder
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def make_room(folder: Path) -> None:
    (folder / "ballast").unlink(missing_ok=True)
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def test_a_full_disk_loses_nothing_and_is_said_loudly(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    with EventStore(small_disk / "e.db") as store, caplog.at_level(logging.WARNING):
        early = store.append(event(number) for number in range(100))
        assert store.sync(10)
        with contextlib.suppress(OSError):
            (small_disk / "ballast").write_bytes(bytes(4_000_000))
        reader = store.subscribe(after_id="0")
        late = [store.append([event(number)])[0] for number in range(100, 4000)]
        assert not store.sync(20)
        status = store.status()
        assert status.state == "memory"
        assert status.reason
        assert status.in_memory > 0
        assert "cannot be written" in caplog.text
        seen = []
        while rows := reader.get(timeout_s=1, limit=1000):
            seen += rows
        assert [row.id for row in seen] == [e.id for e in (*early, *late)]
        make_room(small_disk)
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline and not store.sync(1):
            time.sleep(0.1)
        assert store.status().state == "ok"
        assert "written again" in caplog.text
        assert reader.get(timeout_s=0.5) == []
        reader.close()
        rows = store.query(limit=10_000, newest_first=False)
        assert [row.id for row in rows] == [e.id for e in (*early, *late)]


def test_memory_has_a_bound_while_the_disk_is_full(small_disk: Path) -> None:
    with EventStore(small_disk / "e.db", StoreConfig(memory_events=500)) as store:
        with contextlib.suppress(OSError):
            (small_disk / "ballast").write_bytes(bytes(4_000_000))
        given = []
        for number in range(6000):
            given += store.append([event(number)])
            if number % 500 == 0:
                store.sync(2)
        store.sync(2)
        status = store.status()
        assert status.state == "memory"
        assert status.in_memory <= 501
        assert status.lost > 0
        make_room(small_disk)
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline and not store.sync(1):
            time.sleep(0.1)
        rows = store.query(limit=10_000, newest_first=False)
        assert len(rows) + status.lost == 6000
        assert [row.id for row in rows[-500:]] == [e.id for e in given[-500:]]


# -------------------------------------------------------------------------------------------------------------- retention


class Clock:
    def __init__(self) -> None:
        self.steady = 1000.0
        self.offset = 1_700_000_000.0

    def wall_s(self) -> float:
        return self.steady + self.offset

    def steady_s(self) -> float:
        return self.steady


def filled(path: Path, ages_s: list[float], clock: Clock) -> EventFile:
    store = EventStore(path, StoreConfig(keep_days=1e5))
    for number, age_s in enumerate(ages_s):
        moment = datetime.datetime.fromtimestamp(clock.wall_s() - age_s, datetime.UTC)
        store.append([event(number, utc=moment.isoformat().replace("+00:00", "Z"))])
    store.sync(10)
    store.close()
    return EventFile(path)


def left(file: EventFile) -> list[int]:
    return [msgspec.json.decode(row.json)["frame"] for row in file.events("1", {}, order="ASC", limit=1000)]


def test_old_and_too_many_events_go_but_not_undelivered_ones(tmp_path: Path) -> None:
    clock = Clock()
    file = filled(tmp_path / "e.db", [100_000.0] * 10 + [10.0] * 30, clock)
    config = StoreConfig(keep_days=1, keep_events=25, keep_undelivered=35)

    def upkeep() -> Upkeep:
        return Upkeep(file, config, wall_s=clock.wall_s, steady_s=clock.steady_s)

    assert upkeep()(40, {"mqtt": 7}) == {}
    assert left(file) == list(range(7, 40)), "what mqtt did not take stays"
    assert upkeep()(40, {"mqtt": 12, "hook": 40}) == {}
    assert left(file) == list(range(12, 40))
    assert upkeep()(40, {"mqtt": 40}) == {}
    assert left(file) == list(range(15, 40)), "25 are kept"
    assert upkeep()(60, {"mqtt": 15}) == {"mqtt": 25}, "beyond the limit the oldest undelivered go"
    assert left(file) == list(range(25, 40))
    file.close()


def test_a_jump_of_the_clock_deletes_nothing(tmp_path: Path) -> None:
    clock = Clock()
    file = filled(tmp_path / "e.db", [10.0] * 10, clock)
    upkeep = Upkeep(file, StoreConfig(keep_days=1), wall_s=clock.wall_s, steady_s=clock.steady_s)
    upkeep(10, {})
    clock.offset += 10 * 365 * 86400
    for _ in range(10):
        clock.steady += 100
        upkeep(10, {})
    assert len(left(file)) == 10
    clock.steady += 2 * 3600
    upkeep(10, {})
    assert left(file) == []
    assert file.last_seq() == 10, "numbers are not given twice"
    file.close()


def test_what_is_overtaken_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with EventStore(tmp_path / "e.db", StoreConfig(keep_undelivered=10, keep_events=10)) as store:
        store.cursor("mqtt")
        store.append(event(number) for number in range(50))
        store.sync(10)
        store._upkeep._due_s = 0
        deadline = time.monotonic() + 20
        while not store.overtaken("mqtt") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert store.overtaken("mqtt") == 40
        assert [row.event.frame for row in store.after(store.cursor("mqtt"))] == list(range(40, 50))
    assert "destination mqtt: the 40 oldest events it did not take are dropped" in caplog.text


def test_cursors_outlive_a_restart(tmp_path: Path) -> None:
    with EventStore(tmp_path / "e.db") as store:
        assert store.cursor("mqtt") == 0
        store.append(event(number) for number in range(10))
        store.sync(10)
        store.advance("mqtt", 4)
        store.advance("mqtt", 3)
        assert store.cursor("late") == 10
        store.bury("hook", store.after(0)[0], "400 Bad Request")
    with EventStore(tmp_path / "e.db") as store:
        assert store.cursor("mqtt") == 4
        assert store.cursor("late") == 10
        assert [row.seq for row in store.after(4, 3)] == [5, 6, 7]
        assert [(name, reason) for name, _, reason, _ in store.dead_letters()] == [("hook", "400 Bad Request")]
