"""Who may ask what. Plain ASGI round the application, so that nothing inside it has to remember.

- Without a token: only requests that name this machine (``127.0.0.1``, ``localhost``; no DNS rebinding). With one:
  ``Authorization: Bearer``, or the cookie that ``/login`` gives. No page of another origin may make a browser ask for anything.
- Changes need the token in the header, or come from this very origin (no cross-site request forgery).
- A request body past the limit is refused, whether or not it says its length. Every answer carries the security headers.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from http.cookies import SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamdet.service.operation import problem

__all__ = ["COOKIE", "Guard", "Keys", "is_local"]

COOKIE = "streamdet"
_SESSION_S = 30 * 24 * 3600
_OPEN = ("/healthz", "/login", "/static/")
_SAFE = ("GET", "HEAD", "OPTIONS")
_LOCAL = ("localhost", "127.0.0.1", "::1")

SECURITY = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; manifest-src 'self'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


def is_local(host: str) -> bool:
    """Whether listening on `host` reaches this machine only."""
    return host in _LOCAL or host.startswith("127.")


class Keys:
    """The token and the cookies made from it. A cookie outlives a restart and dies with its token."""

    def __init__(self, token: str | None) -> None:
        self.needed = token is not None
        self._token = (token or "").encode()
        self._key = hashlib.sha256(b"streamdet cookie\0" + self._token).digest()

    def fits(self, token: str) -> bool:
        return self.needed and hmac.compare_digest(token.encode("utf-8", "replace"), self._token)

    def cookie(self) -> str:
        until = str(int(time.time()) + _SESSION_S)
        return f"{until}.{self._sign(until)}"

    def cookie_fits(self, cookie: str) -> bool:
        until, _, signature = cookie.partition(".")
        return (
            self.needed
            and until.isascii()
            and until.isdecimal()
            and len(until) < 15
            and int(until) > time.time()
            and hmac.compare_digest(signature.encode("utf-8", "replace"), self._sign(until).encode())
        )

    def _sign(self, until: str) -> str:
        return hmac.new(self._key, until.encode(), hashlib.sha256).hexdigest()


class Guard:
    """`hosts`: the names this server is known by, checked where no token protects it. `bodies`: limits of single paths."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys,
        hosts: Sequence[str],
        body_bytes: int,
        bodies: Mapping[str, int] | None = None,
    ) -> None:
        self._app = app
        self._keys = keys
        self._hosts = {host.lower() for host in (*hosts, *_LOCAL)}
        self._body_bytes = body_bytes
        self._bodies = bodies or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refused = self._refused(scope, headers)
        if scope["type"] == "websocket":
            if refused is not None:
                await send({"type": "websocket.close", "code": 1008})  # before it is accepted: HTTP 403
                return
            await self._app(scope, receive, send)
            return

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = MutableHeaders(scope=message)
                for name, value in SECURITY.items():
                    given.setdefault(name, value)
                given.setdefault("cache-control", "no-cache" if scope["path"].startswith("/static/") else "no-store")
            await send(message)

        if refused is not None:
            await refused(scope, receive, send_secured)
            return
        await self._limited(scope, receive, send_secured, headers)

    # ---------------------------------------------------------------------------------------------------------- may it

    def _refused(self, scope: Scope, headers: Headers) -> Response | None:
        known = self._known(headers)
        scope.setdefault("state", {})["known"] = known or not self._keys.needed
        host = _host_of(headers.get("host", ""))
        if not self._keys.needed and host not in self._hosts:
            return problem(403, f"this server is not known as '{host}'; add the name to serve.hosts")
        if self._foreign(scope, headers) and not self._bearer(headers):
            return problem(
                403, "another site may not ask this server; open the page itself, or send the token as bearer"
            )
        path = scope["path"]
        if self._keys.needed and not known and not path.startswith(_OPEN):
            if path == "/" and scope["type"] == "http":
                return RedirectResponse("/login", 303)
            return problem(
                401, "a token is needed; send it as 'Authorization: Bearer ...'", {"www-authenticate": "Bearer"}
            )
        return None

    def _known(self, headers: Headers) -> bool:
        if self._bearer(headers):
            return True
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except Exception:  # a cookie nobody can read
            return False
        return morsel is not None and self._keys.cookie_fits(morsel.value)

    def _bearer(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self._keys.fits(token.strip())

    def _foreign(self, scope: Scope, headers: Headers) -> bool:
        """Whether a browser asks on behalf of another site. Following a link to a page is no asking on its behalf."""
        changes = scope["type"] == "websocket" or scope["method"] not in _SAFE
        origin = headers.get("origin")
        if origin is not None and (changes or origin != "null"):
            return urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
        site = headers.get("sec-fetch-site", "none")
        return site not in ("none", "same-origin") and (changes or headers.get("sec-fetch-mode") != "navigate")

    # ---------------------------------------------------------------------------------------------------------- limits

    async def _limited(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        most = self._bodies.get(scope["path"], self._body_bytes)
        too_much = f"the body is larger than {most} bytes, which is {self._limit_name(scope['path'])}"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > most:
            await problem(413, too_much)(scope, receive, send)
            return
        taken = 0

        async def receive_limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                raise HTTPException(413, too_much)  # becomes an answer where the body is read
            return message

        await self._app(scope, receive_limited, send)

    def _limit_name(self, path: str) -> str:
        return "pictures.body_bytes" if path in self._bodies else "serve.body_bytes"


def _host_of(value: str) -> str:
    """The name in a Host header, without the port."""
    if value.startswith("["):
        return value[1:].partition("]")[0].lower()
    return value.partition(":")[0].lower()
