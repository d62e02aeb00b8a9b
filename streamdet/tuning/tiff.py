"""Pictures of any number of float channels as TIFF: one strip per channel (planar), deflated, IEEE 32-bit samples.

Source: TIFF 6.0, with Adobe's Deflate (compression 8). Read by tifffile, libvips, GDAL, ImageJ.
"""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["write_tiff"]

_SHORT, _LONG, _ASCII = 3, 4, 2


def write_tiff(path: Path, planes: NDArray[Any], *, about: dict[str, Any] | None = None) -> None:
    """Write (C, H, W) float `planes`; `about` goes into ImageDescription as JSON. Raises OSError."""
    channels, height, width = planes.shape
    strips = [zlib.compress(np.ascontiguousarray(plane, "<f4").tobytes(), 6) for plane in planes]
    text = json.dumps(about or {}).encode("ascii") + b"\0"
    offsets = [8 + sum(map(len, strips[:n])) for n in range(channels)]
    after = 8 + sum(map(len, strips))
    after += after % 2
    entries: list[tuple[int, int, list[int] | bytes]] = [
        (256, _LONG, [width]),
        (257, _LONG, [height]),
        (258, _SHORT, [32] * channels),  # BitsPerSample
        (259, _SHORT, [8]),  # Compression: Adobe Deflate
        (262, _SHORT, [1]),  # PhotometricInterpretation: black is zero
        (270, _ASCII, text),  # ImageDescription
        (273, _LONG, offsets),  # StripOffsets
        (277, _SHORT, [channels]),  # SamplesPerPixel
        (278, _LONG, [height]),  # RowsPerStrip
        (279, _LONG, [len(strip) for strip in strips]),  # StripByteCounts
        (284, _SHORT, [2 if channels > 1 else 1]),  # PlanarConfiguration: one channel after the other
        (339, _SHORT, [3] * channels),  # SampleFormat: IEEE float
    ]
    if channels > 1:
        entries.append((338, _SHORT, [0] * (channels - 1)))  # ExtraSamples: what they are, the description says
    entries.sort(key=lambda entry: entry[0])
    directory_size = 2 + 12 * len(entries) + 4
    large = bytearray()  # values that do not fit their entry
    directory = struct.pack("<H", len(entries))
    for tag, kind, values in entries:
        data = (
            values
            if isinstance(values, bytes)
            else struct.pack(f"<{len(values)}{'H' if kind == _SHORT else 'I'}", *values)
        )
        if len(data) <= 4:
            field = data.ljust(4, b"\0")
        else:
            field = struct.pack("<I", after + directory_size + len(large))
            large += data + b"\0" * (len(data) % 2)
        directory += struct.pack("<HHI", tag, kind, len(values)) + field
    directory += struct.pack("<I", 0)
    with path.open("wb") as file:
        file.write(struct.pack("<2sHI", b"II", 42, after))
        for strip in strips:
            file.write(strip)
        file.write(b"\0" * (after - file.tell()))
        file.write(directory + bytes(large))
