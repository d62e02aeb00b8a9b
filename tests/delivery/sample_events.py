"""Events as a camera's rules give them."""

from __future__ import annotations

from typing import Any

from streamdet.types import Event, EventType


def event(
    number: int = 1, *, type: EventType = "new", stream: str = "court", label: str = "ball", **more: Any
) -> Event:
    values: dict[str, Any] = {"score": 0.5, "bbox": (10, 20, 30, 40), "track": number, **more}
    return Event(type=type, stream=stream, frame=number, pts_s=number / 25, label=label, **values)
