"""`--backend auto`: whichever runtime is faster here, measured once per model, machine and version, and remembered.

So is which arithmetic OpenVINO may use: bf16 where the processor has it and the network's answers bear it
(`streamdet.detectors.rounding`), unless ``model.precision`` is fp32.

The memory is ``$XDG_CACHE_HOME/streamdet/backends.json`` (``~/.cache`` by default). A lost, damaged or unwritable memory
costs a second at the next start, nothing else; nor does a user without a home (a container's, often).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

from streamdet.config import ModelConfig
from streamdet.detectors.measure import arithmetic_only, measure
from streamdet.detectors.openvino_backend import installed
from streamdet.detectors.runtimes import Choice, cache_dir, make_backend
from streamdet.detectors.spec import ModelFile
from streamdet.errors import StartupError, UsageError
from streamdet.libcuda import require

__all__ = ["Choice", "cache_dir", "choose", "make_backend", "thread_count"]

_LOG = logging.getLogger(__name__)
_EDITION = 3  # of what is measured: a higher number makes old memories stale


def thread_count(config: ModelConfig) -> int:
    """Cores this process may use, unless the user says otherwise."""
    return config.threads or len(
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else [0] * (os.cpu_count() or 1)
    )


def choose(config: ModelConfig, file: ModelFile) -> Choice:
    """The runtime to use for `file`. Raises StartupError for a GPU that cannot be used, with the reason."""
    if config.device.lower() not in ("auto", "cpu"):
        require(config.device)
        raise StartupError(
            f"device '{config.device}' was asked of the part that runs on the CPU; use --device cpu or auto"
        )
    if config.backend == "tensorrt":
        raise UsageError("--backend tensorrt needs a GPU; use --device cuda:0")
    if config.backend == "onnxruntime" or not installed():
        return Choice("onnxruntime" if config.backend == "auto" else config.backend)
    exact = config.precision == "fp32"
    threads = thread_count(config)
    key = _key(file, threads, config.precision)
    known = _remembered().get(key, {})
    if config.backend == "openvino":
        if exact:
            return Choice("openvino")
        if known.get("arithmetic") not in ("fp32", "bf16"):
            known = known | arithmetic_only(file, threads)
            _remember(key, known)
        return Choice("openvino", known["arithmetic"])
    if known.get("backend") not in ("onnxruntime", "openvino") or known.get("arithmetic") not in ("fp32", "bf16"):
        known = measure(file, threads, exact=exact)
        _remember(key, known)
        _LOG.info("backend measured for %s: %s", file.path.name, known)
    return Choice(known["backend"], known["arithmetic"])


# ---------------------------------------------------------------------------------------------------------------- memory


def _key(file: ModelFile, threads: int, precision: str) -> str:
    with file.path.open("rb") as handle:
        model = hashlib.file_digest(handle, "sha256").hexdigest()[:16]
    versions = "/".join(importlib.metadata.version(name) for name in ("onnxruntime", "openvino"))
    return f"{model} {_processor()} x{threads} {precision} {versions} {platform.machine()} {_EDITION}"


def _processor() -> str:
    """Its name, and whether it multiplies bf16: a virtual machine may have the one without the other."""
    name, bf16 = platform.processor() or "cpu", ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
            elif line.startswith("flags") and not {"avx512_bf16", "amx_bf16"}.isdisjoint(line.split()):
                bf16 = " bf16"
    return name + bf16


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
