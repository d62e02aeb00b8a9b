"""What every benchmark shares: the machine's description, alternating repeats, medians, and the JSON record."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("streamdet", "numpy", "opencv-python", "av", "onnxruntime", "openvino", "scipy", "sahi", "supervision")


def shared_data() -> Path:
    """The folder of real clips and models (STREAMDET_SHARED, or ../shared)."""
    folder = Path(os.environ.get("STREAMDET_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        sys.exit(f"no clips at {folder}: set STREAMDET_SHARED")
    return folder


def machine() -> dict[str, Any]:
    """Processor, memory, versions and commit: enough to know what a number was measured on."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "commit": _git("rev-parse", "HEAD"),
        "changed_files": len(_git("status", "--porcelain", "--untracked-files=no").splitlines()),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(*words: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def alternate(
    contenders: dict[str, Callable[[], float]], *, repeats: int = 5, warm_up: int = 1
) -> dict[str, list[float]]:
    """Run every contender once per round, so that noise on the machine meets all alike. Returns the measured values by name."""
    values: dict[str, list[float]] = {name: [] for name in contenders}
    for round_number in range(warm_up + repeats):
        for name, measure in contenders.items():
            value = measure()
            if round_number >= warm_up:
                values[name].append(value)
    return values


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, p95, least and most of repeated measurements."""
    ordered = sorted(values)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    return {
        "median": statistics.median(ordered),
        "p95": p95,
        "min": ordered[0],
        "max": ordered[-1],
        "repeats": len(ordered),
    }


def save(name: str, record: dict[str, Any]) -> Path:
    """Write ``benchmarks/results/<name>.json`` with the machine's description added."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"{name}.json"
    file.write_text(json.dumps({"benchmark": name, "machine": machine(), **record}, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {file.relative_to(ROOT)}", file=sys.stderr)
    return file


def run_json(words: list[str], **options: Any) -> Any:
    """Run a command in a process of its own and read the JSON it prints last."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed ({done.returncode}):\n{done.stderr[-3000:]}")
    return json.loads(done.stdout)
