"""`--events mqtt://user:password@host/prefix`: an address as the short form of a destination's settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from streamdet.errors import ConfigError, redact

__all__ = ["SCHEMES", "move_addresses"]


def move_addresses(tree: Any) -> Any:
    """`tree` with addresses in ``output.events`` moved to the settings they are short for. Raises ConfigError."""
    output = tree.get("output") if isinstance(tree, dict) else None
    if not isinstance(output, dict) or (events := output.get("events")) is None:
        return tree
    if isinstance(events, str) and "://" not in events:
        return tree
    listed = events if isinstance(events, list) else [events]
    places = [place for place in listed if "://" not in str(place)]
    if len(places) > 1:
        raise ConfigError(f"events can be written to one file only, not to {' and '.join(map(str, places))}")
    moved = {**tree, "output": {**output, "events": places[0] if places else None}}
    for address in listed:
        if "://" in str(address):
            _add(moved, str(address))
    return moved


def _add(tree: dict[str, Any], address: str) -> None:
    parts = _split(address)
    make = SCHEMES.get(parts.scheme)
    if make is None:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ConfigError(f"--events {redact(address)}: events can be sent to {known}; or give a file, or -")
    node, settings = make(address, parts)
    if node == "webhooks":
        tree[node] = [*(hook for hook in tree.get(node) or [] if hook != settings), settings]
    elif tree.get(node) not in (None, settings):
        raise ConfigError(
            f"--events {redact(address)}: there is a destination `{node}` already; leave one of them away"
        )
    else:
        tree[node] = settings


def _split(address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        known = parts.scheme in SCHEMES
        if not parts.scheme.startswith("kafka"):  # those may name several hosts
            _ = parts.port
    except ValueError:  # its text may hold a piece of the password
        hint = "check the port, and write / : @ in a password as %2F %3A %40"
        raise ConfigError(f"--events {redact(address)}: this is no address; {hint}") from None
    if known and not parts.netloc.rpartition("@")[2]:
        raise ConfigError(f"--events {redact(address)}: there is no host in it, as in {parts.scheme}://host/...")
    return parts


def _login(parts: SplitResult) -> dict[str, Any]:
    found = {"user": parts.username, "password": parts.password}
    return {name: unquote(value) for name, value in found.items() if value}


def _mqtt(address: str, parts: SplitResult) -> tuple[str, dict[str, Any]]:
    settings: dict[str, Any] = {"host": parts.hostname, "tls": parts.scheme == "mqtts", **_login(parts)}
    if parts.port:
        settings["port"] = parts.port
    if prefix := unquote(parts.path).strip("/"):
        settings["prefix"] = prefix
    return "mqtt", {**settings, **dict(parse_qsl(parts.query))}


def _kafka(address: str, parts: SplitResult) -> tuple[str, dict[str, Any]]:
    settings: dict[str, Any] = {
        "brokers": parts.netloc.rpartition("@")[2],
        "tls": parts.scheme == "kafkas",
        **_login(parts),
    }
    if topic := parts.path.strip("/"):
        settings["topic"] = topic
    return "kafka", {**settings, **dict(parse_qsl(parts.query))}


def _webhook(address: str, parts: SplitResult) -> tuple[str, dict[str, Any]]:
    return "webhooks", {"url": address}


def _postgres(address: str, parts: SplitResult) -> tuple[str, dict[str, Any]]:
    return "postgres", {"url": address}


SCHEMES: dict[str, Callable[[str, SplitResult], tuple[str, dict[str, Any]]]] = {
    "mqtt": _mqtt,
    "mqtts": _mqtt,
    "http": _webhook,
    "https": _webhook,
    "kafka": _kafka,
    "kafkas": _kafka,
    "postgresql": _postgres,
    "postgres": _postgres,
}
