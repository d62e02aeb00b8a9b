"""summary.json: what a run did, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from streamdet.sinks.linefile import prepare_folder, unwritable

__all__ = ["replace_file", "write_summary"]


def write_summary(path: str | os.PathLike[str], summary: Mapping[str, Any]) -> None:
    """Write `summary` as indented JSON; a reader sees the old file or the new one. Raises OutputError."""
    replace_file(Path(path), msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` at `path` in one step (beside it first, then renamed). Raises OutputError."""
    prepare_folder(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise unwritable(path, error) from None
