"""`streamdet serve` as a process: where the page is, what a signal does, what survives."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

CONFIG = """
cameras: {{court: {{source: demo}}}}
source: {{demo_size: 320x180, demo_seconds: 600, fps: 10}}
model: {{name: motion}}
store: {{path: "{folder}/events.db"}}
serve: {{port: 0}}
"""


class Serving:
    """The process, and what it said on standard error so far."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.log = folder / "serve.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streamdet", "serve", str(folder / "site.yaml"), *options], stderr=log
            )

    def url(self) -> str:
        until_s = time.monotonic() + 90
        while not (found := re.findall(r"the page is at (http://\S+)", self.log.read_text())):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until_s
            time.sleep(0.05)
        assert len(found) == 1
        return str(found[0])

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


def test_it_says_where_the_page_is_keeps_zones_and_drains_on_sigterm(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(CONFIG.format(folder=tmp_path))
    serving = Serving(tmp_path)
    zone = {"name": "all", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}
    try:
        with httpx.Client(base_url=serving.url(), timeout=30) as client:
            until_s = time.monotonic() + 60
            while client.get("/cameras/court/snapshot.jpg").status_code != 200:
                assert time.monotonic() < until_s
                time.sleep(0.1)
            assert client.put("/api/cameras/court/zones", json={"zones": [zone]}).status_code == 200
            serving.process.send_signal(signal.SIGHUP)  # the page's changes outlive a reload
            while "read again" not in serving.log.read_text():
                assert time.monotonic() < until_s
                time.sleep(0.1)
            assert client.get("/api/cameras/court/zones").json()["zones"][0]["name"] == "all"
    finally:
        code = serving.stop()
    assert code == 0, serving.log.read_text()
    assert "Traceback" not in serving.log.read_text()
    kept = json.loads((tmp_path / "site.page.json").read_text())
    assert kept["cameras"]["court"]["zones"][0]["name"] == "all"
    assert (tmp_path / "site.yaml").read_text() == CONFIG.format(folder=tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "serve.token_file"),
        (["--host", "203.0.113.7"], "203.0.113.7"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, options: list[str], said: str) -> None:
    (tmp_path / "site.yaml").write_text(
        CONFIG.format(folder=tmp_path).replace(
            "{port: 0}", "{port: 0, token: long-enough-token}" if "203" in said else "{port: 0}"
        )
    )
    serving = Serving(tmp_path, *options)
    assert serving.process.wait(60) in (2, 3)
    lines = [line for line in serving.log.read_text().splitlines() if line.startswith("streamdet: ")]
    assert len(lines) == 1
    assert said in lines[0]
