"""Events to a real mosquitto: TLS, password, a broker that is killed and frozen, and everything told beside the events."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from delivery_broker import PASSWORD, USER, Broker, Subscriber, in_order_once, needs_mosquitto, wait_for
from sample_events import event

from streamdet.config import Config, StoreConfig, from_tree
from streamdet.delivery import Deliveries
from streamdet.errors import ConfigError
from streamdet.sinks.store import EventStore
from streamdet.types import EventType

pytestmark = [needs_mosquitto, pytest.mark.timeout(240)]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    folder = tmp_path / "broker"
    folder.mkdir()
    made = Broker(folder)
    made.start()
    yield made
    made.close()


@pytest.fixture
def subscriber(broker: Broker) -> Iterator[Subscriber]:
    made = Subscriber(broker)
    yield made
    made.close()


def secured(broker: Broker, **more: Any) -> Config:
    mqtt = {
        "host": "localhost", "port": broker.tls_port, "user": USER, "password": PASSWORD, "ca_file": str(broker.ca),
        "prefix": "site/cams", **more,
    }  # fmt: skip
    return from_tree({"mqtt": mqtt, "store": {"drain_s": 20}})


def plain(broker: Broker, **more: Any) -> Config:
    return from_tree({"mqtt": {"host": "127.0.0.1", "port": broker.port, **more}, "store": {"drain_s": 20}})


def ids_of(subscriber: Subscriber, topic: str) -> list[str]:
    return [message["id"] for message in subscriber.on(topic)]


def test_events_arrive_over_tls_with_a_password(broker: Broker, subscriber: Subscriber, tmp_path: Path) -> None:
    with EventStore(tmp_path / "e.db") as store:
        with Deliveries(secured(broker), store) as deliveries:
            given = [store.append([event(n)])[0] for n in range(50)]
            wait_for(lambda: len(subscriber.on("site/cams/court/events")) >= 50)
            status = wait_for(lambda: [s for s in deliveries.status() if s.pending == 0])[0]
            assert status.state == "connected"
            assert status.delivered == 50
            assert status.last_error is None
            assert status.address == f"mqtts://localhost:{broker.tls_port}/site/cams"
        assert deliveries.undelivered == []
        assert ids_of(subscriber, "site/cams/court/events") == [e.id for e in given]
        first = subscriber.on("site/cams/court/events")[0]
        assert first == json.loads(store.query(newest_first=False)[0].json)
        assert store.cursor("mqtt") == 50


def test_counts_are_of_all_events_whatever_is_wanted(broker: Broker, subscriber: Subscriber, tmp_path: Path) -> None:
    with EventStore(tmp_path / "e.db") as store, Deliveries(plain(broker, only={"types": ["enter"]}), store):
        wait_for(lambda: subscriber.last("streamdet/available") == b"online")
        life: list[tuple[EventType, str | None]] = [
            ("new", None),
            ("enter", "pitch"),
            ("leave", "pitch"),
            ("end", None),
        ]
        for kind, zone in life[:2]:
            store.append([event(1, type=kind, zone=zone)])
        wait_for(lambda: subscriber.last("streamdet/court/pitch/ball") == b"1")
        for kind, zone in life[2:]:
            store.append([event(1, type=kind, zone=zone)])
        wait_for(lambda: subscriber.last("streamdet/court/pitch/ball") == b"0")
        wait_for(lambda: subscriber.last("streamdet/court/all") == b"0")
        store.append([event(2)])
        wait_for(lambda: subscriber.last("streamdet/court/ball") == b"1")
        store.append([event(1, epoch=1)])  # the end of 2 never came, but its connection is over
        store.append([event(1, epoch=1, type="end")])
        wait_for(lambda: subscriber.last("streamdet/court/ball") == b"0")
        assert [message["type"] for message in subscriber.on("streamdet/court/events")] == ["enter"]


def test_availability_is_retained_and_the_will_says_offline(
    broker: Broker, subscriber: Subscriber, tmp_path: Path
) -> None:
    with EventStore(tmp_path / "e.db") as store, Deliveries(secured(broker), store):
        wait_for(lambda: subscriber.last("site/cams/available") == b"online")
    wait_for(lambda: subscriber.last("site/cams/available") == b"offline")
    assert not next(retained for topic, _, retained, _ in subscriber.messages if topic == "site/cams/available")
    late = Subscriber(broker, "site/cams/available")
    wait_for(lambda: late.last("site/cams/available") == b"offline")
    assert late.messages[0][2], "retained"
    late.close()


def test_a_killed_process_is_said_to_be_offline(broker: Broker, subscriber: Subscriber, tmp_path: Path) -> None:
    with Sender(tmp_path / "e.db", plain(broker)) as sender:
        wait_for(lambda: subscriber.last("streamdet/available") == b"online")
        sender.kill()
        wait_for(lambda: subscriber.last("streamdet/available") == b"offline")


class Sender:
    """A process of its own that appends an event every few milliseconds and delivers them."""

    CODE = """
