"""What the handlers share: the station and its hub, who is watching, and what was changed by the API."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from streamdet.config import CameraConfig, Config, RulesConfig
from streamdet.overlay import Overlay
from streamdet.service.contract import CameraState
from streamdet.service.operation import Refusal
from streamdet.sinks.hub import Hub, Shot

if TYPE_CHECKING:
    from streamdet.delivery import Deliveries
    from streamdet.sinks.store import EventStore

__all__ = ["Arrivals", "Desk", "Station"]


class Station(Protocol):
    """What the service needs of :class:`streamdet.station.Station`. Safe to call from any thread."""

    @property
    def config(self) -> Config: ...
    @property
    def beat_s(self) -> float: ...
    @property
    def store(self) -> EventStore | None: ...
    @property
    def deliveries(self) -> Deliveries | None: ...
    def media(self) -> dict[str, Any]: ...
    def look_at_hls(self, name: str) -> None: ...
    def cameras(self) -> Sequence[Any]: ...
    def add(self, name: str, camera: CameraConfig) -> None: ...
    def remove(self, name: str) -> None: ...
    def pause(self, name: str) -> None: ...
    def resume(self, name: str) -> None: ...
    def rules(self, name: str) -> RulesConfig: ...
    def set_rules(self, name: str, rules: RulesConfig) -> None: ...
    def describe(self) -> str: ...


class Arrivals:
    """New frames of the hub, told to coroutines of one event loop."""

    def __init__(self, hub: Hub, loop: asyncio.AbstractEventLoop) -> None:
        self._hub = hub
        self._loop = loop
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}

    def heard(self, stream: str) -> None:
        """Called on a sink's thread at every frame; costs nothing while nobody waits."""
        if self._waiting.get(stream):
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                self._loop.call_soon_threadsafe(self._wake, stream)

    async def newer(self, stream: str, after: int, timeout_s: float) -> Shot | None:
        """The newest frame once its number is above `after`; None if none came within `timeout_s`."""
        future: asyncio.Future[None] = self._loop.create_future()
        waiting = self._waiting.setdefault(stream, set())
        waiting.add(future)
        try:
            shot = self._hub.shot(stream)
            if shot is not None and shot.number > after:
                return shot
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(future, timeout_s)
        finally:
            waiting.discard(future)
        shot = self._hub.shot(stream)
        return shot if shot is not None and shot.number > after else None

    def _wake(self, stream: str) -> None:
        for future in list(self._waiting.get(stream, ())):
            if not future.done():
                future.set_result(None)


class Desk:
    """One per application. `arrivals` is there while the application runs."""

    def __init__(
        self, config: Config, station: Station, hub: Hub, *, overlay: Overlay, recordings: Path | None
    ) -> None:
        self.config = config
        self.station = station
        self.hub = hub
        self.overlay = overlay
        self.recordings = recordings
        self.arrivals: Arrivals | None = None
        self.stopping = asyncio.Event()
        self.started_s = time.monotonic()
        self.started = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        self.changing = threading.Lock()  # one change of cameras or rules at a time
        self._viewers = 0
        self._revisions: dict[str, int] = {}

    # -------------------------------------------------------------------------------------------------------- viewers

    @property
    def viewers(self) -> int:
        return self._viewers

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A viewer's place, on the event loop. Raises Refusal when all are taken."""
        if self._viewers >= self.config.serve.viewers:
            raise Refusal(503, f"{self._viewers} are watching already, which is serve.viewers; try again later")
        self._viewers += 1
        try:
            yield
        finally:
            self._viewers -= 1

    # -------------------------------------------------------------------------------------------------------- cameras

    def states(self) -> list[CameraState]:
        return [self._state(status) for status in self.station.cameras()]

    def state(self, camera: str) -> CameraState:
        """Raises Refusal for a camera that is not there."""
        for status in self.station.cameras():
            if status.name == camera:
                return self._state(status)
        raise Refusal(404, f"there is no camera '{camera}'; GET /api/cameras lists them")

    def rules_changed(self, camera: str) -> None:
        self._revisions[camera] = self.revision(camera) + 1

    def revision(self, camera: str) -> int:
        return self._revisions.get(camera, 0)

    def _state(self, status: Any) -> CameraState:
        state = msgspec.convert(status, CameraState, from_attributes=True)
        return msgspec.structs.replace(
            state,
            objects=self.hub.tally(state.name).objects if state.state == "running" else 0,
            objects_seen=state.objects,
            rules=self.revision(state.name),
            added=self.overlay.added(state.name),
        )
