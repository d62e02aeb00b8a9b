"""Every route, bound to one Desk, inside the guard."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from streamdet.service import cameras, events, live, media, rules, system
from streamdet.service.desk import Arrivals, Desk
from streamdet.service.guard import COOKIE, Guard, Keys
from streamdet.service.openapi import document
from streamdet.service.operation import Operation, endpoint_of, problem

__all__ = ["OPERATIONS", "make_app"]

STATIC = Path(__file__).parent / "static"
OPERATIONS: tuple[Operation, ...] = (
    *system.OPERATIONS,
    *cameras.OPERATIONS,
    *live.OPERATIONS,
    *rules.OPERATIONS,
    *events.OPERATIONS,
    *media.OPERATIONS,
)
_WORKERS = 32  # calls at once that wait for a disk, a name server or a picture
_LOGIN_S = 10.0  # for a token to arrive
_TRIES, _TRIES_S = 10, 60.0  # wrong tokens in so many seconds, from anywhere: then nobody may try


def make_app(
    desk: Desk, *, keys: Keys, extra: Sequence[BaseRoute] = (), bodies: Mapping[str, int] | None = None
) -> Starlette:
    """The application; `extra`: more routes under the same guard, `bodies`: paths that take larger bodies than the others."""
    openapi = msgspec.json.encode(document(OPERATIONS, token=keys.needed))

    async def openapi_json(request: Request) -> Response:
        return Response(openapi, media_type="application/json")

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(_WORKERS, "service-work"))  # asyncio's own has six on two cores
        arrivals = Arrivals(desk.hub, loop)
        with desk.hub.listen(arrivals.heard):
            desk.arrivals = arrivals
            yield

    serve = desk.config.serve
    app = Starlette(
        routes=[
            Route("/", _file("index.html")),
            Route("/favicon.ico", _file("icon.svg")),
            Route("/login", _login(keys), methods=["GET", "POST"]),
            Route("/logout", _logout, methods=["POST"]),
            Route("/api/openapi.json", openapi_json),
            *_routes(OPERATIONS),
            WebSocketRoute("/api/live", events.news),
            WebSocketRoute("/cameras/{camera}/live", live.watch),
            Mount("/static", StaticFiles(directory=STATIC)),
            *extra,
        ],
        middleware=[
            Middleware(Guard, keys=keys, hosts=[serve.host, *serve.hosts], body_bytes=serve.body_bytes, bodies=bodies),
        ],
        exception_handlers={HTTPException: _http_problem, Exception: _our_fault},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.desk = desk
    return app


def _routes(operations: Sequence[Operation]) -> list[BaseRoute]:
    """One route per path, whatever its methods, so that 405 can name them all."""
    by_path: dict[str, dict[str, Callable[[Request], Awaitable[Response]]]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = endpoint_of(operation)

    def dispatch(path: str, endpoints: dict[str, Callable[[Request], Awaitable[Response]]]) -> Route:
        async def endpoint(request: Request) -> Response:
            return await endpoints["GET" if request.method == "HEAD" else request.method](request)

        return Route(path.replace("{file}", "{file:path}"), endpoint, methods=list(endpoints))

    return [dispatch(path, endpoints) for path, endpoints in by_path.items()]


def _file(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return FileResponse(STATIC / name, headers={"cache-control": "no-cache"})

    return endpoint


# ---------------------------------------------------------------------------------------------------------------- login


def _login(keys: Keys) -> Callable[[Request], Awaitable[Response]]:
    failures: deque[float] = deque(maxlen=_TRIES)

    async def login(request: Request) -> Response:
        """The page's way in: the token once, a cookie from then on."""
        if request.method != "POST":
            return RedirectResponse("/", 303) if not keys.needed else FileResponse(STATIC / "login.html")
        if len(failures) == _TRIES and time.monotonic() - failures[0] < _TRIES_S:
            return RedirectResponse("/login?wait", 303)
        try:
            body = await asyncio.wait_for(request.body(), _LOGIN_S)
        except TimeoutError:  # dripping in byte by byte, it would hold its place for ever
            return RedirectResponse("/login?wait", 303, headers={"connection": "close"})
        token = parse_qs(body.decode("utf-8", "replace"), max_num_fields=4).get("token", [""])[0] if body else ""
        if not keys.fits(token):
            failures.append(time.monotonic())
            await asyncio.sleep(0.3)
            return RedirectResponse("/login?wrong", 303)
        answer = RedirectResponse("/", 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(
            COOKIE, keys.cookie(), max_age=30 * 24 * 3600, httponly=True, samesite="strict", secure=secure
        )
        return answer

    return login


async def _logout(request: Request) -> Response:
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE)
    return answer


# --------------------------------------------------------------------------------------------------------------- errors


async def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = error.detail
    if error.status_code == 404:
        said = f"there is nothing at {request.url.path}; /api/openapi.json lists what is"
    if error.status_code == 405:
        said = f"{request.method} is not for {request.url.path}"
    return problem(error.status_code, said, error.headers)


async def _our_fault(request: Request, error: Exception) -> Response:
    """Logged with its trace by uvicorn; the caller learns nothing of it."""
    return problem(500, "the service failed; its log says how")
