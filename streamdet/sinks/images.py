"""Annotated pictures for still input: one file per picture, named like its source."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2

from streamdet.errors import OutputError
from streamdet.sinks.linefile import prepare_folder
from streamdet.sinks.summary import replace_file
from streamdet.types import Event, Frame, Result

__all__ = ["ImageSink"]

_SUFFIXES = (".jpg", ".jpeg", ".png")
_JPEG_LONGEST_PX = 65500  # limit of the format


class ImageSink:
    """Writes ``<folder>/<stem>.jpg|.png``, in the source's own format where it is one of these, else JPEG.

    Page 3 of a PDF becomes ``<stem>_3.jpg``. A second picture of the same name becomes ``<stem>-2.jpg``, and so on.
    With a `target` that ends in .jpg or .png the first picture goes there. What lies there already is replaced.

    Raises OutputError.
    """

    lossy = False

    def __init__(self, target: str | os.PathLike[str], *, quality: int = 92) -> None:
        path = Path(target)
        self._file = path if path.suffix.lower() in _SUFFIXES else None
        self._folder = path.parent if self._file else path
        self._quality = quality
        self._used: set[str] = set()

    def __enter__(self) -> Self:
        prepare_folder(self._folder / "x")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        pass

    def write(self, result: Result) -> None:
        path = self._place(result.frame)
        picture = result.annotated()
        if path.suffix.lower() != ".png" and max(picture.shape[:2]) > _JPEG_LONGEST_PX:
            path = path.with_suffix(".png")
        options = (
            [cv2.IMWRITE_PNG_COMPRESSION, 3]
            if path.suffix.lower() == ".png"
            else [cv2.IMWRITE_JPEG_QUALITY, self._quality]
        )
        done, data = cv2.imencode(path.suffix.lower(), picture, options)
        if not done:
            raise OutputError(f"cannot encode {path}: OpenCV refused a {picture.shape[1]}x{picture.shape[0]} picture")
        replace_file(path, data.tobytes())

    def finish(self, events: tuple[Event, ...]) -> None:
        """Nothing: a picture has no events."""

    def _place(self, frame: Frame) -> Path:
        """Where this frame's picture goes; never the same place twice."""
        if self._file is not None:
            stem, suffix = self._file.stem, self._file.suffix
        elif frame.name is None:
            stem, suffix = f"{frame.stream}-{frame.index:06d}".replace("/", "-"), ".jpg"
        else:
            name = Path(frame.name)
            known = name.suffix.lower() in _SUFFIXES
            stem, suffix = (name.stem, name.suffix) if known else (name.name, ".jpg")
            if frame.page is not None:
                stem = f"{name.stem}_{frame.page}"
        count, unique = 1, f"{stem}{suffix}"
        while unique.lower() in self._used:  # lower: some file systems do not tell A.jpg from a.jpg
            count += 1
            unique = f"{stem}-{count}{suffix}"
        self._used.add(unique.lower())
        return self._folder / unique
