"""libvips: TIFF, JPEG, PNG and WebP files row by row, whatever their size. The only importer of pyvips (extra ``tiff``).

Strips, tiles and scan lines are decoded as they are needed. Not so: progressive JPEG, interlaced PNG and WebP hold more of the
picture by their nature, and a picture whose EXIF tag turns it on its side is decoded into a temporary file first.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from streamdet.errors import DependencyError, SourceLostError
from streamdet.sources.levels import to_eight_bits
from streamdet.types import U8

__all__ = ["VipsBands"]

os.environ.setdefault("VIPS_WARNING", "0")  # libvips tells of every unknown TIFF tag, on standard error


def _vips() -> Any:
    try:
        import pyvips
    except (ImportError, OSError) as error:
        raise DependencyError(
            f"reading huge pictures in windows needs libvips ({error}): pip install 'streamdet[tiff]'"
        ) from None
    pyvips.cache_set_max(0)  # it would keep files open
    return pyvips


class VipsBands:
    """`streamdet.sources.windows.Bands` of a file, upright. Raises ValueError (what is wrong with it) and DependencyError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._vips = _vips()
        self._next = 0
        self._largest: int | None = None
        self._region: Any = None
        image = self._open()
        self._wh: tuple[int, int] = (image.width, image.height)
        if image.format not in ("uchar", "ushort"):
            raise ValueError(
                f"its samples are {image.format}; convert it to 8 bits, e.g. `gdal_translate -ot Byte -scale IN OUT`"
            )
        if image.format == "ushort":  # how many of the 16 bits are used is known only when all has been seen
            self._largest = int(image.max())
        self._begin()

    @property
    def wh(self) -> tuple[int, int]:
        return self._wh

    def rows(self, y1: int, y2: int) -> U8:
        """(y2 - y1, W, 3) u8 BGR."""
        if y1 != self._next:
            self._begin()
        try:
            data = self._region.fetch(0, y1, self._wh[0], y2 - y1)
        except self._vips.Error as error:
            raise SourceLostError(
                f"{self._path} is damaged at row {y1} of {self._wh[1]} ({_first_line(error)}); copy it again"
            ) from None
        self._next = y2
        kind = np.uint8 if self._largest is None else np.uint16
        rows = np.frombuffer(data, kind).reshape(y2 - y1, self._wh[0], -1)
        return to_eight_bits(rows, largest=self._largest, rgb=True)

    def _begin(self) -> None:
        image = self._open()
        if image.bands > 3:
            image = image.extract_band(0, n=3)  # near infrared, transparency and the like
        elif image.bands == 2:
            image = image.extract_band(0)
        self._region = self._vips.Region.new(image)
        self._next = 0

    def _open(self) -> Any:
        vips = self._vips
        try:
            image = vips.Image.new_from_file(str(self._path), access="sequential", fail_on="truncated")
            if image.get_typeof("orientation") and image.get("orientation") > 2:
                image = vips.Image.new_from_file(str(self._path), access="random", fail_on="truncated")
            image = image.autorot()
            if image.interpretation == "cmyk":
                image = image.colourspace("srgb")
            return image
        except vips.Error as error:
            raise ValueError(f"libvips: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
