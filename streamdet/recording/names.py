"""What files are called, and the way back from an event's address to its file.

::

    FOLDER/2026-11-25/court/133134.250-ball-17.mp4          the clip        event.clip = "media/2026-11-25/court/....mp4#t=5.04"
    FOLDER/2026-11-25/court/133134.250-ball-17.jpg          the snapshot    event.snapshot = "media/2026-11-25/court/....jpg"
    FOLDER/2026-11-25/court/133134.250-ball-17.frame.jpg    the whole picture of that moment, annotated

Days and times are UTC. A name holds only what every file system takes; ``#t=`` is where in the film the event begins (W3C media
fragments: browsers start playing there).
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Literal

__all__ = ["PREFIX", "address_of", "media_file", "media_type", "safe_name"]

PREFIX = "media/"
_SUFFIXES = {".mp4": "video/mp4", ".mkv": "video/x-matroska", ".jpg": "image/jpeg"}
_LONGEST = 60
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def safe_name(text: str) -> str:
    """`text` as a name for every file system: letters, digits, dash, underscore; two texts never give one name.

    What had to be changed gets a few digits of a checksum behind it.
    """
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_")[:_LONGEST] or "x"
    if plain == text and plain.lower() not in _RESERVED:
        return plain
    return f"{plain}-{hashlib.sha1(text.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}"


def address_of(folder: Path, file: Path) -> str:
    """The address of `file`, relative to wherever the folder is served, as it stands in an event."""
    return PREFIX + file.relative_to(folder).as_posix()


def media_file(folder: Path, address: str) -> Path | None:
    """The file of an event's ``clip`` or ``snapshot`` (with or without ``media/`` and ``#t=``); None: there is none (yet).

    Safe with whatever a stranger sends: only plain names of known kinds below `folder` are found, links that lead out are not.
    """
    name = address.split("#", 1)[0].split("?", 1)[0].removeprefix("/").removeprefix(PREFIX)
    parts = name.split("/")
    if not 1 <= len(parts) <= 4 or not all(_PART.fullmatch(part) for part in parts):
        return None
    file = folder.joinpath(*parts)
    if file.suffix not in _SUFFIXES or not file.is_file():
        return None
    return file if file.resolve().is_relative_to(folder.resolve()) else None


def media_type(file: Path) -> Literal["video/mp4", "video/x-matroska", "image/jpeg"]:
    """What to call it in HTTP's ``Content-Type``."""
    return _SUFFIXES[file.suffix]  # type: ignore[return-value]
