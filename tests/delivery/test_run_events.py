"""`streamdet run SOURCE --events ADDRESS`: a run that tells others, and is honest about what they did not get."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from delivery_broker import PASSWORD, USER, Broker, Subscriber, free_port, needs_mosquitto, wait_for
from test_delivery_webhook import Receiver

import streamdet
from streamdet.cli import main
from streamdet.errors import UndeliveredError
from streamdet.sinks.store import EventStore

pytestmark = [needs_mosquitto, pytest.mark.timeout(180)]
RUN = ["run", "demo", "--model", "motion", "--set", "source.demo_size=640x360", "--set", "source.demo_seconds=2"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    folder = tmp_path / "broker"
    folder.mkdir()
    made = Broker(folder)
    made.start()
    yield made
    made.close()


def scratch_stores(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "tmp").glob("streamdet-*"))


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))


def test_events_go_to_a_broker_a_webhook_and_a_file_with_the_same_ids(
    broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subscriber, receiver = Subscriber(broker), Receiver()
    try:
        address = f"mqtts://{USER}:{PASSWORD}@localhost:{broker.tls_port}/site?ca_file={broker.ca}"
        assert (
            main([*RUN, "--events", address, "--events", receiver.url, "--events", "e.jsonl", "--output", "out"]) == 0
        )
        written = [json.loads(line) for line in (tmp_path / "e.jsonl").read_bytes().splitlines()]
        assert len(written) > 3
        ids = [one["id"] for one in written]
        assert ids == sorted(set(ids))
        wait_for(lambda: [one["id"] for one in subscriber.on("site/demo/events")] == ids)
        assert [one["id"] for one in receiver.bodies] == ids
        assert subscriber.on("site/demo/events") == written
        said = capsys.readouterr().err
        assert f"{len(ids)} events delivered to mqtts://localhost:{broker.tls_port}/site" in said
        assert f"{len(ids)} events delivered to http://127.0.0.1" in said
        summary = json.loads((tmp_path / "out" / "summary.json").read_text())
        assert [one["delivered"] for one in summary["deliveries"]] == [len(ids)] * 2
        assert PASSWORD not in said + json.dumps(summary)
        assert scratch_stores(tmp_path) == [], "a temporary store goes when all was delivered"
        assert not (tmp_path / "runs").exists()
    finally:
        subscriber.close()
        receiver.close()


def test_what_was_not_delivered_is_told_kept_and_sent_later(
    broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = f"mqtt://me:{PASSWORD}@127.0.0.1:{free_port()}/x"
    assert main([*RUN, "--events", nobody, "--events", "e.jsonl", "--set", "store.drain_s=0.5"]) == 3
    said = capsys.readouterr().err
    count = len((tmp_path / "e.jsonl").read_bytes().splitlines())
    assert f"{count} events were not delivered to mqtt://127.0.0.1" in said
    assert "Connection refused" in said
    assert PASSWORD not in said
    found = re.search(r"they are kept in (\S+): `streamdet deliver", said)
    assert found
    subscriber = Subscriber(broker)
    try:
        assert main(["deliver", found[1], "--events", f"mqtt://127.0.0.1:{broker.port}/late"]) == 0
        assert f"{count} events delivered to mqtt://127.0.0.1:{broker.port}/late" in capsys.readouterr().err
        wait_for(lambda: len(subscriber.on("late/demo/events")) == count)
        receiver = Receiver()
        assert main(["deliver", found[1], "--events", receiver.url, "--all"]) == 0
        assert len(receiver.bodies) == count
        receiver.close()
    finally:
        subscriber.close()


def test_a_store_of_ones_own_is_kept(tmp_path: Path) -> None:
    assert main([*RUN, "--set", "store.path=mine.db", "--events", "e.jsonl"]) == 0
    ids = [json.loads(line)["id"] for line in (tmp_path / "e.jsonl").read_bytes().splitlines()]
    with EventStore("mine.db") as store:
        assert [row.id for row in store.query(limit=1000, newest_first=False)] == ids


def test_the_python_face_raises_at_the_end(tmp_path: Path) -> None:
    settings = {"output.events": f"mqtt://127.0.0.1:{free_port()}", "store.drain_s": 0.3, "source.demo_size": "640x360"}
    run = streamdet.run("demo", model="motion", max_frames=40, settings=settings)
    with pytest.raises(UndeliveredError, match="events were not delivered to mqtt://127"):
        run.finish()
    assert run.summary["deliveries"][0]["undelivered"] > 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ["run", "demo", "--events", "redis://me:s3cret@h/x"],
            2,
            "--events redis://***@h/x: events can be sent to mqtt://",
        ),
        (["run", "demo", "--events", "a.jsonl", "--events", "b.jsonl"], 2, "one file only"),
        (["deliver", "none.db", "--events", "mqtt://h"], 2, "none.db: there is no such event store"),
        (["deliver", "none.db"], 2, "nobody to deliver to"),
    ],
)
def test_a_mistake_is_one_sentence(words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == code
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown
    assert "s3cret" not in shown
