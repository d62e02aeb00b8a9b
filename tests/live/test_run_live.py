"""``streamdet run`` on a camera: it comes back by itself, and gives up only if it is told when."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import marked
import pytest
from camera_server import CameraServer

RUN = [sys.executable, "-m", "streamdet", "run", "--model", "motion", "--quiet", "--frames", "frames.jsonl"]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return marked.clip(tmp_path_factory.mktemp("film") / "a.ts", 100)


def frames(folder: Path) -> list[dict[str, int]]:
    file = folder / "frames.jsonl"
    return [json.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []


def started(url: str, folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """Running, and some frames seen."""
    process = subprocess.Popen([*RUN, url, *words], cwd=folder, stderr=subprocess.PIPE)
    until_s = time.monotonic() + 60
    while len(frames(folder)) < 10:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until_s
        time.sleep(0.05)
    return process


def test_a_camera_that_dies_is_waited_for(film: Path, tmp_path: Path) -> None:
    with CameraServer([film]) as camera:
        process = started(camera.url, tmp_path, "--max-frames", "100")
        camera.kill()
        time.sleep(1.5)
        assert process.poll() is None
        camera.start()
        _, said = process.communicate(timeout=90)
    assert process.returncode == 0
    assert b"Traceback" not in said
    assert {frame["epoch"] for frame in frames(tmp_path)} == {0, 1}
    indices = [frame["frame"] for frame in frames(tmp_path)]
    assert indices == sorted(set(indices))


def test_told_when_to_give_up_it_ends_with_what_it_has(film: Path, tmp_path: Path) -> None:
    with CameraServer([film]) as camera:
        process = started(camera.url, tmp_path, "--give-up", "1.5", "--output", "out", "--no-video")
        camera.kill()
        _, said = process.communicate(timeout=90)
    assert process.returncode == 4
    assert b"it has been gone for" in said
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["streams"][0]["frames"] >= 10


def test_a_camera_that_is_not_there_at_the_start_is_a_mistake_told_at_once(tmp_path: Path) -> None:
    words = [*RUN, "rtsp://anna:s3cret@127.0.0.1:9/live"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert done.returncode == 3
    assert b"nothing listens there" in done.stderr
    assert b"s3cret" not in done.stderr
