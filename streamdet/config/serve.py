"""How `streamdet serve` is reached, by whom, and what it allows."""

from __future__ import annotations

from typing import Annotated

import msgspec

from streamdet.config.tree import Node, NonNegative, Positive, Size

__all__ = ["ServeConfig"]

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Quality = Annotated[int, msgspec.Meta(ge=10, le=100)]


class ServeConfig(Node, frozen=True):
    """The page and the API. Whoever can reach `host` can look at the cameras, so beyond this machine a token is a must."""

    enabled: bool = True  # false: cameras and events only, nothing listens
    host: str = "127.0.0.1"
    port: Port = 8080  # 0: any free one, told on standard error
    token: str | None = None  # what a caller must know; ${NAME} takes it from the environment
    token_file: str | None = None  # ... or the first line of this file
    hosts: list[
        str
    ] = []  # names under which the page is reached, if it is by others than 127.0.0.1, localhost and `host`
    overlay: str | None = (
        None  # what the page changes (zones, cameras) is kept there; None: CONFIG.page.json beside CONFIG.yaml, as a service
        # with a STATE_DIRECTORY (systemd, container) in that
    )
    camera_hosts: list[
        str
    ] = []  # cameras added by the API: only these hosts (names with *, or networks); empty: see README
    stale_s: Positive = 10.0  # /healthz says 503 once a running camera gave no frame for so long
    jpeg_quality: Quality = 80
    live_fps: NonNegative = 0  # most pictures per second to one viewer; 0: all of them
    viewers: Size = 64  # live views and event streams at once
    body_bytes: Size = 1_048_576  # largest request body
