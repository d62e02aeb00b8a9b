"""What an image file says of itself in its first bytes: kind and size, before anything is decoded.

A decoder allocates what the header promises, so a few bytes can ask for gigabytes: whoever takes pictures from strangers looks
here first. Sizes are as stored (an EXIF orientation may turn them). Sources: ITU-T T.81 B.2, PNG 3rd edition 11.2.2, RFC 9649,
TIFF 6.0 and BigTIFF, GIF89a, BITMAPINFOHEADER, netpbm(5).
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

__all__ = ["Header", "header_of", "header_of_file"]

_MOST_SEGMENTS = 4096  # of a JPEG before its frame header, of a TIFF in its first directory


class Header(NamedTuple):
    """``kind``: jpeg, png, gif, bmp, webp, tiff, pnm or pdf. ``wh``: px, (0, 0) for a PDF."""

    kind: str
    wh: tuple[int, int]

    @property
    def px(self) -> int:
        return self.wh[0] * self.wh[1]


def header_of(data: bytes | memoryview) -> Header | None:
    """Of a file in memory; None if it is none of these kinds, or its header is damaged."""
    return _read(io.BytesIO(data))


def header_of_file(path: str | Path) -> Header | None:
    """Of a file; None as above. Raises OSError."""
    with open(path, "rb") as file:
        return _read(file)


def _read(file: BinaryIO) -> Header | None:
    start = file.read(32)
    for magic, kind, size_of in _KINDS:
        if start.startswith(magic):
            try:
                wh = size_of(file, start)
            except (struct.error, ValueError, IndexError, OverflowError):
                return None
            return Header(kind, wh) if kind == "pdf" or min(wh) > 0 else None
    return None


def _jpeg(file: BinaryIO, start: bytes) -> tuple[int, int]:
    file.seek(2)
    for _ in range(_MOST_SEGMENTS):
        byte = file.read(1)
        while byte and byte != b"\xff":  # fill bytes and garbage between segments are passed over, as decoders do
            byte = file.read(1)
        while byte == b"\xff":
            byte = file.read(1)
        if not byte:
            break
        marker = byte[0]
        if 0xD0 <= marker <= 0xD8 or marker in (0x00, 0x01):
            continue
        (length,) = struct.unpack(">H", file.read(2))
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">xHH", file.read(5))
            return width, height
        file.seek(max(0, length - 2), io.SEEK_CUR)
    raise ValueError("no frame header")


def _png(file: BinaryIO, start: bytes) -> tuple[int, int]:
    if start[12:16] != b"IHDR":
        raise ValueError("no IHDR")
    width, height = struct.unpack(">II", start[16:24])
    return width, height


def _gif(file: BinaryIO, start: bytes) -> tuple[int, int]:
    width, height = struct.unpack("<HH", start[6:10])
    return width, height


def _bmp(file: BinaryIO, start: bytes) -> tuple[int, int]:
    if struct.unpack("<I", start[14:18])[0] == 12:  # OS/2 1.x
        width, height = struct.unpack("<HH", start[18:22])
    else:
        width, height = struct.unpack("<ii", start[18:26])
    return width, abs(height)


def _webp(file: BinaryIO, start: bytes) -> tuple[int, int]:
    if start[8:12] != b"WEBP":
        raise ValueError("RIFF, but no WebP")
    chunk = start[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(start[24:27], "little"), 1 + int.from_bytes(start[27:30], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(start[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 " and start[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", start[26:30])
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError("no WebP picture chunk")


def _tiff(file: BinaryIO, start: bytes) -> tuple[int, int]:
    order = "<" if start[:2] == b"II" else ">"
    big = struct.unpack(f"{order}H", start[2:4])[0] == 43
    word, entry_bytes, count_form = ("Q", 20, "Q") if big else ("I", 12, "H")
    (offset,) = struct.unpack(f"{order}{word}", start[8:16] if big else start[4:8])
    file.seek(offset)
    (count,) = struct.unpack(f"{order}{count_form}", file.read(struct.calcsize(count_form)))
    found: dict[int, int] = {}
    for _ in range(min(count, _MOST_SEGMENTS)):
        entry = file.read(entry_bytes)
        tag, form = struct.unpack(f"{order}HH", entry[:4])
        if tag in (256, 257):
            at = 12 if big else 8
            size, letter = {3: (2, "H"), 4: (4, "I"), 16: (8, "Q")}[form] if form in (3, 4, 16) else (0, "")
            found[tag] = struct.unpack(f"{order}{letter}", entry[at : at + size])[0]
    return found.get(256, 0), found.get(257, 0)


def _pnm(file: BinaryIO, start: bytes) -> tuple[int, int]:
    file.seek(2)
    text = file.read(4096)
    words: list[int] = []
    for line in text.splitlines():
        words += [int(word) for word in line.split(b"#")[0].split()[: 2 - len(words)]]
        if len(words) >= 2:
            return words[0], words[1]
    raise ValueError("no size")


def _pdf(file: BinaryIO, start: bytes) -> tuple[int, int]:
    return 0, 0


_KINDS = (
    (b"\xff\xd8\xff", "jpeg", _jpeg),
    (b"\x89PNG\r\n\x1a\n", "png", _png),
    (b"GIF8", "gif", _gif),
    (b"BM", "bmp", _bmp),
    (b"RIFF", "webp", _webp),
    (b"II*\0", "tiff", _tiff),
    (b"MM\0*", "tiff", _tiff),
    (b"II+\0", "tiff", _tiff),
    (b"MM\0+", "tiff", _tiff),
    *((b"P%d" % number, "pnm", _pnm) for number in range(1, 7)),
    (b"%PDF-", "pdf", _pdf),
)
