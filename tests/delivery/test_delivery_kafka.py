"""Events to librdkafka's mock cluster: it listens on real TCP, but knows neither passwords nor TLS."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from delivery_broker import free_port, in_order_once, wait_for
from sample_events import event

from streamdet.config import Config, from_tree
from streamdet.delivery import Deliveries
from streamdet.sinks.store import EventStore

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def brokers() -> Iterator[str]:
    cluster = Producer({"test.mock.num.brokers": 3, "bootstrap.servers": "x:1"})
    metadata = cluster.list_topics(timeout=10)
    yield ",".join(f"{broker.host}:{broker.port}" for broker in metadata.brokers.values())
    cluster.flush(1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    with EventStore(tmp_path / "e.db") as opened:
        yield opened


def to(brokers: str, **more: Any) -> Config:
    return from_tree({"kafka": {"brokers": brokers, **more}, "store": {"drain_s": 20}})


def read(brokers: str, topic: str, count: int, *, wait_s: float = 60) -> list[Any]:
    consumer = Consumer(
        {"bootstrap.servers": brokers, "group.id": f"g{time.monotonic_ns()}", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    messages: list[Any] = []
    deadline = time.monotonic() + wait_s
    while len(messages) < count and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            messages.append(message)
    consumer.close()
    return messages


def test_a_broker_that_is_away_fills_no_log(store: EventStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Deliveries(
        from_tree({"kafka": {"brokers": f"127.0.0.1:{free_port()}"}, "store": {"drain_s": 0}}), store
    ) as all_:
        wait_for(lambda: all_.status()[0].failures >= 2, 90)
    assert "brokers are down" in caplog.text
    assert len(caplog.records) <= 4, caplog.text


def test_events_arrive_keyed_by_stream_in_order(brokers: str, store: EventStore) -> None:
    with Deliveries(to(brokers), store) as deliveries:
        given = [store.append([event(n, stream=f"cam{n % 3}")])[0] for n in range(600)]
        status = wait_for(lambda: [s for s in deliveries.status() if s.pending == 0], 60)[0]
        assert status.delivered == 600
        assert status.state == "connected"
    messages = read(brokers, "streamdet.events", 600)
    assert len(messages) == 600
    for n in range(3):
        ids = [dict(m.headers())["id"].decode() for m in messages if m.key() == f"cam{n}".encode()]
        assert in_order_once(ids) == [e.id for e in given[n::3]]
        assert len({m.partition() for m in messages if m.key() == f"cam{n}".encode()}) == 1


def test_a_cluster_that_is_not_there_is_waited_for(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamdet.delivery.kafka.CONNECT_S", 2.0)
    with Deliveries(to(f"127.0.0.1:{free_port()}"), store) as deliveries:
        given = store.append([event(1)])
        status = wait_for(lambda: [s for s in deliveries.status() if s.last_error], 60)[0]
        assert status.state == "waiting"
        assert status.pending == 1
        cluster = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "x:1"})
        broker = next(iter(cluster.list_topics(timeout=10).brokers.values()))
        address = f"{broker.host}:{broker.port}"
        deliveries.reload(to(address))
        wait_for(lambda: deliveries.status()[0].pending == 0, 60)
    assert [dict(m.headers())["id"].decode() for m in read(address, "streamdet.events", 1)] == [given[0].id]


def test_an_event_that_is_too_large_becomes_a_dead_letter(brokers: str, store: EventStore) -> None:
    with Deliveries(to(brokers, options={"message.max.bytes": "2000"}), store) as deliveries:
        path = [(0.1, 1.0, 2.0)] * 2000
        store.append([event(1), event(2, path=path), event(3)])
        status = wait_for(lambda: [s for s in deliveries.status() if s.pending == 0], 60)[0]
        assert (status.delivered, status.dead) == (2, 1)


def test_a_setting_that_librdkafka_does_not_know_is_told(store: EventStore, caplog: pytest.LogCaptureFixture) -> None:
    config = to("127.0.0.1:1", user="me", password="s3cret", options={"no.such.setting": "1"})
    with caplog.at_level(logging.DEBUG), Deliveries(config, store) as deliveries:
        store.append([event(1)])
        status = wait_for(lambda: [s for s in deliveries.status() if s.last_error])[0]
        assert "no.such.setting" in status.last_error
        assert "s3cret" not in caplog.text + repr(status) + repr(config)
        deliveries.close(abort=True)
