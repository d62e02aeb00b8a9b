"""Many cameras, until told to stop: the pipeline without an end, and everything that can be changed while it runs."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from streamdet.assemble import make_detector
from streamdet.budget import Budget
from streamdet.camera import Camera, CameraStatus, config_of_camera, touched
from streamdet.config import CameraConfig, Config, RulesConfig
from streamdet.errors import StreamdetError, UsageError, redact
from streamdet.media import Shelves, check_broadcast, look_at_hls
from streamdet.pipeline import Pipeline
from streamdet.protocols import Detector
from streamdet.stream import Stream

if TYPE_CHECKING:
    from streamdet.delivery import Deliveries
    from streamdet.recording.archive import Archive
    from streamdet.sinks.hub import Hub
    from streamdet.sinks.store import EventStore

__all__ = ["CameraStatus", "Station"]

log = logging.getLogger(__name__)

AGAIN_AFTER_S = 10.0  # a camera that failed by a fault in here is started again after so long
BEAT_S = 0.5
AT_START = (
    "model", "gpu", "store", "serve", "pictures", "live.turn_s", "record.dir", "record.keep", "broadcast.segments",
    "broadcast.keep",
)  # settings that are read once  # fmt: skip


class Station:
    """The cameras of `config`, side by side through one detector. All methods but ``run`` may be called from any thread.

    ``run`` brings the detector up on the calling thread, which then owns it, and returns after ``stop``. With `hub`, every
    camera's Results are put on offer there. While it runs, ``store`` is the event store, ``deliveries`` tell its events to
    others, and ``archive`` is the folder of clips and snapshots if there is one. ``ready`` is set once the detector is up;
    ``beat_s`` (monotonic) moves on while the processing thread is alive.
    """

    def __init__(self, config: Config, *, hub: Hub | None = None) -> None:
        self.config = config
        self.hub = hub
        self.store: EventStore | None = None
        self._shelves = Shelves()
        self.deliveries: Deliveries | None = None
        self.detector: Detector | None = None
        self.ready = threading.Event()
        self.beat_s = time.monotonic()
        self._cameras: dict[str, Camera] = {}
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._pipeline = Pipeline([], endless=True, budget=Budget(turn_s=config.live.turn_s), retired=self._retired)
        check_broadcast(config.broadcast, alone=len(config.cameras) <= 1)
        for name, camera in config.cameras.items():
            self._cameras[name] = Camera(name, camera, config)

    @property
    def archive(self) -> Archive | None:
        """The folder of clips and snapshots while it runs, if there is one."""
        return self._shelves.clips

    # ---------------------------------------------------------------------------------------------------------- running

    def run(self) -> None:
        """Raises StreamdetError if the detector or the store cannot be brought up."""
        from streamdet.media import open_shelves
        from streamdet.parts import open_deliveries, open_store

        keeper = threading.Thread(target=self._keep, name="station", daemon=True)
        with contextlib.ExitStack() as stack:
            self.store = open_store(self.config, stack)
            self._shelves = open_shelves(self.config, stack)
            self.deliveries = open_deliveries(self.config, self.store, self.cameras, stack)
            self.detector = stack.enter_context(make_detector(self.config))
            with self._lock:
                for camera in self._cameras.values():
                    self._start(camera)
            keeper.start()
            self.ready.set()
            try:
                for _ in self._pipeline:
                    self.beat_s = time.monotonic()
            finally:
                self._stopped.set()
                keeper.join()

    def stop(self, *, abort: bool = False) -> None:
        """Finish what is under way: tracks end, sinks are drained. With `abort`, do not wait for what is still queued."""
        self._stopped.set()
        self._pipeline.stop(abort=abort)
        if abort and self.deliveries is not None:
            self.deliveries.hurry()

    def cameras(self) -> tuple[CameraStatus, ...]:
        with self._lock:
            return tuple(camera.status() for camera in self._cameras.values())

    def rules(self, name: str) -> RulesConfig:
        """The zones and lines a camera has now. Raises UsageError for an unknown name."""
        with self._lock:
            return self._camera(name).rules

    def describe(self) -> str:
        """The detector, in words."""
        return self.config.model.name if self.detector is None else self.detector.describe()

    def media(self) -> dict[str, Any]:
        """What is recorded and sent out: ``{"clips": counts, "films": counts, "broadcast": {camera: [status, ...]}}``."""
        shelves = self._shelves
        with self._lock:
            sinks = {name: camera.broadcast for name, camera in self._cameras.items()}
        return {
            "clips": shelves.clips.counts() if shelves.clips is not None else {},
            "films": shelves.films.counts() if shelves.films is not None else {},
            "broadcast": {
                name: [one.status() for one in sink.outlets] for name, sink in sinks.items() if sink is not None
            },
        }

    def look_at_hls(self, name: str) -> None:
        """Somebody watches this camera by HLS: it is written from now on, for a while. Raises UsageError."""
        with self._lock:
            sink = self._camera(name).broadcast
        if sink is not None:
            look_at_hls(sink)

    # ------------------------------------------------------------------------------------------------ while it is running

    def add(self, name: str, camera: CameraConfig) -> None:
        """One more camera. Raises UsageError for a name that is taken, ConfigError for settings that cannot be."""
        fresh = Camera(name, camera, self.config)
        with self._lock:
            if name in self._cameras:
                raise UsageError(f"there is a camera called '{name}' already; remove it first or give another name")
            self._cameras[name] = fresh
            self._start(fresh)

    def remove(self, name: str) -> None:
        """Raises UsageError for an unknown name."""
        with self._lock:
            camera = self._camera(name)
            del self._cameras[name]
            self._end(camera)
        if self.hub is not None:
            self.hub.forget(name)

    def pause(self, name: str) -> None:
        """Let go of the camera's connection until :meth:`resume`. Its tracks end."""
        with self._lock:
            self._camera(name).pause()

    def resume(self, name: str) -> None:
        with self._lock:
            camera = self._camera(name)
            camera.resume()
            if camera.stream is None:
                self._start(camera)

    def set_rules(self, name: str, rules: RulesConfig) -> None:
        """Other zones and lines, effective from the next frame; tracks and other zones' visits go on. Raises ConfigError."""
        with self._lock:
            camera = self._camera(name)
            camera.check_rules(rules, self.detector)
            camera.rules = rules
        self._pipeline.order(camera.apply_rules)

    def reload(self, config: Config) -> list[str]:
        """Take over another configuration; only cameras whose settings differ start anew. Returns what changed, in words.

        Raises ConfigError or DependencyError, and then nothing was changed.
        """
        for name, camera in config.cameras.items():  # a mistake is told before anything is touched
            fresh = Camera(name, camera, config)
            fresh.check_rules(fresh.rules, self.detector)
        check_broadcast(config.broadcast, alone=len(config.cameras) <= 1)
        said = [] if self.deliveries is None else self.deliveries.reload(config)
        with self._lock:
            before, self.config = self.config, config
            for name in [name for name in self._cameras if name not in config.cameras]:
                self.remove(name)
                said.append(f"camera {name}: removed")
            for name, camera in config.cameras.items():
                if name not in self._cameras:
                    self.add(name, camera)
                    said.append(f"camera {name}: added")
                elif what := touched(name, before, config):
                    said.append(f"camera {name}: {what}")
                    self._renew(self._cameras[name], camera, config, what)
        said += [
            f"{setting}: takes effect at the next start"
            for setting in AT_START
            if attrgetter(setting)(before) != attrgetter(setting)(config)
        ]
        return said

    # ------------------------------------------------------------------------------------------------------------ inside

    def _camera(self, name: str) -> Camera:
        if name not in self._cameras:
            known = ", ".join(self._cameras) or "none"
            raise UsageError(f"there is no camera called '{name}'; there are: {known}")
        return self._cameras[name]

    def _renew(self, camera: Camera, settings: CameraConfig, config: Config, what: str) -> None:
        camera.settings, camera.config = settings, config
        rules = config_of_camera(settings, config).rules
        if what == "zones and lines" and camera.stream is not None:
            self.set_rules(camera.name, rules)
            return
        camera.rules = rules
        camera.paused = not settings.enabled
        self._end(camera)  # starts anew when it is gone
        camera.again_s = 0.0

    def _start(self, camera: Camera) -> None:
        """Have a camera's stream opened by the processing thread (not before the detector is up)."""
        if self.detector is None or camera.paused:
            return
        detector = self.detector

        def opener(opened: contextlib.ExitStack) -> Stream:
            with self._lock:
                if camera.stream is not None or self._cameras.get(camera.name) is not camera:
                    raise UsageError(f"camera {camera.name} is open or gone")
                try:
                    return camera.open(detector, store=self.store, hub=self.hub, shelves=self._shelves)
                except StreamdetError as error:
                    camera.failed(redact(str(error)), again_s=time.monotonic() + AGAIN_AFTER_S)
                    raise

        camera.again_s = None
        self._pipeline.add(opener)

    def _end(self, camera: Camera) -> None:
        if camera.stream is not None:
            self._pipeline.remove(camera.stream)

    def _retired(self, stream: Stream) -> None:
        """On a thread of its own: a stream has ended, by order or by a fault."""
        with self._lock:
            camera = next((camera for camera in self._cameras.values() if camera.stream is stream), None)
            if camera is None:
                return
            camera.left()
            if stream.error is not None:
                camera.failed(redact(str(stream.error)), again_s=time.monotonic() + AGAIN_AFTER_S)
                log.error("%s: stopped by %s; started again in %.0f s", camera.name, camera.reason, AGAIN_AFTER_S)

    def _keep(self) -> None:
        """Start again what failed; let go of what is kept no longer."""
        while not self._stopped.wait(BEAT_S):
            self._pipeline.order(self._beat)
            self._shelves.sweep()
            with self._lock:
                for camera in self._cameras.values():
                    if camera.stream is None and camera.again_s is not None and time.monotonic() >= camera.again_s:
                        self._start(camera)

    def _beat(self) -> None:
        self.beat_s = time.monotonic()
