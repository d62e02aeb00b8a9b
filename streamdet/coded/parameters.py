"""Parameter sets in a key frame of H.264 or H.265 (Annex B: ITU-T H.264, H.265): what a decoder must know before it can start."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["parameter_sets"]

_START = re.compile(rb"\x00\x00\x01")
_H264 = {7, 8}  # SPS, PPS
_H265 = {32, 33, 34}  # VPS, SPS, PPS


def parameter_sets(codec: str, data: bytes) -> bytes:
    """Those at the beginning of `data`, as Annex B, in order and each once; empty if there are none (or it is not Annex B)."""
    if codec not in ("h264", "hevc") or data[:4] not in (b"\0\0\0\1", b"\0\0\1" + data[3:4]):
        return b""
    wanted, found = (_H264 if codec == "h264" else _H265), dict[bytes, None]()
    for unit in _units(data):
        kind = unit[0] & 31 if codec == "h264" else (unit[0] >> 1) & 63
        if kind in wanted:
            found[unit] = None
        elif kind in (1, 5) if codec == "h264" else kind < 32:  # the picture itself: they come before it
            break
    return b"".join(b"\0\0\0\1" + unit for unit in found)


def _units(data: bytes) -> Iterator[bytes]:
    start = None
    for match in _START.finditer(data):
        if start is not None and match.start() > start:
            yield data[start : match.start()].rstrip(b"\0") or b"\0"
        start = match.end()
    if start is not None and start < len(data):
        yield data[start:]
