"""A whole station with its page, for real: cameras, store, uvicorn on a port of its own."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from streamdet.config import CameraConfig, Config, ServeConfig, with_values
from streamdet.overlay import Overlay
from streamdet.service.front import front
from streamdet.sinks.hub import Hub
from streamdet.station import Station


@dataclass
class Running:
    url: str
    station: Station
    hub: Hub
    overlay: Overlay
    client: httpx.Client

    def wait(self, done: Callable[[], object], timeout_s: float = 60.0) -> None:
        until_s = time.monotonic() + timeout_s
        while not done():
            assert time.monotonic() < until_s, "it did not come to pass in time"
            time.sleep(0.05)

    def wait_for_frames(self, camera: str, more: int = 3) -> None:
        shot = self.hub.shot(camera)
        after = shot.number if shot else 0
        self.wait(lambda: (now := self.hub.shot(camera)) is not None and now.number >= after + more)


@contextlib.contextmanager
def running(
    folder: Path,
    *,
    cameras: dict[str, CameraConfig] | None = None,
    serve: ServeConfig | None = None,
    settings: Mapping[str, object] | None = None,
) -> Iterator[Running]:
    """A station over `cameras` (none given: one rendered scene), its files in `folder`; dotted leaves by `settings`."""
    given = {"court": CameraConfig(source="demo")} if cameras is None else cameras
    config = with_values(
        Config(cameras=given, serve=serve or ServeConfig(port=0)),
        {
            "model.name": "motion",
            "store.path": str(folder / "events.db"),
            "source.demo_size": "640x360",
            "source.demo_seconds": 600,
            "source.fps": 15,
            **(settings or {}),
        },
    )
    overlay = Overlay(folder / "page.json")
    config = overlay.apply(config)
    hub = Hub()
    station = Station(config, hub=hub)
    thread = threading.Thread(target=station.run, name="station-under-test")
    recordings = Path(config.record.dir) if config.record.dir else None
    with front(station, hub, config, overlay=overlay, recordings=recordings) as server:
        thread.start()
        try:
            assert station.ready.wait(60)
            with httpx.Client(base_url=server.url, timeout=30) as client:
                yield Running(server.url, station, hub, overlay, client)
        finally:
            station.stop()
            thread.join(60)
    assert not thread.is_alive()
