"""The runtimes a processor may run a network with, and how one is made."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Literal, NamedTuple

from streamdet.detectors.backend import Backend
from streamdet.detectors.onnxruntime_backend import OnnxRuntimeBackend
from streamdet.detectors.openvino_backend import Arithmetic, OpenVinoBackend
from streamdet.detectors.spec import ModelFile

__all__ = ["Choice", "Name", "cache_dir", "make_backend"]

Name = Literal["onnxruntime", "openvino"]


class Choice(NamedTuple):
    """A runtime, and the arithmetic it is to use."""

    backend: Name
    arithmetic: Arithmetic = "fp32"


def cache_dir() -> Path:
    """Where what was measured and compiled is kept; without a home, until this process ends."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return _until_the_end() if cache.startswith("~") else Path(cache) / "streamdet"


@functools.cache
def _until_the_end() -> Path:
    folder = tempfile.mkdtemp(prefix="streamdet-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def make_backend(choice: Choice, file: ModelFile, threads: int) -> Backend:
    if choice.backend == "openvino":
        return OpenVinoBackend(file, threads=threads, cache=cache_dir() / "openvino", arithmetic=choice.arithmetic)
    return OnnxRuntimeBackend(file, threads=threads)
