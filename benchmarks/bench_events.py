"""Events into the store and out to a real mosquitto: rates, latency in the subscriber, an outage of 60 s, memory over 100k.

python benchmarks/bench_events.py            (about 5 minutes; --outage 10 --soak 20000 for a quick look)

The subscriber is a process of its own and notes the monotonic clock at each message; so does the sender at each append. The
broker keeps nothing on disk but the subscriber's session; before it is killed it is frozen for a second, so that the
subscriber has read what the broker had acknowledged.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import harness
import msgspec

from streamdet.config import Config, from_tree
from streamdet.delivery import Deliveries
from streamdet.sinks.store import EventStore
from streamdet.types import Event

STORED, SENT = 20_000, 4_000  # events per repeat
LATENCY_HZ, LATENCY_S = 50, 10
OUTAGE_HZ = 20


def event(number: int) -> Event:
    """As a camera's rules make them, with a second's path."""
    return Event(
        type="update", stream=f"camera-{number % 8}", frame=number, pts_s=number / 25, epoch=1, pts=number * 512,
        time_base="1/12800", utc="2026-11-25T12:00:00.000Z", latency_s=0.041, track=number % 97, label="ball", score=0.873,
        top_score=0.91, bbox=(812.25, 402.5, 824.0, 414.75), velocity=(412.2, -93.1), speed_px_s=422.6, start_s=number / 25 - 1,
        path=[(round(number / 25 - n / 25, 3), 812.0 - n, 402.0 + n) for n in range(25)],
    )  # fmt: skip


def rss_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    def __init__(self, folder: Path) -> None:
        self.port, self.folder = free_port(), folder
        user = "user root\n" if os.geteuid() == 0 else ""
        (folder / "m.conf").write_text(
            f"{user}listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {folder}/\n"
            "autosave_interval 0\nmax_queued_messages 0\nmax_inflight_messages 0\n"
        )
        self.start()

    def start(self) -> None:
        words = ["mosquitto", "-c", str(self.folder / "m.conf")]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(1)
        self.process.kill()
        self.process.wait()


class Subscriber:
    """The process that listens; ``ids`` are (id, monotonic ns) of the events so far, repeats included."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self.file = broker.folder / f"heard-{time.monotonic_ns()}"
        self.process = subprocess.Popen([sys.executable, __file__, "--listen", str(broker.port), topic, str(self.file)])
        while not self.file.exists():
            time.sleep(0.02)
        saved = broker.folder / "mosquitto.db"
        before = saved.stat().st_mtime_ns if saved.exists() else 0
        broker.process.send_signal(signal.SIGUSR1)
        while not saved.exists() or saved.stat().st_mtime_ns == before:
            time.sleep(0.02)

    def heard(self) -> list[tuple[str, int]]:
        lines = self.file.read_text().rpartition("\n")[0].splitlines()
        return [(line.split()[0], int(line.split()[1])) for line in lines]

    def wait_for(self, count: int, timeout_s: float = 120) -> list[tuple[str, int]]:
        until = time.monotonic() + timeout_s
        heard = self.heard()
        while len({i for i, _ in heard}) < count and time.monotonic() < until:
            time.sleep(0.1)
            heard = self.heard()
        return heard

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


def listen(port: int, topic: str, file: str) -> None:
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"bench-{os.getpid()}", clean_session=False)
    client.reconnect_delay_set(0.1, 0.5)
    out: list[Any] = []

    def note(client: Any, data: Any, message: Any) -> None:
        now = time.monotonic_ns()
        start = message.payload.find(b'"id":"') + 6
        out[0].write(f"{message.payload[start : start + 36].decode()} {now}\n")

    def ready(*_: Any) -> None:
        if not out:
            out.append(open(file, "w", buffering=1))  # noqa: SIM115

    client.on_message, client.on_subscribe = note, ready
    client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
    client.connect("127.0.0.1", port)
    client.loop_forever()


@contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-events-") as folder:
        yield Path(folder)


def to(broker: Broker, **more: Any) -> Config:
    return from_tree({"mqtt": {"host": "127.0.0.1", "port": broker.port, **more}, "store": {"drain_s": 60}})


