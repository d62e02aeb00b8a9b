"""`--backend auto`: whichever runtime is faster here, measured once per model, machine and version, and remembered.

The memory is ``$XDG_CACHE_HOME/streamdet/backends.json`` (``~/.cache`` by default). A lost, damaged or unwritable memory
costs a second at the next start, nothing else; nor does a user without a home (a container's, often).
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamdet.config import ModelConfig
from streamdet.detectors.backend import Backend
from streamdet.detectors.onnxruntime_backend import OnnxRuntimeBackend
from streamdet.detectors.openvino_backend import OpenVinoBackend, installed
from streamdet.detectors.sniff import noise
from streamdet.detectors.spec import ModelFile
from streamdet.errors import StartupError, StreamdetError, UsageError
from streamdet.libcuda import require

__all__ = ["cache_dir", "choose", "make_backend", "thread_count"]

Name = Literal["onnxruntime", "openvino"]
_LOG = logging.getLogger(__name__)
_ROUNDS = 4
_OURS = 0.7  # below this share of the cores the machine is busy with something else
_TILES_PER_THREAD = 2
_TOLERANCE = 1e-2  # of the output's own range: beyond it the runtimes do not agree and the first is trusted


def cache_dir() -> Path:
    """Where what was measured and compiled is kept; without a home, until this process ends."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return _until_the_end() if cache.startswith("~") else Path(cache) / "streamdet"


@functools.cache
def _until_the_end() -> Path:
    folder = tempfile.mkdtemp(prefix="streamdet-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def thread_count(config: ModelConfig) -> int:
    """Cores this process may use, unless the user says otherwise."""
    return config.threads or len(
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else [0] * (os.cpu_count() or 1)
    )


def make_backend(name: Name, file: ModelFile, threads: int) -> Backend:
    if name == "openvino":
        return OpenVinoBackend(file, threads=threads, cache=cache_dir() / "openvino")
    return OnnxRuntimeBackend(file, threads=threads)


def choose(config: ModelConfig, file: ModelFile) -> Name:
    """The runtime to use for `file`. Raises StartupError for a GPU that cannot be used, with the reason."""
    if config.device.lower() not in ("auto", "cpu"):
        require(config.device)
        raise StartupError(
            f"device '{config.device}' was asked of the part that runs on the CPU; use --device cpu or auto"
        )
    if config.backend == "tensorrt":
        raise UsageError("--backend tensorrt needs a GPU; use --device cuda:0")
    if config.backend != "auto":
        return config.backend
    if not installed():
        return "onnxruntime"
    threads = thread_count(config)
    key = _key(file, threads)
    remembered = _remembered().get(key, {}).get("backend")
    if remembered in ("onnxruntime", "openvino"):
        return remembered  # type: ignore[no-any-return]  # one of the two, as just seen
    record = measure(file, threads)
    _remember(key, record)
    _LOG.info("backend measured for %s: %s", file.path.name, record)
    return record["backend"]  # type: ignore[no-any-return]


def measure(file: ModelFile, threads: int) -> dict[str, Any]:
    """Run a few tiles of noise on both runtimes, in turn: {"backend", "model", "ms_per_tile": {...}, "why"}."""
    data = np.repeat(noise(file), _TILES_PER_THREAD * threads, axis=0)
    spent: dict[Name, list[tuple[float, float]]] = {"onnxruntime": [], "openvino": []}
    record: dict[str, Any] = {"model": file.path.name, "backend": "onnxruntime"}
    with contextlib.ExitStack() as stack:
        try:
            backends: dict[Name, Backend] = {
                "onnxruntime": stack.enter_context(make_backend("onnxruntime", file, threads)),
                "openvino": stack.enter_context(make_backend("openvino", file, threads)),
            }
            answers = {name: _answer(backend, data) for name, backend in backends.items()}
        except StreamdetError as error:
            return _only_one_runs(file, threads, record, error)
        if not _agree(answers["onnxruntime"], answers["openvino"]):
            return record | {"why": "openvino gives other numbers"}
        for _ in range(_ROUNDS):
            for name, backend in backends.items():
                spent[name].append(_time(backend, data))
    best = {name: (min(wall for wall, _ in runs), min(cpu for _, cpu in runs)) for name, runs in spent.items()}
    # where others use the cores too, wall time says more about them than about the runtimes: compare processor time
    busy = all(cpu < _OURS * wall * threads for wall, cpu in best.values())
    ms = {name: round((cpu / threads if busy else wall) / len(data) * 1e3, 3) for name, (wall, cpu) in best.items()}
    faster: Name = "openvino" if ms["openvino"] < ms["onnxruntime"] else "onnxruntime"
    return record | {"backend": faster, "ms_per_tile": ms, "why": "less processor time" if busy else "faster"}


def _only_one_runs(file: ModelFile, threads: int, record: dict[str, Any], error: StreamdetError) -> dict[str, Any]:
    try:
        with make_backend("onnxruntime", file, threads) as backend:
            _answer(backend, noise(file))
    except StreamdetError as first:
        try:
            with make_backend("openvino", file, threads) as backend:
                _answer(backend, noise(file))
        except StreamdetError:
            raise first from None
        return record | {"backend": "openvino", "why": f"onnxruntime: {first}"}
    return record | {"why": f"openvino: {error}"}


def _answer(backend: Backend, data: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Outputs of the first chunk, copied; the run is the warm-up too."""
    answers = [{name: np.array(array) for name, array in raw.items()} for _, _, raw in backend.infer(data)]
    return answers[0]


def _agree(one: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> bool:
    """Ranked outputs (the best 300 of all) may swap rows on noise: their spread is compared, not their order."""
    for name, a in one.items():
        b = other.get(name)
        if b is None or a.dtype.kind != b.dtype.kind:
            return False
        if a.dtype.kind != "f" or a.size == 0 or b.size == 0:
            continue
        x, y = np.sort(a.ravel().astype(np.float64)), np.sort(b.ravel().astype(np.float64))
        if x.shape != y.shape:
            continue  # a varying number of rows: nothing to compare
        spread = float(np.ptp(x[np.isfinite(x)])) if np.isfinite(x).any() else 0.0
        if not np.allclose(x, y, rtol=0, atol=_TOLERANCE * max(spread, 1e-6), equal_nan=True):
            return False
    return True


def _time(backend: Backend, data: NDArray[Any]) -> tuple[float, float]:
    """Wall and processor seconds of one pass."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in backend.infer(data):
        pass
    return time.perf_counter() - wall, time.process_time() - cpu


# ---------------------------------------------------------------------------------------------------------------- memory


def _key(file: ModelFile, threads: int) -> str:
    with file.path.open("rb") as handle:
        model = hashlib.file_digest(handle, "sha256").hexdigest()[:16]
    versions = "/".join(importlib.metadata.version(name) for name in ("onnxruntime", "openvino"))
    return f"{model} {_processor()} x{threads} {versions} {platform.machine()}"


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "cpu"


def _remembered() -> dict[str, Any]:
    try:
        tree = json.loads((cache_dir() / "backends.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in tree.items() if isinstance(v, dict)} if isinstance(tree, dict) else {}


def _remember(key: str, record: dict[str, Any]) -> None:
    try:
        folder = cache_dir()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".tmp", delete=False, encoding="utf-8") as handle:
            json.dump(_remembered() | {key: record}, handle)
        os.replace(handle.name, folder / "backends.json")  # whole or not at all
    except OSError as error:
        _LOG.debug("cannot remember the backend: %s", error)
