"""A file from the web: http and https, a limit on its bytes and on the time in all, redirects looked at one by one.

Where strangers choose the address (`private` False) it must lead to the public internet: every address its name resolves to is
looked at, the connection goes to the very address that passed (no second look-up a name server could answer otherwise), and
every redirect is looked at anew. Refused are private, loopback, link-local (cloud metadata), shared, multicast and reserved
addresses, and the IPv6 forms that carry such an IPv4 address.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from streamdet.errors import SourceOpenError, redact

__all__ = ["ForbiddenAddress", "TooLarge", "fetch", "is_public", "is_web_address", "name_at"]

_MOST_REDIRECTS = 5
_CHUNK = 1 << 16
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_SAFE = "/:@!$&'()*+,;=~-._%"


class ForbiddenAddress(SourceOpenError):
    """The address, or what it redirects to, is not on the public internet."""


class TooLarge(SourceOpenError):
    """More bytes than allowed."""


def is_web_address(text: str) -> bool:
    return text[:8].lower().startswith(("http://", "https://"))


def name_at(url: str) -> str:
    """The file name in an address, safe to be used as one: ``a.png`` of ``https://host/x/a.png?size=1``."""
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    return re.sub(r"[^\w.-]+", "-", name).strip(".-")[:100] or "picture"


def fetch(url: str, *, max_bytes: int, timeout_s: float, private: bool) -> bytes:
    """What lies at `url`. `timeout_s`: for all of it. `private`: may be an address of the local network or this machine.

    Raises SourceOpenError (ForbiddenAddress, TooLarge) in one sentence without secrets.
    """
    deadline_s = time.monotonic() + timeout_s
    for _ in range(_MOST_REDIRECTS + 1):
        parts = _parsed(url)
        try:
            with _answered(parts, private=private, deadline_s=deadline_s) as answer:
                if answer.status in _REDIRECTS:
                    url = urljoin(url, answer.headers.get("Location", ""))
                    continue
                if answer.status != 200:
                    raise SourceOpenError(
                        f"cannot fetch {redact(url)}: the server says {answer.status} {answer.reason}"
                    )
                return _body(answer, url, max_bytes)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if time.monotonic() >= deadline_s:
                raise SourceOpenError(f"cannot fetch {redact(url)}: it took more than {timeout_s:g} s") from None
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise SourceOpenError(f"cannot fetch {redact(url)}: {redact(why)}; check the address") from None
    raise SourceOpenError(f"cannot fetch {redact(url)}: more than {_MOST_REDIRECTS} redirects")


def is_public(address: str) -> bool:
    """Whether an IP address, or one that it carries inside, may be reached on a stranger's behalf."""
    try:
        ip: _Address = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return all(one.is_global and not (one.is_multicast or one.is_reserved) for one in (ip, *_carried(ip)))


def _carried(ip: _Address) -> Iterator[_Address]:
    """IPv4 addresses inside an IPv6 one: mapped, compatible, 6to4, Teredo, NAT64 (RFC 6052, RFC 8215)."""
    if isinstance(ip, ipaddress.IPv4Address):
        return
    number = int(ip)
    if ip.ipv4_mapped is not None:
        yield ip.ipv4_mapped
    if ip.sixtofour is not None:
        yield ip.sixtofour
    if ip.teredo is not None:
        yield from ip.teredo
    if number >> 32 == 0x64FF9B << 64 or number >> 80 == 0x64FF9B0001 or (number >> 32 == 0 and number > 1):
        yield ipaddress.IPv4Address(number & 0xFFFFFFFF)


def _parsed(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SourceOpenError(f"{redact(url)[:200]} is no web address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise SourceOpenError(f"{redact(url)[:200]} is no web address; give http://HOST/... or https://HOST/...")
    return parts


def _resolved(host: str, port: int, *, private: bool, deadline_s: float) -> str:
    """One address of `host`, looked at. Raises ForbiddenAddress, OSError."""
    answer: Future[list[str]] = Future()

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answer.set_result([str(entry[4][0]) for entry in found])
        except (OSError, UnicodeError) as error:
            answer.set_exception(OSError(f"the name {host} is not known ({error})"))

    threading.Thread(target=look_up, name="look-up", daemon=True).start()  # a name server may take its time
    addresses = answer.result(max(0.1, deadline_s - time.monotonic()))
    if not private and not all(is_public(address) for address in addresses):
        raise ForbiddenAddress(f"{host} is not on the public internet; such addresses are not fetched here")
    return addresses[0]


@contextlib.contextmanager
def _answered(parts: SplitResult, *, private: bool, deadline_s: float) -> Iterator[http.client.HTTPResponse]:
    """The server's answer, its body still to be read. Cut off at the deadline, however slowly it drips."""
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    address = _resolved(host, port, private=private, deadline_s=deadline_s)
    left_s = max(0.1, deadline_s - time.monotonic())
    raw = socket.create_connection((address, port), timeout=left_s)
    over = threading.Timer(left_s, _cut, (raw,))
    over.daemon = True
    over.start()
    stream: socket.socket = raw
    try:
        if secure:
            stream = ssl.create_default_context().wrap_socket(raw, server_hostname=host)
        connection = http.client.HTTPConnection(host, port, timeout=left_s)
        connection.sock = stream
        path = quote(parts.path or "/", safe=_SAFE) + (
            f"?{quote(parts.query, safe=_SAFE + '?')}" if parts.query else ""
        )
        connection.request("GET", path, headers=_headers(parts))
        answer = connection.getresponse()
        with contextlib.closing(answer):
            yield answer
    finally:
        over.cancel()
        stream.close()
        raw.close()


def _cut(stream: socket.socket) -> None:
    with contextlib.suppress(OSError):
        stream.shutdown(socket.SHUT_RDWR)


def _headers(parts: SplitResult) -> dict[str, str]:
    headers = {"User-Agent": "streamdet", "Accept": "image/*, application/pdf", "Accept-Encoding": "identity"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    return headers


def _body(answer: http.client.HTTPResponse, url: str, max_bytes: int) -> bytes:
    too_large = f"{redact(url)} is larger than {max_bytes} bytes"
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise SourceOpenError(f"cannot fetch {redact(url)}: the server packs its answer though asked not to")
    if answer.length is not None and answer.length > max_bytes:
        raise TooLarge(too_large)
    parts, total = [], 0
    while piece := answer.read(_CHUNK):
        total += len(piece)
        if total > max_bytes:
            raise TooLarge(too_large)
        parts.append(piece)
    if answer.length:
        raise SourceOpenError(f"cannot fetch {redact(url)}: the server broke off after {total} bytes")
    return b"".join(parts)
