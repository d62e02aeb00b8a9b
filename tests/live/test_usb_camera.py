"""A USB camera that is pulled out and put back: FFmpeg's real V4L2 code on a device that a preloaded library plays."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is needed to make the camera")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("usb") / "fakecam.so"
    source = Path(__file__).with_name("fakecam.c")
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", str(made), str(source), "-ldl"], check=True, timeout=60)
    return made


def ran(
    library: Path, folder: Path, *words: str, **environment: str
) -> tuple[subprocess.CompletedProcess[bytes], list[dict[str, int]]]:
    """`streamdet run` on the camera, and its frames."""
    command = [sys.executable, "-m", "streamdet", "run", "/dev/video91", "--model", "motion", "--quiet"]
    done = subprocess.run(
        [*command, "--frames", "frames.jsonl", *words],
        cwd=folder,
        env={**os.environ, "LD_PRELOAD": str(library), "FAKECAM": "/dev/video91", **environment},
        capture_output=True,
        timeout=100,
        check=False,
    )
    file = folder / "frames.jsonl"
    return done, [json.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []


def test_a_camera_runs(library: Path, tmp_path: Path) -> None:
    done, frames = ran(library, tmp_path, "--max-frames", "20")
    assert done.returncode == 0, done.stderr
    assert len(frames) >= 2  # of 20; the machine may be busy
    assert {frame["epoch"] for frame in frames} == {0}
    assert all(later["pts_s"] > earlier["pts_s"] for earlier, later in itertools.pairwise(frames))


def test_unplugged_it_is_waited_for_and_back_it_is_a_new_epoch(library: Path, tmp_path: Path) -> None:
    done, frames = ran(library, tmp_path, "--max-frames", "70", FAKECAM_UNPLUG="30")
    assert done.returncode == 0, done.stderr
    assert {frame["epoch"] for frame in frames} == {0, 1, 2}
    assert b"No such device" in done.stderr
    assert b"Traceback" not in done.stderr


def test_unplugged_for_good_it_ends_when_told_to(library: Path, tmp_path: Path) -> None:
    done, frames = ran(library, tmp_path, "--give-up", "0.1", "--set", "live.retry_first_s=0.3", FAKECAM_UNPLUG="15")
    assert done.returncode == 4, done.stderr
    assert frames