import sys, time, json
sys.path.insert(0, sys.argv[4])
from sample_events import event
from streamdet.config import from_tree
from streamdet.delivery import Deliveries
from streamdet.sinks.store import EventStore
config = from_tree(json.loads(sys.argv[2]))
with EventStore(sys.argv[1], config.store) as store, Deliveries(config, store):
    number = 0
    for line in sys.stdin:
        for _ in range(int(line)):
            number += 1
            given = store.append([event(number)])
            assert store.sync(10)
            print(given[0].id, flush=True)
            time.sleep(float(sys.argv[3]))
"""

    def __init__(self, path: Path, config: Config, pause_s: float = 0.002) -> None:
        import msgspec

        from streamdet.config.hidden import written

        tree = json.dumps(msgspec.to_builtins(config, enc_hook=written))
        words = [sys.executable, "-c", self.CODE, str(path), tree, str(pause_s), str(Path(__file__).parent)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.ids: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):
                self.ids.append(line.strip())

    def go(self, count: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{count}\n")

    def finish(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(60) == 0
        self._reader.join(10)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)
        self._reader.join(10)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()


def test_a_broker_killed_in_the_middle_loses_no_event(broker: Broker, subscriber: Subscriber, tmp_path: Path) -> None:
    stop = threading.Event()
    given: list[str] = []
    with EventStore(tmp_path / "e.db") as store:

        def work() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                given.extend(e.id or "" for e in store.append([event(number, stream=f"cam{number % 3}")]))
                time.sleep(0.005)

        def arrived() -> set[str]:
            return {i for n in range(3) for i in ids_of(subscriber, f"site/cams/cam{n}/events")}

        with Deliveries(secured(broker), store) as deliveries:
            worker = threading.Thread(target=work)
            worker.start()
            try:
                for _ in range(2):  # caught up: what the broker keeps for a subscriber in memory would die with it
                    wait_for(lambda: len(given) > 50 and len(arrived()) > len(given) - 15)
                    broker.freeze()
                    time.sleep(1)
                    broker.kill()
                    wait_for(lambda: deliveries.status()[0].state == "waiting")
                    assert wait_for(lambda: deliveries.status()[0].last_error)
                    wait_for(lambda: deliveries.status()[0].pending > 200)
                    broker.start()
                    wait_for(lambda: deliveries.status()[0].state == "connected")
            finally:
                stop.set()
                worker.join()
        assert deliveries.undelivered == []
        wait_for(
            lambda: len({m["id"] for n in range(3) for m in subscriber.on(f"site/cams/cam{n}/events")}) == len(given)
        )
        for n in range(3):
            ids = in_order_once(ids_of(subscriber, f"site/cams/cam{n}/events"))
            assert ids == [i for number, i in enumerate(given, 1) if number % 3 == n]


def test_a_frozen_broker_is_given_up_and_nothing_is_lost(
    broker: Broker, subscriber: Subscriber, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamdet.delivery.courier.ACKNOWLEDGED_IN_S", 1.5)
    monkeypatch.setattr("streamdet.delivery.mqtt.CONNECT_S", 1.5)
    with EventStore(tmp_path / "e.db") as store, Deliveries(plain(broker), store) as deliveries:
        given = [store.append([event(n)])[0].id for n in range(20)]
        wait_for(lambda: deliveries.status()[0].pending == 0)
        broker.freeze()
        given += [store.append([event(n)])[0].id for n in range(20, 60)]
        wait_for(lambda: deliveries.status()[0].failures >= 2)
        broker.kill()
        broker.start()
        wait_for(lambda: deliveries.status()[0].pending == 0)
        wait_for(lambda: set(ids_of(subscriber, "streamdet/court/events")) == set(given))
        assert in_order_once(ids_of(subscriber, "streamdet/court/events")) == given


def test_the_process_is_killed_and_what_it_had_not_delivered_comes_after_the_restart(
    broker: Broker, subscriber: Subscriber, tmp_path: Path
) -> None:
    path, given = tmp_path / "e.db", []
    with Sender(path, plain(broker)) as sender:
        sender.go(100)
        wait_for(lambda: len(sender.ids) >= 100)
        wait_for(lambda: len(subscriber.on("streamdet/court/events")) >= 100)
        broker.kill()
        sender.go(10_000)
        wait_for(lambda: len(sender.ids) >= 300)
        sender.kill()  # between append and delivery
        given += sender.ids
    broker.start()
    with Sender(path, plain(broker)) as sender:
        sender.go(50)
        wait_for(lambda: len(sender.ids) >= 50)
        sender.finish()
        given += sender.ids
    wait_for(lambda: set(ids_of(subscriber, "streamdet/court/events")) >= set(given))
    arrived = in_order_once(ids_of(subscriber, "streamdet/court/events"))
    assert [i for i in arrived if i in set(given)] == given
    with EventStore(path) as store:
        assert [row.id for row in store.query(limit=100_000, newest_first=False)] == arrived


def test_what_was_not_delivered_at_the_end_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = from_tree({"mqtt": {"host": "127.0.0.1", "port": 1, "password": PASSWORD}, "store": {"drain_s": 0.5}})
    with EventStore(tmp_path / "e.db") as store:
        with Deliveries(config, store) as deliveries:
            store.append(event(n) for n in range(7))
        assert [(u.name, u.events) for u in deliveries.undelivered] == [("mqtt", 7)]
        assert "Connection refused" in (deliveries.undelivered[0].why or "")
    assert "7 events were not delivered to mqtt" in caplog.text


@pytest.mark.parametrize(
    ("change", "said", "state"),
    [
        ({"password": "wr0ng"}, "Not authorized", "refused"),
        ({"ca_file": None, "tls": True}, "self-signed certificate", "refused"),
        ({"ca_file": "/nowhere.crt"}, "cannot be used", "refused"),
        ({"host": "no-such-host.invalid"}, "cannot connect to mqtts://no-such-host.invalid", "waiting"),
    ],
)
def test_a_wrong_setting_is_one_sentence_without_the_secret(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture, change: dict[str, Any], said: str, state: str
) -> None:
    config = secured(broker, **{"password": PASSWORD, **change})
    secret = change.get("password", PASSWORD)
    with (
        caplog.at_level(logging.DEBUG),
        EventStore(tmp_path / "e.db", StoreConfig(drain_s=0)) as store,
        Deliveries(config, store) as deliveries,
    ):
        store.append([event(1)])
        status = wait_for(lambda: [s for s in deliveries.status() if s.last_error])[0]
        assert said in status.last_error
        assert status.state == state
        deliveries.close(abort=True)
    assert secret not in caplog.text + repr(config) + repr(status)


def test_secrets_from_files(broker: Broker, subscriber: Subscriber, tmp_path: Path) -> None:
    file = tmp_path / "mqtt-password"
    with pytest.raises(ConfigError, match=r"password_file .*mqtt-password: No such file"):
        Deliveries(secured(broker, password=None, password_file=str(file)), EventStore(tmp_path / "x.db"))
    file.write_text(f"{PASSWORD}\n")
    with (
        EventStore(tmp_path / "e.db") as store,
        Deliveries(secured(broker, password=None, password_file=str(file)), store),
    ):
        store.append([event(1)])
        wait_for(lambda: subscriber.on("site/cams/court/events"))
    with pytest.raises(ConfigError, match="given twice"), EventStore(tmp_path / "e.db") as store:
        Deliveries(secured(broker, password_file=str(file)), store)


def test_a_user_who_may_not_publish_is_told(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("topic read #\n")
    os.chmod(tmp_path / "acl", 0o600)
    broker = Broker(tmp_path, extra=f"acl_file {tmp_path}/acl\n")
    broker.start()
    try:
        with EventStore(tmp_path / "e.db") as store, Deliveries(plain(broker), store) as deliveries:
            store.append([event(1)])
            told = "does not take our messages: Not authorized"  # the broker also hangs up, which may be noticed first
            assert wait_for(lambda: [s for s in deliveries.status() if told in (s.last_error or "")])
            assert deliveries.status()[0].pending == 1
            deliveries.close(abort=True)
    finally:
        broker.close()


def test_counts_follow_who_is_there(broker: Broker, subscriber: Subscriber, tmp_path: Path) -> None:
    def count(topic: str) -> int | None:
        payload = subscriber.last(f"streamdet/{topic}")
        return None if payload is None else int(payload)

    with EventStore(tmp_path / "e.db") as store, Deliveries(plain(broker), store):
        store.append(
            [event(1, track=1), event(1, track=2, label="bird"), event(2, track=1, type="enter", zone="goal/left")]
        )
        wait_for(lambda: count("court/all") == 2 and count("court/goal_left/ball") == 1)
        assert count("court/ball") == count("court/bird") == 1
        store.append([event(3, track=1, type="leave", zone="goal/left"), event(3, track=1, type="end", end_s=0.1)])
        wait_for(lambda: count("court/all") == 1 and count("court/goal_left/all") == 0)
        assert count("court/ball") == 0
    # the process ends with a bird still there; the next one sets to 0 what it knows nothing of
    with EventStore(tmp_path / "e.db") as store, Deliveries(plain(broker), store):
        wait_for(lambda: count("court/bird") == 0)
        late = Subscriber(broker, "streamdet/court/#")
        wait_for(lambda: late.last("streamdet/court/bird") == b"0")
        late.close()


def test_the_life_of_an_object_as_frigate_tells_it(broker: Broker, subscriber: Subscriber, tmp_path: Path) -> None:
    with EventStore(tmp_path / "e.db") as store, Deliveries(plain(broker), store):
        store.append(
            [
                event(10, track=5, start_s=0.3, top_score=0.6, utc="2026-11-25T12:00:00.000Z"),
                event(20, track=5, type="enter", zone="goal", start_s=0.3, utc="2026-11-25T12:00:01.000Z"),
                event(
                    30, track=5, type="end", start_s=0.3, end_s=1.2, utc="2026-11-25T12:00:02.000Z", clip="clips/a.mp4"
                ),
            ]
        )
        wait_for(lambda: len(subscriber.on("streamdet/events")) == 3)
    new, update, end = subscriber.on("streamdet/events")
    assert [m["type"] for m in (new, update, end)] == ["new", "update", "end"]
    assert new["before"] == new["after"]
    assert update["before"] == new["after"]
    assert len({m["after"]["id"] for m in (new, update, end)}) == 1
    assert update["after"]["current_zones"] == update["after"]["entered_zones"] == ["goal"]
    assert end["after"]["end_time"] == pytest.approx(end["after"]["start_time"] + 1.9, abs=0.2)
    assert end["after"]["has_clip"]
    assert new["after"]["end_time"] is None
    assert new["after"]["box"] == [10, 20, 30, 40]
    assert new["after"]["event_id"] == subscriber.on("streamdet/court/events")[0]["id"]


def test_home_assistant_is_told_what_there_is(broker: Broker, subscriber: Subscriber, tmp_path: Path) -> None:
    cameras = {
        "court": {"state": "running", "reason": None, "fps_in": 25.0},
        "north yard": {"state": "lost", "reason": "gone"},
    }
    config = plain(broker, discovery=True)
    topic = "homeassistant/device/streamdet_court/config"
    with (
        EventStore(tmp_path / "e.db") as store,
        Deliveries(config, store, cameras=lambda: cameras, facts=lambda: {"a": 1}),
    ):
        wait_for(lambda: subscriber.on(topic))
        first = subscriber.on(topic)[-1]
        assert first["device"]["identifiers"] == ["streamdet_court"]
        assert first["origin"]["name"] == "streamdet"
        assert {"running", "last_event", "all_count"} == set(first["components"])
        assert all(c["platform"] and c["unique_id"] for c in first["components"].values())
        assert subscriber.on("homeassistant/device/streamdet_north_yard/config")
        store.append([event(1, type="enter", zone="goal")])
        wait_for(lambda: {"ball_count", "goal_occupancy"} <= set(subscriber.on(topic)[-1]["components"]))
        count = len(subscriber.on(topic))
        subscriber.client.publish("homeassistant/status", "online")
        wait_for(lambda: len(subscriber.on(topic)) > count)
        assert subscriber.on("streamdet/court/status")[-1]["fps_in"] == 25.0
        cameras["court"] = {"state": "lost", "reason": "no answer"}
        wait_for(lambda: subscriber.on("streamdet/court/status")[-1]["state"] == "lost")
        stats = subscriber.on("streamdet/stats")[-1]
        assert stats["a"] == 1
        assert stats["deliveries"][0]["name"] == "mqtt"


def test_names_that_topics_cannot_hold(broker: Broker, subscriber: Subscriber, tmp_path: Path) -> None:
    with EventStore(tmp_path / "e.db") as store, Deliveries(plain(broker), store) as deliveries:
        store.append([event(1, stream="a/b+#", label="events")])
        wait_for(lambda: subscriber.on("streamdet/a_b__/events"))
        wait_for(lambda: subscriber.last("streamdet/a_b__/events_") == b"1")
        assert deliveries.status()[0].failures == 0


def test_destinations_are_changed_while_running(broker: Broker, subscriber: Subscriber, tmp_path: Path) -> None:
    with EventStore(tmp_path / "e.db") as store, Deliveries(Config(), store) as deliveries:
        assert deliveries.status() == []
        assert deliveries.reload(plain(broker)) == ["destination mqtt added"]
        first = store.append([event(1)])[0]
        wait_for(lambda: ids_of(subscriber, "streamdet/court/events") == [first.id])
        assert deliveries.reload(plain(broker)) == []
        assert deliveries.reload(plain(broker, prefix="other")) == ["destination mqtt changed"]
        second = store.append([event(2)])[0]
        wait_for(lambda: ids_of(subscriber, "other/court/events") == [second.id])
        assert deliveries.reload(Config()) == ["destination mqtt removed"]
        third = store.append([event(3)])[0]
        store.sync(10)
        deliveries.reload(plain(broker, prefix="other"))
        wait_for(lambda: ids_of(subscriber, "other/court/events") == [second.id, third.id])


def test_only_what_is_wanted_is_sent(broker: Broker, subscriber: Subscriber, tmp_path: Path) -> None:
    config = plain(broker, only={"types": ["enter"], "streams": ["court"]})
    with EventStore(tmp_path / "e.db") as store, Deliveries(config, store) as deliveries:
        store.append(
            [event(1), event(2, type="enter", zone="goal"), event(3, type="enter", stream="yard", zone="z"), event(4)]
        )
        wait_for(lambda: deliveries.status()[0].pending == 0)
    assert [m["frame"] for m in subscriber.on("streamdet/court/events")] == [2]
    assert subscriber.on("streamdet/yard/events") == []
