"""``streamdet serve``: the cameras of a configuration file, until it is told to stop."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamdet.errors import EXIT_DONE, EXIT_INTERRUPTED, DependencyError, StreamdetError, UsageError, redact
from streamdet.options import Help

if TYPE_CHECKING:
    from streamdet.config import Config
    from streamdet.sinks.hub import Hub
    from streamdet.station import Station

__all__ = ["add"]

log = logging.getLogger(__name__)

PRINTED = {"unit": "a systemd unit", "containerfile": "a file to build a container from"}
POLL_S = 0.25
STUCK_S = 30.0  # the processing thread gave no sign for so long: systemd may start us again


def add(commands: Any) -> None:
    text = "many cameras, until told to stop: events, HTTP API, live page"
    sub = commands.add_parser("serve", help=text, description=text, formatter_class=Help)
    sub.add_argument("config", nargs="?", metavar="CONFIG.yaml", help="the configuration, with its `cameras:`")
    sub.add_argument("--host", metavar="ADDRESS", help="listen there (default 127.0.0.1; elsewhere a token is needed)")
    sub.add_argument("--port", type=int, metavar="N", help="port of the page and the API (default 8080)")
    sub.add_argument("--model", metavar="NAME|PATH", help="another model; without CONFIG.yaml: pictures over HTTP")
    sub.add_argument(
        "--urls",
        action="store_true",
        default=None,
        help="without CONFIG.yaml: requests may name pictures by http(s) address, on the public internet only",
    )
    for name, what in PRINTED.items():
        sub.add_argument(f"--print-{name}", action="store_true", help=f"print {what}, and stop")
    sub.add_argument("-v", "--verbose", action="count", default=0, help="say more (-vv: everything)")
    sub.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    for name, file in (("unit", "streamdet.service"), ("containerfile", "Containerfile")):
        if getattr(arguments, f"print_{name}"):
            sys.stdout.write((Path(__file__).parent.parent / "service" / "deploy" / file).read_text(encoding="utf-8"))
            return EXIT_DONE
    if arguments.config is None:
        return _serve_pictures(arguments)
    from streamdet.station import Station

    settings = Settings(arguments)
    config = settings.read()
    hub = open_hub(config)
    station = Station(config, hub=hub)
    with Watch(station, settings) as watch, front(station, config, hub, settings):
        station.run()
    return EXIT_INTERRUPTED if watch.interrupted else EXIT_DONE


class Settings:
    """The configuration file under what the command line and the page say; read again on SIGHUP."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from streamdet.config import load
        from streamdet.overlay import Overlay, overlay_path

        self.path: str = arguments.config
        named = {"host": "serve.host", "port": "serve.port", "model": "model.name"}
        self._values = {
            leaf: getattr(arguments, name) for name, leaf in named.items() if getattr(arguments, name) is not None
        }
        self.overlay = Overlay(overlay_path(load(self.path), self.path))

    def read(self) -> Config:
        """Raises ConfigError."""
        from streamdet.config import load, with_values

        config = load(self.path)
        return self.overlay.apply(with_values(config, self._values) if self._values else config)


def open_hub(config: Config) -> Hub | None:
    """Where viewers find the newest pictures; None: there is nobody to look."""
    if not config.serve.enabled:
        return None
    from streamdet.sinks.hub import Hub

    return Hub(quality=config.serve.jpeg_quality)


@contextlib.contextmanager
def front(station: Station, config: Config, hub: Hub | None, settings: Settings) -> Iterator[None]:
    """Page and API beside the station, on threads of their own."""
    if hub is None:
        yield
        return
    try:
        from streamdet.service.front import front as open_front
    except ImportError as error:
        raise DependencyError(
            f"the page and the API need {error.name}; install them with pip install 'streamdet[serve]', "
            "or do without: serve.enabled: false"
        ) from None
    recordings = Path(os.path.expanduser(config.record.dir)) if config.record.dir else None
    with open_front(station, hub, config, overlay=settings.overlay, recordings=recordings) as server:
        print(f"streamdet: the page is at {server.url}", file=sys.stderr, flush=True)
        yield


