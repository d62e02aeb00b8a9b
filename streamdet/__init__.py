"""streamdet: tracked small objects and honest events from camera feeds and video, in real time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["__version__"]
