"""Still pictures: one image, a folder, a glob, the pages of a PDF; and numbered image sequences, which are video."""

from __future__ import annotations

import glob
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from streamdet.config import SourceConfig
from streamdet.errors import DependencyError, SourceOpenError, redact
from streamdet.records import as_text
from streamdet.sources.fetch import fetch, name_at
from streamdet.sources.stills import Still, count_of, read_image, stills_of
from streamdet.types import Frame, SourceInfo

__all__ = [
    "Expanded",
    "ImageSequenceSource",
    "ImageSource",
    "WebImageSource",
    "expand",
    "expand_images",
    "is_image",
    "read_image",
]

_IMAGE_KINDS = "jpg jpeg jpe jfif png bmp dib tif tiff webp ppm pgm pbm pnm jp2 avif pdf"
_VIDEO_KINDS = (
    "mp4 m4v mov qt mkv webm avi ts mts m2ts mpg mpeg vob flv f4v wmv asf 3gp 3g2 ogv gif mxf mjpeg mjpg h264 264 h265 "
    "265 hevc ivf y4m dv"
)
IMAGE_SUFFIXES = frozenset(f".{kind}" for kind in _IMAGE_KINDS.split())
VIDEO_SUFFIXES = frozenset(f".{kind}" for kind in _VIDEO_KINDS.split())
_SEQUENCE_FPS = 25.0
_NUMBER = re.compile(r"%(0?)(\d*)d")


class Expanded(NamedTuple):
    """What a folder or glob holds, each in natural order (img2 before img10)."""

    videos: list[str]
    images: list[Path]