def _serve_pictures(arguments: argparse.Namespace) -> int:
    """Without cameras: pictures in, detections out, over HTTP, as PaddleX's small object detection service."""
    from streamdet.config import Config, with_values

    if arguments.model is None:
        raise UsageError(
            "neither CONFIG.yaml nor --model given; the first names cameras, for example `cameras: {court: {source: "
            "rtsp://...}}`, the second serves pictures over HTTP"
        )
    named = {
        "serve.host": arguments.host,
        "serve.port": arguments.port,
        "model.name": arguments.model,
        "pictures.urls": arguments.urls,
    }
    config = with_values(Config(), {leaf: value for leaf, value in named.items() if value is not None})
    try:
        from streamdet.service.pictures import serving
    except ImportError as error:
        raise DependencyError(
            f"serving pictures needs {error.name}; install it with pip install 'streamdet[serve]'"
        ) from None
    _few_arenas()
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before any thread is there: all inherit it
    try:
        with serving(config) as server:
            print(f"streamdet: pictures at {server.url}/small-object-detection", file=sys.stderr, flush=True)
            number = signal.sigwait(ends)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ends)
    return EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_DONE


def _few_arenas() -> None:
    """glibc gives every thread a heap of its own, and those of threads that once held a picture stay as large as it was."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(-8, 2)  # M_ARENA_MAX


class Watch:
    """Takes the process's signals, on a thread of its own: a handler on the main thread could find it holding a lock.

    SIGTERM and SIGINT drain, a second one does not wait; SIGHUP reads the configuration again. systemd is told how we do.
    """

    def __init__(self, station: Station, settings: Settings) -> None:
        self.interrupted = False
        self._station, self._settings = station, settings
        self._signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
        self._heard, self._wake = socket.socketpair()
        self._before: dict[int, Any] = {}
        self._fd_before = -1
        self._asked = 0
        self._done = threading.Event()
        self._told_ready = False
        self._told_s = 0.0
        self._thread = threading.Thread(target=self._run, name="signals", daemon=True)

    def __enter__(self) -> Watch:
        """On the main thread, as Python wants it."""
        self._wake.setblocking(False)
        self._before = {number: signal.signal(number, lambda *_: None) for number in self._signals}
        self._fd_before = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._fd_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._done.set()
        self._thread.join()
        self._heard.close()
        self._wake.close()

    def _run(self) -> None:
        while not self._done.is_set():
            if select.select([self._heard], [], [], POLL_S)[0]:
                for number in self._heard.recv(64):  # Python writes the number of each signal there
                    self._heed(number)
            self._tell_systemd()

    def _heed(self, number: int) -> None:
        """Whatever goes wrong in here, the next signal is heard: nobody else listens for it."""
        try:
            if number == signal.SIGHUP:
                self._reload()
            elif number in self._signals:
                self._stop(number)
        except Exception:
            log.error("%s: %s", signal.Signals(number).name, redact(traceback.format_exc()))

    def _stop(self, number: int) -> None:
        from streamdet.notify import notify

        self._asked += 1
        self.interrupted = number == signal.SIGINT
        notify("STOPPING=1")
        log.warning("stopping; once more to stop at once" if self._asked == 1 else "stopping at once")
        self._station.stop(abort=self._asked > 1)

    def _reload(self) -> None:
        from streamdet.notify import notify

        path = self._settings.path
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            said = self._station.reload(self._settings.read())
            log.warning("%s read again: %s", path, "; ".join(said) or "nothing changed")
        except StreamdetError as error:
            log.error("%s read again, and nothing taken over: %s", path, redact(str(error)))
        finally:
            notify("READY=1")

    def _tell_systemd(self) -> None:
        from streamdet.notify import notify, watchdog_s

        station = self._station
        if station.ready.is_set() and not self._told_ready:
            self._told_ready = True
            count = len(station.cameras())
            log.warning("running %d camera%s", count, "" if count == 1 else "s")
            notify("READY=1", f"STATUS={len(station.cameras())} cameras")
        wanted_s = watchdog_s()
        now_s = time.monotonic()
        if wanted_s and now_s - self._told_s > wanted_s / 3 and now_s - station.beat_s < STUCK_S:
            self._told_s = now_s
            notify("WATCHDOG=1")
