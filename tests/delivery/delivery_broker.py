"""A real mosquitto with TLS and a password, that can be killed, frozen and started again; and a subscriber that counts."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

USER, PASSWORD = "sd", "s3cret-pw"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """The first true value of `condition`; fails the test after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {condition}"
        time.sleep(0.02)
    return value


def certificates(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost that is its own authority, and its key."""
    certificate, key = folder / "srv.crt", folder / "srv.key"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate),
        ],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return certificate, key


class Broker:
    """mosquitto on two ports: ``tls_port`` (certificate, password) and ``port`` (plain, open). Subscriptions outlive a kill.

    It hands a message to its connected subscribers before it acknowledges it. A subscriber reads all of that only if the broker
    is frozen for a moment before it is killed: the reset of a killed process's connections throws away what was not read yet.
    """

    def __init__(self, folder: Path, *, extra: str = "") -> None:
        self.folder = folder
        self.port, self.tls_port = free_port(), free_port()
        self.ca, key = certificates(folder)
        passwords = folder / "pw"
        subprocess.run(
            ["mosquitto_passwd", "-b", "-c", str(passwords), USER, PASSWORD], check=True, capture_output=True
        )
        os.chmod(passwords, 0o600)
        self.conf = folder / "m.conf"
        user = "user root\n" if os.geteuid() == 0 else ""
        self.conf.write_text(
            f"per_listener_settings true\n{user}persistence true\npersistence_location {folder}/\n"
            f"autosave_interval 0\nmax_queued_messages 0\nmax_inflight_messages 0\n"
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\n{extra}"
            f"listener {self.tls_port} 127.0.0.1\ncertfile {self.ca}\nkeyfile {key}\nallow_anonymous false\n"
            f"password_file {passwords}\n"
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.log = (folder / "mosquitto.log").open("ab")

    def start(self) -> None:
        self.process = subprocess.Popen(["mosquitto", "-c", str(self.conf)], stdout=self.log, stderr=self.log)

        def listening() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return True
            return False

        wait_for(listening)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(20)
            self.process = None

    def save(self) -> None:
        """Write sessions and subscriptions to disk, so that a kill does not forget them."""
        assert self.process is not None
        file = self.folder / "mosquitto.db"
        before = file.stat().st_mtime_ns if file.exists() else 0
        self.process.send_signal(signal.SIGUSR1)
        wait_for(lambda: file.exists() and file.stat().st_mtime_ns > before)

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def close(self) -> None:
        self.kill()
        self.log.close()


class Subscriber:
    """Reads everything under `topic` from the plain port with a session of its own that survives the broker's death."""

    def __init__(self, broker: Broker, topic: str = "#") -> None:
        self.messages: list[tuple[str, bytes, bool, float]] = []
        self._ready = threading.Event()
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"sub-{id(self)}",
            clean_session=False,
            protocol=MQTTProtocolVersion.MQTTv311,
        )
        self.client.reconnect_delay_set(0.1, 0.5)
        self.client.on_message = lambda _c, _u, m: self.messages.append(
            (m.topic, m.payload, m.retain, time.monotonic())
        )
        self.client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self.client.on_subscribe = lambda *_: self._ready.set()
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        assert self._ready.wait(20)
        broker.save()

    def on(self, topic: str) -> list[Any]:
        """The JSON payloads on one topic, as they came."""
        return [json.loads(payload) for name, payload, _, _ in list(self.messages) if name == topic]

    def last(self, topic: str) -> bytes | None:
        return next((payload for name, payload, _, _ in reversed(list(self.messages)) if name == topic), None)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def in_order_once(ids: list[str]) -> list[str]:
    """The ids without repeats, checked to be in order: what is sent again may only repeat, not overtake."""
    first = list(dict.fromkeys(ids))
    assert first == sorted(first), "events arrived out of order"
    return first


needs_mosquitto = pytest.mark.skipif(
    shutil.which("mosquitto") is None, reason="mosquitto is not installed (apt-get install mosquitto mosquitto-clients)"
)
