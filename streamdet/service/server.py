"""uvicorn on a thread of its own: the station keeps the main one."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from streamdet.config import ServeConfig
from streamdet.errors import ConfigError, StartupError
from streamdet.service.guard import Keys, is_local

__all__ = ["Server", "keys_of"]

HEAD_S = 20.0  # for a request to say what it wants
_UP_S = 20.0
_DOWN_S = 4  # for viewers to be told and answers to be finished
_SHORTEST_TOKEN = 12


def keys_of(serve: ServeConfig) -> Keys:
    """The token callers must know, if any. Raises ConfigError where one is needed and missing."""
    token = serve.token
    if serve.token_file:
        try:
            token = Path(os.path.expanduser(serve.token_file)).read_text(encoding="utf-8").split("\n", 1)[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not text"
            raise ConfigError(f"serve.token_file {serve.token_file} cannot be read: {why}") from None
    if token is None and not is_local(serve.host):
        raise ConfigError(
            f"serve.host {serve.host} can be reached from other machines; set serve.token_file (or serve.token: ${{NAME}})"
        )
    if token is not None and len(token) < _SHORTEST_TOKEN:
        raise ConfigError(
            f"the token has {len(token)} characters; give at least {_SHORTEST_TOKEN} that cannot be guessed"
        )
    return Keys(token)


class _Impatient(H11Protocol):
    """uvicorn waits for ever for a request's head: connections that say nothing would take all places there are."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._late = self.loop.call_later(HEAD_S, transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        begun = (
            repr(self.conn.their_state) == "IDLE"
        )  # a head that is not complete yet; a WebSocket is none of ours any more
        if not begun and self._late is not None:
            self._late.cancel()
            self._late = None
        elif begun and self._late is None and self in self.connections:
            self._late = self.loop.call_later(HEAD_S, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._late is not None:
            self._late.cancel()


class Server:
    """Listens once entered, and is gone once left: viewers are told, answers under way are finished.

    Raises:
        StartupError: the port is taken, or the host is none of this machine's.
    """

    def __init__(self, app: ASGIApp, serve: ServeConfig) -> None:
        self._serve = serve
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="on",
            ws="websockets-sansio",
            ws_max_size=65_536,
            ws_ping_interval=20.0,
            ws_ping_timeout=20.0,
            http=_Impatient,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=_DOWN_S,
            limit_concurrency=serve.viewers + 100,
            h11_max_incomplete_event_size=65_536,
            server_header=False,
        )
        self._server = uvicorn.Server(config)

    def __enter__(self) -> Self:
        self._socket = self._listen()
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="service", daemon=True
        )
        self._thread.start()
        until_s = time.monotonic() + _UP_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > until_s:
                self._close()
                raise StartupError("the service did not start; the log says why")
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._close()

    @property
    def port(self) -> int:
        assert self._socket is not None
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the page."""
        host = self._serve.host
        shown = (
            "127.0.0.1"
            if host in ("0.0.0.0", "")
            else "[::1]"
            if host == "::"
            else f"[{host}]"
            if ":" in host
            else host
        )
        return f"http://{shown}:{self.port}"

    def _listen(self) -> socket.socket:
        host, port = self._serve.host, self._serve.port
        try:
            family, kind, proto, _, address = socket.getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listening = socket.socket(family, kind, proto)
        except OSError as error:
            raise StartupError(
                f"serve.host {host}: {error.strerror or error}; give an address of this machine"
            ) from None
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(128)
        except OSError as error:
            listening.close()
            raise StartupError(
                f"cannot listen on {host}:{port}: {error.strerror or error}; give another serve.port (--port)"
            ) from None
        return listening

    def _close(self) -> None:
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout=_DOWN_S + 5)
        if self._socket is not None:
            self._socket.close()
