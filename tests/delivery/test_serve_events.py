"""`streamdet serve` with a broker that dies, itself killed and started again: every event of every camera arrives, in order."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from delivery_broker import PASSWORD, USER, Broker, Subscriber, in_order_once, needs_mosquitto, wait_for

from streamdet.sinks.store import EventStore

pytestmark = [needs_mosquitto, pytest.mark.timeout(240)]

CONFIG = """
model: {{name: motion}}
source: {{demo_size: 320x240, demo_seconds: 300, demo_movers: 3}}
rules: {{update_s: 0.2}}
store: {{path: events.db, drain_s: 20}}
serve: {{enabled: false}}
event_log: {{path: all.jsonl}}
mqtt: {{host: localhost, port: {port}, user: {user}, password_file: password, ca_file: {ca}, prefix: {prefix}, stats_s: 1}}
cameras:
  left: {{source: demo}}
  right: {{source: demo}}
"""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamdet", "serve", "s.yaml", "-v"], cwd=folder, stderr=log, stdout=log
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(30)


def test_every_event_of_every_camera_arrives(tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = Broker(folder)
    broker.start()
    subscriber = Subscriber(broker)
    (tmp_path / "password").write_text(f"{PASSWORD}\n")

    def configure(prefix: str) -> None:
        text = CONFIG.format(port=broker.tls_port, user=USER, ca=broker.ca, prefix=prefix)
        (tmp_path / "s.yaml").write_text(text)

    def arrived(prefix: str = "site") -> list[str]:
        topics = {f"{prefix}/{camera}/events" for camera in ("left", "right")}
        return [json.loads(payload)["id"] for topic, payload, _, _ in list(subscriber.messages) if topic in topics]

    configure("site")
    try:
        with serving(tmp_path) as process:
            wait_for(lambda: len(arrived()) > 20, 60)
            wait_for(lambda: subscriber.on("site/stats") and subscriber.on("site/left/status"), 60)
            broker.freeze()
            time.sleep(1)
            broker.kill()
            time.sleep(4)
            process.send_signal(signal.SIGKILL)  # with events that the broker never saw
            process.wait(30)
        at_kill = len(arrived())
        with serving(tmp_path) as process:
            time.sleep(3)
            broker.start()
            wait_for(lambda: len(arrived()) > at_kill + 20, 60)
            configure("moved")
            process.send_signal(signal.SIGHUP)
            wait_for(lambda: len(arrived("moved")) > 10, 60)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        with EventStore(tmp_path / "events.db") as store:
            kept = [row.id for row in store.query(limit=100_000, newest_first=False)]
        wait_for(lambda: set(arrived()) | set(arrived("moved")) == set(kept))
        assert in_order_once([*arrived(), *arrived("moved")]) == kept
        written = [json.loads(line)["id"] for line in (tmp_path / "all.jsonl").read_bytes().splitlines()]
        assert in_order_once(written) == kept
        stats, status = subscriber.on("site/stats")[-1], subscriber.on("site/left/status")[-1]
        told = [{one["name"] for one in message["deliveries"]} for message in subscriber.on("site/stats")]
        assert {"mqtt", "event_log"} in told
        assert stats["cameras"]["left"]["state"] == status["state"] == "running"
        said = (tmp_path / "log").read_text()
        assert "destination mqtt changed" in said
        for text in (said, *(payload.decode(errors="replace") for _, payload, _, _ in subscriber.messages)):
            assert PASSWORD not in text
    finally:
        subscriber.close()
        broker.close()
