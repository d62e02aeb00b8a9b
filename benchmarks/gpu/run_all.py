"""Everything that only a GPU can show, in one command that needs no edit:

    python benchmarks/gpu/run_all.py                 # some minutes; --quick: about one
    python benchmarks/gpu/run_all.py --only tile_rate,memory

Each section runs in a process of its own, so that one that fails (or takes the driver down) costs only itself. The record goes to
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
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(Path(__file__).resolve().parent)]

NAMES = (
    "copy_bandwidth", "correctness", "batteries", "kernel_time", "against_composed", "tile_rate", "precision", "end_to_end",
    "memory", "sanitizer",
)  # fmt: skip
LIMIT_S = 300
_RESULT = "@@result "


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--model", default="tiny", help="one of `streamdet models` or an .onnx file")
    parser.add_argument("--backend", default="auto", choices=("auto", "tensorrt", "onnxruntime"))
    parser.add_argument("--only", default=",".join(NAMES), metavar="NAME,..", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="a tenth of the repetitions")
    parser.add_argument("--section", help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    given.names = [name for name in given.only.split(",") if name]
    unknown = sorted({*given.names, *([given.section] if given.section else [])} - set(NAMES))
    if unknown:
        parser.error(f"no section called {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return given


def run_section(given: argparse.Namespace) -> int:
    """In the child: the section's record on the last line."""
    from measures import SECTIONS, Bench

    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(given.device, given.model, given.backend, given.quick, Path(scratch))
        record = SECTIONS[given.section](bench)
    print(f"\n{_RESULT}{json.dumps(record)}", flush=True)
    return 0


def in_a_process(name: str, given: argparse.Namespace) -> dict[str, Any]:
    words = [sys.executable, str(Path(__file__).resolve()), "--section", name]
    words += ["--device", given.device, "--model", given.model, "--backend", given.backend]
    words += ["--quick"] if given.quick else []
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"took more than {LIMIT_S} s"}
    result = [line for line in done.stdout.splitlines() if line.startswith(_RESULT)]
    if done.returncode == 0 and result:
        return dict(json.loads(result[-1].removeprefix(_RESULT)))
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return {"failed": said[-1][:400] if said else f"exit code {done.returncode}", "stderr": said[-12:]}


def table(record: dict[str, Any]) -> list[str]:
    """One line a section: what it shows, what was asked for."""

    def of(name: str, *path: str) -> Any:
        node: Any = record["sections"].get(name, {})
        for key in path:
            node = node.get(key) if isinstance(node, dict) else None
        return node

    lines = [f"{record['gpu']}"]
    for name in record["sections"]:
        node = record["sections"][name]
        failed = node.get("failed") or node.get("skipped")
        text = f"NOT MEASURED: {failed}" if failed else json.dumps(node)[:160]
        if not failed and name == "copy_bandwidth":
            text = f"{node['tb_s']:.2f} TB/s read and written"
        elif not failed and name == "correctness":
            text = f"off the CPU packer by {node['largest_difference']} (limit {node['limit']}): {_word(node['ok'])}"
        elif not failed and name == "kernel_time":
            ceiling = of("copy_bandwidth", "tb_s")
            share = f", {node['tb_s'] / ceiling:.0%} of the copy's (wanted 80 %)" if ceiling else ""
            text = f"{node['ms']['median'] * 1e3:.1f} us for {node['tiles']} tiles, {node['tb_s']:.2f} TB/s{share}"
        elif not failed and name == "against_composed":
            ratios = [
                f"{key.removesuffix('_over_ours')} {node[key]:.1f}x" for key in node if key.endswith("_over_ours")
            ]
            text = f"ours {node['ours_ms']['median'] * 1e3:.1f} us; {', '.join(ratios) or 'no rival installed'} (wanted 5x)"
        elif not failed and name == "tile_rate":
            rates = node["tiles_s"]
            text = f"{rates['line']:.0f} of the bare model's {rates['bare']:.0f} tiles/s: {node['share']:.3f} (wanted 0.95)"
        elif not failed and name == "precision":
            text = "; ".join(
                f"{kind}: {found['found']} of {found['objects']} objects, {found['lost']} lost, {found['new']} new"
                for kind, found in node.items()
            )
        elif not failed and name == "end_to_end":
            text = "; ".join(f"{kind}: {one['fps']:.1f} fps" for kind, one in node.items())
        elif not failed and name == "memory":
            text = f"over {node['frames']} frames grown by {node['grown']}: {_word(node['ok'])}"
        elif not failed and name == "sanitizer":
            text = "; ".join(f"{check}: {_word(one['ok'])}" for check, one in node.items())
        lines.append(f"{name:<18}{text}")
    return lines


def _word(ok: bool) -> str:
    return "ok" if ok else "NOT OK"


def main() -> int:
    given = parsed()
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
    for name in given.names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        record["sections"][name] = in_a_process(name, given)
    record["seconds"] = round(time.monotonic() - began, 1)
    folder = Path(os.environ["OUT"]) if os.environ.get("OUT") else harness.RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gpu.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(record)))
    return 1 if any("failed" in node for node in record["sections"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
