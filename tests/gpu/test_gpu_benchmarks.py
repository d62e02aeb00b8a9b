"""benchmarks/gpu on a machine without a GPU: one sentence, exit code 3, nothing written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu" / "run_all.py"
pytestmark = pytest.mark.skipif(Path("/proc/driver/nvidia/version").exists(), reason="this machine has a GPU")


@pytest.mark.parametrize("words", [[], ["--section", "memory"], ["--only", "kernel_time", "--quick"]])
def test_without_a_gpu_there_is_one_sentence_and_no_record(tmp_path: Path, words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words],
        env={"OUT": str(tmp_path / "out"), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.startswith("benchmarks/gpu: nothing can be measured here: this machine has no NVIDIA driver")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_section_nobody_knows_is_told() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--only", "x"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no section called x" in done.stderr
