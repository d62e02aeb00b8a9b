"""``streamdet serve`` as a service manager sees it: ready, reloaded, watched over, stopped with nothing lost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamdet.commands.serve import Settings, Watch
from streamdet.config import Config
from streamdet.overlay import overlay_path
from streamdet.station import Station

CONFIG = """
model: {name: motion}
source: {demo_size: 320x240, demo_seconds: 60, demo_movers: 2}
store: {path: events.db}
serve: {enabled: false}
output: {events: "-"}
cameras:
  a: {source: demo}
"""


class Service:
    """The process, with a socket in systemd's place."""

    def __init__(self, folder: Path, heard: socket.socket, process: subprocess.Popen[bytes]) -> None:
        self.folder, self.heard, self.process = folder, heard, process
        self.told: list[str] = []

    def hears(self, word: str, within_s: float = 60.0) -> None:
        until_s = time.monotonic() + within_s
        while not any(word in text for text in self.told):
            self.heard.settimeout(max(0.01, until_s - time.monotonic()))
            self.told.append(self.heard.recv(4096).decode())

    def events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in (self.folder / "out.jsonl").read_bytes().splitlines()]


@contextlib.contextmanager
def served(folder: Path, config: str = CONFIG) -> Iterator[Service]:
    (folder / "c.yaml").write_text(config)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard, (folder / "out.jsonl").open("wb") as out:
        heard.bind(str(folder / "notify"))
        process = subprocess.Popen(
            [sys.executable, "-m", "streamdet", "serve", "c.yaml"],
            cwd=folder,
            stdout=out,
            stderr=subprocess.PIPE,
            env={**os.environ, "NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "3000000"},
        )
        try:
            yield Service(folder, heard, process)
        finally:
            process.kill()
            process.communicate()


def stopped(service: Service, number: int) -> tuple[int, bytes]:
    service.process.send_signal(number)
    _, said = service.process.communicate(timeout=60)
    return service.process.returncode, said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_told_to_stop_it_ends_every_track_and_drains(tmp_path: Path, number: int, code: int) -> None:
    with served(tmp_path) as service:
        service.hears("READY=1")
        service.hears("WATCHDOG=1")
        until_s = time.monotonic() + 60
        while not any(event["type"] == "new" for event in service.events()):
            assert time.monotonic() < until_s
            time.sleep(0.1)
        done, said = stopped(service, number)
        service.hears("STOPPING=1", 5)
    assert done == code
    assert b"Traceback" not in said
    told = service.events()
    new = {event["track"] for event in told if event["type"] == "new"}
    assert new
    assert new == {event["track"] for event in told if event["type"] == "end"}


def test_a_hangup_reads_the_configuration_again(tmp_path: Path) -> None:
    with served(tmp_path) as service:
        service.hears("READY=1")
        (tmp_path / "c.yaml").write_text(CONFIG + "  b: {source: demo}\n")
        service.process.send_signal(signal.SIGHUP)
        service.hears("RELOADING=1")
        until_s = time.monotonic() + 60
        while not any(event["stream"] == "b" for event in service.events()):
            assert time.monotonic() < until_s
            time.sleep(0.1)
        (tmp_path / "c.yaml").write_text("cameras: {a: {sorce: demo}}")
        service.process.send_signal(signal.SIGHUP)
        time.sleep(1.5)
        code, said = stopped(service, signal.SIGTERM)
    assert code == 0
    assert b"camera b: added" in said
    assert b"nothing taken over" in said
    assert b"sorce" in said


def test_a_reload_that_fails_in_whatever_way_leaves_the_signals_heard(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody else listens for SIGTERM: without this thread only SIGKILL is left."""

    class Broken(Station):
        def reload(self, config: Config) -> list[str]:
            raise RuntimeError("rtsp://me:s3cret@camera is broken")

    class File(Settings):
        def __init__(self) -> None:
            self.path = "c.yaml"

        def read(self) -> Config:
            return Config()

    station = Broken(Config())
    with Watch(station, File()):
        os.kill(os.getpid(), signal.SIGHUP)
        until_s = time.monotonic() + 30
        while "is broken" not in caplog.text:
            assert time.monotonic() < until_s
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)
        while not station._stopped.wait(0.05):
            assert time.monotonic() < until_s
    assert "s3cret" not in caplog.text


def test_a_full_disk_loses_no_camera(tmp_path: Path) -> None:
    """/dev/full in the place of standard output: the sink fails, is told of once, and the cameras run on."""
    (tmp_path / "c.yaml").write_text(CONFIG)
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamdet", "serve", "c.yaml"], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE
        )
        try:
            time.sleep(12)
            assert process.poll() is None
        finally:
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    from streamdet.sinks.store import EventStore

    with EventStore(tmp_path / "events.db") as store:
        kept = store.query(limit=1000)
    assert kept, "events are kept whatever becomes of a sink"
    assert said.count(b"No space left on device") <= 2


def test_a_service_keeps_what_the_page_changes_where_it_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unit's ProtectSystem=strict, like a configuration mounted into a container, makes /etc read-only."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    beside = tmp_path / "station.page.json"
    assert overlay_path(Config(), tmp_path / "station.yaml") == beside
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/streamdet:/var/lib/other")
    assert overlay_path(Config(), tmp_path / "station.yaml") == Path("/var/lib/streamdet/station.page.json")
    beside.touch()  # from before there was a unit
    assert overlay_path(Config(), tmp_path / "station.yaml") == beside
    assert "StateDirectory=" in printed("--print-unit")
    assert "STATE_DIRECTORY=/var/lib/streamdet" in printed("--print-containerfile")


def printed(option: str) -> str:
    words = [sys.executable, "-m", "streamdet", "serve", option]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    text = printed("--print-unit")
    assert "ExecReload=/bin/kill -HUP $MAINPID" in text
    checker = shutil.which("systemd-analyze")
    if checker is None:
        pytest.skip("systemd-analyze is not here to look at it")
    (tmp_path / "streamdet.service").write_text(text.replace("/opt/streamdet/bin/streamdet", sys.executable))
    done = subprocess.run(
        [checker, "verify", "--man=no", "--recursive-errors=no", str(tmp_path / "streamdet.service")],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    about_us = [line for line in done.stderr.splitlines() if "streamdet.service" in line]
    assert not about_us, about_us


def test_the_container_file_serves_a_configuration() -> None:
    lines = [line for line in printed("--print-containerfile").splitlines() if line and not line.startswith("#")]
    assert lines[0].startswith("FROM ")
    assert 'ENTRYPOINT ["streamdet"]' in lines
    assert "STOPSIGNAL SIGTERM" in lines
    assert any(line.startswith("USER ") and "root" not in line for line in lines)
