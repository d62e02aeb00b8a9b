"""Which cameras the API may add: a caller must not make this server knock on doors that only it can reach.

Allowed are ``demo`` and rtsp, rtsps, rtmp, rtmps, http and https addresses; never files, devices or other schemes, and no
``${NAME}`` is ever filled in. With ``serve.camera_hosts`` only the hosts named there; without it every host but this machine
itself, link-local (cloud metadata), multicast and reserved addresses, and http(s) only into private networks. Names are looked up
when the camera is added; a name server that answers differently later is not defended against: list the hosts where that matters.
The configuration file may name anything: who writes it owns the machine.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from streamdet.errors import UsageError, redact

__all__ = ["check_source"]

_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def check_source(source: str, hosts: Sequence[str]) -> str:
    """`source` if the API may open it (`hosts`: ``serve.camera_hosts``). Raises UsageError."""
    if source == "demo":
        return source
    scheme, host = _scheme_and_host(source)
    if hosts:
        if not _listed(host, hosts):
            raise UsageError(
                f"camera host '{host}' is not in serve.camera_hosts; add it there, in the configuration file"
            )
        return source
    for address in _looked_up(host):
        private = address.is_private and not address.is_loopback
        unfit = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
        if unfit or (address.is_reserved and not private):
            raise UsageError(
                f"camera host '{host}' is {address}, which the API may not open; name it in serve.camera_hosts if it is meant"
            )
        if scheme in ("http", "https") and not private:
            raise UsageError(
                f"camera host '{host}' is not in a private network; name it in serve.camera_hosts to open http(s) there"
            )
    return source


def _scheme_and_host(source: str) -> tuple[str, str]:
    shown = redact(source)
    if any(ord(letter) <= 32 or ord(letter) == 127 for letter in source) or "${" in source or "\\" in source:
        raise UsageError(
            f"camera source '{shown}': an address has no spaces, control characters, backslashes or ${{...}}"
        )
    try:
        parts = urlsplit(source)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise UsageError(
            f"camera source '{shown}' is not a valid address; for example rtsp://192.168.1.20/stream"
        ) from None
    if parts.scheme not in _SCHEMES or not host:
        raise UsageError(
            f"camera source '{shown}': the API adds {', '.join(_SCHEMES)} addresses and demo; "
            "files and devices belong into the configuration file"
        )
    return parts.scheme, host


def _listed(host: str, hosts: Sequence[str]) -> bool:
    try:
        address: _Address | None = ipaddress.ip_address(host)
    except ValueError:
        address = None
    for pattern in hosts:
        if fnmatch.fnmatchcase(host.lower(), pattern.lower()):
            return True
        try:
            if address is not None and address in ipaddress.ip_network(pattern, strict=False):
                return True
        except ValueError:
            continue
    return False


def _looked_up(host: str) -> list[_Address]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise UsageError(f"camera host '{host}' cannot be found; check the name or give its IP address") from None
    addresses = [ipaddress.ip_address(str(entry[4][0]).split("%")[0]) for entry in found]
    return [getattr(address, "ipv4_mapped", None) or address for address in addresses]
