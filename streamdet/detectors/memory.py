"""What was found out about model files on this machine, so that it is found out once.

It lies in ``$XDG_CACHE_HOME/streamdet/backends.json`` (``~/.cache`` by default). A lost, damaged or unwritable memory costs a
second at the next start, nothing else; nor does a user without a home (a container's, often).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

from streamdet.detectors.runtimes import cache_dir

__all__ = ["fingerprint", "remember", "remembered"]

_LOG = logging.getLogger(__name__)


def fingerprint(path: Path) -> str:
    """16 hex digits of what is in the file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:16]


def remembered(key: str) -> dict[str, Any]:
    """The record under `key`; empty if there is none."""
    known: dict[str, Any] = _all().get(key, {})
    return known


def _all() -> dict[str, Any]:
    try:
        tree = json.loads((cache_dir() / "backends.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in tree.items() if isinstance(v, dict)} if isinstance(tree, dict) else {}


def remember(key: str, record: dict[str, Any]) -> None:
    try:
        folder = cache_dir()
        folder.mkdir(parents=True, exist_ok=True)
        handle = tempfile.NamedTemporaryFile("w", dir=folder, suffix=".tmp", delete=False, encoding="utf-8")  # noqa: SIM115
        try:
            with handle:
                json.dump(_all() | {key: record}, handle)
            os.replace(handle.name, folder / "backends.json")  # whole or not at all
        except OSError:
            os.unlink(handle.name)
            raise
    except OSError as error:
        _LOG.debug("cannot remember what was found: %s", error)
