"""Bytes of an MP4/MOV file: put its table of contents (``moov``) first, so that it starts playing while it is still loading,
or, of one that could not be finished, cut off what is not whole.

Layout: ISO/IEC 14496-12. Only offsets of samples change (``stco``, ``co64``), by the length of the table moved before them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["cut_to_whole", "moov_first"]

_CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl"}
_LARGEST_MOOV = 512 << 20


def moov_first(path: Path) -> bool:
    """Rewrite `path` beside itself with ``moov`` before the media data, then rename. False: nothing was (or could be) done.

    The file stays as it was when its offsets would outgrow 32 bits, when it has no ``moov`` at its end, or the disk is full.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with path.open("rb") as file:
            boxes = list(_boxes_of_file(file.fileno()))
            names = [name for name, _, _ in boxes]
            if names.count(b"moov") != 1 or names[-1] != b"moov" or names[0] != b"ftyp" or boxes[-1][2] > _LARGEST_MOOV:
                return False
            moov = bytearray(os.pread(file.fileno(), boxes[-1][2], boxes[-1][1]))
            _shift_offsets(moov, 0, len(moov), len(moov))
            with part.open("wb") as out:
                out.write(os.pread(file.fileno(), boxes[0][2], 0))
                out.write(moov)
                file.seek(boxes[0][2])
                _copy(file, out, boxes[-1][1] - boxes[0][2])
        shutil.copymode(path, part)
        os.replace(part, path)
    except (OSError, OverflowError, struct.error):
        part.unlink(missing_ok=True)
        return False
    return True


def cut_to_whole(path: Path) -> None:
    """End a fragmented film after its last whole fragment, if it has one: players stumble over half of one."""
    whole = 0
    with contextlib.suppress(OSError), path.open("r+b") as file:
        try:
            for name, start, length in _boxes_of_file(file.fileno()):
                whole = start + length if name == b"mdat" else whole
        except (OverflowError, struct.error):
            if whole:
                file.truncate(whole)


def _boxes_of_file(fd: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, length) of each top-level box."""
    end, at = os.fstat(fd).st_size, 0
    while at < end:
        head = os.pread(fd, 16, at)
        length, name = struct.unpack(">I4s", head[:8])
        if length == 1:
            (length,) = struct.unpack(">Q", head[8:16])
        if length < 8 or at + length > end:
            raise OverflowError(f"box {name!r} at {at} runs past the end")
        yield name, at, length
        at += length


def _shift_offsets(data: bytearray, start: int, end: int, shift: int) -> None:
    """Add `shift` to every sample offset in the boxes of data[start:end]. Raises OverflowError past 32 bits."""
    at = start
    while at + 8 <= end:
        length, name = struct.unpack_from(">I4s", data, at)
        if length < 8 or at + length > end:
            raise OverflowError(f"box {name!r} runs past the end")
        if name in _CONTAINERS:
            _shift_offsets(data, at + 8, at + length, shift)
        elif name in (b"stco", b"co64"):
            (count,) = struct.unpack_from(">I", data, at + 12)
            layout = f">{count}{'I' if name == b'stco' else 'Q'}"
            moved = [offset + shift for offset in struct.unpack_from(layout, data, at + 16)]
            struct.pack_into(layout, data, at + 16, *moved)  # struct.error if one no longer fits
        at += length


def _copy(source: BinaryIO, out: BinaryIO, count: int) -> None:
    while count:
        data = source.read(min(count, 4 << 20))
        if not data:
            raise OverflowError("the file shrank while it was copied")
        out.write(data)
        count -= len(data)
