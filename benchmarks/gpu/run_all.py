"""Everything that only a GPU can show, in one command that needs no edit:

    python benchmarks/gpu/run_all.py                 # ten minutes at most; --quick: about two
    python benchmarks/gpu/run_all.py --only tile_rate,memory
    python benchmarks/gpu/run_all.py --merge FILE    # needs no GPU: FILE's sections into benchmarks/results/gpu.json

Each section runs in a process of its own, so that one that fails (or takes the driver down) costs only itself; what the time does
not suffice for is told, and measured by a second run with ``--only``. The record is written after each section, to
``$OUT/gpu.json`` where OUT is set, else to ``benchmarks/results/gpu.json``; a short table is printed last. Without a GPU: one
sentence, exit code 3, nothing written.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(Path(__file__).resolve().parent)]

import gpu_lines  # noqa: E402

NAMES = (
    "copy_bandwidth", "correctness", "batteries", "kernel_time", "motion", "against_composed", "tile_rate", "precision",
    "memory", "end_to_end", "sanitizer",
)  # fmt: skip
LIMIT_S = 240.0
LEAST_S = 15.0  # less is not worth a start
_RESULT = "@@result "


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--model", default="tiny", help="one of `streamdet models` or an .onnx file")
    parser.add_argument("--backend", default="auto", choices=("auto", "tensorrt", "onnxruntime"))
    parser.add_argument("--only", default=",".join(NAMES), metavar="NAME,..", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="a tenth of the repetitions")
    parser.add_argument("--minutes", type=float, default=9.5, help="for all of it (default: 9.5)")
    parser.add_argument(
        "--merge", type=Path, metavar="FILE", help="put FILE's sections into benchmarks/results/gpu.json"
    )
    parser.add_argument("--small", action="store_true", help=argparse.SUPPRESS)  # a rehearsal: the numbers mean nothing
    parser.add_argument("--section", help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=float, default=LIMIT_S, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    given.names = [name for name in given.only.split(",") if name]
    unknown = sorted({*given.names, *([given.section] if given.section else [])} - set(NAMES))
    if unknown:
        parser.error(f"no section called {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return given


def run_section(given: argparse.Namespace) -> int:
    """In the child: the section's record on the last line."""
    with tempfile.TemporaryDirectory() as scratch:
        from measures import Bench

        bench = Bench(
            given.device, given.model, given.backend, given.quick, Path(scratch), small=given.small, limit_s=given.limit
        )
        record = section(given.section)(bench)
    print(f"\n{_RESULT}{json.dumps(record)}", flush=True)
    return 0


def section(name: str) -> Callable[[Any], dict[str, Any]]:
    """What measures it; only what it needs is imported."""
    if name == "batteries":
        from kernel_checks import battery

        return lambda bench: battery(bench.device)
    if name == "sanitizer":
        from sanitizer import sanitizer

        return sanitizer
    import line_measures
    import measures

    found: Callable[[Any], dict[str, Any]] = getattr(measures, name, None) or getattr(line_measures, name)
    return found


def words_of(name: str, given: argparse.Namespace, limit_s: float) -> list[str]:
    """The command of a section's process."""
    words = [sys.executable, str(Path(__file__).resolve()), "--section", name, "--limit", f"{limit_s:.0f}"]
    words += ["--device", given.device, "--model", given.model, "--backend", given.backend]
    return words + ["--quick"] * given.quick + ["--small"] * given.small


def in_a_process(name: str, given: argparse.Namespace, left_s: float) -> dict[str, Any]:
    limit_s = min(LIMIT_S, left_s)
    if limit_s < LEAST_S:
        return {"skipped": f"no time was left; run again with --only {name}"}
    began = time.monotonic()
    try:
        done = subprocess.run(
            words_of(name, given, limit_s), capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"took more than {limit_s:.0f} s; run again with --only {name}"}
    result = [line for line in done.stdout.splitlines() if line.startswith(_RESULT)]
    if done.returncode == 0 and result:
        return {**json.loads(result[-1].removeprefix(_RESULT)), "seconds": round(time.monotonic() - began, 1)}
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return {"failed": said[-1][:400] if said else f"exit code {done.returncode}", "stderr": said[-12:]}


def table(record: dict[str, Any]) -> list[str]:
    """One line a section: what it shows, what was asked for."""
    lines = [f"{record['gpu']}"]
    for name, node in record["sections"].items():
        failed = node.get("failed") or node.get("skipped")
        lines.append(f"{name:<18}{f'NOT MEASURED: {failed}' if failed else gpu_lines.text(name, record['sections'])}")
    return lines


def merged(into: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Both records' sections, the newer one's where both measured. Raises ValueError for different GPUs, and for rehearsals."""
    if into and into["gpu"] != new["gpu"]:
        raise ValueError(f"one was measured on {into['gpu']}, the other on {new['gpu']}")
    if new.get("rehearsal"):
        raise ValueError("it is a rehearsal: its numbers mean nothing")
    kept = dict(into.get("sections", {}))
    for name, node in new["sections"].items():
        if not ({"failed", "skipped"} & set(node) and name in kept):
            kept[name] = node
    return {**new, "sections": {name: kept[name] for name in NAMES if name in kept}}


def merge(path: Path) -> int:
    target = ROOT / "benchmarks" / "results" / "gpu.json"
    try:
        old = json.loads(target.read_text(encoding="utf-8")) if target.is_file() else {}
        record = merged(old, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError) as error:
        print(f"benchmarks/gpu: {path} cannot be merged into {target}: {error}", file=sys.stderr)
        return 2
    target.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(record)))
    return 0


def main() -> int:
    given = parsed()
    if given.merge is not None:
        return merge(given.merge)
    from streamdet.errors import UsageError
    from streamdet.libcuda import NoGpu, device_index, probe

    try:
        found = probe(device_index(given.device))
    except UsageError as error:
        print(f"benchmarks/gpu: {error}", file=sys.stderr)
        return 2
    if isinstance(found, NoGpu):
        print(f"benchmarks/gpu: nothing can be measured here: {found.reason}", file=sys.stderr)
        return 3
    if given.section:
        return run_section(given)
    import harness

    began = time.monotonic()
    record: dict[str, Any] = {"benchmark": "gpu", "machine": harness.machine(), "gpu": found.describe(), "sections": {}}
    record |= {"rehearsal": True} if given.small else {}
    folder = Path(os.environ["OUT"]) if os.environ.get("OUT") else harness.RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    for name in given.names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        record["sections"][name] = in_a_process(name, given, began + 60 * given.minutes - time.monotonic())
        record["seconds"] = round(time.monotonic() - began, 1)
        (folder / "gpu.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(record)))
    return 1 if any("failed" in node for node in record["sections"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
