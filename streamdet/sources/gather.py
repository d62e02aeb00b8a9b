"""Whatever `streamdet.predict` is given -> pictures, one by one: arrays, paths, addresses, folders, globs, lists of these."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from streamdet.config import SourceConfig
from streamdet.errors import SourceOpenError, UsageError, redact
from streamdet.sources.fetch import fetch, is_web_address, name_at
from streamdet.sources.header import header_of_file
from streamdet.sources.images import VIDEO_SUFFIXES, expand_images
from streamdet.sources.stills import picture_of_array, stills_of, stills_of_bytes
from streamdet.types import Picture

__all__ = ["Item", "gather"]


_LOG = logging.getLogger(__name__)


class Item(NamedTuple):
    """``path``: as it was given (None: an array), secrets hidden; ``name``: of its file; ``page``: of a PDF."""

    picture: Picture
    path: str | None
    name: str
    page: int | None = None


def gather(source: Any, config: SourceConfig) -> Iterator[Item]:
    """Pictures in the order given; folders and globs in natural order. Raises SourceOpenError, UsageError."""
    yield from _gather(source, config, numbers=iter(range(1 << 62)))


def _gather(source: Any, config: SourceConfig, numbers: Iterator[int]) -> Iterator[Item]:
    if isinstance(source, np.ndarray):
        yield Item(picture_of_array(source), None, f"array_{next(numbers)}")
    elif isinstance(source, Picture):
        yield Item(source, None, f"array_{next(numbers)}")
    elif isinstance(source, str | os.PathLike):
        yield from _named(os.fspath(source), config)
    elif isinstance(source, Sequence) and not isinstance(source, bytes | bytearray):
        for one in source:
            yield from _gather(one, config, numbers)
    else:
        raise UsageError(
            f"cannot look at a {type(source).__name__}; give an array, a path, an address, or a list of these"
        )


def _named(uri: str, config: SourceConfig) -> Iterator[Item]:
    if not uri.strip():
        raise UsageError("cannot look at '', which names nothing; give a path, an address, a folder or a glob")
    if is_web_address(uri):
        data = fetch(uri, max_bytes=config.fetch_bytes, timeout_s=config.fetch_timeout_s, private=True)
        name = name_at(uri)
        try:
            for still in stills_of_bytes(data, dpi=config.dpi):
                yield Item(still.picture, redact(uri), name, still.page)
        except ValueError as error:
            raise SourceOpenError(f"cannot use {redact(uri)}: {error}; open it in a viewer to check") from None
        return
    if (images := expand_images(uri)) is not None:
        if not images:
            raise SourceOpenError(f"cannot use {uri}: it holds films and no pictures; use streamdet.run for films")
        used = 0
        for path in images:
            try:
                for item in _of_file(path, config):
                    used += 1
                    yield item
            except SourceOpenError as error:  # one of many: the others are not lost for it
                _LOG.warning("%s", error)
        if not used:
            raise SourceOpenError(f"cannot use {uri}: none of its {len(images)} pictures can be read; see above why")
        return
    path = Path(os.path.expanduser(uri))
    if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file() and not header_of_file(path):
        raise UsageError(f"{uri} is a film and no picture; use streamdet.run")
    if not path.is_file():
        raise SourceOpenError(f"cannot open {uri}: there is no such file; check the name and folder")
    yield from _of_file(path, config)


def _of_file(path: Path, config: SourceConfig) -> Iterator[Item]:
    try:
        for still in stills_of(path, dpi=config.dpi):
            yield Item(still.picture, str(path), path.name, still.page)
    except ValueError as error:
        raise SourceOpenError(f"cannot use {path}: {error}; open it in a viewer to check") from None
