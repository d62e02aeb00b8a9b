"""benchmarks/gpu rehearsed on the double: real driver calls, host kernels, onnxruntime on the CPU for the network.

What it measures here means nothing; that each section runs, fills its part of the record and is told in the table does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu" / "run_all.py"
# what the children load first: the network runs on the host, where the double's memory is
STAND_IN = """
import os
if os.environ.get("REHEARSED"):
    import streamdet.gpu
    import streamdet.detectors.onnxruntime_cuda as door
    usual = door.OnnxRuntimeCudaBackend
    class Waiting(usual):
        def run(self, data):
            self._device.synchronize()
            return super().run(data)
    door.OnnxRuntimeCudaBackend = lambda *a, **k: Waiting(*a, **k, place="cpu")
    streamdet.gpu._runtime = lambda *_: "onnxruntime"
"""
SANITIZER = """#!/bin/sh
while [ "$1" != --error-exitcode ]; do shift; done
shift 2
exec "$@"
"""


def rehearse(folder: Path, *words: str, tool: bool = True) -> subprocess.CompletedProcess[str]:
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(STAND_IN)
    if tool:
        (folder / "bin" / "compute-sanitizer").write_text(SANITIZER)
        (folder / "bin" / "compute-sanitizer").chmod(0o755)
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "OUT": str(folder / "out"),
        "REHEARSED": "1",
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    command = [sys.executable, str(SCRIPT), "--small", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=105, check=False)


def sections(folder: Path, *names: str) -> tuple[dict[str, Any], str]:
    """The record of these sections and what was printed; all of them must have come to their end."""
    done = rehearse(folder, "--only", ",".join(names))
    record = json.loads((folder / "out" / "gpu.json").read_text())
    assert {name: node for name, node in record["sections"].items() if {"failed", "skipped"} & set(node)} == {}
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == list(names) == list(record["sections"])
    assert record["rehearsal"] is True
    return record["sections"], done.stdout
