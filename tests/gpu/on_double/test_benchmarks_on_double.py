"""The sections of benchmarks/gpu that measure the line, and what run_all does beside measuring."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rehearsal import SCRIPT, rehearse, sections


def test_the_line(tmp_path: Path) -> None:
    found, _ = sections(tmp_path, "motion", "tile_rate", "precision", "memory", "end_to_end")
    assert found["motion"]["ok"]
    assert found["memory"]["ok"], found["memory"]
    assert found["precision"]["fp32"]["found"] == found["precision"]["fp32"]["objects"] > 0
    assert len([one for one in found["end_to_end"].values() if isinstance(one, dict)]) == 6


def test_without_time_a_section_is_left_and_told(tmp_path: Path) -> None:
    done = rehearse(tmp_path, "--only", "memory,sanitizer", "--minutes", "0.1")
    assert done.returncode == 0
    assert "NOT MEASURED: no time was left; run again with --only memory" in done.stdout


@pytest.mark.parametrize("words", [["--merge", "nowhere.json"], ["--merge", "rehearsal"]])
def test_what_cannot_be_merged_is_told(tmp_path: Path, words: list[str]) -> None:
    record = tmp_path / "rehearsal"
    record.write_text(json.dumps({"gpu": "x", "rehearsal": True, "sections": {}}))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "cannot be merged" in done.stderr
