"""PDF pages as pictures. The only importer of pypdfium2 (extra ``pdf``).

A page is drawn at `dpi` (1 pt = 1/72 in); one that would become too large to be held is drawn band by band when it is looked at.
PDFium is not made for several threads: one lock serves all.
"""

from __future__ import annotations

import math
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from streamdet.errors import DependencyError, SourceLostError
from streamdet.types import U8

__all__ = ["PdfFile", "PdfPage"]

_LOCK = threading.RLock()
_LARGEST_SIDE_PX = 200_000
_ANNOTATIONS = 0x01  # FPDF_ANNOT


def _pdfium() -> Any:
    try:
        import pypdfium2
    except ImportError as error:
        raise DependencyError(f"reading PDF needs pypdfium2 ({error}): pip install 'streamdet[pdf]'") from None
    return pypdfium2


class PdfFile:
    """An open document. Raises ValueError saying what is wrong with it; DependencyError."""

    def __init__(self, source: str | Path | bytes, *, dpi: float) -> None:
        self._pdfium = _pdfium()
        self._dpi = dpi
        self.name = "the PDF" if isinstance(source, bytes) else str(source)
        with _LOCK:
            try:
                self._document = self._pdfium.PdfDocument(source)
            except self._pdfium.PdfiumError as error:
                why = "it is protected by a password" if "assword" in str(error) else "PDFium cannot read it"
                raise ValueError(f"{why} ({error})") from None
            self._document.init_forms()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    def __len__(self) -> int:
        with _LOCK:
            return len(self._document)

    def page(self, index: int) -> PdfPage:
        """Raises ValueError for a damaged page, or one that is no picture at this dpi."""
        with _LOCK:
            try:
                page = self._document[index]
                width, height = page.get_size()
            except self._pdfium.PdfiumError as error:
                raise ValueError(f"page {index} cannot be read ({error})") from None
        wh = math.ceil(width * self._dpi / 72), math.ceil(height * self._dpi / 72)
        if min(wh) < 1 or max(wh) > _LARGEST_SIDE_PX:
            raise ValueError(f"page {index} would be {wh[0]}x{wh[1]} px at {self._dpi:g} dpi; choose another --dpi")
        return PdfPage(self, page, index, wh)

    def close(self) -> None:
        with _LOCK:
            self._document.close()

    def draw(self, page: Any, wh: tuple[int, int], y1: int, y2: int) -> U8:
        """(y2 - y1, W, 3) u8 BGR of the page on white."""
        raw = self._pdfium.raw
        with _LOCK:
            bitmap = self._pdfium.PdfBitmap.new_native(wh[0], y2 - y1, raw.FPDFBitmap_BGR)
            bitmap.fill_rect((255, 255, 255, 255), 0, 0, wh[0], y2 - y1)
            place = (0, -y1, wh[0], wh[1], 0, _ANNOTATIONS)
            raw.FPDF_RenderPageBitmap(bitmap, page, *place)
            if self._document.formenv:
                raw.FPDF_FFLDraw(self._document.formenv, bitmap, page, *place)
            pixels = np.array(bitmap.to_numpy(), np.uint8)
            bitmap.close()
        return pixels


class PdfPage:
    """`streamdet.sources.windows.Bands` of one page."""

    def __init__(self, file: PdfFile, page: Any, index: int, wh: tuple[int, int]) -> None:
        self._file = file
        self._page = page
        self._wh = wh
        self.index = index

    @property
    def wh(self) -> tuple[int, int]:
        return self._wh

    def rows(self, y1: int, y2: int) -> U8:
        """(y2 - y1, W, 3) u8 BGR."""
        try:
            return self._file.draw(self._page, self._wh, y1, y2)
        except Exception as error:  # a closed document, no memory: PDFium's binding raises several kinds
            raise SourceLostError(f"page {self.index} of {self._file.name} cannot be drawn ({error})") from None
