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
    with contextlib.ExitStack() as opened:
        bodies = {}
        if (
            config.pictures.enabled
        ):  # beside the cameras, with a network of its own: a picture must not delay a frame's turn
            from streamdet.predictor import Predictor
            from streamdet.service.paddlex import PATH, routes

            predictor = opened.enter_context(Predictor(config))
            extra = [*extra, *routes(predictor, config.pictures)]
            bodies[PATH] = config.pictures.body_bytes
        yield opened.enter_context(Server(make_app(desk, keys=keys, extra=extra, bodies=bodies), config.serve))
