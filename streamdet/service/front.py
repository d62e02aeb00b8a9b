"""Page and API beside a station, from its configuration."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from starlette.routing import BaseRoute

from streamdet.config import Config
from streamdet.overlay import Overlay
from streamdet.service.app import make_app
from streamdet.service.desk import Desk, Station
from streamdet.service.server import Server, keys_of
from streamdet.sinks.hub import Hub

__all__ = ["front"]


@contextlib.contextmanager
def front(
    station: Station,
    hub: Hub,
    config: Config,
    *,
    overlay: Overlay,
    recordings: Path | None = None,
    extra: Sequence[BaseRoute] = (),
) -> Iterator[Server]:
    """Listening while entered. `recordings`: where clips and snapshots lie. Raises ConfigError, StartupError."""
    keys = keys_of(config.serve)
    desk = Desk(config, station, hub, overlay=overlay, recordings=recordings)
    with Server(make_app(desk, keys=keys, extra=extra), config.serve) as server:
        yield server
