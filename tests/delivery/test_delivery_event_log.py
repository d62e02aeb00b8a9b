"""Events to files that are turned over, moved away by others, and on disks that are full."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from delivery_broker import wait_for
from sample_events import event

from streamdet.config import Config, EventLogConfig, from_tree
from streamdet.delivery import Deliveries
from streamdet.delivery.event_log import EventLogDestination
from streamdet.delivery.outcome import Unreachable
from streamdet.sinks.store import EventStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    with EventStore(tmp_path / "e.db") as opened:
        yield opened


def to(path: Path, **more: Any) -> Config:
    return from_tree({"event_log": {"path": str(path), **more}, "store": {"drain_s": 20}})


def frames(*files: Path) -> list[int]:
    return [json.loads(line)["frame"] for file in files for line in file.read_bytes().splitlines()]


def test_files_are_turned_over_by_size(store: EventStore, tmp_path: Path) -> None:
    path = tmp_path / "logs" / "events.jsonl"
    size = len(store.append([event(0)])[0].stream) + 250
    with Deliveries(to(path, rotate_mb=20 * size / 1e6, keep=3), store) as deliveries:
        store.append(event(n) for n in range(1, 201))
        wait_for(lambda: deliveries.status()[0].pending == 0)
    files = [path, *(Path(f"{path}.{n}") for n in (1, 2, 3))]
    assert all(file.stat().st_size <= 20 * size for file in files)
    assert not Path(f"{path}.4").exists()
    kept = frames(*reversed(files))
    assert kept == list(range(kept[0], 201))
    assert 40 < len(kept) < 100


def test_a_file_moved_away_is_begun_anew(store: EventStore, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with Deliveries(to(path), store) as deliveries:
        for n in range(3):
            store.append([event(n)])
            wait_for(lambda: deliveries.status()[0].pending == 0)
            os.rename(path, tmp_path / f"moved.{n}")
        store.append([event(3)])
        wait_for(lambda: deliveries.status()[0].pending == 0)
    assert frames(*(tmp_path / f"moved.{n}" for n in range(3)), path) == [0, 1, 2, 3]


def test_it_goes_on_in_the_same_file_after_a_restart_and_cuts_a_torn_line(store: EventStore, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with Deliveries(to(path), store):
        store.append(event(n) for n in range(3))
    with path.open("ab") as file:
        file.write(b'{"schema":1,"torn')
    with Deliveries(to(path), store):
        store.append(event(n) for n in range(3, 6))
    assert frames(path) == list(range(6))


def test_files_are_turned_over_by_age(tmp_path: Path, store: EventStore) -> None:
    clock = [0.0]
    path = tmp_path / "e.jsonl"
    log = EventLogDestination(EventLogConfig(path=str(path), rotate_hours=1.0), now_s=lambda: clock[0])
    log.open(lambda: None)
    store.append(event(n) for n in range(3))
    store.sync(10)
    rows = store.after(0)
    log.send(rows[:1])
    clock[0] = 3000
    log.send(rows[1:2])
    clock[0] = 4000
    log.send(rows[2:])
    log.close()
    assert (frames(Path(f"{path}.1")), frames(path)) == ([0, 1], [2])


def test_a_full_disk_leaves_whole_lines_and_loses_nothing(tmp_path: Path, store: EventStore) -> None:
    path = tmp_path / "e.jsonl"
    store.append(event(n) for n in range(30))
    store.sync(10)
    log = EventLogDestination(EventLogConfig(path=str(path)))
    log.open(lambda: None)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(Unreachable, match=r"cannot write .*e\.jsonl: File too large; make room"):
            log.send(store.after(0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    written = frames(path)
    assert 0 < len(written) < 30
    assert written == list(range(len(written)))
    log.send([row for row in store.after(0) if row.seq > len(written)])
    log.close()
    assert frames(path) == list(range(30))


def test_a_place_that_cannot_be_written_is_told_and_tried_again(tmp_path: Path, store: EventStore) -> None:
    (tmp_path / "file").write_text("")
    with Deliveries(to(tmp_path / "file" / "e.jsonl"), store) as deliveries:
        store.append([event(1)])
        status = wait_for(lambda: [s for s in deliveries.status() if s.last_error])[0]
        assert "cannot write" in status.last_error
        (tmp_path / "file").unlink()
        wait_for(lambda: deliveries.status()[0].pending == 0)
    assert frames(tmp_path / "file" / "e.jsonl") == [1]
