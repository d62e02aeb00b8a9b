"""One still, from wherever it comes: a file of any size, bytes, an array, the pages of a PDF -> Pictures.

What is small is decoded by OpenCV and held. What has more than `HELD_PX` is read in windows by libvips where that is installed
(`streamdet.sources.windows`), arrays and PDF pages in any case.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from streamdet.errors import DependencyError
from streamdet.sources.header import Header, header_of, header_of_file
from streamdet.sources.levels import check_pixels, largest_level, to_eight_bits
from streamdet.sources.windows import HELD_PX, Bands, BandWindows
from streamdet.types import U8, Picture

__all__ = ["Still", "count_of", "picture_of_array", "picture_of_bgr", "read_image", "stills_of", "stills_of_bytes"]

_LOG = logging.getLogger(__name__)
_VIPS_KINDS = frozenset({"jpeg", "png", "tiff", "webp", "gif", "pnm"})
_OPENCV_MOST_PX = 1 << 30  # its own limit; beyond it only windows help


class Still(NamedTuple):
    """A picture, and which page of its PDF it is (None: of no PDF)."""

    picture: Picture
    page: int | None = None


def stills_of(path: Path, *, dpi: float) -> Iterator[Still]:
    """The picture of a file, or the pages of a PDF one by one. Raises ValueError saying what is wrong with it."""
    try:
        header = header_of_file(path)
        if not path.stat().st_size:
            raise ValueError("the file is empty (0 bytes)")
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from None
    if header is not None and header.kind == "pdf":
        yield from _pages(path, dpi)
    elif header is not None and header.px > HELD_PX and (bands := _vips_bands(path, header)) is not None:
        yield Still(Picture(windows=BandWindows(bands)))
    else:
        yield Still(picture_of_bgr(read_image(path)))


def stills_of_bytes(data: bytes, *, dpi: float) -> Iterator[Still]:
    """As `stills_of`, of a file's content in memory; pictures are held."""
    header = header_of(data)
    if header is not None and header.kind == "pdf":
        yield from _pages(data, dpi)
    else:
        yield Still(picture_of_bgr(_decoded(np.frombuffer(data, np.uint8))))


def count_of(path: Path) -> int:
    """How many stills `stills_of` will give; 1 for what cannot be read."""
    if path.suffix.lower() != ".pdf":
        return 1
    from streamdet.sources.pdf import PdfFile

    try:
        with PdfFile(path, dpi=72) as file:
            return len(file)
    except (ValueError, OSError, DependencyError):
        return 1


def read_image(path: Path) -> U8:
    """(H, W, 3) u8 BGR, upright by its EXIF tag; 16 bits become 8, grey is spread, transparency is dropped.

    Of several pages the first. Raises ValueError saying what is wrong with it.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from None
    return _decoded(data)


def _decoded(data: NDArray[np.uint8]) -> U8:
    if not len(data):
        raise ValueError("the file is empty (0 bytes)")
    try:
        # any depth: OpenCV alone would take the upper 8 of 16 bits, and show 12-bit pictures nearly black
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR_BGR | cv2.IMREAD_ANYDEPTH)
        if picture is not None and picture.dtype not in (np.uint8, np.uint16):
            picture = cv2.imdecode(data, cv2.IMREAD_COLOR_BGR)
    except cv2.error as error:
        raise ValueError(f"OpenCV: {error.err or error}".strip().rstrip(".")) from None
    if picture is None:
        raise ValueError("it is no image OpenCV can read, or is damaged")
    return to_eight_bits(picture)


def picture_of_bgr(bgr: U8) -> Picture:
    return Picture(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), np.uint8), bgr=bgr, full_range=True)


def picture_of_array(array: NDArray[Any]) -> Picture:
    """Of grey, BGR or BGRA, u8 or u16 (see `streamdet.sources.levels`). Huge ones, memory maps too, are converted in windows.

    The array is not copied where it is u8 BGR already: do not write into it while it is looked at. Raises UsageError.
    """
    check_pixels(array)
    if array.shape[0] * array.shape[1] > HELD_PX:
        return Picture(windows=BandWindows(_ArrayBands(array)))
    return picture_of_bgr(to_eight_bits(array))


class _ArrayBands:
    """`Bands` of an array."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array
        self._largest = largest_level(array)

    @property
    def wh(self) -> tuple[int, int]:
        return self._array.shape[1], self._array.shape[0]

    def rows(self, y1: int, y2: int) -> U8:
        return to_eight_bits(self._array[y1:y2], largest=self._largest)


def _vips_bands(path: Path, header: Header) -> Bands | None:
    """None: OpenCV has to hold it whole."""
    if header.kind not in _VIPS_KINDS:
        return None
    from streamdet.sources.vips import VipsBands

    try:
        return VipsBands(path)
    except DependencyError as error:
        if header.px >= _OPENCV_MOST_PX:
            raise
        _LOG.warning("%s is held whole, in %.1f GB: %s", path.name, header.px * 4 / 1e9, error)
        return None


def _pages(source: Path | bytes, dpi: float) -> Iterator[Still]:
    from streamdet.sources.pdf import PdfFile

    file = PdfFile(source, dpi=dpi)
    for index in range(len(file)):
        page = file.page(index)
        if page.wh[0] * page.wh[1] > HELD_PX:
            yield Still(Picture(windows=BandWindows(page)), index)
        else:
            yield Still(picture_of_bgr(page.rows(0, page.wh[1])), index)
