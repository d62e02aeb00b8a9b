"""Values that must never be shown: passwords, tokens, and addresses that hold them."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["Hidden", "HiddenAddress", "read", "shown", "written"]

STARS = "***"
_SECRET_KEYS = ("password", "token", "secret", "key.pem")  # ends of keys whose text is plain, kafka.options among them


class Hidden:
    """Text that ``str``, ``repr``, logs and printed configurations show as ``***``; ``reveal()`` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __str__(self) -> str:
        return STARS

    def __repr__(self) -> str:
        return f"{type(self).__name__}('{self}')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hidden) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


class HiddenAddress(Hidden):
    """An address of which only scheme and host are shown: its path may be as secret as a password (chat webhooks)."""

    __slots__ = ()

    def __str__(self) -> str:
        found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*://)([^/?#]*)(.*)", self._text, re.S)
        if found is None:
            return STARS
        scheme, host, rest = found.groups()
        if "@" in rest:  # a password that holds a slash, perhaps: then the host is not where it seems to be
            return f"{scheme}{STARS}"
        return f"{scheme}{host.rpartition('@')[2]}{'/' + STARS if len(rest) > 1 else rest}"


def read(kind: type, value: Any) -> Any:
    """msgspec's hook for reading: text becomes Hidden. Raises ValueError for stars copied from a printed configuration."""
    if not (isinstance(kind, type) and issubclass(kind, Hidden)):
        raise NotImplementedError(kind)
    if not isinstance(value, str):
        raise ValueError("Expected `str`")
    if STARS in value:
        raise ValueError(f"'{STARS}' stands for a value that was hidden when this was printed; give the value itself")
    return kind(value)


def written(value: Any) -> Any:
    """msgspec's hook for writing the tree for ourselves: the text itself."""
    if isinstance(value, Hidden):
        return value.reveal()
    raise NotImplementedError(value)


def shown(tree: Any, redact: Any, key: str = "") -> Any:
    """A tree as it may be printed (Hidden values are text already): stars under a secret's name, addresses redacted."""
    if isinstance(tree, dict):
        return {name: shown(value, redact, str(name)) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [shown(value, redact, key) for value in tree]
    if isinstance(tree, str):
        return STARS if key.endswith(_SECRET_KEYS) and not tree.startswith("${") else redact(tree)
    return tree
