"""benchmarks/gpu on a machine without a GPU: one sentence, exit code 3, nothing written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

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


NODE = {"median": 0.0375, "min": 0.036, "p95": 0.04}
SAMPLE = {
    "gpu": "cuda:0 NVIDIA H100, 80 GB, compute capability 9.0, driver 580.159, CUDA 13.0",
    "machine": {"cores": 16, "processor": "AMD EPYC", "date": "2026-11-25T14:49:40+00:00", "commit": "7e36a23f6c260f5e"},
    "sections": {
        "copy_bandwidth": {"bytes": 2 << 30, "ms": NODE, "tb_s": 2.9},
        "correctness": {"largest_difference": {"unscaled": 0.0005, "scaled up": 0.0009}, "limit": 0.004, "ok": True},
        "batteries": {
            "pack_cases": 101, "pack_wrong": {}, "compact_cases": 44, "compact_wrong": {"a": "b"}, "motion_cases": 41,
            "motion_wrong": {},
        },
        "kernel_time": {"tiles": 32, "ms": NODE, "bytes": 151e6, "tb_s": 2.61},
        "motion": {"frames": 60, "differing_frames": 0, "ok": True, "ms": {"cpu": 21.0, "gpu": 0.81}, "kernels_ms": NODE},
        "against_composed": {"ours_ms": NODE, "torch_ms": NODE, "torch_over_ours": 23.4, "cupy_ms": "not installed"},
        "tile_rate": {"tiles_s": {"bare": 9000.0, "line": 8800.0}, "share": 0.978},
        "precision": {"fp16": {"objects": 40, "found": 40, "lost": 0, "new": 0}, "seconds": 3.0},
        "memory": {"frames": 10000, "grown": {"gpu_mib": 0.0, "host_mib": 0.5}, "ok": True},
        "end_to_end": {"failed": "took more than 240 s; run again with --only end_to_end"},
        "sanitizer": {"memcheck, frames": {"rc": 0, "ok": True}, "racecheck, frames": {"skipped": "no time was left"}},
    },
}  # fmt: skip


def test_the_table_of_readme_comes_from_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import readme_tables

    monkeypatch.setattr(readme_tables, "RESULTS", tmp_path)
    block = "# GPUs\n<!-- table:gpu -->old<!-- end -->\nafter"
    unmeasured = readme_tables.rendered(block)
    assert "Not measured yet, for want of a GPU: device to device copy; packed 4K frames" in unmeasured
    (tmp_path / "gpu.json").write_text(json.dumps(SAMPLE))
    text = readme_tables.rendered(unmeasured)
    assert text == readme_tables.rendered(text)
    assert (
        "| one launch: 4K, 32 tiles of 640, 5 channels, fp16 | 37.5 us for 32 tiles, 2.61 TB/s, 90% of the copy's | 80 % of"
        in text
    )
    assert (
        "| pack + network + read back, over the bare network | 8800 of the bare model's 9000 tiles/s: 0.978 | 0.95 |"
        in text
    )
    assert "186 cases of packing, reading and motion, 1 wrong" in text
    assert "torch 23.4x" in text
    assert "memcheck, frames: ok; racecheck, frames: not run" in text
    assert "Not measured yet: 4K film, decode to JSON." in text
    assert text.startswith("# GPUs\n<!-- table:gpu -->")
    assert text.endswith("<!-- end -->\nafter")


def test_records_of_several_calls_become_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import run_all

    late: Any = {**SAMPLE, "sections": {"memory": {"failed": "x"}, "end_to_end": {"a": {"fps": 70.0}}}}
    both = run_all.merged(SAMPLE, late)["sections"]
    assert both["memory"]["ok"] is True
    assert both["end_to_end"]["a"]["fps"] == 70.0
    assert list(both) == list(run_all.NAMES)
    assert run_all.merged({}, SAMPLE)["sections"] == SAMPLE["sections"]
    with pytest.raises(ValueError, match="the other on another"):
        run_all.merged(SAMPLE, {**late, "gpu": "another"})


def test_the_whole_command_of_a_section_can_be_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import run_all

    given = run_all.parsed(["--quick", "--model", "a b.onnx", "--backend", "tensorrt", "--device", "cuda:1"])
    for name in run_all.NAMES:
        words = run_all.words_of(name, given, 99.6)
        again = run_all.parsed(words[2:])
        assert (again.section, again.limit, again.quick, again.small) == (name, 100.0, True, False)
        assert (again.model, again.backend, again.device) == ("a b.onnx", "tensorrt", "cuda:1")


def test_a_section_nobody_knows_is_told() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--only", "x"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no section called x" in done.stderr
