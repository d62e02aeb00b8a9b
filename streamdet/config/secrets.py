"""Secrets by reference: ``${NAME}`` is an environment variable, ``${file:/path}`` the content of a file."""

from __future__ import annotations

import os
import re
from pathlib import Path

from streamdet.errors import ConfigError

__all__ = ["reveal"]

_REFERENCE = re.compile(r"\$\{(?:([A-Za-z_][A-Za-z0-9_]*)|file:([^}]+))\}")


def reveal(text: str, origin: str) -> str:
    """`text` with its references replaced. Raises ConfigError naming `origin` for one that leads nowhere."""

    def value_of(match: re.Match[str]) -> str:
        name, file = match.groups()
        if file is not None:
            try:
                return Path(os.path.expanduser(file)).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                why = getattr(error, "strerror", None) or "it is no text"
                raise ConfigError(f"{origin}: cannot read {file}: {why}; check the file and its permissions") from None
        if name not in os.environ:
            raise ConfigError(f"{origin}: environment variable {name} is used but not set")
        return os.environ[name]

    return _REFERENCE.sub(value_of, text)
