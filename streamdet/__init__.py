"""streamdet: tracked small objects and honest events from camera feeds and video, in real time.

>>> import streamdet
>>> for result in streamdet.run("match.mp4"):
...     result.tracks.xyxy, result.events, result.annotated()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamdet.api import Run, run
    from streamdet.config import Config
    from streamdet.errors import StreamdetError
    from streamdet.image_result import ImageResult
    from streamdet.predictor import Predictor, predict
    from streamdet.types import Detections, Event, Frame, Result, Tracks

__version__ = "0.1.0"

__all__ = [
    "Config",
    "Detections",
    "Event",
    "Frame",
    "ImageResult",
    "Predictor",
    "Result",
    "Run",
    "StreamdetError",
    "Tracks",
    "__version__",
    "predict",
    "run",
]

_HOME = {
    "run": "streamdet.api",
    "Run": "streamdet.api",
    "predict": "streamdet.predictor",
    "Predictor": "streamdet.predictor",
    "ImageResult": "streamdet.image_result",
    "Config": "streamdet.config",
    "StreamdetError": "streamdet.errors",
    "Detections": "streamdet.types",
    "Event": "streamdet.types",
    "Frame": "streamdet.types",
    "Result": "streamdet.types",
    "Tracks": "streamdet.types",
}


def __getattr__(name: str) -> Any:
    """Load public names when they are first used: ``import streamdet`` itself stays in the milliseconds."""
    if name not in _HOME:
        raise AttributeError(f"module 'streamdet' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
