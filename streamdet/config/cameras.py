"""Cameras by name, and how live streams share the machine and come back after a loss."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from streamdet.config.tree import Line, Node, NonNegative, Point, Positive, Zone

__all__ = ["CameraConfig", "CameraName", "LiveConfig"]

CameraName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


class CameraConfig(Node, frozen=True):
    """One camera of a station. What is None is taken from the rest of the tree.

    ``${NAME}`` (environment) and ``${file:/run/secrets/x}`` in `source`, `username` and `password` are replaced when the camera
    is opened: the secrets themselves are never in the configuration. A file as `source` is played in real time, again and again.
    """

    source: str
    enabled: bool = True
    username: str | None = None
    password: str | None = None
    transport: Literal["tcp", "udp"] | None = None
    fps: Positive | None = None  # at most so many frames a second are looked at; None: all
    share: Positive = 1.0  # of the detector, beside the other cameras, where there is not enough for all
    zones: list[Zone] | None = None
    lines: list[Line] | None = None
    roi: list[list[Point]] | None = None
    ignore: list[list[Point]] | None = None


class LiveConfig(Node, frozen=True):
    """Live streams: loss and return, and how the machine's time is spent. Times in seconds."""

    retry_first_s: Positive = (
        0.25  # a lost stream is tried again after a quarter of the time it has been gone, at least this
    )
    retry_most_s: Positive = 15.0  # ... and at most this
    refused_retry_s: Positive = 30.0  # wrong password, unknown path: the answer will hardly change
    give_up_s: NonNegative = 0.0  # a stream gone for so long has ended (exit code 4); 0: never
    stalled_s: Positive = 2.0  # no picture for so long is called stalled
    turn_s: NonNegative = 0.0  # one turn of the detector over the cameras; 0: as their frame rates ask for
