"""The door to TensorRT: one module for `tensorrt` 10.x and 11.x and `tensorrt_rtx`, of which only what all three share is used.

That is: a strongly typed network, ``OnnxParser``, one optimisation profile, ``set_memory_pool_limit``, named inputs and outputs,
``execute_async_v3``. Importing and building with TensorRT-RTX needs no GPU. Anything that does is not touched before
`streamdet.device.probe` has seen one: without a driver these libraries fail in ways Python cannot catch.
"""

from __future__ import annotations

import collections
import functools
import importlib
import importlib.util
import logging
from typing import Any, NamedTuple

from streamdet.errors import DependencyError

__all__ = ["TensorRt", "import_trt", "installed", "logger_of"]

_LOG = logging.getLogger(__name__)
_REMEDY = (
    "run `pip install 'streamdet[tensorrt]'` (any NVIDIA GPU since 2018), or `pip install 'streamdet[tensorrt-rtx]'` "
    "(GeForce RTX, a smaller download)"
)
_NAMES = ("tensorrt", "tensorrt_rtx")


class TensorRt(NamedTuple):
    """Which one it is: ``flavour`` "tensorrt" or "tensorrt_rtx"; ``module`` the package itself."""

    flavour: str
    version: str
    module: Any

    @property
    def rtx(self) -> bool:
        return self.flavour == "tensorrt_rtx"

    @property
    def about(self) -> str:
        return f"{'TensorRT-RTX' if self.rtx else 'TensorRT'} {self.version}"


def installed() -> tuple[str, ...]:
    """The flavours that are there, the preferred first; nothing is imported."""
    return tuple(name for name in _NAMES if importlib.util.find_spec(name) is not None)


@functools.cache
def import_trt(flavour: str | None = None) -> TensorRt:
    """Import TensorRT, or the flavour named. Raises DependencyError: not installed, broken, or too old."""
    names = [name for name in installed() if flavour in (None, name)]
    if not names:
        raise DependencyError(f"{(flavour or 'TensorRT').replace('_', '-')} is not installed; {_REMEDY}")
    problems = []
    for name in names:
        try:
            module = importlib.import_module(name)
        except (ImportError, OSError, RuntimeError) as error:
            problems.append(f"{name}: {str(error).splitlines()[0]}")
            continue
        version = str(module.__version__)
        if not hasattr(module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
            problems.append(f"{name} {version} is too old (10.0 is the first that does)")
            continue
        return TensorRt(name, version, module)
    raise DependencyError(f"TensorRT cannot be loaded ({'; '.join(problems)}); {_REMEDY}")


@functools.cache
def logger_of(trt: TensorRt) -> Any:
    """TensorRT's messages in Python's log; ``errors`` keeps the latest. One per process: TensorRT keeps the first it is given."""
    severity = trt.module.ILogger.Severity
    levels = {severity.INTERNAL_ERROR: logging.ERROR, severity.ERROR: logging.ERROR}

    class Logger(trt.module.ILogger):  # type: ignore[misc,name-defined]  # the base comes with the import
        def __init__(self) -> None:
            super().__init__()
            self.errors: collections.deque[str] = collections.deque(maxlen=8)

        def log(self, level: Any, text: str) -> None:
            if level in levels:
                self.errors.append(" ".join(text.split()))
            if level not in (severity.VERBOSE, severity.INFO):  # what fails is told as a sentence by who asked for it
                _LOG.info("%s", text)

    return Logger()
