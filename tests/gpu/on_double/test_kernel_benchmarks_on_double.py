"""The sections of benchmarks/gpu that measure and check the kernels."""

from __future__ import annotations

import shutil
from pathlib import Path

from rehearsal import rehearse, sections


def test_the_kernels(tmp_path: Path) -> None:
    found, said = sections(tmp_path, "copy_bandwidth", "correctness", "kernel_time", "against_composed", "sanitizer")
    assert found["correctness"]["ok"]
    for library in ("torch", "cupy"):  # neither can use the double
        assert str(found["against_composed"][f"{library}_ms"]).startswith(("not installed", "cannot be used"))
    checks = {name: one for name, one in found["sanitizer"].items() if isinstance(one, dict)}
    assert set(checks) == {"memcheck, batteries", "memcheck, frames", "racecheck, frames", "initcheck, frames"}
    assert all(one["ok"] for one in checks.values()), checks
    assert "% of the copy's" in said


def test_without_the_sanitizer_it_is_told(tmp_path: Path) -> None:
    if shutil.which("compute-sanitizer") or Path("/usr/local/cuda/bin/compute-sanitizer").exists():
        return
    done = rehearse(tmp_path, "--only", "sanitizer", tool=False)
    assert "NOT MEASURED: compute-sanitizer is not installed" in done.stdout
