"""Live: how old is what a subscriber is told, and what becomes of eight cameras when one dies again and again.

    python benchmarks/bench_live.py latency  [--seconds 60]      720p25 over RTSP, default model, to an MQTT subscriber
    python benchmarks/bench_live.py overload [--seconds 60]      the same with four times the work the machine can do
    python benchmarks/bench_live.py cameras  [--minutes 10]      8 x 640x360@15, one killed every 20 s, the broker down 60 s

Everything is real and in processes of its own: cameras (the tests' RTSP server), `streamdet serve`, mosquitto, the subscriber.
Latency is judged in the subscriber: the ball's place in an event says which picture it was seen in, and the camera logged when
that picture was drawn; nothing the engine says about time is used. All on one machine, one clock. The numbers hold for an
otherwise idle one: `load` in the record says what else ran.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness
import numpy as np
import yaml

sys.path[:0] = [str(harness.ROOT / "benchmarks" / "live"), str(harness.ROOT / "tests" / "live")]

STREAMDET = [sys.executable, "-m", "streamdet"]
WARM_UP_S = 8.0
WH, FPS = (1280, 720), 25


# -------------------------------------------------------------------------------------------------------- what is running


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextlib.contextmanager
def process(words: list[str], *, ready: bytes | None = None, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(words, stdout=subprocess.PIPE if ready else options.pop("stdout", None), **options)
    try:
        if ready:
            assert started.stdout is not None
            assert started.stdout.readline().startswith(ready), f"{words[:3]} did not start"
        yield started
    finally:
        started.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(20)
        started.kill()
        started.wait()


class Broker:
    """mosquitto on a port of its own, which can be stopped and brought back.

    As brokers in use do, it keeps on disk who has subscribed: one that forgets takes events for a subscriber that is not back
    yet, acknowledges them and loses them (290 of 5,554 in a run with ``persistence false``), which says nothing about us.
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._config = folder / "broker.conf"
        kept = f"persistence true\npersistence_location {folder}/\nmax_queued_messages 100000"
        self._config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n{kept}\nuser root\n")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") or sys.exit("mosquitto is needed")
        self._process = subprocess.Popen([program, "-c", str(self._config)], stderr=subprocess.DEVNULL)
        until_s = time.monotonic() + 20
        while time.monotonic() < until_s:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        sys.exit("mosquitto did not start")

    def kill(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def engine(folder: Path, config: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    """`streamdet serve`, up and watching."""
    file = folder / "station.yaml"
    file.write_text(yaml.safe_dump(config))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(folder / "notify"))
        heard.settimeout(120)
        environment = {**os.environ, "NOTIFY_SOCKET": str(folder / "notify")}
        with (
            (folder / "frames.jsonl").open("wb") as out,
            (folder / "log.txt").open("wb") as log,
            process([*STREAMDET, "serve", str(file)], stdout=out, stderr=log, env=environment) as started,
        ):
            while "READY=1" not in heard.recv(4096).decode():
                pass
            yield started


def station(folder: Path, broker: Broker, cameras: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "cameras": cameras,
        "store": {"path": str(folder / "events.db")},
        "serve": {"enabled": False},
        "mqtt": {"host": "127.0.0.1", "port": broker.port, "frigate": False},
        **more,
    }


# ------------------------------------------------------------------------------------------------------------- latency


def ages_of(arrivals: Path, glass: Path, since_s: float) -> dict[str, Any]:
    """Ages of what arrived after `since_s` (monotonic), by the ball's place alone."""
    import glass as scene

    drawn = {int(number): float(at) for number, at in (line.split() for line in glass.read_text().splitlines())}
    numbers = np.array(sorted(drawn))
    times = np.array([drawn[number] for number in numbers])
    period = scene.crossing(WH[0])
    ages, off, told = [], 0, []
    for line in arrivals.read_text().splitlines():
        arrival = json.loads(line)
        event, at_s = arrival["event"], arrival["at_s"]
        if at_s < since_s or event["type"] not in ("new", "update"):
            continue
        x1, _, x2, _ = event["bbox"]
        within, error_px = scene.number_at((x1 + x2) / 2, WH[0])
        if abs(error_px) > 0.4 * scene.STEP_PX:
            off += 1
            continue
        seen = numbers[(numbers % period == within) & (times <= at_s)]
        if len(seen):
            ages.append(at_s - drawn[int(seen[-1])])
            told.append(event.get("latency_s") or 0.0)
    if not ages:
        sys.exit("no event arrived: is the ball found?")
    p50, p95, p99 = np.percentile(ages, (50, 95, 99)) * 1e3
    return {
        "events": len(ages),
        "place_unclear": off,
        "age_ms": {
            name: round(float(age), 1)
            for name, age in zip(("p50", "p95", "p99", "max"), (p50, p95, p99, 1e3 * max(ages)))
        },
        "engine_says_ms": {"p50": round(float(np.percentile(told, 50)) * 1e3, 1)},
    }


def watch_ball(seconds: float, **settings: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        port = free_port()
        words = [sys.executable, str(harness.ROOT / "benchmarks/live/glass.py"), "--port", str(port)]
        words += ["--log", str(folder / "glass.txt"), "--size", f"{WH[0]}x{WH[1]}", "--fps", str(FPS)]
        subscriber = [sys.executable, str(harness.ROOT / "benchmarks/live/subscriber.py")]
        with Broker(folder) as broker, process(words, ready=b"READY"):
            subscriber += ["--port", str(broker.port), "--file", str(folder / "arrivals.jsonl")]
            config = station(
                folder,
                broker,
                {"cam": {"source": f"rtsp://127.0.0.1:{port}/live"}},
                rules={"update_s": 0.001, "path_points": 2},
                output={"frames": "-"},
                **settings,
            )
            with process(subscriber, ready=b"READY"), engine(folder, config):
                time.sleep(WARM_UP_S)
                since_s, load = time.monotonic(), os.getloadavg()[0]
                time.sleep(seconds)
        record = ages_of(folder / "arrivals.jsonl", folder / "glass.txt", since_s)
        frames = [json.loads(line) for line in (folder / "frames.jsonl").read_text().splitlines()]
        lasted = frames[-1]["pts_s"] - frames[0]["pts_s"]
        tiles = [frame["tiles"]["run"] for frame in frames if "tiles" in frame]
        return {
            **record,
            "seconds": seconds,
            "frames_per_s": round(len(frames) / lasted, 2),
            "tiles_per_frame": round(float(np.mean(tiles)), 2),
            "load": round(load, 2),
        }


def latency(seconds: float) -> None:
    record = watch_ball(seconds)
    print(json.dumps(record, indent=1))
    harness.save("live_latency", {"wh": WH, "fps": FPS, "wanted_ms": {"p50": 60, "p99": 150}, **record})


def overload(seconds: float) -> None:
    """Ever more tiles, all of them in every frame, until the detector manages a quarter of the camera's frames."""
    for tile, overlap in ((416, 0.3), (320, 0.5), (256, 0.5), (192, 0.5), (160, 0.6), (160, 0.7), (128, 0.75)):
        settings = {"tiles": {"tile": tile, "look": "all", "overlap": overlap}}
        if watch_ball(5, **settings)["frames_per_s"] <= FPS / 4 * 1.05:
            break
    record = watch_ball(seconds, **settings)
    interval_ms = 1e3 / record["frames_per_s"]
    record |= {
        "tile_px": tile,
        "overlap": overlap,
        "detector_interval_ms": round(interval_ms, 1),
        "p99_in_intervals": round(record["age_ms"]["p99"] / interval_ms, 2),
    }
    chosen = watch_ball(seconds, tiles={"tile": tile, "look": "motion", "overlap": overlap})
    print(json.dumps({"all": record, "motion": chosen}, indent=1))
    harness.save(
        "live_overload", {"wh": WH, "fps": FPS, "wanted": "p99 <= 3 intervals", "all": record, "motion": chosen}
    )


# ------------------------------------------------------------------------------------------------------- eight cameras


def rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cameras(minutes: float) -> None:
    import marked_ball
    from camera_server import CameraServer

    seconds, count, fps = minutes * 60, 8, 15
    broker_down = (0.45 * seconds, min(60.0, 0.15 * seconds))
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        folder = Path(scratch)
        clip = marked_ball.clip(folder / "clip.ts", (640, 360), fps, seconds=20)
        servers = [stack.enter_context(CameraServer([clip])) for _ in range(count)]
        broker = stack.enter_context(Broker(folder))
        words = [sys.executable, str(harness.ROOT / "benchmarks/live/subscriber.py"), "--port", str(broker.port)]
        subscriber = [*words, "--file", str(folder / "arrivals.jsonl")]
        named = {f"cam{number}": {"source": server.url} for number, server in enumerate(servers)}
        config = station(folder, broker, named, output={"frames": "-"}, source={"read_timeout_s": 5})
        stack.enter_context(process(subscriber, ready=b"READY"))
        outages: list[dict[str, float]] = []
        memory: list[tuple[float, float]] = []
        with engine(folder, config) as started:
            started_s, load, used_s = time.monotonic(), os.getloadavg()[0], cpu_s(started.pid)
            victim, kill_at, back_at, broker_is_up = servers[0], 20.0, 0.0, True
            while (at := time.monotonic() - started_s) < seconds:
                memory.append((at, rss_mb(started.pid)))
                if back_at and at >= back_at:
                    victim.start()
                    outages[-1]["back_s"] = time.monotonic()
                    back_at, kill_at = 0.0, at + 20
                elif not back_at and at >= kill_at and seconds - at > 15:
                    victim.kill()
                    outages.append({"killed_s": time.monotonic()})
                    back_at = at + 3
                if broker_is_up and broker_down[0] <= at < sum(broker_down):
                    broker.kill()
                    broker_is_up = False
                elif not broker_is_up and at >= sum(broker_down):
                    broker.start()
                    broker_is_up = True
                time.sleep(0.25)
            used_s = cpu_s(started.pid) - used_s
            started.send_signal(signal.SIGTERM)
            code = started.wait(60)
        time.sleep(2)
        record = judged(folder, outages, memory, seconds, started_s)
        record |= {"minutes": minutes, "cameras": count, "wh": [640, 360], "fps": fps, "exit_code": code}
        record |= {"broker_down_s": broker_down[1], "cpu_cores": round(used_s / seconds, 2), "load": round(load, 2)}
    print(json.dumps(record, indent=1))
    harness.save("live_cameras", record)


def judged(
    folder: Path, outages: list[dict[str, float]], memory: list[tuple[float, float]], seconds: float, started_s: float
) -> dict[str, Any]:
    from streamdet.sinks.store import EventStore

    # what the subscriber got, against what the store holds
    arrived: dict[str, None] = {}
    doubles = 0
    for line in (folder / "arrivals.jsonl").read_text().splitlines():
        identity = json.loads(line)["event"]["id"]
        doubles += identity in arrived
        arrived[identity] = None
    with EventStore(folder / "events.db") as store:
        stored, last = [], 0
        while rows := store.after(last):
            stored += [row.event.id for row in rows]
            last = rows[-1].seq
    got = list(arrived)
    missing = [identity for identity in stored if identity not in arrived]
    in_order = got == [identity for identity in stored if identity in arrived]
    # frames of the others, with the first one there and away
    frames = [json.loads(line) for line in (folder / "frames.jsonl").read_text().splitlines()]
    stamps: dict[str, list[float]] = {}
    for frame in frames:
        stamps.setdefault(frame["stream"], []).append(frame["at_s"] if "at_s" in frame else _utc(frame["utc"]))
    wall = time.time() - time.monotonic()
    away = [(one["killed_s"] + wall, one["back_s"] + wall) for one in outages if "back_s" in one]
    begin, end = started_s + wall + min(20.0, seconds / 4), started_s + wall + seconds
    away_s = sum(until - since for since, until in away)
    others = np.sort(np.concatenate([np.array(at) for name, at in stamps.items() if name != "cam0"]))
    others = others[(others >= begin) & (others <= end)]
    during = sum(int(((others >= since) & (others <= until)).sum()) for since, until in away)
    rate_away = during / away_s / 7 if away_s else None
    rate_there = (len(others) - during) / (end - begin - away_s) / 7
    mine = np.array(sorted(stamps.get("cam0", [])))
    returns = [float(mine[mine > until][0] - until) for _, until in away if (mine > until).any()]
    warm = [size for at, size in memory if at > max(30.0, 0.2 * seconds)]
    tenth = max(1, len(warm) // 10)
    first, final = float(np.mean(warm[:tenth])), float(np.mean(warm[-tenth:]))
    return {
        "events": {"stored": len(stored), "arrived": len(got), "missing": len(missing), "in_order": in_order, "doubles": doubles},
        "others_fps": {"while_cam0_runs": round(rate_there, 2), "while_it_is_away": rate_away and round(rate_away, 2)},
        "cam0_back_after_s": {"median": round(float(np.median(returns)), 2), "max": round(max(returns), 2)} if returns else None,
        "outages": len(away),
        "rss_mb": {
            "after_warm_up": round(first, 1),
            "at_the_end": round(final, 1),
            "growth_percent": round(100 * (final / first - 1), 2),
        },
        "latency_ms": _latencies(frames),
    }  # fmt: skip


def _utc(text: str) -> float:
    import datetime

    return datetime.datetime.fromisoformat(text).timestamp()


def _latencies(frames: list[dict[str, Any]]) -> dict[str, float]:
    """As the engine tells them: from the decoder to the record."""
    ages = [frame["latency_s"] * 1e3 for frame in frames]
    return {f"p{q}": round(float(np.percentile(ages, q)), 1) for q in (50, 95, 99)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("latency", "overload", "cameras"))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--minutes", type=float, default=10.0)
    arguments = parser.parse_args()
    if arguments.what == "cameras":
        cameras(arguments.minutes)
    else:
        {"latency": latency, "overload": overload}[arguments.what](arguments.seconds)


if __name__ == "__main__":
    main()
