"""`streamdet serve --model M` without cameras: pictures in, detections out, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from streamdet.config import Config
from streamdet.predictor import Predictor
from streamdet.service.guard import Keys
from streamdet.service.paddlex import PATH, refused, routes
from streamdet.service.server import Server, keys_of

__all__ = ["make_app", "serving"]

_CONNECTIONS = 1024


@contextlib.contextmanager
def serving(config: Config) -> Iterator[Server]:
    """Listening while entered. Nothing here can be looked at but what a caller sends, so no token is needed; one that is set is.

    Raises StartupError, ModelError and the like.
    """
    serve = msgspec.structs.replace(config.serve, viewers=_CONNECTIONS)
    with Predictor(config) as predictor, Server(make_app(predictor, config), serve) as server:
        yield server


def make_app(predictor: Predictor, config: Config) -> ASGIApp:
    """Raises ConfigError for a token that is none."""
    app = Starlette(
        routes=routes(predictor, config.pictures),
        exception_handlers={HTTPException: _http_problem, Exception: _our_fault},
    )
    app.router.redirect_slashes = False
    serve = config.serve
    if serve.token is None and serve.token_file is None:
        return app
    return _Locked(app, keys_of(serve))


class _Locked:
    """Only for those who know the token; /health is for everyone."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/health":
            scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not self._keys.fits(token.strip()):
                await refused(401, "a token is needed; send it as 'Authorization: Bearer ...'")(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = {404: f"there is nothing at {request.url.path}; POST to {PATH}", 405: f"{request.method} is not for this"}
    answer = refused(error.status_code, said.get(error.status_code, error.detail))
    answer.headers.update(error.headers or {})
    return answer


async def _our_fault(request: Request, error: Exception) -> Response:
    """Logged with its trace by uvicorn; the caller learns nothing of it."""
    return refused(500, "Internal server error")
