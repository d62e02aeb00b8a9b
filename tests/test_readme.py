"""README tells the truth: its commands can be typed, its Python runs, its files are there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from streamdet.cli import _parser

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split(" #")[0].strip() for line in TEXT.splitlines() if re.match(r" {4}streamdet ", line) and "..." not in line
]
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_typed(command: str) -> None:
    words = shlex.split(re.split(r"[|<>]|&&", command)[0])
    _parser().parse_args(words[1:])


def test_there_are_commands_and_python_in_it() -> None:
    assert len(COMMANDS) > 5
    assert len(BLOCKS) > 1


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds what the examples name: match.mp4, page.jpg, photo.jpg, yolo.onnx."""
    sys.path.insert(0, str(ROOT / "tests" / "detectors"))
    sys.path.insert(0, str(ROOT / "tests" / "sources"))
    try:
        from blob_segmenter import save_blob_segmenter
        from source_clips import encode
    finally:
        del sys.path[:2]
    picture = np.zeros((300, 500, 3), np.uint8)
    cv2.circle(picture, (200, 150), 40, (255, 255, 255), -1)
    for name in ("page.jpg", "photo.jpg"):
        cv2.imwrite(str(tmp_path / name), picture)
    encode(tmp_path / "match.mp4", [np.roll(picture, 4 * step, axis=1) for step in range(12)])
    save_blob_segmenter(tmp_path / "yolo.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("block", BLOCKS, ids=[block.strip().splitlines()[0][:40] for block in BLOCKS])
def test_every_piece_of_python_runs(block: str, folder: Path) -> None:
    exec(compile(block, "README.md", "exec"), {})


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:benchmarks|streamdet|engines|tests)/[\w/.]+)`", TEXT))))
def test_every_file_it_names_is_there(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python (benchmarks/[\w/]+\.py)", TEXT))))
def test_every_script_it_names_is_there(module: str) -> None:
    assert (ROOT / module).is_file()


def test_its_configuration_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from streamdet.config import load

    for name in ("CAMERA_PASSWORD", "HOOK_SECRET"):
        monkeypatch.setenv(name, "secret")
    (block,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "cameras.yaml").write_text(block)
    assert set(load(tmp_path / "cameras.yaml").cameras) == {"court", "gate"}


def test_its_tables_are_what_the_records_say() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "readme_tables.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