def is_image(path: str | Path) -> bool:
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def expand(uri: str) -> Expanded:
    """The videos and images of a folder or glob (``**`` descends), told by their suffix; others are passed over.

    Raises SourceOpenError if there are none.
    """
    folder = Path(os.path.expanduser(uri))
    if folder.is_dir():
        try:
            found = [path for path in folder.iterdir() if not path.name.startswith(".")]
        except OSError as error:
            raise SourceOpenError(f"cannot read folder {uri}: {error.strerror}; check its permissions") from None
    else:
        found = [Path(name) for name in glob.glob(str(folder), recursive=True)]
    files = sorted((path for path in found if path.is_file()), key=_natural)
    videos = [str(path) for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
    images = [path for path in files if is_image(path)]
    if videos or images:
        return Expanded(videos, images)
    if folder.is_dir():
        inside = f"holds no image or video (of {len(files)} files)" if files else "is empty"
        raise SourceOpenError(f"cannot use folder {uri}: it {inside}; give one with .jpg, .png, .mp4 ... files in it")
    matches = f"{len(files)} files, none of them an image or video" if files else "no file"
    raise SourceOpenError(f"cannot use {uri}: it matches {matches}; check the pattern and the folder")


def expand_images(uri: str) -> list[Path] | None:
    """The images of a folder or glob; None if `uri` is neither. Raises SourceOpenError if nothing is there."""
    path = Path(os.path.expanduser(uri))
    if path.is_dir() or (glob.has_magic(uri) and not path.exists()):
        return expand(uri).images
    return None


def _natural(path: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", str(path))
    return [(1, int(part), part) if part.isdecimal() else (0, 0, part.casefold()) for part in parts]


class _Pictures:
    """Reads image files one after another; what both sources below have in common. Damaged ones are counted and told."""

    def __init__(self, *, stream: str, config: SourceConfig) -> None:
        self.counts = {"decoded": 0, "damaged": 0, "concealed": 0, "skipped": 0}
        self._stream = stream
        self._info: SourceInfo | None = None
        self._first: tuple[int, Still] | None = None
        self._dpi = config.dpi
        self._first_complaint: tuple[str, str] | None = None  # name, why
        self._closed = False
        self._reading: Iterator[tuple[int, Still]] = iter(())

    @property
    def info(self) -> SourceInfo:
        if self._info is None:
            raise RuntimeError("open the source first: `with source:`")
        return self._info

    @property
    def warnings(self) -> list[str]:
        """Sentences for the user about what was left out so far."""
        if self._first_complaint is None:
            return []
        name, why = self._first_complaint
        others = f" and {self.counts['damaged'] - 1} more" if self.counts["damaged"] > 1 else ""
        return [f"{name}{others} could not be used ({why}); the other images were"]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    def close(self) -> None:
        self._closed = True

    def _open(self, paths: Sequence[Path], name: str) -> tuple[int, int]:
        """Read up to the first sound picture, so that a mistake shows at once. Returns its size."""
        self._reading = self._read(paths)
        self._first = next(self._reading, None)
        if self._first is not None:
            return self._first[1].picture.wh
        what = "it cannot be read" if len(paths) == 1 else f"none of its {len(paths)} images can be read"
        why = self._first_complaint[1] if self._first_complaint else "it is not there"
        raise SourceOpenError(f"cannot use {name}: {what} ({why}); open it in a viewer to check")

    def _read(self, paths: Sequence[Path]) -> Iterator[tuple[int, Still]]:
        for position, path in enumerate(paths):
            if self._closed:
                return
            try:
                for still in stills_of(path, dpi=self._dpi):
                    if self._closed:
                        return
                    yield position, still
            except (ValueError, DependencyError) as error:
                if isinstance(error, DependencyError) and len(paths) == 1:
                    raise
                self._leave_out(path, str(error))

    def _rest(self) -> Iterator[tuple[int, Still]]:
        """The picture read by `_open`, then all behind it."""
        first, self._first = self._first, None
        if first is None or self._closed:
            return
        yield first
        del first  # it may be large: not held while the next one is read
        yield from self._reading

    def _leave_out(self, path: Path, why: str) -> None:
        self.counts["damaged"] += 1
        self._first_complaint = self._first_complaint or (path.name, why)


class ImageSource(_Pictures):
    """Images on their own: every Frame is `still`, has the file's name, and stands alone (no motion, no tracking).

    ``pts_s`` is the running number of the picture (there is no time between stills). A damaged image among others is
    counted, told in :attr:`warnings` and left out; if none can be read, entering raises SourceOpenError.
    """

    def __init__(self, paths: Sequence[str | Path], *, stream: str, config: SourceConfig) -> None:
        super().__init__(stream=stream, config=config)
        self._paths = [Path(path) for path in paths]
        self._config = config

    def __enter__(self) -> Self:
        paths = self._paths
        if not paths:
            raise SourceOpenError("no image was given; name at least one file")
        if len(paths) == 1 and not paths[0].is_file():
            why = "it is a folder" if paths[0].is_dir() else "there is no such file; check the name and folder"
            raise SourceOpenError(f"cannot open {paths[0]}: {why}")
        uri = str(paths[0]) if len(paths) == 1 else str(paths[0].parent)
        wh = self._open(paths, uri)
        count = sum(count_of(path) for path in paths)
        self._info = SourceInfo(stream=self._stream, uri=uri, frame_wh=wh, still=True, frame_count=count)
        return self

    def __iter__(self) -> Iterator[Frame]:
        for position, still in self._rest():
            index = self.counts["decoded"]
            self.counts["decoded"] += 1
            yield Frame(
                stream=self._stream,
                index=index,
                pts_s=float(index),
                picture=still.picture,
                captured_s=time.monotonic(),
                still=True,
                name=as_text(self._paths[position].name),
                page=still.page,
            )


class WebImageSource(ImageSource):
    """A picture or PDF at an http(s) address: fetched on entering, into a folder that is gone on leaving."""

    def __init__(self, uri: str, *, stream: str, config: SourceConfig) -> None:
        super().__init__([], stream=stream, config=config)
        self._uri = uri
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        config = self._config
        data = fetch(self._uri, max_bytes=config.fetch_bytes, timeout_s=config.fetch_timeout_s, private=True)
        self._folder = tempfile.TemporaryDirectory(prefix="streamdet-")
        path = Path(self._folder.name) / name_at(self._uri)
        path.write_bytes(data)
        self._paths = [path]
        super().__enter__()
        self._info = replace(self.info, uri=redact(self._uri))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        super().__exit__(kind, error, trace)
        if self._folder is not None:
            self._folder.cleanup()


class ImageSequenceSource(_Pictures):
    """Numbered pictures of one scene, ``shot_%04d.png``: a video with ``config.fps`` (25) pictures a second.

    Starts at the lowest number there is. A missing number is a gap in time, counted in "skipped"; a picture that cannot
    be read or has another size than the first is counted in "damaged"; both are told in :attr:`warnings`.
    """

    def __init__(self, pattern: str, *, stream: str, config: SourceConfig) -> None:
        super().__init__(stream=stream, config=config)
        self._pattern = pattern
        self._fps = config.fps or _SEQUENCE_FPS
        self._numbers: list[int] = []
        self._paths: list[Path] = []

    @property
    def warnings(self) -> list[str]:
        told = super().warnings
        if missing := self.counts["skipped"]:
            between = f"between {self._numbers[0]} and {self._numbers[-1]}"
            are = (
                "1 number {} is missing; it is a gap"
                if missing == 1
                else f"{missing} numbers {{}} are missing; they are gaps"
            )
            told.append(f"{self._pattern}: {are.format(between)} in time")
        return told

    def __enter__(self) -> Self:
        numbered = sorted(_numbered(self._pattern))
        if not numbered:
            raise SourceOpenError(
                f"cannot open {self._pattern}: no file fits; check the folder, and the number of digits (%04d: 0001)"
            )
        self._numbers = [number for number, _ in numbered]
        self._paths = [path for _, path in numbered]
        wh = self._open(self._paths, self._pattern)
        count = self._numbers[-1] - self._numbers[0] + 1
        self._info = SourceInfo(
            stream=self._stream,
            uri=self._pattern,
            frame_wh=wh,
            fps=self._fps,
            frame_count=len(self._paths),
            duration_s=count / self._fps,
        )
        self.counts["skipped"] = count - len(self._paths)
        return self

    def __iter__(self) -> Iterator[Frame]:
        time_base = 1 / Fraction(self._fps).limit_denominator(1001)
        wh = self.info.frame_wh
        for position, (picture, _page) in self._rest():
            if picture.wh != wh or picture.windows is not None:
                self._leave_out(self._paths[position], f"it is {_size(picture.wh)}, the first is {_size(wh)}")
                continue
            index = self.counts["decoded"]
            self.counts["decoded"] += 1
            pts = self._numbers[position] - self._numbers[0]
            yield Frame(
                stream=self._stream,
                index=index,
                pts_s=float(pts * time_base),
                picture=picture,
                captured_s=time.monotonic(),
                pts=pts,
                time_base=time_base,
            )


def _numbered(pattern: str) -> Iterable[tuple[int, Path]]:
    """(number, path) of the files that ``printf(pattern, number)`` names. The number is in the file name only."""
    path = Path(os.path.expanduser(pattern))
    match = _NUMBER.search(path.name)
    if match is None:
        raise SourceOpenError(f"{pattern} names no number; write %04d where the four digits are")
    digits = int(match[2] or 1)
    number = rf"(\d{{{digits}}}|[1-9]\d{{{digits},}})" if match[1] else r"(0|[1-9]\d*)"
    name = re.compile(re.escape(path.name[: match.start()]) + number + re.escape(path.name[match.end() :]))
    try:
        files = list(path.parent.iterdir())
    except OSError as error:
        raise SourceOpenError(f"cannot open {pattern}: {error.strerror}; check the folder") from None
    return [(int(found[1]), file) for file in files if (found := name.fullmatch(file.name))]


def _size(wh: tuple[int, int] | None) -> str:
    return "x".join(map(str, wh or ()))