def into_store(*, each: bool) -> float:
    """Events per second until all are on disk; `each`: wait for the disk after every one."""
    events = [event(n) for n in range(STORED // (20 if each else 1))]
    with scratch() as folder, EventStore(folder / "e.db") as store:
        started = time.perf_counter()
        for one in events:
            store.append([one])
            if each:
                store.sync(10)
        store.sync(60)
        return len(events) / (time.perf_counter() - started)


def to_broker(*, frigate: bool) -> float:
    """Events per second from the first append until the last PUBACK."""
    with scratch() as folder:
        broker = Broker(folder)
        with EventStore(folder / "e.db") as store, Deliveries(to(broker, frigate=frigate), store) as deliveries:
            while deliveries.status()[0].state != "connected":
                time.sleep(0.01)
            started = time.perf_counter()
            store.append(event(n) for n in range(SENT))
            while deliveries.status()[0].pending:
                time.sleep(0.005)
            rate = SENT / (time.perf_counter() - started)
        broker.kill()
        return rate


def latency() -> dict[str, Any]:
    """Milliseconds from append to the subscriber's callback, at a steady rate: disk and broker included."""
    with scratch() as folder:
        broker = Broker(folder)
        subscriber = Subscriber(broker, "streamdet/+/events")
        sent: dict[str, int] = {}
        with EventStore(folder / "e.db") as store, Deliveries(to(broker), store):
            time.sleep(1)
            for number in range(LATENCY_HZ * LATENCY_S):
                now = time.monotonic_ns()
                sent[store.append([event(number)])[0].id or ""] = now
                time.sleep(1 / LATENCY_HZ)
            heard = dict(reversed(subscriber.wait_for(len(sent))))
        subscriber.close()
        broker.kill()
    ms = sorted((heard[i] - at) / 1e6 for i, at in sent.items() if i in heard)
    share = {f"p{q}": round(ms[min(len(ms) - 1, int(len(ms) * q / 100))], 2) for q in (50, 95, 99)}
    return {"events": len(sent), "arrived": len(ms), "hz": LATENCY_HZ, "ms": {**share, "max": round(ms[-1], 2)}}


def outage(seconds: float) -> dict[str, Any]:
    """The broker is killed and stays down while events go on; counted by id in the subscriber."""
    with scratch() as folder:
        broker = Broker(folder)
        subscriber = Subscriber(broker, "streamdet/+/events")
        given: list[str] = []

        def go_on(for_s: float) -> None:
            until = time.monotonic() + for_s
            while time.monotonic() < until:
                given.append(store.append([event(len(given))])[0].id or "")
                time.sleep(1 / OUTAGE_HZ)

        with EventStore(folder / "e.db") as store, Deliveries(to(broker), store) as deliveries:
            go_on(5)
            broker.kill()
            go_on(seconds)
            waiting = deliveries.status()[0].pending
            broker.start()
            back = time.monotonic()
            while deliveries.status()[0].pending > 5:
                time.sleep(0.02)
            caught_up_s = time.monotonic() - back
            go_on(5)
        heard = [i for i, _ in subscriber.wait_for(len(given))]
        subscriber.close()
        broker.kill()
    first = list(dict.fromkeys(heard))
    return {
        "broker_down_s": seconds, "events": len(given), "waiting_when_back": waiting, "caught_up_after_s": round(caught_up_s, 2),
        "lost": len(set(given) - set(heard)), "repeated": len(heard) - len(first), "in_order": first == sorted(first),
    }  # fmt: skip


def soak(count: int) -> dict[str, Any]:
    """Memory of the sending process while so many events pass through store and broker."""
    with scratch() as folder:
        broker = Broker(folder)
        memory = []
        with EventStore(folder / "e.db") as store, Deliveries(to(broker), store) as deliveries:
            started = time.perf_counter()
            for number in range(count):
                store.append([event(number)])
                if number % 100 == 99:
                    while deliveries.status()[0].pending > 500:
                        time.sleep(0.002)
                if number % (count // 10) == count // 10 - 1:
                    memory.append(round(rss_mib(), 1))
            wall_s = time.perf_counter() - started
        file_mib = round(os.stat(folder / "e.db").st_size / 2**20, 1)
        broker.kill()
    return {
        "events": count, "wall_s": round(wall_s, 1), "events_per_s": round(count / wall_s), "store_mib": file_mib,
        "resident_mib_each_tenth": memory, "undelivered": sum(one.events for one in deliveries.undelivered),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", nargs=3, metavar=("PORT", "TOPIC", "FILE"))
    parser.add_argument("--only-soak", type=int)
    parser.add_argument("--outage", type=float, default=60.0)
    parser.add_argument("--soak", type=int, default=100_000)
    arguments = parser.parse_args()
    if arguments.listen:
        listen(int(arguments.listen[0]), arguments.listen[1], arguments.listen[2])
        return
    if arguments.only_soak:
        print(json.dumps(soak(arguments.only_soak)))
        return
    rates = harness.alternate(
        {
            "store, as they come": lambda: into_store(each=False),
            "store, waiting for the disk each time": lambda: into_store(each=True),
            "mqtt, events": lambda: to_broker(frigate=False),
            "mqtt, events and objects": lambda: to_broker(frigate=True),
        }
    )
    record = {
        "event_bytes": len(msgspec.json.encode(event(1))),
        "events_per_s": {name: harness.spread(values) for name, values in rates.items()},
        "append_to_subscriber": latency(),
        "outage": outage(arguments.outage),
        "soak": harness.run_json([sys.executable, __file__, "--only-soak", str(arguments.soak)]),
        "load_average": list(os.getloadavg()),
    }
    harness.save("events", record)
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
