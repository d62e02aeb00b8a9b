"""`--backend auto`: whichever runtime is faster here, measured once per model, machine and version, and remembered.

So is which arithmetic OpenVINO may use: bf16 where the processor has it and the network's answers bear it
(`streamdet.detectors.rounding`), unless ``model.precision`` is fp32.

See `streamdet.detectors.memory` for where that is kept.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import platform
from pathlib import Path

from streamdet.config import ModelConfig
from streamdet.detectors.measure import arithmetic_only, measure
from streamdet.detectors.memory import fingerprint, remember, remembered
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
    known = remembered(key)
    if config.backend == "openvino":
        if exact:
            return Choice("openvino")
        if known.get("arithmetic") not in ("fp32", "bf16"):
            known = known | arithmetic_only(file, threads)
            remember(key, known)
        return Choice("openvino", known["arithmetic"])
    if known.get("backend") not in ("onnxruntime", "openvino") or known.get("arithmetic") not in ("fp32", "bf16"):
        known = measure(file, threads, exact=exact)
        remember(key, known)
        _LOG.info("backend measured for %s: %s", file.path.name, known)
    return Choice(known["backend"], known["arithmetic"])


def _key(file: ModelFile, threads: int, precision: str) -> str:
    versions = "/".join(importlib.metadata.version(name) for name in ("onnxruntime", "openvino"))
    return f"{fingerprint(file.path)} {_processor()} x{threads} {precision} {versions} {platform.machine()} {_EDITION}"


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
