"""compute-sanitizer over everything our kernels do: the batteries of the tests, and packed 4K frames.

python benchmarks/gpu/sanitizer.py cuda:0 small      # what it watches: packed frames of every kind
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

from measures import Bench, correctness  # noqa: E402

__all__ = ["commands", "sanitizer"]

_LEAKS_NOT_OURS = (
    "no"  # libraries keep what they allocate until the process ends; ours is counted by the section `memory`
)


def tool() -> str | None:
    """compute-sanitizer, which a toolkit often leaves beside the PATH."""
    return shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")


def commands(path: str, device: str) -> dict[str, list[str]]:
    """By name, the fastest first."""
    cases, frames = str(HERE / "kernel_checks.py"), str(HERE / "sanitizer.py")
    runs = {
        "memcheck, batteries": ("memcheck", ["--leak-check", _LEAKS_NOT_OURS], [cases, device]),
        "memcheck, frames": ("memcheck", ["--leak-check", _LEAKS_NOT_OURS], [frames, device, "small"]),
        "racecheck, frames": ("racecheck", ["--racecheck-report", "all"], [frames, device, "small"]),
        "initcheck, frames": ("initcheck", [], [frames, device, "small"]),
    }
    return {
        name: [path, "--tool", check, *options, "--error-exitcode", "9", sys.executable, *what]
        for name, (check, options, what) in runs.items()
    }


def sanitizer(bench: Bench) -> dict[str, Any]:
    """Each check as far as there is time; what it said last."""
    path = tool()
    if path is None:
        return {"skipped": "compute-sanitizer is not installed"}
    record: dict[str, Any] = {}
    end = time.monotonic() + bench.limit_s - 10
    for name, words in commands(path, bench.device).items():
        left = end - time.monotonic()
        if left < 5:
            record[name] = {"skipped": "no time was left"}
            continue
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=left, check=False, env=os.environ)
        except subprocess.TimeoutExpired:
            record[name] = {"skipped": f"took more than {left:.0f} s"}
            continue
        tail = (done.stdout + done.stderr).strip().splitlines()[-3:]
        record[name] = {"rc": done.returncode, "ok": done.returncode == 0, "said": tail}
    return record


if __name__ == "__main__":
    found = correctness(Bench(sys.argv[1], "tiny", "auto", True, Path("."), small=sys.argv[2:] == ["small"]))
    print(found)
    raise SystemExit(0 if found["ok"] else 1)
